"""vijax on the same problems, through its public functions alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np

import vijax as vx

from .problems import Problem

NEVER = 2**30  # a patience that no fit has


def fixed(count: int) -> vx.Stop:
    """Stop after `count` iterations, not before."""
    return vx.Stop(tol=0.0, max_iter=count, patience=NEVER)


def model_of(problem: Problem, method: Any) -> Any:
    """With scikit-learn's prior for CAVI, none for EM."""
    n_features = problem.x.shape[1]
    if method.point:
        return vx.GaussianMixture.flat(problem.k, n_features, covariance=problem.covariance)
    prior = vx.presets.sklearn(problem.x, problem.k, problem.covariance)
    return vx.GaussianMixture.with_prior(problem.k, **prior)


def iterations(problem: Problem, method: Any, devices: int = 1) -> Callable[[int], Any]:
    """As the peers' `iterations`, but for the means, which stay on the device."""
    model = model_of(problem, method)
    x, labels = problem.x, problem.labels.astype(np.int32)
    if devices > 1:
        mesh = jax.make_mesh((devices,), ("rows",))
        rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
        x, labels = jax.device_put((x, labels), rows)
    else:
        x, labels = jnp.asarray(x), jnp.asarray(labels)

    def run(count: int) -> Any:
        fit = vx.fit(model, x, init=labels, method=method, stop=fixed(count))
        return fit.q.components.mean

    return run


def temporaries(problem: Problem, method: Any) -> float:
    """MiB that the compiled loop of a fit holds besides its arguments and results."""
    model = model_of(problem, method)

    def run(batch: Any, q: Any) -> Any:
        return vx.iterate(method, model, batch, q, fixed(10))

    # rows and weights are arguments, as where `fit` is called outside of any jit
    program = jax.jit(run).lower(vx.Batch.of(problem.x), model.prior).compile()
    return program.memory_analysis().temp_size_in_bytes / 2**20


def judge(x: np.ndarray, k: int, resp: Any) -> float:
    """The exact float64 bound of the update that responsibilities (n, k) imply, in nats.

    The same yardstick for every tool and precision, under scikit-learn's prior.
    """
    with jax.enable_x64(True):
        wide = np.asarray(x, np.float64)
        resp = np.asarray(resp, np.float64)
        resp = resp / resp.sum(1, keepdims=True)
        model = vx.GaussianMixture.with_prior(k, **vx.presets.sklearn(wide, k))
        return float(vx.fit(model, wide, init=resp, stop=fixed(1)).elbo)


@contextmanager
def counting() -> Any:
    """A list that gets the seconds of every compilation made inside."""
    found: list[float] = []

    def listen(name: str, seconds: float, **_: Any) -> None:
        if live and name == "/jax/core/compile/backend_compile_duration":
            found.append(seconds)

    live = [True]
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        live.clear()


def bounds_of_many(xs: np.ndarray, k: int, resp: Any) -> np.ndarray:
    """`judge` for stacked data sets (m, n, d) and responsibilities (m, n, k)."""

    def one(x: Any, resp: Any) -> Any:
        model = vx.GaussianMixture.with_prior(k, **vx.presets.sklearn(x, k))
        return vx.fit(model, x, init=resp, stop=fixed(1)).elbo

    with jax.enable_x64(True):
        resp = np.asarray(resp, np.float64)
        resp = resp / resp.sum(-1, keepdims=True)
        return np.asarray(jax.jit(jax.vmap(one))(np.asarray(xs, np.float64), resp))
