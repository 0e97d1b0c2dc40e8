"""Successive halving: most restarts are left early, the best is fitted to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from ..._pytree import pytree, replace
from ..result import Status, rank
from .loop import Run


@pytree
class Halving:
    """Run every restart for `sweeps` iterations, keep the better half, double, and so on.

    (Karnin, Koren & Somekh 2013; Jamieson & Talwalkar 2016.) The last one left runs until it
    stops by itself, and if it fails, the next best does: what is returned is always a finished
    fit, of status CONVERGED or whatever a fit ends in. Restarts left early have status DROPPED.
    """

    sweeps: int | Int[Array, ""] = 10


def halve(
    halving: Halving, runs: Run, num_restarts: int, drive: Callable[[Array, Run, Any], Run]
) -> Run:
    """`runs` (m * num_restarts,) after the contest within each problem.

    `drive(numbers, runs, limit)` takes the runs of these numbers to `limit` iterations.
    """
    count = runs.status.shape[0]
    first = jnp.arange(0, count, num_restarts, dtype=jnp.int32)

    def ranked(runs: Run) -> Array:
        return rank(*(a.reshape(-1, num_restarts) for a in (runs.status, runs.state.elbo)))

    def go(numbers: Array, runs: Run, limit: Any) -> Run:
        part = jax.tree.map(lambda a: a[numbers], runs)
        part = drive(numbers, part, jnp.asarray(limit, jnp.int32))
        return jax.tree.map(lambda a, b: a.at[numbers].set(b), runs, part)

    left, sweeps = num_restarts, jnp.asarray(halving.sweeps, jnp.int32)
    keep = jnp.broadcast_to(jnp.arange(left, dtype=jnp.int32), (count // left, left))
    while left > 1:
        runs = go((first[:, None] + keep).reshape(-1), runs, sweeps)
        left, sweeps = (left + 1) // 2, 2 * sweeps
        ranks = jnp.take_along_axis(ranked(runs), keep, 1)
        # in their own order, so that an order of restarts that tie is that of a plain fit
        best = jnp.sort(jnp.argsort(-ranks, 1, stable=True)[:, :left], 1)
        keep = jnp.take_along_axis(keep, best, 1)

    def winner(runs: Run) -> Array:
        return first + jnp.argmax(ranked(runs), 1).astype(jnp.int32)

    never = jnp.iinfo(jnp.int32).max
    runs = lax.while_loop(
        lambda runs: jnp.any(runs.running[winner(runs)]),
        lambda runs: go(winner(runs), runs, never),
        runs,
    )
    return replace(runs, status=jnp.where(runs.running, int(Status.DROPPED), runs.status))
