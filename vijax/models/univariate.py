"""A normal with unknown mean and precision: exactly, and by mean field (Bishop 2006, 10.1.3)."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from .._pytree import pytree
from .._text import estimates
from ..data.batch import Batch
from ..data.host import as_floats, check_bound
from ..exponential_family import Product, natural_step
from ..families.gamma import Gamma, GammaMoments
from ..families.normal import Normal, NormalMoments
from ..families.normal_gamma import NormalGamma, NormalGammaMoments
from ..model import ConditionalModel, Conjugate, EStep
from ..numerics import special


@pytree
class NormalGammaExact(Conjugate):
    """x_n ~ N(mu, 1 / tau) under a Normal-Gamma prior: the exact posterior and evidence.

    Through `fit` it reaches the posterior in one update, and the bound is then the evidence.
    """

    prior: NormalGamma
    draws: ClassVar[bool] = False

    @classmethod
    def with_prior(cls, *, mean: Any, kappa: Any, shape: Any, rate: Any) -> NormalGammaExact:
        """mu | tau ~ N(mean, 1 / (kappa tau)), tau ~ Gamma(shape, rate), in data units.

        Raises ValueError unless kappa, shape and rate are positive scalars.
        """
        return cls(_prior(mean, kappa, shape, rate))

    def posterior(self, data: Any) -> NormalGamma:
        """p(mu, tau | x)."""
        return self.prior + _statistics(_vector(data))

    def log_evidence(self, data: Any) -> Float[Array, ""]:
        """log p(x) in nats."""
        batch = _vector(data)
        rows = jnp.sum(batch.weight)
        return self.posterior(batch).log_ratio(self.prior) - 0.5 * rows * special.LOG_2PI

    def check(self, batch: Batch, point: bool) -> None:
        """Raise ValueError unless x is a vector."""
        _check_vector(batch)

    def init(self, key: Key[Array, ""] | None, batch: Batch, restart: Any = 0) -> NormalGamma:
        """The prior."""
        return self.prior

    def row_size(self, batch: Batch) -> int:
        """Four floats."""
        return 4

    def local(self, moments: NormalGammaMoments, batch: Batch) -> EStep:
        """Sufficient statistics; there is nothing latent."""
        origin = moments.origin + moments.shift
        stats = NormalGamma.observe(batch.x, batch.weight, origin)
        return EStep(stats, moments.log_lik(batch.x))


@pytree
class FactorisedMoments:
    """Moments of mu and of tau, independent under q."""

    mu: NormalMoments
    tau: GammaMoments


@pytree
class FactorisedParams(Product):
    """q(mu) q(tau)."""

    Moments: ClassVar = FactorisedMoments
    mu: Normal
    tau: Gamma

    def summary(self, *, point: bool = False, **options: Any) -> str:
        """mu and tau, each with its standard deviation."""
        return estimates(mean=(self.mu.mean, self.mu.sd), precision=(self.tau.mean, self.tau.sd))


@pytree
class FactorisedGaussian(ConditionalModel):
    """The same model with q(mu, tau) = q(mu) q(tau): the textbook case of mean field.

    The two blocks are coupled, so `update` is a sweep, q(mu) first. q(tau) gains
    (n + 1) / 2 in shape: n / 2 from the rows and 1 / 2 from the prior of mu given tau.
    """

    prior: NormalGamma
    draws: ClassVar[bool] = False

    @classmethod
    def with_prior(cls, *, mean: Any, kappa: Any, shape: Any, rate: Any) -> FactorisedGaussian:
        """As `NormalGammaExact.with_prior`."""
        return cls(_prior(mean, kappa, shape, rate))

    @property
    def template(self) -> FactorisedParams:
        """q(mu) q(tau) at the prior."""
        tau = self.prior.tau
        mean = Normal.from_standard(self.prior.mean, self.prior.kappa * tau.mean)
        return FactorisedParams(mean, tau)

    def check(self, batch: Batch, point: bool) -> None:
        """Raise ValueError unless x is a vector; refuse EM, as nothing is latent."""
        _check_vector(batch)
        if point:
            raise ValueError("method: nothing is latent here; the mode is that of NormalGammaExact")

    def init(self, key: Key[Array, ""] | None, batch: Batch, restart: Any = 0) -> FactorisedParams:
        """The prior's means of mu and tau, with their prior spread."""
        return self.template

    def row_size(self, batch: Batch) -> int:
        """Four floats."""
        return 4

    def local(self, moments: FactorisedMoments, batch: Batch) -> EStep:
        """Sufficient statistics; there is nothing latent."""
        mu, tau = moments.mu, moments.tau
        joint = NormalGammaMoments(
            mu.mean, jnp.zeros_like(mu.mean), tau.mean, tau.e_log, tau.mean * mu.variance
        )
        stats = NormalGamma.observe(batch.x, batch.weight, mu.mean)
        return EStep(stats, joint.log_lik(batch.x))

    def update(
        self, q: FactorisedParams, stats: NormalGamma, rate: ArrayLike = 1.0
    ) -> FactorisedParams:
        """q(mu) given E[tau], then q(tau) given q(mu) (Bishop 2006, eq. 10.26-10.30)."""
        exact = stats + self.prior
        offset = exact.shift / exact.kappa
        precision = exact.kappa * q.tau.mean
        mu = natural_step(q.mu, Normal(precision, precision * offset, exact.origin), rate)
        distance = (mu.origin - exact.origin) + (mu.shift / mu.precision - offset)
        decay = exact.rate + 0.5 * exact.kappa * (mu.variance + distance**2)
        return FactorisedParams(mu, natural_step(q.tau, Gamma(exact.shape + 0.5, decay), rate))

    def expected_log_lik(self, q: FactorisedParams, stats: NormalGamma) -> Float[Array, ""]:
        """E_q[log p(x | mu, tau)] of rows with these statistics, up to terms constant in theta."""
        move = (q.mu.origin - stats.origin) + q.mu.shift / q.mu.precision
        square = stats.square - stats.shift * move + 0.5 * stats.kappa * move**2
        square = square + 0.5 * stats.kappa * q.mu.variance
        return stats.shape * q.tau.moments().e_log - q.tau.mean * square

    def kl(self, q: FactorisedParams) -> Float[Array, ""]:
        """KL(q(mu) q(tau) || p(mu, tau)) in nats, as a sum of non-negative terms."""
        tau, prior = q.tau.mean, self.prior
        spread = special.excess(prior.kappa * tau * q.mu.variance)
        distance = (q.mu.origin - prior.origin) + q.mu.shift / q.mu.precision
        distance = distance - prior.shift / prior.kappa
        mean = spread + prior.kappa * tau * distance**2 + special.digamma_gap(q.tau.shape)
        return 0.5 * mean + q.tau.kl(prior.tau)


def _prior(mean: Any, kappa: Any, shape: Any, rate: Any) -> NormalGamma:
    values = {"mean": mean, "kappa": kappa, "shape": shape, "rate": rate}
    values = {name: as_floats(name, value) for name, value in values.items()}
    for name, value in values.items():
        if value.ndim:
            raise ValueError(f"{name}: expected a scalar, got shape {value.shape}")
        check_bound(name, value, above=None if name == "mean" else 0.0)
    return NormalGamma.from_standard(**values)


def _vector(data: Any) -> Batch:
    batch = Batch.of(data)
    _check_vector(batch)
    return batch


def _check_vector(batch: Batch) -> None:
    if batch.x.ndim != 1:
        raise ValueError(f"x: expected one number per row, (n,), got shape {batch.x.shape}")


def _statistics(batch: Batch) -> NormalGamma:
    x, weight = batch.x, batch.weight
    centre = x[0] + jnp.sum(weight * (x - x[0])) / jnp.sum(weight)
    return NormalGamma.observe(x, weight, centre)
