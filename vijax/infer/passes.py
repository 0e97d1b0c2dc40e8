"""One pass over the rows, whole or in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._pytree import replace
from ..batch import Batch
from ..model import Expected
from ..numerics import sums

# floats held at once by the automatic chunk: in cache on a CPU, enough to fill a GPU
_CPU_FLOATS = 2**20
_DEVICE_FLOATS = 2**26


def expect(
    model: Any, moments: Any, batch: Batch, chunk: int | None = None
) -> tuple[Any, Float[Array, ""]]:
    """The model's local step over all rows: statistics, and the rows' part of the bound."""

    def local(part: Batch) -> tuple[Any, Array]:
        e: Expected = model.local(moments, part)
        return e.stats, jnp.sum(jnp.where(part.weight > 0, part.weight * e.log_z, 0.0))

    return accumulate(local, batch, chunk or automatic_chunk(model.row_size(batch)))


def accumulate(
    fn: Callable[[Any], tuple[Any, Array]], rows: Any, chunk: int
) -> tuple[Any, Float[Array, ""]]:
    """Sum `fn`, statistics and a number, over chunks of rows, with error terms.

    `rows` is a pytree with rows leading. Chunks are slices of the arrays as they are; the last
    one overlaps its neighbour, and its Batch has weight 0 where it repeats rows.
    """
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
    zero = _zeros_like_result(fn)
    return zero, zero


def add(carry: Any, new: tuple[Any, Array]) -> Any:
    """One chunk more, statistics and a number; what rounding loses is kept beside them."""
    (stats, value), (lost_stats, lost_value) = carry
    new_stats, new_value = new
    # `new` first: its gauge is the one in use, the initial zeros have none
    error = new_stats.map(sums.rounding_error, stats) + lost_stats
    lost_value = lost_value + sums.rounding_error(value, new_value)
    return (new_stats + stats, value + new_value), (error, lost_value)


def total(carry: Any) -> tuple[Any, Float[Array, ""]]:
    """The statistics and the number."""
    (stats, value), (lost_stats, lost_value) = carry
    return stats + lost_stats, value + lost_value


def map_rows(fn: Callable[[Any], Array], rows: Any, chunk: int) -> Float[Array, "n ..."]:
    """`fn` of the rows, a chunk at a time: one value, or array, for each."""
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


def _zeros_like_result(fn: Callable[[], Any]) -> Any:
    structures = []

    def leaves() -> list[Array]:
        found, structure = jax.tree.flatten(fn())
        structures.append(structure)
        return found

    shapes = jax.eval_shape(leaves)
    return jax.tree.unflatten(structures[0], [jnp.zeros(s.shape, s.dtype) for s in shapes])


def _cut(rows: Any, first: Array, chunk: int, here: Array) -> Any:
    """`chunk` rows from `first` on, with weight 0 where they are not `here`."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Batch):
            part = leaf.cut(first, chunk)
            return replace(part, weight=jnp.where(here, part.weight, 0.0))
        return lax.dynamic_slice_in_dim(leaf, first, chunk)

    return jax.tree.map(one, rows, is_leaf=lambda leaf: isinstance(leaf, Batch))


def automatic_chunk(row_size: int) -> int:
    """Rows at once such that the local step's arrays stay in cache, or fill a GPU."""
    floats = _CPU_FLOATS if jax.default_backend() == "cpu" else _DEVICE_FLOATS
    return max(256, floats // row_size)
