"""One pass over the rows: the E-step of every row, summed in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float

from ..._pytree import replace
from ...data.batch import Batch
from ...data.shards import axis_of, num_shards, on_cpu, row_specs
from ...kernel import Kernel
from ...model import ConditionalModel, Model
from ...numerics import compensated
from ..method import FullPassMethod
from ..result import State

_T = TypeVar("_T")

# bytes of an automatic chunk: on a CPU they stay in cache, on a GPU they keep it busy
_CPU_BYTES = 2**23
_DEVICE_BYTES = 2**28
# a CPU adds the rows of a chunk one after another: more would lose digits of float32
_CPU_ROWS = 8192


class Pass(NamedTuple):
    """The sums of one pass over the rows.

    `stats` are the expected sufficient statistics, and `log_z` is sum_n w_n log Z_n in nats, so
    that ELBO = log_z - KL(q || p). `floor` is the part of KL(q || last), in nats per unit of row
    weight, that may be rounding of `stats`.
    """

    stats: Any
    log_z: Float[Array, ""]
    floor: Float[Array, ""]


def expect(model: ConditionalModel, moments: Any, batch: Batch, chunk: int | None = None) -> Pass:
    """E-step over all rows, by the fastest kernel that is reliable for them."""

    def e_step(part: Batch, model: ConditionalModel, moments: Any) -> tuple[Any, Array]:
        e = model.local(moments, part)
        return e.stats, jnp.sum(jnp.where(part.weight > 0, part.weight * e.log_z, 0.0))

    def with_kernel(kernel: Kernel) -> tuple[Any, Array]:
        rows = chunk or automatic_chunk(kernel.row_size, batch)
        rows = rows if model.by_row else batch.weight.shape[0]
        return accumulate(e_step, batch, rows, model, kernel.moments)

    def with_first_reliable(kernels: Sequence[Kernel]) -> tuple[Any, Array]:
        first, *others = kernels
        if not others:
            return with_kernel(first)
        return lax.cond(
            first.reliable, lambda: with_kernel(first), lambda: with_first_reliable(others)
        )

    kernels = model.kernels(moments, batch)
    stats, log_z = with_first_reliable(kernels)
    return Pass(stats, log_z, _floor(kernels, log_z))


def full_pass(method: FullPassMethod, model: ConditionalModel, state: State, batch: Batch) -> State:
    """A step of a method that needs only the sums of one pass over all rows."""
    stats, log_z, floor = expect(model, method.moments(state.next_q), batch, method.chunk)
    new = method.conclude(model, state, stats, log_z)
    return floored(new, floor * jnp.sum(batch.weight))


def has_fast_kernels(model: Model, batch: Batch) -> bool:
    """Whether the model has kernels besides the exact one for such rows."""
    if not isinstance(model, ConditionalModel):
        return False
    return constant_of(lambda m, b: len(m.kernels(m.template.moments(), b)) > 1, model, batch)


def constant_of(fn: Callable[..., _T], *args: Any) -> _T:
    """`fn(*args)` where it depends on shapes alone: found by tracing, so nothing is computed."""
    found: list[_T] = []
    jax.eval_shape(lambda *args: found.append(fn(*args)), *args)
    return found[0]


def zeros_like_result(fn: Callable[[], Any]) -> Any:
    """Zeros with the structure and shapes of `fn()`, which is traced but not run."""
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(fn))


# -- rounding -------------------------------------------------------------------------------------


def rounding_floor(model: ConditionalModel, moments: Any, batch: Batch) -> Float[Array, ""]:
    """Rounding floor of KL(q || last) after a pass over these rows, in nats per unit of weight.

    It is 0.5 err^2 for a relative error `err` of the statistics.
    """
    return _floor(model.kernels(moments, batch), jnp.sum(batch.weight))


def _floor(kernels: tuple[Kernel, ...], like: Float[Array, ""]) -> Float[Array, ""]:
    """The floor of the first reliable kernel; the last kernel is exact and has none."""
    floor = jnp.zeros_like(like)
    for kernel in kernels[-2::-1]:
        floor = jnp.where(kernel.reliable, 0.5 * kernel.error**2, floor)
    return floor


def floored(state: State, floor: Float[Array, ""]) -> State:
    """The state with an improvement of at most `floor` nats, which is rounding, set to zero."""
    kept = jnp.where(state.improvement > floor, state.improvement, 0.0)
    return replace(state, improvement=kept)


# -- sums over chunks -----------------------------------------------------------------------------


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

        def step(carry: Any, start: Array) -> tuple[Any, None]:
            return add(carry, of_chunk(start)), None

        zero = empty_sum(lambda: of_chunk(jnp.asarray(0)))
        return total(lax.scan(step, zero, jnp.arange(0, n, chunk))[0])

    sharding = _sharding(rows)
    if sharding is None:
        return sum_chunks(rows, *args)
    axis = axis_of(sharding)

    def sum_devices(rows: Any, *args: Any) -> tuple[Any, Array]:
        stats, value = sum_chunks(rows, *args)
        return stats.psum(axis), lax.psum(value, axis)

    return _on_devices(sum_devices, sharding, PartitionSpec(), rows, *args)


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


def map_rows(fn: Callable[..., Array], rows: Any, chunk: int, *args: Any) -> Float[Array, "n ..."]:
    """`fn(rows, *args)`, one value or array per row, computed in chunks of rows."""

    def map_chunks(rows: Any, *args: Any) -> Array:
        n = jax.tree.leaves(rows)[0].shape[0]
        if n <= 2 * chunk:
            return fn(rows, *args)

        def of_chunk(first: Array) -> Array:
            return fn(_cut(rows, first, chunk, jnp.ones(chunk, bool)), *args)

        def step(out: Array, start: Array) -> tuple[Array, None]:
            first = jnp.minimum(start, n - chunk)
            return lax.dynamic_update_slice_in_dim(out, of_chunk(first), first, 0), None

        shape = jax.eval_shape(of_chunk, jnp.asarray(0))
        zero = jnp.zeros((n, *shape.shape[1:]), shape.dtype)
        return lax.scan(step, zero, jnp.arange(0, n, chunk))[0]

    sharding = _sharding(rows)
    if sharding is None:
        return map_chunks(rows, *args)
    return _on_devices(map_chunks, sharding, sharding.spec, rows, *args)


def automatic_chunk(row_size: int, batch: Batch) -> int:
    """Number of rows whose E-step stays in cache on a CPU, or keeps an accelerator busy.

    `row_size` is the number of floats that an E-step holds per row.
    """
    size = row_size * jnp.dtype(batch.weight.dtype).itemsize
    if on_cpu(batch.platform):
        return min(max(256, _CPU_BYTES // size), _CPU_ROWS)
    return max(256, _DEVICE_BYTES // size)


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
    fn: Callable[..., Any], sharding: NamedSharding, out: PartitionSpec, rows: Any, *args: Any
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
