"""Log-densities and sums of Gaussian rows as matrix products with a few features of each row.

For z = x - centre, a Gaussian log-density is linear in the features z_i z_j, z_i and 1, and
statistics are weighted sums of the same features. One matrix product each way is several times as
fast as differences from every mean. It loses the digits by which means are farther from the centre
than components are wide, so `FeatureMoments.kernel` says whether it is reliable. Arrays are
(features, rows) and (components, rows): operations along rows are then vectorised.
"""

from __future__ import annotations

import abc
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._pytree import pytree
from ...data.batch import Batch
from ...kernel import Kernel
from ...numerics import compensated, linalg, special
from . import kernels
from .diagonal_likelihood import DiagonalMoments
from .likelihood import GaussianMoments
from .sums import Factor, GaussianLikelihood, GaussianSums, Quadratic, Scale

Features = Float[Array, "f n"]  # functions of z; the last one is 1


@pytree
class FeatureMoments(GaussianLikelihood):
    """Gaussian moments as coefficients (k, f) of features of the rows about `centre`.

    `moments` are the same in their usual form, and `residual` is the rounding error of the last
    coefficient, the constant.
    """

    moments: Any
    centre: Float[Array, "d"]
    coefficients: Float[Array, "k f"]
    residual: Float[Array, "k"]

    @classmethod
    @abc.abstractmethod
    def of(cls, moments: Any, rows: Batch) -> Kernel:
        """The kernel of `moments`, for rows without noise."""

    @abc.abstractmethod
    def features(self, rows: Batch) -> Features:
        """Features of the rows; those of missing entries are 0."""

    @abc.abstractmethod
    def unpack(self, total: Float[Array, "k f"]) -> GaussianSums:
        """Sums about the origin of each component, from weighted sums of the features."""

    @abc.abstractmethod
    def count(self, rows: Batch, counts: Float[Array, "n k"]) -> Float[Array, "k ..."]:
        """Sums of soft counts, for scaled precisions, whose features do not have them."""

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], Features]:
        """Expected log-densities in nats, and the features."""
        value = self.features(rows)
        log_lik = linalg.matmul(self.coefficients, value) + self.residual[:, None]
        return log_lik.T, value

    def quadratic(self, rows: Batch, factor: Factor = None) -> Quadratic:
        """The parts of the log-density, with `square` computed from its value."""
        assert factor is None  # far rows are read by the exact moments
        log_lik, value = self.likelihood(rows)
        log_det, observed = self.moments.log_det(rows)
        square = log_det - observed * special.LOG_2PI - 2.0 * log_lik
        return Quadratic(jnp.maximum(square, 0.0), log_det, observed, value)

    def sums(
        self, rows: Batch, counts: Float[Array, "n k"], row_posterior: Features, scale: Scale = 1.0
    ) -> GaussianSums:
        """Sums by one product with the features, which `row_posterior` holds."""
        sums = self.unpack(linalg.matmul((counts * scale).T, row_posterior.T))
        if isinstance(scale, float):
            return sums
        count = self.count(rows, counts)
        return GaussianSums(count, sums.kappa, sums.shift, sums.square, sums.origin)

    def e_step(
        self, rows: Batch, log_weight: Float[Array, "m"], background: Float[Array, "n b"] | None
    ) -> tuple[GaussianSums, Float[Array, "m"], Float[Array, "n"]]:
        """As the base class, with arrays (k, n) if rows have no labels."""
        if rows.label is not None:
            return super().e_step(rows, log_weight, background)
        value, present = self.features(rows), rows.weight > 0
        k = self.residual.shape[0]
        log_p = linalg.matmul(self.coefficients, value) + (self.residual + log_weight[:k])[:, None]
        if background is not None:
            log_p = jnp.concatenate([log_p, log_weight[k:, None] + background.T])
        p, total, log_z = special.exponentials(log_p, 0)
        share = jnp.where(present, rows.weight / jnp.where(total > 0, total, 1.0), 0.0)
        counts = p * share[None]
        total = linalg.matmul(counts[:k], value.T)
        count = total[:, -1]
        if background is not None:
            count = jnp.concatenate([count, jnp.sum(counts[k:], -1)])
        return self.unpack(total), count, log_z

    def kernel(self, size: Float[Array, "k"], rows: Batch) -> Kernel:
        """The kernel of these moments, reliable where little cancels.

        `size` is the sum of the magnitudes of the terms that cancel at the mean of each component.
        The relative error of sums is eps times `size`, and may cost half of all digits. The log_z
        of each row has an error of the same size; over n rows these errors add up as noise does,
        and their sum must not hide a rise of the elbo.
        """
        k, f = self.coefficients.shape
        eps, largest = float(jnp.finfo(size.dtype).eps), jnp.max(size)
        most = min(
            kernels.LARGEST_PER_DIGITS / eps**0.5,
            kernels.LARGEST_PER_ROOT * rows.x.shape[0] ** 0.5,
        )
        # 3 k floats for log-densities, their exponentials and responsibilities
        return Kernel(self, f + 3 * k, largest <= most, eps * largest)


@pytree
class FullFeatures(FeatureMoments):
    """Features of whole rows of correlated columns: z_i z_j for i <= j, z_i and 1."""

    @classmethod
    def of(cls, moments: GaussianMoments, rows: Batch) -> Kernel:
        """The kernel of `moments` for whole rows without noise.

        log N = top - (z - move)^T Lambda (z - move) / 2, with `move` the mean less the centre, is
        written as sum_{i <= j} square_ij z_i z_j + linear^T z + constant.
        """
        d = rows.x.shape[1]
        centre = jnp.mean(moments.mean, 0)
        move = (moments.origin - centre) + moments.shift
        root = linalg.tri_inverse(moments.chol)
        precision = moments.scale[:, None, None] * linalg.matmul(root.mT, root)
        linear = linalg.matmul(precision, move[..., None])[..., 0]
        first, second = np.triu_indices(d)
        once = np.where(first == second, -0.5, -1.0).astype(rows.x.dtype)
        square = precision[:, first, second] * once
        top = 0.5 * (moments.e_logdet - moments.spread - d * special.LOG_2PI)
        pairs = move[:, first], move[:, second]
        constant, residual, size = _constant(top, square, *pairs, linear, move)
        coefficients = jnp.concatenate([square, linear, constant[:, None]], -1)
        return cls(moments, centre, coefficients, residual).kernel(size, rows)

    def features(self, rows: Batch) -> Features:
        d = rows.x.shape[1]
        (first, second), each = np.triu_indices(d), np.arange(d + 1)
        one = np.full(d + 1, d)
        return _by_pairs(_centred(rows, self.centre), [*first, *each], [*second, *one])

    def unpack(self, total: Float[Array, "k f"]) -> GaussianSums:
        """Sums about the centre of the features, moved to the `centre` of the moments."""
        d, origin = self.centre.shape[0], self.moments.centre
        move = origin - self.centre
        place = np.zeros((d, d), int)
        first, second = np.triu_indices(d)
        place[first, second] = place[second, first] = np.arange(len(first))
        count, linear, square = total[:, -1], total[:, -1 - d : -1], total[:, place]
        cross = linalg.outer(move, linear)
        far = count[:, None] * move
        square = square - cross - cross.mT + linalg.outer(move, far)
        return GaussianSums(count, count, linear - far, square, origin)

    def count(self, rows: Batch, counts: Float[Array, "n k"]) -> Float[Array, "k"]:
        return jnp.sum(counts, 0)


@pytree
class DiagonalFeatures(FeatureMoments):
    """Features of independent columns: z_i^2, z_i and 1.

    If entries are missing, every column has two more, both 1 where it was observed: one for its
    constant and one for the rounding error of that.
    """

    @classmethod
    def of(cls, moments: DiagonalMoments, rows: Batch) -> Kernel:
        """The kernel of `moments` for rows without noise.

        Every column is as in `FullFeatures.of`, with a single pair i = j.
        """
        own = moments.columns
        centre = jnp.mean(moments.mean, 0)
        move = (own.origin - centre) + own.shift
        square, linear = -0.5 * own.precision, own.precision * move
        top = 0.5 * (own.e_log - own.spread - special.LOG_2PI)
        if rows.mask is None:
            top = jnp.sum(top, -1)
            constant, residual, size = _constant(top, square, move, move, linear, move)
            parts = [square, linear, constant[:, None]]
        else:
            a, b, c = square[..., None], linear[..., None], move[..., None]
            constant, error, size = _constant(top, a, c, c, b, c)
            zero, size = jnp.zeros_like(constant[:, :1]), jnp.sum(size, -1)
            parts, residual = [square, constant, error, linear, zero], zero[:, 0]
        return cls(moments, centre, jnp.concatenate(parts, -1), residual).kernel(size, rows)

    def features(self, rows: Batch) -> Features:
        """z_i^2, z_i and 1; with missing entries z_i^2, 1_i, 1_i, z_i and 1."""
        z, each = _centred(rows, self.centre), np.arange(rows.x.shape[1])
        d = len(each)
        if rows.mask is None:
            return _by_pairs(z, [*each, *each, d], [*each, *np.full(d + 1, d)])
        seen = rows.mask.T.astype(z.dtype)
        parts, one = jnp.concatenate([z * seen, seen]), np.full(3 * d + 1, 2 * d)
        pairs = [*each, *each + d, *each + d, *each, 2 * d]
        return _by_pairs(parts, pairs, [*each, *one])

    def unpack(self, total: Float[Array, "k f"]) -> GaussianSums:
        """Sums over the observed entries of each column, moved to its mean."""
        d, origin = self.centre.shape[0], self.moments.mean
        move = origin - self.centre
        square, linear = total[:, :d], total[:, -1 - d : -1]
        whole = total.shape[1] == 2 * d + 1
        count = jnp.broadcast_to(total[:, -1:], square.shape) if whole else total[:, d : 2 * d]
        shift, square = linear - count * move, square - move * (2.0 * linear - count * move)
        return GaussianSums(count, count, shift, square, origin)

    def count(self, rows: Batch, counts: Float[Array, "n k"]) -> Float[Array, "k d"]:
        return self.moments.count(rows, counts)


def _by_pairs(parts: Float[Array, "m n"], first: Any, second: Any) -> Features:
    """`parts[first] * parts[second]`, after a row of ones is appended to `parts`.

    One gather and one product are twice as fast as concatenating separate products.
    """
    parts = jnp.concatenate([parts, jnp.ones_like(parts[:1])])
    return parts[np.asarray(first)] * parts[np.asarray(second)]


def _centred(rows: Batch, centre: Float[Array, "d"]) -> Float[Array, "d n"]:
    """(x - centre)^T; 0 for rows of weight 0, which may hold anything."""
    return jnp.where(rows.weight > 0, rows.x.T - centre[:, None], 0.0)


def _constant(
    top: Float[Array, "*b"],
    square: Float[Array, "*b m"],
    first: Float[Array, "*b m"],
    second: Float[Array, "*b m"],
    linear: Float[Array, "*b d"],
    move: Float[Array, "*b d"],
) -> tuple[Float[Array, "*b"], Float[Array, "*b"], Float[Array, "*b"]]:
    """Constant = top - sum(square first second) - sum(linear move), its rounding error, and `size`.

    `size` is the sum of the magnitudes of these terms. The constant makes the polynomial accurate
    at the mean of the component, however the other coefficients are rounded.
    """
    product = first * second
    high = jnp.concatenate([square * product, linear * move], -1)
    low = compensated.product_error(square, product)
    low = low + square * compensated.product_error(first, second)
    low = jnp.sum(low, -1) + jnp.sum(compensated.product_error(linear, move), -1)
    total, lost = compensated.twofold_sum(high)
    residual = compensated.rounding_error(top, -total) - (lost + low)
    return top - total, residual, jnp.sum(jnp.abs(high), -1)
