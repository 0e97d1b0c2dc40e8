"""The one loop over data passes."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Key

from ..batch import Batch
from .result import Result, State, Status, Stop

_SLOWEST_RATE = 0.9  # a gain is never trusted to shrink faster than this
_PRIOR_ROWS = 1000.0  # more than the counts that a prior usually stands for
_ENDINGS = (Status.NON_FINITE, Status.ELBO_DECREASED, Status.CONVERGED, Status.MAX_ITER)


class Method(Protocol):
    """An algorithm: a first state and a step. Settings are its fields.

    `monotone` says that the objective must not fall, `point` that q stands for its point.
    """

    monotone: ClassVar[bool]
    point: ClassVar[bool]

    def init(self, model: Any, q: Any, batch: Batch) -> State:
        """A state whose proposal is `q`, not yet evaluated."""
        ...

    def step(self, model: Any, state: State, batch: Batch, key: Key[Array, ""] | None) -> State:
        """Evaluate the proposal and make the next one: one pass over the rows."""
        ...


def iterate(
    method: Any,
    model: Any,
    batch: Batch,
    q: Any,
    stop: Stop = Stop(),
    key: Key[Array, ""] | None = None,
) -> Result:
    """Drive one fit from `q` to its end. Pure and untransformed: jit it, vmap it, shard it.

    Sets CONVERGED, MAX_ITER, ELBO_DECREASED, NON_FINITE or COLLAPSED; never raises for values.
    """
    state = method.init(model, q, batch)
    dtype = state.elbo.dtype
    eps, huge = jnp.finfo(dtype).eps, jnp.finfo(dtype).max
    # a q that is off by 8 eps, relative to the counts of rows and prior, has moved so many nats
    rows = jnp.sum(batch.weight) + _PRIOR_ROWS
    noise = rows * (8.0 * eps) ** 2
    trace = jnp.full((stop.trace,), jnp.nan, dtype)

    def body(carry: Any) -> Any:
        state, i, _, streak, last_gain, trace = carry
        step_key = None if key is None else jax.random.fold_in(key, i)
        new = method.step(model, state, batch, step_key)
        trace = trace.at[i].set(new.elbo, mode="drop")
        first = i == 0
        gain = jnp.where(first, huge, new.gain)
        settled = _settled(gain, last_gain, stop.tol) | (gain <= noise)
        streak = jnp.where(settled, streak + 1, 0)
        finite = jnp.isfinite(new.elbo)
        drop = state.elbo - new.elbo
        fell = ~first & method.monotone & (drop > stop.slack * eps * (jnp.abs(new.elbo) + rows))
        i = i + 1
        status = jnp.select(
            [new.fault > 0, ~finite, fell, streak >= stop.patience, i >= stop.max_iter],
            [new.fault, *(_code(s) for s in _ENDINGS)],
            _code(Status.RUNNING),
        )
        keep = finite & (new.fault == 0) & ~fell
        state = jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, state)
        return state, i, status, streak, gain, trace

    zero = jnp.asarray(0, jnp.int32)
    start = (state, zero, _code(Status.RUNNING), zero, jnp.asarray(huge, dtype), trace)
    state, n, status, _, _, trace = lax.while_loop(
        lambda carry: carry[2] == Status.RUNNING, body, start
    )
    elbo = jnp.where(state.elbo > -huge, state.elbo, jnp.nan)
    return Result(state.q, elbo, status, n, trace, point=method.point)


def _code(status: Status) -> Array:
    return jnp.asarray(int(status), jnp.int32)


def _settled(gain: Array, last_gain: Array, tol: Any) -> Array:
    """Whether Aitken's forecast of all gains to come is at most `tol` nats."""
    ratio = gain / jnp.where(last_gain > 0, last_gain, jnp.inf)
    return gain <= tol * (1.0 - jnp.clip(ratio, _SLOWEST_RATE, 1.0))


def unevaluated(q: Any, batch: Batch, aux: Any = None) -> State:
    """The state before the first step; its objective is a sentinel that `iterate` never shows."""
    dtype = batch.weight.dtype
    lowest = jnp.asarray(-jnp.finfo(dtype).max, dtype)
    return State(q, q, lowest, jnp.zeros((), dtype), _code(Status.RUNNING), aux)
