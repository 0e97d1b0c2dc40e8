"""Rounding errors of additions and products, with which float32 sums are corrected.

All are exact without overflow or underflow, in any IEEE precision that rounds to nearest.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def rounding_error(a: Float[Array, "*b"], b: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """(a + b) - fl(a + b), exactly, for a and b of any order (two-sum: Knuth, TAOCP 4.2.2)."""
    total = jnp.add(a, b)
    b_part = total - a
    return (a - (total - b_part)) + (b - b_part)


def product_error(a: Float[Array, "*b"], b: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """a b - fl(a b), exactly (Dekker 1971)."""
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    high = (a_high * b_high - a * b) + a_high * b_low + a_low * b_high
    return high + a_low * b_low


def twofold_sum(terms: Float[Array, "*b m"]) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """Sum over the last axis by pairs, and the sum of its rounding errors.

    Together they are accurate to about twice the digits of the dtype (Ogita, Rump & Oishi 2005).
    """
    lost = jnp.zeros_like(terms[..., 0])
    while terms.shape[-1] > 1:
        half = terms.shape[-1] // 2
        a, b, unpaired = terms[..., :half], terms[..., half : 2 * half], terms[..., 2 * half :]
        lost = lost + jnp.sum(rounding_error(a, b), -1)
        terms = jnp.concatenate([a + b, unpaired], -1)
    return terms[..., 0], lost


def _halves(a: Float[Array, "*b"]) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """a as the sum of its leading and its trailing digits (Veltkamp's splitting)."""
    digits = jnp.finfo(a.dtype).nmant + 1
    scaled = a * (2.0 ** ((digits + 1) // 2) + 1.0)
    high = scaled - (scaled - a)
    return high, a - high
