"""Many runs in one program: side by side, one after another, or in lanes that are filled anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, Key

from ..._pytree import replace
from ...data.batch import Batch
from ...model import Q
from ..method import Method
from ..result import Stop
from .loop import Run, advance, update_status
from .progress import Reporter, report

_STRIDE = 4  # steps between two looks at which lanes have ended


class Problem(NamedTuple):
    """One fit: a model, its rows, the key of its steps, and a function that makes the first q."""

    model: Any
    batch: Batch
    key: Key[Array, ""] | None
    start: Callable[[], Q]


class Queue(NamedTuple):
    """Runs to be driven: `fetch(i)` loads what run i has for itself, `problem` makes of it a fit.

    Only the first `live` runs are driven.
    """

    fetch: Callable[[Array], Any]
    problem: Callable[[Any], Problem]
    live: Int[Array, ""]


def drive(
    method: Method[Any],
    stop: Stop,
    queue: Queue,
    runs: Run,
    limit: Int[Array, ""],
    layout: str | int,
    reporter: Reporter | None = None,
) -> Run:
    """Take stacked `runs` to their end, or to `limit` iterations.

    Runs beyond the first `queue.live` must have ended already. `layout` is "map", "vmap", or a
    number of lanes. Each run is what `iterate` makes of it, whatever the layout. Traceable.
    """
    count = runs.status.shape[0]

    def alone(i: Array, run: Run) -> Run:
        model, batch, key, _ = queue.problem(queue.fetch(i))

        def body(run: Run) -> Run:
            report(reporter, run.state.elbo, run.running, run.n_iter)
            return advance(method, model, batch, run, stop, key)

        run = lax.while_loop(lambda run: run.running & (run.n_iter < limit), body, run)
        report(reporter, run.state.elbo, run.running, run.n_iter, last=True)
        return run

    if layout == "vmap":
        return jax.vmap(alone)(jnp.arange(count, dtype=jnp.int32), runs)
    if layout == "map":
        return _for_first(alone, runs, queue.live)
    return _in_lanes(method, stop, queue, runs, limit, min(int(layout), count), reporter)


def _in_lanes(
    method: Method[Any],
    stop: Stop,
    queue: Queue,
    runs: Run,
    limit: Int[Array, ""],
    lanes: int,
    reporter: Reporter | None,
) -> Run:
    """`lanes` runs step together; where one has ended, the next in the queue takes its place.

    The objectives of all lanes go to row `clock % trace` of one table: a row costs one write a
    step, where a trace for each lane would cost a scatter.
    """
    length = runs.elbo_trace.shape[1]
    each = jnp.arange(lanes, dtype=jnp.int32)

    def step(own: Any, run: Run) -> tuple[Run, Array]:
        model, batch, key, _ = queue.problem(own)
        key = None if key is None else jax.random.fold_in(key, run.n_iter)
        new = method.step(model, run.state, batch, key)
        return update_status(run, new, jnp.sum(batch.weight), stop, method.monotone), new.elbo

    def going(busy: Array, run: Run) -> Array:
        return busy & run.running & (run.n_iter < limit)

    def stride(carry: Any) -> Any:
        def once(_: Any, carry: Any) -> Any:
            (number, busy, since, own, run), clock, table = carry
            on = going(busy, run)
            new, elbo = jax.vmap(step)(own, run)
            if length:
                record = on & (clock - since < length)
                row = clock % length
                table = table.at[row].set(jnp.where(record, elbo, table[row]))
            return (number, busy, since, own, _where(on, new, run)), clock + 1, table

        # one copy of the step in the program
        return lax.fori_loop(0, _STRIDE, once, carry)

    def tell(lane: Any, clock: Array) -> None:
        _, busy, _, _, run = lane

        def one(busy: Array, run: Run) -> None:
            elbo = jnp.where(busy, run.state.elbo, jnp.nan)
            report(reporter, elbo, going(busy, run), run.n_iter, step=clock)

        jax.vmap(one)(busy, run)

    def change(carry: Any) -> Any:
        """Write out one lane that has ended, and load it again."""
        (number, busy, since, own, run), clock, table, following, runs = carry
        place = jnp.argmax(busy & ~going(busy, run)).astype(jnp.int32)
        done, first = number[place], since[place]
        ended = _take(run, place)
        before = runs.n_iter[done]
        if length:
            time = jnp.arange(length, dtype=jnp.int32)
            column = lax.dynamic_slice_in_dim(table, place, 1, 1)[:, 0]
            turns = jnp.concatenate([column, column])
            new = lax.dynamic_slice_in_dim(turns, (first - before) % length, length)
            fresh = (time >= before) & (time < ended.n_iter)
            ended = replace(ended, elbo_trace=jnp.where(fresh, new, _take(runs.elbo_trace, done)))
        else:
            ended = replace(ended, elbo_trace=_take(runs.elbo_trace, done))
        runs = _put(runs, ended, done)
        coming = jnp.minimum(following, count - 1)
        own = _put(own, queue.fetch(coming), place)
        run = _put(run, _bare(_take(runs, coming)), place)
        number, since = number.at[place].set(coming), since.at[place].set(clock)
        busy = busy.at[place].set(following < queue.live)
        return (number, busy, since, own, run), clock, table, following + 1, runs

    def body(carry: Any) -> Any:
        lane, clock, table, following, runs = carry
        tell(lane, clock)
        lane, clock, table = stride((lane, clock, table))
        return lax.while_loop(
            lambda carry: jnp.any(carry[0][1] & ~going(carry[0][1], carry[0][4])),
            change,
            (lane, clock, table, following, runs),
        )

    count = runs.status.shape[0]
    zero = jnp.asarray(0, jnp.int32)
    first = _bare(jax.tree.map(lambda a: a[:lanes], runs))
    lane = (each, each < queue.live, jnp.zeros_like(each), jax.vmap(queue.fetch)(each), first)
    table = jnp.full((length, lanes), jnp.nan, runs.elbo_trace.dtype)
    start = (lane, zero, table, jnp.asarray(lanes, jnp.int32), runs)
    return lax.while_loop(lambda carry: jnp.any(carry[0][1]), body, start)[4]


def map_first(fn: Callable[[Any], Any], xs: Any, live: Int[Array, ""]) -> Any:
    """`lax.map` over the first `live` members of xs; of the others, zeros."""
    out = jax.eval_shape(lambda xs: lax.map(fn, xs), xs)
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), out)
    return _for_first(lambda i, _: fn(_take(xs, i)), zeros, live)


def _for_first(fn: Callable[[Array, Any], Any], xs: Any, live: Int[Array, ""]) -> Any:
    """xs with `fn(i, x)` in place of the first `live` members."""
    return lax.fori_loop(0, live, lambda i, xs: _put(xs, fn(i, _take(xs, i)), i), xs)


def _bare(run: Run) -> Run:
    """Without its trace, which is kept elsewhere."""
    return replace(run, elbo_trace=run.elbo_trace[..., :0])


def _where(on: Array, new: Any, old: Any) -> Any:
    def one(a: Array, b: Array) -> Array:
        return jnp.where(on.reshape(on.shape + (1,) * (a.ndim - on.ndim)), a, b)

    return jax.tree.map(one, new, old)


def _take(tree: Any, i: Array) -> Any:
    return jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, i, 0, keepdims=False), tree)


def _put(tree: Any, one: Any, i: Array) -> Any:
    return jax.tree.map(lambda a, b: lax.dynamic_update_index_in_dim(a, b, i, 0), tree, one)
