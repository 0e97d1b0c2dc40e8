"""`fit`: the host boundary, restarts, and the jit."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Key

from .._pytree import replace
from ..data.batch import Batch
from ..data.chunks import Chunks
from ..data.host import check_bound, check_integer
from ..data.shards import on_auto_mesh, on_cpu, replicate
from ..data.types import Data
from ..exponential_family import ExponentialFamily
from ..model import ConditionalModel, Model, Q, SplitMergeModel
from .arguments import check_key, check_start, checked_halving, checked_moves, prepare
from .initialise import Init, Start, parse_init
from .method import Method
from .methods.cavi import CAVI
from .moves import Moves, search
from .out_of_core import fit_chunks
from .result import Result, State, Stop, best
from .run.halving import Halving
from .run.lanes import Problem
from .run.loop import iterate
from .run.passes import num_kernels
from .run.progress import Report, Reporter, listener_of, watched
from .run.restarts import Problems, choose_layout, keys_of, run_restarts


@on_auto_mesh
def fit(
    model: Model,
    data: Data | Chunks,
    *,
    key: Key[Array, ""] | None = None,
    init: Init = None,
    method: Method[Any] = CAVI(),
    stop: Stop = Stop(),
    num_restarts: int = 1,
    moves: Moves | None = None,
    halving: Halving | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: bool = False,
    callback: Callable[[Report], Any] | None = None,
) -> Result:
    """Fit `model` to `data` from one or several starts and return the best run.

    `data` is array-like with rows first, or a Batch. `init` is None (the model's own seeding; for
    mixtures k-means++, with all components in restart 0 and with EM, else fewer in most others, and
    narrow ones in every other from the tenth on), "random" (random labels), responsibilities
    (n, k), integer labels (n,), a q or Result to continue from, or `Annealed` around any of these.
    `key` (typed, `jax.random.key`) is needed exactly when something is drawn; restart i uses
    `fold_in(key, i)`, so more restarts never change the earlier ones. `moves`, a `Moves`, has every
    start go on to search over structures; it draws, so it needs a key. `halving`, a `Halving`,
    leaves most restarts early. Runs under jit and vmap of the surroundings too; values are checked
    only outside of them.

    `data` that need not fit in memory are a `Chunks`: statistics are summed chunk by chunk, the
    fit is the same. The seeding then looks at `data.sample()`; other starts are "random" (of the
    sample) and a q or Result. `checkpoint`, a path, is written after each pass over the chunks;
    the same call with `resume=path` goes on from there, to the same result, and writes to the
    same path if `checkpoint` names no other.

    `progress=True` shows how far the fit is (with tqdm if installed), and `callback` is called
    with a `Report`: one for all restarts and surrounding vmaps, every ten iterations (every pass
    over chunks) and at the end. What it raises becomes a RuntimeWarning after the fit.

    Raises TypeError or ValueError that name the argument. How the fit itself went is in
    `status`, of the best run, and `statuses`, of all; `check()` raises on it.
    """
    if isinstance(data, Chunks):
        if moves is not None:
            raise ValueError("moves: need all rows in memory; try data.sample() instead of Chunks")
        return fit_chunks(
            model,
            data,
            key=key,
            init=init,
            method=method,
            stop=stop,
            num_restarts=num_restarts,
            checkpoint=checkpoint,
            resume=resume,
            listener=listener_of(progress, callback, 0),
        )
    for name, path in {"checkpoint": checkpoint, "resume": resume}.items():
        if path is not None:
            raise ValueError(f"{name}: only a fit to Chunks can stop in between; Chunks.of(data)")
    model, batch, method, stop, names = prepare(model, data, method, stop)
    start = parse_init(model, batch, init)
    check_start(model, key, start, num_restarts, method)
    moves = checked_moves(model, moves, key, batch.weight.dtype)
    settings = (method, stop, moves, checked_halving(halving, moves))
    listener = listener_of(progress, callback, batch.weight.shape[0])

    def run(reporter: Reporter | None) -> Result:
        return _fit(model, batch, key, start, *settings, reporter, num_restarts=num_restarts)

    result = watched(run, listener)
    return result if names is None else replace(result, names=names)


@on_auto_mesh
def trajectory(
    model: Model,
    data: Data,
    *,
    num_iters: int,
    key: Key[Array, ""] | None = None,
    init: Init = None,
    method: Method[Any] = CAVI(),
) -> State:
    """Every iterate of a fit: the states after 1 .. num_iters steps, stacked on a leading axis.

    Row i holds the q that iteration i evaluated and its objective (`elbo`, nats), whether
    or not a fit would have stopped before. For plots and for teaching; arguments as in `fit`.
    """
    check_integer("num_iters", num_iters)
    check_bound("num_iters", num_iters, least=1.0)
    model, batch, method, _, _ = prepare(model, data, method, Stop())
    start = parse_init(model, batch, init)
    check_key(key, start.drawn(model), method)
    return _trajectory(model, batch, key, start, method, num_iters=num_iters)


@on_auto_mesh
def elbo(model: Model, q: Q, data: Data, *, method: Method[Any] = CAVI()) -> Array:
    """The objective of `method` at any q, in nats: for CAVI the exact evidence lower bound.

    The latent variables are at their optimum given q.
    """
    model, batch, method, _, _ = prepare(model, data, method, Stop())
    if not isinstance(q, ExponentialFamily | Result):
        raise TypeError(f"q: expected a q or a Result, got {type(q).__name__}")
    return _evaluate(model, batch, parse_init(model, batch, q).value, method)


@partial(jax.jit, static_argnames="num_restarts")
def _fit(
    model: Model,
    batch: Batch,
    key: Key[Array, ""] | None,
    start: Start,
    method: Method[Any],
    stop: Stop,
    moves: Moves | None,
    halving: Halving | None,
    reporter: Reporter | None,
    *,
    num_restarts: int,
) -> Result:
    def problem(_: Any, restart: ArrayLike) -> Problem:
        k_start, k_steps = keys_of(key, restart)

        def first() -> Q:
            return start.make(model, batch, k_start, restart, method.point)

        return Problem(model, batch, k_steps, first)

    def run(restart: ArrayLike) -> Result:
        _, _, k_steps, first = problem((), restart)
        if moves is None:
            return iterate(method, model, batch, first(), stop, k_steps, reporter)
        assert k_steps is not None  # `fit` has checked it
        assert isinstance(model, SplitMergeModel)
        return search(method, model, batch, first(), stop, moves, k_steps, reporter)

    if num_restarts == 1:
        # a leading axis of one, without the cost of vmap
        runs = jax.tree.map(lambda a: a[None], run(0))
    elif moves is not None:
        numbers = jnp.arange(num_restarts)
        alone = on_cpu(batch.platform)
        runs = jax.lax.map(run, numbers) if alone else jax.vmap(run)(numbers)
    else:
        floats = batch.weight.shape[0] * model.row_size(batch)
        alone = isinstance(model, ConditionalModel) and num_kernels(model, batch) > 1
        layout = choose_layout(num_restarts, floats, batch.platform, alone=alone)
        # one report is of all restarts where they step together
        layout = "vmap" if reporter is not None and not alone else layout
        live = jnp.asarray(1, jnp.int32)
        problems = Problems(lambda _: (), problem, 1, num_restarts, live, batch.platform)
        runs = run_restarts(method, stop, halving, problems, layout, reporter)
        runs = jax.tree.map(lambda a: a[0], runs)
    return replicate(best(runs), batch.sharding)


@partial(jax.jit, static_argnames="num_iters")
def _trajectory(
    model: Model,
    batch: Batch,
    key: Key[Array, ""] | None,
    start: Start,
    method: Method[Any],
    *,
    num_iters: int,
) -> State:
    k_start, k_steps = keys_of(key, 0)
    q = start.make(model, batch, k_start, 0, method.point)

    def step(state: State, i: Array) -> tuple[State, State]:
        step_key = None if k_steps is None else jax.random.fold_in(k_steps, i)
        new = method.step(model, state, batch, step_key)
        return new, new

    first = method.init(model, q, batch)
    states = jax.lax.scan(step, first, jnp.arange(num_iters))[1]
    return replicate(states, batch.sharding)


@jax.jit
def _evaluate(model: Model, batch: Batch, q: Q, method: Method[Any]) -> Array:
    return method.evaluate(model, q, batch)
