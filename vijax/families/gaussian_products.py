"""Whole Gaussian rows by the products of their columns."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..batch import Batch
from ..numerics import linalg, special
from .products import Features, ProductMoments, Shortcut, by_products, constant, worthwhile


def shortcut(at: Any, rows: Batch) -> Shortcut | None:
    """The moments `at` as coefficients of z_i z_j, z_i and 1; None for few rows, or parts of."""
    if rows.mask is not None or not worthwhile(rows):
        return None
    d = rows.x.shape[1]
    centre = jnp.mean(at.mean, 0)
    move = (at.origin - centre) + at.shift
    root = linalg.tri_inverse(at.chol)
    precision = at.scale[:, None, None] * linalg.matmul(root.mT, root)
    linear = linalg.matmul(precision, move[..., None])[..., 0]
    first, second = np.triu_indices(d)
    once = np.where(first == second, -0.5, -1.0).astype(rows.x.dtype)
    square = precision[:, first, second] * once
    top = 0.5 * (at.e_logdet - at.spread - d * special.LOG_2PI)
    rest, lost, size = constant(top, square, move[:, first], move[:, second], linear, move)
    coefficients = jnp.concatenate([square, linear, rest[:, None]], -1).T
    moments = ProductMoments(at, centre, coefficients, lost, _features)
    return by_products(moments, size, rows)


def sums(found: Features, mass: Float[Array, "n k"], at: Any) -> tuple[Array, Array, Array]:
    """Weighted sums of 1, of x - m and of (x - m)(x - m)^T about the mean of each component."""
    d = found.centre.shape[0]
    move = at.mean - found.centre  # as far as the origin that these sums are about
    total = linalg.matmul(mass.T, found.value)
    place = np.zeros((d, d), int)
    place[np.triu_indices(d)] = np.arange(d * (d + 1) // 2)
    place = np.maximum(place, place.T)
    count, linear, square = total[:, -1], total[:, -1 - d : -1], total[:, place]
    cross = linalg.outer(move, linear)
    far = count[:, None] * move
    square = square - cross - cross.mT + linalg.outer(move, far)
    return count, linear - far, square


def _features(rows: Batch, centre: Float[Array, "d"]) -> Float[Array, "n f"]:
    z = rows.x - centre
    square = [z[:, i:] * z[:, i, None] for i in range(z.shape[1])]
    return jnp.concatenate([*square, z, jnp.ones_like(z[:, :1])], -1)
