"""Normal-Wishart on a mean and a precision matrix, conjugate to multivariate normal rows."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .._host import check_bound, standard
from .._pytree import gauge, pytree, replace
from ..natural import Natural
from ..numerics import linalg, special
from .normal_gamma import MeanPrecision


@pytree
class GaussianMoments:
    """What a Gaussian likelihood needs to know of (mu, Lambda): under q, or at a point.

    `origin + shift` is E[mu]; E[Lambda] = scale * (chol chol^T)^-1; `e_logdet` is E[log|Lambda|];
    `spread` is E[(mu - E[mu])^T Lambda (mu - E[mu])], the price of not knowing mu (0 at a point).
    Mean and origin are kept apart because their sum would round at the size of the data.
    """

    origin: Float[Array, "*b d"]
    shift: Float[Array, "*b d"]
    chol: Float[Array, "*b d d"]
    scale: Float[Array, "*b"]
    e_logdet: Float[Array, "*b"]
    spread: Float[Array, "*b"]

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """E[mu], rounded to the data's own resolution."""
        return self.origin + self.shift

    @property
    def covariance(self) -> Float[Array, "*b d d"]:
        """E[Lambda]^-1: at a point Sigma itself."""
        return linalg.matmul(self.chol, self.chol.mT) / self.scale[..., None, None]

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """Mean and standard deviation of every column."""
        return _columns(self.mean, self.covariance, names)

    def log_lik(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """E[log N(x_n | mu_k, Lambda_k^-1)] in nats."""
        # k small inverses and k centred products: faster than n triangular solves, as accurate
        z = (x.T - self.origin[:, :, None]) - self.shift[:, :, None]
        square = jnp.sum(linalg.matmul(linalg.tri_inverse(self.chol), z) ** 2, 1).T
        constant = self.e_logdet - self.spread - x.shape[-1] * special.LOG_2PI
        return 0.5 * (constant - self.scale * square)


@pytree
class NormalWishart(Natural):
    """mu | Lambda ~ N(m, (kappa Lambda)^-1), Lambda ~ Wishart(scatter^-1, df), about `origin` c.

    E[Lambda] = df scatter^-1. Coordinates: kappa, shift = kappa (m - c), df, and
    square = scatter + kappa (m - c)(m - c)^T. For statistics, c is put at the current means, so
    that no difference of large numbers is ever formed (Bishop 2006, section 10.2).
    T = (-(mu-c)' Lambda (mu-c) / 2, Lambda (mu-c), -Lambda / 2, log|Lambda| / 2),
    h = |Lambda|^(-d/2).
    """

    kappa: Float[Array, "*b"]
    shift: Float[Array, "*b d"]
    square: Float[Array, "*b d d"]
    df: Float[Array, "*b"]
    origin: Float[Array, "*b d"] = gauge()

    @classmethod
    def from_standard(
        cls,
        mean: Any,
        kappa: Any,
        df: Any,
        scatter: Any,
    ) -> NormalWishart:
        """From m (*b, d) in data units, kappa > 0 (*b) in rows, df > d - 1 (*b), and
        scatter = W^-1 (*b, d, d) in units squared, positive definite.
        """
        mean, kappa, df, scatter = standard(
            mean=(mean, 1), kappa=(kappa, 0), df=(df, 0), scatter=(scatter, 2)
        )
        check_bound("kappa", kappa, above=0.0)
        check_bound("df", df, above=mean.shape[-1] - 1.0, note=" (d - 1)")
        return cls(kappa, jnp.zeros_like(mean), scatter, df, mean)

    @classmethod
    def observe(
        cls, x: Float[Array, "n d"], weight: Float[Array, "n k"], at: GaussianMoments
    ) -> NormalWishart:
        """Weighted sufficient statistics of Gaussian rows, each component's about its own mean."""
        origin = at.mean
        z = x.T - origin[:, :, None]
        weighted = z * weight.T[:, None, :]
        count = jnp.sum(weight, 0)
        square = linalg.matmul(weighted, z.mT)
        return cls(count, jnp.sum(weighted, -1), square, count, origin)

    def about(self, like: Any) -> NormalWishart:
        """The same density about `like.origin`."""
        move, kappa = like.origin - self.origin, self.kappa[..., None]
        cross = linalg.outer(move, self.shift)
        square = self.square - cross - cross.mT + kappa[..., None] * linalg.outer(move, move)
        return replace(self, shift=self.shift - kappa * move, square=square, origin=like.origin)

    # -- standard parameters and posterior summaries -------------------------------------------

    @property
    def dim(self) -> int:
        """d."""
        return self.shift.shape[-1]

    @property
    def _on(self) -> Any:
        return self.kappa > 0

    @property
    def _offset(self) -> Float[Array, "*b d"]:
        return self.shift / jnp.where(self._on, self.kappa, 1.0)[..., None]

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """E[mu] = m."""
        return self.origin + self._offset

    @property
    def scatter(self) -> Float[Array, "*b d d"]:
        """W^-1, in data units squared."""
        return self.square - linalg.outer(self.shift, self._offset)

    @property
    def _chol(self) -> Float[Array, "*b d d"]:
        # a component without any mass, real or prior, must stay finite: its weight is zero
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
    def precision(self) -> Float[Array, "*b d d"]:
        """E[Lambda] = df W."""
        return self.df[..., None, None] * linalg.precision_from_chol(self._chol)

    @property
    def precision_sd(self) -> Float[Array, "*b d d"]:
        """Standard deviation of each entry of Lambda."""
        w = linalg.precision_from_chol(self._chol)
        diag = linalg.diagonal(w)
        return jnp.sqrt(self.df[..., None, None] * (w**2 + linalg.outer(diag, diag)))

    @property
    def covariance(self) -> Float[Array, "*b d d"]:
        """E[Sigma] = scatter / (df - d - 1), Sigma = Lambda^-1; NaN unless df > d + 1."""
        free = self.df - self.dim - 1.0
        return self.scatter / jnp.where(free > 0, free, jnp.nan)[..., None, None]

    @property
    def covariance_sd(self) -> Float[Array, "*b d d"]:
        """Standard deviation of each entry of Sigma; NaN unless df > d + 3."""
        free = (self.df - self.dim)[..., None, None]
        scatter, diag = self.scatter, linalg.diagonal(self.scatter)
        top = (free + 1.0) * scatter**2 + (free - 1.0) * linalg.outer(diag, diag)
        bottom = free * (free - 1.0) ** 2 * (free - 3.0)
        return jnp.sqrt(top / jnp.where(free > 3.0, bottom, jnp.nan))

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """Posterior mean and expected standard deviation of every column."""
        return _columns(self.mean, self.covariance, names)

    # -- the family -----------------------------------------------------------------------------

    @property
    def _half_df(self) -> Float[Array, "*b d"]:
        """(df - j) / 2 for j = 0 .. d - 1, the shapes of the Wishart's d chi-squares."""
        return 0.5 * (self.df[..., None] - self._steps)

    @property
    def _steps(self) -> Float[Array, "d"]:
        return jnp.arange(self.dim, dtype=self.df.dtype)

    def _e_logdet(self, chol: Float[Array, "*b d d"]) -> Float[Array, "*b"]:
        half = self._half_df
        each = jnp.log(2.0 * half) - special.digamma_gap(half)
        return jnp.sum(each, -1) - linalg.logdet(chol)

    def log_normalizer(self) -> Float[Array, "*b"]:
        """log of the Normal-Wishart normaliser, in nats (Bishop 2006, eq. B.79 inverted)."""
        half, d = self._half_df, self.dim
        geometric = jnp.sum(jnp.log(2.0 * half), -1) - linalg.logdet(self._chol)
        rest = special.stirling_error(half) - half - 0.5 * (1.0 + self._steps) * jnp.log(half)
        constant = 0.5 * d * special.LOG_2PI + 0.25 * d * (d - 1) * math.log(math.pi)
        mean = 0.5 * d * (special.LOG_2PI - jnp.log(self.kappa))
        return 0.5 * self.df * geometric + jnp.sum(rest, -1) + constant + mean

    def expectation(self) -> NormalWishart:
        """(-E[(mu-c)' Lambda (mu-c)] / 2, E[Lambda (mu-c)], -E[Lambda] / 2, E log|Lambda| / 2)."""
        precision, offset = self.precision, self._offset
        shift = linalg.matmul(precision, offset[..., None])[..., 0]
        kappa = -0.5 * (self.dim / self.kappa + jnp.sum(offset * shift, -1))
        df = 0.5 * self._e_logdet(self._chol)
        return NormalWishart(kappa, shift, -0.5 * precision, df, self.origin)

    def moments(self) -> GaussianMoments:
        """Under q: scale = df, spread = d / kappa."""
        chol = self._chol
        spread = self.dim / self.kappa
        return GaussianMoments(
            self.origin, self._offset, chol, self.df, self._e_logdet(chol), spread
        )

    def point(self) -> GaussianMoments:
        """mu = m, Lambda = df scatter^-1."""
        scale = jnp.where(self._on, self.df, 1.0)
        chol = self._chol
        log_det = self.dim * jnp.log(scale) - linalg.logdet(chol)
        return GaussianMoments(
            self.origin, self._offset, chol, scale, log_det, jnp.zeros_like(scale)
        )

    def mode(self) -> MeanPrecision:
        """mu = m, Lambda = (df - d) scatter^-1; NaN unless df >= d."""
        scale = jnp.where(self.df >= self.dim, self.df - self.dim, jnp.nan)
        precision = linalg.precision_from_chol(self._chol)
        return MeanPrecision(self.mean, scale[..., None, None] * precision)

    def log_kernel(self, moments: GaussianMoments) -> Float[Array, "*b"]:
        """log of NormalWishart(mu, Lambda) |Lambda|^(d/2), in nats."""
        return self._log(moments, 0.0)

    def kernel_gap(self, moments: GaussianMoments) -> Float[Array, "*b"]:
        """df stein_loss(Lambda E[Lambda]^-1) / 2 + kappa |mu - m|_Lambda^2 / 2, in nats."""
        distance = (moments.origin - self.origin) + (moments.shift - self._offset)
        mean = jnp.sum(linalg.tri_solve_vector(moments.chol, distance) ** 2, -1)
        df = jnp.where(self._on, self.df, 1.0)
        ratio = linalg.tri_solve(moments.chol, self._chol)
        ratio = ratio * jnp.sqrt(moments.scale / df)[..., None, None]
        gap = df * linalg.stein_loss(ratio) + self.kappa * moments.scale * mean
        return jnp.where(self._on, 0.5 * gap, 0.0)

    def expected_log_prob(self, moments: GaussianMoments) -> Float[Array, "*b"]:
        """E[log NormalWishart(mu, Lambda)] in nats."""
        return self._log(moments, 1.0)

    def _log(self, moments: GaussianMoments, base: float) -> Float[Array, "*b"]:
        distance = (moments.origin - self.origin) + (moments.shift - self._offset)
        mean = jnp.sum(linalg.tri_solve_vector(moments.chol, distance) ** 2, -1)
        trace = jnp.sum(linalg.tri_solve(moments.chol, self._chol) ** 2, (-2, -1))
        square = moments.scale * (self.kappa * mean + trace) + self.kappa * moments.spread
        power = special.xlogy(self.df - base * self.dim, moments.e_logdet)
        return 0.5 * (power - square) - self.log_normalizer()

    def kl(self, prior: NormalWishart) -> Float[Array, "*b"]:
        """KL in nats, as a sum of non-negative terms."""
        chol, df, df0 = self._chol, self.df, prior.df
        distance = (self.origin - prior.origin) + (self._offset - prior._offset)
        quadratic = df * jnp.sum(linalg.tri_solve_vector(chol, distance) ** 2, -1)
        spread = self.dim * special.excess(prior.kappa / self.kappa)
        ratio = linalg.tri_solve(chol, prior._chol) * jnp.sqrt(df / df0)[..., None, None]
        # sum_j [df0 log(df / df0) - (df0 - j) log((df - j) / (df0 - j))] / 2, term by term
        j = self._steps
        left = df0[..., None] - j
        logs = jnp.log1p(j * (df - df0)[..., None] / (df[..., None] * left))
        steps = j * special.log_ratio(df, df0)[..., None] - left * logs
        gaps = special.shape_gap(self._half_df, prior._half_df) + 0.5 * steps
        wishart = 0.5 * df0 * linalg.stein_loss(ratio) + jnp.sum(gaps, -1)
        return 0.5 * (spread + prior.kappa * quadratic) + wishart

    def entropy(self) -> Float[Array, "*b"]:
        """Differential entropy in nats."""
        half, d, chol = self._half_df, self.dim, self._chol
        each = special.stirling_error(half) - 0.5 * (1.0 + self._steps) * jnp.log(half)
        each = each + 0.5 * self.df[..., None] * special.digamma_gap(half)
        constant = d * special.LOG_2PI + 0.25 * d * (d - 1) * (1.0 + math.log(math.pi))
        mean = 0.5 * d * (1.0 - jnp.log(self.kappa) + self._e_logdet(chol))
        return jnp.sum(each, -1) + constant + mean

    def log_prob(self, value: MeanPrecision) -> Float[Array, "..."]:
        """log p(mu, Lambda) in nats, for `value.mean` (*s, d) and `value.precision` (*s, d, d)."""
        root = linalg.chol(value.precision)
        move = value.mean - self.origin - self._offset
        mean = jnp.sum(jnp.sum(root * move[..., :, None], -2) ** 2, -1)
        trace = jnp.sum(value.precision * self.scatter, (-2, -1))
        power = (self.df - self.dim) * linalg.logdet(root)
        return 0.5 * (power - self.kappa * mean - trace) - self.log_normalizer()

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> MeanPrecision:
        """Draws of (mu, Lambda), by Bartlett's decomposition of the Wishart."""
        k_chi, k_off, k_mean = jax.random.split(key, 3)
        dtype, d, batch = self.square.dtype, self.dim, (*shape, *self.df.shape)
        half = jnp.broadcast_to(self._half_df, (*batch, d))
        diag = jnp.sqrt(2.0 * jax.random.gamma(k_chi, half, dtype=dtype))
        below = jnp.tril(jax.random.normal(k_off, (*batch, d, d), dtype), -1)
        bartlett = below + diag[..., None] * jnp.eye(d, dtype=dtype)
        chol = jnp.broadcast_to(self._chol, (*batch, d, d))
        root = linalg.matmul(linalg.tri_inverse(chol).mT, bartlett)
        noise = jax.random.normal(k_mean, (*batch, d), dtype)
        # root root^T = Lambda, and root^-T = chol bartlett^-T
        step = jnp.sum(linalg.tri_inverse(bartlett) * noise[..., :, None], -2)
        step = linalg.matmul(chol, step[..., None])[..., 0] / jnp.sqrt(self.kappa)[..., None]
        return MeanPrecision(self.mean + step, linalg.matmul(root, root.mT))


def _columns(mean: Array, covariance: Array, names: list[str] | None) -> dict[str, Any]:
    names = names or [f"x{j}" for j in range(mean.shape[-1])]
    sd = jnp.sqrt(linalg.diagonal(covariance))
    means = {f"mean {name}": mean[..., j] for j, name in enumerate(names)}
    return means | {f"sd {name}": sd[..., j] for j, name in enumerate(names)}
