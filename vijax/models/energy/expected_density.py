"""A density that is no affine function of the statistics of one normal factor of an energy.

Its expectation under that factor q(w) is a mean over fixed draws w_s = m + C z_s, where C is the
upper triangular root of the covariance, and so a function of q without noise. Where q is standard
normal, its gradient by m is g, the mean of gradients, and that by C is the upper triangle of the
mean of gradient z^T, which is minus the curvature A (Stein's lemma). In natural coordinates,
precision C^-T A C^-1 and shift C^-T g about m, they are what a conjugate factor has from its
neighbours (Khan & Lin 2017), so that they are added to those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from ..._pytree import pytree, static
from ...exponential_family import Q
from ...families.multivariate_normal import MultivariateNormal, MultivariateNormalMoments
from ...families.normal import Normal
from ...numerics import linalg
from ...numerics.line_search import longest
from ...numerics.matched_draws import antithetic, map_draws, matched, mean_draws

_FEWEST_DRAWS = 64
_FRESH_DRAWS = 2048  # for the bound that a fit returns
_FLOATS = 2**24  # numbers of rows times draws that are in memory together
_FLOOR = 0.05  # no variance grows by more than one over this in a step
_SHORTER, _TRIED = 0.4, 12  # a step that falls is tried again at this share of its length
_SHORT, _SEEN = 0.25, 0.1  # a step is not shorter if it then moves less than `_SEEN`**2 nats:
# it would look like the end of the fit
_ROUNDING = 1e4  # times eps: what an eigenvalue of 0 may be off, relative to the largest
_SLACK = 32.0  # times eps and the objective: nats that are rounding

Member = Normal | MultivariateNormal  # (*b) numbers, or (*b, d) vectors


class Given(NamedTuple):
    """What a density is a function of, besides draws: statistics of the other factors, the rows."""

    m: dict[str, Any]
    rows: Any
    weight: Float[Array, "n"]


@pytree
class ExpectedDensity:
    """E_q[log_density(w, m, rows, weight)] in nats, with draws of the normal factor `name` alone.

    `m` has the expected statistics of the other factors. `num_draws` None is the larger of 64 and
    4 (d + 1) for d numbers in all.
    """

    name: str = static()
    log_density: Callable[..., Any] = static()
    num_draws: int | None = static(default=None)
    seed: int | Int[Array, ""] = 0

    def at(self, w: Array, given: Given) -> Float[Array, ""]:
        """The log density in nats at a value of the factor."""
        m = {name: own for name, own in given.m.items() if name != self.name}
        value = self.log_density(w, m, given.rows, given.weight)
        return jnp.asarray(value, given.weight.dtype)

    def may_complete(self, rest: Q) -> Bool[Array, ""]:
        """Whether all else that the factor sees has no negative precision, but for rounding."""
        precision = _vectors(rest).precision
        w = jnp.linalg.eigvalsh(precision)
        return jnp.all(w >= -_ROUNDING * jnp.finfo(w.dtype).eps * jnp.max(jnp.abs(w)))

    def mean(self, moments: Any, given: Given) -> Float[Array, ""]:
        """The mean over the fixed draws, in nats."""
        return mean_draws(lambda w: self.at(w, given), self._draws(moments), _at_once(given))

    def slope(self, moments: Any, given: Given, name: str) -> dict[str, Array]:
        """The gradient of `mean` by the statistics of another factor."""

        def at(own: Any, w: Array) -> Array:
            return self.at(w, given._replace(m={**given.m, name: own}))

        by_own = jax.grad(at)
        own = given.m[name]
        return mean_draws(lambda w: by_own(own, w), self._draws(moments), _at_once(given))

    def step(self, q: Q, rest: Q, given: Given, share: ArrayLike, rate: ArrayLike) -> Member:
        """A natural-gradient step, shortened until the bound on the fixed draws does not fall.

        `rest` has the natural coordinates of all else that the factor sees, and the density counts
        `share` times. If no step climbs, the shortest one is taken, which the loop sees.
        """
        own, other = _vectors(q), _vectors(rest)
        z = self._noise(own)
        root = _upper_root(own.covariance)
        inverse = _upper_inverse(root)
        draws = self._draws(q.moments())
        density = jax.value_and_grad(lambda w: self.at(w, given))
        values, gradients = map_draws(density, draws, _at_once(given))
        pulled = _times(root.mT, gradients.reshape(z.shape))
        curvature = -_upper_part(_mean_product(pulled, z))
        distance = own.mean - other.origin
        pull = other.shift - _times(other.precision, distance)
        g = _times(root.mT, pull) + share * jnp.mean(pulled, 0)
        whole = linalg.matmul(root.mT, linalg.matmul(other.precision, root)) + share * curvature
        w, vectors = jnp.linalg.eigh(whole)
        spread, along = jnp.maximum(jnp.abs(w), _FLOOR), _times(vectors.mT, g)

        def moved(rho: Array) -> Any:
            lam = 1.0 - rho + rho * spread
            half = linalg.matmul(inverse.mT, vectors * jnp.sqrt(lam)[..., None, :])
            precision = linalg.matmul(half, half.mT)
            step = _times(root, _times(vectors, rho * along / lam))
            shift = _times(precision, distance + step)
            return _like(MultivariateNormal(precision, shift, other.origin), q)

        def bound(new: Member, mean: Array) -> Array:
            return new.dot(rest) + share * mean + jnp.sum(new.entropy())

        now = bound(q, jnp.mean(values))
        slack = _SLACK * jnp.finfo(z.dtype).eps * (jnp.abs(now) + z[0].size)
        nats = jnp.sum(along**2 / spread) + 0.5 * jnp.sum((spread - 1.0) ** 2)
        shortest = jnp.minimum(_SHORT, _SEEN / jnp.sqrt(jnp.maximum(nats, _SEEN**2)))
        lengths = jnp.maximum(_SHORTER ** jnp.arange(_TRIED, dtype=z.dtype), shortest)

        def height(rho: Array) -> Array:
            new = moved(rho)
            return bound(new, self.mean(new.moments(), given))

        return moved(jnp.asarray(rate) * longest(height, lengths, now - slack))

    def fresh(self, q: Q, rest: Q, given: Given) -> tuple[Array, Array]:
        """An unbiased estimate of the expectation in nats, and its standard error.

        It is from other draws than those of the fit. With h, the log density of `rest`, each draw
        gives log p + (h - E[h]) - (log q - E[log q]), which is constant if all is normal.
        """
        own, other = _vectors(q), _vectors(rest)
        mean, root = own.mean, _upper_root(own.covariance)
        z = antithetic(jnp.asarray(self.seed) + 1, _FRESH_DRAWS, mean.size, mean.dtype)
        expected = q.dot(rest)
        shape = q.shift.shape

        def one(z: Array) -> Array:
            w = mean + _times(root, z.reshape(mean.shape))
            off = w - other.origin
            h = jnp.sum(off * (other.shift - 0.5 * _times(other.precision, off)))
            value = self.at(w.reshape(shape), given)
            return value + (h - expected) + 0.5 * (jnp.sum(z**2) - z.size)

        pairs = jnp.mean(map_draws(one, z, _at_once(given)).reshape(2, -1), 0)
        return jnp.mean(pairs), jnp.std(pairs) / jnp.sqrt(jnp.asarray(pairs.size, z.dtype))

    def _noise(self, like: MultivariateNormal) -> Float[Array, "s *b d"]:
        shape, dtype = like.shift.shape, like.shift.dtype
        d = like.shift.size
        size = self.num_draws or max(_FEWEST_DRAWS, 4 * (d + 1))
        return matched(jnp.asarray(self.seed), size, d, dtype).reshape(size, *shape)

    def _draws(self, moments: Any) -> Float[Array, "s ..."]:
        """Values of the factor, from its moments."""
        mean, variance = moments.mean, _covariance(moments)
        own = mean.reshape(variance.shape[:-1])
        z = self._noise(MultivariateNormal(variance, own, own))
        return (own + _times(_upper_root(variance), z)).reshape(z.shape[0], *mean.shape)


def _at_once(given: Given) -> int:
    """The number of draws whose log densities of all rows are in memory together."""
    return max(1, _FLOATS // max(1, given.weight.shape[0]))


# -- numbers as vectors of one entry --------------------------------------------------------------


def _vectors(q: Member) -> MultivariateNormal:
    if isinstance(q, MultivariateNormal):
        return q
    return MultivariateNormal(q.precision[..., None, None], q.shift[..., None], q.origin[..., None])


def _like(q: MultivariateNormal, like: Member) -> Member:
    if isinstance(like, MultivariateNormal):
        return q
    return Normal(q.precision[..., 0, 0], q.shift[..., 0], q.origin[..., 0])


def _covariance(moments: Any) -> Float[Array, "*b d d"]:
    """Of the moments of numbers, or of vectors."""
    if isinstance(moments, MultivariateNormalMoments):
        return moments.covariance
    return moments.variance[..., None, None]


# -- triangles ------------------------------------------------------------------------------------


def _flipped(a: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    return a[..., ::-1, ::-1]


def _upper_root(covariance: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    """The upper triangle C, with a positive diagonal, of C C^T."""
    return _flipped(linalg.chol(_flipped(covariance)))


def _upper_inverse(root: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    return _flipped(linalg.tri_inverse(_flipped(root)))


def _upper_part(a: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    """The symmetric matrix with this upper triangle."""
    return jnp.triu(a) + jnp.triu(a, 1).mT


def _times(matrix: Float[Array, "*b d d"], v: Float[Array, "*c d"]) -> Float[Array, "*c d"]:
    return linalg.matmul(matrix, v[..., None])[..., 0]


def _mean_product(a: Float[Array, "s *b d"], b: Float[Array, "s *b d"]) -> Float[Array, "*b d d"]:
    """mean_s a_s b_s^T."""
    a, b = jnp.moveaxis(a, 0, -1), jnp.moveaxis(b, 0, -2)
    return linalg.matmul(a, b) / b.shape[-2]
