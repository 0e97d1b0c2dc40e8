"""Loops over chunks of a leading axis; what a chunk is, and what becomes of it, others say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int


def fold_chunks(step: Callable[[Any, Int[Array, ""]], Any], zero: Any, n: int, chunk: int) -> Any:
    """`step(carry, start)` for the start of every chunk, 0, chunk, ... < n, from `zero` on."""

    def body(carry: Any, start: Array) -> tuple[Any, None]:
        return step(carry, start), None

    return lax.scan(body, zero, jnp.arange(0, n, chunk))[0]


def zeros_like_result(fn: Callable[[], Any]) -> Any:
    """Zeros with the structure and shapes of `fn()`, which is traced but not run."""
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(fn))
