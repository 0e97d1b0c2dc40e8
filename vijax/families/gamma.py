"""Gamma distribution of rates and precisions, conjugate to Poisson and exponential rows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .._pytree import pytree
from ..data.host import check_bound, standard
from ..exponential_family import ExponentialFamily
from ..numerics import special
from ..numerics.broadcasting import broadcasts
from ..numerics.kl_terms import KLTerms


@pytree
class GammaMoments:
    """E[tau] and E[log tau], or tau and log tau at a point."""

    mean: Float[Array, "*b"]
    e_log: Float[Array, "*b"]


@pytree
class Gamma(ExponentialFamily):
    """tau ~ Gamma(shape a, rate b), with density b^a tau^(a-1) exp(-b tau) / Gamma(a).

    T(tau) = (log tau, -tau), h(tau) = 1 / tau.
    """

    shape: Float[Array, "*b"]
    rate: Float[Array, "*b"]

    @classmethod
    def from_standard(cls, shape: Any, rate: Any) -> Gamma:
        """Gamma with shape a > 0 and rate b > 0, in units of 1 / tau."""
        check_bound("shape", shape, above=0.0)
        check_bound("rate", rate, above=0.0)
        return cls(*standard(shape=(shape, 0), rate=(rate, 0)))

    @property
    def mean(self) -> Float[Array, "*b"]:
        """E[tau] = a / b."""
        return self.shape / self.rate

    @property
    def variance(self) -> Float[Array, "*b"]:
        """Var[tau] = a / b^2."""
        return self.mean / self.rate

    @property
    def sd(self) -> Float[Array, "*b"]:
        """Standard deviation of tau."""
        return jnp.sqrt(self.shape) / self.rate

    def log_normalizer(self) -> Float[Array, "*b"]:
        """log Gamma(a) - a log b, in nats, by `special.log_gamma_normalizer`."""
        return special.log_gamma_normalizer(self.shape, self.rate)

    def expectation(self) -> Gamma:
        """E[log tau] = digamma(a) - log b = log(a / b) - digamma_gap(a), and -E[tau] = -a / b."""
        return Gamma(jnp.log(self.mean) - special.digamma_gap(self.shape), -self.mean)

    def moments(self) -> GammaMoments:
        return GammaMoments(self.mean, self.expectation().shape)

    def point(self) -> GammaMoments:
        """tau = a / b."""
        return GammaMoments(self.mean, jnp.log(self.mean))

    def mode(self) -> Float[Array, "*b"]:
        """tau = (a - 1) / b; NaN unless a >= 1."""
        return jnp.where(self.shape >= 1.0, self.shape - 1.0, jnp.nan) / self.rate

    def _log(self, moments: GammaMoments, base: float) -> Float[Array, "*b"]:
        power = special.xlogy(self.shape - base, moments.e_log)
        return power - self.rate * moments.mean - self.log_normalizer()

    def log_kernel(self, moments: GammaMoments) -> Float[Array, "*b"]:
        """a E[log tau] - b E[tau] - A in nats, the expected log of Gamma(tau | a, b) tau."""
        return self._log(moments, 0.0)

    def kernel_gap(self, moments: GammaMoments) -> Float[Array, "*b"]:
        """a excess(tau b / a) in nats, with excess(u) = u - 1 - log u."""
        return self.shape * special.excess(moments.mean / self.mean)

    def expected_log_prob(self, moments: GammaMoments) -> Float[Array, "*b"]:
        """(a - 1) E[log tau] - b E[tau] - A in nats."""
        return self._log(moments, 1.0)

    def kl(self, prior: Gamma) -> Float[Array, "*b"]:
        return self.kl_terms(prior).total()

    def kl_terms(self, prior: Gamma) -> KLTerms:
        """(a - a0) digamma(a) + log(Gamma(a0) / Gamma(a)) + a0 log(b / b0) + a (b0 - b) / b.

        Arranged as a0 excess(E[tau] / E0[tau]) + shape_gap(a, a0), both non-negative.
        """
        ratio, shape = self.mean / prior.mean, self.shape[..., None]
        parts = ratio[..., None], prior.shape[..., None], shape, prior.shape[..., None]
        return KLTerms(*parts, jnp.ones_like(shape), shape[..., :0])

    def entropy(self) -> Float[Array, "*b"]:
        """a - log b + log Gamma(a) + (1 - a) digamma(a), in nats."""
        a = self.shape
        scale = 0.5 * jnp.log(a) - jnp.log(self.rate) + 0.5 * special.LOG_2PI
        return scale + special.stirling_error(a) + (a - 1.0) * special.digamma_gap(a)

    @broadcasts
    def log_prob(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.expected_log_prob(GammaMoments(value, jnp.log(value)))

    @broadcasts
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        return (
            jax.random.gamma(key, self.shape, (*shape, *self.shape.shape), self.shape.dtype)
            / self.rate
        )
