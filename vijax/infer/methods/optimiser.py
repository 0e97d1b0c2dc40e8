"""Optimisers of optax as stochastic methods use them: to climb, by gradients of an objective."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from ...data.host import described


@runtime_checkable
class Optimiser(Protocol):
    """What is asked of an optimiser: the form of an optax GradientTransformation."""

    def init(self, params: Any) -> Any:
        """The state before the first update."""
        ...

    def update(self, updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        """What to add to the parameters, and the new state, from a gradient to descend."""
        ...


def optimiser_of(given: Any) -> Optimiser:
    """The optimiser; Adam for a number or a schedule. TypeError or ImportError name it."""
    if isinstance(given, Optimiser):
        return given
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if not number and not callable(given):
        raise TypeError(
            "optimiser: expected an optax GradientTransformation, a number or a schedule, got "
            f"{described(given)}"
        )
    try:
        import optax
    except ImportError as error:
        raise ImportError("optimiser: a step size needs optax; install vijax[optax]") from error
    rate: Any = given
    return optax.adam(rate)


def first_state(optimiser: Optimiser, params: Any) -> Any:
    """The state before the first update, in arrays of strong types, as those of later states."""
    state = optimiser.init(params)
    return jax.tree.map(lambda a: jnp.asarray(a).astype(jnp.asarray(a).dtype), state)


def climb(optimiser: Optimiser, params: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
    """Parameters and state after one update up the gradient, in the dtypes that they had."""
    down = jax.tree.map(jnp.negative, gradient)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integers with floats
        move, later = optimiser.update(down, state, params)
    later = jax.tree.map(lambda a, b: jnp.asarray(a).astype(b.dtype), later, state)
    return jax.tree.map(lambda a, b: a + b.astype(a.dtype), params, move), later
