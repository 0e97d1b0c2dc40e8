"""The loop over passes on the host, for rows that do not fit: the device sees chunk by chunk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from .._pytree import replace
from ..data.batch import Batch
from ..data.chunks import Chunks
from ..data.host import strong, to_device
from ..data.shards import default_platform, on_cpu
from ..exponential_family import ExponentialFamily
from ..model import ConditionalModel, Model
from .arguments import check_kinds, check_start, prepare
from .initialise import Init, Start, parse_init
from .method import FullPassMethod, Method
from .methods.cavi import need_conditional
from .result import Result, Stop, best
from .run import checkpoint as checkpoints
from .run import passes
from .run.checkpoint import Checkpoint
from .run.loop import Run, accept, begin, finish
from .run.progress import Listener, tell
from .run.restarts import keys_of

_NO_WEIGHT = "source: there are no rows of positive weight"


def fit_chunks(
    model: Model,
    chunks: Chunks,
    *,
    key: Key[Array, ""] | None,
    init: Init,
    method: Method[Any],
    stop: Stop,
    num_restarts: int,
    checkpoint: str | os.PathLike[str] | None,
    resume: str | os.PathLike[str] | None,
    listener: Listener | None,
) -> Result:
    """`fit` to Chunks: as to the same rows in memory, all restarts on each reading of them.

    Before the first pass all rows are read once more, to check them and to draw the sample that
    starts are made from; not so to resume. Raises as `fit` does.
    """
    check_kinds(model, method, stop)
    if not isinstance(method, FullPassMethod):
        raise ValueError(f"method: {type(method).__name__} needs the rows in memory; take CAVI()")
    full: FullPassMethod = method
    known = need_conditional(full, model)
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
        point = method.point
        survey = chunks.survey(lambda batch: model.check(model.as_batch(batch), point))
        model, batch, method, stop, _ = prepare(model, survey.sample, method, stop)
        run = _start(model, batch, key, start, method, stop, num_restarts=num_restarts)
        saved = Checkpoint(model, method, run, survey.num_rows, survey.total)
    else:
        known, full, stop = (strong(part, chunks.dtype) for part in (known, full, stop))
        saved = checkpoints.read(resume, known, full, stop, num_restarts)
    if listener is not None:
        listener.num_rows = saved.num_rows
    path = resume if checkpoint is None else checkpoint
    save = (lambda _: None) if path is None else (lambda now: now.write(path))
    if resume is None:
        save(saved)
    run = _run_passes(saved, chunks, stop, save, listener)
    if listener is not None:
        listener.close()
    result = _end(run, method.point)
    return result if chunks.names is None else replace(result, names=chunks.names)


def _run_passes(
    now: Checkpoint,
    chunks: Chunks,
    stop: Stop,
    save: Callable[[Checkpoint], Any],
    listener: Listener | None,
) -> Run:
    """Pass after pass until no lane runs; `save` is called after each."""
    model, method = now.model, now.method
    total = to_device(now.total, chunks.dtype)
    # here alone the host waits for the end of a pass
    while np.asarray(now.run.running).any():
        moments = _moments(method, now.run, platform=default_platform())
        batches = chunks.batches(now.num_rows, check=False)
        found, floor = _sum(model, method, moments, batches)
        run = _accept(method, model, now.run, found, floor, total, stop, default_platform())
        now = replace(now, run=run)
        save(now)
        tell(listener, run.state.elbo, run.running, run.n_iter)
    return now.run


def reader(model: ConditionalModel, batch: Batch) -> Callable[[Batch], Batch]:
    """`model.as_batch` where it changes the form of a Batch, compiled: values were looked at."""

    def plain(batch: Batch) -> Batch:
        return replace(batch, names=None)

    if jax.tree.structure(jax.eval_shape(_read, model, batch)) == jax.tree.structure(plain(batch)):
        return plain
    return partial(_read, model)


@jax.jit
def _read(model: ConditionalModel, batch: Batch) -> Batch:
    return replace(model.as_batch(batch), names=None, platform=batch.platform)


def _sum(
    model: ConditionalModel, method: FullPassMethod, moments: Any, batches: Iterator[Batch]
) -> tuple[Any, Array]:
    """One pass: the sums with their error terms, and the rounding floor for each unit of weight.

    The next chunk is read and sent while the device works on the last. The host stays one chunk
    ahead and no more, so that chunks do not pile up on the device.
    """
    carry, floor, read, ahead = None, None, None, []
    for batch in batches:
        read = reader(model, batch) if read is None else read
        batch = read(batch)
        if carry is None:
            carry, floor = _nothing(model, moments, batch)
        carry, done = _add(carry, method, model, moments, batch)
        ahead.append(done)
        if len(ahead) > 1:
            ahead.pop(0).block_until_ready()
    if carry is None or floor is None:
        raise ValueError(_NO_WEIGHT)
    return carry, floor


def _lanes(fn: Callable[..., Any], platform: str | None, *trees: Any) -> Any:
    """`fn` of each lane; one after another on a CPU, where a lane by itself is fastest."""
    if jax.tree.leaves(trees)[0].shape[0] > 1:
        if on_cpu(platform):
            return jax.lax.map(lambda lane: fn(*lane), trees)
        return jax.vmap(fn)(*trees)
    one = fn(*jax.tree.map(lambda a: a[0], trees))
    return jax.tree.map(lambda a: a[None], one)


@partial(jax.jit, static_argnames="num_restarts")
def _start(
    model: ConditionalModel,
    batch: Batch,
    key: Key[Array, ""] | None,
    start: Start,
    method: Method[Any],
    stop: Stop,
    *,
    num_restarts: int,
) -> Run:
    def one(restart: Any) -> Run:
        k_start, _ = keys_of(key, restart)
        q = start.make(model, batch, k_start, restart, method.point)
        return begin(method.init(model, q, batch), stop)

    if num_restarts == 1:
        return jax.tree.map(lambda a: a[None], one(0))
    return jax.vmap(one)(jnp.arange(num_restarts))


@partial(jax.jit, static_argnames="platform")
def _moments(method: FullPassMethod, run: Run, platform: str) -> Any:
    return _lanes(method.moments, platform, run.state.next_q)


@jax.jit
def _nothing(model: ConditionalModel, moments: Any, batch: Batch) -> tuple[Any, Array]:
    def one(moments: Any) -> tuple[Any, Array]:
        zero = passes.nothing(lambda: passes.expect(model, moments, batch)[:2])
        return zero, passes.rounding_floor(model, moments, batch)

    return _lanes(one, batch.platform, moments)


@partial(jax.jit, donate_argnums=0)
def _add(
    carry: Any, method: FullPassMethod, model: ConditionalModel, moments: Any, batch: Batch
) -> tuple[Any, Float[Array, ""]]:
    """The sums with one chunk more, and a number that is there when they are."""
    rows = method.chunk
    if rows is None and not on_cpu(batch.platform):
        lanes = jax.tree.leaves(moments)[0].shape[0]  # all of them in the room of one
        rows = max(256, passes.automatic_chunk(model.row_size(batch), batch) // lanes)

    def one(carry: Any, moments: Any) -> Any:
        return passes.add(carry, passes.expect(model, moments, batch, rows)[:2])

    carry = _lanes(one, batch.platform, carry, moments)
    return carry, jnp.sum(carry[0][1])


@partial(jax.jit, static_argnames="platform")
def _accept(
    method: FullPassMethod,
    model: ConditionalModel,
    run: Run,
    carry: Any,
    floor: Array,
    total: Array,
    stop: Stop,
    platform: str,
) -> Run:
    def one(run: Run, carry: Any, floor: Array) -> Run:
        stats, log_z = passes.total(carry)
        new = method.conclude(model, run.state, stats, log_z)
        after = accept(run, passes.floored(new, floor * total), total, stop, method.monotone)
        return jax.tree.map(lambda a, b: jnp.where(run.running, a, b), after, run)

    return _lanes(one, platform, run, carry, floor)


@partial(jax.jit, static_argnames="point")
def _end(run: Run, point: bool) -> Result:
    # of runs that have ended there is nothing to compute: one by one or together is the same
    return best(jax.vmap(lambda lane: finish(lane, point))(run))
