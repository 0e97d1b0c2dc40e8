"""Search over structures inside a fit: merge, delete, split, birth; kept where the bound rises."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from .._pytree import pytree, replace
from ..data.batch import Batch
from ..model import Q, SplitMergeModel
from ..numerics import seeding, special
from .method import Method
from .result import Result, Status, Stop
from .run.loop import iterate
from .run.passes import accumulate, automatic_chunk, map_rows
from .run.progress import Reporter, report

_KINDS = (0.35, 0.30, 0.15, 0.20)  # shares of split, merge, delete, birth among the proposals
_LLOYD_STEPS = 3  # that place the two halves of a split
_TEMPERATURE = 4.0  # nats of noise in the choice of a pair to merge


@pytree
class Moves:
    """How long to search. Numbers are traced, so that a new value never compiles anew.

    After a plain fit, proposals change the assignment of rows to components: one component is
    split along the two halves of its rows, two are merged (the pair by the exact gain of their
    statistics, Hughes & Sudderth 2013), one is deleted, or one is born around a badly explained
    row. Where no component is free, splits and births merge a pair first (Ueda et al. 2000).
    A proposal runs for at most `sweeps` iterations, and replaces the fit if its objective is
    higher by `min_improvement` nats. The search ends after `patience` proposals in a row that were
    not, or `max_trials` in all; what is best is then run to convergence. Shapes are fixed, and so
    is the bound that decides: that of the full model.
    """

    max_trials: int | Int[Array, ""] = 300
    patience: int | Int[Array, ""] = 40
    sweeps: int | Int[Array, ""] = 40
    min_improvement: float | Float[Array, ""] = 0.01


def search(
    method: Method[Any],
    model: SplitMergeModel,
    batch: Batch,
    q: Q,
    stop: Stop,
    moves: Moves,
    k_steps: Key[Array, ""],
    reporter: Reporter | None = None,
) -> Result:
    """Drive one fit from `q`, propose, and drive the best to its end. Pure and untransformed.

    `n_iter` counts the iterations of all proposals; `elbo_trace` has those of the first fit, and
    then the best objective after each proposal.
    """
    dtype = batch.weight.dtype
    k_iterate, k_moves = jax.random.split(k_steps)
    points = model.embed(batch)
    running = jnp.asarray(int(Status.RUNNING), jnp.int32)
    lowest = jnp.asarray(-jnp.inf, dtype)
    trace = jnp.full((stop.trace,), jnp.nan, dtype)
    nothing = Result(q, lowest, running, jnp.asarray(0, jnp.int32), trace, point=method.point)

    def body(carry: Any) -> Any:
        best, trial, fails, done = carry
        report(reporter, best.elbo, ~done, best.n_iter, step=trial)
        first = trial == 0
        last = ~first & ((fails >= moves.patience) | (trial > moves.max_trials))
        proposal = propose(method, model, batch, points, best.q, jax.random.fold_in(k_moves, trial))
        begin = jax.tree.map(
            lambda a, b, c: jnp.where(first, a, jnp.where(last, b, c)), q, best.q, proposal
        )
        limit = jnp.where(first | last, stop.max_iter, moves.sweeps)
        run = iterate(method, model, batch, begin, replace(stop, max_iter=limit), k_iterate)
        margin = moves.min_improvement + 4.0 * jnp.finfo(dtype).eps * jnp.abs(best.elbo)
        better = run.usable & (run.elbo > best.elbo + margin)
        taken = first | better | (last & run.usable)
        total = best.n_iter + run.n_iter
        trace = jnp.where(first, run.elbo_trace, best.elbo_trace)
        kept = jax.tree.map(lambda a, b: jnp.where(taken, a, b), run, best)
        trace = trace.at[jnp.where(first, stop.trace, _length(trace))].set(kept.elbo, mode="drop")
        best = replace(kept, n_iter=total, elbo_trace=trace)
        fails = jnp.where(better, 0, fails + 1)
        # a first fit that failed has nothing to improve on
        return best, trial + 1, fails, last | (first & ~run.usable)

    zero = jnp.asarray(0, jnp.int32)
    start = (nothing, zero, zero, jnp.asarray(False))
    found, trial, _, done = lax.while_loop(lambda carry: ~carry[3], body, start)
    report(reporter, found.elbo, ~done, found.n_iter, step=trial, last=True)
    return found


def _length(trace: Float[Array, "t"]) -> Int[Array, ""]:
    return jnp.sum(~jnp.isnan(trace))


def propose(
    method: Method[Any],
    model: SplitMergeModel,
    batch: Batch,
    points: Float[Array, "n f"],
    q: Q,
    key: Key[Array, ""],
) -> Q:
    """A q whose rows are assigned as in `q`, but for one change."""
    keys = jax.random.split(key, 5)
    moments = q.point() if method.point else q.moments()
    chunk = automatic_chunk(model.row_size(batch), batch)
    weight = batch.weight
    kind = jax.random.categorical(keys[0], jnp.log(jnp.asarray(_KINDS, weight.dtype)))
    split, merge, delete, birth = (kind == i for i in range(4))

    size = model.expected_weights(q) * jnp.sum(weight)
    used = model.movable & (size > 0.5)
    target = _pick(keys[1], jnp.where(used, jnp.log(jnp.where(used, size, 1.0)), -jnp.inf))
    # the component to change: a large one is split, a small one deleted
    inverse = jnp.where(used, -jnp.log(jnp.where(used, size, 1.0)), -jnp.inf)
    target = jnp.where(delete, _pick(keys[1], inverse), target)
    keep, gone = _pair(keys[2], model.merge_gain(q), used, jnp.where(split, target, -1))
    spare = jnp.argmin(jnp.where(model.movable, size, jnp.inf))
    free = model.movable[spare] & ~used[spare]
    slot = jnp.where(merge | ~free, gone, spare)

    def of_row(part: Batch, model: SplitMergeModel, moments: Any, target: Array) -> Array:
        resp, log_z = special.normalize(model.log_joint(moments, part))
        return jnp.stack([resp[:, target], log_z], -1)

    given = model, moments, target
    mine, log_z = jnp.moveaxis(map_rows(of_row, batch, chunk, *given), -1, 0)
    half = _halves(keys[3], points, weight * mine)
    near = _neighbours(keys[4], points, weight, log_z, jnp.sum(used))

    # whoever holds the slot gives its rows away: to its partner, or to the one that is split
    heir = jnp.where(merge | ~free, keep, jnp.where(split, target, spare))

    def assign(rows: Any, model: SplitMergeModel, moments: Any, q: Q, kind: Any, at: Any) -> Any:
        part, half, near = rows
        split, delete, birth = kind
        target, slot, heir = at
        log_joint = model.log_joint(moments, part)
        drop = delete & (jnp.arange(log_joint.shape[1]) == target)
        resp, _ = special.normalize(jnp.where(drop, -jnp.inf, log_joint))
        moved = _move(resp, slot, heir, ~delete & (heir != slot))
        part_of = jnp.where(split, half * moved[:, target], 0.0)
        moved = moved.at[:, target].add(-part_of).at[:, slot].add(part_of)
        born = jnp.where(birth, near, 0.0)[:, None]
        new = (jnp.arange(moved.shape[1]) == slot).astype(part.weight.dtype)
        return model.assign(q, part, (1.0 - born) * moved + born * new), jnp.zeros((), new.dtype)

    given = model, moments, q, (split, delete, birth), (target, slot, heir)
    stats, _ = accumulate(assign, (batch, half, near), chunk, *given)
    return model.update(q, stats)


def _pick(key: Key[Array, ""], log_mass: Float[Array, "k"]) -> Int[Array, ""]:
    return jnp.argmax(log_mass + jax.random.gumbel(key, log_mass.shape, log_mass.dtype))


def _pair(
    key: Key[Array, ""], gain: Float[Array, "k k"], used: Bool[Array, "k"], spared: Int[Array, ""]
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Two components in use, neither of them `spared`, that lose little by a merge."""
    k = gain.shape[0]
    may = used & (jnp.arange(k) != spared)
    allowed = may[:, None] & may & jnp.triu(jnp.ones((k, k), bool), 1)
    noise = _TEMPERATURE * jax.random.gumbel(key, gain.shape, gain.dtype)
    rank = jnp.where(allowed & jnp.isfinite(gain), gain + noise, -jnp.inf)
    place = jnp.argmax(rank)
    return place // k, place % k


def _move(
    resp: Float[Array, "n k"], source: Int[Array, ""], heir: Int[Array, ""], do: Bool[Array, ""]
) -> Float[Array, "n k"]:
    given = jnp.where(do, resp[:, source], 0.0)
    return resp.at[:, source].add(-given).at[:, heir].add(given)


def _halves(
    key: Key[Array, ""], points: Float[Array, "n f"], mass: Float[Array, "n"]
) -> Float[Array, "n"]:
    """1 for the rows of the second half: 2-means from two far rows, in sds of the component."""
    total = jnp.sum(mass)
    share = (mass / jnp.where(total > 0, total, 1.0))[:, None]
    centre = jnp.sum(share * points, 0)
    variance = jnp.sum(share * (points - centre) ** 2, 0)
    z = (points - centre) / jnp.sqrt(jnp.where(variance > 0, variance, 1.0))
    seeds = z[seeding.kmeans_plus_plus(key, z, mass, 2)]

    def second(centers: Float[Array, "2 f"]) -> Float[Array, "n"]:
        near = jnp.sum((z[:, None] - centers) ** 2, -1)
        return (near[:, 1] < near[:, 0]).astype(z.dtype)

    for _ in range(_LLOYD_STEPS):
        half = second(seeds)
        parts = mass[:, None] * jnp.stack([1.0 - half, half], -1)
        count = jnp.sum(parts, 0)[:, None]
        means = jnp.sum(parts[:, :, None] * z[:, None], 0) / jnp.where(count > 0, count, 1.0)
        seeds = jnp.where(count > 0, means, seeds)
    return second(seeds)


def _neighbours(
    key: Key[Array, ""],
    points: Float[Array, "n f"],
    weight: Float[Array, "n"],
    log_z: Float[Array, "n"],
    used: Int[Array, ""],
) -> Float[Array, "n"]:
    """1 for a badly explained row and the rows nearest to it: half of a component's usual share."""
    finite = jnp.where(weight > 0, log_z, jnp.inf)
    surprise = jnp.max(jnp.where(weight > 0, log_z, -jnp.inf)) - finite
    mass = weight * jnp.where(weight > 0, surprise, 0.0)
    mass = jnp.where(jnp.sum(mass) > 0, mass, weight)
    row = seeding.choose_row(jax.random.uniform(key, (2,), weight.dtype), mass)
    distance = jnp.sum((points - points[row]) ** 2, -1)
    order = jnp.argsort(distance)
    share = 0.5 * jnp.sum(weight) / (used.astype(weight.dtype) + 1.0)
    inside = jnp.cumsum(weight[order]) <= share
    return jnp.zeros_like(weight).at[order].set(inside.astype(weight.dtype))
