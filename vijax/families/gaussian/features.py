"""Log-densities and sums of Gaussian rows as matrix products with a few features of each row.

A Gaussian log-density is linear in z z^T, z and 1 for z = x - centre, and so are the sums that it
needs. One product each way is several times as fast as differences from every mean, and loses the
digits by which means are farther from the centre than components are wide. Features and components
lead and rows are next to each other, so that everything else is done many rows at once.
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
from .sums import GaussianLikelihood, GaussianSums, Quadratic, Scale

Features = Float[Array, "f n"]  # functions of z, the last of them 1


@pytree
class FeatureMoments(GaussianLikelihood):
    """Gaussian moments as coefficients (k, f) of features of the rows about `centre`.

    `moments` are the same in their usual form; `rest` is what rounding the constant has lost.
    """

    moments: Any
    centre: Float[Array, "d"]
    coefficients: Float[Array, "k f"]
    rest: Float[Array, "k"]

    @classmethod
    @abc.abstractmethod
    def of(cls, moments: Any, rows: Batch) -> Kernel:
        """The kernel of these moments, for rows that it serves."""

    @abc.abstractmethod
    def features(self, rows: Batch) -> Features:
        """Features of the rows; those of missing entries are 0."""

    @abc.abstractmethod
    def unpack(self, total: Float[Array, "k f"]) -> GaussianSums:
        """Sums about the components' means, from weighted sums of the features."""

    @abc.abstractmethod
    def count(self, rows: Batch, counts: Float[Array, "n k"]) -> Float[Array, "k ..."]:
        """Sums of soft counts, where precisions are scaled and so `unpack` has none."""

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], Features]:
        """Expected log-densities in nats, and the features."""
        value = self.features(rows)
        log_lik = linalg.matmul(self.coefficients, value) + self.rest[:, None]
        return log_lik.T, value

    def quadratic(self, rows: Batch) -> Quadratic:
        """The parts of the log-density, from its value."""
        log_lik, value = self.likelihood(rows)
        log_det, observed = self.moments.log_det(rows)
        square = log_det - observed * special.LOG_2PI - 2.0 * log_lik
        return Quadratic(jnp.maximum(square, 0.0), log_det, observed, value)

    def sums(
        self, rows: Batch, counts: Float[Array, "n k"], row_posterior: Features, scale: Scale = 1.0
    ) -> GaussianSums:
        """Sums by one product with the features."""
        found = self.unpack(linalg.matmul((counts * scale).T, row_posterior.T))
        if isinstance(scale, float):
            return found
        own = self.count(rows, counts)
        return GaussianSums(own, found.kappa, found.shift, found.square, found.origin)

    def e_step(
        self, rows: Batch, log_weight: Float[Array, "m"], background: Float[Array, "n b"] | None
    ) -> tuple[GaussianSums, Float[Array, "m"], Float[Array, "n"]]:
        """As ever, in the order (k, n), which needs rows without labels."""
        if rows.label is not None:
            return super().e_step(rows, log_weight, background)
        value, present = self.features(rows), rows.weight > 0
        k = self.rest.shape[0]
        log_p = linalg.matmul(self.coefficients, value) + (self.rest + log_weight[:k])[:, None]
        if background is not None:
            log_p = jnp.concatenate([log_p, log_weight[k:, None] + background.T])
        p, total, log_z = special.exponentials(log_p, 0)
        counts = p * jnp.where(present, rows.weight / jnp.where(total > 0, total, 1.0), 0.0)
        total = linalg.matmul(counts[:k], value.T)
        count = total[:, -1]
        if background is not None:
            count = jnp.concatenate([count, jnp.sum(counts[k:], -1)])
        return self.unpack(total), count, log_z

    def kernel(self, size: Float[Array, "k"], rows: Batch) -> Kernel:
        """The kernel of these moments, reliable where little cancels.

        `size` is the sum of the magnitudes of what cancels at the mean of each component. Sums
        lose as many digits, at most half of all. What single rows lose of the bound adds up like
        noise, and must not hide whether it rises.
        """
        k, f = self.coefficients.shape
        eps, largest = float(jnp.finfo(size.dtype).eps), jnp.max(size)
        most = min(
            kernels.LARGEST_PER_DIGITS / eps**0.5,
            kernels.LARGEST_PER_ROOT * rows.x.shape[0] ** 0.5,
        )
        # log-densities, their exponentials and responsibilities
        return Kernel(self, f + 3 * k, largest <= most, eps * largest)


@pytree
class FullFeatures(FeatureMoments):
    """Of correlated columns: z_i z_j for i <= j, z_i and 1, for whole rows."""

    @classmethod
    def of(cls, moments: Any, rows: Batch) -> Kernel:
        """The kernel of GaussianMoments for whole rows without noise."""
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
        rest, lost, size = _constant(top, square, move[:, first], move[:, second], linear, move)
        coefficients = jnp.concatenate([square, linear, rest[:, None]], -1)
        return cls(moments, centre, coefficients, lost).kernel(size, rows)

    def features(self, rows: Batch) -> Features:
        """z_i z_j, z_i and 1."""
        d = rows.x.shape[1]
        (first, second), each = np.triu_indices(d), np.arange(d + 1)
        one = np.full(d + 1, d)
        return _by_pairs(_centred(rows, self.centre), [*first, *each], [*second, *one])

    def unpack(self, total: Float[Array, "k f"]) -> GaussianSums:
        """Sums about the `centre` of the moments, moved there from that of the features."""
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
        """Of whole rows."""
        return jnp.sum(counts, 0)


@pytree
class DiagonalFeatures(FeatureMoments):
    """Of independent columns: z_i^2, z_i and 1.

    Where entries are missing, every column has a 1 of its own, twice: once for what the
    constant's rounding has lost.
    """

    @classmethod
    def of(cls, moments: Any, rows: Batch) -> Kernel:
        """The kernel of DiagonalMoments for rows without noise."""
        part = moments.columns
        centre = jnp.mean(moments.mean, 0)
        move = (part.origin - centre) + part.shift
        square, linear = -0.5 * part.precision, part.precision * move
        each = 0.5 * (part.e_log - part.spread - special.LOG_2PI)
        if rows.mask is None:
            rest, lost, size = _constant(jnp.sum(each, -1), square, move, move, linear, move)
            parts = [square, linear, rest[:, None]]
        else:
            a, b, c = square[..., None], linear[..., None], move[..., None]
            own, more, size = _constant(each, a, c, c, b, c)
            none, size = jnp.zeros_like(own[:, :1]), jnp.sum(size, -1)
            parts, lost = [square, own, more, linear, none], none[:, 0]
        return cls(moments, centre, jnp.concatenate(parts, -1), lost).kernel(size, rows)

    def features(self, rows: Batch) -> Features:
        """z_i^2, z_i and 1, or z_i^2, 1 and 1 of what was observed, z_i and 1."""
        z, each = _centred(rows, self.centre), np.arange(rows.x.shape[1])
        d = len(each)
        if rows.mask is None:
            return _by_pairs(z, [*each, *each, d], [*each, *np.full(d + 1, d)])
        seen = rows.mask.T.astype(z.dtype)
        parts, one = jnp.concatenate([z * seen, seen]), np.full(3 * d + 1, 2 * d)
        pairs = [*each, *each + d, *each + d, *each, 2 * d]
        return _by_pairs(parts, pairs, [*each, *one])

    def unpack(self, total: Float[Array, "k f"]) -> GaussianSums:
        """Sums over the observed entries about the means, column by column."""
        d, origin = self.centre.shape[0], self.moments.mean
        move = origin - self.centre
        square, linear = total[:, :d], total[:, -1 - d : -1]
        whole = total.shape[1] == 2 * d + 1
        count = jnp.broadcast_to(total[:, -1:], square.shape) if whole else total[:, d : 2 * d]
        shift, square = linear - count * move, square - move * (2.0 * linear - count * move)
        return GaussianSums(count, count, shift, square, origin)

    def count(self, rows: Batch, counts: Float[Array, "n k"]) -> Float[Array, "k d"]:
        """Of the observed entries of each column."""
        return self.moments.count(rows, counts)


def _by_pairs(parts: Float[Array, "m n"], first: Any, second: Any) -> Features:
    """`parts[first] * parts[second]`, where parts have one row more, of 1.

    Rows are fetched whole and multiplied in one loop; pieces put together take twice the time.
    """
    parts = jnp.concatenate([parts, jnp.ones_like(parts[:1])])
    return parts[np.asarray(first)] * parts[np.asarray(second)]


def _centred(rows: Batch, centre: Float[Array, "d"]) -> Float[Array, "d n"]:
    """x - centre, column by column; 0 for rows of weight 0, which may hold anything."""
    return jnp.where(rows.weight > 0, rows.x.T - centre[:, None], 0.0)


def _constant(
    top: Float[Array, "*b"],
    square: Float[Array, "*b m"],
    first: Float[Array, "*b m"],
    second: Float[Array, "*b m"],
    linear: Float[Array, "*b d"],
    move: Float[Array, "*b d"],
) -> tuple[Float[Array, "*b"], Float[Array, "*b"], Float[Array, "*b"]]:
    """The c with which sum square first second + linear move + c = top, and its rounding error.

    The third value is the sum of these magnitudes. With this constant the polynomial is right
    where components are, whatever rounding did to the other coefficients: an error there is the
    same for every row.
    """
    product = first * second
    high = jnp.concatenate([square * product, linear * move], -1)
    low = compensated.product_error(square, product)
    low = low + square * compensated.product_error(first, second)
    low = jnp.sum(low, -1) + jnp.sum(compensated.product_error(linear, move), -1)
    total, lost = compensated.twofold_sum(high)
    rest = compensated.rounding_error(top, -total) - (lost + low)
    return top - total, rest, jnp.sum(jnp.abs(high), -1)
