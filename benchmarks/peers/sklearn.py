"""scikit-learn: mixtures in NumPy; every operation on both cores through BLAS."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from ..problems import Problem

PACKAGE = "scikit-learn"
DTYPES = ("float32", "float64")
WORK = "CAVI with a bound"


class FromResponsibilities(BayesianGaussianMixture):
    """Scikit-learn's model, started where we say."""

    start: np.ndarray

    def _initialize_parameters(self, X: Any, random_state: Any, **_: Any) -> None:  # noqa: N803
        self._initialize(X, self.start)


def bayesian(k: int, **options: Any) -> dict[str, Any]:
    """Arguments of the model that `vijax.presets.sklearn` is the prior of."""
    kind = "dirichlet_distribution"
    return {"n_components": k, "weight_concentration_prior_type": kind, **options}


def fit_from(x: np.ndarray, resp: np.ndarray, **options: Any) -> BayesianGaussianMixture:
    """A Bayesian mixture fitted from responsibilities (n, k)."""
    peer = FromResponsibilities(**bayesian(resp.shape[1], **options))
    peer.start = resp
    return quietly(peer.fit, x)


def iterations(problem: Problem) -> Callable[[int], np.ndarray]:
    """CAVI; a bound at each iteration."""
    resp = problem.responsibilities

    def run(count: int) -> np.ndarray:
        options = {"covariance_type": problem.covariance, "max_iter": count, "tol": 0.0}
        return fit_from(problem.x, resp, **options).means_

    return run


def seeded(x: np.ndarray, k: int, restarts: int, seed: int) -> tuple[float, int, np.ndarray]:
    """A fit from k-means++ starts at the default tolerance: bound, iterations, resp (n, k)."""
    options = {"n_init": restarts, "max_iter": 1000, "init_params": "k-means++"}
    peer = BayesianGaussianMixture(**bayesian(k, **options), random_state=seed)
    quietly(peer.fit, x)
    return peer.lower_bound_, peer.n_iter_, peer.predict_proba(x)


def em(x: np.ndarray, k: int, **options: Any) -> GaussianMixture:
    """Maximum likelihood at the default tolerance."""
    return quietly(GaussianMixture(k, max_iter=1000, **options).fit, x)


def quietly(fn: Callable[..., Any], *args: Any) -> Any:
    """Without the warning that a fixed number of iterations did not converge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fn(*args)
