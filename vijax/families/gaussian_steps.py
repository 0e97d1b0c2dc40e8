"""A whole step of Gaussian components at once, for few rows of few columns.

From log-densities to statistics in the order (k, n), each column an array of its own: rows are
next to each other, and nothing is larger than (k, n). As exact as one by one.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._pytree import pytree
from ..batch import Batch
from ..numerics import linalg, special

_COLUMNS = 4  # up to so many, whitening is written out
_ROWS = 2048  # from here on, sums in one sweep lose digits, and there are products


@pytree
class Step:
    """Weighted counts (k,), sums of 1, x - c and (x - c)(x - c)^T about `origin` c, and log_z."""

    count: Float[Array, "k"]
    shift: Float[Array, "k d"]
    square: Float[Array, "k d d"]
    origin: Float[Array, "k d"]
    log_z: Float[Array, "n"]


def applies(rows: Batch) -> bool:
    """Whether rows are whole and unlabelled, few, and of few columns."""
    whole = rows.mask is None and rows.noise is None and rows.label is None
    n, d = rows.x.shape
    return whole and n < _ROWS and d <= _COLUMNS


def step(at: Any, rows: Batch, log_weight: Float[Array, "k"]) -> Step:
    """The step of mixture components whose expected log-weights are `log_weight`."""
    d, origin, present = rows.x.shape[1], at.centre, rows.weight > 0
    # rows of weight 0 may hold anything; in a loop, these columns are made once
    x = jnp.where(present, rows.x.T, 0.0)
    constant, root = _coefficients(at, log_weight, d)
    z = [(x[i] - at.origin[:, i, None]) - at.shift[:, i, None] for i in range(d)]
    square = jnp.zeros_like(z[0])
    for row in root:
        square = square + sum(a[:, None] * z[j] for j, a in enumerate(row)) ** 2
    p, total, log_z = special.exponentials(constant[:, None] - 0.5 * square, 0)
    mass = p * jnp.where(present, rows.weight / jnp.where(total > 0, total, 1.0), 0.0)
    z = [x[i] - origin[:, i, None] for i in range(d)]
    first, second = np.triu_indices(d)
    weighted = [mass * column for column in z]
    square = [weighted[i] * z[j] for i, j in zip(first, second, strict=True)]
    # a product for each: all that one for all needs would have to be written down first
    sums = jnp.stack([linalg.sum_by_product(a) for a in (mass, *weighted, *square)], 1)
    place = np.zeros((d, d), int)
    place[first, second] = place[second, first] = 1 + d + np.arange(len(first))
    return Step(sums[:, 0], sums[:, 1 : 1 + d], sums[:, place], origin, log_z)


def _coefficients(
    at: Any, log_weight: Float[Array, "k"], d: int
) -> tuple[Float[Array, "k"], list[list[Float[Array, "k"]]]]:
    """Constants of the log-densities, and the lower triangles of roots of the precisions."""
    constant = log_weight + 0.5 * (at.e_logdet - at.spread - d * special.LOG_2PI)
    root = jnp.sqrt(at.scale)[:, None, None] * linalg.tri_inverse(at.chol)
    lower = np.tril_indices(d)
    # by a product, which XLA does not compute anew for every row as it does what leads to it
    lowest = 0.25 * jnp.finfo(constant.dtype).min
    all_ = jnp.concatenate([jnp.maximum(constant, lowest)[:, None], root[:, *lower]], 1)
    all_ = linalg.matmul(all_, jnp.eye(all_.shape[1], dtype=all_.dtype))
    found = iter(all_.T[1:])
    return all_[:, 0], [[next(found) for _ in range(i + 1)] for i in range(d)]
