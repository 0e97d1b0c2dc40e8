"""From many narrow components to as few as the rows support, by exact gains of the bound."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._pytree import replace
from ..data.batch import Batch
from ..model import Q, SplitMergeModel
from ..numerics import special
from .run.passes import accumulate, automatic_chunk

_HARD = 5  # passes at first in which each row belongs to one component, so that seeds part the rows
_SHARP = 1e4  # times log_joint: a row belongs to the component that is best for it
_FIRST = 8  # passes before the first merges
_BETWEEN = 3  # passes between merges
# times r (1 - r) it is at most the entropy in nats of a choice with chances r and 1 - r
_LEAST_ENTROPY = 4.0 * math.log(2.0)
_ALONE = 3  # the restart that begins with a single component
_LEAST_ROWS = 0.5  # a component with fewer rows is empty
_MOST_ROWS = 16384  # evenly spread rows, which are enough to merge


class Merging(NamedTuple):
    """A search for merges under way.

    `common` is sum_n w_n r_j r_k of the last pass, `heir` the component that gets the rows of each
    in the next one, and `until` the number of passes before merges are looked for again.
    """

    q: Q
    common: Float[Array, "k k"]
    heir: Int[Array, "k"]
    until: Int[Array, ""]
    rounds: Int[Array, ""]
    done: Bool[Array, ""]


def merge(model: SplitMergeModel, batch: Batch, q: Q, restart: Int[Array, ""] | int = 0) -> Q:
    """The q after passes over the rows in which pairs of components are merged.

    A pair is merged if that raises the bound, with the responsibilities of all others as they are,
    and if neither has a better partner. The gain is exact: `merge_gain` less the entropy lost,
    sum_n w_n [(r_j + r_k) log(r_j + r_k) - r_j log r_j - r_k log r_k]. Of the partners that might
    gain, the best before the overlap is looked at. It ends when no pair gains. Restart 3 merges on
    to a single component, since two halves of one cluster are a local optimum.
    """
    batch = _some(batch)
    k = model.num_components
    chunk = automatic_chunk(model.row_size(batch), batch)
    own = jnp.arange(k)
    named = _labelled(batch, k)
    alone = jnp.asarray(restart) == _ALONE

    def one_pass(
        part: Batch, model: SplitMergeModel, moments: Any, partner: Array, heir: Array, hard: Array
    ) -> tuple[Any, Array]:
        def change(log_joint: Array) -> tuple[Array, Array]:
            resp, _ = special.normalize(jnp.where(hard, _SHARP, 1.0) * log_joint)
            other = resp[:, partner]
            lost = _x_log_x(resp + other) - _x_log_x(resp) - _x_log_x(other)
            merged = resp @ (heir[:, None] == own).astype(resp.dtype)
            exact = jnp.sum(_weighted(part, lost), 0)
            return merged, jnp.append(_weighted(part, merged).T @ merged, exact[:, None], 1)

        return model.reassign(moments, part, change)

    def step(now: Merging) -> Merging:
        q, common = now.q, _LEAST_ENTROPY * now.common
        used = model.movable & (model.expected_weights(q) * rows > _LEAST_ROWS)
        # most passes need no gain, and with many components it is most of the work
        due = (now.until <= 0) & jnp.all(now.heir == own)
        gain = lax.cond(due, model.merge_gain, lambda q: jnp.zeros_like(common), q)
        gain = _allowed(gain - common, used, named)
        partner = jnp.argmax(gain, 1)
        hard = now.until > _FIRST - _HARD
        args = model, q.moments(), partner, now.heir, hard
        stats, sums = accumulate(one_pass, batch, chunk, *args)
        gain = gain[own, partner] + common[own, partner] - sums[:, k]
        gain = jnp.where(alone & jnp.isfinite(gain), 1.0, gain)
        heir = jnp.where(due, _heirs(gain, partner, named), own)
        merged = jnp.any(heir != own)
        until = jnp.where(merged, _BETWEEN, now.until - 1)
        rounds = now.rounds + merged.astype(jnp.int32)
        done = (due & ~merged) | (rounds >= k)
        return Merging(model.update(q, stats), sums[:, :k], heir, until, rounds, done)

    rows = jnp.sum(batch.weight)
    zero = jnp.asarray(0, jnp.int32)
    until = jnp.asarray(_FIRST, jnp.int32)
    first = Merging(q, jnp.zeros((k, k), rows.dtype), own, until, zero, jnp.asarray(False))
    return lax.while_loop(lambda now: ~now.done, step, first).q


def _some(batch: Batch) -> Batch:
    """At most `_MOST_ROWS` rows, evenly spread, with the weight of all."""
    n = batch.weight.shape[0]
    if n <= _MOST_ROWS or batch.sharding is not None:
        return batch
    part = batch.take(jnp.arange(0, n, -(-n // _MOST_ROWS)))
    scale = jnp.sum(batch.weight) / jnp.sum(part.weight)
    return replace(part, weight=part.weight * scale)


def _labelled(batch: Batch, k: int) -> Bool[Array, "k"]:
    """Which components have rows of known label."""
    if batch.label is None:
        return jnp.zeros(k, bool)
    label = jnp.where(batch.weight > 0, batch.label, -1)
    return jnp.any(label[:, None] == jnp.arange(k, dtype=label.dtype), 0)


def _allowed(
    gain: Float[Array, "k k"], used: Bool[Array, "k"], named: Bool[Array, "k"]
) -> Float[Array, "k k"]:
    """The gains of pairs in use that are not both `named` by labels; -inf for all others."""
    pairs = used[:, None] & used & ~(named[:, None] & named)
    pairs = pairs & ~jnp.eye(used.shape[0], dtype=bool)
    return jnp.where(pairs & ~jnp.isnan(gain), gain, -jnp.inf)


def _heirs(
    gain: Float[Array, "k"], partner: Int[Array, "k"], named: Bool[Array, "k"]
) -> Int[Array, "k"]:
    """The component that gets the rows of each.

    Of two that chose each other it is the named one, or the first.
    """
    own = jnp.arange(gain.shape[0])
    agreed = (partner[partner] == own) & (gain > 0)
    first = jnp.where(named[partner], partner, jnp.minimum(own, partner))
    return jnp.where(agreed & ~named, first, own)


def _weighted(batch: Batch, values: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """Weights times values of the rows; 0 for rows of weight 0, which may hold anything."""
    weight = batch.weight[:, None]
    return jnp.where(weight > 0, weight * values, 0.0)


def _x_log_x(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return special.xlogy(x, jnp.log(jnp.where(x > 0, x, 1.0)))
