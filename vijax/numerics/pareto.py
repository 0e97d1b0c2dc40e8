"""The tail of importance weights: the index of a generalised Pareto distribution."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_PRIOR_INDEX, _PRIOR_DRAWS = 0.5, 10.0


def tail_size(num_draws: int) -> int:
    """How many of the largest weights are the tail: 3 sqrt(s), at most a fifth of them."""
    return int(min(num_draws / 5, 3.0 * math.sqrt(num_draws)))


def pareto_index(log_weights: Float[Array, "s"]) -> Float[Array, ""]:
    """k-hat, the index of the upper tail of weights: moments of order 1 / k and above are infinite.

    By the estimator of Zhang & Stephens (2009), shrunk to 1/2 by 10 draws as in Vehtari et
    al. (2024). It is 0 where the tail has one value, as of equal weights; infinite where all are 0,
    or one is so much larger that the others are lost; and NaN where a weight is.
    """
    m = tail_size(log_weights.shape[0])
    top = jnp.sort(log_weights)[-(m + 1) :]  # NaN is last
    largest = top[-1]
    weights = jnp.exp(top - jnp.where(largest == -jnp.inf, 0.0, largest))
    excess = weights[1:] - weights[0]
    quartile = excess[int(m / 4 + 0.5) - 1]
    flat, lost = excess[-1] <= 0, quartile <= 0
    excess = jnp.where(flat | lost, jnp.arange(1, m + 1, dtype=excess.dtype) / m, excess)
    k = _index_of_excesses(excess)
    k = jnp.where(flat, 0.0, jnp.where(lost, jnp.inf, k))
    k = jnp.where(largest == -jnp.inf, jnp.inf, k)
    return jnp.where(jnp.isnan(largest), jnp.nan, k)


def _index_of_excesses(x: Float[Array, "m"]) -> Float[Array, ""]:
    """The index from ascending positive numbers: a posterior mean of theta = -k / sigma."""
    m = x.shape[0]
    size = 30 + int(math.sqrt(m))
    number = jnp.arange(1, size + 1, dtype=x.dtype)
    quartile = x[int(m / 4 + 0.5) - 1]
    theta = 1.0 / x[-1] + (1.0 - jnp.sqrt(size / (number - 0.5))) / (3.0 * quartile)

    def index(theta: Array) -> Array:
        return jnp.mean(jnp.log1p(-theta[..., None] * x), -1)

    k = index(theta)
    log_lik = m * (jnp.log(-theta / k) - k - 1.0)
    best = jnp.sum(jax.nn.softmax(log_lik) * theta)
    return (m * index(best) + _PRIOR_DRAWS * _PRIOR_INDEX) / (m + _PRIOR_DRAWS)
