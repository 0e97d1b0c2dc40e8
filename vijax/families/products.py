"""Where log-densities and statistics of rows are matrix products with a few features of each row.

A Gaussian log-density is linear in z z^T, z and 1 for z = x - centre, and so are the statistics
that it needs. One product each way is several times faster than differences from every mean, and
loses the digits by which means are farther from the centre than components are wide. Features and
components lead and rows are next to each other, so that everything else is done many rows at once.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._pytree import pytree, static
from ..batch import Batch
from ..numerics import linalg, special, sums

# from so many rows on, or so many rows times components, something is gained; for n = 500, d = 2
# 1.2 times with 20 components, nothing with 6
_ROWS, _FEWEST, _WORK = 2048, 256, 2**13
_KEPT = 0.5  # the largest size of what cancels, over sqrt(1 / eps)
_PER_ROOT = 8.0  # and over the root of the number of rows


@pytree
class Features:
    """Functions of z = x - centre that end with z and 1."""

    value: Float[Array, "f n"]
    centre: Float[Array, "d"]

    def total(self, mass: Float[Array, "n k"]) -> Float[Array, "k f"]:
        """Sums of the features of rows that count `mass` times."""
        return linalg.matmul(mass.T, self.value.T)


@pytree
class Step:
    """Weighted sums of features, the last of them 1, and log_z: a whole step of a mixture."""

    sums: Float[Array, "k f"]
    centre: Float[Array, "d"]
    log_z: Float[Array, "n"]

    @property
    def count(self) -> Float[Array, "k"]:
        """Weighted counts of rows."""
        return self.sums[:, -1]

    def total(self, mass: Any) -> Float[Array, "k f"]:
        """The sums, for which all masses are counted already."""
        return self.sums


Found = Features | Step  # what the sums over rows are made from


@pytree
class ProductMoments:
    """Moments `at` as coefficients (k, f) of the features that `of` makes of rows and centre.

    `rest` is what rounding the constant has lost.
    """

    at: Any
    centre: Float[Array, "d"]
    coefficients: Float[Array, "k f"]
    rest: Float[Array, "k"]
    of: Any = static()

    def local(self, rows: Batch) -> tuple[Float[Array, "n k"], Features]:
        """Expected log-densities in nats, and the features."""
        value = self.of(rows, self.centre)
        log_lik = linalg.matmul(self.coefficients, value) + self.rest[:, None]
        return log_lik.T, Features(value, self.centre)

    def step(self, rows: Batch, log_weight: Float[Array, "k"]) -> Step | None:
        """The step of mixture components whose expected log-weights are `log_weight`.

        None where labels of rows are known.
        """
        if rows.label is not None:
            return None
        value, present = self.of(rows, self.centre), rows.weight > 0
        log_p = linalg.matmul(self.coefficients, value) + (self.rest + log_weight)[:, None]
        p, total, log_z = special.exponentials(log_p, 0)
        mass = p * jnp.where(present, rows.weight / jnp.where(total > 0, total, 1.0), 0.0)
        return Step(linalg.matmul(mass, value.T), self.centre, log_z)


@pytree
class Shortcut:
    """Moments whose `local` is faster, whether it keeps enough digits, and its floats per row.

    `error` is about the relative rounding error of the statistics.
    """

    good: Bool[Array, ""]
    error: Float[Array, ""]
    moments: Any
    row_size: int = static()


def shortcut(moments: Any, rows: Batch) -> Shortcut | None:
    """The shortcut of `moments` for these rows; None where their family has none."""
    own = getattr(moments, "shortcut", None)
    return None if own is None else own(rows)


def worthwhile(rows: Batch, k: int) -> bool:
    """Whether rows are known without noise, and many enough for k components."""
    n = rows.x.shape[0]
    return rows.noise is None and (n >= _ROWS or (n >= _FEWEST and n * k >= _WORK))


def by_products(moments: ProductMoments, size: Float[Array, "k"], rows: Batch) -> Shortcut:
    """The shortcut of these moments, good where little cancels.

    `size` is the sum of the magnitudes of what cancels at the mean of each component. Statistics
    lose as many digits, at most half of all. What single rows lose of the bound adds up like
    noise, and must not hide whether it rises.
    """
    k, f = moments.coefficients.shape
    eps, size = float(jnp.finfo(size.dtype).eps), jnp.max(size)
    most = min(_KEPT / eps**0.5, _PER_ROOT * rows.x.shape[0] ** 0.5)
    # log-densities, their exponentials and responsibilities
    return Shortcut(size <= most, eps * size, moments, f + 3 * k)


def by_pairs(parts: Float[Array, "m n"], first: Any, second: Any) -> Float[Array, "f n"]:
    """`parts[first] * parts[second]`, where parts have one row more, of 1.

    Rows are fetched whole and multiplied in one loop; pieces put together take twice the time.
    """
    parts = jnp.concatenate([parts, jnp.ones_like(parts[:1])])
    return parts[np.asarray(first)] * parts[np.asarray(second)]


def moved(rows: Batch, centre: Float[Array, "d"]) -> Float[Array, "d n"]:
    """x - centre, column by column; 0 for rows of weight 0, which may hold anything."""
    return jnp.where(rows.weight > 0, rows.x.T - centre[:, None], 0.0)


def constant(
    top: Float[Array, "*b"],
    square: Float[Array, "*b m"],
    first: Float[Array, "*b m"],
    second: Float[Array, "*b m"],
    linear: Float[Array, "*b d"],
    move: Float[Array, "*b d"],
) -> tuple[Float[Array, "*b"], Float[Array, "*b"], Float[Array, "*b"]]:
    """The constant, twofold, with which sum square first second + linear move + constant = top;

    and the sum of these magnitudes. With it the polynomial is right where components are,
    whatever rounding did to the other coefficients: an error there is the same for every row.
    """
    product = first * second
    high = jnp.concatenate([square * product, linear * move], -1)
    low = sums.product_error(square, product) + square * sums.product_error(first, second)
    low = jnp.sum(low, -1) + jnp.sum(sums.product_error(linear, move), -1)
    total, lost = sums.twofold_sum(high)
    rest = sums.rounding_error(top, -total) - (lost + low)
    return top - total, rest, jnp.sum(jnp.abs(high), -1)
