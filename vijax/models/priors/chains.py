"""Priors of Markov chains: Dirichlet rows of given concentration."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ...data.host import as_floats, check_bound, check_integer, namespace, to_device
from ...data.types import AnyArray, ArrayLike
from ...families.dirichlet import Dirichlet
from ...families.labels.chain import Chain
from ...families.labels.chain_mixture import ChainMixture
from ...families.labels.left_right import LeftRight
from ...families.labels.weak_limit import WeakLimit
from .arguments import check_size

CHAINS = ("full", "left_right", "hdp")


def named(
    chain: str,
    num_states: int,
    conc: ArrayLike,
    stay: ArrayLike,
    initial: ArrayLike,
    k_max: int | None,
    skips: int = 0,
    name: str = "conc",
) -> Chain:
    """Build the chain that goes by this name; other arguments are those of `symmetric`.

    Of "left_right" what is impossible has concentration 0: to begin elsewhere than in state 0, to
    fall, and to pass over more than `skips` states in one step. Of "hdp" the pseudo-counts but for
    those of staying are learned.
    """
    if chain not in CHAINS:
        raise ValueError(f"chain: expected one of {', '.join(CHAINS)}, got {chain!r}")
    check_integer("skips", skips)
    check_bound("skips", skips, least=0.0)
    whole = symmetric(num_states, conc, stay, initial, k_max, name)
    if chain != "left_right":
        if skips:
            raise ValueError('skips: of a left-to-right chain; take chain="left_right"')
        return whole if chain == "full" else _weak_limit(whole, conc, num_states, name)
    number = np.arange(whole.size)
    ahead = number - number[:, None]
    dtype = whole.initial.conc.dtype
    first = whole.initial.conc * (number == 0).astype(dtype)
    rows = whole.transitions.conc * ((ahead >= 0) & (ahead <= 1 + skips)).astype(dtype)
    check_bound("initial", first.sum(), above=0.0, note=" of state 0")
    check_bound(name, rows[:num_states].sum(-1), above=0.0, note=" ahead")
    return LeftRight(Dirichlet(first), Dirichlet(rows))


def _weak_limit(whole: Chain, conc: ArrayLike, num_states: int, name: str) -> WeakLimit:
    """The chain with its pseudo-counts, all but those of staying, for a start of shared ones."""
    shared = as_floats(name, conc)
    if shared.ndim > 1:
        raise ValueError(f"{name}: one for each state, as transitions share them, got a matrix")
    shared = _filled(name, shared, (num_states,))
    check_bound(name, shared, above=0.0)
    shared = namespace(shared).pad(shared, (0, whole.size - num_states))
    return WeakLimit(whole.initial, whole.transitions, to_device(shared))


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


def mixture(
    num_clusters: int,
    num_states: int,
    conc: ArrayLike,
    stay: ArrayLike,
    initial: ArrayLike,
    size: int,
) -> ChainMixture:
    """Build `num_clusters` chains, each as by `symmetric`, and room for `size` of them."""
    one = symmetric(num_states, conc, stay, initial, None)
    first, rows = one.initial.conc, one.transitions.conc
    on = (np.arange(size) < num_clusters).astype(first.dtype)
    xp = namespace(first)
    both = Dirichlet(xp.kron(on, first)), Dirichlet(xp.kron(np.diag(on), rows))
    return ChainMixture(*both, num_states=num_states)


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
