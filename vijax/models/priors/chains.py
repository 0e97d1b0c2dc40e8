"""Priors of Markov chains: Dirichlet rows of given concentration."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ...data.host import as_floats, check_bound, namespace, to_device
from ...data.types import AnyArray, ArrayLike
from ...families.dirichlet import Dirichlet
from ...families.labels.chain import Chain
from .arguments import check_size


def symmetric(
    num_states: int,
    conc: ArrayLike,
    stay: ArrayLike,
    initial: ArrayLike,
    k_max: int | None,
    name: str = "conc",
) -> Chain:
    """Build a chain with `conc` for all transitions, `stay` more for staying, and `initial`.

    Each is a scalar or has one number for each state, and `conc` may be a matrix (k, k). States
    beyond `num_states` are switched off. Raises ValueError naming the argument, `conc` by `name`.
    """
    size = check_size(num_states, k_max)
    shapes = (num_states, num_states)
    rows = _filled(name, conc, shapes)
    rows = rows + _filled("stay", stay, shapes[:1]) * np.eye(num_states)
    first = _filled("initial", initial, shapes[:1])
    for own, value in {"initial": first[None], name: rows}.items():
        check_bound(own, value.sum(-1), above=0.0)
    xp = namespace(rows)
    more = size - num_states
    rows, first = xp.pad(rows, [(0, more)] * 2), namespace(first).pad(first, (0, more))
    return Chain(Dirichlet(to_device(first)), Dirichlet(to_device(rows)))


def flat(size: int) -> Chain:
    """Build a chain without a prior, every concentration zero, for maximum likelihood."""
    zero = np.zeros((size, size), jnp.result_type(float))
    return Chain(Dirichlet(to_device(zero[0])), Dirichlet(to_device(zero)))


def _filled(name: str, value: ArrayLike, shape: tuple[int, ...]) -> AnyArray:
    """The values in this shape, >= 0; (k,) stands for equal rows of a matrix."""
    array = as_floats(name, value)
    check_bound(name, array, least=0.0)
    if array.shape not in [shape[i:] for i in range(len(shape) + 1)]:
        raise ValueError(f"{name}: expected a scalar or shape {shape}, got {array.shape}")
    return namespace(array).broadcast_to(array, shape)
