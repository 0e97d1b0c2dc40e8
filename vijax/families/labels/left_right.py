"""Chains whose states are passed in their order, from the first on."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree
from ...data.batch import Batch
from .chain import ChainSettings


@pytree
class LeftRight(ChainSettings):
    """A chain that begins in state 0, and then stays in its state or goes on to a later one.

    A start cuts each sequence into as many segments as there are states, of equal length or, from
    the second start on, at random fractions of it (Rabiner 1989, section IV). A q is a `Chain`.
    What is possible is what has a concentration, as in every chain.
    """

    def partition(
        self,
        key: Key[Array, ""],
        points: Float[Array, "m f"],
        rows: Batch,
        on: Bool[Array, "k"],
        restart: Int[Array, ""] | int = 0,
    ) -> Float[Array, "n t k"]:
        """Segments of every sequence, all cut at the same fractions of their lengths."""
        dtype = rows.weight.dtype
        drawn = jnp.sum(jax.random.exponential(key, (2, self.size), dtype), 0)
        width = jnp.where(on, jnp.where(restart == 0, 1.0, drawn), 0.0)
        end = jnp.cumsum(width) / jnp.sum(width)
        length = jnp.sum(rows.exists, 1, keepdims=True, dtype=dtype)
        middle = (jnp.arange(rows.exists.shape[1], dtype=dtype) + 0.5) / jnp.maximum(length, 1.0)
        state = jnp.sum(middle[..., None] >= end[:-1], -1)
        return jax.nn.one_hot(state, self.size, dtype=dtype)
