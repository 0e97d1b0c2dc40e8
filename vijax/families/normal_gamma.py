"""Normal-Gamma distribution of a mean and a precision, conjugate to scalar normal rows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from .._pytree import gauge, pytree, replace
from ..data.host import check_bound, standard, to_device
from ..exponential_family import ExponentialFamily
from ..numerics import special
from ..numerics.broadcasting import broadcasts
from ..numerics.kl_terms import KLTerms
from .gamma import Gamma


@pytree
class MeanPrecision:
    """A mean and a precision: a value of Normal-Gamma or Normal-Wishart, or several."""

    mean: Float[Array, "..."]
    precision: Float[Array, "..."]


@pytree
class NormalGammaMoments:
    """Moments of (mu, tau) for scalar normal rows, under q or at a point.

    `origin + shift` is E[mu], `precision` is E[tau], `e_log` is E[log tau], and `spread` is
    E[tau (mu - E[mu])^2], 0 at a point.
    """

    origin: Float[Array, "*b"]
    shift: Float[Array, "*b"]
    precision: Float[Array, "*b"]
    e_log: Float[Array, "*b"]
    spread: Float[Array, "*b"]

    def log_lik(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """E[log N(x | mu, 1 / tau)] in nats; x and the batch broadcast."""
        square = self.precision * ((x - self.origin) - self.shift) ** 2 + self.spread
        return 0.5 * (self.e_log - special.LOG_2PI - square)


@pytree
class NormalGamma(ExponentialFamily):
    """mu | tau ~ N(m, 1 / (kappa tau)) and tau ~ Gamma(shape a, rate b), about `origin` c.

    Coordinates are kappa, shift = kappa (m - c), shape = a, and square = b + kappa (m - c)^2 / 2.
    T = (-tau (mu - c)^2 / 2, tau (mu - c), log tau, -tau), h = tau^(-1/2).
    """

    kappa: Float[Array, "*b"]
    shift: Float[Array, "*b"]
    shape: Float[Array, "*b"]
    square: Float[Array, "*b"]
    origin: Float[Array, "*b"] = gauge()

    @classmethod
    def from_standard(cls, mean: Any, kappa: Any, shape: Any, rate: Any) -> NormalGamma:
        """Prior mean m (data units), kappa > 0 (rows), shape a > 0, rate b > 0 (units squared)."""
        for name, value in {"kappa": kappa, "shape": shape, "rate": rate}.items():
            check_bound(name, value, above=0.0)
        mean, kappa, shape, rate = standard(
            mean=(mean, 0), kappa=(kappa, 0), shape=(shape, 0), rate=(rate, 0)
        )
        zero = to_device(np.zeros(mean.shape, mean.dtype))
        return cls(kappa, zero, shape, rate, mean)

    @classmethod
    def observe(
        cls, x: Float[Array, "n"], weight: Float[Array, "n"], origin: Float[Array, ""]
    ) -> NormalGamma:
        """Weighted sufficient statistics of normal rows about `origin`, best near their mean."""
        z = x - origin
        count = jnp.sum(weight)
        square = 0.5 * jnp.sum(weight * z**2)
        return cls(count, jnp.sum(weight * z), 0.5 * count, square, origin)

    def about(self, like: Any) -> NormalGamma:
        move = like.origin - self.origin
        square = self.square - move * self.shift + 0.5 * self.kappa * move**2
        shift = self.shift - self.kappa * move
        return replace(self, shift=shift, square=square, origin=like.origin)

    @property
    def _offset(self) -> Float[Array, "*b"]:
        return self.shift / self.kappa

    @property
    def mean(self) -> Float[Array, "*b"]:
        """E[mu]."""
        return self.origin + self._offset

    @property
    def rate(self) -> Float[Array, "*b"]:
        """The rate b of tau, in data units squared."""
        return self.square - 0.5 * self.shift * self._offset

    @property
    def mean_variance(self) -> Float[Array, "*b"]:
        """Var[mu] = b / (kappa (a - 1)); NaN unless a > 1."""
        return self.variance / self.kappa

    @property
    def mean_sd(self) -> Float[Array, "*b"]:
        """Standard deviation of mu."""
        return jnp.sqrt(self.mean_variance)

    @property
    def tau(self) -> Gamma:
        """The marginal distribution of tau."""
        return Gamma(self.shape, self.rate)

    @property
    def precision(self) -> Float[Array, "*b"]:
        """E[tau]."""
        return self.tau.mean

    @property
    def precision_sd(self) -> Float[Array, "*b"]:
        """Standard deviation of tau."""
        return self.tau.sd

    @property
    def variance(self) -> Float[Array, "*b"]:
        """E[1 / tau] = b / (a - 1), the expected variance of a row; NaN unless a > 1."""
        return self.rate / jnp.where(self.shape > 1.0, self.shape - 1.0, jnp.nan)

    @property
    def variance_sd(self) -> Float[Array, "*b"]:
        """Standard deviation of 1 / tau; NaN unless a > 2."""
        return self.variance / jnp.sqrt(jnp.where(self.shape > 2.0, self.shape - 2.0, jnp.nan))

    @property
    def _estimates(self) -> dict[str, tuple[Any, Any]]:
        return {"mean": (self.mean, self.mean_sd), "precision": (self.tau.mean, self.tau.sd)}

    def log_normalizer(self) -> Float[Array, "*b"]:
        """log Gamma(a) - a log b + log(2 pi / kappa) / 2, in nats."""
        return self.tau.log_normalizer() + 0.5 * (special.LOG_2PI - jnp.log(self.kappa))

    def expectation(self) -> NormalGamma:
        """-E[tau (mu - c)^2] / 2, E[tau (mu - c)], E[log tau] and -E[tau].

        The first is -(1 / kappa + E[tau] (m - c)^2) / 2 and the second E[tau] (m - c).
        """
        offset, tau = self._offset, self.tau.expectation()
        kappa = -0.5 * (1.0 / self.kappa - tau.rate * offset**2)
        return NormalGamma(kappa, -tau.rate * offset, tau.shape, tau.rate, self.origin)

    def moments(self) -> NormalGammaMoments:
        tau = self.tau.moments()
        return NormalGammaMoments(self.origin, self._offset, tau.mean, tau.e_log, 1.0 / self.kappa)

    def point(self) -> NormalGammaMoments:
        """mu = m, tau = a / b."""
        tau = self.precision
        return NormalGammaMoments(self.origin, self._offset, tau, jnp.log(tau), jnp.zeros_like(tau))

    def mode(self) -> MeanPrecision:
        """mu = m, tau = (a - 1/2) / b; NaN unless a >= 1/2."""
        tau = jnp.where(self.shape >= 0.5, self.shape - 0.5, jnp.nan) / self.rate
        return MeanPrecision(self.mean, tau)

    def log_kernel(self, moments: NormalGammaMoments) -> Float[Array, "*b"]:
        """Expected log of NormalGamma(mu, tau) tau^(1/2) in nats."""
        return self._log(moments, 0.0)

    def kernel_gap(self, moments: NormalGammaMoments) -> Float[Array, "*b"]:
        """a excess(tau b / a) + kappa tau (mu - m)^2 / 2, in nats."""
        distance = (moments.origin - self.origin) + (moments.shift - self._offset)
        shape = self.shape * special.excess(moments.precision / self.precision)
        return shape + 0.5 * self.kappa * moments.precision * distance**2

    def expected_log_prob(self, moments: NormalGammaMoments) -> Float[Array, "*b"]:
        return self._log(moments, 0.5)

    def _log(self, moments: NormalGammaMoments, base: float) -> Float[Array, "*b"]:
        distance = (moments.origin - self.origin) + (moments.shift - self._offset)
        square = 0.5 * self.kappa * (moments.precision * distance**2 + moments.spread)
        power = special.xlogy(self.shape - base, moments.e_log)
        return power - square - self.rate * moments.precision - self.log_normalizer()

    def kl(self, prior: NormalGamma) -> Float[Array, "*b"]:
        return self.kl_terms(prior).total()

    def kl_terms(self, prior: NormalGamma) -> KLTerms:
        """KL of tau, plus [excess(kappa0 / kappa) + kappa0 E[tau] (m - m0)^2] / 2 for mu."""
        distance = (self.origin - prior.origin) + (self._offset - prior._offset)
        square = 0.5 * prior.kappa * (self.precision * distance**2)
        mean = KLTerms.normal(prior.kappa / self.kappa, 1, square)
        return KLTerms.join(self.tau.kl_terms(prior.tau), mean)

    def entropy(self) -> Float[Array, "*b"]:
        e_log = self.tau.moments().e_log
        mean = 0.5 * (1.0 + special.LOG_2PI - jnp.log(self.kappa) - e_log)
        return mean + self.tau.entropy()

    @broadcasts
    def log_prob(self, value: MeanPrecision) -> Float[Array, "..."]:
        mean, tau = jnp.broadcast_arrays(value.mean, value.precision)
        origin = jnp.broadcast_to(self.origin, jnp.broadcast_shapes(mean.shape, self.origin.shape))
        zero = jnp.zeros_like(tau)
        return self.expected_log_prob(
            NormalGammaMoments(origin, mean - origin, tau, jnp.log(tau), zero)
        )

    @broadcasts
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> MeanPrecision:
        k_tau, k_mean = jax.random.split(key)
        tau = self.tau.sample(k_tau, shape)
        noise = jax.random.normal(k_mean, tau.shape, tau.dtype)
        return MeanPrecision(self.mean + noise / jnp.sqrt(self.kappa * tau), tau)
