"""Odds of components for rows however far they are, for reading."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..data.batch import Batch
from ..numerics import special


def finite_odds(components: Any, batch: Batch, prior: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """`prior` plus E[log p(x_n | theta_k)] in nats, up to a number per row.

    `prior` is -inf for components that are impossible before a row is seen, and `components` are
    their moments. Far rows have all distances multiplied by a common factor: where squares are too
    large to be told, so are their differences, unless they are equal. A row that is impossible
    under every component has the odds of the prior.
    """
    far, factor = components.log_distance(batch), None
    if far is not None:
        nearest = jnp.min(jnp.where(jnp.isneginf(prior), jnp.inf, far), -1, keepdims=True)
        width = sum(a.size // a.shape[0] for a in jax.tree.leaves(batch.x))
        factor = jnp.exp(special.log_in_range(nearest, width))
    joint = prior + components.log_density(batch, factor)
    possible = jnp.any(joint > -jnp.inf, -1, keepdims=True)
    return jnp.where(possible, joint, prior)
