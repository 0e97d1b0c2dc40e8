"""Normal-Gamma distribution of a mean vector and one precision: spherical covariance."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import gauge, pytree, replace
from ...data.batch import Batch
from ...data.host import check_bound, standard
from ...numerics import special
from ...numerics.broadcasting import broadcasts
from ...numerics.kl_terms import KLTerms
from ..column_scale import location_and_sd, refuse_noise, seed_rows, standardized_with_sd
from ..emission import Spread
from ..gamma import Gamma
from ..normal_gamma import MeanPrecision, NormalGammaMoments
from .diagonal_likelihood import DiagonalMoments
from .independent_columns import IndependentColumns
from .sums import GaussianSums


@pytree
class SphericalNormalGamma(IndependentColumns):
    """mu | tau ~ N(m, diag(kappa tau)^-1) and tau ~ Gamma(shape, rate), about `origin` c.

    All columns share tau, and each has its own kappa, because entries may be missing. Coordinates
    are kappa, shift = kappa (m - c), shape, and square = rate + sum_d kappa_d (m_d - c_d)^2 / 2.
    T = (-tau (mu - c)^2 / 2, tau (mu - c), log tau, -tau), h = tau^(d/2 - 1).
    """

    kappa: Float[Array, "*b d"]
    shift: Float[Array, "*b d"]
    shape: Float[Array, "*b"]
    square: Float[Array, "*b"]
    origin: Float[Array, "*b d"] = gauge()

    kind: ClassVar[str] = "spherical"

    @classmethod
    def from_standard(cls, mean: Any, kappa: Any, df: Any, scatter: Any) -> SphericalNormalGamma:
        """Prior mean m (*b, d) in data units, kappa > 0 in rows, df > 0 in entries, and scatter > 0
        in units squared, all (*b); E[tau] = df / scatter.
        """
        for name, value in {"kappa": kappa, "df": df, "scatter": scatter}.items():
            check_bound(name, value, above=0.0)
        mean, kappa, df, scatter = standard(
            mean=(mean, 1), kappa=(kappa, 0), df=(df, 0), scatter=(scatter, 0)
        )
        kappa = jnp.broadcast_to(kappa[..., None], mean.shape)
        return cls(kappa, jnp.zeros_like(mean), 0.5 * df, 0.5 * scatter, mean)

    @classmethod
    def from_sums(cls, sums: GaussianSums) -> SphericalNormalGamma:
        shape, square = 0.5 * jnp.sum(sums.count, -1), 0.5 * jnp.sum(sums.square, -1)
        return cls(sums.kappa, sums.shift, shape, square, sums.origin)

    def about(self, like: Any) -> SphericalNormalGamma:
        move = like.origin - self.origin
        cross = jnp.sum(move * (self.shift - 0.5 * self.kappa * move), -1)
        shift = self.shift - self.kappa * move
        return replace(self, shift=shift, square=self.square - cross, origin=like.origin)

    # -- standard parameters and posterior summaries -------------------------------------------

    @property
    def _offset(self) -> Float[Array, "*b d"]:
        return self.shift / self._safe_kappa

    @property
    def rate(self) -> Float[Array, "*b"]:
        """The rate of tau, in data units squared."""
        return self.square - 0.5 * jnp.sum(self.shift * self._offset, -1)

    @property
    def scatter(self) -> Float[Array, "*b"]:
        """Twice the rate of tau, in data units squared."""
        return 2.0 * self.rate

    @property
    def tau(self) -> Gamma:
        """The marginal distribution of tau."""
        return Gamma(self.shape, self.rate)

    @property
    def _safe_tau(self) -> Gamma:
        # a component with neither rows nor a prior has weight 0, but must stay finite
        some = self.shape > 0
        return Gamma(jnp.where(some, self.shape, 1.0), jnp.where(some, self.rate, 1.0))

    def _each(self, a: Float[Array, "*b"]) -> Float[Array, "*b d"]:
        return jnp.broadcast_to(a[..., None], self.kappa.shape)

    # -- as a component -----------------------------------------------------------------------

    def embed(self, rows: Batch) -> Float[Array, "n d"]:
        """Rows about their mean, with one unit for all columns: the largest sd of a column."""
        z, sd = standardized_with_sd(rows)
        return z * (sd / jnp.max(sd))[None]

    def seed(
        self, rows: Batch, seeds: Int[Array, "k"], count: Float[Array, "k"], spread: Spread = 1.0
    ) -> SphericalNormalGamma:
        """Each component at its seed row, with `spread` times the mean variance of the columns."""
        origin, _ = seed_rows(rows, seeds)
        centre, _ = location_and_sd(rows)
        weight = jnp.broadcast_to(rows.weight[:, None], rows.x.shape)
        weight = weight if rows.mask is None else jnp.where(rows.mask, weight, 0.0)
        variance = jnp.sum(weight * (rows.x - centre[None]) ** 2) / jnp.sum(weight)
        entries = 0.5 * self.dim * count
        kappa = jnp.broadcast_to(count[:, None], origin.shape)
        return SphericalNormalGamma(
            kappa, jnp.zeros_like(origin), entries, entries * spread * variance, origin
        )

    def log_predictive(
        self, rows: Batch, log_scale: Float[Array, "n k"] | None = None
    ) -> Float[Array, "n k"]:
        """log St(x_o | m_o, diag(1 / scale + 1 / kappa)_o scatter / df, df) in nats."""
        refuse_noise(rows, "the predictive density", "leave it out of the rows")
        log_width = self._log_predictive_width(log_scale)
        seen = jnp.ones_like(rows.x) if rows.mask is None else rows.mask.astype(rows.x.dtype)
        seen_by_column = seen.T[None]
        z = (rows.x.T[None] - self.origin[:, :, None]) - self._offset[:, :, None]
        z = z * seen_by_column
        far = jnp.max(jnp.log(jnp.abs(z)) - 0.5 * log_width, 1)
        log_factor = special.log_in_range(far, self.dim)
        square = jnp.sum((z * jnp.exp(log_factor[:, None, :] - 0.5 * log_width)) ** 2, 1).T
        log_det = jnp.sum(seen_by_column * log_width, 1).T
        dof = jnp.broadcast_to(self.df, square.shape)
        entries = jnp.broadcast_to(jnp.sum(seen, -1, keepdims=True), square.shape)
        return special.log_student(square, log_det, dof, entries, log_factor.T)

    def num_parameters(self) -> tuple[int, int]:
        return self.dim + 1, 0

    def collapsed(self, count: Float[Array, "k"]) -> Bool[Array, "k"]:
        """True if the sd is at most 16 eps times that of all the data, over all columns."""
        share = (count / jnp.sum(count))[:, None]
        within = self.rate / jnp.where(self.shape > 0, self.shape, 1.0)
        middle = jnp.sum(share * self.mean, 0, keepdims=True)
        between = jnp.mean((self.mean - middle) ** 2, -1)
        spread = jnp.sum(share[:, 0] * (within + between))
        least = (16.0 * jnp.finfo(count.dtype).eps) ** 2 * spread
        known = jnp.all(jnp.isfinite(self.square)) & jnp.all(jnp.isfinite(self.mean))
        return known & ~(within > least)

    # -- the family -----------------------------------------------------------------------------

    def log_normalizer(self) -> Float[Array, "*b"]:
        """log Gamma(shape) - shape log(rate) + sum_d log(2 pi / kappa_d) / 2, in nats."""
        means = jnp.sum(special.LOG_2PI - jnp.log(self.kappa), -1)
        return self.tau.log_normalizer() + 0.5 * means

    def expectation(self) -> SphericalNormalGamma:
        """-E[tau (mu_d - c_d)^2] / 2, E[tau (mu_d - c_d)], E[log tau] and -E[tau]."""
        offset, tau = self._offset, self.tau.expectation()
        rate = tau.rate[..., None]
        kappa = -0.5 * (1.0 / self.kappa - rate * offset**2)
        return SphericalNormalGamma(kappa, -rate * offset, tau.shape, tau.rate, self.origin)

    def moments(self) -> DiagonalMoments:
        """Moments with the same tau in every column and spread = 1 / kappa."""
        tau = self._safe_tau.moments()
        spread = jnp.where(self._on, 1.0 / self._safe_kappa, 0.0)
        return self._moments(tau.mean, tau.e_log, spread)

    def point(self) -> DiagonalMoments:
        """mu = m, tau = df / scatter."""
        tau = self._safe_tau.point()
        return self._moments(tau.mean, tau.e_log, jnp.zeros_like(self.kappa))

    def _moments(self, tau: Array, e_log: Array, spread: Array) -> DiagonalMoments:
        return DiagonalMoments(
            NormalGammaMoments(
                self.origin, self._offset, self._each(tau), self._each(e_log), spread
            )
        )

    def point_at(self, value: MeanPrecision) -> DiagonalMoments:
        return DiagonalMoments.at(value.mean, self._each(value.precision))

    def mode(self) -> MeanPrecision:
        """mu = m, tau = (df + d - 2) / scatter; NaN unless df >= 2 - d."""
        power = self.shape + 0.5 * self.dim - 1.0
        return MeanPrecision(self.mean, jnp.where(power >= 0, power, jnp.nan) / self.rate)

    def _squares(self, moments: DiagonalMoments) -> Float[Array, "*b d"]:
        """kappa_d (E[mu_d] - m_d)^2."""
        given = moments.columns
        return self.kappa * ((given.origin - self.origin) + (given.shift - self._offset)) ** 2

    def _log(self, moments: DiagonalMoments, base: float) -> Float[Array, "*b"]:
        given = moments.columns
        tau, e_log = given.precision[..., 0], given.e_log[..., 0]
        square = tau * jnp.sum(self._squares(moments), -1) + jnp.sum(self.kappa * given.spread, -1)
        power = special.xlogy(self.shape + base * (0.5 * self.dim - 1.0), e_log)
        return power - 0.5 * square - self.rate * tau - self.log_normalizer()

    def log_kernel(self, moments: DiagonalMoments) -> Float[Array, "*b"]:
        """Expected log of p(mu, tau) tau^(1 - d/2) in nats."""
        return self._log(moments, 0.0)

    def kernel_gap(self, moments: DiagonalMoments) -> Float[Array, "*b"]:
        """shape excess(tau / E[tau]) + tau sum_d kappa_d (mu_d - m_d)^2 / 2, in nats."""
        tau = moments.columns.precision[..., 0]
        shape = self.shape * special.excess(tau / self._safe_tau.mean)
        return shape + 0.5 * tau * jnp.sum(self._squares(moments), -1)

    def expected_log_prob(self, moments: DiagonalMoments) -> Float[Array, "*b"]:
        return self._log(moments, 1.0)

    def kl(self, prior: SphericalNormalGamma) -> Float[Array, "*b"]:
        return self.kl_terms(prior).total()

    def kl_terms(self, prior: SphericalNormalGamma) -> KLTerms:
        """KL of tau, plus sum_d [excess(kappa0_d / kappa_d) + kappa0_d E[tau] (m_d-m0_d)^2] / 2."""
        distance = (self.origin - prior.origin) + (self._offset - prior._offset)
        square = 0.5 * prior.kappa * (self.tau.mean[..., None] * distance**2)
        means = KLTerms.normal(prior.kappa / self.kappa, 1, square).merged()
        return KLTerms.join(self.tau.kl_terms(prior.tau), means)

    def entropy(self) -> Float[Array, "*b"]:
        e_log = self.tau.moments().e_log[..., None]
        means = 1.0 + special.LOG_2PI - jnp.log(self.kappa) - e_log
        return 0.5 * jnp.sum(means, -1) + self.tau.entropy()

    @broadcasts
    def log_prob(self, value: MeanPrecision) -> Float[Array, "..."]:
        """log p(mu, tau) in nats, for `value.mean` (*s, d) and `value.precision` (*s)."""
        tau = value.precision
        move = (value.mean - self.origin) - self._offset
        square = tau * jnp.sum(self.kappa * move**2, -1)
        power = (self.shape + 0.5 * self.dim - 1.0) * jnp.log(tau)
        return power - 0.5 * square - self.rate * tau - self.log_normalizer()

    @broadcasts
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> MeanPrecision:
        """Draws of mu (*s, d) and tau (*s)."""
        k_tau, k_mean = jax.random.split(key)
        tau = self.tau.sample(k_tau, shape)
        noise = jax.random.normal(k_mean, (*tau.shape, self.dim), tau.dtype)
        return MeanPrecision(self.mean + noise / jnp.sqrt(self.kappa * tau[..., None]), tau)
