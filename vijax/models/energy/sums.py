"""An energy summed over rows, as a function of the moments of the factors.

The energy is affine in the moments of each factor, and so in those of a block of factors of which
no two meet in it. With v_b the moments of block b as a vector, and c_b those of the E-step,

    E(v_1, ..., v_B) = sum_j table[j_1, ..., j_B] prod_b (1, v_b - c_b)[j_b],

so that tables of rows add up, and the gradient by one block is exact at any moments of the others.
The table is the value, the gradients and the mixed derivatives of E at c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..._pytree import gauge, pytree, replace
from ...data.batch import Batch
from ...numerics import linalg


@pytree
class RowSums:
    """The table of an energy in nats, written about `origin`, the moments c_b of every block."""

    table: Float[Array, "..."]
    origin: tuple[Float[Array, "..."], ...] = gauge()

    def about(self, like: RowSums) -> RowSums:
        """The same energy, written about the origin of `like`."""
        table = self.table
        for axis, (old, new) in enumerate(zip(self.origin, like.origin, strict=True)):
            turned = jnp.moveaxis(table, axis, 0)
            turned = turned.at[0].add(jnp.tensordot(new - old, turned[1:], 1))
            table = jnp.moveaxis(turned, 0, axis)
        return replace(self, table=table, origin=like.origin)

    def map(self, op: Callable[..., Any], *others: RowSums) -> RowSums:
        """`op` of the tables, those of `others` moved to the origin of `self` first."""
        tables = [other.about(self).table for other in others]
        return replace(self, table=op(self.table, *tables))

    def __add__(self, other: RowSums) -> RowSums:
        return self.map(jnp.add, other)

    def __mul__(self, factor: Any) -> RowSums:
        return self.map(lambda a: factor * a)

    __rmul__ = __mul__

    def psum(self, axis: str | tuple[str, ...]) -> RowSums:
        """Sum over a mapped axis whose members share one origin."""
        return self.map(lambda a: lax.psum(a, axis))

    def along(self, block: int, moments: list[Array]) -> Float[Array, "e"]:
        """The value and the gradient by one block, at these moments of the other blocks.

        The value is that at the origin of the block.
        """
        table = self.table
        for axis in reversed(range(len(moments))):  # the last axis first: the others keep theirs
            if axis != block:
                move = moments[axis] - self.origin[axis]
                one = jnp.concatenate([jnp.ones_like(move[:1]), move])
                turned = jnp.moveaxis(table, axis, -1)
                table = linalg.matmul(turned, one[:, None])[..., 0]
        return table

    def value(self, moments: list[Array]) -> Float[Array, ""]:
        """The energy in nats at these moments."""
        line = self.along(0, moments)
        return line[0] + jnp.dot(moments[0] - self.origin[0], line[1:])


def tabulate(energy: Callable[..., Array], points: list[Array]) -> RowSums:
    """The table of `energy(*moments)` about these moments of the blocks, each a vector."""
    sizes = [point.size for point in points]
    by_size = sorted(range(len(points)), key=lambda b: sizes[b])  # the largest by one gradient

    def permuted(*moments: Array) -> Array:
        named = dict(zip(by_size, moments, strict=True))
        return energy(*[named[b] for b in range(len(points))])

    table = _expand(permuted, [points[b] for b in by_size])
    table = jnp.transpose(table, [by_size.index(b) for b in range(len(points))])
    return RowSums(table, tuple(points))


def _expand(fn: Callable[..., Array], points: list[Array]) -> Array:
    first, *rest = points
    if not rest:
        value, slope = jax.value_and_grad(fn)(first)
        return jnp.concatenate([value[None], slope])

    def inner(moments: Array) -> Array:
        return _expand(lambda *others: fn(moments, *others), rest)

    slopes = jnp.moveaxis(jax.jacfwd(inner)(first), -1, 0)
    return jnp.concatenate([inner(first)[None], slopes])


@pytree
class WholeData:
    """All rows, in the place of statistics, for an energy that is no sum over rows."""

    batch: Batch
