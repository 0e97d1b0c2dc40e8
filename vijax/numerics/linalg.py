"""Small dense linear algebra through Cholesky factors; matrix products in full precision.

Every function works on stacks of matrices. L is a lower Cholesky factor, the argument `chol`.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from . import special
from .cholesky import chol as chol
from .cholesky import matmul as matmul
from .cholesky import resolved as resolved
from .cholesky import tri_solve as tri_solve

_SMALL = 4  # entries are written out up to this size


def outer(a: Float[Array, "*b d"], b: Float[Array, "*b d"]) -> Float[Array, "*b d d"]:
    """a b^T."""
    return a[..., :, None] * b[..., None, :]


def diagonal(a: Float[Array, "*b d d"]) -> Float[Array, "*b d"]:
    """The diagonals of a stack of matrices."""
    d = a.shape[-1]  # a few slices are faster than the gather of jnp.diagonal
    if d > _SMALL:
        return jnp.diagonal(a, axis1=-2, axis2=-1)
    return jnp.stack([a[..., i, i] for i in range(d)], -1)


def sum_last(a: Float[Array, "*b d"]) -> Float[Array, "*b"]:
    """Sum over the last axis; a short one is written out, because XLA ends a loop at every sum."""
    d = a.shape[-1]
    return jnp.sum(a, -1) if d > _SMALL else sum((a[..., i] for i in range(1, d)), start=a[..., 0])


def sum_by_product(a: Float[Array, "*b n"]) -> Float[Array, "*b"]:
    """Sum over the last axis as a product with ones, for long axes.

    XLA puts a plain sum and the operations before it into one scalar loop; before a product they
    are vectorised.
    """
    ones = jnp.ones(a.shape[-1], a.dtype)
    return jnp.matmul(a, ones, precision=lax.Precision.HIGHEST)


def logdet(chol: Float[Array, "*b d d"]) -> Float[Array, "*b"]:
    """log |L L^T|."""
    return 2.0 * sum_last(jnp.log(diagonal(chol)))


def tri_solve_vector(
    chol: Float[Array, "*b d d"], rhs: Float[Array, "*b d"]
) -> Float[Array, "*b d"]:
    """L^-1 rhs for one right-hand side per matrix."""
    return tri_solve(chol, rhs[..., None])[..., 0]


def tri_inverse(chol: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    """L^-1 from d solves: for n >> d right-hand sides, a product with it beats n solves."""
    eye = jnp.broadcast_to(jnp.eye(chol.shape[-1], dtype=chol.dtype), chol.shape)
    return tri_solve(chol, eye)


def precision_from_chol(chol: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    """(L L^T)^-1."""
    root = tri_inverse(chol)
    return matmul(root.mT, root)


def from_chol(chol: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    """L L^T."""
    return matmul(chol, chol.mT)


def lower_root(root: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    """The Cholesky factor of R R^T, R = `root`, which is not formed: its condition is squared."""
    upper = jnp.linalg.qr(root.mT)[1]
    sign = jnp.where(diagonal(upper) < 0, -1.0, 1.0).astype(upper.dtype)
    return (upper * sign[..., None]).mT


def triangle_squares(
    low: Float[Array, "*b d d"],
) -> tuple[Float[Array, "*b d"], Float[Array, "*b"]]:
    """Squares of the diagonal of a lower triangle, and the sum of squares below the diagonal."""
    square, d = low**2, low.shape[-1]
    if d > _SMALL:
        return diagonal(square), jnp.sum(jnp.tril(square, -1), (-2, -1))
    zero = jnp.zeros_like(square[..., 0, 0])
    below = sum((square[..., i, j] for i in range(d) for j in range(i)), start=zero)
    return diagonal(square), below


def stein_loss(ratio: Float[Array, "*b d d"]) -> Float[Array, "*b"]:
    """tr(M) - d - log|M| >= 0 for M = R R^T, from the lower triangle R = `ratio`.

    Computed as sum_i excess(R_ii^2) + sum_{i > j} R_ij^2: accurate where M is close to I too.
    """
    square, below = triangle_squares(ratio)
    return sum_last(special.excess(square)) + below
