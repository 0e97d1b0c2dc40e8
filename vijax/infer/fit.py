"""`fit`, `trajectory` and `elbo`: arguments are checked, then one jitted program runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from .._pytree import replace
from ..data.batch import Batch
from ..data.chunks import Chunks
from ..data.host import check_bound, check_integer, is_concrete
from ..data.padding import pad
from ..data.shards import on_auto_mesh, on_cpu, replicate
from ..data.types import Data
from ..exponential_family import ExponentialFamily
from ..guides.transformed_normal import TransformedNormal
from ..latent_class import SplitMergeModel
from ..model import ConditionalModel, Model, Q
from .arguments import checked_halving, checked_moves, prepare, prepare_job
from .initialise import Init, Job, parse_q
from .method import Method
from .methods.cavi import CAVI, need_conditional
from .methods.default import method_for
from .moves import Moves, search
from .out_of_core import fit_chunks
from .result import Result, State, Stop, best
from .run.halving import Halving
from .run.interrupt import iterations_between_looks
from .run.lanes import Settings
from .run.loop import iterate
from .run.passes import has_fast_kernels
from .run.progress import Report, Reporter, listener_of, with_reporter
from .run.restarts import Problems, choose_layout, run_restarts

_Q = TypeVar("_Q")


@on_auto_mesh
def fit(
    model: Model[_Q],
    data: Data | Chunks | None = None,
    *,
    key: Key[Array, ""] | None = None,
    init: Init = None,
    method: Method[Any] | None = None,
    stop: Stop = Stop(),
    num_restarts: int = 1,
    moves: Moves | None = None,
    halving: Halving | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: bool = False,
    callback: Callable[[Report], Any] | None = None,
) -> Result[_Q]:
    """Fit `model` to `data` from one or several starts and return the best run.

    Raises TypeError or ValueError that name the argument. How the fit itself went is in `status`,
    of the best run, and `statuses`, of all; `check()` raises on it. `fit` also runs inside of jit
    and vmap, where values of the arguments are not checked.

    Args:
        model: A model, such as `GaussianMixture.from_data(x, 10)` or `LogDensity(...)`.
        data: Rows: array-like (n, d), a dict of columns, a data frame, a Batch; or Chunks, if they
            need not fit in memory. The result is the same. None for a density without rows.
        key: A typed key, `jax.random.key(0)`, needed exactly when something is drawn. Restart i
            uses `fold_in(key, i)`, so more restarts never change the earlier ones.
        init: None (`model.init`; for mixtures k-means++ seeds, whose components are merged and
            halved as long as the bound gains, but for EM; the fourth start has one component to
            halve), "random" (random labels), labels (n,), responsibilities (n, k), a q or a Result
            to continue from, which grows if it has fewer components than the model: some are
            halved, and for all methods but EM only as long as the bound gains (`infer/grow.py`);
            or `Annealed` around any of these. For a LogDensity: None (u = 0, and uniform in
            (-2, 2) for later starts), parameters, a q or a Result. With Chunks, arrays are not
            possible, and starts see `data.sample()`.
        method: `CAVI()`, `EM()`, `SVI()`, `Memoized()` or `Accelerated(...)`; for a LogDensity
            `GaussianVI()`, `LBFGS()` or `StochasticVI(...)`. None is CAVI or GaussianVI, and LBFGS
            for low rank and for more than 512 independent parameters.
        stop: When a run ends.
        num_restarts: Number of starts.
        moves: `Moves()` lets every start go on to a search over structures; it draws.
        halving: `Halving()` ends most restarts early.
        checkpoint: A path to write after each pass over Chunks.
        resume: The path of such a file: the same call goes on from there to the same result, and
            writes to it if there is no other `checkpoint`.
        progress: Whether to show how far the fit is, by tqdm if it is installed.
        callback: A function of a `Report` on all restarts and surrounding vmaps, called every ten
            iterations (every pass over Chunks) and at the end. If it returns `vx.STOP` or raises,
            or on Ctrl-C, the fit ends there with the best q so far, as INTERRUPTED. Without it,
            and without `progress`, Ctrl-C raises KeyboardInterrupt when the iteration is done.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.from_data(x, 10)
        result = vx.fit(model, x, key=jax.random.key(0), num_restarts=4).check()
        print(result.summary())
    """
    method = method_for(model, method)
    paths = {"checkpoint": checkpoint, "resume": resume}
    if isinstance(data, Chunks):
        for name, given in {"moves": moves, "halving": halving}.items():
            if given is not None:
                raise ValueError(f"{name}: need all rows in memory; try data.sample() instead")
        listener = listener_of(progress, callback, 0)
        return fit_chunks(model, data, key, init, method, stop, num_restarts, listener, **paths)
    for name, path in paths.items():
        if path is not None:
            raise ValueError(f"{name}: only a fit to Chunks can stop in between; Chunks.of(data)")
    job, names, rows = prepare_job(model, data, key, init, method, stop, num_restarts)
    moves = checked_moves(job.model, moves, key, job.batch.weight.dtype)
    halving = checked_halving(halving, moves)

    def run(reporter: Reporter | None) -> Result:
        return _fit(job, moves, halving, reporter, num_restarts=num_restarts)

    listener = listener_of(progress, callback, rows)
    every = None if listener is not None else _iterations_between_looks(job, moves, num_restarts)
    result = with_reporter(run, listener, every)
    return result if names is None else replace(result, names=names)


@on_auto_mesh
def trajectory(
    model: Model,
    data: Data | None = None,
    *,
    num_iters: int,
    key: Key[Array, ""] | None = None,
    init: Init = None,
    method: Method[Any] | None = None,
) -> State:
    """Every iterate of a fit, stacked on a leading axis of length `num_iters`.

    Entry i has the q that iteration i evaluated and its objective `elbo` in nats, whether or not a
    fit would have stopped before. It is meant for plots and for teaching. Raises as `fit` does.

    Args:
        model, data, key, init, method: As in `fit`, with the data in memory.
        num_iters: Number of iterations, at least 1.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.from_data(x, 3)
        states = vx.trajectory(model, x, num_iters=20, key=jax.random.key(0))
        print(states.elbo)
    """
    check_integer("num_iters", num_iters)
    check_bound("num_iters", num_iters, least=1.0)
    method = method_for(model, method)
    job, _, _ = prepare_job(model, data, key, init, method, Stop())
    return _trajectory(job, num_iters=num_iters)


@on_auto_mesh
def elbo(
    model: Model, q: Q, data: Data | None = None, *, method: Method[Any] | None = None
) -> Array:
    """The objective of `method` at any q, in nats; for CAVI it is the exact bound.

    ELBO(q) = sum_n w_n log Z_n - KL(q || p), with the latent variables at their optimum given q.
    Raises TypeError or ValueError that name the argument.

    Args:
        model: As in `fit`.
        q: A q of this model, or a Result. If it has fewer components, the others are empty.
        data: Rows in memory, as in `fit`; they need not be those of the fit.
        method: The algorithm whose objective it is, such as `EM()`.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.from_data(x, 3)
        bound = vx.elbo(model, vx.fit(model, x, key=jax.random.key(0)), x)
    """
    model, batch, method, _, _ = prepare(model, data, method_for(model, method), Stop())
    if not isinstance(q, ExponentialFamily | Result | TransformedNormal):
        raise TypeError(f"q: expected a q or a Result, got {type(q).__name__}")
    q = parse_q(model, batch, q)
    return _evaluate(model, pad(batch)[0] if model.by_row else batch, q, method)


@on_auto_mesh
def elbo_terms(model: Model, q: Q, data: Data) -> dict[str, Array]:
    """The named terms of the exact bound at any q, in nats; they add up to `elbo`.

    For a mixture they are "rows", "labels" and "entropy", with responsibilities at their optimum,
    and "kl_weights" and "kl_components", the negative KL divergences from the prior. Raises
    TypeError for a model without exact updates.

    Args:
        model, q, data: As in `elbo`.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.from_data(x, 3)
        terms = vx.elbo_terms(model, vx.fit(model, x, key=jax.random.key(0)), x)
    """
    model, batch, method, _, _ = prepare(model, data, CAVI(), Stop())
    need_conditional(method, model)
    rows = pad(batch)[0] if model.by_row else batch
    return _terms(model, parse_q(model, batch, q), rows)


def _iterations_between_looks(job: Job, moves: Moves | None, num_restarts: int) -> int | None:
    """How often a fit should look for Ctrl-C; None if it cannot or need not."""
    batch, iterations = job.batch, job.stop.max_iter
    if batch.sharding is not None or not is_concrete(*jax.tree.leaves((job, moves))):
        return None
    if moves is not None:
        iterations = iterations + moves.max_trials * moves.sweeps
    floats = num_restarts * batch.weight.shape[0] * job.model.row_size(batch)
    return iterations_between_looks(floats, iterations)


@partial(jax.jit, static_argnames="num_restarts")
def _fit(
    job: Job,
    moves: Moves | None,
    halving: Halving | None,
    reporter: Reporter | None,
    *,
    num_restarts: int,
) -> Result:
    model, batch, method, stop = job.model, job.batch, job.method, job.stop

    def run(restart: Int[Array, ""] | int) -> Result:
        _, _, key, first_q = job.problem(restart)
        if moves is None:
            return iterate(method, model, batch, first_q(), stop, key, reporter)
        assert key is not None  # the arguments have been checked
        assert isinstance(model, SplitMergeModel)
        return search(method, model, batch, first_q(), stop, moves, key, reporter)

    if num_restarts == 1:
        runs = jax.tree.map(lambda a: a[None], run(0))  # a leading axis without vmap
    elif moves is not None:
        numbers = jnp.arange(num_restarts)
        runs = jax.lax.map(run, numbers) if on_cpu(batch.platform) else jax.vmap(run)(numbers)
    else:
        floats = batch.weight.shape[0] * model.row_size(batch)
        alone = has_fast_kernels(model, batch)
        layout = choose_layout(num_restarts, floats, batch.platform, alone=alone)
        if reporter is not None and not reporter.quiet and not alone:
            layout = "vmap"  # restarts step together, so that one report is of them all
        live = jnp.asarray(1, jnp.int32)
        problems = Problems(
            lambda _: (), lambda _, i: job.problem(i), 1, num_restarts, live, batch.platform
        )
        runs = run_restarts(Settings(method, stop, halving, reporter), problems, layout)
        runs = jax.tree.map(lambda a: a[0], runs)
    return replicate(best(runs), batch.sharding)


@partial(jax.jit, static_argnames="num_iters")
def _trajectory(job: Job, *, num_iters: int) -> State:
    model, batch, key, first_q = job.problem(0)

    def step(state: State, i: Array) -> tuple[State, State]:
        step_key = None if key is None else jax.random.fold_in(key, i)
        new = job.method.step(model, state, batch, step_key)
        return new, new

    first = job.method.init(model, first_q(), batch)
    states = jax.lax.scan(step, first, jnp.arange(num_iters))[1]
    return replicate(states, batch.sharding)


@jax.jit
def _terms(model: ConditionalModel, q: Q, batch: Batch) -> dict[str, Array]:
    return model.elbo_terms(q, batch)


@jax.jit
def _evaluate(model: Model, batch: Batch, q: Q, method: Method[Any]) -> Array:
    return method.evaluate(model, q, batch)
