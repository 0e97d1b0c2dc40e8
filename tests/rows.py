"""What a row of the family table holds, and draws to fill it with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Family:
    """A row of the family table.

    `make(rng)` builds a batch of shape (3,). `standard` names the arguments of `from_standard`,
    each with how to read it back. `log_prob(value, index, instance)` is SciPy's density of one
    member. `log_base(value)` is log h. `summaries` maps accessors to functions of a draw whose
    mean they are. `on_simplex` says whether a value sums to 1, of a product for each of its
    factors: then the mode is stationary along the simplex only. `from_standard` is given where the
    class has none. `total` says that results are sums over the batch: of products.
    """

    name: str
    make: Callable[[np.random.Generator], Any]
    standard: dict[str, Callable[[Any], Any]]
    log_prob: Callable[[Any, int, Any], float]
    log_base: Callable[[Any], Any]
    summaries: dict[str, Callable[[Any], Any]]
    point: Callable[[Any], Any]
    on_simplex: bool | dict[str, bool] = False
    from_standard: Callable[..., Any] | None = None
    total: bool = False


def spd(rng: np.random.Generator, batch: int, d: int) -> Any:
    root = rng.normal(size=(batch, d, d + 3))
    return jnp.asarray(root @ np.swapaxes(root, -1, -2))


def gammas(rng: np.random.Generator, *shape: int, least: float = 0.3) -> Any:
    return jnp.asarray(rng.gamma(2.0, size=shape) + least)


def normals(rng: np.random.Generator, *shape: int) -> Any:
    return jnp.asarray(rng.normal(size=shape))
