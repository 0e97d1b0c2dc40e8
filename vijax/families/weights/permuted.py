"""Some components' weights in another order, for reading."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree
from ..dirichlet import CategoricalMoments


@pytree
class PermutedWeights:
    """pi[order] for weights pi with a law of their own, as relabelling or pruning leaves them.

    The order of the components is part of the law of stick-breaking weights: in another one, or
    without some of them, they follow no stick-breaking law. So this is no `ExponentialFamily`: it
    has no coordinates, no statistics and no KL, and no fit can start from it. Everything that is
    read off a q is exact: means, standard deviations, moments, draws. Weights of components left
    out are not shared among the others.
    """

    weights: Any
    order: Int[Array, "m"]

    @property
    def size(self) -> int:
        """m."""
        return self.order.shape[-1]

    @property
    def on(self) -> Bool[Array, "*b m"]:
        """Which components are switched on."""
        return self.weights.on[..., self.order]

    @property
    def mean(self) -> Float[Array, "*b m"]:
        """E[pi_k]."""
        return self.weights.mean[..., self.order]

    @property
    def rest(self) -> Float[Array, "*b"] | None:
        """E of the weight beyond the k components, in the infinite model."""
        return self.weights.rest

    @property
    def sd(self) -> Float[Array, "*b m"]:
        """Standard deviation of each pi_k."""
        return self.weights.sd[..., self.order]

    def moments(self) -> CategoricalMoments:
        """E[log pi_k]."""
        return CategoricalMoments(self.weights.moments().log_p[..., self.order])

    def point(self) -> CategoricalMoments:
        """log of the means."""
        return CategoricalMoments(self.weights.point().log_p[..., self.order])

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*s m"]:
        """Draws of the weights of these components."""
        return self.weights.sample(key, shape)[..., self.order]

    def take(self, order: Any) -> PermutedWeights:
        """Some of these components."""
        return PermutedWeights(self.weights, self.order[jnp.asarray(order)])
