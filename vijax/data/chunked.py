"""Rows in chunks of bounded memory: sums over them, and values of each row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float

from .._pytree import replace
from ..numerics import compensated
from ..numerics.chunked import fold_chunks, zeros_like_result
from .batch import Batch
from .shards import axis_of, num_shards, on_cpu, row_specs

# bytes of an automatic chunk: on a CPU they stay in cache, on a GPU they keep it busy
_CPU_BYTES = 2**23
_DEVICE_BYTES = 2**28
# a CPU adds the rows of a chunk one after another: more would lose digits of float32
_CPU_ROWS = 8192
_LEAST_ROWS = 256
_LEAST_FLOATS = 2**18  # of sequences


def accumulate(
    fn: Callable[..., tuple[Any, Array]], rows: Any, chunk: int, *args: Any
) -> tuple[Any, Float[Array, "..."]]:
    """Sum `fn(rows, *args)`, which gives statistics and numbers, over chunks of rows.

    `rows` is a pytree of arrays and Batches with rows leading. If their number is no multiple of
    `chunk`, the last chunk overlaps the one before, with weight 0 for the repeated rows. The sums
    carry their rounding errors along, as in `add`. If rows are spread over devices, each device
    sums the chunks of its own rows, and only sums travel. Other arrays that `fn` reads must be in
    `args`, not in its closure.
    """

    def sum_chunks(rows: Any, *args: Any) -> tuple[Any, Array]:
        n = jax.tree.leaves(rows)[0].shape[0]
        if n <= 2 * chunk:
            return fn(rows, *args)

        def of_chunk(start: Array) -> tuple[Any, Array]:
            first = jnp.minimum(start, n - chunk)
            return fn(_cut(rows, first, chunk, first + jnp.arange(chunk) >= start), *args)

        def step(carry: Any, start: Array) -> Any:
            return add(carry, of_chunk(start))

        zero = empty_sum(lambda: of_chunk(jnp.asarray(0)))
        return total(fold_chunks(step, zero, n, chunk))

    sharding = _sharding(rows)
    if sharding is None:
        return sum_chunks(rows, *args)
    axis = axis_of(sharding)

    def sum_devices(rows: Any, *args: Any) -> tuple[Any, Array]:
        stats, value = sum_chunks(rows, *args)
        return stats.psum(axis), lax.psum(value, axis)

    return _on_devices(sum_devices, sharding, PartitionSpec(), rows, *args)


def accumulate_and_map(
    fn: Callable[..., tuple[Any, Array, Any]], rows: Any, chunk: int, *args: Any
) -> tuple[Any, Float[Array, "..."], Any]:
    """As `accumulate`, for an `fn` with a third value: a pytree with rows leading, for each row."""

    def of_chunks(rows: Any, *args: Any) -> tuple[Any, Array, Any]:
        n = jax.tree.leaves(rows)[0].shape[0]
        if n <= 2 * chunk:
            return fn(rows, *args)

        def of_chunk(start: Array) -> tuple[Array, tuple[Any, Array, Any]]:
            first = jnp.minimum(start, n - chunk)
            return first, fn(_cut(rows, first, chunk, first + jnp.arange(chunk) >= start), *args)

        def step(carry: Any, start: Array) -> Any:
            sums, out = carry
            first, (stats, value, own) = of_chunk(start)
            return add(sums, (stats, value)), _put(out, own, first)

        shapes = jax.eval_shape(of_chunk, jnp.asarray(0))[1][2]
        out = jax.tree.map(lambda a: jnp.zeros((n, *a.shape[1:]), a.dtype), shapes)
        zero = empty_sum(lambda: of_chunk(jnp.asarray(0))[1][:2])
        sums, out = fold_chunks(step, (zero, out), n, chunk)
        return *total(sums), out

    sharding = _sharding(rows)
    if sharding is None:
        return of_chunks(rows, *args)
    axis = axis_of(sharding)

    def on_devices(rows: Any, *args: Any) -> tuple[Any, Array, Any]:
        stats, value, out = of_chunks(rows, *args)
        return stats.psum(axis), lax.psum(value, axis), out

    specs = PartitionSpec(), PartitionSpec(), sharding.spec
    return _on_devices(on_devices, sharding, specs, rows, *args)


def _put(out: Any, part: Any, first: Array) -> Any:
    """The arrays of `out` with those of `part` from row `first` on."""

    def put(a: Array, new: Array) -> Array:
        return lax.dynamic_update_slice_in_dim(a, new, first, 0)

    return jax.tree.map(put, out, part)


def empty_sum(fn: Callable[[], tuple[Any, Array]]) -> Any:
    """The running sum before the first chunk, for an `fn` that gives statistics and a number."""
    zero = zeros_like_result(fn)
    return zero, zero


def add(carry: Any, new: tuple[Any, Array]) -> Any:
    """The running sum with one more chunk: statistics and a number, with their rounding errors."""
    (stats, value), (lost_stats, lost_value) = carry
    new_stats, new_value = new
    # `new` first: its origin is the one in use, the initial zeros have none
    error = new_stats.map(compensated.rounding_error, stats) + lost_stats
    lost_value = lost_value + compensated.rounding_error(value, new_value)
    return (new_stats + stats, value + new_value), (error, lost_value)


def total(carry: Any) -> tuple[Any, Float[Array, "..."]]:
    """The statistics and the number of a running sum, corrected by their rounding errors."""
    (stats, value), (lost_stats, lost_value) = carry
    return stats + lost_stats, value + lost_value


def map_rows(fn: Callable[..., Any], rows: Any, chunk: int, *args: Any) -> Any:
    """`fn(rows, *args)`, a pytree of arrays with rows leading, computed in chunks of rows.

    Rows are as for `accumulate`, and so are `args`.
    """

    def map_chunks(rows: Any, *args: Any) -> Any:
        n = jax.tree.leaves(rows)[0].shape[0]
        if n <= 2 * chunk:
            return fn(rows, *args)

        def of_chunk(first: Array) -> Any:
            return fn(_cut(rows, first, chunk, jnp.ones(chunk, bool)), *args)

        def step(out: Any, start: Array) -> Any:
            first = jnp.minimum(start, n - chunk)
            return _put(out, of_chunk(first), first)

        shapes = jax.eval_shape(of_chunk, jnp.asarray(0))
        zero = jax.tree.map(lambda a: jnp.zeros((n, *a.shape[1:]), a.dtype), shapes)
        return fold_chunks(step, zero, n, chunk)

    sharding = _sharding(rows)
    if sharding is None:
        return map_chunks(rows, *args)
    return _on_devices(map_chunks, sharding, sharding.spec, rows, *args)


def automatic_chunk(row_size: int, batch: Batch, lanes: int = 1) -> int:
    """Number of rows whose E-step stays in cache on a CPU, or keeps an accelerator busy.

    `row_size` is the number of floats that an E-step holds per row; an accelerator divides its
    memory among `lanes` of them. There are 256 rows at least; of sequences, which may be long, as
    many as have 2^18 floats if these are fewer.
    """
    size = row_size * jnp.dtype(batch.weight.dtype).itemsize
    least = _LEAST_ROWS
    if batch.steps is not None:
        least = min(least, max(1, _LEAST_FLOATS // row_size))
    if on_cpu(batch.platform):
        return min(max(least, _CPU_BYTES // size), _CPU_ROWS)
    return max(least, _DEVICE_BYTES // size // lanes)


def _is_batch(part: Any) -> bool:
    return isinstance(part, Batch)


def _cut(rows: Any, first: Array, chunk: int, present: Bool[Array, "m"]) -> Any:
    """`chunk` rows from `first` on, with weight 0 where they are not `present`."""

    def cut(leaf: Any) -> Any:
        if isinstance(leaf, Batch):
            part = leaf.cut(first, chunk)
            return replace(part, weight=jnp.where(present, part.weight, 0.0))
        return lax.dynamic_slice_in_dim(leaf, first, chunk)

    return jax.tree.map(cut, rows, is_leaf=_is_batch)


def _sharding(rows: Any) -> NamedSharding | None:
    """The sharding of the Batch among `rows`; None if it has none, or is not divided evenly."""
    for part in jax.tree.leaves(rows, is_leaf=_is_batch):
        if _is_batch(part) and part.sharding is not None:
            even = part.weight.shape[0] % num_shards(part.sharding) == 0
            return part.sharding if even else None
    return None


def _on_devices(
    fn: Callable[..., Any], sharding: NamedSharding, out: Any, rows: Any, *args: Any
) -> Any:
    """`fn(rows, *args)` on every device, with the rows that it holds."""

    def local(part: Any) -> Any:
        return replace(part, sharding=None) if _is_batch(part) else part

    def on_device(rows: Any, *args: Any) -> Any:
        return fn(jax.tree.map(local, rows, is_leaf=_is_batch), *args)

    specs = row_specs(rows, sharding, whole="patterns"), *[PartitionSpec()] * len(args)
    mapped = jax.shard_map(
        on_device, mesh=sharding.mesh, in_specs=specs, out_specs=out, check_vma=False
    )
    return mapped(rows, *args)
