"""`fit` to Chunks: the loop runs on the host, and the device holds two chunks of rows at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from .._pytree import replace
from ..data import chunked
from ..data.batch import Batch
from ..data.chunks import Chunks
from ..data.host import fetched, strong, to_device
from ..data.shards import default_platform, on_cpu
from ..exponential_family import ExponentialFamily
from ..model import ConditionalModel, Model
from .arguments import check_kinds, check_start, prepare
from .initialise import Init, Job, parse_init
from .method import FullPassMethod, Method
from .methods.cavi import need_conditional
from .result import Result, Stop, best
from .run import checkpoint as checkpoints
from .run import passes
from .run.checkpoint import Checkpoint
from .run.interrupt import CtrlC
from .run.loop import Run, accept, begin, finish, interrupted
from .run.progress import Listener, report_from_host
from .status import Status

_NO_WEIGHT = "source: no row of positive weight has an observed entry"


def fit_chunks(
    model: Model,
    chunks: Chunks,
    key: Key[Array, ""] | None,
    init: Init,
    method: Method[Any],
    stop: Stop,
    num_restarts: int,
    listener: Listener | None,
    *,
    checkpoint: str | os.PathLike[str] | None,
    resume: str | os.PathLike[str] | None,
) -> Result:
    """Fit a model to Chunks as to the same rows in memory; each pass serves all restarts.

    Arguments are those of `fit`, which says what is raised.
    """
    check_kinds(model, method, stop)
    if not isinstance(method, FullPassMethod):
        raise ValueError(f"method: {type(method).__name__} needs all rows; try data.sample()")
    conditional = need_conditional(method, model)
    if not model.by_row:
        raise ValueError(f"data: this {type(model).__name__} needs all rows at once, not Chunks")
    path = resume if checkpoint is None else checkpoint
    if resume is None:
        if not (init is None or isinstance(init, str | ExponentialFamily | Result)):
            raise ValueError(
                "init: labels and responsibilities need the rows in memory; give None, 'random', "
                "or a q or Result to continue from"
            )
        first = next(chunks.batches(), None)
        if first is None:
            raise ValueError(_NO_WEIGHT)
        start = parse_init(model, model.as_batch(first), init)
        check_start(model, key, start, num_restarts, method)
        # all rows are read once, to check them and to draw the sample that starts are made from
        survey = chunks.survey(lambda batch: model.check(model.as_batch(batch), method.point))
        strong_model, batch, strong_method, stop, _ = prepare(model, survey.sample, method, stop)
        job = Job(strong_model, batch, key, start, strong_method, stop)
        run = _start(job, num_restarts=num_restarts)
        if model.names is not None:  # chunks may have their columns in another order
            strong_model = replace(strong_model, names=model.names)
        saved = Checkpoint(strong_model, strong_method, run, survey.num_rows, survey.total)
        if path is not None:
            saved.write(path)
    else:
        parts = strong((conditional, method, stop), chunks.dtype)
        saved = checkpoints.read(resume, *parts, num_restarts=num_restarts)
    if listener is not None:
        listener.num_rows = saved.num_rows
    run = _run_passes(saved, chunks, strong(stop, chunks.dtype), path, listener)
    if listener is not None:
        listener.close()
    result = _end(run, method.point)
    names = chunks.names or model.names
    return result if names is None else replace(result, names=names)


def _run_passes(
    now: Checkpoint,
    chunks: Chunks,
    stop: Stop,
    path: str | os.PathLike[str] | None,
    listener: Listener | None,
) -> Run:
    """Make one pass after another until no lane runs, and write each one's end to `path`."""
    model, method, platform = now.model, now.method, default_platform()
    total = to_device(now.total, chunks.dtype)
    stopped = False
    with CtrlC(lambda: None) as ctrl_c:
        while _running(now.run).any() and not stopped:
            try:
                with jax.debug_infs(False):  # the log of a weight of 0
                    moments = _moments(method, now.run, platform=platform)
                batches = ctrl_c.unless_heard(chunks.batches(now.num_rows, check=False))
                sums = _sum(model, method, moments, batches)
                run = _accept(method, model, now.run, sums, total, stop, platform)
                now = replace(now, run=run)
                if path is not None:
                    now.write(path)
                stopped = report_from_host(listener, run.state.elbo, _running(run), run.n_iter)
            except KeyboardInterrupt:
                if listener is None:
                    raise
                stopped = True
    if ctrl_c.heard and listener is None:  # during the last pass
        raise KeyboardInterrupt
    return jax.jit(interrupted)(now.run) if stopped else now.run


def _running(run: Run) -> np.ndarray:
    """Which lanes have not ended; this is where the host waits for a pass."""
    return fetched(run.status) == Status.RUNNING


def reader(model: ConditionalModel, batch: Batch) -> Callable[[Batch], Batch]:
    """`model.as_batch`, jitted, if it changes the form of a Batch; values were checked before."""
    without_names = partial(replace, names=None, levels=None)
    form = jax.tree.structure(jax.eval_shape(_as_batch, model, batch))
    same = form == jax.tree.structure(without_names(batch)) and model.names in (None, batch.names)
    same = same and not model.recodes
    return without_names if same else partial(_as_batch, model)


@jax.jit
def _as_batch(model: ConditionalModel, batch: Batch) -> Batch:
    return replace(model.as_batch(batch), names=None, levels=None, platform=batch.platform)


def _sum(
    model: ConditionalModel, method: FullPassMethod, moments: Any, batches: Iterator[Batch]
) -> tuple[Any, Array]:
    """One pass: the running sum, and the rounding floor per unit of weight, of every lane.

    The next chunk is read and sent while the device works on the last one. The host waits before it
    goes further ahead, so that no more chunks are on the device.
    """
    carry, floor, convert, previous = None, None, None, None
    for batch in batches:
        convert = reader(model, batch) if convert is None else convert
        batch = convert(batch)
        if carry is None:
            carry, floor = _empty_sum(model, moments, batch)
        carry, done = _add(carry, method, model, moments, batch)
        if previous is not None:
            previous.block_until_ready()
        previous = done
    if carry is None or floor is None:
        raise ValueError(_NO_WEIGHT)
    return carry, floor


def _for_lanes(fn: Callable[..., Any], platform: str | None, *trees: Any) -> Any:
    """`fn` of each lane; one after another on a CPU, where a lane by itself is fastest."""
    if jax.tree.leaves(trees)[0].shape[0] > 1:
        if on_cpu(platform):
            return jax.lax.map(lambda lane: fn(*lane), trees)
        return jax.vmap(fn)(*trees)
    single = fn(*jax.tree.map(lambda a: a[0], trees))
    return jax.tree.map(lambda a: a[None], single)


@partial(jax.jit, static_argnames="num_restarts")
def _start(job: Job, *, num_restarts: int) -> Run:
    def start(restart: Int[Array, ""] | int) -> Run:
        model, batch, _, first_q = job.problem(restart)
        first = job.method.init(model, first_q(), batch)
        return begin(replace(first, rows=None), job.stop)  # rows of the sample are not all rows

    if num_restarts == 1:
        return jax.tree.map(lambda a: a[None], start(0))
    return jax.vmap(start)(jnp.arange(num_restarts))


@partial(jax.jit, static_argnames="platform")
def _moments(method: FullPassMethod, run: Run, platform: str) -> Any:
    return _for_lanes(method.moments, platform, run.state.next_q)


@jax.jit
def _empty_sum(model: ConditionalModel, moments: Any, batch: Batch) -> tuple[Any, Array]:
    def empty_sum(moments: Any) -> tuple[Any, Array]:
        zero = chunked.empty_sum(lambda: passes.expect(model, moments, batch)[:2])
        return zero, passes.rounding_floor(model, moments, batch)

    return _for_lanes(empty_sum, batch.platform, moments)


@partial(jax.jit, donate_argnums=0)
def _add(
    carry: Any, method: FullPassMethod, model: ConditionalModel, moments: Any, batch: Batch
) -> tuple[Any, Float[Array, ""]]:
    """The running sums with one more chunk, and a number to wait for."""
    rows = method.chunk
    if rows is None and not on_cpu(batch.platform):
        lanes = jax.tree.leaves(moments)[0].shape[0]  # together they take the memory of one
        rows = chunked.automatic_chunk(model.row_size(batch), batch, lanes)

    def add(carry: Any, moments: Any) -> Any:
        return chunked.add(carry, passes.expect(model, moments, batch, rows)[:2])

    carry = _for_lanes(add, batch.platform, carry, moments)
    return carry, jnp.sum(carry[0][1])


@partial(jax.jit, static_argnames="platform")
def _accept(
    method: FullPassMethod,
    model: ConditionalModel,
    run: Run,
    sums: tuple[Any, Array],
    total: Array,
    stop: Stop,
    platform: str,
) -> Run:
    def conclude(run: Run, carry: Any, floor: Array) -> Run:
        stats, log_z = chunked.total(carry)
        new = passes.floored(method.conclude(model, run.state, stats, log_z), floor * total)
        # no chunk has the state of its rows from the last pass
        monotone = method.monotone and model.ascends(kept=False)
        after = accept(run, new, total, stop, monotone)
        return jax.tree.map(lambda a, b: jnp.where(run.running, a, b), after, run)

    return _for_lanes(conclude, platform, run, *sums)


@partial(jax.jit, static_argnames="point")
def _end(run: Run, point: bool) -> Result:
    return best(jax.vmap(lambda lane: finish(lane, point))(run))
