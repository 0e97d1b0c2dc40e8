"""What all estimators share: their arguments, rows of few sizes, and how a fit ends."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    DensityMixin,
    TransformerMixin,
)
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ...data.batch import Batch
from ...data.host import check_bound, check_integer, fetched
from ...data.padding import compiled, pad_to, padded_size
from ...infer.fit import fit
from ...infer.method import Method
from ...infer.result import FitError, Result, Stop
from ...infer.status import REMEDIES, Status
from ...model import Model, Q

_LEAST_ROWS = 256  # folds of a small table, and all of it, run one program
_LEAST_COMPONENTS = 8  # as many components run one program, and so do 1 .. 8 of them
_SEEDS = np.iinfo(np.int32).max

COVARIANCES = ("full", "tied", "diag", "spherical")


class Estimator(DensityMixin, BaseEstimator):
    """An estimator whose `fit` is `vijax.fit`.

    `result_` is the Result, and `model_` the model that it is of, with room for more components
    than there are.
    """

    n_components: int
    n_init: int
    max_iter: int
    tol: float
    random_state: Any
    warm_start: bool
    missing: bool
    k_max: int | None
    _least_rows: ClassVar[int] = 1  # of a fit
    model_: Any
    result_: Any
    n_features_in_: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing
        return tags

    # -- arguments --------------------------------------------------------------------------------

    def _check_arguments(self) -> None:
        """Raise TypeError or ValueError naming the argument of the constructor."""
        counts = {"n_components": self.n_components, "n_init": self.n_init}
        counts |= {"max_iter": self._max_iter}
        if self.k_max is not None:
            counts["k_max"] = self.k_max
        for name, value in counts.items():
            check_integer(name, value)
            check_bound(name, value, least=1.0)
        check_bound("tol", self.tol, least=0.0)
        if self.k_max is not None and self.k_max < self.n_components:
            raise ValueError(f"k_max: {self.k_max}, but n_components is {self.n_components}")

    @property
    def _max_iter(self) -> int:
        """The number of iterations at which a fit ends."""
        return self.max_iter

    @property
    def _room(self) -> int:
        """The number of components that the model has room for."""
        if self.k_max is not None:
            return self.k_max
        return max(_LEAST_COMPONENTS, 1 << (self.n_components - 1).bit_length())

    def _key(self, random: np.random.RandomState) -> jax.Array:
        return jax.random.key(random.randint(_SEEDS))

    # -- rows -------------------------------------------------------------------------------------

    def _checked(self, X: Any, reset: bool) -> Any:
        """The rows as an array (n, d) of floats, and the number and names of columns checked."""
        return validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan" if self.missing else True,
            ensure_min_samples=self._least_rows if reset else 1,
        )

    def _rows(self, X: Any) -> tuple[Batch, int]:
        """Rows to read, and their number without padding."""
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        return self._batch(X, None), num_rows(X)

    def _batch(self, X: Any, weight: Any) -> Batch:
        """The rows with others of weight 0 at their end, so that their number is one of few."""
        if weight is None and not self.missing:  # without a way to the device and back
            return pad_to(Batch.for_jit(X), size_of(num_rows(X)))
        rows = on_host(Batch.of(X, weight, missing=self.missing))
        return pad_to(rows, size_of(num_rows(X)))

    # -- fits -------------------------------------------------------------------------------------

    def _fit(
        self,
        model: Model,
        rows: Batch,
        method: Method[Any],
        random: np.random.RandomState,
        starts: list[Any],
    ) -> Result:
        """The best fit from these starts, each an `init` of `vijax.fit`; None draws `n_init`.

        Raises ValueError, as scikit-learn does, where `Result.check` would say that nothing was
        found.
        """
        options = {"method": method, "stop": Stop(tol=self.tol, max_iter=self._max_iter)}

        def fit_from(init: Any) -> Result:
            if init is None:
                key = self._key(random)
                return fit(model, rows, key=key, num_restarts=self.n_init, **options)
            return fit(model, rows, init=init, **options)

        results = [fit_from(init) for init in starts]
        ended = [(self._rank(result), result) for result in results]
        rank, result = max(ended, key=lambda pair: pair[0])
        if rank == -np.inf:
            try:
                result.check()
            except FitError as error:
                raise ValueError(str(error)) from error
        return result

    @property
    def _present_form(self) -> tuple[Any, ...]:
        """What fits must have in common so that one can go on from the other."""
        own = self.get_params(deep=False)
        return self._room, self.n_components, self.n_features_in_, own.get("covariance_type")

    @property
    def _goes_on(self) -> bool:
        """Whether `fit` begins with the last result."""
        return self.warm_start and getattr(self, "_form", None) == self._present_form

    def _rank(self, result: Result) -> float:
        """The objective in nats of a fit, -inf of one that found nothing."""
        elbo, status = float(fetched(result.elbo)), int(fetched(result.status))
        failed = status in (Status.NON_FINITE, Status.COLLAPSED)
        return -np.inf if failed or not np.isfinite(elbo) else elbo

    def _conclude(self, model: Model, result: Result, total: float = 1.0) -> None:
        """Set the attributes of every fit; objectives are divided by `total`.

        Warns as scikit-learn does unless the fit converged.
        """
        status, n_iter = Status(int(fetched(result.status))), int(fetched(result.n_iter))
        self.model_, self.result_, self._form = model, result, self._present_form
        self.converged_ = status == Status.CONVERGED
        self.n_iter_ = n_iter
        self.lower_bound_ = float(fetched(result.elbo)) / total
        trace = np.asarray(fetched(result._elbo_trace), float)[:n_iter]
        self.lower_bounds_ = (trace / total).tolist()
        if not self.converged_:
            message = f"{status.name} after {n_iter} iterations: {REMEDIES[status]}"
            warnings.warn(message, ConvergenceWarning, stacklevel=3)


class MixtureEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator):
    """The methods of estimators whose rows belong to components."""

    @property
    def _n_features_out(self) -> int:
        return self.n_components

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """The component of each row after a fit to the rows, as `fit(X).predict(X)`."""
        own: Any = self
        return own.fit(X, y, sample_weight=sample_weight).predict(X)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable component of each row, integers (n,)."""
        rows, n = self._rows(X)
        return np.asarray(self.model_.predict(self.result_, rows))[:n].astype(int)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Posterior probability (n, k) of each component for each row."""
        rows, n = self._rows(X)
        resp = np.asarray(self.model_.responsibilities(self.result_, rows), float)
        resp = resp[:n, : self.n_components]
        return resp / resp.sum(1, keepdims=True)  # to the last digit of float64

    def transform(self, X: Any) -> np.ndarray:
        """The rows as probabilities of components (n, k): `predict_proba`, for a Pipeline."""
        return self.predict_proba(X)

    def score_samples(self, X: Any) -> np.ndarray:
        """Log predictive density of each row in nats, (n,).

        The parameters are integrated out; after maximum likelihood they are at their estimate.
        """
        rows, n = self._rows(X)
        return np.asarray(self.model_.log_predictive(self.result_, rows), float)[:n]

    def score(self, X: Any, y: Any = None) -> float:  # type: ignore[override]
        """Mean of `score_samples`, in nats per row."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1) -> tuple[Any, np.ndarray]:
        """Rows from the predictive density, and the component of each."""
        check_is_fitted(self)
        check_integer("n_samples", n_samples)
        check_bound("n_samples", n_samples, least=1.0)
        key = self._key(check_random_state(self.random_state))
        x, label = self.model_.sample(self.result_, key, n_samples)
        return jax.tree.map(np.asarray, x), np.asarray(label).astype(int)


def on_host(batch: Batch) -> Batch:
    """The rows in NumPy, where checks of another shape compile nothing."""
    return jax.tree.map(fetched, batch)


def num_rows(X: Any) -> int:
    """The number of rows of an array, or of a dict of columns."""
    return len(next(iter(X.values()))) if isinstance(X, dict) else len(X)


def size_of(n: int) -> int:
    """The number of rows that n of them are padded to."""
    return max(_LEAST_ROWS, padded_size(n))


def check_option(name: str, value: Any, options: tuple[str, ...]) -> None:
    """Raise ValueError naming the argument unless it is one of the options."""
    if value not in options:
        raise ValueError(f"{name}: expected one of {', '.join(options)}, got {value!r}")


def kmeans_labels(
    X: np.ndarray, num_clusters: int, weight: np.ndarray | None, random: np.random.RandomState
) -> np.ndarray:
    """Labels (n,) by the k-means of scikit-learn; missing entries are at their column's mean."""
    if num_clusters == 1:
        return np.zeros(len(X), int)
    known = np.isfinite(X)
    if not known.all():
        w = known if weight is None else known * weight[:, None]
        total = w.sum(0)
        mean = np.where(known, X * w, 0.0).sum(0) / np.where(total > 0, total, 1.0)
        X = np.where(known, X, mean)
    kmeans = KMeans(num_clusters, n_init=1, random_state=random)  # type: ignore[arg-type]
    return np.asarray(kmeans.fit(X, sample_weight=weight).labels_)


def checked_weight(sample_weight: Any, n: int) -> np.ndarray | None:
    """The weights of n rows in float64; ValueError for another shape, or if all are zero."""
    if sample_weight is None:
        return None
    weight = np.array(sample_weight, float)
    if weight.shape != (n,):
        raise ValueError(f"sample_weight: expected shape ({n},), got {weight.shape}")
    if not (weight > 0).any():
        raise ValueError("sample_weight: all weights are zero")
    return weight


def parameters(q: Q, num_components: int, covariance: str) -> dict[str, np.ndarray]:
    """Weights of q in float64, and means and covariances of Gaussian components at its point.

    The covariances have the form that scikit-learn gives them; `kappa` and `df` are those of q.
    """
    found = jax.tree.map(lambda a: np.asarray(a, float), compiled(_parameters)(q))
    found = {name: value[:num_components] if value.ndim else value for name, value in found.items()}
    full = found["covariances"]
    if covariance == "tied":
        found["covariances"] = full[0]
    elif covariance != "full":
        variances = np.diagonal(full, axis1=-2, axis2=-1)
        found["covariances"] = variances.copy() if covariance == "diag" else variances.mean(-1)
    return found


def _parameters(q: Q) -> dict[str, Any]:
    components, point = q.components, q.components.point()
    k = point.mean.shape[0]
    # of columns that are independent each has its own, which differ where entries are missing
    kappa, df = (jnp.asarray(a) for a in (components.kappa, components.df))
    own = {
        "kappa": kappa.reshape(k, -1).mean(-1),
        "df": df.reshape(k, -1).mean(-1) if df.ndim else df,
    }
    means = {"means": point.mean, "covariances": point.covariance}
    return {"weights": q.weights.mean, **means, **own}
