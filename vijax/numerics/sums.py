"""Error-free additions: how many float32 chunks add up like one."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def rounding_error(a: Float[Array, "*b"], b: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """(a + b) - fl(a + b), exactly (Knuth's two-sum; needs no ordering of a and b)."""
    total = jnp.add(a, b)
    part = total - a
    return (a - (total - part)) + (b - part)
