"""Families of counts, flags, categories and waiting times: rows of the family table."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import stats

from vijax.families.independent.beta_bernoulli import BetaBernoulli
from vijax.families.independent.beta_geometric import BetaGeometric
from vijax.families.independent.dirichlet_categorical import DirichletCategorical
from vijax.families.independent.dirichlet_multinomial import DirichletMultinomial
from vijax.families.independent.gamma_exponential import GammaExponential
from vijax.families.independent.gamma_poisson import GammaPoisson

from ..rows import Family, gammas


def _gamma(name: str, kind: Any) -> Family:
    return Family(
        name,
        lambda rng: kind.from_standard(gammas(rng, 3, 2, least=1.2), gammas(rng, 3, 2)),
        {"shape": lambda q: q.each.shape, "rate": lambda q: q.each.rate},
        lambda v, i, q: np.sum(stats.gamma.logpdf(v[i], q.each.shape[i], scale=1 / q.each.rate[i])),
        lambda v: -jnp.sum(jnp.log(v), -1),
        {"mean": lambda v: v, "rate": lambda v: v, "expectation().each.shape": jnp.log},
        lambda moments: moments.mean,
    )


def _beta(name: str, kind: Any) -> Family:
    return Family(
        name,
        lambda rng: kind.from_standard(gammas(rng, 3, 2, least=1.2), gammas(rng, 3, 2, least=1.2)),
        {"a": lambda q: q.a, "b": lambda q: q.b},
        lambda v, i, q: np.sum(stats.beta.logpdf(v[i], q.a[i], q.b[i])),
        lambda v: -jnp.sum(jnp.log(v) + jnp.log1p(-v), -1),
        {"mean": lambda v: v, "p": lambda v: v},
        lambda moments: moments.mean,
    )


def _dirichlet_log_prob(v: Any, i: int, q: Any) -> float:
    columns = zip(np.atleast_2d(v[i]), np.atleast_2d(q.each.conc[i]), strict=True)
    return sum(float(stats.dirichlet.logpdf(p, conc)) for p, conc in columns)


def _dirichlet(name: str, kind: Any, shape: tuple[int, ...]) -> Family:
    return Family(
        name,
        lambda rng: kind.from_standard(gammas(rng, 3, *shape)),
        {"conc": lambda q: q.each.conc},
        _dirichlet_log_prob,
        lambda v: -jnp.sum(jnp.log(v), tuple(range(1, 1 + len(shape)))),
        {"mean": lambda v: v, "p": lambda v: v, "expectation().each.conc": jnp.log},
        lambda moments: jnp.exp(moments.each.log_p),
        on_simplex=True,
    )


FAMILIES = [
    _gamma("GammaPoisson", GammaPoisson),
    _gamma("GammaExponential", GammaExponential),
    _beta("BetaBernoulli", BetaBernoulli),
    _beta("BetaGeometric", BetaGeometric),
    _dirichlet("DirichletCategorical", DirichletCategorical, (2, 3)),
    _dirichlet("DirichletMultinomial", DirichletMultinomial, (4,)),
]

SPREADS = {
    "GammaPoisson": {"rate_sd": lambda v: v},
    "GammaExponential": {"rate_sd": lambda v: v},
    "BetaBernoulli": {"p_sd": lambda v: v},
    "BetaGeometric": {"p_sd": lambda v: v},
    "DirichletCategorical": {"p_sd": lambda v: v},
    "DirichletMultinomial": {"p_sd": lambda v: v},
}
