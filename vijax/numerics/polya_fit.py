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
    is the fixed point of Minka (2000), section 3, and is shortened in log conc where it would lower
    the likelihood: of counts below 1, which only expected counts are, his proof says nothing.
    """
    on = start > 0
    seen = jnp.where(on, jnp.maximum(count, 0.0), 0.0)
    number = jnp.sum(seen, -1)
    more = jnp.where(on, extra, 0.0)

    def rows(conc: Array) -> tuple[Array, Array, Array]:
        """conc of every row; its sum; and the counts of rows that have one."""
        each = jnp.where(on, conc + more, 1.0)
        total = jnp.sum(jnp.where(on, conc + more, 0.0), -1)
        some = total > 0
        return each, jnp.where(some, total, 1.0), jnp.where(some, number, 0.0)

    def log_lik(conc: Array) -> Array:
        each, total, known = rows(conc)
        gained = jnp.sum(special.log_gamma_ratio(each, seen))
        return gained - jnp.sum(special.log_gamma_ratio(total, known))

    def improve(_: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        conc, best, share = carry
        each, total, known = rows(conc)
        tables = jnp.sum(_digamma_ratio(each, seen), 0)
        whole = jnp.sum(_digamma_ratio(total, known))
        able = on & (whole > 0)
        ratio = jnp.where(able, tables / jnp.where(whole > 0, whole, 1.0), 1.0)
        new = jnp.where(able, jnp.maximum(conc * ratio**share, least), conc)
        found = log_lik(new)
        good = found >= best
        return (
            jnp.where(good, new, conc),
            jnp.where(good, found, best),
            jnp.where(good, jnp.minimum(2.0 * share, 1.0), 0.5 * share),
        )

    whole_step = jnp.ones((), start.dtype)
    return lax.fori_loop(0, _STEPS, improve, (start, log_lik(start), whole_step))[0]


def _digamma_ratio(a: Float[Array, "..."], n: Float[Array, "..."]) -> Float[Array, "..."]:
    """digamma(a + n) - digamma(a), for n >= 0."""
    top = a + n
    return jnp.log1p(n / a) + special.digamma_gap(a) - special.digamma_gap(top)
