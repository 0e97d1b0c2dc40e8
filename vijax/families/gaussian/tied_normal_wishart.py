"""Normal-Wishart distribution of k means and one precision matrix: tied covariance."""

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
from ..column_scale import seed_rows
from ..emission import Spread
from ..normal_gamma import MeanPrecision
from ..wishart import Wishart, covariance_sd, mean_covariance
from .base import Gaussian
from .likelihood import GaussianMoments
from .predictive import Student
from .sums import GaussianSums


@pytree
class TiedNormalWishart(Gaussian):
    """mu_k | Lambda ~ N(m_k, (kappa_k Lambda)^-1), with Lambda ~ Wishart(scatter^-1, df) for all k.

    The k components are one event: results have the batch axes *b only, and df counts all rows.
    Coordinates about `origin` c are kappa_k, shift_k = kappa_k (m_k - c_k), df, and
    square = scatter + sum_k kappa_k (m_k - c_k)(m_k - c_k)^T. T = (-(mu_k-c_k)' Lambda (mu_k-c_k)
    / 2, Lambda (mu_k-c_k), -Lambda / 2, log|Lambda| / 2), h = |Lambda|^((k - d - 1) / 2).

    A component with kappa = 0 is switched off: no result has a term of it, and it does not count
    in the k of h.
    """

    kappa: Float[Array, "*b k"]
    shift: Float[Array, "*b k d"]
    square: Float[Array, "*b d d"]
    df: Float[Array, "*b"]
    origin: Float[Array, "*b k d"] = gauge()

    separable: ClassVar[bool] = False
    kind: ClassVar[str] = "tied"

    @classmethod
    def from_standard(cls, mean: Any, kappa: Any, df: Any, scatter: Any) -> TiedNormalWishart:
        """Prior means (*b, k, d) in data units, kappa (*b, k) in rows, 0 to switch a component off,
        df > d - 1 (*b) in rows, and scatter (*b, d, d) in units squared, positive definite.
        """
        given = {"mean": (mean, 2), "kappa": (kappa, 1), "df": (df, 0), "scatter": (scatter, 2)}
        mean, kappa, df, scatter = standard(**given)
        check_bound("kappa", kappa, least=0.0)
        check_bound("df", df, above=mean.shape[-1] - 1.0, note=" (d - 1)")
        return cls(kappa, jnp.zeros_like(mean), scatter, df, mean)

    @classmethod
    def from_sums(cls, sums: GaussianSums) -> TiedNormalWishart:
        square, df = jnp.sum(sums.square, 0), jnp.sum(sums.count)
        return cls(sums.kappa, sums.shift, square, df, sums.origin)

    def about(self, like: Any) -> TiedNormalWishart:
        move = like.origin - self.origin
        far = self.kappa[..., None] * move
        cross = linalg.matmul(move.mT, self.shift)
        square = self.square - cross - cross.mT + linalg.matmul(move.mT, far)
        return replace(self, shift=self.shift - far, square=square, origin=like.origin)

    # -- standard parameters and posterior summaries -------------------------------------------

    @property
    def dim(self) -> int:
        return self.shift.shape[-1]

    @property
    def _size(self) -> Float[Array, "*b"]:
        """Number of components that are switched on."""
        return jnp.sum(self._on, -1, dtype=self.df.dtype)

    def _sum(self, terms: Float[Array, "*b k"]) -> Float[Array, "*b"]:
        return jnp.sum(jnp.where(self._on, terms, 0.0), -1)

    @property
    def _offset(self) -> Float[Array, "*b k d"]:
        return self.shift / self._safe_kappa[..., None]

    @property
    def scatter(self) -> Float[Array, "*b d d"]:
        """W^-1, in data units squared."""
        return self.square - linalg.matmul(self.shift.mT, self._offset)

    @property
    def wishart(self) -> Wishart:
        """The marginal distribution of Lambda."""
        # with neither rows nor a prior all weights are 0, but results must stay finite
        some = jnp.any(self._on, -1)
        eye = jnp.eye(self.dim, dtype=self.square.dtype)
        chol = linalg.chol(jnp.where(some[..., None, None], self.scatter, eye))
        return Wishart(jnp.where(some, self.df, float(self.dim)), chol)

    def _each(self, a: Float[Array, "*b d d"]) -> Float[Array, "*b k d d"]:
        return jnp.broadcast_to(a[..., None, :, :], (*self.kappa.shape, self.dim, self.dim))

    @property
    def mean_sd(self) -> Float[Array, "*b k d"]:
        """Standard deviation of each entry of mu_k; NaN unless df > d + 1."""
        variance = linalg.diagonal(mean_covariance(self.scatter, self.df))
        return jnp.sqrt(variance[..., None, :] / self.kappa[..., None])

    @property
    def precision(self) -> Float[Array, "*b k d d"]:
        """E[Lambda] = df W, repeated for each component."""
        return self._each(self.wishart.mean)

    @property
    def precision_sd(self) -> Float[Array, "*b k d d"]:
        """Standard deviation of each entry of Lambda."""
        return self._each(self.wishart.sd)

    @property
    def covariance(self) -> Float[Array, "*b k d d"]:
        """E[Sigma] = scatter / (df - d - 1), repeated for each component; NaN unless df > d + 1."""
        return self._each(mean_covariance(self.scatter, self.df))

    @property
    def covariance_sd(self) -> Float[Array, "*b k d d"]:
        """Standard deviation of each entry of Sigma; NaN unless df > d + 3."""
        return self._each(covariance_sd(self.scatter, self.df))

    # -- as components ------------------------------------------------------------------------

    def seed(
        self, rows: Batch, seeds: Int[Array, "k"], count: Float[Array, "k"], spread: Spread = 1.0
    ) -> TiedNormalWishart:
        """Components at their seed rows, with `spread` times the variances of all the data."""
        origin, sd = seed_rows(rows, seeds)
        total = jnp.sum(count)
        return TiedNormalWishart(
            count, jnp.zeros_like(origin), total * jnp.diag(spread * sd**2), total, origin
        )

    def predictive(self) -> Student:
        """St(m_k, (1 + 1 / kappa_k) scatter / dof, dof) with dof = df - d + 1."""
        dof = self.df - self.dim + 1.0
        each = (1.0 + 1.0 / self._safe_kappa) / dof[..., None]
        scale = each[..., None, None] * self.scatter[..., None, :, :]
        return Student(
            self.origin, self._offset, scale, jnp.broadcast_to(dof[..., None], self.kappa.shape)
        )

    def num_parameters(self) -> tuple[int, int]:
        return self.dim, self.dim * (self.dim + 1) // 2

    def log_prior(self, moments: GaussianMoments, active: Bool[Array, "k"]) -> Float[Array, ""]:
        """As the base class; kappa = 0, not `active`, says which components are off."""
        return self.log_kernel(moments)

    def unseen(self, prior: TiedNormalWishart) -> TiedNormalWishart:
        """One component with a mean of the prior and the Lambda of q."""
        zero = jnp.zeros_like(prior.shift[:1])
        return TiedNormalWishart(prior.kappa[:1], zero, self.scatter, self.df, prior.mean[:1])

    def take(self, order: Int[Array, "m"]) -> TiedNormalWishart:
        """The components of these indices, with the same Lambda."""
        shift, offset = self.shift[..., order, :], self._offset[..., order, :]
        square = self.scatter + linalg.matmul(shift.mT, offset)
        origin = self.origin[..., order, :]
        return TiedNormalWishart(self.kappa[..., order], shift, square, self.df, origin)

    def extend(self, prior: Any) -> TiedNormalWishart:
        """These components, then means of the prior with the same Lambda."""
        new = self.kappa.shape[0]
        kappa = jnp.concatenate([self.kappa, prior.kappa[new:]])
        shift = jnp.concatenate([self.shift, jnp.zeros_like(prior.shift[new:])])
        origin = jnp.concatenate([self.origin, prior.mean[new:]])
        return TiedNormalWishart(kappa, shift, self.square, self.df, origin)

    def exchangeable(self) -> Bool[Array, ""]:
        """Whether all components that are switched on have the same parameters."""
        mean = self.mean
        same = (self.kappa == self.kappa[:1]) & jnp.all(mean == mean[:1], -1)
        return jnp.all(same | ~self._on)

    def collapsed(self, count: Float[Array, "k"]) -> Bool[Array, "k"]:
        """True, for all, if a column's conditional sd is at most 16 eps of its sd over all data."""
        total = jnp.sum(count)
        share, scatter = (count / total)[:, None], self.scatter
        middle = jnp.sum(share * self.mean, 0, keepdims=True)
        between = jnp.sum(share * (self.mean - middle) ** 2, 0)
        root = linalg.chol(scatter)
        least = (16.0 * jnp.finfo(count.dtype).eps) ** 2
        least = least * (linalg.diagonal(scatter) + total * between)
        wide = (linalg.diagonal(root) ** 2 > least) & linalg.resolved(root, scatter)
        known = jnp.all(jnp.isfinite(self.square)) & jnp.all(jnp.isfinite(self.mean))
        return jnp.broadcast_to(known & ~jnp.all(wide), count.shape)

    def merge_gain(self, prior: TiedNormalWishart) -> Float[Array, "k k"]:
        """Gain of A in nats from moving the rows of k to j; 0 if one of them has no rows.

        The scatter changes by two outer products: the mean of k returns to its prior mean, and the
        rows of k are pooled with component j.
        """
        stats = self - prior
        on = self._on & prior._on & (stats.kappa > 0)
        rows = jnp.where(on, stats.kappa, 1.0)
        kappa, kappa0 = jnp.where(on, self.kappa, 1.0), jnp.where(on, prior.kappa, 1.0)
        wishart = self.wishart
        root = linalg.tri_inverse(wishart.chol)
        centre = stats.shift / rows[:, None]
        home = ((prior.origin - self.origin) + prior._offset) - centre
        a = linalg.matmul(home * jnp.sqrt(kappa0 * rows / kappa)[:, None], root.mT)
        # (j, k, d): from the mean of j to that of the rows of k
        apart = (self.origin[None] - self.origin[:, None]) + (centre[None] - self._offset[:, None])
        pooled = jnp.sqrt(kappa[:, None] * rows[None] / (kappa[:, None] + rows[None]))
        b = linalg.matmul(apart * pooled[:, :, None], root.mT)
        # |I - a a^T + b b^T| = (1 - a a) (1 + b b) + (a b)^2
        a_a, b_b = jnp.sum(a**2, -1), jnp.sum(b**2, -1)
        change = (1.0 - a_a)[None] * (1.0 + b_b) + jnp.sum(a[None] * b, -1) ** 2
        means = jnp.log1p(rows[None] / kappa[:, None]) + jnp.log(kappa0 / kappa)[None]
        gain = -0.5 * (self.dim * means + wishart.df * jnp.log(change))
        return jnp.where(on[:, None] & on[None], gain, 0.0)

    # -- the family -----------------------------------------------------------------------------

    def log_normalizer(self) -> Float[Array, "*b"]:
        """A of the Wishart, plus sum_k d log(2 pi / kappa_k) / 2, in nats."""
        # kappa < 0, where there is no density, gives NaN; kappa = 0 is a component that is off
        off = self.kappa == 0
        each = special.LOG_2PI - jnp.log(jnp.where(off, 1.0, self.kappa))
        means = jnp.sum(jnp.where(off, 0.0, each), -1)
        return self.wishart.log_normalizer() + 0.5 * self.dim * means

    def expectation(self) -> TiedNormalWishart:
        """E[T] as of `NormalWishart`; 0 for the mean of a component that is off."""
        wishart, offset = self.wishart, self._offset
        precision = wishart.mean
        shift = linalg.matmul(offset, precision)
        kappa = -0.5 * (self.dim / self._safe_kappa + jnp.sum(offset * shift, -1))
        kappa = jnp.where(self._on, kappa, 0.0)
        return TiedNormalWishart(
            kappa, shift, -0.5 * precision, 0.5 * wishart.e_logdet(), self.origin
        )

    def moments(self) -> GaussianMoments:
        """Moments with scale = df and spread = d / kappa_k."""
        wishart = self.wishart
        spread = jnp.where(self._on, self.dim / self._safe_kappa, 0.0)
        return self._moments(wishart, wishart.e_logdet(), spread)

    def point(self) -> GaussianMoments:
        """mu_k = m_k, Lambda = df scatter^-1."""
        wishart = self.wishart
        log_det = self.dim * jnp.log(wishart.df) - linalg.logdet(wishart.chol)
        return self._moments(wishart, log_det, jnp.zeros_like(self.kappa))

    def _moments(self, wishart: Wishart, log_det: Array, spread: Array) -> GaussianMoments:
        scale, log_det = (
            jnp.broadcast_to(a[..., None], self.kappa.shape) for a in (wishart.df, log_det)
        )
        chol = self._each(wishart.chol)
        return GaussianMoments(self.origin, self._offset, chol, scale, log_det, spread)

    def point_at(self, value: MeanPrecision) -> GaussianMoments:
        covariance = linalg.precision_from_chol(linalg.chol(value.precision))
        return GaussianMoments.at(value.mean, self._each(covariance))

    def mode(self) -> MeanPrecision:
        """mu_k = m_k, Lambda = (df + k - d - 1) scatter^-1; NaN unless df >= d + 1 - k."""
        power = self.df + self._size - self.dim - 1.0
        power = jnp.where(power >= 0, power, jnp.nan)
        precision = linalg.precision_from_chol(self.wishart.chol)
        return MeanPrecision(self.mean, power[..., None, None] * precision)

    def _square(self, moments: GaussianMoments) -> Float[Array, "*b"]:
        """sum_k kappa_k (E[mu_k] - m_k)' E[Lambda] (E[mu_k] - m_k)."""
        distance = (moments.origin - self.origin) + (moments.shift - self._offset)
        each = jnp.sum(linalg.tri_solve_vector(moments.chol, distance) ** 2, -1)
        return self._sum(self.kappa * moments.scale * each)

    def log_kernel(self, moments: GaussianMoments) -> Float[Array, "*b"]:
        """Expected log of p(mu, Lambda) |Lambda|^((d + 1 - k) / 2) in nats."""
        return self._log(moments, 0.0)

    def kernel_gap(self, moments: GaussianMoments) -> Float[Array, "*b"]:
        """[df stein_loss(Lambda E[Lambda]^-1) + sum_k kappa_k (mu_k-m_k)'Lambda(mu_k-m_k)] / 2."""
        chol, scale = moments.chol[..., 0, :, :], moments.scale[..., 0]
        gap = self.wishart.gap(chol, scale) + 0.5 * self._square(moments)
        return jnp.where(jnp.any(self._on, -1), gap, 0.0)

    def expected_log_prob(self, moments: GaussianMoments) -> Float[Array, "*b"]:
        return self._log(moments, 1.0)

    def _log(self, moments: GaussianMoments, base: float) -> Float[Array, "*b"]:
        chol, scale = moments.chol[..., 0, :, :], moments.scale[..., 0]
        trace = jnp.sum(linalg.tri_solve(chol, self.wishart.chol) ** 2, (-2, -1))
        spread = self._sum(self.kappa * moments.spread)
        power = self.df + base * (self._size - self.dim - 1.0)
        power = special.xlogy(power, moments.e_logdet[..., 0])
        return 0.5 * (power - scale * trace - self._square(moments) - spread) - (
            self.log_normalizer()
        )

    def kl(self, prior: TiedNormalWishart) -> Float[Array, "*b"]:
        """KL(self || prior) in nats; both must have the same components switched on.

        It is the KL of Lambda, plus half the sum over k of
        d excess(kappa0_k / kappa_k) + kappa0_k (m_k-m0_k)' E[Lambda] (m_k-m0_k).
        """
        wishart = self.wishart
        distance = (self.origin - prior.origin) + (self._offset - prior._offset)
        white = linalg.matmul(distance, linalg.tri_inverse(wishart.chol).mT)
        square = wishart.df[..., None] * jnp.sum(white**2, -1)
        each = (
            self.dim * special.excess(prior._safe_kappa / self._safe_kappa) + prior.kappa * square
        )
        return 0.5 * self._sum(each) + wishart.kl(prior.wishart)

    def entropy(self) -> Float[Array, "*b"]:
        wishart = self.wishart
        each = self.dim * (1.0 + special.LOG_2PI - jnp.log(self._safe_kappa))
        means = self._sum(each - wishart.e_logdet()[..., None])
        return wishart.entropy() + 0.5 * means

    @broadcasts
    def log_prob(self, value: MeanPrecision) -> Float[Array, "..."]:
        """log p(mu, Lambda) in nats, for `value.mean` (*s, k, d), `value.precision` (*s, d, d)."""
        root = linalg.chol(value.precision)
        move = (value.mean - self.origin) - self._offset
        square = self.kappa * jnp.sum(linalg.matmul(move, root) ** 2, -1)
        trace = jnp.sum(value.precision * self.scatter, (-2, -1))
        power = (self.df + self._size - self.dim - 1.0) * linalg.logdet(root)
        return 0.5 * (power - jnp.sum(square, -1) - trace) - self.log_normalizer()

    @broadcasts
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> MeanPrecision:
        """Draws of mu (*s, k, d) and Lambda (*s, d, d); m_k for a component that is off."""
        k_precision, k_mean = jax.random.split(key)
        precision, root = self.wishart.sample(k_precision, shape)
        noise = jax.random.normal(k_mean, (*shape, *self.shift.shape), root.dtype)
        step = linalg.matmul(noise, root.mT) / jnp.sqrt(self._safe_kappa)[..., None]
        return MeanPrecision(self.mean + jnp.where(self._on[..., None], step, 0.0), precision)
