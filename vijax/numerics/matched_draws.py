"""Standard normal draws whose first and second moments are exact, and functions over many draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .broadcasting import broadcasts


@broadcasts
def antithetic(seed: Int[Array, ""], size: int, d: int, dtype: Any) -> Float[Array, "s d"]:
    """`size` standard normal draws, the second half the negative of the first; `size` is even."""
    z = jax.random.normal(jax.random.key(seed), (size // 2, d), dtype)
    return jnp.concatenate([z, -z])


@broadcasts
def matched(seed: Int[Array, ""], size: int, d: int, dtype: Any) -> Float[Array, "s d"]:
    """Antithetic draws with mean z z^T = I exactly if size / 2 > d, else with mean z_i^2 = 1.

    A function that is quadratic then has its exact mean, so that a normal posterior is found
    exactly by few draws.
    """
    z = antithetic(seed, size, d, dtype)[: size // 2]
    if size // 2 > d:
        z = jnp.linalg.qr(z)[0] * jnp.sqrt(jnp.asarray(size / 2.0, dtype))
    else:
        z = z / jnp.sqrt(jnp.mean(z**2, 0))
    return jnp.concatenate([z, -z])


@broadcasts
def matched_parts(
    seed: Int[Array, ""], size: int, d: int, r: int, dtype: Any
) -> Float[Array, "s k"]:
    """`matched` draws of d + r numbers for few draws: the last r are uncorrelated with all others.

    They have mean z z^T = I among themselves, and no product with the first d, if size / 2 > r.
    Chance correlations with a factor of d r entries would be d r / size nats of a bound.
    """
    z = antithetic(seed, size, d + r, dtype)[: size // 2]
    if size // 2 > d + r:
        return matched(seed, size, d + r, dtype)
    own, common = z[:, :d], jnp.linalg.qr(z[:, d:])[0]
    own = own - jnp.matmul(common, jnp.matmul(common.T, own))
    own = own / jnp.sqrt(jnp.mean(own**2, 0))
    z = jnp.concatenate([own, common * jnp.sqrt(jnp.asarray(size / 2.0, dtype))], -1)
    return jnp.concatenate([z, -z])


def map_draws(fn: Callable[[Any], Any], draws: Any, at_once: int) -> Any:
    """`fn` of every draw, with at most `at_once` of them in memory together."""
    size = jax.tree.leaves(draws)[0].shape[0]
    if size <= at_once:
        return jax.vmap(fn)(draws)
    return lax.map(fn, draws, batch_size=max(1, at_once))


def mean_draws(fn: Callable[[Any], Any], draws: Any, at_once: int) -> Any:
    """The mean over draws of arrays `fn`, of which at most `at_once` are in memory together."""
    size = jax.tree.leaves(draws)[0].shape[0]
    if size <= at_once:
        return jax.tree.map(lambda a: jnp.mean(a, 0), jax.vmap(fn)(draws))  # one copy of fn
    at_once = max(1, at_once)
    whole = size - size % at_once

    def total(part: Any) -> Any:
        return jax.tree.map(lambda a: jnp.sum(a, 0), jax.vmap(fn)(part))

    def add(sums: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, total(part)), None

    sums = total(jax.tree.map(lambda a: a[whole:], draws))  # of none, it is 0
    parts = jax.tree.map(lambda a: a[:whole].reshape(-1, at_once, *a.shape[1:]), draws)
    return jax.tree.map(lambda a: a / size, lax.scan(add, sums, parts)[0])
