"""Normal-Gamma distribution of every column's mean and precision: diagonal covariance."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._pytree import pytree, replace
from ...data.batch import Batch
from ...data.host import check_bound, standard
from ...exponential_family import Lifted
from ...numerics import special
from ...numerics.kl_terms import KLTerms
from ..column_scale import refuse_noise, seed_rows
from ..emission import Spread
from ..gamma import Gamma
from ..normal_gamma import MeanPrecision, NormalGamma
from .diagonal_likelihood import DiagonalMoments
from .independent_columns import IndependentColumns
from .sums import GaussianSums


@pytree
class DiagonalNormalGamma(Lifted, IndependentColumns):
    """mu_d | tau_d ~ N(m_d, 1 / (kappa_d tau_d)) and tau_d ~ Gamma(df_d / 2, scatter_d / 2).

    All columns d are independent: `columns` is a `NormalGamma` with batch (*b, d), and results are
    sums over the columns.
    """

    columns: NormalGamma
    part: ClassVar[str] = "columns"
    kind: ClassVar[str] = "diag"

    @classmethod
    def from_standard(cls, mean: Any, kappa: Any, df: Any, scatter: Any) -> DiagonalNormalGamma:
        """Prior mean m (*b, d) in data units, kappa > 0 and df > 0 (*b) in rows, and scatter > 0
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
        shape, square = 0.5 * sums.count, 0.5 * sums.square
        return cls(NormalGamma(sums.kappa, sums.shift, shape, square, sums.origin))

    # -- standard parameters and posterior summaries -------------------------------------------

    @property
    def origin(self) -> Float[Array, "*b d"]:
        """The point c that the columns are written about."""
        return self.columns.origin

    @property
    def _safe(self) -> NormalGamma:
        # a column with neither rows nor a prior has weight 0, but must stay finite
        own, on = self.columns, self._on
        given = {name: getattr(own, name) for name in ("kappa", "shape", "square")}
        return replace(own, **{name: jnp.where(on, a, 1.0) for name, a in given.items()})

    @property
    def _offset(self) -> Float[Array, "*b d"]:
        return self._safe._offset

    @property
    def tau(self) -> Gamma:
        """The marginal distribution of each column's precision."""
        return self.columns.tau

    def _each(self, a: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        return a

    @property
    def kappa(self) -> Float[Array, "*b d"]:
        """Precision of each column's mean, in rows."""
        return self.columns.kappa

    @property
    def scatter(self) -> Float[Array, "*b d"]:
        """Twice the rate of tau, in data units squared."""
        return jnp.where(self._on, 2.0 * self._safe.rate, 0.0)

    # -- as a component -----------------------------------------------------------------------

    def seed(
        self, rows: Batch, seeds: Int[Array, "k"], count: Float[Array, "k"], spread: Spread = 1.0
    ) -> DiagonalNormalGamma:
        """Each component at its seed row, with `spread` times the variances of all the data."""
        origin, sd = seed_rows(rows, seeds)
        each = jnp.broadcast_to(count[:, None], origin.shape)
        zero = jnp.zeros_like(origin)
        return DiagonalNormalGamma(
            NormalGamma(each, zero, 0.5 * each, 0.5 * each * spread * sd[None] ** 2, origin)
        )

    def log_predictive(
        self, rows: Batch, log_scale: Float[Array, "n k"] | None = None
    ) -> Float[Array, "n k"]:
        """sum_d log St(x_d | m_d, (1 / scale + 1 / kappa_d) scatter_d / df_d, df_d) in nats."""
        refuse_noise(rows, "the predictive density", "leave it out of the rows")
        own, log_width = self.columns, self._log_predictive_width(log_scale)
        zero = jnp.zeros_like(self.df)
        top = special.log_student(zero, zero, self.df, zero + 1.0)[:, :, None]
        z = (rows.x.T[None] - own.origin[:, :, None]) - own._offset[:, :, None]
        dof = self.df[:, :, None]
        log_z = jnp.log(jnp.abs(z)) - 0.5 * log_width
        log_factor = special.log_in_range(log_z, 1)
        square = (z * jnp.exp(log_factor - 0.5 * log_width)) ** 2
        tail = special.log1p_square(square, dof, log_factor)
        each = top - 0.5 * log_width - 0.5 * (dof + 1.0) * tail
        return jnp.sum(each if rows.mask is None else jnp.where(rows.mask.T, each, 0.0), 1).T

    def num_parameters(self) -> tuple[int, int]:
        return 2 * self.dim, 0

    def collapsed(self, count: Float[Array, "k"]) -> Bool[Array, "k"]:
        """True if a column's sd is at most 16 eps times its sd over all the data."""
        share = (count / jnp.sum(count))[:, None]
        within = self.scatter / jnp.where(self.df > 0, self.df, 1.0)
        middle = jnp.sum(share * self.mean, 0, keepdims=True)
        spread = jnp.sum(share * (within + (self.mean - middle) ** 2), 0, keepdims=True)
        least = (16.0 * jnp.finfo(count.dtype).eps) ** 2 * spread
        known = jnp.all(jnp.isfinite(self.columns.square)) & jnp.all(jnp.isfinite(self.mean))
        return known & ~jnp.all(within > least, -1)

    # -- the family -----------------------------------------------------------------------------

    def _reduce(self, values: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        return jnp.sum(values, -1)

    def moments(self) -> DiagonalMoments:
        return DiagonalMoments(self._safe.moments())

    def point(self) -> DiagonalMoments:
        """mu = m, tau = df / scatter."""
        return DiagonalMoments(self._safe.point())

    def point_at(self, value: MeanPrecision) -> DiagonalMoments:
        return DiagonalMoments.at(value.mean, value.precision)

    def kernel_gap(self, moments: DiagonalMoments) -> Float[Array, "*b"]:
        """Sum over the columns in nats; 0 for a column with neither rows nor a prior."""
        gap = self._safe.kernel_gap(moments.columns)
        return jnp.sum(jnp.where(self._on, gap, 0.0), -1)

    def kl_terms(self, prior: DiagonalNormalGamma) -> KLTerms:
        return self.columns.kl_terms(prior.columns).merged()
