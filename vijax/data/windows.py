"""Steps of sequences in windows of time, of which those where nothing exists are passed over.

Sequences of similar length that are far shorter than the longest of all cost as little as they
have steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..numerics.chunked import fold_chunks
from ..numerics.lanes import anywhere
from . import sequences
from .batch import Batch
from .chunked import add, empty_sum, total


def map_windows(
    fn: Callable[..., Array], batch: Batch, chunk: int, *args: Any
) -> Float[Array, "n t m"]:
    """`fn(steps, *args)` (.., m) of all steps of sequences, about `chunk` of them at a time.

    It is 0 in windows in which no step exists.
    """
    assert batch.steps is not None
    n, t = batch.steps.shape
    if n * t <= 2 * chunk:
        return fn(batch.flat(), *args).reshape(n, t, -1)
    size = _size(n, t, chunk)

    def of_window(start: Array) -> Array:
        steps = _window(batch, start, size).flat()
        return fn(steps, *args).reshape(n, size, -1)

    def step(out: Array, start: Array) -> Array:
        first = jnp.minimum(start, t - size)

        def put() -> Array:
            return lax.dynamic_update_slice_in_dim(out, of_window(first), first, 1)

        return lax.cond(_any(batch, first, size), put, lambda: out)

    like = jax.eval_shape(of_window, jnp.asarray(0))
    return fold_chunks(step, jnp.zeros((n, t, like.shape[-1]), like.dtype), t, size)


def accumulate_windows(
    fn: Callable[..., tuple[Any, Array]], rows: tuple[Batch, Array], chunk: int, *args: Any
) -> tuple[Any, Float[Array, "..."]]:
    """Sum `fn((steps, values), *args)` over all steps of sequences and their values (n, t, m).

    It is as `accumulate`, about `chunk` steps at a time.
    """
    batch, values = rows
    assert batch.steps is not None
    n, t = batch.steps.shape
    if n * t <= 2 * chunk:
        return fn((batch.flat(), values.reshape(n * t, -1)), *args)
    size = _size(n, t, chunk)

    def of_window(start: Array) -> tuple[Any, Array]:
        first = jnp.minimum(start, t - size)
        new = first + jnp.arange(size) >= start  # the last window begins before the end of another
        part = _window(batch, first, size, new)
        own = lax.dynamic_slice_in_dim(values, first, size, 1)
        return fn((part.flat(), own.reshape(n * size, -1)), *args)

    def step(carry: Any, start: Array) -> Any:
        first = jnp.minimum(start, t - size)
        return lax.cond(
            _any(batch, first, size), lambda: add(carry, of_window(start)), lambda: carry
        )

    zero = empty_sum(lambda: of_window(jnp.asarray(0)))
    return total(fold_chunks(step, zero, t, size))


def _size(n: int, t: int, chunk: int) -> int:
    """Steps of a window."""
    return min(t, max(1, chunk // n))


def _window(batch: Batch, first: Array, size: int, new: Array | bool = True) -> Batch:
    """These steps of all sequences, of which only the `new` ones count."""

    def cut(a: Array) -> Array:
        return lax.dynamic_slice_in_dim(a, first, size, 1)

    assert batch.steps is not None
    return sequences.map_steps(
        batch, cut, steps=jnp.where(new, cut(batch.steps), 0.0), as_given=None
    )


def _any(batch: Batch, first: Array, size: int) -> Array:
    """Whether a step counts there; under vmap, in any lane."""
    assert batch.steps is not None
    counts = lax.dynamic_slice_in_dim(batch.steps, first, size, 1) > 0
    return anywhere(jnp.any(counts & (batch.weight > 0)[:, None]))
