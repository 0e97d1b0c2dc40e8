"""Location and scale of columns, for starts that do not depend on units; checks of matrices."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..data import weighted_means as averages
from ..data.batch import Batch
from ..numerics.bulk import bulk_of, evenly

_MOST_ROWS = 4096  # evenly spread rows, which are enough for an interval
_BULK = 2.563  # standard deviations in the bulk of a normal column
_FARTHEST = 5.0  # standard deviations


def location_and_sd(rows: Batch) -> tuple[Float[Array, "d"], Float[Array, "d"]]:
    """Weighted mean and sd of each column over its observed entries; sd 1 if it is constant."""
    share = averages.shares(rows.x, rows.weight, rows.mask)
    centre = averages.means(rows.x, share)
    variance = jnp.sum(share * (rows.x - centre[None]) ** 2, 0)
    return centre, jnp.sqrt(jnp.where(variance > 0, variance, 1.0))


def standardize(rows: Batch) -> Float[Array, "n d"]:
    """Rows as standard deviations from the middle of each column; 0 where an entry is missing.

    Middle and deviation are those of the bulk of the column, and entries are cut off at 5, so that
    a few far ones do not take all seeds.
    """
    z, _ = standardized_with_sd(rows)
    return z


def standardized_with_sd(rows: Batch) -> tuple[Float[Array, "n d"], Float[Array, "d"]]:
    """`standardize`, and the standard deviations (d,) in data units."""
    used = jnp.broadcast_to(rows.weight[:, None] > 0, rows.x.shape)
    used = used if rows.mask is None else used & rows.mask
    part = evenly(rows.x.shape[0], _MOST_ROWS)
    bulk = bulk_of(jnp, rows.x[part], used[part])
    _, all_sd = location_and_sd(rows)
    sd = (bulk.high - bulk.low) / _BULK
    sd = jnp.where(sd > 0, sd, all_sd)
    middle = 0.5 * (bulk.low + bulk.high)
    z = jnp.clip((rows.x - middle[None]) / sd[None], -_FARTHEST, _FARTHEST)
    return jnp.where(used, z, 0.0), sd


def seed_rows(rows: Batch, seeds: Array) -> tuple[Float[Array, "k d"], Float[Array, "d"]]:
    """The rows `seeds` with missing entries at the mean, and the sd of each column."""
    centre, sd = location_and_sd(rows)
    own = rows.x[seeds]
    return own if rows.mask is None else jnp.where(rows.mask[seeds], own, centre), sd


def check_matrix(rows: Batch, d: int | None = None) -> None:
    """Raise ValueError unless rows are (n, d), with the d of the prior if that is given."""
    x = rows.x
    if isinstance(x, dict):
        raise ValueError("x: expected an array of rows and columns, got a dict of columns")
    if x.ndim != 2:
        hint = "; use x[:, None] for one column" if x.ndim == 1 else ""
        raise ValueError(f"x: expected rows and columns, (n, d), got shape {x.shape}{hint}")
    if d is not None and x.shape[1] != d:
        raise ValueError(f"x: has {x.shape[1]} columns, but the model's prior is for {d}")


def refuse_noise(
    rows: Batch, what: str, remedy: str = "use the full-covariance Gaussian mixture"
) -> None:
    """Raise ValueError naming `what` if rows have measurement noise; `remedy` says what to do."""
    if rows.noise is not None:
        raise ValueError(f"noise: {what} takes none; {remedy}")


def refuse_exposure(rows: Batch, what: str) -> None:
    """Raise ValueError naming `what` if rows have an exposure, and say what takes it."""
    if rows.exposure is not None:
        raise ValueError(
            f"exposure: {what} takes none; Poisson counts and exponential waiting times do, in a "
            "table by a dict of the names of such columns"
        )
