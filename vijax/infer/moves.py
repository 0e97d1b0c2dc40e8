"""Search over structures: merges, splits, births and deletions that raise the bound are kept."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from .._pytree import pytree, replace
from ..data.absent import absent, is_absent
from ..data.batch import Batch
from ..data.chunked import accumulate, automatic_chunk, map_rows
from ..latent_class import SplitMergeModel
from ..model import Q
from ..numerics import seeding, special
from .method import Method
from .result import Result, Stop
from .run.loop import iterate
from .run.progress import Reporter, report
from .status import Status

_KINDS = (0.35, 0.30, 0.15, 0.20)  # shares of split, merge, delete, birth among the proposals
_LLOYD_STEPS = 3  # of k-means for the two halves of a split
_TEMPERATURE = 4.0  # scale in nats of the noise in the choice of a pair to merge


@pytree
class Moves:
    """A search over structures after a fit. Numbers are traced.

    A proposal changes the assignment of rows to components: it splits a component into the two
    halves of its rows, merges two (preferably with a high `merge_gain`, Hughes & Sudderth 2013),
    deletes one, or starts one around a badly explained row. If no component is free, splits and
    births merge a pair first (Ueda et al. 2000). A proposal runs for at most `sweeps` iterations
    and replaces the fit if its objective, the bound of the full model, is higher by
    `min_improvement` nats. The search ends after `patience` failed proposals in a row, or
    `max_trials` in all; the best fit then runs to convergence. `fit` raises ValueError for a model
    whose components cannot be split and merged.

    Args:
        max_trials: Most proposals in all.
        patience: Number of failed proposals in a row that ends the search.
        sweeps: Most iterations of a proposal.
        min_improvement: Nats by which a proposal must be better.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.from_data(x, 6)
        fit = vx.fit(model, x, key=jax.random.key(0), moves=vx.Moves(patience=10))
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
    """Run one fit from `q`, search over structures, and run the best to its end.

    It has no checks, jit or vmap of its own, and the statuses of `iterate`. `n_iter` of the Result
    counts the iterations of all proposals; `elbo_trace` has those of the first fit, then the best
    objective after each proposal.

    Args:
        method, model, batch, q: As in `iterate`; the model must be a SplitMergeModel.
        stop: When the first and the last fit end.
        moves: How long to search.
        k_steps: A typed key, for the proposals and for methods that draw.
        reporter: As in `iterate`.

    Example:
        x, _ = vx.datasets.three_clusters()
        model, batch = vx.GaussianMixture.from_data(x, 6), vx.Batch.of(x)
        first, steps = jax.random.split(jax.random.key(0))
        settings = vx.Stop(), vx.Moves(patience=10), steps
        result = jax.jit(vx.search)(vx.CAVI(), model, batch, model.init(first, batch), *settings)
    """
    dtype = batch.weight.dtype
    k_iterate, k_moves = jax.random.split(k_steps)
    points = model.embed(batch)
    running = jnp.asarray(int(Status.RUNNING), jnp.int32)
    lowest = jnp.asarray(-jnp.inf, dtype)
    trace = absent((stop.trace,), dtype)
    inner = None if reporter is None else replace(reporter, quiet=True)
    unfitted = Result(q, lowest, running, jnp.asarray(0, jnp.int32), trace, point=method.point)

    def body(carry: Any) -> Any:
        best, trial, fails, done = carry
        stopped = report(reporter, best.elbo, ~done, best.n_iter, step=trial)
        first = trial == 0
        last = ~first & ((fails >= moves.patience) | (trial > moves.max_trials))
        proposal = propose(method, model, batch, points, best.q, jax.random.fold_in(k_moves, trial))
        begin = jax.tree.map(
            lambda a, b, c: jnp.where(first, a, jnp.where(last, b, c)), q, best.q, proposal
        )
        limit = jnp.where(first | last, stop.max_iter, moves.sweeps)
        now = replace(stop, max_iter=limit)
        run = iterate(method, model, batch, begin, now, k_iterate, inner)
        ended = run.status == Status.INTERRUPTED
        ended = ended if stopped is None else ended | stopped
        margin = moves.min_improvement + 4.0 * jnp.finfo(dtype).eps * jnp.abs(best.elbo)
        better = run.usable & (run.elbo > best.elbo + margin)
        accepted = first | better | (last & run.usable)
        n_iter = best.n_iter + run.n_iter
        trace = jnp.where(first, run._elbo_trace, best._elbo_trace)
        kept = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), run, best)
        end = jnp.where(first, stop.trace, jnp.sum(~is_absent(trace)))
        trace = trace.at[end].set(kept.elbo, mode="drop")
        status = jnp.where(ended, jnp.asarray(int(Status.INTERRUPTED), jnp.int32), kept.status)
        best = replace(kept, n_iter=n_iter, _elbo_trace=trace, status=status)
        fails = jnp.where(better, 0, fails + 1)
        # after a first fit that failed there is nothing to improve
        return best, trial + 1, fails, last | ended | (first & ~run.usable)

    zero = jnp.asarray(0, jnp.int32)
    start = (unfitted, zero, zero, jnp.asarray(False))
    best, trial, _, done = lax.while_loop(lambda carry: ~carry[3], body, start)
    report(reporter, best.elbo, ~done, best.n_iter, step=trial, last=True)
    return best


def propose(
    method: Method[Any],
    model: SplitMergeModel,
    batch: Batch,
    points: Float[Array, "n f"],
    q: Q,
    key: Key[Array, ""],
) -> Q:
    """The q after an update with the rows assigned as by `q`, but for one random change."""
    keys = jax.random.split(key, 5)
    moments = q.point() if method.point else q.moments()
    chunk = automatic_chunk(model.row_size(batch), batch)
    weight = batch.weight
    kind = jax.random.categorical(keys[0], jnp.log(jnp.asarray(_KINDS, weight.dtype)))
    split, merge, delete, birth = (kind == i for i in range(4))

    size = model.expected_counts(q, jnp.sum(weight))
    used = model.movable & (size > 0.5)
    target = _pick(keys[1], jnp.where(used, jnp.log(jnp.where(used, size, 1.0)), -jnp.inf))
    # the component to change: a large one is split, a small one deleted
    inverse = jnp.where(used, -jnp.log(jnp.where(used, size, 1.0)), -jnp.inf)
    target = jnp.where(delete, _pick(keys[1], inverse), target)
    keep, gone = _pair(keys[2], model.merge_gain(q), used, jnp.where(split, target, -1))
    spare = jnp.argmin(jnp.where(model.movable, size, jnp.inf))
    free = model.movable[spare] & ~used[spare]
    slot = jnp.where(merge | ~free, gone, spare)

    def e_step(part: Batch, model: SplitMergeModel, moments: Any, target: Array) -> Array:
        resp, log_z = special.normalize(model.log_joint(moments, part))
        return jnp.stack([resp[:, target], log_z], -1)

    by_row = map_rows(e_step, batch, chunk, model, moments, target)
    target_resp, log_z = jnp.moveaxis(by_row, -1, 0)
    half = _halves(keys[3], points, weight * target_resp)
    near = _neighbours(keys[4], points, weight, log_z, jnp.sum(used))

    # the component in the slot gives its rows away: to its partner, or to the one that is split
    heir = jnp.where(merge | ~free, keep, jnp.where(split, target, spare))

    def assign(
        rows: Any, model: SplitMergeModel, moments: Any, kind: Any, components: Any
    ) -> tuple[Any, Array]:
        part, half, near = rows
        split, delete, birth = kind
        target, slot, heir = components

        def change(log_joint: Array) -> tuple[Array, Array]:
            drop = delete & (jnp.arange(log_joint.shape[1]) == target)
            resp, _ = special.normalize(jnp.where(drop, -jnp.inf, log_joint))
            given_away = jnp.where(~delete & (heir != slot), resp[:, slot], 0.0)
            resp = resp.at[:, slot].add(-given_away).at[:, heir].add(given_away)
            split_off = jnp.where(split, half * resp[:, target], 0.0)
            resp = resp.at[:, target].add(-split_off).at[:, slot].add(split_off)
            born = jnp.where(birth, near, 0.0)[:, None]
            new = (jnp.arange(resp.shape[1]) == slot).astype(resp.dtype)
            return (1.0 - born) * resp + born * new[None], jnp.zeros((), resp.dtype)

        return model.reassign(moments, part, change)

    args = model, moments, (split, delete, birth), (target, slot, heir)
    stats, _ = accumulate(assign, (batch, half, near), chunk, *args)
    return model.update(q, stats)


def _pick(key: Key[Array, ""], log_mass: Float[Array, "k"]) -> Int[Array, ""]:
    """A random index with probability proportional to exp(log_mass)."""
    return jnp.argmax(log_mass + jax.random.gumbel(key, log_mass.shape, log_mass.dtype))


def _pair(
    key: Key[Array, ""], gain: Float[Array, "k k"], used: Bool[Array, "k"], spared: Int[Array, ""]
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """A random pair of components in use, but for `spared`, preferably with a high merge gain."""
    k = gain.shape[0]
    allowed = used & (jnp.arange(k) != spared)
    pairs = allowed[:, None] & allowed[None] & jnp.triu(jnp.ones((k, k), bool), 1)
    noise = _TEMPERATURE * jax.random.gumbel(key, gain.shape, gain.dtype)
    score = jnp.where(pairs & jnp.isfinite(gain), gain + noise, -jnp.inf)
    index = jnp.argmax(score)
    return index // k, index % k


def _halves(
    key: Key[Array, ""], points: Float[Array, "n f"], mass: Float[Array, "n"]
) -> Float[Array, "n"]:
    """1 for rows in the second half of a component, by 2-means from two rows far apart, else 0.

    Distances are in standard deviations of the component.
    """
    total = jnp.sum(mass)
    share = (mass / jnp.where(total > 0, total, 1.0))[:, None]
    centre = jnp.sum(share * points, 0, keepdims=True)
    variance = jnp.sum(share * (points - centre) ** 2, 0, keepdims=True)
    z = (points - centre) / jnp.sqrt(jnp.where(variance > 0, variance, 1.0))
    seeds = z[seeding.kmeans_plus_plus(key, z, mass, 2)]

    def second(centres: Float[Array, "2 f"]) -> Float[Array, "n"]:
        distance = jnp.sum((z[:, None] - centres[None]) ** 2, -1)
        return (distance[:, 1] < distance[:, 0]).astype(z.dtype)

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
    """1 for a badly explained row and its nearest rows, half of the mean size of a component."""
    finite = jnp.where(weight > 0, log_z, jnp.inf)
    surprise = jnp.max(jnp.where(weight > 0, log_z, -jnp.inf)) - finite
    mass = weight * jnp.where(weight > 0, surprise, 0.0)
    mass = jnp.where(jnp.sum(mass) > 0, mass, weight)
    row = seeding.choose_row(jax.random.uniform(key, (2,), weight.dtype), mass)
    distance = jnp.sum((points - points[row][None]) ** 2, -1)
    order = jnp.argsort(distance)
    share = 0.5 * jnp.sum(weight) / (used.astype(weight.dtype) + 1.0)
    inside = jnp.cumsum(weight[order]) <= share
    return jnp.zeros_like(weight).at[order].set(inside.astype(weight.dtype))
