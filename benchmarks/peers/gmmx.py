"""gmmx: EM in JAX, float32 only, the whole loop in one program."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from gmmx import EMFitter, GaussianMixtureModelJax

from ..problems import Problem

PACKAGE = "gmmx"
DTYPES = ("float32",)
COMPILED = True  # the whole loop is one program
WORK = "EM"
COMPILES_PER_COUNT = True  # max_iter is part of its program


def start(
    weights: np.ndarray, means: np.ndarray, covariances: np.ndarray, kind: str = "full"
) -> GaussianMixtureModelJax:
    """Its model at given parameters."""
    values = [jnp.asarray(v, jnp.float32) for v in (means, covariances, weights)]
    return GaussianMixtureModelJax.from_squeezed(*values, covariance_type=kind)


def fit(x: jax.Array, model: GaussianMixtureModelJax, count: int, tol: float = 0.0) -> jax.Array:
    """Its means (1, k, d, 1) after EM; its own wait, inside jit, waits for nothing."""
    result = EMFitter(max_iter=count, tol=tol).fit(x, model)
    return jax.block_until_ready(result.gmm.means)


def iterations(problem: Problem) -> Callable[[int], np.ndarray]:
    """EM without a prior."""
    x = jnp.asarray(problem.x, jnp.float32)
    model = start(*problem.parameters(), problem.covariance)
    return lambda count: np.asarray(fit(x, model, count))[0, :, :, 0]
