"""A random order of rows, computed position by position without sorting or storing it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, Key, UInt32

_ROUNDS = 12


def random_rows(
    key: Key[Array, ""], position: Int[Array, "m"], n: Int[Array, ""]
) -> Int[Array, "m"]:
    """The rows at these positions, 0 <= position < n, of a random order of n rows.

    A keyed Feistel network (Luby & Rackoff 1988) permutes a rectangle of at least n cells; a cell
    outside of the n rows is permuted again (Black & Rogaway 2002). A pass so needs no order in
    memory and no sort, which takes longer than the E-step of as many rows.
    """
    keys = jax.random.bits(key, (_ROUNDS,), jnp.uint32)
    size = n.astype(jnp.uint32)
    high = jnp.maximum(jnp.sqrt(n.astype(jnp.float32)).astype(jnp.uint32), 1)
    low = (size + high - 1) // high

    def permute(cell: UInt32[Array, "m"]) -> UInt32[Array, "m"]:
        a, b = cell // low, cell % low
        for i in range(0, _ROUNDS, 2):
            a = (a + _mix(b ^ keys[i]) % high) % high
            b = (b + _mix(a ^ keys[i + 1]) % low) % low
        return a * low + b

    def permute_outside(cell: UInt32[Array, "m"]) -> UInt32[Array, "m"]:
        return jnp.where(cell < size, cell, permute(cell))

    first = permute(position.astype(jnp.uint32))
    rows = lax.while_loop(lambda cell: jnp.any(cell >= size), permute_outside, first)
    return rows.astype(jnp.int32)


def _mix(bits: UInt32[Array, "m"]) -> UInt32[Array, "m"]:
    """The finaliser of MurmurHash3, in which every output bit depends on every input bit."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    return bits ^ (bits >> 16)
