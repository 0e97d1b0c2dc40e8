"""Mixtures of tables with columns of several kinds, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from ...data.batch import Batch
from ...data.host import check_bound, fetched
from ...data.reader import by_text, columns_of
from ...infer.methods.cavi import CAVI
from ...models.mixtures.columns import MixedMixture
from .base import MixtureEstimator, check_option, checked_weight, num_rows, size_of

_STARTS = ("k-means++", "random")


class TableMixture(MixtureEstimator):
    """Clusters of the rows of a table whose columns may be numbers, counts and categories.

    Columns are independent given the component: latent class and latent profile analysis in one
    (`vijax.MixedMixture`). Text columns, and categories of pandas, are categorical and keep their
    levels; the rows of later calls may have no others.

    Args:
        n_components: Number of components, k; those that the data do not need lose their weight.
        kinds: What columns are, by name or number: "gaussian", "poisson", "exponential",
            "bernoulli", "geometric" or "categorical". Others are categorical if they are text, and
            gaussian if they are numbers.
        weight_concentration_prior: Pseudo-rows of each weight; None is 1 / n_components.
        tol, max_iter, n_init, random_state, warm_start, missing, k_max: As in `GaussianMixture`.
        init_params: "k-means++", the starts of `vijax.fit`, or "random" responsibilities.

    Attributes: `weights_`, `kinds_`, `converged_`, `n_iter_`, `lower_bound_` (the exact bound on
    the log evidence in nats), `model_` and `result_`, whose `summary()` is a table of components.
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        kinds: Mapping[Any, str] | None = None,
        weight_concentration_prior: float | None = None,
        tol: float = 1e-3,
        max_iter: int = 1000,
        n_init: int = 1,
        init_params: str = "k-means++",
        random_state: Any = None,
        warm_start: bool = False,
        missing: bool = False,
        k_max: int | None = None,
    ):
        self.n_components = n_components
        self.kinds = kinds
        self.weight_concentration_prior = weight_concentration_prior
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.warm_start = warm_start
        self.missing = missing
        self.k_max = k_max

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_option("init_params", self.init_params, _STARTS)
        if self.weight_concentration_prior is not None:
            check_bound("weight_concentration_prior", self.weight_concentration_prior, above=0.0)

    def _checked(self, X: Any, reset: bool) -> dict[str, Any]:
        """The columns by name; all of an array are one, "x", unless `kinds` names some."""
        columns = columns_of(X)
        if columns is not None:
            validate_data(self, X, reset=reset, skip_check_array=True)
            return dict(columns)
        X = super()._checked(X, reset)
        names = getattr(self, "feature_names_in_", None)
        if names is None and self.kinds is None:
            return {"x": X}
        names = range(X.shape[1]) if names is None else names
        return {str(name): X[:, i] for i, name in enumerate(names)}

    def _kinds(self, rows: Batch) -> dict[str, str]:
        """The kind of every column; ValueError for one that there is not."""
        given = by_text("kinds", self.kinds or {})
        for name in given:
            if name not in rows.x:
                raise ValueError(f"kinds: no column {name!r}; there are {', '.join(rows.x)}")
        coded = dict(rows.levels or ())
        default = {name: "categorical" if name in coded else "gaussian" for name in rows.x}
        return default | given

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit from `n_init` starts and keep the best; arguments as in `GaussianMixture.fit`.

        `X` may also be a data frame with text. Raises and warns as there.
        """
        self._check_arguments()
        columns = self._checked(X, reset=True)
        n = num_rows(columns)
        if n < self.n_components:
            raise ValueError(f"n_components: {self.n_components}, but there are n_samples={n} rows")
        weight = checked_weight(sample_weight, n)
        rows = self._batch(columns, weight)
        self.kinds_ = self._kinds(rows)
        options = {name: {"covariance": "diag"} for name in self.kinds_ if rows.x[name].ndim > 1}
        model = MixedMixture.from_data(
            rows,
            self.n_components,
            self.kinds_,
            conc=self.weight_concentration_prior,
            options=options,
            k_max=self._room,
        )
        random = check_random_state(self.random_state)
        result = self._fit(model, rows, CAVI(), random, self._starts(n, random))
        self._conclude(model, result)
        self.weights_ = np.asarray(fetched(result.q.weights.mean), float)[: self.n_components]
        return self

    def _starts(self, n: int, random: np.random.RandomState) -> list[Any]:
        if self._goes_on:
            return [self.result_]
        if self.init_params == "k-means++":
            return [None]
        resp = np.zeros((self.n_init, size_of(n), self._room))
        resp[..., : self.n_components] = random.dirichlet(
            np.ones(self.n_components), resp.shape[:2]
        )
        return list(resp)
