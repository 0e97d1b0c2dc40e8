"""Integrals of many unnormalised densities over one variable."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

DEEP = 40.0  # nats below its peak from where on a density is neglected
_COARSE, _FINE = 48, 128  # intervals of the two grids


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
