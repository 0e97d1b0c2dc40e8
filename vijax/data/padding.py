"""Rows padded to few sizes, so that data sets of other lengths run the same programs.

Rows of weight 0 change no result, and a program of another size costs seconds to compile. Only
concrete rows that are cheap to copy are padded: on the host, on a CPU, or few on an accelerator.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .._pytree import replace
from .batch import Batch
from .host import fetched, guarded, is_concrete
from .shards import on_cpu, platform_of

# (largest number of rows, sizes from one power of two to the next): a fit to few rows is over in
# milliseconds, so that any number of rows may be doubled; the more rows, the less are added
_STEPS = ((512, 1), (2**16, 4))
_FINEST = 16
_LEAST_ROWS = 128
_PIECE = 2**16  # rows that are read at once
_LARGEST_COPY = 2**24  # bytes that are fetched from an accelerator


def padded_size(n: int) -> int:
    """The least of few sizes that n rows fit in."""
    if n <= _LEAST_ROWS:
        return _LEAST_ROWS
    number = next((number for most, number in _STEPS if n <= most), _FINEST)
    step = max(1, (1 << (n - 1).bit_length() - 1) // number)
    return -(-n // step) * step


def can_pad(batch: Batch) -> bool:
    """Whether the rows are concrete, in one place, and cheap to copy."""
    leaves = jax.tree.leaves(batch)
    if batch.sharding is not None or not is_concrete(*leaves):
        return False
    arrays = [a for a in leaves if isinstance(a, jax.Array)]
    if any(len(a.sharding.device_set) > 1 for a in arrays):
        return False
    return on_cpu(batch.platform) or sum(a.nbytes for a in arrays) <= _LARGEST_COPY


def pad(batch: Batch, by_row: Any = None) -> tuple[Batch, Any]:
    """The batch with rows of weight 0 at its end, and values (n, ...) of the rows with as many.

    Both are as they were if they cannot be padded.
    """
    n = batch.weight.shape[0]
    if not n or not can_pad(batch) or not is_concrete(by_row) or padded_size(n) == n:
        return batch, by_row
    size = padded_size(n)
    return _padded(batch, size), None if by_row is None else longer(by_row, size)


def longer(value: Any, size: int) -> Any:
    """Values of rows (n, ...) with copies of the first at their end, up to `size` rows."""
    host = fetched(value)
    more = np.broadcast_to(host[:1], (size - host.shape[0], *host.shape[1:]))
    return _placed(np.concatenate([host, more]), value)


def first_rows(tree: Any, n: int) -> Any:
    """The first n rows of concrete arrays (m, ...), cut on the host where that costs nothing."""

    def cut(a: jax.Array) -> jax.Array:
        if a.shape[0] == n:
            return a
        if not on_cpu(platform_of(a)):
            return jax.lax.slice_in_dim(a, 0, n)  # moves no index to the device
        return jax.device_put(fetched(a)[:n], a.sharding if a.committed else None)

    return jax.tree.map(cut, tree)


@functools.cache
def compiled(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a module as one compiled program, for what is read off a fit."""
    return jax.jit(fn)


def read_rows(fn: Callable[..., Any], batch: Batch, *args: Any) -> Any:
    """`fn(*args, batch)`, arrays with rows leading, by programs of few sizes in bounded memory.

    `fn` must look at each row by itself. It is called once if anything is traced.
    """
    n, program = batch.weight.shape[0], compiled(fn)
    if not can_pad(batch) or not is_concrete(*jax.tree.leaves(args)):
        return program(*args, batch)
    parts = []
    for first in range(0, n, _PIECE):
        size = min(_PIECE, n - first)
        part = _padded(_cut(batch, first, size), padded_size(size))
        parts.append(first_rows(program(*args, part), size))
    return parts[0] if len(parts) == 1 else jax.tree.map(_join, *parts)


def _join(*arrays: jax.Array) -> jax.Array:
    like = arrays[0]
    whole = np.concatenate([fetched(a) for a in arrays])
    return jax.device_put(whole, like.sharding if like.committed else None)


def _padded(batch: Batch, size: int) -> Batch:
    n = batch.weight.shape[0]
    if size == n:
        return batch
    weight = np.zeros(size, batch.weight.dtype)
    weight[:n] = fetched(batch.weight)
    more = batch.map_rows(lambda a: longer(a, size))
    return replace(more, weight=_placed(weight, batch.weight))


def _cut(batch: Batch, first: int, size: int) -> Batch:
    if size == batch.weight.shape[0]:
        return batch
    return batch.map_rows(lambda a: _placed(fetched(a)[first : first + size], a))


def _placed(host: np.ndarray, like: Any) -> Any:
    """The array on the device of `like`; on the host if that is there."""
    if not isinstance(like, jax.Array):
        return host
    return jax.device_put(host, like.sharding if like.committed or guarded() else None)
