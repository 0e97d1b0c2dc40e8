"""Normal-Gamma on every column's mean and precision: Gaussians with diagonal covariance."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree, replace
from ...data.batch import Batch
from ...data.host import check_bound, standard
from ...numerics import special
from ...numerics.kl_terms import KLTerms
from ..column_scale import refuse_noise, seed_rows
from ..gamma import Gamma
from ..normal_gamma import MeanPrecision, NormalGamma
from .diagonal_likelihood import DiagonalMoments
from .independent_columns import IndependentColumns
from .sums import GaussianSums


@pytree
class DiagonalNormalGamma(IndependentColumns):
    """mu_d | tau_d ~ N(m_d, 1 / (kappa tau_d)), tau_d ~ Gamma(df / 2, scatter_d / 2).

    Each column d is on its own: a `NormalGamma` with batch (*b, d), whose results are summed over
    the columns.
    """

    columns: NormalGamma

    @classmethod
    def from_standard(cls, mean: Any, kappa: Any, df: Any, scatter: Any) -> DiagonalNormalGamma:
        """From m (*b, d) in data units, kappa > 0 and df > 0 (*b) in rows, and scatter > 0
        (*b, d) in units squared; E[tau] = df / scatter.
        """
        for name, value in {"kappa": kappa, "df": df, "scatter": scatter}.items():
            check_bound(name, value, above=0.0)
        mean, kappa, df, scatter = standard(
            mean=(mean, 1), kappa=(kappa, 0), df=(df, 0), scatter=(scatter, 1)
        )
        kappa, df = (jnp.broadcast_to(a[..., None], mean.shape) for a in (kappa, df))
        return cls(NormalGamma(kappa, jnp.zeros_like(mean), 0.5 * df, 0.5 * scatter, mean))

    @classmethod
    def from_sums(cls, sums: GaussianSums) -> DiagonalNormalGamma:
        """Sufficient statistics of these sums, written about their origins."""
        shape, square = 0.5 * sums.count, 0.5 * sums.square
        return cls(NormalGamma(sums.kappa, sums.shift, shape, square, sums.origin))

    def about(self, like: Any) -> DiagonalNormalGamma:
        """The same density about `like.origin`."""
        return DiagonalNormalGamma(self.columns.about(like))

    # -- standard parameters and posterior summaries -------------------------------------------

    @property
    def origin(self) -> Float[Array, "*b d"]:
        """The point that the columns are written about."""
        return self.columns.origin

    @property
    def _safe(self) -> NormalGamma:
        # a column without any mass, real or prior, must stay finite: its weight is zero
        part, on = self.columns, self._on
        fill = {name: getattr(part, name) for name in ("kappa", "shape", "square")}
        return replace(part, **{name: jnp.where(on, a, 1.0) for name, a in fill.items()})

    @property
    def _offset(self) -> Float[Array, "*b d"]:
        return self._safe._offset

    @property
    def tau(self) -> Gamma:
        """The marginal of each column's precision."""
        return self.columns.tau

    def _each(self, a: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        return a

    @property
    def kappa(self) -> Float[Array, "*b d"]:
        """Rows that each column's mean is worth."""
        return self.columns.kappa

    @property
    def scatter(self) -> Float[Array, "*b d"]:
        """Twice the rate of tau, in data units squared."""
        return jnp.where(self._on, 2.0 * self._safe.rate, 0.0)

    # -- as a component -----------------------------------------------------------------------

    def seed(
        self, rows: Batch, seeds: Int[Array, "k"], count: Float[Array, "k"], spread: Any = 1.0
    ) -> DiagonalNormalGamma:
        """Each component at its seed row, `spread` times as wide as all the data."""
        origin, sd = seed_rows(rows, seeds)
        each = jnp.broadcast_to(count[:, None], origin.shape)
        zero = jnp.zeros_like(origin)
        return DiagonalNormalGamma(
            NormalGamma(each, zero, 0.5 * each, 0.5 * each * spread * sd**2, origin)
        )

    def log_predictive(
        self, rows: Batch, scale: Float[Array, "n k"] | None = None
    ) -> Float[Array, "n k"]:
        """log density of the observed entries: every column a Student-t with df degrees of freedom.

        `scale` multiplies the precision of the row given theta.
        """
        refuse_noise(rows, "the predictive density", "leave it out of the rows")
        part, own = self.columns, 1.0 if scale is None else 1.0 / scale.T[:, None, :]
        width = (own + 1.0 / self.kappa[:, :, None]) * self._inverse_tau[:, :, None]
        zero = jnp.zeros_like(self.df)
        top = special.log_student(zero, zero, self.df, zero + 1.0)[:, :, None]
        z = (rows.x.T - part.origin[:, :, None]) - part._offset[:, :, None]
        dof = self.df[:, :, None]
        each = top - 0.5 * jnp.log(width) - 0.5 * (dof + 1.0) * jnp.log1p(z**2 / (width * dof))
        return jnp.sum(each if rows.mask is None else jnp.where(rows.mask.T, each, 0.0), 1).T

    def num_parameters(self) -> tuple[int, int]:
        """Means and variances of each."""
        return 2 * self.dim, 0

    def collapsed(self, count: Float[Array, "k"]) -> Bool[Array, "k"]:
        """Shrunk in a column to an sd of 16 eps of the column's over all the data."""
        share = (count / jnp.sum(count))[:, None]
        within = self.scatter / jnp.where(self.df > 0, self.df, 1.0)
        middle = jnp.sum(share * self.mean, 0)
        spread = jnp.sum(share * (within + (self.mean - middle) ** 2), 0)
        least = (16.0 * jnp.finfo(count.dtype).eps) ** 2 * spread
        known = jnp.all(jnp.isfinite(self.columns.square)) & jnp.all(jnp.isfinite(self.mean))
        return known & ~jnp.all(within > least, -1)

    # -- the family -----------------------------------------------------------------------------

    def log_normalizer(self) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return jnp.sum(self.columns.log_normalizer(), -1)

    def expectation(self) -> DiagonalNormalGamma:
        """Column by column."""
        return DiagonalNormalGamma(self.columns.expectation())

    def moments(self) -> DiagonalMoments:
        """Under q, column by column."""
        return DiagonalMoments(self._safe.moments())

    def point(self) -> DiagonalMoments:
        """mu = m, tau = df / scatter."""
        return DiagonalMoments(self._safe.point())

    def mode(self) -> MeanPrecision:
        """mu = m, tau = (df - 1) / scatter; NaN unless df >= 1."""
        return self.columns.mode()

    def log_kernel(self, moments: DiagonalMoments) -> Float[Array, "*b"]:
        """log of the density times prod_d tau_d^(1/2), in nats."""
        return jnp.sum(self.columns.log_kernel(moments.columns), -1)

    def kernel_gap(self, moments: DiagonalMoments) -> Float[Array, "*b"]:
        """Sum over the columns, in nats; 0 from one without any mass."""
        gap = self._safe.kernel_gap(moments.columns)
        return jnp.sum(jnp.where(self._on, gap, 0.0), -1)

    def expected_log_prob(self, moments: DiagonalMoments) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return jnp.sum(self.columns.expected_log_prob(moments.columns), -1)

    def kl(self, prior: DiagonalNormalGamma) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return jnp.sum(self.columns.kl(prior.columns), -1)

    def kl_terms(self, prior: DiagonalNormalGamma) -> KLTerms:
        """Of all columns."""
        return self.columns.kl_terms(prior.columns).merged()

    def entropy(self) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return jnp.sum(self.columns.entropy(), -1)

    def log_prob(self, value: MeanPrecision) -> Float[Array, "..."]:
        """log p(mu, tau) in nats, for `value.mean` and `value.precision` (*s, d)."""
        return jnp.sum(self.columns.log_prob(value), -1)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> MeanPrecision:
        """Draws of (mu, tau), both (*s, d)."""
        return self.columns.sample(key, shape)
