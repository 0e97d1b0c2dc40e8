"""Wishart distribution of a precision matrix as a conjugate family of its own."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .._pytree import pytree
from ..data.host import check_bound, standard
from ..exponential_family import ExponentialFamily
from ..numerics import linalg
from ..numerics.broadcasting import broadcasts
from .wishart import Wishart


@pytree
class PrecisionMatrixMoments:
    """E[Lambda] and E[log|Lambda|], or both at a point."""

    mean: Float[Array, "*b d d"]
    e_logdet: Float[Array, "*b"]


@pytree
class PrecisionMatrix(ExponentialFamily):
    """Lambda ~ Wishart(scatter^-1, df), with E[Lambda] = df scatter^-1 and df > d - 1.

    T(Lambda) = (log|Lambda| / 2, -Lambda / 2), h(Lambda) = |Lambda|^(-(d + 1) / 2).
    """

    df: Float[Array, "*b"]
    scatter: Float[Array, "*b d d"]

    @classmethod
    def from_standard(cls, df: Any, scatter: Any) -> PrecisionMatrix:
        """Wishart with degrees of freedom (*b) > d - 1 and positive definite scatter (*b, d, d)."""
        df, scatter = standard(df=(df, 0), scatter=(scatter, 2))
        check_bound("df", df, above=scatter.shape[-1] - 1.0)
        return cls(df, scatter)

    @property
    def _wishart(self) -> Wishart:
        return Wishart(self.df, linalg.chol(self.scatter))

    @property
    def dim(self) -> int:
        """Number of rows d of Lambda."""
        return self.scatter.shape[-1]

    @property
    def mean(self) -> Float[Array, "*b d d"]:
        """E[Lambda] = df scatter^-1."""
        return self._wishart.mean

    @property
    def sd(self) -> Float[Array, "*b d d"]:
        """Standard deviation of each entry of Lambda."""
        return self._wishart.sd

    def log_normalizer(self) -> Float[Array, "*b"]:
        return self._wishart.log_normalizer()

    def expectation(self) -> PrecisionMatrix:
        """E[log|Lambda|] / 2 and -E[Lambda] / 2."""
        moments = self.moments()
        return PrecisionMatrix(0.5 * moments.e_logdet, -0.5 * moments.mean)

    def moments(self) -> PrecisionMatrixMoments:
        wishart = self._wishart
        return PrecisionMatrixMoments(wishart.mean, wishart.e_logdet())

    def point(self) -> PrecisionMatrixMoments:
        """Lambda = df scatter^-1."""
        wishart = self._wishart
        log_det = self.dim * jnp.log(self.df) - linalg.logdet(wishart.chol)
        return PrecisionMatrixMoments(wishart.mean, log_det)

    def mode(self) -> Float[Array, "*b d d"]:
        """(df - d - 1) scatter^-1; NaN unless df >= d + 1."""
        free = self.df - self.dim - 1.0
        return self.mean * (jnp.where(free >= 0, free, jnp.nan) / self.df)[..., None, None]

    def _log(self, moments: PrecisionMatrixMoments, base: float) -> Float[Array, "*b"]:
        trace = jnp.sum(self.scatter * moments.mean, (-2, -1))
        return 0.5 * ((self.df - base) * moments.e_logdet - trace) - self.log_normalizer()

    def log_kernel(self, moments: PrecisionMatrixMoments) -> Float[Array, "*b"]:
        return self._log(moments, 0.0)

    def kernel_gap(self, moments: PrecisionMatrixMoments) -> Float[Array, "*b"]:
        """df stein_loss(Lambda E[Lambda]^-1) / 2 in nats."""
        ratio = linalg.matmul(linalg.chol(self.scatter).mT, linalg.chol(moments.mean))
        log_ratio = linalg.logdet(linalg.chol(self.scatter)) + moments.e_logdet
        log_ratio = log_ratio - self.dim * jnp.log(self.df)
        trace = jnp.sum(ratio**2, (-2, -1)) / self.df
        return 0.5 * self.df * (trace - self.dim - log_ratio)

    def expected_log_prob(self, moments: PrecisionMatrixMoments) -> Float[Array, "*b"]:
        return self._log(moments, self.dim + 1.0)

    def kl(self, prior: PrecisionMatrix) -> Float[Array, "*b"]:
        return self._wishart.kl(prior._wishart)

    def entropy(self) -> Float[Array, "*b"]:
        return self._wishart.entropy()

    @broadcasts
    def log_prob(self, value: Float[Array, "*s d d"]) -> Float[Array, "..."]:
        log_det = linalg.logdet(linalg.chol(value))
        return self.expected_log_prob(PrecisionMatrixMoments(value, log_det))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*s d d"]:
        return self._wishart.sample(key, shape)[0]
