"""The steps of hidden Markov chains, in blocks of time side by side.

Arrays of a step are (k, lanes), lanes last: a lane is one block of one sequence, and a step of all
lanes is one product with the transitions. XLA runs that several times faster than with k last.
Several chains of one block each may be lanes too, with the transitions of their own.

Of several sequences blocks are only as long as the longest sequence needs, so that chunks of short
sequences cost less than those of long ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .lanes import largest
from .linalg import matmul

_GUESS = 24  # steps of a guess per byte of a number, and one for each state, as products cost more


class Blocks(NamedTuple):
    """The steps of all lanes, time leading, and what moves from one to the next."""

    lik: Float[Array, "s k lanes"]  # b_t; the largest of a step is 1
    shift: Float[Array, "s lanes"]  # log of the scale of b_t
    left: Int[Array, "lanes"]  # steps of the sequence from the first of the block on
    weight: Float[Array, "lanes"]
    first: Bool[Array, "lanes"]  # the block is the first of its sequence
    forth: Float[Array, "kplus k *lanes"]  # A^T, and a row of ones, whose product is the sum
    back: Float[Array, "kplus k *lanes"]  # A, and a row of ones
    start: Float[Array, "k one"]  # exp(log_initial), (k, lanes) if lanes have their own
    length: Int[Array, ""] | int  # steps of a block, <= s; those beyond are of the next block


def lanes_of(
    log_initial: Float[Array, "k *n"],
    log_transition: Float[Array, "k k *n"],
    log_lik: Float[Array, "n t k"],
    exists: Bool[Array, "n t"],
    weight: Float[Array, "n"],
    block: int,
) -> Blocks:
    """Each sequence is cut into blocks, filled up with steps that do not exist."""
    n, t, k = log_lik.shape
    # a state is scaled by the likeliest way into it, so that one that is off never sets a scale
    entry = jnp.maximum(log_initial, jnp.max(log_transition, 0))
    safe = jnp.where(entry > -jnp.inf, entry, 0.0)
    transition = jnp.exp(log_transition - safe)
    ones = jnp.ones((1, *transition.shape[1:]), log_lik.dtype)
    start = jnp.exp(log_initial - safe)
    entry, start = (a.reshape(k, -1) for a in (entry, start))
    blocks = -(-t // block)
    log_lik = jnp.pad(log_lik, ((0, 0), (0, blocks * block - t), (0, 0)))
    lengths = jnp.sum(exists, 1, dtype=jnp.int32)
    length = block if n == 1 else _length(lengths, blocks, block, log_lik.dtype.itemsize, k)
    log_lik = jnp.moveaxis(_cut(log_lik, blocks, block, length), 0, -1)
    left = (lengths[:, None] - length * times(blocks)).ravel()

    def likelihood(both: Any, i: Array | int) -> tuple[Array, Array]:
        """Of one step, in place of its log."""
        lik, shifts = both
        log_lik = jnp.where(i < left, lax.dynamic_index_in_dim(lik, i, 0, False), 0.0)
        shift = jnp.max(log_lik + entry, 0)
        shift = jnp.where(shift > -jnp.inf, shift, 0.0)
        now = jnp.exp((log_lik - shift) + entry)
        return tuple(
            lax.dynamic_update_index_in_dim(a, v, i, 0) for a, v in ((lik, now), (shifts, shift))
        )

    # step by step, for XLA vectorises few things together with the transposition
    shifts = jnp.zeros((block, left.shape[0]), log_lik.dtype)
    lik, shift = lax.fori_loop(0, length, lambda i, both: likelihood(both, i), (log_lik, shifts))
    return Blocks(
        lik,
        shift,
        left,
        jnp.repeat(weight, blocks),
        times(n * blocks) % blocks == 0,
        jnp.concatenate([jnp.swapaxes(transition, 0, 1), ones]),
        jnp.concatenate([transition, ones]),
        start,
        length,
    )


def few_steps(block: int, itemsize: int, k: int) -> int:
    """Steps that a guess looks at."""
    return min(block, (_GUESS + k) * itemsize)


def _length(lengths: Int[Array, "n"], blocks: int, block: int, itemsize: int, k: int) -> Array:
    """The steps of a block that the longest sequence needs, but as many as a guess looks at."""
    need = -(-largest(jnp.max(lengths)) // blocks)
    return jnp.maximum(need, 1 if blocks == 1 else few_steps(block, itemsize, k))


def _cut(
    a: Float[Array, "n t k"], blocks: int, block: int, length: Int[Array, ""] | int
) -> Float[Array, "lanes block k"]:
    """The blocks of all sequences, one every `length` steps; they may run over their ends."""
    n, _, k = a.shape
    if blocks == 1 or isinstance(length, int):
        return a.reshape(n * blocks, block, k)

    def one(i: Array | int) -> Array:
        return lax.dynamic_slice_in_dim(a, i * length, block, 1)

    return jnp.moveaxis(lax.map(one, times(blocks)), 0, 1).reshape(n * blocks, block, k)


def joined(
    a: Float[Array, "n blocks block k"], length: Int[Array, ""] | int
) -> Float[Array, "n t k"]:
    """The sequences of such blocks; what runs over the end of one is overwritten by the next."""
    n, blocks, block, k = a.shape
    flat = a.reshape(n, -1, k)
    if blocks == 1 or isinstance(length, int):
        return flat

    def put(i: Array | int, out: Array) -> Array:
        return lax.dynamic_update_slice_in_dim(out, a[:, i], i * length, 1)

    return lax.fori_loop(0, blocks, put, jnp.zeros_like(flat))


def times(length: int) -> Int[Array, "length"]:
    """0, 1, .. below the length."""
    return jnp.arange(length, dtype=jnp.int32)


def per(total: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """1 / total, finite for 0."""
    return 1.0 / jnp.maximum(total, float(jnp.finfo(total.dtype).tiny))


def apply(matrix: Float[Array, "m k *lanes"], x: Float[Array, "k lanes"]) -> Array:
    """The product of the matrix, or of that of each lane, with the column of each lane."""
    if matrix.ndim == 2:
        return matmul(matrix, x)
    return jnp.sum(matrix * x, 1)
