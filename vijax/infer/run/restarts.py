"""Several starts of one or of many problems, as one program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from ..._pytree import replace
from ...data.shards import on_cpu
from ..result import Result
from ..status import Status
from .halving import halve
from .lanes import Problem, Queue, Settings, drive, map_lanes, map_live
from .loop import Run, begin, exact, finish
from .passes import constant_of

# lanes that step together, and the floats that their rows may take; on a CPU, 8 to 24 lanes were
# 1.7 times as fast as none for 1000 mixtures of 200 rows, on an accelerator nothing was measured
_CPU_LANES, _CPU_FLOATS = 16, 2**20
_CPU_SEQUENCES = 128  # of all lanes: a step of few is mostly the overhead of a loop
_DEVICE_LANES, _DEVICE_FLOATS = 4096, 2**28
_FEW_LANES = 4  # fewer lanes are slower than none
_FEW_RUNS = 64  # on a CPU, lanes for fewer runs save less time than they take to compile


def choose_layout(
    count: int,
    floats: int,
    platform: str | None,
    slots: bool = False,
    alone: bool = False,
    sequences: int | None = None,
) -> str | int:
    """Choose "map", "vmap" or a number of lanes for `count` runs of `floats` floats each.

    `sequences` is how many a run has, whose steps follow one another; None of rows.

    `slots` asks for lanes in any case. `alone` says that a run by itself has a faster kernel, which
    lanes would lose.
    """
    cpu = on_cpu(platform)
    most, room = (_CPU_LANES, _CPU_FLOATS) if cpu else (_DEVICE_LANES, _DEVICE_FLOATS)
    if cpu and sequences is not None:
        most = max(most, _CPU_SEQUENCES // max(1, sequences))
    lanes = max(1, min(most, room // max(1, floats)))
    if slots:
        return lanes
    if lanes < _FEW_LANES or (cpu and (alone or count < _FEW_RUNS)):
        return "map"
    return "vmap" if not cpu and count <= lanes else lanes


class Problems(NamedTuple):
    """Fits of one program: `num_restarts` starts of each of `num_problems` problems.

    `load(i)` fetches the per-problem arguments of problem i, and `problem(args, restart)` makes a
    Problem of them. Problems beyond the first `live` are padding. All are on `platform`.
    """

    load: Callable[[Array], Any]
    problem: Callable[[Any, Int[Array, ""] | int], Problem]
    num_problems: int
    num_restarts: int
    live: Int[Array, ""]
    platform: str | None

    def fetch(self, number: Array) -> tuple[Any, Int[Array, ""] | int]:
        """The arguments of run `number`, and which start of its problem it is."""
        # a single start has its number at trace time, since `init` may look at it
        restart = number % self.num_restarts if self.num_restarts > 1 else 0
        return self.load(number // self.num_restarts), restart

    def make(self, args: tuple[Any, Int[Array, ""] | int]) -> Problem:
        """The Problem of what `fetch` gives."""
        return self.problem(*args)


def run_restarts(settings: Settings, problems: Problems, layout: str | int) -> Result:
    """Run every start of every problem; the Result has leading axes (m, r). Traceable."""
    method, stop, halving, _ = settings
    m, r = problems.num_problems, problems.num_restarts
    numbers, live = jnp.arange(m * r, dtype=jnp.int32), problems.live * r

    def first_run(number: Array) -> Run:
        model, batch, _, first_q = problems.make(problems.fetch(number))
        return begin(method.init(model, first_q(), batch), stop)

    def drive_all(runs: Run, limit: Array) -> Run:
        queue = Queue(problems.fetch, problems.make, live)
        return drive(settings, queue, runs, limit, layout)

    def drive_some(chosen: Array, runs: Run, limit: Array) -> Run:
        total = problems.live * (runs.status.shape[0] // m)
        queue = Queue(lambda i: problems.fetch(chosen[i]), problems.make, total)
        return drive(settings, queue, runs, limit, layout)

    def with_exact_objective(numbered: tuple[Array, Run]) -> Run:
        number, run = numbered
        model, batch, _, _ = problems.make(problems.fetch(number))
        return exact(method, model, batch, run)

    if layout == "vmap":
        runs = jax.vmap(first_run)(numbers)
    elif isinstance(layout, int) and layout > _CPU_LANES:
        runs = map_lanes(first_run, numbers, live, layout)
    elif on_cpu(problems.platform):
        runs = map_live(first_run, numbers, live)
    else:
        runs = lax.map(first_run, numbers)
    # padding runs start as finished
    runs = replace(runs, status=jnp.where(numbers < live, runs.status, int(Status.MAX_ITER)))
    if halving is None or r == 1:
        runs = drive_all(runs, jnp.asarray(jnp.iinfo(jnp.int32).max, jnp.int32))
    else:
        runs = halve(halving, runs, r, drive_some)
    estimated = constant_of(lambda i: problems.make(problems.fetch(i)).model.estimates, numbers[0])
    if method.estimates or estimated:
        runs = map_live(with_exact_objective, (numbers, runs), live)
    results = finish(runs, method.point)
    return jax.tree.map(lambda a: a.reshape((m, r) + a.shape[1:]), results)
