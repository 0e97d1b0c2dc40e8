"""The curvature of a normal q's objective on fixed draws, and what it says of the covariance.

Around q, u = location + C (m + (I + B) z) with B symmetric and of the structure of C: all of it,
its blocks, or its diagonal. Minus the second derivative in (m, B) at 0 of

    mean_s log p(u_s) + log |I + B|

is  mean_s W_s^T K_s W_s + P,  with K_s = -C^T Hess log p(u_s) C, W_s (m, B) = m + B z_s, and P the
identity for B and 0 for m. In m it is about I for a q of full covariance. The covariance by linear
response is C [curvature^-1]_mm C^T. Each of the three functions also says whether the curvature is
positive definite, and takes `at_once`, the number of draws whose log densities of all rows may be
in memory together.

Hessians of s draws cost d products each. Conjugate gradients cost that in every iteration, so they
take the Hessians, too, unless their s d^2 numbers are too many.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..guides.roots import SquareRoot
from ..guides.transformed_normal import TransformedNormal
from ..infer.run.conjugate_gradients import conjugate_gradients
from ..numerics import linalg
from ..numerics.matched_draws import map_draws, mean_draws

LogDensity = Callable[[Float[Array, "d"]], Float[Array, ""]]
Found = tuple[Float[Array, "d d"], Bool[Array, ""]]

_LARGEST_DENSE = 20  # parameters, up to which the curvature is a matrix for any structure
_FLOATS = 2**24  # numbers in memory together
_ROUNDING = 0.1  # at most, of a curvature of 1
_LOST = 32.0  # times eps and the diagonal: a squared pivot that is known to some 10 %
_PRODUCTS = 500  # at most, and one for each parameter


def response_covariance(
    log_density: LogDensity, q: TransformedNormal, z: Float[Array, "s d"], at_once: int
) -> Found:
    """The covariance of u by linear response, by what costs least for the structure and size."""
    if stretches_of(q).diagonal:
        return diagonal_response(log_density, q, z, at_once)
    if z.shape[1] <= _LARGEST_DENSE:
        return dense_response(log_density, q, z, at_once)
    return iterative_response(log_density, q, z, at_once, hessians=z.size * z.shape[1] <= _FLOATS)


class Stretches:
    """Symmetric matrices B of the structure of a root, by coefficients of an orthonormal basis."""

    def __init__(self, root: SquareRoot):
        self.size = root.noise_size
        self.row, self.column = root.free_entries
        self.diagonal = bool(np.all(self.row == self.column))
        self.scale = np.where(self.row == self.column, 0.5, np.sqrt(0.5))

    def apply(self, b: Float[Array, "q"], z: Float[Array, "s d"]) -> Float[Array, "s d"]:
        """B z for each z."""
        if self.diagonal:
            return b * z
        half = jnp.zeros((self.size, self.size), b.dtype)
        half = half.at[self.row, self.column].set(b * self.scale.astype(b.dtype))
        return linalg.matmul(z, half + half.T)

    def pull(self, k: Float[Array, "s d"], z: Float[Array, "s d"]) -> Float[Array, "q"]:
        """The b with b . b' = mean_s k_s^T B' z_s for all B'."""
        if self.diagonal:
            return jnp.mean(k * z, 0)
        outer = linalg.matmul(k.T, z) / z.shape[0]
        return (outer + outer.T)[self.row, self.column] * self.scale.astype(z.dtype)

    def matrices(self, z: Float[Array, "s d"]) -> Float[Array, "s d q"]:
        """The matrices M_s with M_s b = B z_s."""
        i, j, number = self.row, self.column, np.arange(len(self.row))
        scale = self.scale.astype(z.dtype)
        empty = jnp.zeros((*z.shape, len(number)), z.dtype)
        return empty.at[:, i, number].add(z[:, j] * scale).at[:, j, number].add(z[:, i] * scale)


def stretches_of(q: TransformedNormal) -> Stretches:
    """The B of this q."""
    assert isinstance(q.root, SquareRoot)  # the arguments have been checked
    return Stretches(q.root)


def diagonal_response(
    log_density: LogDensity, q: TransformedNormal, z: Float[Array, "s d"], at_once: int
) -> Found:
    """For independent coordinates, of which m and B have 2 d numbers."""
    d = z.shape[1]
    hessian = jax.hessian(log_density)

    def of_draw(draw: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        u, z = draw
        k = -q.root.pull(q.root.pull(hessian(u)).T)
        return k, k * z, k * z * z[:, None]

    few = max(1, min(at_once // d, _FLOATS // (3 * d * d)))
    mm, mb, bb = mean_draws(of_draw, (q.at(z), z), few)
    eye = jnp.eye(d, dtype=z.dtype)
    return _solved(jnp.block([[bb + eye, mb.T], [mb, mm]]), q)


def dense_response(
    log_density: LogDensity, q: TransformedNormal, z: Float[Array, "s d"], at_once: int
) -> Found:
    """For few parameters and any structure."""
    d = z.shape[1]
    b = stretches_of(q).matrices(z)
    eye = jnp.eye(d, dtype=z.dtype)
    w = jnp.concatenate([b, jnp.broadcast_to(eye, (*b.shape[:2], d))], -1)
    flat, first = w.reshape(-1, w.shape[-1]), b.shape[-1]
    k, known = _whitened_hessians(log_density, q, z, at_once)
    image = linalg.matmul(k, w)
    curvature = linalg.matmul(flat.T, image.reshape(flat.shape)) / z.shape[0]
    own = (jnp.arange(first + d) < first).astype(z.dtype)
    covariance, good = _solved(curvature + jnp.diag(own), q)
    return covariance, good & known


def _solved(curvature: Float[Array, "p p"], q: TransformedNormal) -> Found:
    """The covariance from the curvature of (B, m), in this order."""
    d = q.location.shape[0]
    low = linalg.chol(curvature)
    lost = _LOST * jnp.finfo(low.dtype).eps * jnp.diagonal(curvature)
    good = jnp.all(jnp.diagonal(low) ** 2 > lost) & jnp.all(jnp.isfinite(low))
    # the last block of a factor is that of the Schur complement
    half = linalg.tri_solve(low[-d:, -d:], q.root.apply(jnp.eye(d, dtype=low.dtype)))
    return linalg.matmul(half.T, half), good


def _whitened_hessians(
    log_density: LogDensity, q: TransformedNormal, z: Float[Array, "s d"], at_once: int
) -> tuple[Float[Array, "s d d"], Bool[Array, ""]]:
    """K of all draws, and whether more of it is known than the rounding of C^T H C.

    It should be about I, while that is eps |C|^T |H| |C|: eps times the condition number.
    """
    hessians = map_draws(jax.hessian(log_density), q.at(z), max(1, at_once // z.shape[1]))
    k = -q.root.pull(q.root.pull(hessians).mT)
    absolute = jax.tree.map(jnp.abs, q.root)
    size = absolute.pull(absolute.pull(jnp.mean(jnp.abs(hessians), 0)).T)
    return k, jnp.finfo(z.dtype).eps * jnp.max(jnp.diagonal(size)) < _ROUNDING


def iterative_response(
    log_density: LogDensity,
    q: TransformedNormal,
    z: Float[Array, "s d"],
    at_once: int,
    *,
    hessians: bool,
) -> Found:
    """For many parameters: conjugate gradients, with a right-hand side for each.

    `hessians` has them computed once, else they are known by their products alone. Without
    curvature in a direction that is met, or without convergence, it is not positive definite as far
    as is known.
    """
    root, (s, d) = q.root, z.shape
    stretches, u = stretches_of(q), q.at(z)
    gradient = jax.grad(log_density)
    rhs_at_once = int(np.clip(_FLOATS // (2 * s * d), 1, d))
    k, known = None, jnp.asarray(True)
    if hessians:
        k, known = _whitened_hessians(log_density, q, z, at_once)

    def hessian_product(pair: tuple[Array, Array]) -> Array:
        return jax.jvp(gradient, (pair[0],), (pair[1],))[1]

    def bent(w: Array) -> Array:
        if k is not None:
            return linalg.matmul(k, w[..., None])[..., 0]
        pairs = u, root.apply(w)
        return -root.pull(map_draws(hessian_product, pairs, max(1, at_once // rhs_at_once)))

    def product(v: Array) -> Array:
        m, b = v[:d], v[d:]
        image = bent(m + stretches.apply(b, z))
        return jnp.concatenate([jnp.mean(image, 0), stretches.pull(image, z) + b])

    precondition = _preconditioner(root.pull(map_draws(gradient, u, at_once)), z)

    def solve(rhs: Array) -> tuple[Array, Array]:
        whole = jnp.concatenate([rhs, jnp.zeros(len(stretches.row), rhs.dtype)])
        x, found = conjugate_gradients(product, whole, precondition, d + _PRODUCTS)
        return x[:d], found

    inverse, found = map_draws(solve, jnp.eye(d, dtype=z.dtype), rhs_at_once)
    covariance = root.apply(root.apply(0.5 * (inverse + inverse.T)).T)
    return 0.5 * (covariance + covariance.T), jnp.all(found) & known


def _preconditioner(
    g_draws: Float[Array, "s d"], z: Float[Array, "s d"]
) -> Callable[[Array], Array]:
    """About the inverse of the curvature: of m by Stein's lemma, from gradients, and 1 / 2 of B."""
    s, d = z.shape
    if s // 2 > d:
        a = -linalg.matmul(g_draws.T, z) / s
        w, vectors = jnp.linalg.eigh(0.5 * (a + a.T))
    else:
        w, vectors = -jnp.mean(g_draws * z, 0), None
    limits = jnp.finfo(w.dtype)
    w = jnp.abs(w)
    w = jnp.maximum(w, limits.eps * jnp.max(w) + limits.tiny)

    def precondition(v: Array) -> Array:
        m, b = v[:d], 0.5 * v[d:]
        if vectors is None:
            return jnp.concatenate([m / w, b])
        inner = linalg.matmul(vectors.T, m[:, None]) / w[:, None]
        return jnp.concatenate([linalg.matmul(vectors, inner)[:, 0], b])

    return precondition
