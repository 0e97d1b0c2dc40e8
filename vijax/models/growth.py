"""A q of fewer components as one of a larger mixture, whose other components are empty."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .mixture_params import MixtureParams


def grown(
    prior: MixtureParams, active: Bool[Array, "k"], q: MixtureParams, total: Float[Array, ""]
) -> MixtureParams:
    """The q with m components among the k of `prior`: first, but for the background at the end.

    The others are at their prior. The weights are those of the rows that q has in its components,
    of `total` rows. After a converged fit under the same weights these are the same.
    """
    own, m, k = q.weights, q.weights.size, prior.weights.size
    free = m - q.num_background
    base = prior.weights.counts(prior.weights)
    base = jnp.concatenate([base[:free], base[k - q.num_background :]])
    rest = own.takes_rest
    count = jnp.where(own.on & ~rest, jnp.maximum(own.counts(own) - base, 0.0), 0.0)
    count = jnp.where(rest, jnp.maximum(total - jnp.sum(count), 0.0), count)
    empty = jnp.zeros(k - m, count.dtype)
    count = jnp.concatenate([count[:free], empty, count[free:]])
    weights = prior.weights.update(own, prior.weights.observe(jnp.where(active, count, 0.0)))
    return MixtureParams(weights, q.components.extend(prior.components))
