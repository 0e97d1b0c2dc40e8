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

from .._host import strong, to_device
from .._pytree import replace
from ..batch import Batch
from ..chunks import Chunks
from ..natural import Natural
from . import checkpoint as checkpoints
from . import passes, start
from .checkpoint import Checkpoint
from .fit import _check_kinds, _check_start, _prepare, keys_of
from .loop import Run, begin, finish, judge
from .progress import Listener, tell
from .result import Result, Stop, best

_NO_WEIGHT = "source: there are no rows of positive weight"


def fit_chunks(
    model: Any,
    chunks: Chunks,
    *,
    key: Key[Array, ""] | None,
    init: Any,
    method: Any,
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
    _check_kinds(model, method, stop)
    if not hasattr(method, "moments") or not hasattr(method, "conclude"):
        raise ValueError(f"method: {type(method).__name__} needs the rows in memory; take CAVI()")
    if resume is None:
        read = getattr(model, "read", Batch.of)
        if not (init is None or isinstance(init, str | Natural | Result)):
            raise ValueError(
                "init: labels and responsibilities need the rows in memory; give None, 'random', "
                "or a q or Result to continue from"
            )
        first = next(chunks.batches(), None)
        if first is None:
            raise ValueError(_NO_WEIGHT)
        kind, value = start.read(model, read(first), init)
        _check_start(model, key, kind, num_restarts, method)
        survey = chunks.survey(lambda batch: model.check(read(batch), method.point))
        batch, model, stop, method, _ = _prepare(model, survey.sample, method, stop)
        options = {"kind": kind, "num_restarts": num_restarts}
        run = _start(model, batch, key, value, method, stop, **options)
        saved = Checkpoint(model, method, run, survey.num_rows, survey.total)
    else:
        model, method, stop = (strong(part, chunks.dtype) for part in (model, method, stop))
        saved = checkpoints.read(resume, model, method, stop, num_restarts)
    if listener is not None:
        listener.num_rows = saved.num_rows
    path = resume if checkpoint is None else checkpoint
    save = (lambda _: None) if path is None else (lambda now: now.write(path))
    if resume is None:
        save(saved)
    run = drive(saved, chunks, stop, save, listener)
    if listener is not None:
        listener.close()
    result = _end(run, method.point)
    return result if chunks.names is None else replace(result, names=chunks.names)


def drive(
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
        moments = _moments(method, now.run)
        batches = chunks.batches(now.num_rows, check=False)
        found, least = _sum(model, method, moments, batches, total)
        run = _judge(method, model, now.run, found, least, total, stop)
        now = replace(now, run=run)
        save(now)
        tell(listener, run.state.elbo, run.running, run.n_iter)
    return now.run


def reader(model: Any, batch: Batch) -> Callable[[Batch], Batch]:
    """`model.read` where it changes the form of a Batch, compiled: no value is looked at again."""

    def plain(batch: Batch) -> Batch:
        return replace(batch, names=None)

    if not hasattr(model, "read"):
        return plain
    found = jax.eval_shape(_read, model, batch)
    same = jax.tree.structure(found) == jax.tree.structure(plain(batch))
    return plain if same else partial(_read, model)


@jax.jit
def _read(model: Any, batch: Batch) -> Batch:
    return replace(model.read(batch), names=None)


def _sum(model: Any, method: Any, moments: Any, batches: Iterator[Batch], total: Array) -> Any:
    """One pass: the sums, and the nats that rounding may have moved q by.

    The next chunk is read and sent while the device works on the last.
    The host stays one chunk ahead and no more, so that chunks do not pile up on the device.
    """
    carry, least, read, ahead = None, None, None, []
    for batch in batches:
        read = reader(model, batch) if read is None else read
        batch = read(batch)
        if carry is None:
            carry, least = _nothing(model, moments, batch, total)
        carry, done = _add(carry, method, model, moments, batch)
        ahead.append(done)
        if len(ahead) > 1:
            ahead.pop(0).block_until_ready()
    if carry is None:
        raise ValueError(_NO_WEIGHT)
    return carry, least


def _lanes(fn: Callable[..., Any], *trees: Any) -> Any:
    """`fn` of each lane; one after another on a CPU, where a lane by itself is fastest."""
    if jax.tree.leaves(trees)[0].shape[0] > 1:
        if jax.default_backend() == "cpu":
            return jax.lax.map(lambda lane: fn(*lane), trees)
        return jax.vmap(fn)(*trees)
    one = fn(*jax.tree.map(lambda a: a[0], trees))
    return jax.tree.map(lambda a: a[None], one)


@partial(jax.jit, static_argnames=("kind", "num_restarts"))
def _start(
    model: Any,
    batch: Batch,
    key: Any,
    value: Any,
    method: Any,
    stop: Stop,
    *,
    kind: str,
    num_restarts: int,
) -> Run:
    def one(restart: Any) -> Run:
        k_start = keys_of(key, restart)[0]
        q = start.make(model, batch, kind, value, k_start, restart, method.point)
        return begin(method.init(model, q, batch), stop)

    if num_restarts == 1:
        return jax.tree.map(lambda a: a[None], one(0))
    return jax.vmap(one)(jnp.arange(num_restarts))


@jax.jit
def _moments(method: Any, run: Run) -> Any:
    return _lanes(method.moments, run.state.proposal)


@jax.jit
def _nothing(model: Any, moments: Any, batch: Batch, total: Array) -> Any:
    def one(moments: Any) -> Any:
        zero = passes.nothing(lambda: passes.expect(model, moments, batch))
        return zero, passes.resolution(model, moments, batch, total)

    return _lanes(one, moments)


@partial(jax.jit, donate_argnums=0)
def _add(
    carry: Any, method: Any, model: Any, moments: Any, batch: Batch
) -> tuple[Any, Float[Array, ""]]:
    """The sums with one chunk more, and a number that is there when they are."""
    rows = getattr(method, "chunk", None)
    if rows is None and jax.default_backend() != "cpu":
        lanes = jax.tree.leaves(moments)[0].shape[0]  # all of them in the room of one
        most = passes.automatic_chunk(model.row_size(batch), batch.weight.dtype)
        rows = max(256, most // lanes)

    def one(carry: Any, moments: Any) -> Any:
        return passes.add(carry, passes.expect(model, moments, batch, rows))

    carry = _lanes(one, carry, moments)
    return carry, jnp.sum(carry[0][1])


@jax.jit
def _judge(
    method: Any, model: Any, run: Run, carry: Any, least: Array, total: Array, stop: Stop
) -> Run:
    def one(run: Run, carry: Any, least: Array) -> Run:
        new = passes.resolved(method.conclude(model, run.state, *passes.total(carry)), least)
        judged = judge(run, new, total, stop, method.monotone)
        return jax.tree.map(lambda a, b: jnp.where(run.running, a, b), judged, run)

    return _lanes(one, run, carry, least)


@partial(jax.jit, static_argnames="point")
def _end(run: Run, point: bool) -> Result:
    return best(_lanes(lambda lane: finish(lane, point), run))
