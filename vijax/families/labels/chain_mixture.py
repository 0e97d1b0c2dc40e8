"""Chains that a row chooses from: labels are pairs of a cluster and a state of its chain."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree, static
from ...data.batch import Batch
from ...numerics import seeding
from .chain import ChainSettings
from .shared import nearest_seeds


@pytree
class ChainMixture(ChainSettings):
    """m chains of `num_states` states, without a transition from one chain to another.

    State s of chain c has the number c num_states + s. `initial` is the distribution of the pair at
    the first step: with the concentrations of a chain added up it is that of the chain. A q is a
    `Chain`.
    """

    num_states: int = static(default=1)

    def partition(
        self,
        key: Key[Array, ""],
        points: Float[Array, "m f"],
        rows: Batch,
        on: Bool[Array, "k"],
        restart: Int[Array, ""] | int = 0,
    ) -> Float[Array, "n t k"]:
        """Rows around k-means++ seeds, and in each chain their steps around seeds of its own.

        Rows are compared by mean, spread and correlation of their steps.
        """
        assert rows.steps is not None  # `check` has seen to it
        shape, k, dtype = rows.steps.shape, self.num_states, points.dtype
        k_rows, k_steps = jax.random.split(key)
        found = seeding.summaries(points.reshape(*shape, -1), rows.steps, lag=True)
        label = None if rows.label is None else jnp.max(rows.label, 1) // k
        chain = nearest_seeds(k_rows, found, label, rows.weight, on[::k])
        weight = rows.weight[:, None] * rows.steps

        def of_chain(key: Array, number: Array) -> Array:
            own = jnp.where((chain == number)[:, None], weight, 0.0).reshape(-1)
            seeds = seeding.kmeans_plus_plus(key, points, own, k)
            return seeding.nearest(points, points[seeds], jnp.ones(k, bool)).reshape(shape)

        numbers = jnp.arange(self.size // k, dtype=chain.dtype)
        each = jax.vmap(of_chain)(jax.random.split(k_steps, len(numbers)), numbers)
        state = jnp.take_along_axis(each, chain[None, :, None], 0)[0]
        return jax.nn.one_hot(k * chain[:, None] + state, self.size, dtype=dtype)
