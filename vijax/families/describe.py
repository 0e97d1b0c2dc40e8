"""Numbers for each column of the data, as labelled rows of a table."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float


def label(name: str, values: Float[Array, "*b d"], names: list[str] | None) -> dict[str, Any]:
    """A dict from "name column" to the values of that column, x0, x1, ... without `names`."""
    names = names or [f"x{j}" for j in range(values.shape[-1])]
    return {f"{name} {column}": values[..., j] for j, column in enumerate(names)}


def mean_and_sd(
    mean: Float[Array, "*b d"], variance: Float[Array, "*b d"], names: list[str] | None
) -> dict[str, Any]:
    """The mean and the standard deviation of every column, labelled."""
    return label("mean", mean, names) | label("sd", jnp.sqrt(variance), names)
