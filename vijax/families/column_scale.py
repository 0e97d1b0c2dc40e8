"""Location and scale of columns, for starts that do not depend on units; checks of matrices."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..data import weighted_means as averages
from ..data.batch import Batch


def location_and_sd(rows: Batch) -> tuple[Float[Array, "d"], Float[Array, "d"]]:
    """Weighted mean and sd of each column over its observed entries; sd 1 if it is constant."""
    share = averages.shares(rows.x, rows.weight, rows.mask)
    centre = averages.means(rows.x, share)
    variance = jnp.sum(share * (rows.x - centre) ** 2, 0)
    return centre, jnp.sqrt(jnp.where(variance > 0, variance, 1.0))


def standardize(rows: Batch) -> Float[Array, "n d"]:
    """Rows as standard deviations from the mean of each column; 0 where an entry is missing."""
    centre, sd = location_and_sd(rows)
    z = (rows.x - centre) / sd
    return z if rows.mask is None else jnp.where(rows.mask, z, 0.0)


def seed_rows(rows: Batch, seeds: Array) -> tuple[Float[Array, "k d"], Float[Array, "d"]]:
    """The rows `seeds` with missing entries at the mean, and the sd of each column."""
    centre, sd = location_and_sd(rows)
    return centre + sd * standardize(rows)[seeds], sd


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
