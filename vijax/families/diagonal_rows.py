"""Gaussian rows with independent columns: per-column terms, missing entries simply left out."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._pytree import pytree
from ..batch import Batch
from ..numerics import linalg
from . import diagonal_products
from .captions import mean_and_sd
from .gaussian_rows import Quadratic
from .normal_gamma import NormalGammaMoments
from .products import Found, Shortcut


@pytree
class DiagonalMoments:
    """What a Gaussian likelihood with independent columns needs, column by column (*b, d)."""

    columns: NormalGammaMoments

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """E[mu], rounded to the data's own resolution."""
        return self.columns.origin + self.columns.shift

    @property
    def precision(self) -> Float[Array, "*b d"]:
        """E[tau]."""
        return self.columns.precision

    @property
    def variance(self) -> Float[Array, "*b d"]:
        """1 / E[tau]: at a point the variance itself."""
        return 1.0 / self.columns.precision

    @property
    def covariance(self) -> Float[Array, "*b d d"]:
        """`variance` on the diagonal."""
        return diagonal_matrix(self.variance)

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """Mean and standard deviation of every column."""
        return mean_and_sd(self.mean, self.variance, names)

    def quadratic(self, rows: Batch) -> Quadratic:
        """What log N(x_o | mu, diag(u tau)^-1) is made of, in expectation, for any u > 0."""
        part = self.columns
        z = (rows.x.T - part.origin[:, :, None]) - part.shift[:, :, None]
        if rows.mask is None:
            square = jnp.sum(part.precision[:, :, None] * z**2, 1).T + jnp.sum(part.spread, -1)
            d = jnp.full((1, 1), rows.x.shape[1], rows.x.dtype)
            return Quadratic(square, jnp.sum(part.e_log, -1), d, None)
        seen = rows.mask.astype(rows.x.dtype)
        square = jnp.sum(part.precision[:, :, None] * (z * seen.T) ** 2, 1).T
        square = square + linalg.matmul(seen, part.spread.T)
        log_det = linalg.matmul(seen, part.e_log.T)
        return Quadratic(square, log_det, jnp.sum(seen, -1, keepdims=True), None)

    def log_lik(self, rows: Batch) -> Float[Array, "n k"]:
        """E[log N(x_o | mu_k, diag(tau_k)^-1)] of the observed entries, in nats."""
        return self.quadratic(rows).log_lik

    def local(self, rows: Batch) -> tuple[Float[Array, "n k"], None]:
        """`log_lik`; rows have no latent variables of their own."""
        return self.log_lik(rows), None

    def shortcut(self, rows: Batch) -> Shortcut | None:
        """A faster `local` of the same moments, where there is one."""
        return diagonal_products.shortcut(self, rows)

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"]]:
        """Mean and variance of every entry under each component: other entries tell nothing."""
        shape = (rows.x.shape[0], *self.mean.shape)
        return jnp.broadcast_to(self.mean, shape), jnp.broadcast_to(self.variance, shape)


def statistics(
    rows: Batch, mass: Any, at: Any, latent: Any, scale: Any
) -> tuple[Array, Array, Array, Array, Array]:
    """Over the observed entries, each (k, d): how many, how many when rows count `scale` times,
    with these the sums of x - origin and of its square, and the origin, which is the mean.
    """
    if isinstance(latent, Found):
        count, shift, square = diagonal_products.sums(latent, mass, at.at)
        return count, count, shift, square, at.at.mean
    origin = at.mean
    z = rows.x.T - origin[:, :, None]
    scaled = mass * scale
    if rows.mask is None:
        count, kappa = (
            jnp.broadcast_to(jnp.sum(a, 0)[:, None], origin.shape) for a in (mass, scaled)
        )
        weighted = z * scaled.T[:, None, :]
    else:
        seen = rows.mask.astype(rows.x.dtype)
        count, kappa = linalg.matmul(mass.T, seen), linalg.matmul(scaled.T, seen)
        weighted = z * (scaled.T[:, None, :] * seen.T)
    return count, kappa, jnp.sum(weighted, -1), jnp.sum(weighted * z, -1), origin


def row_size(k: int, d: int) -> int:
    """Floats per row: differences, their products, log-densities and responsibilities."""
    return k * (2 * d + 2)


def diagonal_matrix(a: Float[Array, "*b d"]) -> Float[Array, "*b d d"]:
    """A stack of matrices with these diagonals; nothing off the diagonal, not even NaN."""
    return jnp.where(jnp.eye(a.shape[-1], dtype=bool), a[..., None], 0.0)
