"""Gaussian rows with any covariance, whole, with missing entries or with measurement noise.

Missing entries and noise are handled in the same way (Ghahramani & Jordan 1994; Bovy, Hogg &
Roweis 2011): x_n is a complete row y_n with entries left out or noise added, and q(y_n | z_n) is
normal.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._pytree import pytree
from ...data.batch import Batch
from ...numerics import linalg, special
from ..describe import mean_and_sd
from ..emission import EmissionMoments
from . import fused, kernels
from .sums import Factor, GaussianLikelihood, GaussianSums, Quadratic, Scale

_NEAR = 2.0**-12  # standard deviations between mean and origin up to which the origin is kept


@pytree
class Completed:
    """q(y_n | z_n = k) of complete rows y, and the marginal density of what was observed.

    `move` is E[y] - mean_k, and `spread` is Cov[y] for each distinct pattern of missing entries, or
    for each row if `group` is None. `square`, `log_det` and `observed` make the `log_density`.
    """

    move: Float[Array, "n k d"]
    spread: Float[Array, "p k d d"]
    group: Int[Array, "n"] | None
    square: Float[Array, "n k"]
    log_det: Float[Array, "... k"]
    observed: Float[Array, "... 1"]

    @property
    def log_density(self) -> Float[Array, "n k"]:
        """log N(x_o | mean_o, V_oo + noise) in nats, for the observed entries x_o."""
        return -0.5 * (self.square + self.log_det + self.observed * special.LOG_2PI)


@pytree
class GaussianMoments(GaussianLikelihood, EmissionMoments):
    """Moments of (mu, Lambda) for Gaussian rows, under q or at a point.

    `origin + shift` is E[mu], scale (chol chol^T)^-1 is E[Lambda], `e_logdet` is E[log|Lambda|],
    and `spread` is E[(mu - E[mu])^T Lambda (mu - E[mu])], 0 at a point. Origin and shift are kept
    apart because their sum is rounded at the size of the data.
    """

    origin: Float[Array, "*b d"]
    shift: Float[Array, "*b d"]
    chol: Float[Array, "*b d d"]
    scale: Float[Array, "*b"]
    e_logdet: Float[Array, "*b"]
    spread: Float[Array, "*b"]

    @classmethod
    def at(cls, mean: Float[Array, "k d"], covariance: Float[Array, "k d d"]) -> GaussianMoments:
        """The moments at a point."""
        chol, one = linalg.chol(covariance), jnp.ones_like(mean[..., 0])
        return cls(mean, jnp.zeros_like(mean), chol, one, -linalg.logdet(chol), 0.0 * one)

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """E[mu], rounded to the data's own resolution."""
        return self.origin + self.shift

    @property
    def centre(self) -> Float[Array, "*b d"]:
        """The origin of the next sums: the present origin if the mean is next to it, else the mean.

        Following the mean at rounding level would perturb the sums in every iteration, so that a
        float32 fit would never converge.
        """
        variance = jnp.sum(self.chol**2, -1) / self.scale[..., None]
        ulp = jnp.finfo(variance.dtype).eps * self.origin
        near = self.shift**2 <= jnp.maximum(_NEAR**2 * variance, ulp**2)
        return jnp.where(near, self.origin, self.mean)

    @property
    def covariance(self) -> Float[Array, "*b d d"]:
        """E[Lambda]^-1, the covariance itself at a point."""
        return linalg.matmul(self.chol, self.chol.mT) / self.scale[..., None, None]

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        return mean_and_sd(self.mean, linalg.diagonal(self.covariance), names)

    def square(self, x: Float[Array, "n d"], factor: Factor = None) -> Float[Array, "n k"]:
        """(x_n - E[mu_k])^T E[Lambda_k] (x_n - E[mu_k]), with distances times `factor`."""
        # products with k small inverses are faster than n triangular solves, and as accurate
        z = (x.T[None] - self.origin[:, :, None]) - self.shift[:, :, None]
        z = z if factor is None else z * factor.T[:, None, :]
        white = linalg.matmul(linalg.tri_inverse(self.chol), z)
        return self.scale[None] * jnp.sum(white**2, 1).T

    def log_lik(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """E[log N(x_n | mu_k, Lambda_k^-1)] in nats, for whole rows without noise."""
        constant = self.e_logdet - self.spread - x.shape[-1] * special.LOG_2PI
        return 0.5 * (constant[None] - self.square(x))

    def log_det(self, rows: Batch) -> tuple[Float[Array, "1 k"], Float[Array, "1 1"]]:
        """E[log|Lambda|] and the number of columns, for whole rows without noise."""
        return self.e_logdet[None], jnp.full((1, 1), rows.x.shape[1], rows.x.dtype)

    def quadratic(self, rows: Batch, factor: Factor = None) -> Quadratic:
        if not incomplete(rows):
            log_det, observed = self.log_det(rows)
            square = self.square(rows.x, factor) + self.spread[None]
            return Quadratic(square, log_det, observed, None)
        completed = complete(rows, self.origin, self.shift, self.covariance, factor)
        # E[log|Lambda|] - log|E[Lambda]|, less log|V_oo + noise| of the observed entries
        log_det = self.chol.shape[-1] * jnp.log(self.scale) - linalg.logdet(self.chol)
        log_det = (self.e_logdet - log_det)[None] - completed.log_det
        square = completed.square + self.spread[None]
        return Quadratic(square, log_det, completed.observed, completed)

    def log_distance(self, rows: Batch) -> Float[Array, "n k"]:
        root = linalg.tri_inverse(self.chol)
        log_precision = jnp.log(self.scale[:, None]) + jnp.log(jnp.sum(root**2, -2))
        return log_distance(rows, self.origin, self.shift, log_precision)

    def log_density(self, rows: Batch, factor: Factor = None) -> Float[Array, "n k"]:
        return self.quadratic(rows, factor).log_lik

    def sums(
        self,
        rows: Batch,
        counts: Float[Array, "n k"],
        row_posterior: Completed | None,
        scale: Scale = 1.0,
    ) -> GaussianSums:
        """Sums over rows about the `centre` of each component."""
        origin, scaled = self.centre, counts * scale
        count, kappa = jnp.sum(counts, 0), jnp.sum(scaled, 0)
        if row_posterior is not None:
            move = (self.origin - origin) + self.shift
            shift, square = _completed_sums(row_posterior, counts, scaled, move)
            return GaussianSums(count, kappa, shift, square, origin)
        z = rows.x.T[None] - origin[:, :, None]
        weighted = z * scaled.T[:, None, :]
        shift, square = jnp.sum(weighted, -1), linalg.matmul(weighted, z.mT)
        return GaussianSums(count, kappa, shift, square, origin)

    def e_step(
        self, rows: Batch, log_weight: Float[Array, "m"], background: Float[Array, "n b"] | None
    ) -> tuple[GaussianSums, Float[Array, "m"], Float[Array, "n"]]:
        """Fused where that serves these rows, otherwise log-densities first and then sums."""
        if "fused" in kernels.choose(rows, self.scale.shape[0], full=True):
            return fused.e_step(self, rows, log_weight, background)
        return super().e_step(rows, log_weight, background)

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"]]:
        completed = complete(rows, self.origin, self.shift, self.covariance)
        variance = linalg.diagonal(completed.spread)
        variance = variance if completed.group is None else variance[completed.group]
        return self.mean[None] + completed.move, jnp.broadcast_to(variance, completed.move.shape)


def log_distance(
    rows: Batch,
    origin: Float[Array, "k d"],
    shift: Float[Array, "k d"],
    log_precision: Float[Array, "k d"],
) -> Float[Array, "n k"]:
    """log max_d |x_d - mean_d| sqrt(precision_d) of the observed entries, computed as logs."""
    z = (rows.x[:, None, :] - origin[None]) - shift[None]
    log_z = jnp.log(jnp.abs(z)) + 0.5 * log_precision[None]
    if rows.mask is not None:
        log_z = jnp.where(rows.mask[:, None, :], log_z, -jnp.inf)
    return jnp.max(log_z, -1)


def incomplete(rows: Batch) -> bool:
    """Whether rows have missing entries or measurement noise."""
    return rows.mask is not None or rows.noise is not None


def row_size(rows: Batch, k: int, d: int) -> int:
    """Floats held per row: whitened differences, and matrices (k, d, d) if rows are incomplete."""
    return k * (2 * d + 2) + (k * (2 * d * d + 4 * d) if incomplete(rows) else 0)


def complete(
    rows: Batch,
    origin: Float[Array, "k d"],
    shift: Float[Array, "k d"],
    covariance: Float[Array, "*n k d d"],
    factor: Factor = None,
) -> Completed:
    """Condition N(origin + shift, covariance) of every component on the observed part of each row.

    Distances of what was observed from the means are multiplied by `factor`. Rows with noise may
    have a covariance each.

    For C the columns of the covariance that were observed and L L^T = V_oo + noise:
    E[y] = mean + C L^-T L^-1 (x_o - mean_o) and Cov[y] = covariance - C L^-T L^-1 C^T.
    """
    d = rows.x.shape[1]
    dtype = rows.x.dtype
    table, group = _patterns(rows)
    seen = table.astype(dtype)
    eye = jnp.eye(d, dtype=dtype)
    covariance = covariance if covariance.ndim == 4 else covariance[None]
    total = covariance if rows.noise is None else covariance + rows.noise[:, None]
    block = seen[:, None, :, None] * seen[:, None, None, :]
    missing = (1.0 - seen[:, None, :, None]) * eye[None, None]
    root = linalg.tri_inverse(linalg.chol(block * total + missing))
    gain = linalg.matmul(covariance * seen[:, None, None, :], root.mT)
    spread = covariance - linalg.matmul(gain, gain.mT)
    if rows.noise is None:
        # observed entries are known exactly, so that their covariance is rounding alone
        unseen = 1.0 - seen
        spread = spread * unseen[:, None, :, None] * unseen[:, None, None, :]
    log_det = -2.0 * jnp.sum(jnp.log(linalg.diagonal(root)), -1)
    mask = seen if group is None else seen[group]
    z = ((rows.x[:, None, :] - origin[None]) - shift[None]) * mask[:, None, :]
    z = z if factor is None else z * factor[:, :, None]
    if group is not None:
        root, gain, log_det = root[group], gain[group], log_det[group]
    white = _apply(root, z)
    return Completed(
        _apply(gain, white),
        spread,
        group,
        jnp.sum(white**2, -1),
        log_det,
        jnp.sum(mask, -1, keepdims=True),
    )


def _completed_sums(
    completed: Completed,
    counts: Float[Array, "n k"],
    scaled: Float[Array, "n k"],
    move: Float[Array, "k d"],
) -> tuple[Float[Array, "k d"], Float[Array, "k d d"]]:
    """Weighted sums of E[y - c] and of E[(y - c)(y - c)^T] for c = E[mu] - move.

    Means count `scaled` times and covariances `counts` times.
    """
    z = completed.move + move[None]
    weighted = z * scaled[:, :, None]
    square = linalg.matmul(jnp.moveaxis(weighted, 0, 2), jnp.moveaxis(z, 0, 1))
    if completed.group is not None:
        counts = jax.ops.segment_sum(counts, completed.group, completed.spread.shape[0])
    spread = jnp.sum(counts[:, :, None, None] * completed.spread, 0)
    return jnp.sum(weighted, 0), square + spread


def _patterns(rows: Batch) -> tuple[Array, Array | None]:
    """The distinct rows of the mask, and the index of each row's; None if every row has its own."""
    if rows.mask is None:
        n = 1 if rows.noise is None else rows.x.shape[0]
        return jnp.ones((n, rows.x.shape[1]), bool), None
    if rows.group is None or rows.noise is not None:
        return rows.mask, None
    assert rows.patterns is not None  # comes with `group`
    return rows.patterns, rows.group


def _apply(a: Float[Array, "p k d e"], b: Float[Array, "n k e"]) -> Float[Array, "n k d"]:
    return linalg.matmul(a, b[..., None])[..., 0]
