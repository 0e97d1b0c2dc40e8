"""Integrals of many unnormalised densities over one variable."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from . import special

DEEP = 40.0  # nats below its peak from where on a density is neglected
_COARSE, _FINE = 48, 128  # intervals of the two grids


def log_mean_over_precision(
    log_density: Callable[[Array], Array],
    half: Float[Array, "..."],
    shape: Float[Array, "..."],
    peak: Float[Array, "..."],
) -> Float[Array, "..."]:
    """log E[exp(log_density(log u))] in nats, for u of the distribution Gamma(half, half).

    With the density, log u peaks between 0 and `peak`, or up to log(shape / half) if that is more.
    """
    low = jnp.minimum(peak, 0.0) - _reach(shape)
    high = jnp.log(shape / half) + jnp.log1p(_reach(shape))
    high = jnp.broadcast_to(jnp.maximum(high, jnp.log1p(_reach(half))), low.shape)
    log_norm = special.stirling_error(half) - 0.5 * jnp.log(half) + 0.5 * special.LOG_2PI

    def with_prior(log_u: Array) -> Array:
        return log_density(log_u) - half * (jnp.expm1(log_u) - log_u) - log_norm

    return log_integral(with_prior, low, high)


def _reach(shape: Float[Array, "..."]) -> Float[Array, "..."]:
    """Distance below the peak at which a Gamma(shape, .) density of log u has lost DEEP nats."""
    return jnp.sqrt(2.0 * DEEP / shape) + DEEP / shape


def log_integral(
    log_density: Callable[[Array], Array], low: Float[Array, "*b"], high: Float[Array, "*b"]
) -> Float[Array, "*b"]:
    """log of the integral of exp(log_density) from `low` to `high`, in nats.

    A coarse grid finds where the density is within `DEEP` nats of its peak, and the trapezium rule
    sums a fine grid there, node by node. For a smooth density that vanishes at both ends its error
    falls exponentially with the number of nodes (Trefethen & Weideman 2014).
    """
    step = (high - low) / _COARSE

    def coarse(j: Array) -> Array:
        return log_density(low + step * j.astype(low.dtype))

    def highest(j: Array, top: Array) -> Array:
        return jnp.maximum(top, coarse(j))

    def ends(j: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        first, last = bounds
        counts = coarse(j) > top - DEEP
        return jnp.where(counts, jnp.minimum(first, j), first), jnp.where(counts, j, last)

    top = lax.fori_loop(0, _COARSE + 1, highest, jnp.full_like(low, -jnp.inf))
    end = jnp.full(low.shape, _COARSE, jnp.int32)
    first, last = lax.fori_loop(0, _COARSE + 1, ends, (end, jnp.zeros_like(end)))
    left = low + step * (first - 1).astype(low.dtype)
    width = step * (last - first + 2).astype(low.dtype) / _FINE

    def add(j: Array, total: Array) -> Array:
        return jnp.logaddexp(total, log_density(left + width * j.astype(low.dtype)))

    total = lax.fori_loop(0, _FINE + 1, add, jnp.full_like(low, -jnp.inf))
    return total + jnp.log(width)
