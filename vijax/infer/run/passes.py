"""One pass over the rows, whole or in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from ..._pytree import replace
from ...data.batch import Batch
from ...data.shards import axis_of, num_shards, on_cpu, row_specs
from ...kernel import Kernel
from ...model import ConditionalModel, EStep
from ...numerics import compensated
from ..method import FullPassMethod
from ..result import State

# bytes held at once by the automatic chunk: in cache on a CPU, enough to fill a GPU
_CPU_BYTES = 2**23
_DEVICE_BYTES = 2**28
# a CPU adds the rows of a chunk one after another: more would lose digits of float32
_CPU_ROWS = 8192


class Pass(NamedTuple):
    """What one pass over the rows adds up to.

    `stats` are expected sufficient statistics, `log_z` is sum_n w_n log Z_n in nats. `floor` is
    the part of KL(q || last) in nats, for each unit of weight, that may be rounding of `stats`.
    """

    stats: Any
    log_z: Float[Array, ""]
    floor: Float[Array, ""]


def expect(model: ConditionalModel, moments: Any, batch: Batch, chunk: int | None = None) -> Pass:
    """Local step over all rows, by the fastest kernel that is reliable for them."""

    def one(kernel: Kernel) -> tuple[Any, Array]:
        def local(part: Batch, model: ConditionalModel, moments: Any) -> tuple[Any, Array]:
            e: EStep = model.local(moments, part)
            return e.stats, jnp.sum(jnp.where(part.weight > 0, part.weight * e.log_z, 0.0))

        rows = chunk or automatic_chunk(kernel.row_size, batch)
        return accumulate(local, batch, rows, model, kernel.moments)

    def best(kernels: tuple[Kernel, ...]) -> tuple[Any, Array]:
        first, *others = kernels
        if not others:
            return one(first)
        return lax.cond(first.reliable, lambda: one(first), lambda: best(tuple(others)))

    kernels = model.kernels(moments, batch)
    stats, log_z = best(kernels)
    return Pass(stats, log_z, _floor(kernels, log_z))


def full_pass(method: FullPassMethod, model: ConditionalModel, state: State, batch: Batch) -> State:
    """A step of a method that concludes from one pass over all rows."""
    stats, log_z, floor = expect(model, method.moments(state.next_q), batch, method.chunk)
    new = method.conclude(model, state, stats, log_z)
    return floored(new, floor * jnp.sum(batch.weight))


def num_kernels(model: ConditionalModel, batch: Batch) -> int:
    """How many kernels the model has for such rows."""
    found = []

    def look(model: ConditionalModel, batch: Batch) -> None:
        found.append(len(model.kernels(model.template.moments(), batch)))

    jax.eval_shape(look, model, batch)
    return found[0]


def rounding_floor(model: ConditionalModel, moments: Any, batch: Batch) -> Float[Array, ""]:
    """`Pass.floor` of a pass over these rows."""
    return _floor(model.kernels(moments, batch), jnp.sum(batch.weight))


def _floor(kernels: tuple[Kernel, ...], like: Float[Array, ""]) -> Float[Array, ""]:
    """The floor of the first kernel that is reliable; the last one, which is exact, has none."""
    floor = jnp.zeros_like(like)
    for kernel in kernels[-2::-1]:
        floor = jnp.where(kernel.reliable, 0.5 * kernel.error**2, floor)
    return floor


def floored(state: State, floor: Float[Array, ""]) -> State:
    """The state after a pass; an improvement of at most `floor` nats is rounding, and so none."""
    kept = jnp.where(state.improvement > floor, state.improvement, 0.0)
    return replace(state, improvement=kept)


def accumulate(
    fn: Callable[..., tuple[Any, Array]], rows: Any, chunk: int, *given: Any
) -> tuple[Any, Float[Array, ""]]:
    """Sum `fn(rows, *given)`, statistics and a number, over chunks of rows, with error terms.

    `rows` is a pytree with rows leading. Chunks are slices of the arrays as they are; the last
    one overlaps its neighbour, and its Batch has weight 0 where it repeats rows. Where rows are
    spread over devices, each takes the chunks of its own; what they add up to is all that moves.
    Arrays that `fn` needs beside the rows are `given`, for it is called on every device.
    """
    sharding = _sharding(rows)
    if sharding is None:
        return _accumulate(lambda part: fn(part, *given), rows, chunk)
    axis = axis_of(sharding)

    def own(rows: Any, *given: Any) -> tuple[Any, Array]:
        stats, value = _accumulate(lambda part: fn(part, *given), rows, chunk)
        return stats.psum(axis), lax.psum(value, axis)

    return _on_each(own, sharding, PartitionSpec())(rows, *given)


def _accumulate(
    fn: Callable[[Any], tuple[Any, Array]], rows: Any, chunk: int
) -> tuple[Any, Float[Array, ""]]:
    n = jax.tree.leaves(rows)[0].shape[0]
    if n <= 2 * chunk:
        return fn(rows)

    def part(start: Array) -> Any:
        first = jnp.minimum(start, n - chunk)
        here = first + jnp.arange(chunk) >= start
        return _cut(rows, first, chunk, here)

    zero = nothing(lambda: fn(part(jnp.asarray(0))))

    def step(carry: Any, start: Array) -> tuple[Any, None]:
        return add(carry, fn(part(start))), None

    return total(lax.scan(step, zero, jnp.arange(0, n, chunk))[0])


def nothing(fn: Callable[[], tuple[Any, Array]]) -> Any:
    """The sum, with its error term, of no chunks; of the form of what `fn` gives."""
    zero = zeros_like_result(fn)
    return zero, zero


def add(carry: Any, new: tuple[Any, Array]) -> Any:
    """One chunk more, statistics and a number; what rounding loses is kept beside them."""
    (stats, value), (lost_stats, lost_value) = carry
    new_stats, new_value = new
    # `new` first: its gauge is the one in use, the initial zeros have none
    error = new_stats.map(compensated.rounding_error, stats) + lost_stats
    lost_value = lost_value + compensated.rounding_error(value, new_value)
    return (new_stats + stats, value + new_value), (error, lost_value)


def total(carry: Any) -> tuple[Any, Float[Array, ""]]:
    """The statistics and the number."""
    (stats, value), (lost_stats, lost_value) = carry
    return stats + lost_stats, value + lost_value


def map_rows(fn: Callable[..., Array], rows: Any, chunk: int, *given: Any) -> Float[Array, "n ..."]:
    """`fn(rows, *given)`, a chunk of rows at a time: one value, or array, for each."""

    def own(rows: Any, *given: Any) -> Array:
        return _map_rows(lambda part: fn(part, *given), rows, chunk)

    sharding = _sharding(rows)
    if sharding is None:
        return own(rows, *given)
    return _on_each(own, sharding, sharding.spec)(rows, *given)


def _map_rows(fn: Callable[[Any], Array], rows: Any, chunk: int) -> Float[Array, "n ..."]:
    n = jax.tree.leaves(rows)[0].shape[0]
    if n <= 2 * chunk:
        return fn(rows)

    def part(first: Array) -> Array:
        return fn(_cut(rows, first, chunk, jnp.ones(chunk, bool)))

    shape = jax.eval_shape(part, jnp.asarray(0))

    def step(out: Array, start: Array) -> tuple[Array, None]:
        first = jnp.minimum(start, n - chunk)
        return lax.dynamic_update_slice_in_dim(out, part(first), first, 0), None

    zero = jnp.zeros((n, *shape.shape[1:]), shape.dtype)
    return lax.scan(step, zero, jnp.arange(0, n, chunk))[0]


def zeros_like_result(fn: Callable[[], Any]) -> Any:
    """What `fn` gives, of zeros, without running it."""
    structures = []

    def leaves() -> list[Array]:
        found, structure = jax.tree.flatten(fn())
        structures.append(structure)
        return found

    shapes = jax.eval_shape(leaves)
    return jax.tree.unflatten(structures[0], [jnp.zeros(s.shape, s.dtype) for s in shapes])


def _is_batch(part: Any) -> bool:
    return isinstance(part, Batch)


def _sharding(rows: Any) -> NamedSharding | None:
    """How the Batch among `rows` is spread over devices; None if it is not, or no longer evenly."""
    for part in jax.tree.leaves(rows, is_leaf=_is_batch):
        if _is_batch(part) and part.sharding is not None:
            even = part.weight.shape[0] % num_shards(part.sharding) == 0
            return part.sharding if even else None
    return None


def _on_each(fn: Callable[..., Any], sharding: NamedSharding, out: Any) -> Callable[..., Any]:
    """`fn(rows, *given)` on every device, with the rows that it holds."""

    def own(rows: Any, *given: Any) -> Any:
        def here(part: Any) -> Any:
            return replace(part, sharding=None) if _is_batch(part) else part

        return fn(jax.tree.map(here, rows, is_leaf=_is_batch), *given)

    def run(rows: Any, *given: Any) -> Any:
        specs = row_specs(rows, sharding, whole="patterns"), *[PartitionSpec()] * len(given)
        each = jax.shard_map(
            own, mesh=sharding.mesh, in_specs=specs, out_specs=out, check_vma=False
        )
        return each(rows, *given)

    return run


def _cut(rows: Any, first: Array, chunk: int, here: Array) -> Any:
    """`chunk` rows from `first` on, with weight 0 where they are not `here`."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Batch):
            part = leaf.cut(first, chunk)
            return replace(part, weight=jnp.where(here, part.weight, 0.0))
        return lax.dynamic_slice_in_dim(leaf, first, chunk)

    return jax.tree.map(one, rows, is_leaf=lambda leaf: isinstance(leaf, Batch))


def automatic_chunk(row_size: int, batch: Batch) -> int:
    """Rows at once such that the arrays of a local step stay in cache, or fill an accelerator.

    `row_size` is the number of floats that it holds per row.
    """
    size = row_size * jnp.dtype(batch.weight.dtype).itemsize
    if on_cpu(batch.platform):
        return min(max(256, _CPU_BYTES // size), _CPU_ROWS)
    return max(256, _DEVICE_BYTES // size)
