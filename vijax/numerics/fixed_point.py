"""Fixed points of many rows at once, each by as many steps as it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

_SIZES = 4  # of the rows that are left: all, half, a quarter, an eighth
_LEAST_ROWS = 32  # fewer are not worth a loop of their own
_ROUNDING = 4.0  # eps of a value, below which it does not settle


def settle(
    step: Callable[[Float[Array, "m k"], Any], Float[Array, "m k"]],
    start: Float[Array, "n k"],
    rows: Any,
    done: Bool[Array, "n"],
    tol: ArrayLike,
    most: int,
) -> Float[Array, "n k"]:
    """The value of each row after at most `most` steps of value <- step(value, rows).

    A row is left as it is once a step has moved it by at most `tol`, or by rounding, in the mean
    over k, or if it is `done` before; so no row depends on the others. `rows.take(index)` are some
    of the rows. When half of the rows have settled, the others go on by themselves, and so
    on: the slowest row of many takes several times as many steps as most.
    """
    sizes = [start.shape[0]]
    while len(sizes) < _SIZES and sizes[-1] >= 2 * _LEAST_ROWS:
        sizes.append(-(-sizes[-1] // 2))
    return _settle(step, start, rows, done, tol, most, jnp.asarray(0, jnp.int32), sizes[1:])


def _settle(
    step: Callable[[Array, Any], Array],
    value: Float[Array, "n k"],
    rows: Any,
    done: Bool[Array, "n"],
    tol: ArrayLike,
    most: int,
    number: Int[Array, ""],
    sizes: list[int],
) -> Float[Array, "n k"]:
    """As `settle`, after `number` steps; `sizes` are those of the parts that may go on alone."""
    most_left = sizes[0] if sizes else 0
    rounding = _ROUNDING * jnp.finfo(value.dtype).eps

    def goes_on(now: tuple[Array, Array, Array]) -> Array:
        number, _, done = now
        return (number < most) & (jnp.sum(~done, dtype=jnp.int32) > most_left)

    def once(now: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        number, value, done = now
        new = step(value, rows)
        moved = jnp.mean(jnp.abs(new - value), -1)
        least = jnp.maximum(tol, rounding * jnp.mean(jnp.abs(value), -1))
        return number + 1, jnp.where(done[:, None], value, new), done | (moved <= least)

    number, value, done = lax.while_loop(goes_on, once, (number, value, done))
    if not sizes:
        return value
    left = jnp.argsort(done, stable=True)[: sizes[0]]  # those that have not settled come first
    rest = rows.take(left)
    new = _settle(step, value[left], rest, done[left], tol, most, number, sizes[1:])
    return value.at[left].set(new, unique_indices=True)


def best_start(
    solve: Callable[[Any, Bool[Array, "n"]], tuple[Float[Array, "n k"], Float[Array, "n"]]],
    starts: tuple[Float[Array, "n k"], ...],
) -> tuple[Float[Array, "n k"], Float[Array, "n"]]:
    """For each row the best of what `solve` makes of its starts, and the score of that.

    `solve(start, done)` gives values and scores; rows are `done` whose start has come before.
    """
    first = starts[0]
    none = jnp.zeros(first.shape[0], bool)
    if len(starts) == 1:
        return solve(first, none)
    done = jnp.stack([none, *(jnp.all(start == first, -1) for start in starts[1:])])
    # one after another, so that the program has one copy of the loop
    values, scores = lax.map(lambda own: solve(*own), (jnp.stack(starts), done))
    best = jnp.argmax(scores, 0)[None]
    value = jnp.take_along_axis(values, best[..., None], 0)[0]
    return value, jnp.take_along_axis(scores, best, 0)[0]
