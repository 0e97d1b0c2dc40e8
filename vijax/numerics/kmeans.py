"""k-means: rows of centres, from the best of several k-means++ seedings; traceable."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Key

from .linalg import matmul
from .seeding import kmeans_plus_plus

_SEEDINGS, _STEPS = 4, 10


def kmeans(
    key: Key[Array, ""], x: Float[Array, "n d"], weight: Float[Array, "n"], on: Bool[Array, "k"]
) -> Float[Array, "k n"]:
    """1 for the rows of each of the k centres that are `on`, 0 for the others.

    A few steps of Lloyd's algorithm, from the seeds of the least weighted sum of squared distances
    among several (Arthur & Vassilvitskii 2007). A centre without rows stays where it is.
    """
    length = jnp.sum(x**2, 1)

    def away(centres: Array) -> Array:
        found = length - 2.0 * matmul(centres, x.T) + jnp.sum(centres**2, 1)[:, None]
        return jnp.where(on[:, None], found, jnp.inf)

    def assigned(centres: Array) -> Array:
        return jax.nn.one_hot(jnp.argmin(away(centres), 0), on.shape[0], dtype=x.dtype, axis=0)

    def seeds(key: Array) -> tuple[Array, Array]:
        centres = x[kmeans_plus_plus(key, x, weight, on.shape[0])]
        return jnp.sum(weight * jnp.maximum(jnp.min(away(centres), 0), 0.0)), centres

    def step(_: Array | int, centres: Array) -> Array:
        own = assigned(centres) * weight
        count = jnp.sum(own, 1)[:, None]
        mean = matmul(own, x) / jnp.where(count > 0, count, 1.0)
        return jnp.where(count > 0, mean, centres)

    spread, centres = lax.map(seeds, jax.random.split(key, _SEEDINGS))
    return assigned(lax.fori_loop(0, _STEPS, step, centres[jnp.argmin(spread)]))
