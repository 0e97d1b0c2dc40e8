"""The length of a step that does not fall."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def longest(
    fn: Callable[[Array], Array], lengths: Float[Array, "k"], least: Float[Array, ""]
) -> Float[Array, ""]:
    """The first of `lengths` at which `fn` is at least `least`, or the last of them.

    `fn` is not evaluated after that, nor at the last.
    """

    def climbs(length: Array) -> Array:
        return fn(length) >= least  # not of NaN

    def look(k: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        done, length = found
        good = lax.cond(done, lambda _: jnp.ones((), bool), climbs, lengths[k])
        return good, jnp.where(done, length, jnp.where(good, lengths[k], lengths[-1]))

    start = jnp.zeros((), bool), lengths[-1]
    return lax.fori_loop(0, lengths.shape[0] - 1, look, start)[1]
