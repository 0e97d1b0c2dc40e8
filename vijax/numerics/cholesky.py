"""Cholesky factors and triangular solves of stacks of matrices, in plain array operations.

LAPACK is not used: its batched kernel waits inside the thread pool that it runs in, so two calls
in one program deadlock on two cores (jaxlib 0.10.2, 16 matrices of size 64). This code is faster
than LAPACK up to d = 4 and takes three times as long at d = 64, a small part of a whole fit. It is
as accurate: the textbook recurrences are backward stable (Higham 2002, theorems 8.5 and 10.3).
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

_ROUNDING = 4.0  # times eps and a diagonal entry: what a difference of that size is known to
_BLOCK = 4  # loops are unrolled up to this size (with 8, fits run no faster and compile longer)


def matmul(a: Float[Array, "*a m d"], b: Float[Array, "*b d n"]) -> Float[Array, "*c m n"]:
    """a @ b in full precision, never in TF32 or bfloat16 passes."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def chol(a: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    """Lower L with L L^T = (a + a^T) / 2; its diagonal has NaN if that is not positive definite.

    A squared pivot that is lost in the rounding of its diagonal entry counts as that rounding: of a
    cluster with one row a million standard deviations off, float32 knows no more.
    """
    a = 0.5 * (a + a.mT)
    d = a.shape[-1]
    return _chol_small(a, _diagonal(a)) if d <= _BLOCK else _chol_blocked(_pad(a))[..., :d, :d]


def resolved(low: Float[Array, "*b d d"], a: Float[Array, "*b d d"]) -> Bool[Array, "*b d"]:
    """Which squared pivots of L = `chol(a)` are more than the rounding of their diagonal entry."""
    rounding = _ROUNDING * jnp.finfo(low.dtype).eps * _diagonal(a)
    return _diagonal(low) ** 2 > 2.0 * rounding


def tri_solve(chol: Float[Array, "*b d d"], rhs: Float[Array, "*b d n"]) -> Float[Array, "*b d n"]:
    """L^-1 rhs for the lower-triangular L = `chol`, by forward substitution."""
    d = chol.shape[-1]
    if d <= _BLOCK:
        return _solve_small(chol, rhs)
    rows = [(0, 0)] * (rhs.ndim - 2) + [(0, -d % _BLOCK), (0, 0)]
    return _solve_blocked(_pad(chol), jnp.pad(rhs, rows))[..., :d, :]


def _chol_small(a: Float[Array, "*b d d"], size: Float[Array, "*b d"]) -> Float[Array, "*b d d"]:
    """The factor, one column after the other, with loops unrolled.

    `size` is the diagonal before anything was subtracted from it.
    """
    d = a.shape[-1]
    columns: list[Array] = []
    for j in range(d):
        residual = a[..., j:, j]
        for i, done in enumerate(columns):
            residual = residual - done[..., j - i :] * done[..., j - i, None]
        root = jnp.sqrt(_pivot(residual[..., :1], size[..., j, None]))
        columns.append(jnp.concatenate([root, residual[..., 1:] / root], -1))
    full = [jnp.pad(c, [(0, 0)] * (c.ndim - 1) + [(j, 0)]) for j, c in enumerate(columns)]
    return jnp.stack(full, -1)


def _diagonal(a: Float[Array, "*b d d"]) -> Float[Array, "*b d"]:
    return jnp.diagonal(a, axis1=-2, axis2=-1)


def _pivot(value: Float[Array, "*b"], diagonal: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """A squared pivot, or the rounding of its diagonal entry where no more of it is known."""
    least = _ROUNDING * jnp.finfo(value.dtype).eps * diagonal
    return jnp.where(jnp.abs(value) <= least, least, value)


def _solve_small(
    low: Float[Array, "*b d d"], rhs: Float[Array, "*b d n"]
) -> Float[Array, "*b d n"]:
    """The solution, one row after the other, with loops unrolled."""
    rows: list[Array] = []
    for j in range(low.shape[-1]):
        residual = rhs[..., j, :]
        for i, done in enumerate(rows):
            residual = residual - low[..., j, i, None] * done
        rows.append(residual / low[..., j, j, None])
    return jnp.stack(rows, -2)


def _chol_blocked(a: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    """The factor, one block of columns after the other.

    Each step subtracts the finished columns, factors the diagonal block, and solves for the rows
    below it.
    """
    row = jnp.arange(a.shape[-1])[:, None]

    def step(block: Array, low: Array) -> Array:
        start = block * _BLOCK
        done = lax.dynamic_slice_in_dim(low, start, _BLOCK, -2)
        residual = lax.dynamic_slice_in_dim(a, start, _BLOCK, -1) - matmul(low, done.mT)
        size = lax.dynamic_slice_in_dim(_diagonal(a), start, _BLOCK, -1)
        corner = _chol_small(lax.dynamic_slice_in_dim(residual, start, _BLOCK, -2), size)
        below = jnp.where(row >= start + _BLOCK, _solve_small(corner, residual.mT).mT, 0.0)
        columns = lax.dynamic_update_slice_in_dim(below, corner, start, -2)
        return lax.dynamic_update_slice_in_dim(low, columns, start, -1)

    return lax.fori_loop(0, a.shape[-1] // _BLOCK, step, jnp.zeros_like(a))


def _solve_blocked(
    low: Float[Array, "*b d d"], rhs: Float[Array, "*b d n"]
) -> Float[Array, "*b d n"]:
    """The solution, one block of rows after the other; rows still to come are zero."""

    def step(block: Array, x: Array) -> Array:
        start = block * _BLOCK
        rows = lax.dynamic_slice_in_dim(low, start, _BLOCK, -2)
        residual = lax.dynamic_slice_in_dim(rhs, start, _BLOCK, -2) - matmul(rows, x)
        corner = lax.dynamic_slice_in_dim(rows, start, _BLOCK, -1)
        return lax.dynamic_update_slice_in_dim(x, _solve_small(corner, residual), start, -2)

    batch = jnp.broadcast_shapes(low.shape[:-2], rhs.shape[:-2])
    start = jnp.zeros((*batch, *rhs.shape[-2:]), rhs.dtype)
    return lax.fori_loop(0, low.shape[-1] // _BLOCK, step, start)


def _pad(a: Float[Array, "*b d d"]) -> Float[Array, "*b e e"]:
    """Append rows and columns of the identity, up to a whole number of blocks."""
    d = a.shape[-1]
    extra = -d % _BLOCK
    a = jnp.pad(a, [(0, 0)] * (a.ndim - 2) + [(0, extra)] * 2)
    return a + jnp.diag(jnp.where(jnp.arange(d + extra) < d, 0.0, 1.0).astype(a.dtype))
