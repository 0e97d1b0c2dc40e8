"""Wishart distribution of a precision matrix, a part of every Normal-Wishart."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .._pytree import pytree
from ..numerics import linalg, special
from ..numerics.kl_terms import KLTerms


@pytree
class Wishart:
    """Lambda ~ Wishart(scatter^-1, df), stored as df > d - 1 and the Cholesky factor of scatter.

    The density is |Lambda|^((df - d - 1) / 2) exp(-tr(scatter Lambda) / 2 - A) (Bishop 2006, B.78).
    """

    df: Float[Array, "*b"]
    chol: Float[Array, "*b d d"]

    @property
    def dim(self) -> int:
        """Number of rows d of Lambda."""
        return self.chol.shape[-1]

    @property
    def _steps(self) -> Float[Array, "... d"]:
        steps = jnp.arange(self.dim, dtype=self.df.dtype)
        return steps.reshape(*[1] * self.df.ndim, -1)

    @property
    def _half_df(self) -> Float[Array, "*b d"]:
        """(df - j) / 2 for j < d, half the degrees of freedom in Bartlett's decomposition."""
        return 0.5 * (self.df[..., None] - self._steps)

    @property
    def mean(self) -> Float[Array, "*b d d"]:
        """E[Lambda] = df scatter^-1."""
        return self.df[..., None, None] * linalg.precision_from_chol(self.chol)

    @property
    def sd(self) -> Float[Array, "*b d d"]:
        """Standard deviation of each entry of Lambda."""
        w = linalg.precision_from_chol(self.chol)
        diag = linalg.diagonal(w)
        return jnp.sqrt(self.df[..., None, None] * (w**2 + linalg.outer(diag, diag)))

    def e_logdet(self) -> Float[Array, "*b"]:
        """E[log|Lambda|] = sum_j digamma((df - j) / 2) + d log(2) - log|scatter|, over j < d."""
        half = self._half_df
        each = jnp.log(2.0 * half) - special.digamma_gap(half)
        return linalg.sum_last(each) - linalg.logdet(self.chol)

    def log_normalizer(self) -> Float[Array, "*b"]:
        """A = df (d log(2) - log|scatter|) / 2 + log Gamma_d(df / 2) in nats (Bishop 2006, B.79).

        log Gamma_d(df / 2) = d (d - 1) log(pi) / 4 + sum_j log Gamma((df - j) / 2), over j < d.
        Each log Gamma is Stirling's formula plus stirling_error, and large terms are gathered.
        """
        half, d = self._half_df, self.dim
        gathered = jnp.sum(jnp.log(2.0 * half), -1) - linalg.logdet(self.chol)
        each = special.stirling_error(half) - half - 0.5 * (1.0 + self._steps) * jnp.log(half)
        constant = 0.5 * d * special.LOG_2PI + 0.25 * d * (d - 1) * math.log(math.pi)
        return 0.5 * self.df * gathered + jnp.sum(each, -1) + constant

    def gap(self, chol: Float[Array, "*b d d"], scale: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """df stein_loss(Lambda E[Lambda]^-1) / 2 in nats, for Lambda = scale (chol chol^T)^-1."""
        ratio = linalg.tri_solve(chol, self.chol) * jnp.sqrt(scale / self.df)[..., None, None]
        return 0.5 * self.df * linalg.stein_loss(ratio)

    def kl(self, prior: Wishart) -> Float[Array, "*b"]:
        """KL(self || prior) in nats: a sum of non-negative terms, accurate at large counts."""
        return self.kl_terms(prior).total()

    def kl_terms(self, prior: Wishart) -> KLTerms:
        """The terms of `kl`, with S and S0 the scatters, Gamma_d and digamma_d multivariate.

        KL = log(Gamma_d(df0 / 2) / Gamma_d(df / 2)) + (df - df0) digamma_d(df / 2) / 2
        + [df0 log(|S| / |S0|) + df (tr(S0 S^-1) - d)] / 2. For R R^T = S0 S^-1 it is arranged as
        df0 stein_loss(R R^T df / df0) / 2 + sum_j shape_gap((df - j) / 2, (df0 - j) / 2)
        + sum_j [df0 log(df / df0) - (df0 - j) log((df - j) / (df0 - j))] / 2, over j < d.
        """
        df, df0 = self.df[..., None], prior.df[..., None]
        square, below = linalg.triangle_squares(linalg.tri_solve(self.chol, prior.chol))
        scale, half = df / df0, 0.5 * df0
        j = self._steps[..., 1:]  # the last sum has nothing for j = 0
        left = df0 - j
        steps = j * special.log_ratio(df, df0) - left * jnp.log1p(j * (df - df0) / (df * left))
        rest = jnp.concatenate([half * scale * below[..., None], 0.5 * steps], -1)
        shape, ratio = self._half_df, scale * square
        half = jnp.broadcast_to(half, ratio.shape)
        return KLTerms(ratio, half, shape, prior._half_df, jnp.ones_like(shape), rest)

    def entropy(self) -> Float[Array, "*b"]:
        """Differential entropy in nats."""
        half, d = self._half_df, self.dim
        each = special.stirling_error(half) - 0.5 * (1.0 + self._steps) * jnp.log(half)
        each = each + 0.5 * self.df[..., None] * special.digamma_gap(half)
        constant = 0.5 * d * special.LOG_2PI + 0.25 * d * (d - 1) * (1.0 + math.log(math.pi))
        return jnp.sum(each, -1) + constant + 0.5 * (d + 1.0) * self.e_logdet()

    def sample(
        self, key: Key[Array, ""], shape: tuple[int, ...]
    ) -> tuple[Float[Array, "*s d d"], Float[Array, "*s d d"]]:
        """Draws of Lambda by Bartlett's decomposition, and R with R R^T = Lambda^-1 for each."""
        k_chi, k_off = jax.random.split(key)
        dtype, d, batch = self.chol.dtype, self.dim, (*shape, *self.df.shape)
        half = jnp.broadcast_to(self._half_df, (*batch, d))
        diag = jnp.sqrt(2.0 * jax.random.gamma(k_chi, half, dtype=dtype))
        below = jnp.tril(jax.random.normal(k_off, (*batch, d, d), dtype), -1)
        bartlett = jnp.where(jnp.eye(d, dtype=bool), diag[..., None], below)
        chol = jnp.broadcast_to(self.chol, (*batch, d, d))
        root = linalg.matmul(linalg.tri_inverse(chol).mT, bartlett)
        half_covariance = linalg.matmul(chol, linalg.tri_inverse(bartlett).mT)
        return linalg.matmul(root, root.mT), half_covariance


def mean_covariance(
    scatter: Float[Array, "*b d d"], df: Float[Array, "*b"]
) -> Float[Array, "*b d d"]:
    """E[Lambda^-1] = scatter / (df - d - 1); NaN unless df > d + 1."""
    free = df - scatter.shape[-1] - 1.0
    return scatter / jnp.where(free > 0, free, jnp.nan)[..., None, None]


def covariance_sd(
    scatter: Float[Array, "*b d d"], df: Float[Array, "*b"]
) -> Float[Array, "*b d d"]:
    """Standard deviation of each entry of Lambda^-1; NaN unless df > d + 3."""
    free = (df - scatter.shape[-1])[..., None, None]
    diag = linalg.diagonal(scatter)
    top = (free + 1.0) * scatter**2 + (free - 1.0) * linalg.outer(diag, diag)
    bottom = free * (free - 1.0) ** 2 * (free - 3.0)
    return jnp.sqrt(top / jnp.where(free > 3.0, bottom, jnp.nan))
