"""A whole step of Gaussian components at once, components leading: for few columns.

Log-densities, responsibilities and statistics of rows (n, d) in the order (k, d, n), where rows
are next to each other: what is as exact as one by one is several times faster for small problems.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._pytree import pytree
from ..batch import Batch
from ..numerics import linalg, special

_COLUMNS = 4  # up to so many, whitening is written out


@pytree
class Step:
    """Weighted counts (k,), sums of 1, x - c and (x - c)(x - c)^T about the means c, and log_z."""

    count: Float[Array, "k"]
    shift: Float[Array, "k d"]
    square: Float[Array, "k d d"]
    origin: Float[Array, "k d"]
    log_z: Float[Array, "n"]


def applies(rows: Batch) -> bool:
    """Whether rows are whole, and of few columns."""
    whole = rows.mask is None and rows.noise is None and rows.label is None
    return whole and rows.x.shape[1] <= _COLUMNS


def step(at: Any, rows: Batch, log_weight: Float[Array, "k"]) -> Step:
    """The step of mixture components whose expected log-weights are `log_weight`."""
    x, d, origin = rows.x.T, rows.x.shape[1], at.mean
    root = jnp.sqrt(at.scale)[:, None, None] * linalg.tri_inverse(at.chol)
    # a product, that the factors be computed once and not for every row
    root = linalg.matmul(root, jnp.broadcast_to(jnp.eye(d, dtype=x.dtype), root.shape))
    z = (x - at.origin[:, :, None]) - at.shift[:, :, None]
    square = jnp.zeros_like(z[:, 0])
    for i in range(d):
        white = sum(root[:, i, j, None] * z[:, j] for j in range(i + 1))
        square = square + white**2
    constant = log_weight + 0.5 * (at.e_logdet - at.spread - d * special.LOG_2PI)
    log_joint = constant[:, None] - 0.5 * square
    p, total, log_z = special.exponentials(log_joint, 0)
    present = rows.weight > 0
    share = jnp.where(present, rows.weight / jnp.where(total > 0, total, 1.0), 0.0)
    mass = jnp.where(present, p * share, 0.0)
    z = x - origin[:, :, None]
    z = jnp.concatenate([z, jnp.ones_like(z[:, :1])], 1)
    sums = linalg.matmul(z * mass[:, None, :], z.mT)
    return Step(sums[:, d, d], sums[:, :d, d], sums[:, :d, :d], origin, log_z)
