"""Rows padded to few sizes, so that data sets of other lengths run the same programs.

Rows of weight 0 change no result, nor do steps of 0 at the end of sequences, and a program of
another size costs seconds to compile. Only concrete rows that are cheap to copy are padded: on the
host, on a CPU, or few on an accelerator.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._pytree import replace
from .batch import Batch
from .host import fetched, guarded, is_concrete
from .sequences import map_steps
from .shards import on_cpu, platform_of

# (largest number of rows, sizes from one power of two to the next): a fit to few rows is over in
# milliseconds, so that any number of rows may be doubled; the more rows, the less are added
_STEPS = ((512, 1), (2**16, 4))
_FINEST = 16
_LEAST_ROWS = 128
_FEW_STEPS = 512  # of all sequences
_PIECE = 2**16  # rows, or steps of sequences, that are read at once
_LARGEST_COPY = 2**24  # bytes that are fetched from an accelerator


def padded_size(n: int) -> int:
    """The least of few sizes that n rows fit in."""
    if n <= _LEAST_ROWS:
        return _LEAST_ROWS
    return _rounded(n, next((number for most, number in _STEPS if n <= most), _FINEST))


def padded_sizes(n: int, t: int) -> tuple[int, int]:
    """The least of few numbers of sequences, and of steps, that n sequences of t steps fit in.

    They are powers of two if all steps are few. Otherwise steps grow by a quarter at most: one axis
    alone has 4 sizes from one power of two to the next, of two axes each has 8.
    """
    number = 1 if n * t <= _FEW_STEPS else 4 if min(n, t) == 1 else 8
    return _rounded(n, number), _rounded(t, number)


def _rounded(n: int, number: int) -> int:
    """The least of `number` sizes from one power of two to the next that n fits in."""
    step = max(1, (1 << max(n - 1, 1).bit_length() - 1) // number)
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

    Sequences also get more steps, and so do values (n, t, ...) of n sequences of t steps. All is as
    it was if it cannot be padded.
    """
    n = batch.weight.shape[0]
    if not n or not can_pad(batch) or not is_concrete(by_row):
        return batch, by_row
    size, t = _sizes(batch)
    if by_row is not None:
        if batch.steps is not None and np.shape(by_row)[:2] == batch.steps.shape:
            by_row = longer(by_row, t, axis=1)
        by_row = longer(by_row, size)
    return _padded(batch, size, t), by_row


def pad_to(batch: Batch, size: int) -> Batch:
    """Concrete rows with others of weight 0 at their end, up to `size` rows."""
    return _padded(batch, size, _steps(batch))


def _sizes(batch: Batch) -> tuple[int, int]:
    """The numbers of rows and of steps, 0 of rows, that the batch is padded to."""
    n = batch.weight.shape[0]
    return (padded_size(n), 0) if batch.steps is None else padded_sizes(*batch.steps.shape)


def longer(value: Any, size: int, axis: int = 0) -> Any:
    """Values of rows (n, ...) with copies of the first at their end, up to `size` rows."""
    host = fetched(value)
    if host.shape[axis] == size:
        return value
    first = host[:1] if axis == 0 else host[:, :1]
    shape = list(host.shape)
    shape[axis] = size - shape[axis]
    return _placed(np.concatenate([host, np.broadcast_to(first, shape)], axis), value)


def first_rows(tree: Any, n: int) -> Any:
    """The first n rows of concrete arrays (m, ...), cut on the host where that costs nothing."""
    return jax.tree.map(lambda a: _first(a, n, 0), tree)


def _first(a: jax.Array, size: int, axis: int) -> jax.Array:
    if a.shape[axis] == size:
        return a
    if not on_cpu(platform_of(a)):
        return jax.lax.slice_in_dim(a, 0, size, axis=axis)  # moves no index to the device
    host = fetched(a)
    return jax.device_put(
        host[:size] if axis == 0 else host[:, :size], a.sharding if a.committed else None
    )


@functools.cache
def compiled(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a module as one compiled program, for what is read off a fit."""
    return jax.jit(fn)


def read_rows(fn: Callable[..., Any], batch: Batch, *args: Any) -> Any:
    """`fn(*args, batch)`, arrays with rows leading, by programs of few sizes in bounded memory.

    `fn` must look at each row by itself. It is called once if anything is traced. Of sequences, an
    array is cut to t steps if it is (n, t, ...) by `by_step`.
    """
    n, program = batch.weight.shape[0], compiled(fn)
    if not can_pad(batch) or not is_concrete(*jax.tree.leaves(args)):
        return program(*args, batch)
    piece, cut, t = _PIECE, None, 0
    if batch.steps is not None:
        t, padded = batch.steps.shape[1], _sizes(batch)[1]
        batch, piece = _padded(batch, n, padded), max(1, _PIECE // padded)
        if padded > t:
            cut = by_step(program, _cut(batch, 0, 1), *args)
    parts = []
    for first in range(0, n, piece):
        size = min(piece, n - first)
        part = _cut(batch, first, size)
        found = program(*args, _padded(part, _sizes(part)[0], _steps(part)))
        if cut is not None:
            found = jax.tree.map(lambda own, a: _first(a, t, 1) if own else a, cut, found)
        parts.append(first_rows(found, size))
    return parts[0] if len(parts) == 1 else jax.tree.map(_join, *parts)


def _steps(batch: Batch) -> int:
    return 0 if batch.steps is None else batch.steps.shape[1]


def by_step(fn: Callable[..., Any], batch: Batch, *args: Any) -> Any:
    """True for each array of `fn(*args, batch)` whose second axis is that of the steps.

    It is longer if sequences have one step more; only shapes are looked at.
    """

    def with_more(*args: Any) -> Any:
        *others, batch = args
        return fn(*others, _one_more_step(batch))

    found, more = (jax.eval_shape(f, *args, batch) for f in (fn, with_more))
    return jax.tree.map(lambda a, b: a.shape[1:2] != b.shape[1:2], found, more)


def _one_more_step(batch: Batch) -> Batch:
    assert batch.steps is not None

    def repeated(a: Any) -> Any:
        return jnp.concatenate([a, a[:, :1]], 1)

    return map_steps(batch, repeated, steps=repeated(batch.steps), as_given=None)


def _join(*arrays: jax.Array) -> jax.Array:
    like = arrays[0]
    whole = np.concatenate([fetched(a) for a in arrays])
    return jax.device_put(whole, like.sharding if like.committed else None)


def _padded(batch: Batch, size: int, t: int = 0) -> Batch:
    """The batch with this number of rows, and of steps if they are sequences."""
    n = batch.weight.shape[0]
    if t != _steps(batch):
        batch = with_steps(batch, t)
    if size == n:
        return batch
    weight = np.zeros(size, batch.weight.dtype)
    weight[:n] = fetched(batch.weight)
    more = batch.map_rows(lambda a: longer(a, size))
    return replace(more, weight=_placed(weight, batch.weight))


def with_steps(batch: Batch, t: int) -> Batch:
    """The batch with steps that do not exist at the end of sequences, up to t."""
    assert batch.steps is not None
    n, present = batch.steps.shape
    steps = np.zeros((n, t), batch.steps.dtype)
    steps[:, :present] = fetched(batch.steps)
    given = batch.as_given
    own: dict[str, Any] = {"as_given": None if given is None else with_steps(given, t)}
    own["steps"] = _placed(steps, batch.steps)
    if batch.label is not None:
        label = np.full((n, t), -1, batch.label.dtype)
        label[:, :present] = fetched(batch.label)
        own["label"] = _placed(label, batch.label)
    return map_steps(batch, lambda a: longer(a, t, axis=1), **own)


def _cut(batch: Batch, first: int, size: int) -> Batch:
    if size == batch.weight.shape[0]:
        return batch
    return batch.map_rows(lambda a: _placed(fetched(a)[first : first + size], a))


def _placed(host: np.ndarray, like: Any) -> Any:
    """The array on the device of `like`; on the host if that is there."""
    if not isinstance(like, jax.Array):
        return host
    return jax.device_put(host, like.sharding if like.committed or guarded() else None)
