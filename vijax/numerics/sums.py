"""Sums that keep about twice the digits of their dtype.

A float32 bound over 1e7 rows resolves only a few nats, so neither convergence nor a fall can be
seen in it. An unevaluated pair of floats resolves the *change* of the bound to about 1e-4 nats.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._pytree import pytree

_BLOCK = 4096  # rows whose sum is split exactly into a coarse and a fine part


@pytree
class TwoFloat:
    """The unevaluated sum `high + low`, with |low| <= ulp(high) / 2 (Dekker 1971)."""

    high: Float[Array, "*b"]
    low: Float[Array, "*b"]

    @classmethod
    def of(cls, value: Float[Array, "*b"]) -> TwoFloat:
        """Exact conversion of one float."""
        return cls(value, jnp.zeros_like(value))

    @property
    def value(self) -> Float[Array, "*b"]:
        """Rounded to one float."""
        return self.high + self.low

    def __add__(self, other: TwoFloat) -> TwoFloat:
        high = self.high + other.high
        low = rounding_error(self.high, other.high) + (self.low + other.low)
        return TwoFloat(high + low, rounding_error(high, low))

    def __sub__(self, other: TwoFloat) -> TwoFloat:
        return self + TwoFloat(-other.high, -other.low)


def rounding_error(a: Float[Array, "*b"], b: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """(a + b) - fl(a + b), exactly (Knuth's two-sum; needs no ordering of a and b)."""
    total = a + b
    part = total - a
    return (a - (total - part)) + (b - part)


def total(x: Float[Array, "n"]) -> TwoFloat:
    """Sum of x, to about twice the precision of its dtype.

    Within a block, each entry is split at one common position, so that the coarse parts add
    without any rounding; blocks are then added pairwise with error terms.
    """
    n = x.shape[0]
    blocks = jnp.pad(x, (0, -n % _BLOCK if n > _BLOCK else 0)).reshape(-1, min(n, _BLOCK))
    largest = lax.stop_gradient(jnp.max(jnp.abs(blocks), -1, keepdims=True))
    shift = 3.0 * blocks.shape[-1] * largest
    coarse = (blocks + shift) - shift
    parts = TwoFloat(jnp.sum(coarse, -1), jnp.sum(blocks - coarse, -1))
    while parts.high.shape[0] > 1:
        half = parts.high.shape[0] // 2
        odd = TwoFloat(parts.high[2 * half :], parts.low[2 * half :])
        left = TwoFloat(parts.high[:half], parts.low[:half])
        right = TwoFloat(parts.high[half : 2 * half], parts.low[half : 2 * half])
        paired = left + right
        parts = TwoFloat(
            jnp.concatenate([paired.high, odd.high]), jnp.concatenate([paired.low, odd.low])
        )
    return TwoFloat(parts.high[0], parts.low[0]) + TwoFloat.of(jnp.zeros((), x.dtype))
