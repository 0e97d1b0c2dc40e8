"""Hierarchies: eight schools and rats both ways, seeds."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from . import tables
from .densities import (
    binomial,
    half_cauchy,
    half_normal,
    normal,
)
from .problem import Problem, constraints_of, like_of, problem


def _schools_prior(p):
    return normal(p["mu"], 0.0, 5.0) + half_cauchy(p["tau"], 5.0)


@problem
def eight_schools_noncentred() -> Problem:
    """As in posteriordb: theta = mu + tau z."""
    return Problem(
        "eight_schools_noncentred",
        lambda p: _schools_prior(p) + jnp.sum(normal(p["z"], 0.0, 1.0)),
        lambda p, r: normal(r["y"], p["mu"] + p["tau"] * p["z"][r["school"]], r["sigma"]),
        {"mu": np.zeros(()), "tau": np.ones(()), "z": np.zeros(8)},
        {"mu": "real", "tau": "positive", "z": "real"},
        tables.schools(),
        easy=False,
    )


@problem
def eight_schools_centred() -> Problem:
    """The same posterior in theta: a funnel."""

    def centre(p):
        theta = p["mu"] + p["tau"] * p["z"]
        return {"mu": p["mu"], "tau": p["tau"], "theta": theta}

    return Problem(
        "eight_schools_centred",
        lambda p: _schools_prior(p) + jnp.sum(normal(p["theta"], p["mu"], p["tau"])),
        lambda p, r: normal(r["y"], p["theta"][r["school"]], r["sigma"]),
        {"mu": np.zeros(()), "tau": np.ones(()), "theta": np.zeros(8)},
        {"mu": "real", "tau": "positive", "theta": "real"},
        tables.schools(),
        easy=False,
        drawn_from=("eight_schools_noncentred", centre),
    )


def _rats_prior(p):
    scales = half_cauchy(p["tau"], 25.0) + half_cauchy(p["sigma"], 25.0)
    return normal(p["mu"], 250.0, 100.0) + normal(p["slope"], 0.0, 100.0) + scales


@problem
def rats_noncentred() -> Problem:
    """Random intercepts theta = mu + tau z, well determined by five rows each: mu and z are tightly
    bound.
    """
    shapes = {"mu": (), "sigma": (), "slope": (), "tau": (), "z": (30,)}

    def log_lik(p, r):
        mean = p["mu"] + p["tau"] * p["z"][r["rat"]] + p["slope"] * r["week"]
        return normal(r["y"], mean, p["sigma"])

    return Problem(
        "rats_noncentred",
        lambda p: _rats_prior(p) + jnp.sum(normal(p["z"], 0.0, 1.0)),
        log_lik,
        like_of(shapes),
        constraints_of(shapes, sigma="positive", tau="positive"),
        tables.rats(),
        easy=False,
    )


@problem
def rats_centred() -> Problem:
    """The same posterior in theta, nearly Gaussian but for a spike: the density has no bound where
    tau goes to 0 and all of theta to mu.
    """
    shapes = {"mu": (), "sigma": (), "slope": (), "tau": (), "theta": (30,)}

    def centre(p):
        rest = {name: p[name] for name in ("mu", "sigma", "slope", "tau")}
        return rest | {"theta": p["mu"] + p["tau"] * p["z"]}

    return Problem(
        "rats_centred",
        lambda p: _rats_prior(p) + jnp.sum(normal(p["theta"], p["mu"], p["tau"])),
        lambda p, r: normal(r["y"], p["theta"][r["rat"]] + p["slope"] * r["week"], p["sigma"]),
        like_of(shapes),
        constraints_of(shapes, sigma="positive", tau="positive"),
        tables.rats(),
        drawn_from=("rats_noncentred", centre),
    )


@problem
def seeds() -> Problem:
    """Binomial regression with a random intercept for each plate, non-centred."""
    shapes = {"beta": (4,), "tau": (), "z": (21,)}

    def log_prior(p):
        flat = jnp.sum(normal(p["beta"], 0.0, 2.5)) + half_normal(p["tau"], 1.0)
        return flat + jnp.sum(normal(p["z"], 0.0, 1.0))

    def log_lik(p, r):
        logit = r["x"] @ p["beta"] + p["tau"] * p["z"][r["plate"]]
        return binomial(r["germinated"], r["total"], logit)

    constraints = constraints_of(shapes, tau="positive")
    return Problem(
        "seeds", log_prior, log_lik, like_of(shapes), constraints, tables.seeds(), easy=False
    )
