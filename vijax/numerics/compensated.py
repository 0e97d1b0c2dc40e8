"""Error-free additions and products: how float32 sums are as good as needed."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def rounding_error(a: Float[Array, "*b"], b: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """(a + b) - fl(a + b), exactly (Knuth's two-sum; needs no ordering of a and b)."""
    total = jnp.add(a, b)
    part = total - a
    return (a - (total - part)) + (b - part)


def product_error(a: Float[Array, "*b"], b: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """a b - fl(a b), exactly (Dekker 1971)."""
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    high = (a_high * b_high - a * b) + a_high * b_low + a_low * b_high
    return high + a_low * b_low


def twofold_sum(terms: Float[Array, "*b m"]) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """Sum over the last axis, and what its rounding has lost."""
    lost = jnp.zeros_like(terms[..., 0])
    while terms.shape[-1] > 1:
        half = terms.shape[-1] // 2
        a, b, rest = terms[..., :half], terms[..., half : 2 * half], terms[..., 2 * half :]
        lost = lost + jnp.sum(rounding_error(a, b), -1)
        terms = jnp.concatenate([a + b, rest], -1)
    return terms[..., 0], lost


def _halves(a: Float[Array, "*b"]) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """The leading and the trailing half of the digits."""
    digits = jnp.finfo(a.dtype).nmant + 1
    far = a * (2.0 ** ((digits + 1) // 2) + 1.0)
    high = far - (far - a)
    return high, a - high
