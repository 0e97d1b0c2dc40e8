"""Draws to fill the rows of the family table with."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from vijax.testing import FamilyFacts as Family

__all__ = ["Family", "gammas", "normals", "spd"]


def spd(rng: np.random.Generator, batch: int, d: int) -> Any:
    root = rng.normal(size=(batch, d, d + 3))
    return jnp.asarray(root @ np.swapaxes(root, -1, -2))


def gammas(rng: np.random.Generator, *shape: int, least: float = 0.3) -> Any:
    return jnp.asarray(rng.gamma(2.0, size=shape) + least)


def normals(rng: np.random.Generator, *shape: int) -> Any:
    return jnp.asarray(rng.normal(size=shape))
