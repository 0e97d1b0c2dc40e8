"""Concentrations that rows of counts have in common, of the highest likelihood (Minka 2000)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from . import special

_STEPS = 20  # each raises the likelihood; what is left, the next pass finds


def fit_polya(
    count: Float[Array, "m k"],
    extra: Float[Array, "m k"],
    start: Float[Array, "k"],
    least: Float[Array, "k"],
) -> Float[Array, "k"]:
    """The conc of the highest sum_i log DirichletMultinomial(count_i | conc + extra_i).

    It climbs from `start` and stays at `least` or above; entries where `start` is 0 stay 0. A step
    is the fixed point of Minka (2000), section 3, for which log(conc + extra) is bounded below by a
    multiple of log conc, so that no step lowers the likelihood.
    """
    on = start > 0
    seen = jnp.where(on, jnp.maximum(count, 0.0), 0.0)
    number = jnp.sum(seen, -1)
    more = jnp.where(on, extra, 0.0)

    def improve(_: Array, conc: Array) -> Array:
        each = jnp.where(on, conc + more, 1.0)
        tables = jnp.sum(_digamma_ratio(each, seen), 0)
        total = jnp.sum(jnp.where(on, conc + more, 0.0), -1)
        some = total > 0
        whole = jnp.sum(_digamma_ratio(jnp.where(some, total, 1.0), jnp.where(some, number, 0.0)))
        new = conc * tables / jnp.where(whole > 0, whole, 1.0)
        return jnp.where(on & (whole > 0), jnp.maximum(new, least), conc)

    return lax.fori_loop(0, _STEPS, improve, start)


def _digamma_ratio(a: Float[Array, "..."], n: Float[Array, "..."]) -> Float[Array, "..."]:
    """digamma(a + n) - digamma(a), for n >= 0."""
    top = a + n
    return jnp.log1p(n / a) + special.digamma_gap(a) - special.digamma_gap(top)
