"""The loop of a fit: step, accept or reject, update the status, until it has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree, replace
from ...data.absent import absent, is_absent
from ...data.batch import Batch
from ...model import Model, Q
from ..method import Method
from ..result import Result, State, Stop
from ..status import Status
from .progress import Reporter, report

_Q = TypeVar("_Q")

CANCELLED = 0.125  # share of the magnitudes of terms that counts: their roundings cancel too
_SLOWEST_RATE = 0.9  # improvements are never trusted to shrink faster than this
_PRIOR_ROWS = 1000.0  # more than the counts that a prior usually stands for
# Improvements at rounding level can cycle for ever. They count as converged after _CYCLE steps that
# neither rose nor gave a new minimum, if they are below _NEGLIGIBLE * tol and below _NOISE times
# the usual rounding noise. An improvement above _BAND times the minimum starts the count again.
# Near the smallest numbers of the dtype rounding is coarser, and even the KL of a q that rests is
# not 0. So an improvement that equals the last one need not be below _NOISE times the noise.
_CYCLE = 50
_BAND = 16.0
_NEGLIGIBLE = 1e-4
_NOISE = 1e3
_BLURRED = 1e-2  # nats by which q may be off for the rounding of terms that cancel
_ENDINGS = (Status.NON_FINITE, Status.ELBO_DECREASED, Status.CONVERGED, Status.MAX_ITER)


@pytree
class Run:
    """A fit in progress, which `advance` takes one step further.

    `streak` counts the iterations in a row that forecast the end, and `improvement` is the last one
    in nats. `least` is the smallest improvement since they last left their band, and `age` the
    number of steps since then without a rise. `elbo_trace` is absent beyond `n_iter`. `elbo_se` is
    the standard error of the final objective, if that is an estimate.
    """

    state: State
    n_iter: Int[Array, "*b"]
    status: Int[Array, "*b"]
    streak: Int[Array, "*b"]
    improvement: Float[Array, "*b"]
    least: Float[Array, "*b"]
    age: Int[Array, "*b"]
    elbo_trace: Float[Array, "*b t"]
    elbo_se: Float[Array, "*b"] | None = None

    @property
    def running(self) -> Bool[Array, "*b"]:
        """Whether the fit has not ended yet."""
        return self.status == Status.RUNNING


def begin(state: State, stop: Stop) -> Run:
    """The run before its first step, from the state of `method.init`."""
    dtype = state.elbo.dtype
    zero = jnp.asarray(0, jnp.int32)
    huge = jnp.asarray(jnp.finfo(dtype).max, dtype)
    trace = absent((stop.trace,), dtype)
    return Run(state, zero, _code(Status.RUNNING), zero, huge, huge, zero, trace)


def accept(run: Run, new: State, total: Float[Array, ""], stop: Stop, monotone: bool) -> Run:
    """Accept or reject the new state, record its objective, and update the status.

    `total` is the sum of the weights of all rows, or of the steps of all sequences.
    """
    trace = run.elbo_trace.at[run.n_iter].set(new.elbo, mode="drop")
    return replace(update_status(run, new, total, stop, monotone), elbo_trace=trace)


def update_status(run: Run, new: State, total: Float[Array, ""], stop: Stop, monotone: bool) -> Run:
    """Accept or reject the new state and update the status; `elbo_trace` stays as it is."""
    dtype = new.elbo.dtype
    eps, huge = jnp.finfo(dtype).eps, jnp.finfo(dtype).max
    # KL in nats of a q that is off by 8 eps, relative to the counts of rows and prior
    rows = total + _PRIOR_ROWS
    noise = rows * (8.0 * eps) ** 2
    first = run.n_iter == 0
    improvement = jnp.where(first, huge, new.improvement)
    rate = new.rate
    if rate is None:
        rate = improvement / jnp.where(run.improvement > 0, run.improvement, jnp.inf)
    restart = (improvement < run.least) | (improvement > _BAND * run.least)
    least = jnp.where(restart, improvement, run.least)
    # an escape from a saddle may be as slow, but its improvements rise from step to step
    age = jnp.where(restart, 0, run.age + (improvement <= run.improvement).astype(run.age.dtype))
    small = (improvement <= _NOISE * noise) | (improvement == run.improvement)
    cycling = (age >= _CYCLE) & (improvement <= _NEGLIGIBLE * stop.tol) & small
    # Aitken's forecast of all improvements to come: improvement / (1 - rate)
    forecast = improvement <= stop.tol * (1.0 - jnp.maximum(rate, _SLOWEST_RATE))
    settled = forecast | (improvement <= noise) | cycling
    streak = jnp.where(settled, run.streak + 1, 0)
    finite = jnp.isfinite(new.elbo)
    drop = run.state.elbo - new.elbo
    size = jnp.abs(new.elbo) + rows + _cancelled(new, total)
    new = replace(new, magnitude=None)
    fell = ~first & monotone & (drop > stop.slack * eps * size)
    n_iter = run.n_iter + 1
    status = jnp.select(
        [new.failure > 0, ~finite, fell, streak >= stop.patience, n_iter >= stop.max_iter],
        [new.failure, *(_code(s) for s in _ENDINGS)],
        _code(Status.RUNNING),
    )
    keep = finite & (new.failure == 0) & ~fell
    state = jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, run.state)
    return Run(state, n_iter, status, streak, improvement, least, age, run.elbo_trace)


def _cancelled(new: State, total: Float[Array, ""]) -> Float[Array, ""] | float:
    """Nats of terms that cancel in the objective, which its rounding is relative to as well.

    An objective that is off by e nats is of a q that may be off by e^2 / rows nats. Where that is
    seen, a fall is no mere rounding, and the terms do not count.
    """
    if new.magnitude is None:
        return 0.0
    terms = CANCELLED * new.magnitude
    sound = (jnp.finfo(terms.dtype).eps * terms) ** 2 <= _BLURRED * total
    return jnp.where(sound, terms, 0.0)


def advance(
    method: Method[Any],
    model: Model,
    batch: Batch,
    run: Run,
    stop: Stop,
    key: Key[Array, ""] | None,
) -> Run:
    """The run after one step of the method."""
    step_key = None if key is None else jax.random.fold_in(key, run.n_iter)
    new = method.step(model, run.state, batch, step_key)
    monotone = method.monotone and model.ascends(kept=True)
    return accept(run, new, batch.total_weight, stop, monotone)


def unless(stopped: Bool[Array, ""] | None, step: Callable[[Run], Run], run: Run) -> Run:
    """The run after `step`, or INTERRUPTED if it is stopped, without the step."""
    if stopped is None:
        return step(run)
    return lax.cond(stopped, interrupted, step, run)


def interrupted(run: Run) -> Run:
    """The run with status INTERRUPTED if it has not ended."""
    return replace(run, status=jnp.where(run.running, _code(Status.INTERRUPTED), run.status))


def finish(run: Run, point: bool) -> Result:
    """The Result of a run."""
    elbo = run.state.elbo
    elbo = jnp.where(is_absent(elbo), jnp.nan, elbo)
    own = run.state.q, elbo, run.status, run.n_iter, run.elbo_trace
    return Result(*own, elbo_se=run.elbo_se, point=point)


def iterate(
    method: Method[Any],
    model: Model[_Q],
    batch: Batch,
    q: Q,
    stop: Stop = Stop(),
    key: Key[Array, ""] | None = None,
    reporter: Reporter | None = None,
) -> Result[_Q]:
    """Run one fit from `q` to its end, without checks, jit or vmap of its own.

    Its status is CONVERGED, MAX_ITER, ELBO_DECREASED, NON_FINITE, COLLAPSED, or INTERRUPTED by the
    reporter; it never raises for values.

    Args:
        method: The algorithm, such as `CAVI()`.
        model: A model that suits the method.
        batch: The rows, in the form of `model.as_batch`.
        q: The starting point, such as `model.init(key, batch)`.
        stop: When to stop.
        key: A typed key, for methods that draw, such as `SVI`.
        reporter: Where to report the progress of all lanes of a batch; None is nowhere.

    Example:
        x, _ = vx.datasets.three_clusters()
        model, batch = vx.GaussianMixture.from_data(x, 3), vx.Batch.of(x)
        q = model.init(jax.random.key(0), batch)
        result = jax.jit(vx.iterate)(vx.CAVI(), model, batch, q)
    """

    def body(run: Run) -> Run:
        stopped = report(reporter, run.state.elbo, run.running, run.n_iter)
        return unless(stopped, lambda run: advance(method, model, batch, run, stop, key), run)

    run = lax.while_loop(lambda run: run.running, body, begin(method.init(model, q, batch), stop))
    report(reporter, run.state.elbo, run.running, run.n_iter, last=True)
    return finish(exact(method, model, batch, run), method.point)


def exact(method: Method[Any], model: Model, batch: Batch, run: Run) -> Run:
    """The run with the best known objective of its q, if that of a step is an estimate."""
    if not (method.estimates or model.estimates):
        return run
    state = run.state
    better, elbo_se = method.estimate(model, state.q, batch)
    elbo = jnp.where(is_absent(state.elbo), state.elbo, better)
    return replace(run, state=replace(state, elbo=elbo), elbo_se=elbo_se)


def _code(status: Status) -> Array:
    return jnp.asarray(int(status), jnp.int32)


def unevaluated(q: Q, batch: Batch, memory: Any = None, rows: Any = None) -> State:
    """The state before the first step; its objective is absent, which `finish` makes NaN."""
    dtype = batch.weight.dtype
    none = absent((), dtype), jnp.zeros((), dtype), _code(Status.RUNNING)
    return State(q, q, *none, memory, rows=rows)
