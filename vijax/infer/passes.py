"""One pass over the rows, whole or in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from .._pytree import pytree
from ..batch import Batch
from ..model import Expected
from ..numerics import sums
from ..numerics.sums import TwoFloat

# floats held at once by the automatic chunk: in cache on a CPU, enough to fill a GPU
_CPU_FLOATS = 2**20
_DEVICE_FLOATS = 2**26


@pytree
class Pass:
    """Statistics, the rows' part of the bound, and the size of that part's rounding errors."""

    stats: Any
    log_z: TwoFloat
    rounding: Float[Array, ""]


def expect(model: Any, moments: Any, batch: Batch, chunk: int | None = None) -> Pass:
    """The model's local step over all rows."""

    def local(part: Batch) -> tuple[Any, TwoFloat, Array]:
        e: Expected = model.local(moments, part)
        rows = jnp.where(part.weight > 0, part.weight * e.log_z, 0.0)
        rows = lax.optimization_barrier(rows)  # or each of the sums below recomputes log_z
        return e.stats, sums.total(rows), jnp.sum(lax.stop_gradient(rows) ** 2)

    stats, log_z, square = accumulate(local, batch, chunk or automatic_chunk(model.row_size()))
    return Pass(stats, log_z, jnp.finfo(square.dtype).eps * jnp.sqrt(square))


def accumulate(
    fn: Callable[[Any], tuple[Any, TwoFloat, Array]], rows: PyTree, chunk: int
) -> tuple[Any, TwoFloat, Array]:
    """Sum `fn` over chunks of rows, with error terms, so that many chunks add like one.

    `rows` is a pytree with rows leading. Chunks are slices of the arrays as they are; the last
    one overlaps its neighbour, and its Batch has weight 0 where it repeats rows.
    """
    n = jax.tree.leaves(rows)[0].shape[0]
    if n <= 2 * chunk:
        return fn(rows)

    def part(start: Array) -> Any:
        first = jnp.minimum(start, n - chunk)
        here = first + jnp.arange(chunk) >= start
        cut = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, first, chunk), rows)
        return _mask(cut, here)

    zero = _zeros_like_result(lambda start: fn(part(start)), jnp.asarray(0))

    def step(carry: Any, start: Array) -> tuple[Any, None]:
        (stats, log_z, square), lost = carry
        new = fn(part(start))
        # `new` first: its gauge is the one in use, the initial zeros have none
        error = new[0].map(sums.rounding_error, stats)
        return ((new[0] + stats, log_z + new[1], square + new[2]), error + lost), None

    (total, lost), _ = lax.scan(step, (zero, zero[0]), jnp.arange(0, n, chunk))
    return total[0] + lost, total[1], total[2]


def _zeros_like_result(fn: Callable[[Array], Any], start: Array) -> Any:
    structures = []

    def leaves(start: Array) -> list[Array]:
        found, structure = jax.tree.flatten(fn(start))
        structures.append(structure)
        return found

    shapes = jax.eval_shape(leaves, start)
    return jax.tree.unflatten(structures[0], [jnp.zeros(s.shape, s.dtype) for s in shapes])


def _mask(rows: Any, here: Array) -> Any:
    def one(leaf: Any) -> Any:
        if isinstance(leaf, Batch):
            return Batch(leaf.x, jnp.where(here, leaf.weight, 0.0))
        return leaf

    return jax.tree.map(one, rows, is_leaf=lambda leaf: isinstance(leaf, Batch))


def automatic_chunk(row_size: int) -> int:
    """Rows at once such that the local step's arrays stay in cache, or fill a GPU."""
    floats = _CPU_FLOATS if jax.default_backend() == "cpu" else _DEVICE_FLOATS
    return max(256, floats // row_size)
