"""Cholesky factors and triangular solves of stacks of matrices, in plain array operations.

Not LAPACK: its batched kernel waits inside the thread pool that it needs, so that two of them in
one program deadlock a machine with two cores (seen with jaxlib 0.10.2: 16 matrices of size 64).
Up to four columns it is also faster; for 64 it takes three times as long, little of a whole fit.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_BLOCK = 4  # up to this size, loops are unrolled (with 8, fits run no faster and compile longer)


def matmul(a: Float[Array, "*a m d"], b: Float[Array, "*b d n"]) -> Float[Array, "*c m n"]:
    """a @ b, never in TF32 or bfloat16 passes."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def chol(a: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    """Lower Cholesky factor of the symmetric part; NaN where it is not positive definite."""
    a = 0.5 * (a + a.mT)
    d = a.shape[-1]
    return _chol_small(a) if d <= _BLOCK else _chol_blocked(_pad(a))[..., :d, :d]


def tri_solve(chol: Float[Array, "*b d d"], rhs: Float[Array, "*b d n"]) -> Float[Array, "*b d n"]:
    """L^-1 rhs for lower-triangular L."""
    d = chol.shape[-1]
    if d <= _BLOCK:
        return _solve_small(chol, rhs)
    rows = [(0, 0)] * (rhs.ndim - 2) + [(0, -d % _BLOCK), (0, 0)]
    return _solve_blocked(_pad(chol), jnp.pad(rhs, rows))[..., :d, :]


def _chol_small(a: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    """Column by column."""
    d = a.shape[-1]
    columns: list[Array] = []
    for j in range(d):
        rest = a[..., j:, j]
        for i, done in enumerate(columns):
            rest = rest - done[..., j - i :] * done[..., j - i, None]
        columns.append(rest / jnp.sqrt(rest[..., :1]))
    full = [jnp.pad(c, [(0, 0)] * (c.ndim - 1) + [(j, 0)]) for j, c in enumerate(columns)]
    return jnp.stack(full, -1)


def _solve_small(
    low: Float[Array, "*b d d"], rhs: Float[Array, "*b d n"]
) -> Float[Array, "*b d n"]:
    """Row by row."""
    rows: list[Array] = []
    for j in range(low.shape[-1]):
        rest = rhs[..., j, :]
        for i, done in enumerate(rows):
            rest = rest - low[..., j, i, None] * done
        rows.append(rest / low[..., j, j, None])
    return jnp.stack(rows, -2)


def _chol_blocked(a: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    """A block of columns at a time: what is left of it, its own factor, and the rows below."""
    row = jnp.arange(a.shape[-1])[:, None]

    def step(block: Array, low: Array) -> Array:
        start = block * _BLOCK
        done = lax.dynamic_slice_in_dim(low, start, _BLOCK, -2)
        left = lax.dynamic_slice_in_dim(a, start, _BLOCK, -1) - matmul(low, done.mT)
        own = _chol_small(lax.dynamic_slice_in_dim(left, start, _BLOCK, -2))
        below = jnp.where(row >= start + _BLOCK, _solve_small(own, left.mT).mT, 0.0)
        columns = lax.dynamic_update_slice_in_dim(below, own, start, -2)
        return lax.dynamic_update_slice_in_dim(low, columns, start, -1)

    return lax.fori_loop(0, a.shape[-1] // _BLOCK, step, jnp.zeros_like(a))


def _solve_blocked(
    low: Float[Array, "*b d d"], rhs: Float[Array, "*b d n"]
) -> Float[Array, "*b d n"]:
    """A block of rows at a time; rows not reached yet are zero."""

    def step(block: Array, x: Array) -> Array:
        start = block * _BLOCK
        done = lax.dynamic_slice_in_dim(low, start, _BLOCK, -2)
        left = lax.dynamic_slice_in_dim(rhs, start, _BLOCK, -2) - matmul(done, x)
        own = lax.dynamic_slice_in_dim(done, start, _BLOCK, -1)
        return lax.dynamic_update_slice_in_dim(x, _solve_small(own, left), start, -2)

    batch = jnp.broadcast_shapes(low.shape[:-2], rhs.shape[:-2])
    start = jnp.zeros((*batch, *rhs.shape[-2:]), rhs.dtype)
    return lax.fori_loop(0, low.shape[-1] // _BLOCK, step, start)


def _pad(a: Float[Array, "*b d d"]) -> Float[Array, "*b e e"]:
    """With the identity, to a whole number of blocks."""
    d = a.shape[-1]
    more = -d % _BLOCK
    a = jnp.pad(a, [(0, 0)] * (a.ndim - 2) + [(0, more)] * 2)
    return a + jnp.diag(jnp.where(jnp.arange(d + more) < d, 0.0, 1.0).astype(a.dtype))
