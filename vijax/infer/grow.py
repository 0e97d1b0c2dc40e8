"""Starts from a fit of fewer components: its components are halved into the empty ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..data.batch import Batch
from ..exponential_family import ExponentialFamily
from ..latent_class import SplitMergeModel
from ..model import Q
from .method import Method
from .split_merge import split_merge

_LEAST_ROWS = 0.5  # a component with fewer rows is empty
_LEAST_GAIN = 1e-3  # nats, with rounding on top


class Filling(NamedTuple):
    """The q to fill up, and the best q with one component halved, with its objective in nats.

    Number `turn` in order of size is the next to be halved.
    """

    q: Q
    best: Q
    objective: Float[Array, ""]
    turn: Int[Array, ""]
    done: Bool[Array, ""]


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
    return model.grow(q, batch.total_weight)


def grow(method: Method[Any], model: SplitMergeModel, batch: Batch, q: Q) -> Q:
    """The q after its components were halved into the empty ones; traceable.

    As many as there are empty ones are halved at a time, the largest first, and what gains is
    merged again, as in `split_merge`. The result is kept if it raises the bound of `method`; else
    it is the turn of the next ones, until all were halved in vain. So the bound is at least that
    of q.

    An estimate such as that of EM has no bound to decide on the number of components, so that all
    are filled, one at a time: each component is halved by itself, and the highest objective wins.
    """
    return _fill(method, model, batch, q) if method.point else _gain(method, model, batch, q)


def _sizes(model: SplitMergeModel, batch: Batch, q: Q) -> tuple[Array, Array]:
    """How many components have rows, noise too, and how many others are empty."""
    used = model.active & (model.expected_counts(q, batch.total_weight) > _LEAST_ROWS)
    number, free = jnp.sum(used, dtype=jnp.int32), jnp.sum(model.movable & ~used, dtype=jnp.int32)
    return number, free


def _gain(method: Method[Any], model: SplitMergeModel, batch: Batch, q: Q) -> Q:
    rounding = 8.0 * jnp.finfo(batch.weight.dtype).eps

    def goes_on(now: Growth) -> Array:
        used, free = _sizes(model, batch, now.q)
        return (free > 0) & (now.failed < used) & (now.trials < 4 * model.num_components)

    def step(now: Growth) -> Growth:
        used, free = _sizes(model, batch, now.q)
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


def _fill(method: Method[Any], model: SplitMergeModel, batch: Batch, q: Q) -> Q:
    least = 2.0 * (model.embed(batch).shape[1] + 1.0)  # rows, so that no likelihood is infinite
    lowest = jnp.asarray(-jnp.inf, batch.weight.dtype)
    total = batch.total_weight

    def step(now: Filling) -> Filling:
        used, free = _sizes(model, batch, now.q)
        q = split_merge(model, batch, now.q, now.turn, fitted=True, turn=now.turn, point=True)
        rows = model.expected_counts(q, total)
        small = jnp.any(model.movable & (rows > _LEAST_ROWS) & (rows < least))
        objective = method.evaluate(model, q, batch)
        objective = jnp.where(small | ~jnp.isfinite(objective), -jnp.inf, objective)
        # if all are too small to be halved, it is the largest
        better = (now.turn == 0) | (objective > now.objective)
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), q, now.best)
        objective = jnp.where(better, objective, now.objective)
        last = now.turn + 1 >= used
        kept = jax.tree.map(lambda a, b: jnp.where(last, a, b), best, now.q)
        left = _sizes(model, batch, kept)[1]
        return Filling(
            kept,
            best,
            jnp.where(last, lowest, objective),
            jnp.where(last, 0, now.turn + 1),
            last & ((left == 0) | (left >= free)),
        )

    full = _sizes(model, batch, q)[1] == 0
    first = Filling(q, q, lowest, jnp.asarray(0, jnp.int32), full)
    return lax.while_loop(lambda now: ~now.done, step, first).q
