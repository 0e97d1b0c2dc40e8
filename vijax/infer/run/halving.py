"""Successive halving: most restarts end early, and the best runs until it stops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from ..._pytree import pytree, replace
from ..result import rank
from ..status import Status
from .loop import Run


@pytree
class Halving:
    """Run every restart for `sweeps` iterations, keep the better half, double, and so on.

    The last one runs until it stops by itself; if it fails, the next best does, so that a finished
    fit is returned. Restarts that end early have status DROPPED. (Karnin, Koren & Somekh 2013;
    Jamieson & Talwalkar 2016.)

    Args:
        sweeps: Number of iterations before the first halving.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.from_data(x, 4)
        settings = {"num_restarts": 8, "halving": vx.Halving()}
        fit = vx.fit(model, x, key=jax.random.key(0), **settings)
    """

    sweeps: int | Int[Array, ""] = 10


def halve(
    halving: Halving, runs: Run, num_restarts: int, drive: Callable[[Array, Run, Any], Run]
) -> Run:
    """Halve the runs (m * num_restarts,) within each of the m problems, and end the best.

    `drive(numbers, runs, limit)` takes the runs of these numbers to `limit` iterations.
    """
    count = runs.status.shape[0]
    first = jnp.arange(0, count, num_restarts, dtype=jnp.int32)

    def scores(runs: Run) -> Array:
        return rank(*(a.reshape(-1, num_restarts) for a in (runs.status, runs.state.elbo)))

    def drive_to(numbers: Array, runs: Run, limit: Any) -> Run:
        part = jax.tree.map(lambda a: a[numbers], runs)
        part = drive(numbers, part, jnp.asarray(limit, jnp.int32))
        return jax.tree.map(lambda a, b: a.at[numbers].set(b), runs, part)

    number_left, sweeps = num_restarts, jnp.asarray(halving.sweeps, jnp.int32)
    keep = jnp.arange(number_left, dtype=jnp.int32)
    keep = jnp.broadcast_to(keep, (count // number_left, number_left))
    while number_left > 1:
        runs = drive_to((first[:, None] + keep).reshape(-1), runs, sweeps)
        number_left, sweeps = (number_left + 1) // 2, 2 * sweeps
        kept_scores = jnp.take_along_axis(scores(runs), keep, 1)
        # sorted by number, so that ties are broken as in a fit without halving
        best = jnp.sort(jnp.argsort(-kept_scores, 1, stable=True)[:, :number_left], 1)
        keep = jnp.take_along_axis(keep, best, 1)

    def winner(runs: Run) -> Array:
        return first + jnp.argmax(scores(runs), 1).astype(jnp.int32)

    no_limit = jnp.iinfo(jnp.int32).max
    runs = lax.while_loop(
        lambda runs: jnp.any(runs.running[winner(runs)]),
        lambda runs: drive_to(winner(runs), runs, no_limit),
        runs,
    )
    return replace(runs, status=jnp.where(runs.running, int(Status.DROPPED), runs.status))
