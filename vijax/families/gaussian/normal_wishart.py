"""Normal-Wishart distribution of a mean and a precision matrix: full covariance."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import gauge, pytree, replace
from ...data.batch import Batch
from ...data.host import check_bound, standard
from ...numerics import linalg, special
from ...numerics.broadcasting import broadcasts
from ...numerics.kl_terms import KLTerms
from ..column_scale import seed_rows
from ..emission import Spread
from ..normal_gamma import MeanPrecision
from ..wishart import Wishart, covariance_sd, mean_covariance
from .base import Gaussian
from .likelihood import GaussianMoments
from .predictive import Student
from .sums import GaussianSums


@pytree
class NormalWishart(Gaussian):
    """mu | Lambda ~ N(m, (kappa Lambda)^-1) and Lambda ~ Wishart(scatter^-1, df), about `origin` c.

    It is conjugate to multivariate normal rows (Bishop 2006, section 10.2); E[Lambda] = df
    scatter^-1. Coordinates are kappa, shift = kappa (m - c), df, and
    square = scatter + kappa (m - c)(m - c)^T.
    T = (-(mu-c)' Lambda (mu-c) / 2, Lambda (mu-c), -Lambda / 2, log|Lambda| / 2),
    h = |Lambda|^(-d/2).
    """

    kappa: Float[Array, "*b"]
    shift: Float[Array, "*b d"]
    square: Float[Array, "*b d d"]
    df: Float[Array, "*b"]
    origin: Float[Array, "*b d"] = gauge()

    kind: ClassVar[str] = "full"

    @classmethod
    def from_standard(
        cls,
        mean: Any,
        kappa: Any,
        df: Any,
        scatter: Any,
    ) -> NormalWishart:
        """Prior mean m (*b, d) in data units, kappa > 0 (*b) in rows, df > d - 1 (*b) in rows, and
        scatter = W^-1 (*b, d, d) in units squared, positive definite.
        """
        mean, kappa, df, scatter = standard(
            mean=(mean, 1), kappa=(kappa, 0), df=(df, 0), scatter=(scatter, 2)
        )
        check_bound("kappa", kappa, above=0.0)
        check_bound("df", df, above=mean.shape[-1] - 1.0, note=" (d - 1)")
        return cls(kappa, jnp.zeros_like(mean), scatter, df, mean)

    @classmethod
    def from_sums(cls, sums: GaussianSums) -> NormalWishart:
        return cls(sums.kappa, sums.shift, sums.square, sums.count, sums.origin)

    def about(self, like: Any) -> NormalWishart:
        move, kappa = like.origin - self.origin, self.kappa[..., None]
        cross = linalg.outer(move, self.shift)
        square = self.square - cross - cross.mT + kappa[..., None] * linalg.outer(move, move)
        return replace(self, shift=self.shift - kappa * move, square=square, origin=like.origin)

    # -- standard parameters and posterior summaries -------------------------------------------

    @property
    def dim(self) -> int:
        return self.shift.shape[-1]

    @property
    def _offset(self) -> Float[Array, "*b d"]:
        return self.shift / self._safe_kappa[..., None]

    @property
    def scatter(self) -> Float[Array, "*b d d"]:
        """W^-1, in data units squared."""
        return self.square - linalg.outer(self.shift, self._offset)

    @property
    def _chol(self) -> Float[Array, "*b d d"]:
        # a component with neither rows nor a prior has weight 0, but must stay finite
        eye = jnp.eye(self.dim, dtype=self.square.dtype)
        return linalg.chol(jnp.where(self._on[..., None, None], self.scatter, eye))

    @property
    def mean_covariance(self) -> Float[Array, "*b d d"]:
        """Cov[mu] = E[Sigma] / kappa; NaN unless df > d + 1."""
        return self.covariance / self.kappa[..., None, None]

    @property
    def mean_sd(self) -> Float[Array, "*b d"]:
        """Standard deviation of each entry of mu."""
        return jnp.sqrt(linalg.diagonal(self.mean_covariance))

    @property
    def wishart(self) -> Wishart:
        """The marginal distribution of Lambda."""
        return Wishart(self.df, self._chol)

    @property
    def precision(self) -> Float[Array, "*b d d"]:
        """E[Lambda] = df W."""
        return self.wishart.mean

    @property
    def precision_sd(self) -> Float[Array, "*b d d"]:
        """Standard deviation of each entry of Lambda."""
        return self.wishart.sd

    @property
    def covariance(self) -> Float[Array, "*b d d"]:
        """E[Sigma] = scatter / (df - d - 1), Sigma = Lambda^-1; NaN unless df > d + 1."""
        return mean_covariance(self.scatter, self.df)

    @property
    def covariance_sd(self) -> Float[Array, "*b d d"]:
        """Standard deviation of each entry of Sigma; NaN unless df > d + 3."""
        return covariance_sd(self.scatter, self.df)

    # -- as a component -----------------------------------------------------------------------

    def seed(
        self, rows: Batch, seeds: Int[Array, "k"], count: Float[Array, "k"], spread: Spread = 1.0
    ) -> NormalWishart:
        """Each component at its seed row, with `spread` times the variance of all the data.

        With spread = 1 components overlap, so that superfluous ones lose their rows early.
        """
        origin, sd = seed_rows(rows, seeds)
        square = count[:, None, None] * jnp.diag(spread * sd**2)[None]
        return NormalWishart(count, jnp.zeros_like(origin), square, count, origin)

    def predictive(self) -> Student:
        """St(m, (1 + 1 / kappa) scatter / dof, dof), dof = df - d + 1 (Bishop 2006, eq. 10.81)."""
        dof = self.df - self.dim + 1.0
        scale = ((1.0 + 1.0 / self.kappa) / dof)[..., None, None] * self.scatter
        return Student(self.origin, self._offset, scale, dof)

    def num_parameters(self) -> tuple[int, int]:
        return self.dim + self.dim * (self.dim + 1) // 2, 0

    def collapsed(self, count: Float[Array, "k"]) -> Bool[Array, "k"]:
        """True if a column's conditional sd is at most 16 eps times its sd over all the data.

        Or if that is lost in the rounding of its sd in the component.
        """
        share, scatter = (count / jnp.sum(count))[:, None], self.scatter
        within = linalg.diagonal(scatter) / jnp.where(count > 0, count, 1.0)[:, None]
        middle = jnp.sum(share * self.mean, 0, keepdims=True)
        spread = jnp.sum(share * (within + (self.mean - middle) ** 2), 0, keepdims=True)
        root = linalg.chol(scatter)
        least = (16.0 * jnp.finfo(count.dtype).eps) ** 2 * spread * count[:, None]
        known = jnp.all(jnp.isfinite(self.square)) & jnp.all(jnp.isfinite(self.mean))
        wide = (linalg.diagonal(root) ** 2 > least) & linalg.resolved(root, scatter)
        return known & ~jnp.all(wide, -1)

    # -- the family -----------------------------------------------------------------------------

    def log_normalizer(self) -> Float[Array, "*b"]:
        """A of the Wishart, plus d log(2 pi / kappa) / 2, in nats."""
        mean = 0.5 * self.dim * (special.LOG_2PI - jnp.log(self.kappa))
        return self.wishart.log_normalizer() + mean

    def expectation(self) -> NormalWishart:
        """-E[(mu-c)' Lambda (mu-c)] / 2, E[Lambda (mu-c)], -E[Lambda] / 2 and E[log|Lambda|] / 2.

        The first is -[d / kappa + (m-c)' E[Lambda] (m-c)] / 2 and the second E[Lambda] (m-c).
        """
        precision, offset = self.precision, self._offset
        shift = linalg.matmul(precision, offset[..., None])[..., 0]
        kappa = -0.5 * (self.dim / self.kappa + jnp.sum(offset * shift, -1))
        df = 0.5 * self.wishart.e_logdet()
        return NormalWishart(kappa, shift, -0.5 * precision, df, self.origin)

    def moments(self) -> GaussianMoments:
        """Moments with scale = df and spread = d / kappa."""
        wishart, spread = self.wishart, self.dim / self.kappa
        return GaussianMoments(
            self.origin, self._offset, wishart.chol, self.df, wishart.e_logdet(), spread
        )

    def point(self) -> GaussianMoments:
        """mu = m, Lambda = df scatter^-1."""
        scale = jnp.where(self._on, self.df, 1.0)
        chol = self._chol
        log_det = self.dim * jnp.log(scale) - linalg.logdet(chol)
        return GaussianMoments(
            self.origin, self._offset, chol, scale, log_det, jnp.zeros_like(scale)
        )

    def point_at(self, value: MeanPrecision) -> GaussianMoments:
        covariance = linalg.precision_from_chol(linalg.chol(value.precision))
        return GaussianMoments.at(value.mean, covariance)

    def mode(self) -> MeanPrecision:
        """mu = m, Lambda = (df - d) scatter^-1; NaN unless df >= d."""
        scale = jnp.where(self.df >= self.dim, self.df - self.dim, jnp.nan)
        precision = linalg.precision_from_chol(self._chol)
        return MeanPrecision(self.mean, scale[..., None, None] * precision)

    def log_kernel(self, moments: GaussianMoments) -> Float[Array, "*b"]:
        """Expected log of NormalWishart(mu, Lambda) |Lambda|^(d/2) in nats."""
        return self._log(moments, 0.0)

    def kernel_gap(self, moments: GaussianMoments) -> Float[Array, "*b"]:
        """[df stein_loss(Lambda E[Lambda]^-1) + kappa (mu-m)' Lambda (mu-m)] / 2 in nats."""
        distance = (moments.origin - self.origin) + (moments.shift - self._offset)
        mean = jnp.sum(linalg.tri_solve_vector(moments.chol, distance) ** 2, -1)
        wishart = Wishart(jnp.where(self._on, self.df, 1.0), self._chol)
        gap = wishart.gap(moments.chol, moments.scale) + 0.5 * self.kappa * moments.scale * mean
        return jnp.where(self._on, gap, 0.0)

    def expected_log_prob(self, moments: GaussianMoments) -> Float[Array, "*b"]:
        return self._log(moments, 1.0)

    def _log(self, moments: GaussianMoments, base: float) -> Float[Array, "*b"]:
        distance = (moments.origin - self.origin) + (moments.shift - self._offset)
        mean = jnp.sum(linalg.tri_solve_vector(moments.chol, distance) ** 2, -1)
        trace = jnp.sum(linalg.tri_solve(moments.chol, self._chol) ** 2, (-2, -1))
        square = moments.scale * (self.kappa * mean + trace) + self.kappa * moments.spread
        power = special.xlogy(self.df - base * self.dim, moments.e_logdet)
        return 0.5 * (power - square) - self.log_normalizer()

    def kl(self, prior: NormalWishart) -> Float[Array, "*b"]:
        return self.kl_terms(prior).total()

    def kl_terms(self, prior: NormalWishart) -> KLTerms:
        """KL of Lambda, plus [d excess(kappa0 / kappa) + kappa0 (m-m0)' E[Lambda] (m-m0)] / 2."""
        wishart = self.wishart
        distance = (self.origin - prior.origin) + (self._offset - prior._offset)
        white = linalg.tri_solve_vector(wishart.chol, distance)
        square = 0.5 * prior.kappa * (self.df * linalg.sum_last(white**2))
        mean = KLTerms.normal(prior.kappa / self.kappa, self.dim, square)
        return KLTerms.join(wishart.kl_terms(prior.wishart), mean)

    def entropy(self) -> Float[Array, "*b"]:
        mean = self.dim * (1.0 + special.LOG_2PI - jnp.log(self.kappa))
        return self.wishart.entropy() + 0.5 * (mean - self.wishart.e_logdet())

    @broadcasts
    def log_prob(self, value: MeanPrecision) -> Float[Array, "..."]:
        """log p(mu, Lambda) in nats, for `value.mean` (*s, d) and `value.precision` (*s, d, d)."""
        root = linalg.chol(value.precision)
        move = value.mean - self.origin - self._offset
        mean = jnp.sum(jnp.sum(root * move[..., :, None], -2) ** 2, -1)
        trace = jnp.sum(value.precision * self.scatter, (-2, -1))
        power = (self.df - self.dim) * linalg.logdet(root)
        return 0.5 * (power - self.kappa * mean - trace) - self.log_normalizer()

    @broadcasts
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> MeanPrecision:
        k_precision, k_mean = jax.random.split(key)
        precision, root = self.wishart.sample(k_precision, shape)
        noise = jax.random.normal(k_mean, root.shape[:-1], root.dtype)
        step = linalg.matmul(root, noise[..., None])[..., 0] / jnp.sqrt(self.kappa)[..., None]
        return MeanPrecision(self.mean + step, precision)
