"""Weights of some components in another order, to be read, not fitted."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree
from ...numerics.broadcasting import broadcasts
from ..dirichlet import CategoricalMoments


@pytree
class PermutedWeights:
    """pi[order] for stick-breaking weights pi, after relabelling or pruning.

    Stick-breaking weights in another order, or without some components, are not stick-breaking
    weights. Therefore this is not an `ExponentialFamily`: it has no coordinates, statistics or KL,
    and no fit can start from it. Means, standard deviations, moments and draws are exact. Weights
    of components that were left out are not shared among the others.
    """

    weights: Any
    order: Int[Array, "m"]

    @property
    def size(self) -> int:
        """Number of components m."""
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
        """Expected weight beyond the k components in the infinite model; None if truncated."""
        return self.weights.rest

    @property
    def sd(self) -> Float[Array, "*b m"]:
        """Standard deviation of each pi_k."""
        return self.weights.sd[..., self.order]

    def moments(self) -> CategoricalMoments:
        """E[log pi_k] of these components."""
        return CategoricalMoments(self.weights.moments().log_p[..., self.order])

    def point(self) -> CategoricalMoments:
        """log pi_k of these components at the point of `weights`."""
        return CategoricalMoments(self.weights.point().log_p[..., self.order])

    @broadcasts
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*s m"]:
        """Draws of the weights of these components."""
        return self.weights.sample(key, shape)[..., self.order]

    def take(self, order: Any) -> PermutedWeights:
        """The weights of some of these components."""
        return PermutedWeights(self.weights, self.order[jnp.asarray(order)])
