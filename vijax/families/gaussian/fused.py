"""The E-step of whole Gaussian rows in one sweep, for few rows of few columns.

Every column is an array of its own and all arrays are (k, n), so that XLA vectorises along rows and
stores nothing larger. The result is as accurate as that of `likelihood`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...data.batch import Batch
from ...numerics import linalg, special
from .sums import GaussianSums


def e_step(
    moments: Any,
    rows: Batch,
    log_weight: Float[Array, "m"],
    background: Float[Array, "n b"] | None,
) -> tuple[GaussianSums, Float[Array, "m"], Float[Array, "n"]]:
    """As `Emission.e_step` with sums in place of statistics, for `GaussianMoments`.

    Rows must be whole and have neither noise nor labels.
    """
    d, origin, present = rows.x.shape[1], moments.centre, rows.weight > 0
    k = origin.shape[0]
    # rows of weight 0 may hold anything; XLA does this once before a loop over iterations
    x = jnp.where(present, rows.x.T, 0.0)
    constant, root = _coefficients(moments, log_weight[:k], d)
    z = [(x[i, None] - moments.origin[:, i, None]) - moments.shift[:, i, None] for i in range(d)]
    square = jnp.zeros_like(z[0])
    for row in root:
        square = square + sum(a[:, None] * z[j] for j, a in enumerate(row)) ** 2
    log_p = constant[:, None] - 0.5 * square
    if background is not None:
        log_p = jnp.concatenate([log_p, log_weight[k:, None] + background.T])
    p, total, log_z = special.exponentials(log_p, 0)
    share = jnp.where(present, rows.weight / jnp.where(total > 0, total, 1.0), 0.0)
    counts = p * share[None]
    weight = counts[:k]
    z = [x[i, None] - origin[:, i, None] for i in range(d)]
    first, second = np.triu_indices(d)
    weighted = [weight * column for column in z]
    square = [weighted[i] * z[j] for i, j in zip(first, second, strict=True)]
    # separate products; one product for all sums would first store everything that is summed
    packed = jnp.stack([linalg.sum_by_product(a) for a in (weight, *weighted, *square)], 1)
    place = np.zeros((d, d), int)
    place[first, second] = place[second, first] = 1 + d + np.arange(len(first))
    count, shift = packed[:, 0], packed[:, 1 : 1 + d]
    sums = GaussianSums(count, count, shift, packed[:, place], origin)
    if background is None:
        return sums, count, log_z
    return sums, jnp.concatenate([count, linalg.sum_by_product(counts[k:])]), log_z


def _coefficients(
    moments: Any, log_weight: Float[Array, "k"], d: int
) -> tuple[Float[Array, "k"], list[list[Float[Array, "k"]]]]:
    """Constants of the log-densities, and roots of the precisions by rows of a lower triangle."""
    constant = log_weight + 0.5 * (moments.e_logdet - moments.spread - d * special.LOG_2PI)
    root = jnp.sqrt(moments.scale)[:, None, None] * linalg.tri_inverse(moments.chol)
    lower = np.tril_indices(d)
    # XLA would compute these anew for every row, but not the result of a product
    lowest = 0.25 * jnp.finfo(constant.dtype).min
    columns = jnp.concatenate([jnp.maximum(constant, lowest)[:, None], root[:, *lower]], 1)
    columns = linalg.matmul(columns, jnp.eye(columns.shape[1], dtype=columns.dtype))
    entries = iter(columns.T[1:])
    return columns[:, 0], [[next(entries) for _ in range(i + 1)] for i in range(d)]
