"""Where rows are and how wide their clusters are, whatever a fifth of the entries says."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ...data import weighted_means
from ...data.batch import Batch
from ...data.host import as_floats, host_mask, is_concrete, namespace
from ...data.types import AnyArray
from ...numerics.bulk import bulk_of, evenly
from ...numerics.cells import scatter_within

_MOST_ROWS = 4096  # evenly spread rows, which are enough for quantiles and cells
_LEAST_SHRINKAGE = 1e-3  # of the correlations


class Scale(NamedTuple):
    """Mean (d,) and covariances (d, d) of all rows and of those in one cluster, in data units."""

    mean: AnyArray
    total: AnyArray
    within: AnyArray


def scale_of(batch: Batch) -> Scale:
    """Location and scale of rows (n, d), on the host or traced.

    The shortest interval with 80 % of a column is where the column is; entries further outside of
    it than its own width are left out. The covariance in a cluster is that of `scatter_within`.
    Correlations are shrunk. A constant column gets the mean variance of the others, or 1.
    """
    x, weight = as_floats("x", batch.x), as_floats("weight", batch.weight)
    xp = namespace(x, weight)
    mask = host_mask(batch.mask, x, weight)
    used = xp.broadcast_to((weight > 0)[:, None], x.shape)
    used = used if mask is None else used & mask
    rows = evenly(x.shape[0], _MOST_ROWS)
    bulk = bulk_of(xp, x[rows], used[rows])
    used = used & bulk.near(x)
    mean, total, varies = _mean_and_covariance(x, weight, used)
    sd = xp.sqrt(xp.diagonal(total))
    own = used[rows] & varies
    dtype = np.float64 if xp is np else x.dtype
    z = xp.where(own, (x[rows] - mean) / sd, 0.0).astype(dtype)
    own_weight = weight[rows].astype(dtype)
    mass = xp.where(own, own_weight[:, None], 0.0)
    within = scatter_within(xp, z, mass, own_weight, bulk.gap / sd)
    return Scale(mean, total, (within * sd[:, None] * sd).astype(x.dtype))


def _mean_and_covariance(
    x: AnyArray, weight: AnyArray, mask: AnyArray
) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Mean and shrunken covariance of the entries in `mask`, and which columns vary."""
    xp, d = namespace(x, weight), x.shape[1]
    share = weighted_means.shares(x, weight, mask)
    mean = weighted_means.means(x, share, mask)
    with np.errstate(over="ignore", invalid="ignore"):
        z = xp.where(mask, x - mean, 0.0)
    # with missing entries: covariances of the observed entries, and variances of each column
    root = xp.sqrt(share)
    precise = {"precision": "highest"} if xp is jnp else {}
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        product = xp.matmul((root * z).T, root * z, **precise)
        variance = (share * z**2).sum(0)
    _, _, varies = column_range(x, mask)
    if is_concrete(variance, varies):
        _check_squares(np.asarray(variance), np.asarray(varies))
    variance = xp.where(varies, variance, 0.0)
    average = variance.sum() / xp.maximum(varies.sum(), 1).astype(x.dtype)
    diagonal = xp.where(varies, variance, xp.where(average > 0, average, 1.0))
    shrink = xp.maximum(d / (weight.sum() + d), _LEAST_SHRINKAGE)
    off = xp.where(varies[:, None] & varies[None, :], (1.0 - shrink) * product, 0.0)
    total = xp.where(np.eye(d, dtype=bool), xp.diag(diagonal), off).astype(x.dtype)
    return mean, total, varies


def _check_squares(variance: np.ndarray, varies: np.ndarray) -> None:
    known = np.isfinite(variance) & ((variance >= np.finfo(variance.dtype).tiny) | ~varies)
    if not known.all():
        raise ValueError(
            f"x: the squares of column {int(np.argmin(known))} leave the range of "
            f"{variance.dtype}; take another unit, or enable jax_enable_x64"
        )


def column_range(x: AnyArray, mask: AnyArray | None) -> tuple[AnyArray, AnyArray, AnyArray]:
    """The smallest and the largest observed entry of every column, and whether they differ."""
    xp = namespace(x, mask)
    low = (x if mask is None else xp.where(mask, x, xp.inf)).min(0)
    high = (x if mask is None else xp.where(mask, x, -xp.inf)).max(0)
    return low, high, high > low
