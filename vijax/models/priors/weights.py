"""Priors of the weights of components: a Dirichlet of given concentration, or any other."""

from __future__ import annotations

import jax
import numpy as np
from jax.typing import DTypeLike

from ...data.host import as_floats, check_bound, namespace, to_device
from ...data.types import ArrayLike
from ...families.dirichlet import Dirichlet
from ...families.weights.base import Weights
from .arguments import per_component


def default_conc(
    conc: ArrayLike | None, weights: Weights | None, num_components: int
) -> ArrayLike | None:
    """Return `conc`, or 1 / num_components, one pseudo-row in all, if no prior is given."""
    return 1.0 / num_components if conc is None and weights is None else conc


def from_conc_or_given(
    conc: ArrayLike | None,
    weights: Weights | None,
    num_components: int,
    size: int,
    dtype: DTypeLike,
    num_background: int = 0,
) -> Weights:
    """Build a Dirichlet prior from `conc` > 0, a scalar or (num_components,), or take `weights`.

    It has `size` components, of which the first `num_components` are switched on, and then
    `num_background` ones, such as noise, with the conc of the first.
    """
    if (conc is None) == (weights is None):
        raise ValueError("conc: give either it or `weights`, a prior on the weights")
    if weights is not None:
        if not isinstance(weights, Weights):
            raise TypeError(f"weights: expected a prior such as Dirichlet, got {weights!r:.80}")
        if num_background and size > num_components:
            raise ValueError("k_max: goes with noise only where `conc` is the prior on the weights")
        expected = num_components + num_background
        if weights.size != expected:
            raise ValueError(f"weights: a prior for {weights.size} components, expected {expected}")
        return weights.pad(size + num_background).astype(dtype)
    value = as_floats("conc", conc)
    value = per_component("conc", value, (), num_components, size).astype(dtype)
    check_bound("conc", value, above=0.0)
    xp = namespace(value)
    value = xp.where(np.arange(size) < num_components, value, 0.0).astype(dtype)
    if num_background:
        value = xp.concatenate([value, value[:1].repeat(num_background)])
    return Dirichlet(to_device(value))


def flat(size: int, dtype: DTypeLike) -> Dirichlet:
    """Build weights without a prior, every concentration zero, for maximum likelihood."""
    return Dirichlet(to_device(np.zeros(size, dtype)))


def switched_on(num_components: int, size: int, num_background: int = 0) -> jax.Array:
    """Return which components are on, (size + num_background,) booleans."""
    on = np.arange(size + num_background)
    return to_device((on < num_components) | (on >= size))
