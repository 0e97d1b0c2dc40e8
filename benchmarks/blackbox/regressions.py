"""Regressions: linear, badly scaled, robust, and generalised."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from . import tables
from .densities import (
    bernoulli,
    gamma,
    half_cauchy,
    negative_binomial,
    normal,
    poisson,
    student_t,
)
from .problem import Problem, constraints_of, like_of, problem


def _regression(name: str, x, y, *, sigma_scale=2.5, prior=(None, None)) -> Problem:
    """Normal errors; a half-Cauchy prior on sigma; flat on beta, or normal of (mean, sd)."""
    shapes = {"beta": (x.shape[1],), "sigma": ()}
    mean, sd = prior

    def log_prior(p):
        scale = half_cauchy(p["sigma"], sigma_scale)
        return scale if sd is None else scale + jnp.sum(normal(p["beta"], mean, sd))

    return Problem(
        name,
        log_prior,
        lambda p, r: normal(r["y"], r["x"] @ p["beta"], p["sigma"]),
        like_of(shapes),
        constraints_of(shapes, sigma="positive"),
        {"x": x, "y": y},
    )


@problem
def kidscore_interaction() -> Problem:
    """As in posteriordb: raw columns, so sds from 0.1 to 15 and correlations up to 0.99."""
    kids = tables.kidiq()
    columns = [np.ones(434), kids["high_school"], kids["iq"], kids["high_school"] * kids["iq"]]
    return _regression("kidscore_interaction", np.stack(columns, 1), kids["score"])


@problem
def kidscore_iq() -> Problem:
    """Test score by mother's IQ alone."""
    kids = tables.kidiq()
    return _regression("kidscore_iq", np.stack([np.ones(434), kids["iq"]], 1), kids["score"])


@problem
def longley() -> Problem:
    """Badly scaled: sds from 0.003 to 1000, correlations beyond -0.9999; 16 rows, so t tails."""
    return _regression("longley", **tables.longley())._replace(easy=False)


@problem
def nile() -> Problem:
    """Badly scaled: flow by the calendar year; correlation of the two beyond -0.9998."""
    return _regression("nile", **tables.nile())


@problem
def diabetes() -> Problem:
    """Ten standardised columns, some of them collinear. Efron et al. (2004), from scikit-learn."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    x = np.column_stack([np.ones(len(data.target)), data.data * math.sqrt(len(data.target))])
    return _regression("diabetes", x, data.target, sigma_scale=50.0, prior=(0.0, 200.0))


@problem
def stack_loss() -> Problem:
    """Linear regression with Student-t errors of four degrees of freedom."""
    shapes = {"beta": (4,), "scale": ()}
    return Problem(
        "stack_loss",
        lambda p: half_cauchy(p["scale"], 5.0) + jnp.sum(normal(p["beta"], 0.0, 50.0)),
        lambda p, r: student_t(r["y"], 4.0, r["x"] @ p["beta"], p["scale"]),
        like_of(shapes),
        constraints_of(shapes, scale="positive"),
        tables.stack_loss(),
    )


def _logistic(name: str, x, y, sd: float, *, easy: bool) -> Problem:
    shapes = {"beta": (x.shape[1] + 1,)}
    columns = np.column_stack([np.ones(len(x)), (x - x.mean(0)) / x.std(0)])
    return Problem(
        name,
        lambda p: jnp.sum(normal(p["beta"], 0.0, sd)),
        lambda p, r: bernoulli(r["y"], r["x"] @ p["beta"]),
        like_of(shapes),
        constraints_of(shapes),
        {"x": columns, "y": np.asarray(y, np.float64)},
        easy=easy,
    )


@problem
def logistic_breast_cancer() -> Problem:
    """569 tumours by five measures. Street, Wolberg and Mangasarian (1993), from scikit-learn."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    wanted = ["radius", "texture", "smoothness", "symmetry", "fractal dimension"]
    columns = [list(data.feature_names).index(f"mean {name}") for name in wanted]
    x = data.data[:, columns]
    return _logistic("logistic_breast_cancer", x, data.target, 2.5, easy=True)


@problem
def logistic_iris() -> Problem:
    """Two nearly separable kinds of iris: skewed. Fisher (1936), from scikit-learn."""
    from sklearn.datasets import load_iris

    data = load_iris()
    keep = data.target > 0
    return _logistic("logistic_iris", data.data[keep], data.target[keep] == 2, 5.0, easy=False)


@problem
def poisson_insects() -> Problem:
    """Insects by spray: log rate of the first spray, and differences of the others."""
    shapes = {"beta": (6,)}
    insects = tables.insects()
    x = np.eye(6)[insects["spray"]]
    x[:, 0] = 1.0
    return Problem(
        "poisson_insects",
        lambda p: jnp.sum(normal(p["beta"], 0.0, 5.0)),
        lambda p, r: poisson(r["count"], r["x"] @ p["beta"]),
        like_of(shapes),
        constraints_of(shapes),
        {"count": insects["count"], "x": x},
    )


@problem
def negative_binomial_warp() -> Problem:
    """Breaks of warps by wool, tension and both."""
    shapes = {"beta": (6,), "size": ()}
    return Problem(
        "negative_binomial_warp",
        lambda p: jnp.sum(normal(p["beta"], 0.0, 5.0)) + gamma(p["size"], 2.0, 0.1),
        lambda p, r: negative_binomial(r["breaks"], r["x"] @ p["beta"], p["size"]),
        like_of(shapes),
        constraints_of(shapes, size="positive"),
        tables.warp_breaks(),
    )
