"""Normal-Gamma on every column's mean and precision: Gaussians with diagonal covariance."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from .._host import check_bound, standard
from .._pytree import pytree, replace
from ..batch import Batch
from ..numerics import special
from ..numerics.terms import Terms
from . import diagonal_rows
from .diagonal_rows import DiagonalMoments, diagonal_matrix
from .gaussian import Gaussian
from .normal_gamma import MeanPrecision, NormalGamma
from .standardize import refuse_noise, seed_rows
from .student import Student


@pytree
class DiagonalNormalGamma(Gaussian):
    """mu_d | tau_d ~ N(m_d, 1 / (kappa tau_d)), tau_d ~ Gamma(df / 2, scatter_d / 2), each column

    d on its own: a `NormalGamma` with batch (*b, d), whose results are summed over the columns.
    Rows may count differently in each column, as they do where entries are missing.
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

    def observe(
        self,
        rows: Batch,
        mass: Any,
        at: Any,
        latent: Any = None,
        scale: Float[Array, "n k"] | float = 1.0,
    ) -> DiagonalNormalGamma:
        """Weighted sufficient statistics of the observed entries, each component's about its mean.

        `scale` multiplies the precision of each row.
        """
        count, kappa, shift, square, origin = diagonal_rows.statistics(
            rows, mass, at, latent, scale
        )
        return DiagonalNormalGamma(NormalGamma(kappa, shift, 0.5 * count, 0.5 * square, origin))

    def about(self, like: Any) -> DiagonalNormalGamma:
        """The same density about `like.origin`."""
        return DiagonalNormalGamma(self.columns.about(like))

    # -- standard parameters and posterior summaries -------------------------------------------

    @property
    def dim(self) -> int:
        """d."""
        return self.columns.kappa.shape[-1]

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
    def mean(self) -> Float[Array, "*b d"]:
        """E[mu] = m."""
        return self._safe.mean

    @property
    def kappa(self) -> Float[Array, "*b d"]:
        """Rows that each column's mean is worth."""
        return self.columns.kappa

    @property
    def df(self) -> Float[Array, "*b d"]:
        """Twice the shape of tau: rows that each column's precision is worth."""
        return 2.0 * self.columns.shape

    @property
    def scatter(self) -> Float[Array, "*b d"]:
        """Twice the rate of tau, in data units squared."""
        return jnp.where(self._on, 2.0 * self._safe.rate, 0.0)

    @property
    def mean_sd(self) -> Float[Array, "*b d"]:
        """Standard deviation of each entry of mu; NaN unless df > 2."""
        return self.columns.mean_sd

    @property
    def variance(self) -> Float[Array, "*b d"]:
        """E[1 / tau] = scatter / (df - 2); NaN unless df > 2."""
        return self.columns.variance

    @property
    def variance_sd(self) -> Float[Array, "*b d"]:
        """Standard deviation of 1 / tau; NaN unless df > 4."""
        return self.columns.variance_sd

    @property
    def covariance(self) -> Float[Array, "*b d d"]:
        """E[Sigma]: `variance` on the diagonal."""
        return diagonal_matrix(self.variance)

    @property
    def covariance_sd(self) -> Float[Array, "*b d d"]:
        """Standard deviation of each entry of Sigma; NaN on the diagonal unless df > 4."""
        return diagonal_matrix(self.variance_sd)

    @property
    def precision(self) -> Float[Array, "*b d d"]:
        """E[Lambda]: E[tau] on the diagonal."""
        return diagonal_matrix(self.columns.precision)

    @property
    def precision_sd(self) -> Float[Array, "*b d d"]:
        """Standard deviation of each entry of Lambda."""
        return diagonal_matrix(self.columns.precision_sd)

    # -- as a component -----------------------------------------------------------------------

    def check(self, rows: Batch) -> None:
        """Raise ValueError unless rows are (n, d) with the prior's d, and without noise."""
        super().check(rows)
        refuse_noise(rows, "the diagonal Gaussian")

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

    @property
    def _inner(self) -> Float[Array, "*b d"]:
        """1 / E[tau]."""
        return self.columns.rate / self.columns.shape

    def predictive(self) -> Student:
        """One Student-t per column, with df degrees of freedom each: `dof` is (k, d)."""
        part = self.columns
        return Student(
            part.origin,
            part._offset,
            diagonal_matrix((1.0 + 1.0 / self.kappa) * self._inner),
            self.df,
        )

    def log_predictive(
        self, rows: Batch, scale: Float[Array, "n k"] | None = None
    ) -> Float[Array, "n k"]:
        """log density of the observed entries: every column a Student-t with df degrees of freedom.

        `scale` multiplies the precision of the row given theta.
        """
        refuse_noise(rows, "the predictive density", "leave it out of the rows")
        part, own = self.columns, 1.0 if scale is None else 1.0 / scale.T[:, None, :]
        width = (own + 1.0 / self.kappa[:, :, None]) * self._inner[:, :, None]
        zero = jnp.zeros_like(self.df)
        top = special.log_student(zero, zero, self.df, zero + 1.0)[:, :, None]
        z = (rows.x.T - part.origin[:, :, None]) - part._offset[:, :, None]
        dof = self.df[:, :, None]
        each = top - 0.5 * jnp.log(width) - 0.5 * (dof + 1.0) * jnp.log1p(z**2 / (width * dof))
        return jnp.sum(each if rows.mask is None else jnp.where(rows.mask.T, each, 0.0), 1).T

    def draw(
        self,
        key: Key[Array, ""],
        index: Int[Array, "n"],
        scale: Float[Array, "n"] | None = None,
    ) -> Float[Array, "n d"]:
        """Rows from the predictive density; `scale` as in `log_predictive`."""
        k_normal, k_scale = jax.random.split(key)
        own = jax.tree.map(lambda a: a[index], self)
        half = own.columns.shape
        tau = jax.random.gamma(k_scale, half, dtype=half.dtype) / half
        noise = jax.random.normal(k_normal, half.shape, half.dtype)
        inner = 1.0 if scale is None else 1.0 / scale[:, None]
        return own.mean + noise * jnp.sqrt((inner + 1.0 / own.kappa) * own._inner / tau)

    def num_parameters(self) -> tuple[int, int]:
        """Means and variances of each."""
        return 2 * self.dim, 0

    def row_size(self, rows: Batch) -> int:
        """Differences, log-densities and responsibilities."""
        return diagonal_rows.row_size(*self.kappa.shape[-2:])

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

    def kl_terms(self, prior: DiagonalNormalGamma) -> Terms:
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
