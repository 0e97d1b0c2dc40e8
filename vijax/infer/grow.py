"""Starts from a fit of fewer components: its components are halved into the empty ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..data.batch import Batch
from ..exponential_family import ExponentialFamily
from ..model import Q, SplitMergeModel
from .method import Method
from .split_merge import split_merge

_LEAST_ROWS = 0.5  # a component with fewer rows is empty
_LEAST_GAIN = 1e-3  # nats, with rounding on top


class Growth(NamedTuple):
    """The best q so far with its bound in nats.

    `turn` is the number of the component to halve next, in order of size, and `failed` how many
    were halved in vain since the bound last gained. `trials` counts all trials.
    """

    q: Q
    bound: Float[Array, ""]
    turn: Int[Array, ""]
    failed: Int[Array, ""]
    trials: Int[Array, ""]


def embed(model: SplitMergeModel, q: ExponentialFamily, batch: Batch) -> Q:
    """The q as one of a model with more components, which are empty; traceable."""
    return model.grow(q, jnp.sum(batch.weight))


def grow(method: Method[Any], model: SplitMergeModel, batch: Batch, q: Q) -> Q:
    """The q after its components were halved into the empty ones; traceable.

    As many as there are empty ones are halved at a time, the largest first, and what gains is
    merged again, as in `split_merge`. The result is kept if it raises the bound of `method`; else
    it is the turn of the next ones, until all were halved in vain. So the bound is at least that
    of q. An estimate such as that of EM has no bound to decide on the number of components: the
    largest are halved until none is empty.
    """
    if method.point:
        return split_merge(model, batch, q, fitted=True, point=True)
    total, dtype = jnp.sum(batch.weight), batch.weight.dtype
    rounding = 8.0 * jnp.finfo(dtype).eps

    def sizes(q: Q) -> tuple[Array, Array]:
        used = model.movable & (model.expected_counts(q, total) > _LEAST_ROWS)
        return jnp.sum(used, dtype=jnp.int32), jnp.sum(model.movable & ~used, dtype=jnp.int32)

    def goes_on(now: Growth) -> Array:
        used, free = sizes(now.q)
        return (free > 0) & (now.failed < used) & (now.trials < 4 * model.num_components)

    def step(now: Growth) -> Growth:
        used, free = sizes(now.q)
        q = split_merge(model, batch, now.q, now.trials, fitted=True, turn=now.turn)
        bound = method.evaluate(model, q, batch)
        better = bound > now.bound + _LEAST_GAIN + rounding * jnp.abs(now.bound)
        tried = jnp.minimum(used, free)
        kept = jax.tree.map(lambda a, b: jnp.where(better, a, b), q, now.q)
        return Growth(
            kept,
            jnp.where(better, bound, now.bound),
            jnp.where(better, 0, now.turn + tried),
            jnp.where(better, 0, now.failed + tried),
            now.trials + 1,
        )

    zero = jnp.asarray(0, jnp.int32)
    first = Growth(q, method.evaluate(model, q, batch), zero, zero, zero)
    return lax.while_loop(goes_on, step, first).q
