"""`fit`: the host boundary, restarts, and the jit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from .._host import check_bound, check_integer, strong
from .._pytree import replace
from .._shards import on_auto_mesh, replicate
from ..batch import Batch
from ..chunks import Chunks
from ..natural import Natural
from . import start
from .cavi import CAVI
from .halving import Halving
from .loop import iterate
from .moves import Moves, search
from .passes import has_shortcut
from .progress import Report, Reporter, listener_of, watched
from .result import Result, State, Stop, best
from .several import automatic, several


@on_auto_mesh
def fit(
    model: Any,
    data: Any,
    *,
    key: Key[Array, ""] | None = None,
    init: Any = None,
    method: Any = CAVI(),
    stop: Stop = Stop(),
    num_restarts: int = 1,
    moves: Any = None,
    halving: Any = None,
    checkpoint: Any = None,
    resume: Any = None,
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
        from .out_of_core import fit_chunks  # which takes the checks from here

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
    batch, model, stop, method, names = _prepare(model, data, method, stop)
    kind, value = start.read(model, batch, init)
    _check_start(model, key, kind, num_restarts, method)
    moves = None if moves is None else _check_moves(model, moves, key, batch.weight.dtype)
    halving = None if halving is None else check_halving(halving, moves)
    listener = listener_of(progress, callback, batch.weight.shape[0])
    options = {"kind": kind, "num_restarts": num_restarts}
    settings = (method, stop, moves, halving)
    result = watched(lambda r: _fit(model, batch, key, value, *settings, r, **options), listener)
    return result if names is None else replace(result, names=names)


@on_auto_mesh
def trajectory(
    model: Any,
    data: Any,
    *,
    num_iters: int,
    key: Key[Array, ""] | None = None,
    init: Any = None,
    method: Any = CAVI(),
) -> State:
    """Every iterate of a fit: the states after 1 .. num_iters steps, stacked on a leading axis.

    Row i holds the q that iteration i evaluated and its objective (`elbo`, nats), whether
    or not a fit would have stopped before. For plots and for teaching; arguments as in `fit`.
    """
    check_integer("num_iters", num_iters)
    check_bound("num_iters", num_iters, least=1.0)
    batch, model, _, method, _ = _prepare(model, data, method, Stop())
    kind, value = start.read(model, batch, init)
    _check_key(key, kind in start.DRAWN and (kind == "random" or model.draws), method)
    return _trajectory(model, batch, key, value, method, kind=kind, num_iters=num_iters)


@on_auto_mesh
def elbo(model: Any, q: Any, data: Any, *, method: Any = CAVI()) -> Array:
    """The objective of `method` at any q, in nats: for CAVI the exact evidence lower bound.

    The latent variables are at their optimum given q.
    """
    batch, model, _, method, _ = _prepare(model, data, method, Stop())
    if not isinstance(q, Natural | Result):
        raise TypeError(f"q: expected a q or a Result, got {type(q).__name__}")
    _, q = start.read(model, batch, q)
    return _step(model, batch, q, method)


def _prepare(
    model: Any, data: Any, method: Any, stop: Stop
) -> tuple[Batch, Any, Stop, Any, tuple[str, ...] | None]:
    """One dtype, strong types and a checked model, so that only shapes decide on compilation.

    The columns' names are taken off: another name must not be another program.
    """
    _check_kinds(model, method, stop)
    batch = getattr(model, "read", Batch.of)(Batch.for_jit(data))
    dtype = batch.weight.dtype
    model, method = strong(model, dtype), strong(method, dtype)
    model.check(batch, method.point)
    return replace(batch, names=None), model, strong(stop, dtype), method, batch.names


def _check_moves(model: Any, moves: Any, key: Any, dtype: Any) -> Moves:
    if not isinstance(moves, Moves):
        raise TypeError(f"moves: expected Moves(...), got {moves!r}")
    if not hasattr(model, "merge_gain"):
        raise ValueError(f"moves: {type(model).__name__} has no components to move")
    if key is None:
        raise ValueError("key: moves are drawn at random; pass key=jax.random.key(0)")
    for name in ("max_trials", "patience", "sweeps", "gain"):
        check_bound(f"moves: {name}", getattr(moves, name), least=0.0)
    return strong(moves, dtype)


def check_halving(halving: Any, moves: Any) -> Halving:
    """Strongly typed; raises TypeError for anything else, ValueError beside moves."""
    if not isinstance(halving, Halving):
        raise TypeError(f"halving: expected Halving(...), got {halving!r}")
    if moves is not None:
        raise ValueError("halving: every start that moves is a search of its own; give one of them")
    check_bound("halving: sweeps", halving.sweeps, least=1.0)
    return strong(halving, jnp.float32)


def _check_kinds(model: Any, method: Any, stop: Any) -> None:
    if isinstance(model, type) or not hasattr(model, "local"):
        raise TypeError(f"model: expected a model such as GaussianMixture, got {model!r}")
    if isinstance(method, type) or not hasattr(method, "step"):
        raise TypeError(f"method: expected a method such as CAVI() or EM(), got {method!r}")
    if not isinstance(stop, Stop):
        raise TypeError(f"stop: expected Stop(...), got {stop!r}")
    chunk = getattr(method, "chunk", None)
    for name, value in {"method: chunk": chunk, "stop: trace": stop.trace}.items():
        if value is not None:
            check_integer(name, value)
            check_bound(name, value, least=1.0)
    if hasattr(method, "check"):
        method.check(model)
    check_bound("stop: slack", stop.slack, least=0.0)
    check_bound("stop: tol", stop.tol, least=0.0)
    check_bound("stop: patience", stop.patience, least=1.0)
    check_bound("stop: max_iter", stop.max_iter, least=1.0)


def _check_start(model: Any, key: Any, kind: str, num_restarts: Any, method: Any) -> None:
    drawn = kind in start.DRAWN and (kind == "random" or model.draws)
    _check_key(key, drawn, method)
    check_integer("num_restarts", num_restarts)
    if num_restarts < 1:
        raise ValueError(f"num_restarts: must be at least 1, got {num_restarts}")
    if num_restarts > 1 and not (drawn or getattr(method, "draws", False)):
        raise ValueError("num_restarts: this start is deterministic, so restarts would be equal")


def _check_key(key: Any, drawn: bool, method: Any = None) -> None:
    if key is None:
        if drawn or getattr(method, "draws", False):
            what = "start is" if drawn else "method's rows are"
            raise ValueError(f"key: this {what} drawn at random; pass key=jax.random.key(0)")
        return
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError(f"key: expected a typed key, jax.random.key(0), got {type(key).__name__}")
    if key.shape:
        raise ValueError(f"key: expected one key, got an array of keys of shape {key.shape}")


@partial(jax.jit, static_argnames=("kind", "num_restarts"))
def _fit(
    model: Any,
    batch: Batch,
    key: Any,
    value: Any,
    method: Any,
    stop: Stop,
    moves: Moves | None,
    halving: Halving | None,
    reporter: Reporter | None,
    *,
    kind: str,
    num_restarts: int,
) -> Result:
    def start_of(k_start: Any, restart: Any) -> Any:
        return start.make(model, batch, kind, value, k_start, restart, method.point)

    def run(restart: Any) -> Result:
        k_start, k_steps = keys_of(key, restart)
        q = start_of(k_start, restart)
        if moves is None:
            return iterate(method, model, batch, q, stop, k_steps, reporter)
        assert k_steps is not None  # `fit` has checked it
        return search(method, model, batch, q, stop, moves, k_steps, reporter)

    if num_restarts == 1:
        # a leading axis of one, without the cost of vmap
        runs = jax.tree.map(lambda a: a[None], run(0))
    elif moves is not None:
        numbers = jnp.arange(num_restarts)
        one_by_one = jax.default_backend() == "cpu"
        runs = jax.lax.map(run, numbers) if one_by_one else jax.vmap(run)(numbers)
    else:

        def problem(_: Any, restart: Any) -> Any:
            k_start, k_steps = keys_of(key, restart)
            return model, batch, k_steps, lambda: start_of(k_start, restart)

        floats = batch.weight.shape[0] * model.row_size(batch)
        alone = has_shortcut(model, batch)
        layout = automatic(num_restarts, floats, alone=alone)
        # one report is of all restarts where they step together
        layout = "vmap" if reporter is not None and not alone else layout
        live = jnp.asarray(1, jnp.int32)
        runs = several(
            method, stop, halving, lambda _: (), problem, 1, num_restarts, live, layout, reporter
        )
        runs = jax.tree.map(lambda a: a[0], runs)
    return replicate(best(runs), batch.sharding)


@partial(jax.jit, static_argnames=("kind", "num_iters"))
def _trajectory(
    model: Any, batch: Batch, key: Any, value: Any, method: Any, *, kind: str, num_iters: int
) -> State:
    restart = 0
    k_start, k_steps = keys_of(key, restart)
    q = start.make(model, batch, kind, value, k_start, restart, method.point)
    state = method.init(model, q, batch)

    def step(state: State, i: Array) -> tuple[State, State]:
        step_key = None if k_steps is None else jax.random.fold_in(k_steps, i)
        new = method.step(model, state, batch, step_key)
        return new, new

    states = jax.lax.scan(step, state, jnp.arange(num_iters))[1]
    return replicate(states, batch.sharding)


def keys_of(key: Any, restart: Any) -> tuple[Any, Any]:
    """One for the start and one for the steps of this restart."""
    if key is None:
        return None, None
    k_start, k_steps = jax.random.split(jax.random.fold_in(key, restart))
    return k_start, k_steps


@jax.jit
def _step(model: Any, batch: Batch, q: Any, method: Any) -> Array:
    if getattr(method, "estimates", False):
        return method.evaluate(model, q, batch)
    return method.step(model, method.init(model, q, batch), batch, None).elbo
