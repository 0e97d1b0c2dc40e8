"""Time series, curves and a mixture."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from . import tables
from .densities import (
    beta,
    half_cauchy,
    half_normal,
    log_normal,
    normal,
    poisson,
)
from .problem import Problem, constraints_of, like_of, normals, problem, uniforms


@problem
def autoregression_lynx() -> Problem:
    """Second order, on log10 of lynx trapped."""
    shapes = {"alpha": (), "beta": (2,), "sigma": ()}

    def log_prior(p):
        means = normal(p["alpha"], 0.0, 10.0) + jnp.sum(normal(p["beta"], 0.0, 10.0))
        return means + half_cauchy(p["sigma"], 2.5)

    return Problem(
        "autoregression_lynx",
        log_prior,
        lambda p, r: normal(r["y"], p["alpha"] + r["before"] @ p["beta"], p["sigma"]),
        like_of(shapes),
        constraints_of(shapes, sigma="positive"),
        tables.lynx(),
    )


@problem
def garch() -> Problem:
    """GARCH(1, 1), 200 simulated rows: variance omega + alpha e^2 + (1 - alpha) share variance."""
    shapes = {"alpha": (), "mu": (), "omega": (), "share": ()}
    y = _simulate_garch(200, mu=0.5, omega=0.3, alpha=0.4, beta=0.45)
    first = float(np.var(y))

    def log_joint(p):
        error = jnp.asarray(y, p["mu"].dtype) - p["mu"]
        persist = (1 - p["alpha"]) * p["share"]

        def step(variance, e):
            return p["omega"] + p["alpha"] * e**2 + persist * variance, variance

        _, variance = jax.lax.scan(step, jnp.full_like(p["mu"], first), error)
        prior = normal(p["mu"], 0.0, 5.0) + half_normal(p["omega"], 1.0)
        return prior + jnp.sum(normal(error, 0.0, jnp.sqrt(variance)))

    unit = ("interval", 0.0, 1.0)
    constraints = constraints_of(shapes, alpha=unit, omega="positive", share=unit)
    return Problem("garch", log_joint, None, like_of(shapes), constraints, None, easy=False)


@problem
def coal() -> Problem:
    """Yearly counts by a Gaussian process in ten sines on (-1.5, 1.5) (Riutort-Mayol et al.)."""
    shapes = {"amplitude": (), "length": (), "level": (), "z": (10,)}
    data = tables.coal()
    frequency = np.arange(1, 11) * math.pi / 3.0
    sines = np.sin(frequency * (data["time"][:, None] + 1.5)) / math.sqrt(1.5)

    def log_prior(p):
        hyper = half_normal(p["amplitude"], 1.0) + log_normal(p["length"], -1.0, 0.5)
        return hyper + normal(p["level"], 0.0, 2.0) + jnp.sum(normal(p["z"], 0.0, 1.0))

    def log_lik(p, r):
        decay = jnp.exp(-0.25 * (p["length"] * jnp.asarray(frequency, p["z"].dtype)) ** 2)
        scale = p["amplitude"] * jnp.sqrt(math.sqrt(2 * math.pi) * p["length"]) * decay
        return poisson(r["count"], p["level"] + r["sines"] @ (scale * p["z"]))

    return Problem(
        "coal",
        log_prior,
        log_lik,
        like_of(shapes),
        constraints_of(shapes, amplitude="positive", length="positive"),
        {"count": data["count"], "sines": sines},
        easy=False,
    )


@problem
def puromycin() -> Problem:
    """Michaelis and Menten's curve; puromycin raises its limit by `gain`."""
    shapes = {"gain": (), "half": (), "limit": (), "sigma": ()}

    def log_prior(p):
        curve = log_normal(p["limit"], 5.0, 1.0) + log_normal(p["half"], -2.0, 1.0)
        return curve + normal(p["gain"], 0.0, 100.0) + half_cauchy(p["sigma"], 10.0)

    def log_lik(p, r):
        c = r["concentration"]
        mean = (p["limit"] + p["gain"] * r["treated"]) * c / (p["half"] + c)
        return normal(r["rate"], mean, p["sigma"])

    positive = dict.fromkeys(("half", "limit", "sigma"), "positive")
    constraints = constraints_of(shapes, **positive)
    return Problem(
        "puromycin", log_prior, log_lik, like_of(shapes), constraints, tables.puromycin()
    )


@problem
def theophylline() -> Problem:
    """One compartment, absorption of the first order, in closed form; `excess` is what the rate of
    absorption has above that of elimination, so that the two cannot be exchanged.
    """
    shapes = {"elimination": (), "excess": (), "sigma": (), "volume": ()}

    def log_prior(p):
        rates = log_normal(p["elimination"], -2.5, 1.0) + log_normal(p["excess"], 0.5, 1.0)
        return rates + log_normal(p["volume"], -0.7, 1.0) + half_cauchy(p["sigma"], 1.0)

    def log_lik(p, r):
        out, gain = p["elimination"], p["elimination"] + p["excess"]
        curve = jnp.exp(-out * r["time"]) - jnp.exp(-gain * r["time"])
        mean = 4.02 * gain / (p["volume"] * p["excess"]) * curve
        return normal(r["concentration"], mean, p["sigma"])

    return Problem(
        "theophylline",
        log_prior,
        log_lik,
        like_of(shapes),
        dict.fromkeys(shapes, "positive"),
        tables.theophylline(),
        easy=False,
    )


@problem
def mixture() -> Problem:
    """Two normals on a line, means in order; 100 simulated rows."""
    shapes = {"mean": (2,), "sd": (2,), "weight": ()}
    z, u = normals(1, 100), uniforms(2, 100)
    y = np.where(u < 0.6, -1.5 + z, 2.0 + 0.7 * z)

    def log_prior(p):
        means = jnp.sum(normal(p["mean"], 0.0, 5.0)) + math.log(2.0)  # of two orders, one is left
        return means + jnp.sum(half_normal(p["sd"], 2.0)) + beta(p["weight"], 5.0, 5.0)

    def log_lik(p, r):
        each = normal(r["y"][:, None], p["mean"], p["sd"])
        return jnp.logaddexp(
            jnp.log(p["weight"]) + each[:, 0], jnp.log1p(-p["weight"]) + each[:, 1]
        )

    constraints = {"mean": "ordered", "sd": "positive", "weight": ("interval", 0.0, 1.0)}
    return Problem(
        "mixture", log_prior, log_lik, like_of(shapes), constraints, {"y": y}, easy=False
    )


def _simulate_garch(n: int, *, mu: float, omega: float, alpha: float, beta: float) -> np.ndarray:
    y, variance = [], omega / (1 - alpha - beta)
    for z in normals(0, n):
        y.append(mu + math.sqrt(variance) * z)
        variance = omega + alpha * (y[-1] - mu) ** 2 + beta * variance
    return np.array(y)
