"""Gaussian mixtures under the names of scikit-learn."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import numpy as np
from sklearn.utils import check_random_state

from ...data.batch import Batch
from ...data.host import check_bound, fetched
from ...families.weights.stick_breaking import StickBreaking
from ...infer.method import Method
from ...infer.methods.cavi import CAVI
from ...infer.methods.em import EM
from ...model import Q
from ...models.mixtures import gaussian as models
from ...models.structured import Structured
from .base import (
    COVARIANCES,
    MixtureEstimator,
    check_option,
    checked_weight,
    kmeans_labels,
    parameters,
    size_of,
)
from .given_start import responsibilities_at

_STARTS = ("kmeans", "k-means++", "random")
_WEIGHTS = ("dirichlet_distribution", "dirichlet_process")


class GaussianEstimator(MixtureEstimator):
    """`fit` of both mixtures, which differ in their prior and their method."""

    covariance_type: str
    init_params: str
    covariances_: np.ndarray

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_option("covariance_type", self.covariance_type, COVARIANCES)
        check_option("init_params", self.init_params, _STARTS)

    @abc.abstractmethod
    def _model(self, rows: Batch) -> tuple[models.GaussianMixture, Method[Any]]:
        """The model with its prior, and the method."""

    @abc.abstractmethod
    def _own_attributes(self, q: Q, found: dict[str, np.ndarray], total: float) -> float:
        """Set attributes that the other estimator has not; returns what objectives are per."""

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit from `n_init` starts and keep the best.

        Args:
            X: Rows (n, d), array or data frame; NaN is missing if `missing`.
            y: Ignored.
            sample_weight: Weights (n,) >= 0; an integer counts repetitions, 0 is absence.

        Raises ValueError and TypeError naming the argument, and ValueError where a fit of vijax
        ends COLLAPSED or NON_FINITE. Warns with a ConvergenceWarning if it has not converged.
        """
        self._check_arguments()
        X = self._checked(X, reset=True)
        if X.shape[0] < self.n_components:
            raise ValueError(
                f"n_components: {self.n_components}, but there are n_samples={X.shape[0]} rows"
            )
        weight = checked_weight(sample_weight, X.shape[0])
        rows = self._batch(X, weight)
        random = check_random_state(self.random_state)
        starts = self._starts(X, weight, random)
        model, method = self._model(rows)
        result = self._fit(model, rows, method, random, starts)
        total = float(X.shape[0] if weight is None else weight.sum())
        found = parameters(result.q, self.n_components, self.covariance_type)
        self._conclude(model, result, self._own_attributes(result.q, found, total))
        self.means_, self.covariances_ = found["means"], found["covariances"]
        self.weights_ = found["weights"]
        self.precisions_cholesky_ = _precision_roots(self.covariances_, self.covariance_type)
        self.precisions_ = _precisions(self.precisions_cholesky_, self.covariance_type)
        return self

    def _starts(self, X: Any, weight: Any, random: np.random.RandomState) -> list[Any]:
        """What fits start from; for "kmeans" and "random" the same as in scikit-learn."""
        if self._goes_on:
            return [self.result_]
        if self.init_params == "k-means++":
            return [None]
        shape = size_of(X.shape[0]), self._room
        return [
            _padded(self._responsibilities(X, weight, random), shape) for _ in range(self.n_init)
        ]

    def _responsibilities(self, X: Any, weight: Any, random: np.random.RandomState) -> np.ndarray:
        n, k = X.shape[0], self.n_components
        if self.init_params == "random":
            resp = random.uniform(size=(n, k))
            return resp / resp.sum(1, keepdims=True)
        return np.eye(k)[kmeans_labels(X, k, weight, random)]


class GaussianMixture(GaussianEstimator):
    """Maximum likelihood of a Gaussian mixture by EM, as `sklearn.mixture.GaussianMixture`.

    Covariances have no floor, `reg_covar`: where a component shrinks onto a point there is no
    maximum, and `fit` raises ValueError. `BayesianGaussianMixture` has one for all data.

    Args:
        n_components: Number of components, k.
        covariance_type: "full", "tied", "diag" or "spherical".
        tol: A fit ends when all iterations to come are forecast to gain less than this many nats
            of the log-likelihood of all rows (`vijax.Stop`).
        max_iter: Number of iterations at which it ends anyway, with a ConvergenceWarning.
        n_init: Number of starts.
        weights_init, means_init, precisions_init: Parameters to start from, in scikit-learn's
            shapes; those that are None are estimated from the labels of `init_params`.
        init_params: "kmeans" and "random" are the starts of scikit-learn, the same ones for the
            same `random_state`; "k-means++" are the starts of `vijax.fit`.
        random_state: As in scikit-learn.
        warm_start: Whether the next `fit` goes on from the last one.
        missing: Whether NaN entries are missing; otherwise they raise ValueError.
        k_max: Number of components to make room for, so that estimators with fewer share one
            compiled program; None is the next power of two, and at least 8.

    Attributes are those of scikit-learn, and `model_` and `result_`, what `vijax.fit` has returned.
    `lower_bound_` is the log-likelihood in nats per row.
    """

    _least_rows: ClassVar[int] = 2  # one row has no maximum

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        max_iter: int = 1000,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        missing: bool = False,
        k_max: int | None = None,
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.missing = missing
        self.k_max = k_max

    def _model(self, rows: Batch) -> tuple[models.GaussianMixture, Method[Any]]:
        model = models.GaussianMixture.flat(
            self.n_components, rows.x.shape[1], covariance=self.covariance_type, k_max=self._room
        )
        return model, EM()

    def _own_attributes(self, q: Q, found: dict[str, np.ndarray], total: float) -> float:
        return total

    def _check_arguments(self) -> None:
        super()._check_arguments()
        if self._given and self.init_params == "k-means++":
            name = next(name for name, value in self._given.items() if value is not None)
            raise ValueError(f'{name}: goes with init_params="kmeans" or "random"')

    @property
    def _given(self) -> dict[str, Any]:
        """Parameters to start from, all of them if one is given."""
        names = ("weights_init", "means_init", "precisions_init")
        given = {name: getattr(self, name) for name in names}
        return given if any(value is not None for value in given.values()) else {}

    def _responsibilities(self, X: Any, weight: Any, random: np.random.RandomState) -> np.ndarray:
        resp = super()._responsibilities(X, weight, random)
        if not self._given:
            return resp
        return responsibilities_at(X, resp, weight, self.covariance_type, self._given)

    def bic(self, X: Any) -> float:
        """Schwarz's criterion on the rows in nats times two; the lower the better."""
        log_p = self.score_samples(X)
        return float(self._num_parameters() * np.log(len(log_p)) - 2 * log_p.sum())

    def aic(self, X: Any) -> float:
        """Akaike's criterion on the rows in nats times two; the lower the better."""
        return float(2 * self._num_parameters() - 2 * self.score_samples(X).sum())

    def _num_parameters(self) -> int:
        model: Structured = self.model_
        each, shared = model.components.num_parameters()
        return each * self.n_components + shared + self.n_components - 1


class BayesianGaussianMixture(GaussianEstimator):
    """Variational inference of a Gaussian mixture, as `sklearn.mixture.BayesianGaussianMixture`.

    Priors that are None are those of `vijax.GaussianMixture.from_data`: as wide as one cluster of
    the data, in the units of the data. Densities are those of the posterior predictive.

    Args:
        weight_concentration_prior_type: "dirichlet_distribution", the default of vijax, or
            "dirichlet_process", that of scikit-learn: stick-breaking, components in order of size.
        weight_concentration_prior: Pseudo-rows of each weight, or the concentration of the
            process; None is 1 / n_components.
        mean_precision_prior: Pseudo-rows of the prior of the means, kappa.
        mean_prior: Its centre, (d,).
        degrees_of_freedom_prior: Degrees of freedom of the Wishart prior of the precisions.
        covariance_prior: Its scatter, (d, d), (d,) or a scalar by `covariance_type`.

    Other arguments, and attributes, are as in `GaussianMixture`. `tol` is of the bound on the log
    evidence, and `lower_bound_` is that bound, exact with all constants, in nats.
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        max_iter: int = 1000,
        n_init: int = 1,
        init_params: str = "kmeans",
        weight_concentration_prior_type: str = "dirichlet_distribution",
        weight_concentration_prior: float | None = None,
        mean_precision_prior: float | None = None,
        mean_prior: Any = None,
        degrees_of_freedom_prior: float | None = None,
        covariance_prior: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        missing: bool = False,
        k_max: int | None = None,
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weight_concentration_prior_type = weight_concentration_prior_type
        self.weight_concentration_prior = weight_concentration_prior
        self.mean_precision_prior = mean_precision_prior
        self.mean_prior = mean_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.covariance_prior = covariance_prior
        self.random_state = random_state
        self.warm_start = warm_start
        self.missing = missing
        self.k_max = k_max

    def _check_arguments(self) -> None:
        super()._check_arguments()
        kind = self.weight_concentration_prior_type
        check_option("weight_concentration_prior_type", kind, _WEIGHTS)
        for name in (
            "weight_concentration_prior",
            "mean_precision_prior",
            "degrees_of_freedom_prior",
        ):
            value = getattr(self, name)
            if value is not None:
                check_bound(name, value, above=0.0)

    def _model(self, rows: Batch) -> tuple[models.GaussianMixture, Method[Any]]:
        conc = self.weight_concentration_prior
        conc = 1.0 / self.n_components if conc is None else conc
        if self.weight_concentration_prior_type == "dirichlet_process":
            weights = StickBreaking.dirichlet_process(conc, self.n_components)
            prior: dict[str, Any] = {"weights": weights}
        else:
            prior = {"conc": conc}
        model = models.GaussianMixture.from_data(
            rows,
            self.n_components,
            covariance=self.covariance_type,
            kappa=self.mean_precision_prior,
            mean=self.mean_prior,
            df=self.degrees_of_freedom_prior,
            scatter=self.covariance_prior,
            k_max=self._room,
            **prior,
        )
        return model, CAVI()

    def _own_attributes(self, q: Q, found: dict[str, np.ndarray], total: float) -> float:
        k = self.n_components
        if isinstance(q.weights, StickBreaking):
            pair = q.weights.a, q.weights.b
            self.weight_concentration_ = tuple(np.asarray(fetched(a), float)[:k] for a in pair)
        else:
            self.weight_concentration_ = np.asarray(fetched(q.weights.conc), float)[:k]
        self.mean_precision_, self.degrees_of_freedom_ = found["kappa"], found["df"]
        return 1.0


def _padded(resp: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Responsibilities (n, k) in a larger array; further rows are copies of the first."""
    out = np.zeros(shape)
    out[:, : resp.shape[1]] = resp[0]
    out[: resp.shape[0], : resp.shape[1]] = resp
    return out


def _precision_roots(covariances: np.ndarray, kind: str) -> np.ndarray:
    """Upper triangular U of each covariance with precision U U^T, or roots of precisions."""
    if kind in ("diag", "spherical"):
        return 1.0 / np.sqrt(covariances)
    low = np.linalg.cholesky(covariances)
    return np.swapaxes(
        np.linalg.solve(low, np.broadcast_to(np.eye(low.shape[-1]), low.shape)), -1, -2
    )


def _precisions(roots: np.ndarray, kind: str) -> np.ndarray:
    """Precisions with these roots, in the form of scikit-learn."""
    return roots**2 if kind in ("diag", "spherical") else roots @ np.swapaxes(roots, -1, -2)
