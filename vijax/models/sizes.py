"""Numbers of components, and arguments that may be shared by them or given one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._host import as_floats, check_bound, check_integer, namespace, to_device
from ..families.dirichlet import Dirichlet
from ..families.weights import Weights


def check_size(num_components: Any, k_max: Any) -> int:
    """The number of components to make room for; TypeError or ValueError by name."""
    check_integer("num_components", num_components)
    if num_components < 1:
        raise ValueError(f"num_components: must be at least 1, got {num_components}")
    if k_max is None:
        return num_components
    check_integer("k_max", k_max)
    if k_max < num_components:
        raise ValueError(f"k_max: must be at least num_components = {num_components}, got {k_max}")
    return k_max


def shared_conc(conc: Any, weights: Any, num_components: int) -> Any:
    """The default prior on the weights, where none is given: one pseudo-row in all."""
    return 1.0 / num_components if conc is None and weights is None else conc


def per_component(
    name: str, value: Any, each: tuple[int, ...], num_components: int, size: int
) -> Any:
    """Broadcast a shared value, or pad per-component ones; refuse every other shape."""
    if value.shape == each:
        return namespace(value).broadcast_to(value, (size, *each))
    if value.shape != (num_components, *each):
        shared = "a scalar" if each == () else f"{each}"
        raise ValueError(
            f"{name}: expected {shared} or {(num_components, *each)} "
            f"for {num_components} components, got shape {value.shape}"
        )
    xp = namespace(value)
    rest = xp.broadcast_to(value[-1], (size - num_components, *each))
    return xp.concatenate([value, rest])


def weights_prior(
    conc: Any, weights: Any, num_components: int, size: int, dtype: Any, extra: bool
) -> Any:
    """The prior on the weights, from `conc` or as given; switched off beyond num_components."""
    if (conc is None) == (weights is None):
        raise ValueError("conc: give either it or `weights`, a prior on the weights")
    if weights is not None:
        if extra and size > num_components:
            raise ValueError("k_max: goes with noise only where `conc` is the prior on the weights")
        return _given_weights(weights, num_components + extra, size + extra, dtype)
    value = as_floats("conc", conc)
    value = per_component("conc", value, (), num_components, size).astype(dtype)
    check_bound("conc", value, above=0.0)
    on = np.arange(size) < num_components
    value = namespace(value).where(on, value, 0.0).astype(dtype)
    if extra:
        value = namespace(value).concatenate([value, value[:1]])
    return Dirichlet(to_device(value))


def _given_weights(weights: Any, num_components: int, size: int, dtype: Any) -> Any:
    if not isinstance(weights, Weights):
        raise TypeError(f"weights: expected a prior such as Dirichlet, got {weights!r:.80}")
    if weights.size != num_components:
        raise ValueError(
            f"weights: a prior for {weights.size} components, expected {num_components}"
        )
    return weights.pad(size).astype(dtype)
