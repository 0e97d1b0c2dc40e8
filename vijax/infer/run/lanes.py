"""Many runs in one program: side by side, one after another, or in lanes that are refilled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Key

from ..._pytree import replace
from ...data.absent import absent
from ...data.batch import Batch
from ...model import Model, Q
from ...numerics.chunked import zeros_like_result
from ...numerics.lanes import take
from ..method import Method
from ..result import Stop
from .halving import Halving
from .loop import Run, advance, interrupted, unless, update_status
from .progress import Reporter, report

_STRIDE = 4  # steps between two checks of which lanes have ended


class Problem(NamedTuple):
    """One fit: a model, its rows, the key of its steps, and a function that makes the first q."""

    model: Model
    batch: Batch
    key: Key[Array, ""] | None
    start: Callable[[], Q]


class Settings(NamedTuple):
    """How runs are driven: the algorithm, and when they stop, end early and report."""

    method: Method[Any]
    stop: Stop
    halving: Halving | None
    reporter: Reporter | None


class Queue(NamedTuple):
    """Runs to be driven, of which only the first `live` are not padding.

    `fetch(i)` loads the arguments of run i, and `problem` makes a Problem of them.
    """

    fetch: Callable[[Array], Any]
    problem: Callable[[Any], Problem]
    live: Int[Array, ""]


class Lanes(NamedTuple):
    """The runs that step together, on a leading axis.

    `number` is the number of the run in a lane, `since` the time when it was loaded, and `args` its
    arguments; a lane that is not `busy` has no run.
    """

    number: Int[Array, "m"]
    busy: Bool[Array, "m"]
    since: Int[Array, "m"]
    args: Any
    run: Run


def drive(
    settings: Settings, queue: Queue, runs: Run, limit: Int[Array, ""], layout: str | int
) -> Run:
    """Take stacked `runs` to their end, or to `limit` iterations; traceable.

    Runs beyond the first `queue.live` must have ended already. `layout` is "map", "vmap" or a
    number of lanes; in all of them each run is the one that `iterate` gives.
    """
    method, stop, _, reporter = settings
    count = runs.status.shape[0]

    def drive_one(i: Array, run: Run) -> Run:
        model, batch, key, _ = queue.problem(queue.fetch(i))

        def body(run: Run) -> Run:
            stopped = report(reporter, run.state.elbo, run.running, run.n_iter)
            return unless(stopped, lambda run: advance(method, model, batch, run, stop, key), run)

        run = lax.while_loop(lambda run: run.running & (run.n_iter < limit), body, run)
        report(reporter, run.state.elbo, run.running, run.n_iter, last=True)
        return run

    if layout == "vmap":
        return jax.vmap(drive_one)(jnp.arange(count, dtype=jnp.int32), runs)
    if layout == "map":
        return _for_live(drive_one, runs, queue.live)
    return _in_lanes(settings, queue, runs, limit, min(int(layout), count))


def _in_lanes(
    settings: Settings, queue: Queue, runs: Run, limit: Int[Array, ""], num_lanes: int
) -> Run:
    """Step `num_lanes` runs together, and refill a lane from the queue when its run has ended.

    The objectives of all lanes go to row `clock % trace` of one table, one write per step; a trace
    for each lane would cost a scatter.
    """
    method, stop, _, reporter = settings
    length, count = runs.elbo_trace.shape[1], runs.status.shape[0]

    def step(args: Any, run: Run) -> tuple[Run, Array]:
        model, batch, key, _ = queue.problem(args)
        key = None if key is None else jax.random.fold_in(key, run.n_iter)
        new = method.step(model, run.state, batch, key)
        monotone = method.monotone and model.ascends(kept=True)
        return update_status(run, new, batch.total_weight, stop, monotone), new.elbo

    def running(busy: Array, run: Run) -> Array:
        return busy & run.running & (run.n_iter < limit)

    def ended(lanes: Lanes) -> Array:
        return lanes.busy & ~running(lanes.busy, lanes.run)

    def step_lanes(_: Any, carry: tuple[Lanes, Array, Array]) -> tuple[Lanes, Array, Array]:
        lanes, clock, table = carry
        on = running(lanes.busy, lanes.run)
        new, elbo = jax.vmap(step)(lanes.args, lanes.run)
        if length:
            record = on & (clock - lanes.since < length)
            row = clock % length
            table = table.at[row].set(jnp.where(record, elbo, table[row]))
        return lanes._replace(run=_where(on, new, lanes.run)), clock + 1, table

    def report_lane(busy: Array, run: Run, clock: Array) -> Array | None:
        elbo = jnp.where(busy, run.state.elbo, jnp.nan)
        return report(reporter, elbo, running(busy, run), run.n_iter, step=clock)

    def refill(carry: Any) -> Any:
        """Write out the run of one lane that has ended, and load the next run into the lane."""
        lanes, clock, table, following, runs = carry
        lane = jnp.argmax(ended(lanes)).astype(jnp.int32)
        number, since = lanes.number[lane], lanes.since[lane]
        run = take(lanes.run, lane)
        before = runs.n_iter[number]
        trace = take(runs.elbo_trace, number)
        if length:
            time = jnp.arange(length, dtype=jnp.int32)
            column = lax.dynamic_slice_in_dim(table, lane, 1, 1)[:, 0]
            turns = jnp.concatenate([column, column])
            new = lax.dynamic_slice_in_dim(turns, (since - before) % length, length)
            trace = jnp.where((time >= before) & (time < run.n_iter), new, trace)
        runs = _put(runs, replace(run, elbo_trace=trace), number)
        coming = jnp.minimum(following, count - 1)
        lanes = Lanes(
            lanes.number.at[lane].set(coming),
            lanes.busy.at[lane].set(following < queue.live),
            lanes.since.at[lane].set(clock),
            _put(lanes.args, queue.fetch(coming), lane),
            _put(lanes.run, _without_trace(take(runs, coming)), lane),
        )
        return lanes, clock, table, following + 1, runs

    def body(carry: Any) -> Any:
        lanes, clock, table, following, runs = carry
        stopped = jax.vmap(report_lane, (0, 0, None), None)(lanes.busy, lanes.run, clock)
        steps = _STRIDE
        if stopped is not None:
            steps = jnp.where(stopped, 0, _STRIDE)
            runs_now = _where(stopped & lanes.busy, interrupted(lanes.run), lanes.run)
            lanes = lanes._replace(run=runs_now)
        # a loop, so that the program has one copy of the step
        lanes, clock, table = lax.fori_loop(0, steps, step_lanes, (lanes, clock, table))
        carry = lanes, clock, table, following, runs
        return lax.while_loop(lambda carry: jnp.any(ended(carry[0])), refill, carry)

    zero = jnp.asarray(0, jnp.int32)
    index = jnp.arange(num_lanes, dtype=jnp.int32)
    first = _without_trace(jax.tree.map(lambda a: a[:num_lanes], runs))
    args = jax.vmap(queue.fetch)(index)
    lanes = Lanes(index, index < queue.live, jnp.zeros_like(index), args, first)
    table = absent((length, num_lanes), runs.elbo_trace.dtype)
    start = (lanes, zero, table, jnp.asarray(num_lanes, jnp.int32), runs)
    return lax.while_loop(lambda carry: jnp.any(carry[0].busy), body, start)[4]


def map_live(fn: Callable[[Any], Any], xs: Any, live: Int[Array, ""]) -> Any:
    """`lax.map` over the first `live` members of xs; for the others it gives zeros."""
    zeros = zeros_like_result(lambda: lax.map(fn, xs))
    return _for_live(lambda i, _: fn(take(xs, i)), zeros, live)


def map_lanes(fn: Callable[[Any], Any], xs: Any, live: Int[Array, ""], num_lanes: int) -> Any:
    """As `map_live`, so many members side by side."""
    zeros = zeros_like_result(lambda: lax.map(fn, xs))
    count = jax.tree.leaves(xs)[0].shape[0]
    size = min(num_lanes, count)

    def some(i: Array | int, found: Any) -> Any:
        first = jnp.minimum(i * size, count - size)
        part = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, first, size), xs)
        return jax.tree.map(
            lambda a, b: lax.dynamic_update_slice_in_dim(a, b, first, 0), found, jax.vmap(fn)(part)
        )

    return lax.fori_loop(0, (live + size - 1) // size, some, zeros)


def _for_live(fn: Callable[[Array, Any], Any], xs: Any, live: Int[Array, ""]) -> Any:
    """xs with `fn(i, x)` in place of the first `live` members."""
    return lax.fori_loop(0, live, lambda i, xs: _put(xs, fn(i, take(xs, i)), i), xs)


def _put(tree: Any, member: Any, i: Array) -> Any:
    return jax.tree.map(lambda a, b: lax.dynamic_update_index_in_dim(a, b, i, 0), tree, member)


def _without_trace(run: Run) -> Run:
    return replace(run, elbo_trace=run.elbo_trace[..., :0])


def _where(on: Array, new: Any, old: Any) -> Any:
    def select(a: Array, b: Array) -> Array:
        return jnp.where(on.reshape(on.shape + (1,) * (a.ndim - on.ndim)), a, b)

    return jax.tree.map(select, new, old)
