"""A normal with unknown mean and precision: exactly, and by mean field (Bishop 2006, 10.1.3)."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from .._pytree import pytree
from .._text import Overview
from ..data.batch import Batch
from ..data.host import as_floats, check_bound, readable
from ..data.padding import compiled
from ..data.types import Data
from ..exponential_family import Product, Q_co, natural_step
from ..families.column_scale import refuse_exposure
from ..families.gamma import Gamma, GammaMoments
from ..families.normal import Normal, NormalMoments
from ..families.normal_gamma import NormalGamma, NormalGammaMoments
from ..model import ConditionalModel, Conjugate, EStep
from ..numerics import special

_U = TypeVar("_U", bound="Univariate[Any]")


class Univariate(ConditionalModel[Q_co]):
    """Rows x_n ~ N(mu, 1 / tau), one number each, under a Normal-Gamma prior."""

    prior: NormalGamma

    @classmethod
    def with_prior(
        cls: type[_U], *, mean: ArrayLike, kappa: ArrayLike, shape: ArrayLike, rate: ArrayLike
    ) -> _U:
        """mu | tau ~ N(mean, 1 / (kappa tau)), tau ~ Gamma(shape, rate), in data units.

        `kappa` is the weight of the prior mean in rows, `shape` half of that of the variance, and
        E[tau] = shape / rate. Raises ValueError unless kappa, shape and rate are positive scalars.

        Example:
            model = vx.NormalGammaExact.with_prior(mean=0.0, kappa=0.1, shape=1.0, rate=1.0)
            print(model.log_evidence(np.array([0.5, 1.5, 2.5])))  # nats
        """
        given = {"mean": mean, "kappa": kappa, "shape": shape, "rate": rate}
        values = {name: as_floats(name, value) for name, value in given.items()}
        for name, value in values.items():
            if value.ndim:
                raise ValueError(f"{name}: expected a scalar, got shape {value.shape}")
            check_bound(name, value, above=None if name == "mean" else 0.0)
        return cls(NormalGamma.from_standard(**values))  # type: ignore[call-arg]

    def init(
        self, key: Key[Array, ""] | None, batch: Batch, restart: Int[Array, ""] | int = 0
    ) -> Q_co:
        return self.template

    def _repr_html_(self) -> str:
        one = readable(self) and not jnp.ndim(self.prior.kappa)
        table = self.prior.overview() if one else Overview()
        return table.below([repr(self)]).html()

    def check(self, batch: Batch, point: bool) -> None:
        refuse_exposure(batch, f"a {type(self).__name__}")
        if batch.x.ndim != 1:
            raise ValueError(f"x: expected one number per row, (n,), got shape {batch.x.shape}")

    def row_size(self, batch: Batch) -> int:
        return 4


@pytree
class NormalGammaExact(Univariate[NormalGamma], Conjugate[NormalGamma]):
    """x_n ~ N(mu, 1 / tau) under a Normal-Gamma prior: the exact posterior and evidence.

    `fit` reaches the posterior in one update, and the bound is then the evidence.
    """

    prior: NormalGamma

    def posterior(self, data: Data) -> NormalGamma:
        """p(mu, tau | x) for rows x (n,)."""
        batch = Batch.of(data)
        self.check(batch, point=False)
        return compiled(_posterior)(self.prior, batch.x, batch.weight)

    def log_evidence(self, data: Data) -> Float[Array, ""]:
        """log p(x) in nats for rows x (n,)."""
        batch = Batch.of(data)
        return compiled(_log_evidence)(self.posterior(batch), self.prior, batch.weight)

    def local(self, moments: NormalGammaMoments, batch: Batch) -> EStep:
        """Sufficient statistics; nothing is latent."""
        origin = moments.origin + moments.shift
        stats = NormalGamma.observe(batch.x, batch.weight, origin)
        return EStep(stats, moments.log_lik(batch.x))


def _posterior(prior: NormalGamma, x: Array, weight: Array) -> NormalGamma:
    centre = x[0] + jnp.sum(weight * (x - x[0])) / jnp.sum(weight)
    return prior + NormalGamma.observe(x, weight, centre)


def _log_evidence(q: NormalGamma, prior: NormalGamma, weight: Array) -> Float[Array, ""]:
    return q.log_ratio(prior) - 0.5 * jnp.sum(weight) * special.LOG_2PI


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

    @property
    def _estimates(self) -> dict[str, tuple[Any, Any]]:
        return {"mean": (self.mu.mean, self.mu.sd), "precision": (self.tau.mean, self.tau.sd)}


@pytree
class FactorisedGaussian(Univariate[FactorisedParams]):
    """The model of `NormalGammaExact` with q(mu, tau) = q(mu) q(tau), the textbook mean field.

    The two factors are coupled, so `update` is a sweep, q(mu) first. The shape of q(tau) grows by
    (n + 1) / 2: n / 2 from the rows and 1 / 2 from the prior of mu given tau.
    """

    prior: NormalGamma

    @property
    def template(self) -> FactorisedParams:
        """q(mu) q(tau) at the prior: N(mean, 1 / (kappa E[tau])) and the Gamma prior of tau."""
        tau = self.prior.tau
        mean = Normal.from_standard(self.prior.mean, self.prior.kappa * tau.mean)
        return FactorisedParams(mean, tau)

    def check(self, batch: Batch, point: bool) -> None:
        super().check(batch, point)
        if point:
            raise ValueError("method: nothing is latent here; the mode is that of NormalGammaExact")

    def local(self, moments: FactorisedMoments, batch: Batch) -> EStep:
        """Sufficient statistics; nothing is latent."""
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
