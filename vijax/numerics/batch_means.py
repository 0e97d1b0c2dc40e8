"""The mean of the last half of a sequence of vectors in bounded memory, and how much is noise."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._pytree import pytree

_SLOTS = 16  # means in memory; half of them, at least 4, are the last half of the sequence


@pytree
class BatchMeans:
    """Means of consecutive stretches of a sequence of vectors, all of `length` vectors.

    When all slots are full, neighbours are joined and stretches are twice as long. The spread of
    the means of long stretches shows the noise of their average, however correlated the sequence is
    (Geyer 1992), and a trend too.
    """

    means: Float[Array, "*b m p"]
    filled: Int[Array, "*b"]
    length: Int[Array, "*b"]
    total: Float[Array, "*b p"]
    count: Int[Array, "*b"]

    @classmethod
    def empty(cls, size: int, dtype: Any) -> BatchMeans:
        """Before the first vector of `size` numbers."""
        zero = jnp.asarray(0, jnp.int32)
        none = jnp.zeros(size, dtype)
        return cls(jnp.zeros((_SLOTS, size), dtype), zero, zero + 1, none, zero)

    def add(self, new: Float[Array, "p"]) -> BatchMeans:
        """With one more vector."""
        total, count = self.total + new, self.count + 1
        done = count == self.length
        mean = total / self.length.astype(total.dtype)
        means = jnp.where(done, self.means.at[self.filled].set(mean), self.means)
        filled = self.filled + done.astype(jnp.int32)
        full = filled == _SLOTS
        half = 0.5 * (means[0::2] + means[1::2])
        joined = jnp.concatenate([half, jnp.zeros_like(half)])
        return BatchMeans(
            jnp.where(full, joined, means),
            jnp.where(full, _SLOTS // 2, filled),
            jnp.where(full, 2 * self.length, self.length),
            jnp.where(done, 0.0, total),
            jnp.where(done, 0, count),
        )

    @property
    def known(self) -> Bool[Array, ""]:
        """Whether the sequence is long enough for an estimate of noise."""
        return self.filled >= _SLOTS // 2

    @property
    def in_tail(self) -> Bool[Array, "m"]:
        """Which means are of the last half."""
        index = jnp.arange(_SLOTS, dtype=jnp.int32)
        return (index >= self.filled // 2) & (index < self.filled)

    @property
    def tail(self) -> Float[Array, "p"]:
        """The mean of the last half."""
        share = self.in_tail.astype(self.means.dtype)
        return jnp.sum(self.means * share[:, None], 0) / jnp.maximum(jnp.sum(share), 1.0)
