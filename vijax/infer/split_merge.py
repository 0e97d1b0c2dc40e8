"""The start of a mixture: components merged and halved, by exact gains of the bound."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._pytree import replace
from ..data.batch import Batch
from ..data.chunked import accumulate, automatic_chunk
from ..latent_class import SplitMergeModel
from ..model import Q
from ..numerics import linalg, special

_SOFT = 3  # passes with responsibilities before merges, and between them
_HARD = 5  # passes before these at first, in which each row belongs to a single component
_HARD_HALVES = 3  # the same after components were halved
_SHARP = 1e4  # times log_joint: a row belongs to the component that is best for it
# times r (1 - r) it is at most the entropy in nats of a choice with chances r and 1 - r
_LEAST_ENTROPY = 4.0 * math.log(2.0)
_ALONE = 3  # the restart that begins with a single component
_LEAST_ROWS = 0.5  # a component with fewer rows is empty
_LEAST_VARIANCE = 1e-4  # of a column in a component, in the space of `embed`
_MOST_ROWS = 16384  # evenly spread rows, which are enough for a start


class Partition(NamedTuple):
    """Components under way to as many as the rows support.

    In the next pass each component gives its rows to its `heir`; if `halving`, only those beyond
    its `middle` along its `axis`, the direction in which it is widest in the space of `embed`.
    `common` is sum_n w_n r_j r_k of the last pass, and `size` sum_n w_n r_k. Passes count down from
    `until` to the next look for merges, `splits` of all components are left to be tried, and
    `rounds` have merged some.
    """

    q: Q
    common: Float[Array, "k k"]
    size: Float[Array, "k"]
    heir: Int[Array, "k"]
    axis: Float[Array, "k f"]
    middle: Float[Array, "k f"]
    halving: Bool[Array, ""]
    until: Int[Array, ""]
    splits: Int[Array, ""]
    rounds: Int[Array, ""]
    done: Bool[Array, ""]


class Chances(NamedTuple):
    """What may become of each component.

    `gain` is that of a merge with its `partner` in nats, but for their overlap, and `slot` is the
    empty component that gets a half of its rows, or itself.
    """

    partner: Int[Array, "k"]
    gain: Float[Array, "k"]
    slot: Int[Array, "k"]


def split_merge(
    model: SplitMergeModel,
    batch: Batch,
    q: Q,
    restart: Int[Array, ""] | int = 0,
    *,
    fitted: bool = False,
    turn: Int[Array, ""] | int = 0,
    point: bool = False,
) -> Q:
    """The q after passes over the rows in which components are merged, halved and merged again.

    A pair is merged if that raises the bound, with the responsibilities of all others as they are,
    and if neither has a better partner. The gain is exact: `merge_gain` less the entropy lost,
    sum_n w_n [(r_j + r_k) log(r_j + r_k) - r_j log r_j - r_k log r_k]. Of the partners that might
    gain, the best before the overlap is looked at. Once no pair gains, every component is halved
    where it is widest, as far as others are empty, and what gains is merged again.

    Restart 3 begins with all rows in one component, which is halved until there may be one for each
    cluster. In every other halving, columns count by their width in the component.

    A `fitted` q is looked at without passes before, and noise is halved too. If not all components
    can be halved, those from number `turn` on are, in order of size. With `point`, as for EM, q is
    read at its point, nothing is merged, and only one component is halved.
    """
    k = model.num_components
    if k == 1:
        return q
    batch = _some(batch)
    points = model.embed(batch)
    f = points.shape[1]
    chunk = automatic_chunk(model.row_size(batch), batch)
    own, dtype = jnp.arange(k), batch.weight.dtype
    restart = jnp.asarray(restart, jnp.int32)
    named = batch.labelled(k)

    def chances(now: Partition) -> Chances:
        used = model.movable & (now.size > _LEAST_ROWS)
        # rows of noise may be a cluster that had no component
        givers = model.active & (now.size > _LEAST_ROWS) if fitted else used
        slot = _slots(now.size, givers & ~named, model.movable & ~used, turn, 1 if point else k)
        if point:
            return no_chances(now)._replace(slot=slot)
        gain = _allowed(model.merge_gain(now.q) - _LEAST_ENTROPY * now.common, used, named)
        partner = jnp.argmax(gain, 1)
        gain = (gain + _LEAST_ENTROPY * now.common)[own, partner]
        return Chances(partner, gain, slot)

    def no_chances(now: Partition) -> Chances:
        return Chances(own, jnp.full(k, -jnp.inf, dtype), own)

    def one_pass(
        rows: Any, model: SplitMergeModel, now: Partition, partner: Array, due: Array
    ) -> tuple[Any, Array]:
        part, z = rows
        hard = now.until > _SOFT

        def change(log_joint: Array) -> tuple[Array, Array]:
            resp, _ = special.normalize(jnp.where(hard, _SHARP, 1.0) * log_joint)
            lost = lax.cond(due, _lost_entropy, lambda r, _: jnp.zeros_like(r), resp, partner)
            place = linalg.matmul(z, now.axis.T) - jnp.sum(now.axis * now.middle, 1)[None]
            given = jnp.where(now.halving & (place <= 0), 0.0, resp)
            heir = (now.heir[:, None] == own[None]).astype(resp.dtype)
            new = resp - given + linalg.matmul(given, heir)
            counts = _weighted(part, new)
            left = jnp.concatenate([counts, counts * place], 1)
            right = jnp.concatenate([new, jnp.ones_like(z[:, :1]), z, z**2], 1)
            sums = linalg.matmul(left.T, right)
            lost = jnp.tile(jnp.sum(_weighted(part, lost), 0), 2)[:, None]
            return new, jnp.concatenate([sums, lost], 1)

        moments = now.q.point() if point else now.q.moments()
        return model.reassign(moments, part, change)

    def step(now: Partition) -> Partition:
        due = now.until <= 0
        partner, gain, slot = lax.cond(due, chances, no_chances, now)
        stats, sums = accumulate(one_pass, (batch, points), chunk, model, now, partner, due)
        common, total, point, square, lost = jnp.split(
            sums, [k, k + 1, k + 1 + f, k + 1 + 2 * f], 1
        )
        middle = point[:k] / jnp.where(total[:k] > 0, total[:k], 1.0)
        spread = point[k:] - total[k:] * middle
        variance = square[:k] / jnp.where(total[:k] > 0, total[:k], 1.0) - middle**2
        by_column = (restart + now.splits) % 2 == 0
        spread = spread / jnp.where(by_column, jnp.maximum(variance, _LEAST_VARIANCE), 1.0)
        axis = _unit(spread, now.axis)

        heir = _heirs(gain - lost[:k, 0], partner, named)
        merged = jnp.any(heir != own)
        halving = due & ~merged & (now.splits > 0) & jnp.any(slot != own)
        heir = jnp.where(halving, slot, heir)
        until = jnp.where(merged, _SOFT, now.until - 1)
        until = jnp.where(halving, _HARD_HALVES + _SOFT, until)
        rounds = now.rounds + merged.astype(jnp.int32)
        done = (due & ~merged & ~halving) | (rounds >= 4 * k)
        splits = now.splits - halving.astype(jnp.int32)

        common, size = common[:k], total[:k, 0]
        order = model.order(now.q, stats)
        if order is not None:  # the update puts components in order of size
            stats = model.reorder(stats, order)
            common, size = common[order][:, order], size[order]
            axis, middle = axis[order], middle[order]
            heir = jnp.argsort(order)[heir[order]]
        q = model.combine(now.q, stats)
        return Partition(q, common, size, heir, axis, middle, halving, until, splits, rounds, done)

    alone = (restart == _ALONE) & (not fitted)
    free = model.movable & ~named
    # a direction that no symmetry of the columns keeps
    axis = jnp.broadcast_to(jnp.linspace(0.5, 1.0, f, dtype=points.dtype), (k, f))
    first = Partition(
        q=q,
        common=jnp.zeros((k, k), dtype),
        size=jnp.zeros(k, dtype),
        heir=jnp.where(alone & free, jnp.argmax(free), own),
        axis=axis,
        middle=jnp.zeros_like(axis),
        halving=jnp.asarray(False),
        until=jnp.where(alone, _SOFT, 1 if fitted else _HARD + _SOFT).astype(jnp.int32),
        splits=jnp.where(alone, math.ceil(math.log2(k)), 1).astype(jnp.int32),
        rounds=jnp.asarray(0, jnp.int32),
        done=jnp.asarray(False),
    )
    return lax.while_loop(lambda now: ~now.done, step, first).q


def _some(batch: Batch) -> Batch:
    """At most `_MOST_ROWS` rows, evenly spread, with the weight of all."""
    n = batch.weight.shape[0]
    if n <= _MOST_ROWS or batch.sharding is not None:
        return batch
    part = batch.take(jnp.arange(0, n, -(-n // _MOST_ROWS)))
    scale = jnp.sum(batch.weight) / jnp.sum(part.weight)
    return replace(part, weight=part.weight * scale)


# -- merges ---------------------------------------------------------------------------------------


def _allowed(
    gain: Float[Array, "k k"], used: Bool[Array, "k"], named: Bool[Array, "k"]
) -> Float[Array, "k k"]:
    """The gains of pairs in use that are not both `named` by labels; -inf for all others."""
    pairs = used[:, None] & used[None] & ~(named[:, None] & named[None])
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


def _lost_entropy(resp: Float[Array, "n k"], partner: Int[Array, "k"]) -> Float[Array, "n k"]:
    """The entropy in nats of the choice between each component and its partner."""
    other = resp[:, partner]
    return _x_log_x(resp + other) - _x_log_x(resp) - _x_log_x(other)


# -- halves ---------------------------------------------------------------------------------------


def _unit(vector: Float[Array, "k f"], otherwise: Float[Array, "k f"]) -> Float[Array, "k f"]:
    """Vectors of length one; `otherwise` where there is no direction."""
    length = jnp.sqrt(jnp.sum(vector**2, 1, keepdims=True))
    return jnp.where(length > 0, vector / jnp.where(length > 0, length, 1.0), otherwise)


def _slots(
    size: Float[Array, "k"],
    used: Bool[Array, "k"],
    free: Bool[Array, "k"],
    turn: Int[Array, ""] | int,
    most: int,
) -> Int[Array, "k"]:
    """The free component for one half of each used one, or itself.

    At most `most` are handed out, by size, the largest first, from number `turn` of the used on.
    """
    own = jnp.arange(size.shape[0])
    number = jnp.sum(used)
    rank = jnp.argsort(jnp.argsort(jnp.where(used, -size, jnp.inf), stable=True), stable=True)
    rank = jnp.where(used, (rank - jnp.asarray(turn, own.dtype)) % jnp.maximum(number, 1), own.size)
    order = jnp.argsort(rank, stable=True)
    slot = jnp.argsort(~free, stable=True)
    number = jnp.minimum(jnp.minimum(number, jnp.sum(free)), most)
    return own.at[order].set(jnp.where(own < number, slot, order))


def _weighted(batch: Batch, values: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """Weights times values of the rows; 0 for rows of weight 0, which may hold anything."""
    weight = batch.weight[:, None]
    return jnp.where(weight > 0, weight * values, 0.0)


def _x_log_x(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return special.xlogy(x, jnp.log(jnp.where(x > 0, x, 1.0)))
