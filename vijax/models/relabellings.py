"""How many relabellings of a fit the model cannot tell apart."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..families.emission import Emission
from ..families.labels.base import Labels
from ..numerics import special

_LEAST_STEPS = 0.5  # a component with fewer rows, or steps, counts as empty


def log_relabellings(
    labels: Labels, components: Emission, free: Bool[Array, "k"], steps: Float[Array, "k"]
) -> Float[Array, ""]:
    """log(k! / unused!) in nats, of k components `free` to change places with `steps` in each.

    It is 0 for priors, `labels` and `components`, that tell components apart.
    """
    number = jnp.sum(free, dtype=steps.dtype)
    used = jnp.sum(free & (steps > _LEAST_STEPS), dtype=steps.dtype)
    # components that are not free do not count: the first free one stands in for them
    like = jnp.where(free, jnp.arange(free.shape[0]), jnp.argmax(free))
    same = labels.exchangeable(free) & components.take(like).exchangeable()
    return jnp.where(same, special.log_gamma_ratio(number - used + 1.0, used), 0.0)
