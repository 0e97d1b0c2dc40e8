"""The one loop over data passes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree, replace
from ...data.batch import Batch
from ...model import Model, Q
from ..method import Method
from ..result import Result, State, Status, Stop
from .progress import Reporter, report

_SLOWEST_RATE = 0.9  # a gain is never trusted to shrink faster than this
_PRIOR_ROWS = 1000.0  # more than the counts that a prior usually stands for
_CIRCLES = 50  # steps without a rise of the gain that bring no new minimum: rounding, going round
_BAND = 16.0  # times that minimum: a gain beyond it has begun anew
_NEGLIGIBLE = 1e-4  # of `tol`, such a gain ...
_NOISE = 1e3  # ... and times the noise of well-conditioned data
_ENDINGS = (Status.NON_FINITE, Status.ELBO_DECREASED, Status.CONVERGED, Status.MAX_ITER)


@pytree
class Run:
    """A fit on its way: what `advance` carries. `elbo_trace` is NaN where nothing has run.

    `least` is the smallest gain since gains left its band, `age` the steps since that did not rise.
    """

    state: State
    n_iter: Int[Array, "*b"]
    status: Int[Array, "*b"]
    streak: Int[Array, "*b"]
    improvement: Float[Array, "*b"]
    least: Float[Array, "*b"]
    age: Int[Array, "*b"]
    elbo_trace: Float[Array, "*b t"]

    @property
    def running(self) -> Bool[Array, "*b"]:
        """Whether there is a step to take."""
        return self.status == Status.RUNNING


def begin(state: State, stop: Stop) -> Run:
    """A run of no steps, from `method.init`."""
    dtype = state.elbo.dtype
    zero = jnp.asarray(0, jnp.int32)
    huge = jnp.asarray(jnp.finfo(dtype).max, dtype)
    trace = jnp.full((stop.trace,), jnp.nan, dtype)
    return Run(state, zero, _code(Status.RUNNING), zero, huge, huge, zero, trace)


def accept(run: Run, new: State, total: Float[Array, ""], stop: Stop, monotone: bool) -> Run:
    """Accept or reject the state that a step has made, record its objective, update the status.

    `total` is the weight of all rows.
    """
    trace = run.elbo_trace.at[run.n_iter].set(new.elbo, mode="drop")
    return replace(update_status(run, new, total, stop, monotone), elbo_trace=trace)


def update_status(run: Run, new: State, total: Float[Array, ""], stop: Stop, monotone: bool) -> Run:
    """Accept or reject the new state and update the status, without a record in the trace."""
    dtype = new.elbo.dtype
    eps, huge = jnp.finfo(dtype).eps, jnp.finfo(dtype).max
    # a q that is off by 8 eps, relative to the counts of rows and prior, has moved so many nats
    rows = total + _PRIOR_ROWS
    noise = rows * (8.0 * eps) ** 2
    first = run.n_iter == 0
    improvement = jnp.where(first, huge, new.improvement)
    rate = (
        improvement / jnp.where(run.improvement > 0, run.improvement, jnp.inf)
        if new.rate is None
        else new.rate
    )
    anew = (improvement < run.least) | (improvement > _BAND * run.least)
    least = jnp.where(anew, improvement, run.least)
    # an escape from a saddle may be as slow, but rises from step to step
    age = jnp.where(anew, 0, run.age + (improvement <= run.improvement).astype(run.age.dtype))
    circles = (age >= _CIRCLES) & (
        improvement <= jnp.minimum(_NEGLIGIBLE * stop.tol, _NOISE * noise)
    )
    settled = _settled(improvement, rate, stop.tol) | (improvement <= noise) | circles
    streak = jnp.where(settled, run.streak + 1, 0)
    finite = jnp.isfinite(new.elbo)
    drop = run.state.elbo - new.elbo
    fell = ~first & monotone & (drop > stop.slack * eps * (jnp.abs(new.elbo) + rows))
    n_iter = run.n_iter + 1
    status = jnp.select(
        [new.failure > 0, ~finite, fell, streak >= stop.patience, n_iter >= stop.max_iter],
        [new.failure, *(_code(s) for s in _ENDINGS)],
        _code(Status.RUNNING),
    )
    keep = finite & (new.failure == 0) & ~fell
    state = jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, run.state)
    return Run(state, n_iter, status, streak, improvement, least, age, run.elbo_trace)


def advance(
    method: Method[Any],
    model: Model,
    batch: Batch,
    run: Run,
    stop: Stop,
    key: Key[Array, ""] | None,
) -> Run:
    """One step. Pure: drive many runs of your own with it."""
    step_key = None if key is None else jax.random.fold_in(key, run.n_iter)
    new = method.step(model, run.state, batch, step_key)
    return accept(run, new, jnp.sum(batch.weight), stop, method.monotone)


def finish(run: Run, point: bool) -> Result:
    """What a run has come to."""
    elbo = run.state.elbo
    elbo = jnp.where(elbo > -jnp.finfo(elbo.dtype).max, elbo, jnp.nan)
    return Result(run.state.q, elbo, run.status, run.n_iter, run.elbo_trace, point=point)


def iterate(
    method: Method[Any],
    model: Model,
    batch: Batch,
    q: Q,
    stop: Stop = Stop(),
    key: Key[Array, ""] | None = None,
    reporter: Reporter | None = None,
) -> Result:
    """Drive one fit from `q` to its end. Pure and untransformed: jit it, vmap it, shard it.

    With a `reporter` it tells how far it is, once for all lanes of a batch. Sets CONVERGED,
    MAX_ITER, ELBO_DECREASED, NON_FINITE or COLLAPSED; never raises for values.
    """

    def body(run: Run) -> Run:
        report(reporter, run.state.elbo, run.running, run.n_iter)
        return advance(method, model, batch, run, stop, key)

    run = lax.while_loop(lambda run: run.running, body, begin(method.init(model, q, batch), stop))
    report(reporter, run.state.elbo, run.running, run.n_iter, last=True)
    return finish(exact(method, model, batch, run), method.point)


def exact(method: Method[Any], model: Model, batch: Batch, run: Run) -> Run:
    """The run with the exact objective of its q, by a pass where the method's is an estimate."""
    if not method.estimates:
        return run
    state = run.state
    known = state.elbo > -jnp.finfo(state.elbo.dtype).max
    elbo = jnp.where(known, method.evaluate(model, state.q, batch), state.elbo)
    return replace(run, state=replace(state, elbo=elbo))


def _code(status: Status) -> Array:
    return jnp.asarray(int(status), jnp.int32)


def _settled(improvement: Array, rate: Array, tol: Any) -> Array:
    """Whether Aitken's forecast of all gains to come is at most `tol` nats."""
    return improvement <= tol * (1.0 - jnp.clip(rate, _SLOWEST_RATE, 1.0))


def unevaluated(q: Q, batch: Batch, memory: Any = None) -> State:
    """The state before the first step; its objective is a sentinel that `iterate` never shows."""
    dtype = batch.weight.dtype
    lowest = jnp.asarray(-jnp.finfo(dtype).max, dtype)
    return State(q, q, lowest, jnp.zeros((), dtype), _code(Status.RUNNING), memory)
