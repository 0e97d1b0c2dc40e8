"""Gaussian rows with independent columns by their squares; missing entries are zeros."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..batch import Batch
from ..numerics import special
from . import products
from .products import Found, Shortcut


def shortcut(at: Any, rows: Batch) -> Shortcut | None:
    """The moments `at` as coefficients of z_i^2, z_i and 1; None where rows are few.

    Where entries are missing, every column brings its own 1, twice: once for what the constant's
    rounding has lost.
    """
    if not products.worthwhile(rows, at.mean.shape[0]):
        return None
    part = at.columns
    centre = jnp.mean(at.mean, 0)
    move = (part.origin - centre) + part.shift
    square, linear = -0.5 * part.precision, part.precision * move
    each = 0.5 * (part.e_log - part.spread - special.LOG_2PI)
    if rows.mask is None:
        rest, lost, size = products.constant(jnp.sum(each, -1), square, move, move, linear, move)
        parts = [square, linear, rest[:, None]]
    else:
        a, b, c = square[..., None], linear[..., None], move[..., None]
        own, more, size = products.constant(each, a, c, c, b, c)
        none, size = jnp.zeros_like(own[:, :1]), jnp.sum(size, -1)
        parts, lost = [square, own, more, linear, none], none[:, 0]
    coefficients = jnp.concatenate(parts, -1)
    moments = products.ProductMoments(at, centre, coefficients, lost, _features)
    return products.by_products(moments, size, rows)


def sums(found: Found, mass: Any, at: Any) -> tuple[Array, Array, Array]:
    """Over the observed entries, each (k, d): how many, and the sums of x - m and of its square."""
    d = found.centre.shape[0]
    move = at.mean - found.centre  # as far as the origin that these sums are about
    total = found.total(mass)
    square, linear = total[:, :d], total[:, -1 - d : -1]
    whole = total.shape[1] == 2 * d + 1
    count = jnp.broadcast_to(total[:, -1:], square.shape) if whole else total[:, d : 2 * d]
    return count, linear - count * move, square - move * (2.0 * linear - count * move)


def _features(rows: Batch, centre: Float[Array, "d"]) -> Float[Array, "f n"]:
    z, each = products.moved(rows, centre), np.arange(rows.x.shape[1])
    d = len(each)
    if rows.mask is None:
        return products.by_pairs(z, [*each, *each, d], [*each, *np.full(d + 1, d)])
    seen = rows.mask.T.astype(z.dtype)
    parts, one = jnp.concatenate([z * seen, seen]), np.full(3 * d + 1, 2 * d)
    return products.by_pairs(parts, [*each, *each + d, *each + d, *each, 2 * d], [*each, *one])
