"""Gaussian rows with independent columns: every column adds a term, missing entries none."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._pytree import pytree
from ...data.batch import Batch
from ...numerics import linalg
from ..describe import mean_and_sd
from ..emission import EmissionMoments
from ..normal_gamma import NormalGammaMoments
from .likelihood import log_distance
from .sums import Factor, GaussianLikelihood, GaussianSums, Quadratic, Scale


@pytree
class DiagonalMoments(GaussianLikelihood, EmissionMoments):
    """Moments of (mu, tau) for every column (*b, d), under q or at a point."""

    columns: NormalGammaMoments

    @classmethod
    def at(cls, mean: Float[Array, "k d"], precision: Float[Array, "k d"]) -> DiagonalMoments:
        """The moments at a point."""
        zero = jnp.zeros_like(mean)
        return cls(NormalGammaMoments(mean, zero, precision, jnp.log(precision), zero))

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """E[mu], rounded to the data's own resolution."""
        return self.columns.origin + self.columns.shift

    @property
    def precision(self) -> Float[Array, "*b d"]:
        """E[tau] of each column."""
        return self.columns.precision

    @property
    def variance(self) -> Float[Array, "*b d"]:
        """1 / E[tau], the variance itself at a point."""
        return 1.0 / self.columns.precision

    @property
    def covariance(self) -> Float[Array, "*b d d"]:
        """`variance` on the diagonal."""
        return diagonal_matrix(self.variance)

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        return mean_and_sd(self.mean, self.variance, names)

    def log_lik(self, rows: Batch) -> Float[Array, "n k"]:
        """E[log N(x_o | mu_k, diag(tau_k)^-1)] of the observed entries, in nats."""
        return self.quadratic(rows).log_lik

    def log_det(self, rows: Batch) -> tuple[Float[Array, "... k"], Float[Array, "... 1"]]:
        """Sum of E[log tau] over the observed entries of each row, and their number."""
        e_log = self.columns.e_log
        if rows.mask is None:
            d = jnp.full((1, 1), rows.x.shape[1], rows.x.dtype)
            return jnp.sum(e_log, -1)[None], d
        seen = rows.mask.astype(rows.x.dtype)
        return linalg.matmul(seen, e_log.T), jnp.sum(seen, -1, keepdims=True)

    def log_distance(self, rows: Batch) -> Float[Array, "n k"]:
        own = self.columns
        return log_distance(rows, own.origin, own.shift, jnp.log(own.precision))

    def log_density(self, rows: Batch, factor: Factor = None) -> Float[Array, "n k"]:
        return self.quadratic(rows, factor).log_lik

    def quadratic(self, rows: Batch, factor: Factor = None) -> Quadratic:
        own = self.columns
        z = (rows.x.T[None] - own.origin[:, :, None]) - own.shift[:, :, None]
        z = z if factor is None else z * factor.T[:, None, :]
        log_det, observed = self.log_det(rows)
        if rows.mask is None:
            square = jnp.sum(own.precision[:, :, None] * z**2, 1).T + jnp.sum(own.spread, -1)[None]
            return Quadratic(square, log_det, observed, None)
        seen = rows.mask.astype(rows.x.dtype)
        square = jnp.sum(own.precision[:, :, None] * (z * seen.T[None]) ** 2, 1).T
        return Quadratic(square + linalg.matmul(seen, own.spread.T), log_det, observed, None)

    def count(self, rows: Batch, counts: Float[Array, "n k"]) -> Float[Array, "k d"]:
        """Sum of soft counts over the rows where each column was observed."""
        if rows.mask is None:
            return jnp.broadcast_to(jnp.sum(counts, 0)[:, None], self.mean.shape)
        return linalg.matmul(counts.T, rows.mask.astype(counts.dtype))

    def sums(
        self, rows: Batch, counts: Float[Array, "n k"], row_posterior: None, scale: Scale = 1.0
    ) -> GaussianSums:
        """Sums over the observed entries of each column, about its mean."""
        origin, scaled = self.mean, counts * scale
        z = rows.x.T[None] - origin[:, :, None]
        weight = scaled.T[:, None, :]
        if rows.mask is not None:
            weight = weight * rows.mask.T.astype(z.dtype)[None]
        weighted = z * weight
        shift, square = jnp.sum(weighted, -1), jnp.sum(weighted * z, -1)
        count, kappa = self.count(rows, counts), self.count(rows, scaled)
        return GaussianSums(count, kappa, shift, square, origin)

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"]]:
        """Mean and variance of every entry under each component, whatever the other entries are."""
        shape = (rows.x.shape[0], *self.mean.shape)
        return jnp.broadcast_to(self.mean, shape), jnp.broadcast_to(self.variance, shape)


def row_size(k: int, d: int) -> int:
    """Floats held per row: differences, their products, log-densities and responsibilities."""
    return k * (2 * d + 2)


def diagonal_matrix(a: Float[Array, "*b d"]) -> Float[Array, "*b d d"]:
    """A stack of matrices with these diagonals, 0 off the diagonal even where they are NaN."""
    return jnp.where(jnp.eye(a.shape[-1], dtype=bool), a[..., None], 0.0)
