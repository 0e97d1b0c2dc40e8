"""Several starts of one or of many problems, as one program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from .._pytree import replace
from ..batch import Batch
from .halving import Halving, halve
from .loop import begin, exact, finish
from .progress import Reporter
from .refill import drive, map_first
from .result import Result, Status, Stop

# lanes that step together, and the floats that their rows may take; on a CPU, 8 to 24 lanes were
# 1.7 times as fast as none for 1000 mixtures of 200 rows, on an accelerator nothing was measured
_CPU_LANES, _CPU_FLOATS = 16, 2**20
_DEVICE_LANES, _DEVICE_FLOATS = 4096, 2**28
_FEW_LANES = 4  # fewer are slower than none
_FEW_RUNS = 64  # on a CPU fewer gain less by lanes than these take to compile


def automatic(count: int, floats: int, slots: bool = False, alone: bool = False) -> str | int:
    """A layout for `count` runs whose steps hold `floats` numbers each: a number of lanes,

    unless `slots` asks for that, also "map" or "vmap". `alone` says that lanes would lose a
    shortcut that a run by itself takes.
    """
    cpu = jax.default_backend() == "cpu"
    most, room = (_CPU_LANES, _CPU_FLOATS) if cpu else (_DEVICE_LANES, _DEVICE_FLOATS)
    lanes = max(1, min(most, room // max(1, floats)))
    if slots:
        return lanes
    if lanes < _FEW_LANES or (cpu and (alone or count < _FEW_RUNS)):
        return "map"
    return "vmap" if not cpu and count <= lanes else lanes


def several(
    method: Any,
    stop: Stop,
    halving: Halving | None,
    load: Callable[[Array], Any],
    problem: Callable[[Any, Array], tuple[Any, Batch, Any, Callable[[], Any]]],
    num_problems: int,
    num_restarts: int,
    live: Int[Array, ""],
    layout: str | int,
    reporter: Reporter | None = None,
) -> Result:
    """Every start of every problem, leading axes (m, r).

    `load(i)` fetches what problem i has for itself; `problem(own, restart)` makes of it the
    model, the batch, the key of the steps and a function that makes the first q. Only the first
    `live` problems are run. Traceable.
    """
    count = num_problems * num_restarts

    def own(number: Array) -> Any:
        # that it is the first and only one is known before anything runs
        restart = number % num_restarts if num_restarts > 1 else 0
        return load(number // num_restarts), restart

    def first(number: Array) -> Any:
        model, batch, _, start = problem(*own(number))
        return begin(method.init(model, start(), batch), stop)

    def drive_some(numbers: Any, runs: Any, limit: Array) -> Any:
        here = load_by(numbers)
        total = live * (runs.status.shape[0] // num_problems)
        return drive(
            method, stop, here, lambda own: problem(*own)[:3], runs, total, limit, layout, reporter
        )

    def load_by(numbers: Any) -> Callable[[Array], Any]:
        return own if numbers is None else lambda i: own(numbers[i])

    numbers = jnp.arange(count, dtype=jnp.int32)
    if layout == "vmap":
        runs = jax.vmap(first)(numbers)
    elif jax.default_backend() == "cpu":
        runs = map_first(first, numbers, live * num_restarts)
    else:
        runs = lax.map(first, numbers, batch_size=_lanes(layout))
    # what is not live has ended before it began
    ended = jnp.where(numbers < live * num_restarts, runs.status, int(Status.MAX_ITER))
    runs = replace(runs, status=ended)
    if halving is None or num_restarts == 1:
        runs = drive_some(None, runs, jnp.asarray(jnp.iinfo(jnp.int32).max, jnp.int32))
    else:
        runs = halve(halving, runs, num_restarts, drive_some)
    if getattr(method, "estimates", False):

        def with_bound(at: Any) -> Any:
            model, batch, _, _ = problem(*own(at[0]))
            return exact(method, model, batch, at[1])

        runs = map_first(with_bound, (numbers, runs), live * num_restarts)
    shape = (num_problems, num_restarts)
    return jax.tree.map(lambda a: a.reshape(shape + a.shape[1:]), finish(runs, method.point))


def _lanes(layout: str | int) -> int | None:
    return layout if isinstance(layout, int) else None
