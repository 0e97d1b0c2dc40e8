"""Lanes: one of a stack, and what all of a vmap decide together, as if they were one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Int


@custom_vmap
def anywhere(condition: Bool[Array, ""]) -> Bool[Array, ""]:
    """The condition; under vmap, whether it holds in any lane, so that all do what one must."""
    return condition


@anywhere.def_vmap
def _anywhere(size: int, batched: Any, condition: Array) -> tuple[Array, bool]:
    del size, batched
    return anywhere(jnp.any(condition)), False


@custom_vmap
def largest(value: Int[Array, ""]) -> Int[Array, ""]:
    """The value; under vmap the largest of all lanes, so that their loops end together."""
    return value


@largest.def_vmap
def _largest(size: int, batched: Any, value: Array) -> tuple[Array, bool]:
    del size, batched
    return largest(jnp.max(value)), False


def take(tree: Any, i: Int[Array, ""]) -> Any:
    """Member i of a pytree of arrays with a common leading axis."""
    return jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, i, 0, keepdims=False), tree)
