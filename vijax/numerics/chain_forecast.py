"""States of a chain after its last step."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from . import linalg


def ahead(
    log_transition: Float[Array, "k k"], state: Float[Array, "n k"], horizon: int
) -> Float[Array, "n h k"]:
    """Probabilities of the states 1, ..., `horizon` steps after those of `state`."""
    transition = jnp.exp(log_transition)

    def step(p: Array, _: None) -> tuple[Array, Array]:
        new = linalg.matmul(p, transition)
        new = new / jnp.sum(new, -1, keepdims=True)
        return new, new

    return jnp.moveaxis(lax.scan(step, state, None, length=horizon)[1], 0, 1)
