"""A limited-memory inverse Hessian from the last steps and changes of the gradient.

Nocedal & Wright 2006, algorithm 7.4, with the identity for its first guess: gradients are taken in
a metric in which that is about right.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._pytree import pytree


@pytree
class Pairs:
    """The last m steps s and changes y of the downward gradient, oldest first; 0 where none is."""

    steps: Float[Array, "m p"]
    changes: Float[Array, "m p"]
    inverse: Float[Array, "m"]

    @classmethod
    def none(cls, size: int, length: int, dtype: Any) -> Pairs:
        """No pairs yet, with room for `size` of them."""
        empty = jnp.zeros((size, length), dtype)
        return cls(empty, empty, jnp.zeros(size, dtype))

    def with_pair(
        self, step: Float[Array, "p"], change: Float[Array, "p"], kept: Bool[Array, ""]
    ) -> Pairs:
        """One more pair in place of the oldest, if it is `kept`."""
        product = jnp.sum(step * change)
        new = step, change, 1.0 / jnp.where(kept, product, 1.0)

        def put(old: Array, last: Array) -> Array:
            return jnp.where(kept, jnp.concatenate([old[1:], last[None]]), old)

        return Pairs(*map(put, (self.steps, self.changes, self.inverse), new))

    def forget(self, when: Bool[Array, ""]) -> Pairs:
        """No pairs, where it is time to."""
        inverse = jnp.where(when, 0.0, self.inverse)
        return Pairs(self.steps, self.changes, inverse)

    def times(self, gradient: Float[Array, "p"]) -> Float[Array, "p"]:
        """The inverse Hessian times the gradient."""
        v, shares = gradient, []
        for i in reversed(range(self.inverse.shape[0])):
            share = self.inverse[i] * jnp.sum(self.steps[i] * v)
            v = v - share * self.changes[i]
            shares.append(share)
        for i, share in enumerate(reversed(shares)):
            v = v + self.steps[i] * (share - self.inverse[i] * jnp.sum(self.changes[i] * v))
        return v
