"""What a problem is, and what builds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import ndtri

Params = dict[str, Any]
Rows = dict[str, Any]
Constraint = str | tuple[str, float, float]


class Problem(NamedTuple):
    """A posterior: what a black-box method is given."""

    name: str
    log_prior: Callable[[Params], jax.Array]
    """Scalar, nats."""
    log_lik: Callable[[Params, Rows], jax.Array] | None
    """(n,) nats, one per row; None: `log_prior` has all."""
    like: Params
    """Arrays of the parameters' shapes."""
    constraints: dict[str, Constraint]
    """By name: "real", "positive", ("interval", low, high) or "ordered" along the last axis."""
    rows: Rows | None
    """Columns with rows leading; indices of groups are int32."""
    easy: bool = True
    """Near-Gaussian in unconstrained coordinates, so that a fit should be good; else a funnel, a
    ridge or skewed."""
    drawn_from: tuple[str, Callable[[Params], Params]] | None = None
    """Another parameterisation of the same posterior, and the map from its parameters: samplers
    mix there."""


PROBLEMS: dict[str, Callable[[], Problem]] = {}


def problem(build: Callable[[], Problem]) -> Callable[[], Problem]:
    """Enters a builder under its own name."""
    PROBLEMS[build.__name__] = build
    return build


def like_of(shapes: dict[str, tuple[int, ...]]) -> Params:
    return {name: np.zeros(shape) for name, shape in shapes.items()}


def constraints_of(shapes: dict[str, Any], **known: Constraint) -> dict[str, Constraint]:
    return {name: known.get(name, "real") for name in shapes}


def uniforms(seed: int, n: int) -> np.ndarray:
    """Of the raw stream, which NumPy promises not to change."""
    return ((np.random.PCG64(seed).random_raw(n) >> np.uint64(11)) + 0.5) / 2.0**53


def normals(seed: int, n: int) -> np.ndarray:
    return ndtri(uniforms(seed, n))
