"""Multivariate normal distribution of a vector, conjugate to regression weights and to means."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .._pytree import gauge, pytree, replace
from ..data.host import standard
from ..exponential_family import ExponentialFamily
from ..numerics import linalg, special
from ..numerics.broadcasting import broadcasts


@pytree
class MultivariateNormalMoments:
    """E[mu] and Cov[mu]; the covariance is 0 at a point."""

    mean: Float[Array, "*b d"]
    covariance: Float[Array, "*b d d"]


@pytree
class MultivariateNormal(ExponentialFamily):
    """mu ~ N(m, precision^-1), written about `origin` c with shift = precision (m - c).

    T(mu) = (-(mu - c)(mu - c)^T / 2, mu - c), h = 1.
    """

    precision: Float[Array, "*b d d"]
    shift: Float[Array, "*b d"]
    origin: Float[Array, "*b d"] = gauge()

    @classmethod
    def from_standard(cls, mean: Any, precision: Any) -> MultivariateNormal:
        """Normal with mean (*b, d) in data units and positive definite precision (*b, d, d)."""
        precision, mean = standard(precision=(precision, 2), mean=(mean, 1))
        return cls(precision, jnp.zeros_like(mean), mean)

    def about(self, like: Any) -> MultivariateNormal:
        move = linalg.matmul(self.precision, (like.origin - self.origin)[..., None])[..., 0]
        return replace(self, shift=self.shift - move, origin=like.origin)

    @property
    def _chol(self) -> Float[Array, "*b d d"]:
        return linalg.chol(self.precision)

    @property
    def _offset(self) -> Float[Array, "*b d"]:
        return linalg.matmul(self.covariance, self.shift[..., None])[..., 0]

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """E[mu]."""
        return self.origin + self._offset

    @property
    def covariance(self) -> Float[Array, "*b d d"]:
        """Cov[mu]."""
        return linalg.precision_from_chol(self._chol)

    @property
    def variance(self) -> Float[Array, "*b d"]:
        """Var[mu_i] of each entry."""
        return linalg.diagonal(self.covariance)

    @property
    def sd(self) -> Float[Array, "*b d"]:
        """Standard deviation of each entry of mu."""
        return jnp.sqrt(self.variance)

    @property
    def dim(self) -> int:
        """Number of entries d."""
        return self.shift.shape[-1]

    def log_normalizer(self) -> Float[Array, "*b"]:
        """(shift^T precision^-1 shift + d log(2 pi) - log|precision|) / 2, in nats."""
        chol = self._chol
        root = linalg.tri_solve_vector(chol, self.shift)
        return 0.5 * (jnp.sum(root**2, -1) + self.dim * special.LOG_2PI - linalg.logdet(chol))

    def expectation(self) -> MultivariateNormal:
        """-E[(mu - c)(mu - c)^T] / 2 = -(Cov[mu] + (m - c)(m - c)^T) / 2, and E[mu] - c = m - c."""
        offset = self._offset
        square = self.covariance + linalg.outer(offset, offset)
        return MultivariateNormal(-0.5 * square, offset, self.origin)

    def moments(self) -> MultivariateNormalMoments:
        return MultivariateNormalMoments(self.mean, self.covariance)

    def point(self) -> MultivariateNormalMoments:
        return MultivariateNormalMoments(self.mean, jnp.zeros_like(self.precision))

    def mode(self) -> Float[Array, "*b d"]:
        return self.mean

    def log_kernel(self, moments: MultivariateNormalMoments) -> Float[Array, "*b"]:
        return self.expected_log_prob(moments)

    def kernel_gap(self, moments: MultivariateNormalMoments) -> Float[Array, "*b"]:
        """(mu - m)^T precision (mu - m) / 2, in nats."""
        distance = (moments.mean - self.origin) - self._offset
        root = jnp.sum(self._chol * distance[..., :, None], -2)
        return 0.5 * jnp.sum(root**2, -1)

    def expected_log_prob(self, moments: MultivariateNormalMoments) -> Float[Array, "*b"]:
        trace = jnp.sum(self.precision * moments.covariance, (-2, -1))
        log_det = linalg.logdet(self._chol) - self.dim * special.LOG_2PI
        return 0.5 * (log_det - trace) - self.kernel_gap(moments)

    def kl(self, prior: MultivariateNormal) -> Float[Array, "*b"]:
        """[stein_loss(P0 P^-1) + (m - m0)^T P0 (m - m0)] / 2 in nats, for precisions P and P0.

        stein_loss(M) = tr(M) - d - log|M|.
        """
        chol = prior._chol
        ratio = linalg.tri_solve(self._chol, chol)
        distance = (self.origin - prior.origin) + (self._offset - prior._offset)
        root = jnp.sum(chol * distance[..., :, None], -2)
        return 0.5 * (linalg.stein_loss(ratio) + jnp.sum(root**2, -1))

    def entropy(self) -> Float[Array, "*b"]:
        return 0.5 * (self.dim * (1.0 + special.LOG_2PI) - linalg.logdet(self._chol))

    @broadcasts
    def log_prob(self, value: Float[Array, "*s d"]) -> Float[Array, "..."]:
        point = jnp.zeros((*value.shape, self.dim), value.dtype)
        return self.expected_log_prob(MultivariateNormalMoments(value, point))

    @broadcasts
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*s d"]:
        noise = jax.random.normal(key, (*shape, *self.shift.shape), self.shift.dtype)
        root = linalg.tri_inverse(self._chol)
        return self.mean + jnp.sum(root * noise[..., :, None], -2)
