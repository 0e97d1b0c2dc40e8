"""dynamax: state-space models in JAX; a mixture is its mixture HMM with a single state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from dynamax.hidden_markov_model import DiagonalGaussianMixtureHMM, GaussianMixtureHMM

from ..problems import Problem

PACKAGE = "dynamax"
DTYPES = ("float32", "float64")
COMPILED = True  # the whole loop is one program
WORK = "EM, posterior mode"
MOST_FLOATS = 2**26  # of the (n, k, d, d) that its M-step's einsum holds; 13 GB in workload B


def refuses(problem: Problem) -> str | None:
    """Why it cannot do this problem, or None."""
    n, d = problem.x.shape
    size = n * problem.k * d * d
    if size <= MOST_FLOATS:
        return None
    return f"holds (n, k, d, d), {size * problem.x.itemsize / 1e9:.0f} GB"


def iterations(problem: Problem) -> Callable[[int], np.ndarray]:
    """Its E-step and M-step in a loop of our own, compiled once; `fit_em` compiles at each call."""
    k, d = problem.k, problem.x.shape[1]
    weights, means, covariances = (jnp.asarray(v)[None] for v in problem.parameters())
    start: dict[str, Any] = {"emission_weights": weights, "emission_means": means}
    if problem.covariance == "full":
        model = GaussianMixtureHMM(1, k, d)
        start["emission_covariances"] = covariances
    else:
        model = DiagonalGaussianMixtureHMM(1, k, d)
        start["emission_scale_diags"] = jnp.sqrt(covariances)
    one = jnp.ones(1, problem.x.dtype)
    params, props = model.initialize(
        jax.random.PRNGKey(0), initial_probs=one, transition_matrix=one[None], **start
    )
    # strong types, as its M-step returns them
    params = jax.tree.map(lambda a: jnp.asarray(a, problem.x.dtype), params)
    x = jnp.asarray(problem.x)

    @jax.jit
    def loop(params: Any, count: Any) -> Any:
        state = model.initialize_m_step_state(params, props)

        def step(_: Any, carry: Any) -> Any:
            params, state = carry
            stats, _ = model.e_step(params, x)
            batch = jax.tree.map(lambda a: a[None], stats)
            new, state = model.m_step(params, props, batch, state)
            return jax.tree.map(lambda a, b: b.astype(a.dtype), params, new), state

        return jax.lax.fori_loop(0, count, step, (params, state))[0]

    return lambda count: np.asarray(loop(params, count).emissions.means[0])
