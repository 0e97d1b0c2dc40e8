"""Normal-Gamma on a mean vector and one precision: Gaussians with spherical covariance."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from .._host import check_bound, standard
from .._pytree import gauge, pytree, replace
from ..batch import Batch
from ..numerics import special
from ..numerics.terms import Terms
from . import diagonal_rows
from .diagonal_rows import DiagonalMoments, diagonal_matrix
from .gamma import Gamma
from .gaussian import Gaussian
from .normal_gamma import MeanPrecision, NormalGammaMoments
from .standardize import location_and_sd, refuse_noise, seed_rows, standardize
from .student import Student


@pytree
class SphericalNormalGamma(Gaussian):
    """mu | tau ~ N(m, diag(kappa tau)^-1), tau ~ Gamma(shape, rate), about `origin` c.

    One tau for all columns; kappa for each, as rows may count differently where entries are
    missing. Coordinates: kappa, shift = kappa (m - c), shape, and
    square = rate + sum_d kappa_d (m_d - c_d)^2 / 2.
    T = (-tau (mu - c)^2 / 2, tau (mu - c), log tau, -tau), h = tau^(d/2 - 1).
    """

    kappa: Float[Array, "*b d"]
    shift: Float[Array, "*b d"]
    shape: Float[Array, "*b"]
    square: Float[Array, "*b"]
    origin: Float[Array, "*b d"] = gauge()

    @classmethod
    def from_standard(cls, mean: Any, kappa: Any, df: Any, scatter: Any) -> SphericalNormalGamma:
        """From m (*b, d) in data units, kappa > 0 in rows, df > 0 in entries, and scatter > 0 in
        units squared (*b); E[tau] = df / scatter.
        """
        for name, value in {"kappa": kappa, "df": df, "scatter": scatter}.items():
            check_bound(name, value, above=0.0)
        mean, kappa, df, scatter = standard(
            mean=(mean, 1), kappa=(kappa, 0), df=(df, 0), scatter=(scatter, 0)
        )
        kappa = jnp.broadcast_to(kappa[..., None], mean.shape)
        return cls(kappa, jnp.zeros_like(mean), 0.5 * df, 0.5 * scatter, mean)

    def observe(
        self,
        rows: Batch,
        mass: Any,
        at: Any,
        latent: Any = None,
        scale: Float[Array, "n k"] | float = 1.0,
    ) -> SphericalNormalGamma:
        """Weighted sufficient statistics of the observed entries, each component's about its mean.

        `scale` multiplies the precision of each row.
        """
        count, kappa, shift, square, origin = diagonal_rows.statistics(
            rows, mass, at, latent, scale
        )
        shape, square = 0.5 * jnp.sum(count, -1), 0.5 * jnp.sum(square, -1)
        return SphericalNormalGamma(kappa, shift, shape, square, origin)

    def about(self, like: Any) -> SphericalNormalGamma:
        """The same density about `like.origin`."""
        move = like.origin - self.origin
        cross = jnp.sum(move * (self.shift - 0.5 * self.kappa * move), -1)
        shift = self.shift - self.kappa * move
        return replace(self, shift=shift, square=self.square - cross, origin=like.origin)

    # -- standard parameters and posterior summaries -------------------------------------------

    @property
    def dim(self) -> int:
        """d."""
        return self.kappa.shape[-1]

    @property
    def _offset(self) -> Float[Array, "*b d"]:
        return self.shift / self._safe_kappa

    @property
    def rate(self) -> Float[Array, "*b"]:
        """The rate of tau, in data units squared."""
        return self.square - 0.5 * jnp.sum(self.shift * self._offset, -1)

    @property
    def df(self) -> Float[Array, "*b"]:
        """Twice the shape of tau: entries that the precision is worth."""
        return 2.0 * self.shape

    @property
    def scatter(self) -> Float[Array, "*b"]:
        """Twice the rate of tau, in data units squared."""
        return 2.0 * self.rate

    @property
    def tau(self) -> Gamma:
        """The marginal of the precision."""
        return Gamma(self.shape, self.rate)

    @property
    def _safe_tau(self) -> Gamma:
        # a component without any mass, real or prior, must stay finite: its weight is zero
        some = self.shape > 0
        return Gamma(jnp.where(some, self.shape, 1.0), jnp.where(some, self.rate, 1.0))

    @property
    def mean_sd(self) -> Float[Array, "*b d"]:
        """Standard deviation of each entry of mu; NaN unless df > 2."""
        return jnp.sqrt(self.variance[..., None] / self.kappa)

    @property
    def variance(self) -> Float[Array, "*b"]:
        """E[1 / tau] = scatter / (df - 2); NaN unless df > 2."""
        return self.rate / jnp.where(self.shape > 1.0, self.shape - 1.0, jnp.nan)

    @property
    def variance_sd(self) -> Float[Array, "*b"]:
        """Standard deviation of 1 / tau; NaN unless df > 4."""
        return self.variance / jnp.sqrt(jnp.where(self.shape > 2.0, self.shape - 2.0, jnp.nan))

    @property
    def covariance(self) -> Float[Array, "*b d d"]:
        """E[Sigma] = variance I."""
        return self._matrix(self.variance)

    @property
    def covariance_sd(self) -> Float[Array, "*b d d"]:
        """Standard deviation of each entry of Sigma; NaN on the diagonal unless df > 4."""
        return self._matrix(self.variance_sd)

    @property
    def precision(self) -> Float[Array, "*b d d"]:
        """E[Lambda] = E[tau] I."""
        return self._matrix(self.tau.mean)

    @property
    def precision_sd(self) -> Float[Array, "*b d d"]:
        """Standard deviation of each entry of Lambda."""
        return self._matrix(self.tau.sd)

    def _columns(self, a: Float[Array, "*b"]) -> Float[Array, "*b d"]:
        return jnp.broadcast_to(a[..., None], self.kappa.shape)

    def _matrix(self, a: Float[Array, "*b"]) -> Float[Array, "*b d d"]:
        return diagonal_matrix(self._columns(a))

    # -- as a component -----------------------------------------------------------------------

    def check(self, rows: Batch) -> None:
        """Raise ValueError unless rows are (n, d) with the prior's d, and without noise."""
        super().check(rows)
        refuse_noise(rows, "the spherical Gaussian")

    def embed(self, rows: Batch) -> Float[Array, "n d"]:
        """Distances as they are, in units of the widest column's standard deviation."""
        _, sd = location_and_sd(rows)
        return standardize(rows) * (sd / jnp.max(sd))

    def seed(
        self, rows: Batch, seeds: Int[Array, "k"], count: Float[Array, "k"], spread: Any = 1.0
    ) -> SphericalNormalGamma:
        """Each at its seed row, `spread` times as wide as all the data, columns taken together."""
        origin, sd = seed_rows(rows, seeds)
        weight = jnp.broadcast_to(rows.weight[:, None], rows.x.shape)
        weight = weight if rows.mask is None else jnp.where(rows.mask, weight, 0.0)
        variance = jnp.sum(weight * (sd * standardize(rows)) ** 2) / jnp.sum(weight)
        entries = 0.5 * self.dim * count
        kappa = jnp.broadcast_to(count[:, None], origin.shape)
        return SphericalNormalGamma(
            kappa, jnp.zeros_like(origin), entries, entries * spread * variance, origin
        )

    @property
    def _inner(self) -> Float[Array, "*b d"]:
        """1 / E[tau]."""
        return self._columns(self.rate / self.shape)

    def predictive(self) -> Student:
        """Student-t with df degrees of freedom, of whole rows."""
        return Student(
            self.origin,
            self._offset,
            diagonal_matrix((1.0 + 1.0 / self.kappa) * self._inner),
            self.df,
        )

    def log_predictive(
        self, rows: Batch, scale: Float[Array, "n k"] | None = None
    ) -> Float[Array, "n k"]:
        """log density of the predictive Student-t, of the observed entries.

        `scale` multiplies the precision of the row given theta.
        """
        refuse_noise(rows, "the predictive density", "leave it out of the rows")
        own = 1.0 if scale is None else 1.0 / scale.T[:, None, :]
        width = (own + 1.0 / self.kappa[:, :, None]) * self._inner[:, :, None]
        seen = jnp.ones_like(rows.x) if rows.mask is None else rows.mask.astype(rows.x.dtype)
        z = ((rows.x.T - self.origin[:, :, None]) - self._offset[:, :, None]) * seen.T
        square = jnp.sum(z**2 / width, 1).T
        log_det = jnp.sum(seen.T * jnp.log(width), 1).T
        dof = jnp.broadcast_to(self.df, square.shape)
        entries = jnp.broadcast_to(jnp.sum(seen, -1, keepdims=True), square.shape)
        return special.log_student(square, log_det, dof, entries)

    def draw(
        self,
        key: Key[Array, ""],
        index: Int[Array, "n"],
        scale: Float[Array, "n"] | None = None,
    ) -> Float[Array, "n d"]:
        """Rows from the predictive Student-t; `scale` as in `log_predictive`."""
        k_normal, k_scale = jax.random.split(key)
        own = self.take(index)
        tau = jax.random.gamma(k_scale, own.shape, dtype=own.shape.dtype) / own.shape
        noise = jax.random.normal(k_normal, own.shift.shape, own.shift.dtype)
        inner = 1.0 if scale is None else 1.0 / scale[:, None]
        return own.mean + noise * jnp.sqrt((inner + 1.0 / own.kappa) * own._inner / tau[:, None])

    def num_parameters(self) -> tuple[int, int]:
        """Mean and variance of each."""
        return self.dim + 1, 0

    def row_size(self, rows: Batch) -> int:
        """Differences, log-densities and responsibilities."""
        return diagonal_rows.row_size(*self.kappa.shape[-2:])

    def collapsed(self, count: Float[Array, "k"]) -> Bool[Array, "k"]:
        """Shrunk to an sd of 16 eps of that over all the data, columns taken together."""
        share = (count / jnp.sum(count))[:, None]
        within = self.rate / jnp.where(self.shape > 0, self.shape, 1.0)
        middle = jnp.sum(share * self.mean, 0)
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
        """(-E[tau (mu - c)^2] / 2, E[tau (mu - c)], E[log tau], -E[tau])."""
        offset, tau = self._offset, self.tau.expectation()
        rate = tau.rate[..., None]
        kappa = -0.5 * (1.0 / self.kappa - rate * offset**2)
        return SphericalNormalGamma(kappa, -rate * offset, tau.shape, tau.rate, self.origin)

    def moments(self) -> DiagonalMoments:
        """Under q: the same tau in every column, spread 1 / kappa."""
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
                self.origin, self._offset, self._columns(tau), self._columns(e_log), spread
            )
        )

    def mode(self) -> MeanPrecision:
        """mu = m, tau = (df + d - 2) / scatter; NaN unless df >= 2 - d."""
        power = self.shape + 0.5 * self.dim - 1.0
        return MeanPrecision(self.mean, jnp.where(power >= 0, power, jnp.nan) / self.rate)

    def _squares(self, moments: DiagonalMoments) -> Float[Array, "*b d"]:
        """kappa_d (E[mu_d] - m_d)^2."""
        part = moments.columns
        return self.kappa * ((part.origin - self.origin) + (part.shift - self._offset)) ** 2

    def _log(self, moments: DiagonalMoments, base: float) -> Float[Array, "*b"]:
        part = moments.columns
        tau, e_log = part.precision[..., 0], part.e_log[..., 0]
        square = tau * jnp.sum(self._squares(moments), -1) + jnp.sum(self.kappa * part.spread, -1)
        power = special.xlogy(self.shape + base * (0.5 * self.dim - 1.0), e_log)
        return power - 0.5 * square - self.rate * tau - self.log_normalizer()

    def log_kernel(self, moments: DiagonalMoments) -> Float[Array, "*b"]:
        """log of the density times tau^(1 - d/2), in nats."""
        return self._log(moments, 0.0)

    def kernel_gap(self, moments: DiagonalMoments) -> Float[Array, "*b"]:
        """shape excess(tau / E[tau]) + tau sum_d kappa_d (mu_d - m_d)^2 / 2, in nats."""
        tau = moments.columns.precision[..., 0]
        shape = self.shape * special.excess(tau / self._safe_tau.mean)
        return shape + 0.5 * tau * jnp.sum(self._squares(moments), -1)

    def expected_log_prob(self, moments: DiagonalMoments) -> Float[Array, "*b"]:
        """E[log p(mu, tau)] in nats."""
        return self._log(moments, 1.0)

    def kl(self, prior: SphericalNormalGamma) -> Float[Array, "*b"]:
        """KL in nats, as a sum of non-negative terms."""
        return self.kl_terms(prior).total()

    def kl_terms(self, prior: SphericalNormalGamma) -> Terms:
        """The Gamma's, and those of the means."""
        distance = (self.origin - prior.origin) + (self._offset - prior._offset)
        square = 0.5 * prior.kappa * (self.tau.mean[..., None] * distance**2)
        means = Terms.normal(prior.kappa / self.kappa, 1, square).merged()
        return Terms.join(self.tau.kl_terms(prior.tau), means)

    def entropy(self) -> Float[Array, "*b"]:
        """Differential entropy in nats."""
        e_log = self.tau.moments().e_log[..., None]
        means = 1.0 + special.LOG_2PI - jnp.log(self.kappa) - e_log
        return 0.5 * jnp.sum(means, -1) + self.tau.entropy()

    def log_prob(self, value: MeanPrecision) -> Float[Array, "..."]:
        """log p(mu, tau) in nats, for `value.mean` (*s, d) and `value.precision` (*s)."""
        tau = value.precision
        move = (value.mean - self.origin) - self._offset
        square = tau * jnp.sum(self.kappa * move**2, -1)
        power = (self.shape + 0.5 * self.dim - 1.0) * jnp.log(tau)
        return power - 0.5 * square - self.rate * tau - self.log_normalizer()

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> MeanPrecision:
        """Draws of mu (*s, d) and tau (*s)."""
        k_tau, k_mean = jax.random.split(key)
        tau = self.tau.sample(k_tau, shape)
        noise = jax.random.normal(k_mean, (*tau.shape, self.dim), tau.dtype)
        return MeanPrecision(self.mean + noise / jnp.sqrt(self.kappa * tau[..., None]), tau)
