"""Integrals over one variable, of many densities at once."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

DEEP = 40.0  # nats below its peak where a density is nothing
_COARSE, _FINE = 48, 128  # nodes


def log_integral(
    log_density: Callable[[Array], Array], low: Float[Array, "*b"], high: Float[Array, "*b"]
) -> Float[Array, "*b"]:
    """log of the integral from `low` to `high`, by the trapezium rule where the density is.

    A coarse grid finds where that is, and a fine one covers it; the sums run node by node.
    """
    step = (high - low) / _COARSE

    def at(j: Array) -> Array:
        return log_density(low + step * j.astype(low.dtype))

    def highest(j: Array, top: Array) -> Array:
        return jnp.maximum(top, at(j))

    def ends(j: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        first, last = found
        here = at(j) > top - DEEP
        return jnp.where(here, jnp.minimum(first, j), first), jnp.where(here, j, last)

    top = lax.fori_loop(0, _COARSE + 1, highest, jnp.full_like(low, -jnp.inf))
    none = jnp.full(low.shape, _COARSE, jnp.int32)
    first, last = lax.fori_loop(0, _COARSE + 1, ends, (none, jnp.zeros_like(none)))
    left = low + step * (first - 1).astype(low.dtype)
    width = step * (last - first + 2).astype(low.dtype) / _FINE

    def add(j: Array, total: Array) -> Array:
        return jnp.logaddexp(total, log_density(left + width * j.astype(low.dtype)))

    total = lax.fori_loop(0, _FINE + 1, add, jnp.full_like(low, -jnp.inf))
    return total + jnp.log(width)
