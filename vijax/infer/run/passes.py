"""One pass over the rows: the E-step of every row, summed in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..._pytree import replace
from ...data.batch import Batch
from ...data.chunked import accumulate, accumulate_and_map, automatic_chunk
from ...kernel import Kernel
from ...model import ConditionalModel, EStep, Model
from ..method import FullPassMethod
from ..result import State

_T = TypeVar("_T")

_ROUNDING = 8.0  # eps of an objective, below which its gain is rounding


class Pass(NamedTuple):
    """The sums of one pass over the rows.

    `stats` are the expected sufficient statistics, and `log_z` is sum_n w_n log Z_n in nats, so
    that ELBO = log_z - KL(q || p). `floor` is the part of KL(q || last), in nats per unit of row
    weight, that may be rounding of `stats`. `rows` is the renewed state of the rows, if they have
    one.
    """

    stats: Any
    log_z: Float[Array, ""]
    floor: Float[Array, ""]
    rows: Any = None


def expect(
    model: ConditionalModel,
    moments: Any,
    batch: Batch,
    chunk: int | None = None,
    rows: Any = None,
) -> Pass:
    """E-step over all rows, by the fastest kernel that is reliable for them.

    It goes on from the state `rows` of the rows, if there is one, and otherwise afresh.
    """

    def summed(part: Batch, e: EStep) -> tuple[Any, Array]:
        return e.stats, jnp.sum(jnp.where(part.weight > 0, part.weight * e.log_z, 0.0))

    def e_step(part: Batch, model: ConditionalModel, moments: Any) -> tuple[Any, Array]:
        return summed(part, model.local(moments, part))

    def from_rows(both: Any, model: ConditionalModel, moments: Any) -> tuple[Any, Array, Any]:
        part, own = both
        e = model.local_from(moments, part, own)
        return *summed(part, e), e.rows

    def with_kernel(kernel: Kernel) -> tuple[Any, Array, Any]:
        size = chunk or automatic_chunk(kernel.row_size, batch)
        size = size if model.by_row else batch.weight.shape[0]
        if rows is None:
            own = _by_length(batch) if _is_cut(batch, size) else batch
            return *accumulate(e_step, own, size, model, kernel.moments), None
        return accumulate_and_map(from_rows, (batch, rows), size, model, kernel.moments)

    def with_first_reliable(kernels: Sequence[Kernel]) -> tuple[Any, Array, Any]:
        first, *others = kernels
        if not others:
            return with_kernel(first)
        return lax.cond(
            first.reliable, lambda: with_kernel(first), lambda: with_first_reliable(others)
        )

    kernels = model.kernels(moments, batch)
    stats, log_z, rows = with_first_reliable(kernels)
    return Pass(stats, log_z, _floor(kernels, log_z), rows)


def _is_cut(batch: Batch, size: int) -> bool:
    """Whether the rows are sequences that are summed in chunks, on one device."""
    several = batch.weight.shape[0] > 2 * size
    return batch.steps is not None and batch.sharding is None and several


def _by_length(batch: Batch) -> Batch:
    """The sequences by length, so that those of a chunk are alike, and it costs what they need."""
    length = jnp.sum(batch.exists & (batch.weight > 0)[:, None], 1, dtype=jnp.int32)
    return batch.take(jnp.argsort(length))


def full_pass(method: FullPassMethod, model: ConditionalModel, state: State, batch: Batch) -> State:
    """A step of a method that needs only the sums of one pass over all rows."""
    moments = method.moments(state.next_q)
    found = expect(model, moments, batch, method.chunk, state.rows)
    new = method.conclude(model, state, found.stats, found.log_z)
    new = floored(new, found.floor * batch.total_weight)
    return new if found.rows is None else _with_gain_of_rows(state, new, found.rows)


def _with_gain_of_rows(state: State, new: State, rows: Any) -> State:
    """The new state with these rows, which may gain where q rests: its improvement is at least so.

    A gain that may be rounding does not count.
    """
    gain = new.elbo - state.elbo
    seen = gain > _ROUNDING * jnp.finfo(gain.dtype).eps * jnp.abs(new.elbo)
    improvement = jnp.where(seen, jnp.maximum(new.improvement, gain), new.improvement)
    return replace(new, improvement=improvement, rows=rows)


def has_fast_kernels(model: Model, batch: Batch) -> bool:
    """Whether the model has kernels besides the exact one for such rows."""
    if not isinstance(model, ConditionalModel):
        return False
    return constant_of(lambda m, b: len(m.kernels(m.template.moments(), b)) > 1, model, batch)


def constant_of(fn: Callable[..., _T], *args: Any) -> _T:
    """`fn(*args)` where it depends on shapes alone: found by tracing, so nothing is computed."""
    found: list[_T] = []
    jax.eval_shape(lambda *args: found.append(fn(*args)), *args)
    return found[0]


# -- rounding -------------------------------------------------------------------------------------


def rounding_floor(model: ConditionalModel, moments: Any, batch: Batch) -> Float[Array, ""]:
    """Rounding floor of KL(q || last) after a pass over these rows, in nats per unit of weight.

    It is 0.5 err^2 for a relative error `err` of the statistics.
    """
    return _floor(model.kernels(moments, batch), jnp.sum(batch.weight))


def _floor(kernels: tuple[Kernel, ...], like: Float[Array, ""]) -> Float[Array, ""]:
    """The floor of the first reliable kernel; the last kernel is exact and has none."""
    floor = jnp.zeros_like(like)
    for kernel in kernels[-2::-1]:
        floor = jnp.where(kernel.reliable, 0.5 * kernel.error**2, floor)
    return floor


def floored(state: State, floor: Float[Array, ""]) -> State:
    """The state with an improvement of at most `floor` nats, which is rounding, set to zero."""
    kept = jnp.where(state.improvement > floor, state.improvement, 0.0)
    return replace(state, improvement=kept)
