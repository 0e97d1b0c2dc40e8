"""Fixed points of many rows at once, each by as many steps as it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

_SIZES = 4  # of the rows that are left: all, half, a quarter, an eighth
_LEAST_ROWS = 32  # fewer are not worth a loop of their own
_ROUNDING = 4.0  # eps of a value, below which it does not settle


class _Moving(NamedTuple):
    """Rows after `number` steps: the last value, where the next step begins, and how it got there.

    `count` is the number of steps since momentum began.
    """

    number: Int[Array, ""]
    value: Float[Array, "n k"]
    begin: Float[Array, "n k"]
    count: Float[Array, "n"]
    done: Bool[Array, "n"]


def settle(
    step: Callable[[Float[Array, "m k"], Any], Float[Array, "m k"]],
    start: Float[Array, "n k"],
    rows: Any,
    done: Bool[Array, "n"],
    floor: Float[Array, "k"],
    tol: ArrayLike,
    most: int,
) -> Float[Array, "n k"]:
    """The value of each row after at most `most` steps of value <- step(value, rows).

    Steps are those of coordinate ascent on q in natural coordinates, which are at least `floor`:
    natural gradients, with Nesterov's momentum from each row to its next value, as `Accelerated`
    has it. It restarts where it points against the gradient. No objective guards it.

    A row is left as it is once a step has moved it by at most `tol`, or by rounding, in the mean
    over k, or if it is `done` before; so no row depends on the others. `rows.take(index)` are some
    of the rows. When half of the rows have settled, the others go on by themselves, and so on: the
    slowest row of many takes several times as many steps as most.
    """
    sizes = [start.shape[0]]
    while len(sizes) < _SIZES and sizes[-1] >= 2 * _LEAST_ROWS:
        sizes.append(-(-sizes[-1] // 2))
    zero = jnp.asarray(0, jnp.int32)
    first = _Moving(zero, start, start, jnp.zeros_like(start[:, 0]), done)
    return _settle(step, first, rows, floor, tol, most, sizes[1:])


def _settle(
    step: Callable[[Array, Any], Array],
    now: _Moving,
    rows: Any,
    floor: Float[Array, "k"],
    tol: ArrayLike,
    most: int,
    sizes: list[int],
) -> Float[Array, "n k"]:
    """As `settle`; `sizes` are those of the parts that may go on alone."""
    most_left = sizes[0] if sizes else 0
    info = jnp.finfo(now.value.dtype)

    def goes_on(now: _Moving) -> Array:
        return (now.number < most) & (jnp.sum(~now.done, dtype=jnp.int32) > most_left)

    def once(now: _Moving) -> _Moving:
        new = step(now.begin, rows)
        moved, change = new - now.begin, new - now.value
        # 1 / value is about the metric of KL
        along = jnp.sum(moved * change / jnp.maximum(now.begin, info.tiny), -1)
        count = jnp.where(along < 0, 0.0, now.count + 1.0)
        begin = jnp.maximum(new + (count / (count + 1.0))[:, None] * change, floor)
        least = jnp.maximum(tol, _ROUNDING * info.eps * jnp.mean(jnp.abs(now.value), -1))
        settled = jnp.mean(jnp.abs(moved), -1) <= least
        old = now.done[:, None]
        return _Moving(
            now.number + 1,
            jnp.where(old, now.value, new),
            jnp.where(old, now.begin, begin),
            count,
            now.done | settled,
        )

    now = lax.while_loop(goes_on, once, now)
    if not sizes:
        return now.value
    left = jnp.argsort(now.done, stable=True)[: sizes[0]]  # those that have not settled come first
    part = _Moving(now.number, *(a[left] for a in now[1:]))
    new = _settle(step, part, rows.take(left), floor, tol, most, sizes[1:])
    return now.value.at[left].set(new, unique_indices=True)


def best_start(
    solve: Callable[[Any, Bool[Array, "n"]], Float[Array, "n k"]],
    score: Callable[[Any], Float[Array, "n"]],
    starts: tuple[Float[Array, "n k"], ...],
    least: Float[Array, "n k"] | None = None,
) -> tuple[Float[Array, "n k"], Float[Array, "n"]]:
    """For each row what `solve(start, done)` makes of its first start that will do, and its score.

    That is the first whose score is not below the one of `least`, or any; if there is none, it is
    `least` itself. Rows are `done` that need no further start.
    """
    value = starts[0] if least is None else least
    lowest = jnp.full_like(value[:, 0], -jnp.inf) if least is None else score(value)

    def attempt(now: tuple[Array, Array, Array], start: Array) -> tuple[Any, None]:
        value, best, done = now
        new = solve(start, done)
        found = score(new)
        better = ~done & (found >= lowest)
        value = jnp.where(better[:, None], new, value)
        return (value, jnp.where(better, found, best), done | better), None

    # one after another, so that the program has one copy of the loop
    first = value, lowest, jnp.zeros_like(lowest, bool)
    return lax.scan(attempt, first, jnp.stack(starts))[0][:2]
