"""Whole Gaussian rows by the products of their columns."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..batch import Batch
from ..numerics import linalg, special
from . import products
from .products import Found, Shortcut


def shortcut(at: Any, rows: Batch) -> Shortcut | None:
    """The moments `at` as coefficients of z_i z_j, z_i and 1; None for few rows, or parts of."""
    if rows.mask is not None or not products.worthwhile(rows, at.mean.shape[0]):
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
    rest, lost, size = products.constant(top, square, move[:, first], move[:, second], linear, move)
    coefficients = jnp.concatenate([square, linear, rest[:, None]], -1)
    moments = products.ProductMoments(at, centre, coefficients, lost, _features)
    return products.by_products(moments, size, rows)


def sums(found: Found, mass: Any, at: Any) -> tuple[Array, Array, Array]:
    """Weighted sums of 1, x - c and (x - c)(x - c)^T, c the `centre` of each component."""
    d = found.centre.shape[0]
    move = at.centre - found.centre  # as far as the origin that these sums are about
    total = found.total(mass)
    place = np.zeros((d, d), int)
    first, second = np.triu_indices(d)
    place[first, second] = place[second, first] = np.arange(len(first))
    count, linear, square = total[:, -1], total[:, -1 - d : -1], total[:, place]
    cross = linalg.outer(move, linear)
    far = count[:, None] * move
    square = square - cross - cross.mT + linalg.outer(move, far)
    return count, linear - far, square


def _features(rows: Batch, centre: Float[Array, "d"]) -> Float[Array, "f n"]:
    d = rows.x.shape[1]
    (first, second), each = np.triu_indices(d), np.arange(d + 1)
    one = np.full(d + 1, d)
    return products.by_pairs(products.moved(rows, centre), [*first, *each], [*second, *one])
