"""Deterministic annealing: a start that is reached by passes with tempered responsibilities."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from .._pytree import pytree, replace
from ..data.batch import Batch
from ..data.chunked import accumulate, automatic_chunk
from ..data.host import check_bound, check_integer, fetched, is_concrete, to_device
from ..latent_class import LatentClassModel
from ..model import Model, Q

_MEMORY = 1e-4  # share of the first q in all others: without it equal components stay equal


@pytree
class Annealed:
    """A start, `fit(..., init=Annealed(init))`: `init`, then `steps` passes of tempered CAVI.

    `init` is any other start that `fit` takes. In pass i the responsibilities are proportional to
    exp(b E[log p(x, z)]), with b = beta^(1 - i / steps), which rises from `beta`, in (0, 1],
    towards 1. These passes climb the bound with the entropy of z divided by b, which has fewer
    optima, so that a bad start such as random labels is slowly forgotten (Ueda & Nakano 1998;
    Katahira, Watanabe & Okada 2008). Each q keeps a share of 1e-4 of the first one, as components
    that have become equal would stay so. Annealing helps if about all components are needed; if
    many are to spare, it merges components that it should not.

    The fit that follows is at b = 1, with its usual objective and guarantees, and its `n_iter` does
    not count these passes. Numbers are traced. `fit` raises ValueError for a model that is
    no `LatentClassModel`.

    Args:
        init: The start of these passes, in any form that `fit` takes.
        beta: Where b begins, in (0, 1].
        steps: Number of passes.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.from_data(x, 3)
        start = vx.Annealed("random", beta=0.3, steps=30)
        fit = vx.fit(model, x, key=jax.random.key(0), init=start)
    """

    init: Any = None
    beta: float | Float[Array, ""] = 0.5
    steps: int | Int[Array, ""] = 20

    def check(self, model: Model, dtype: Any) -> Annealed:
        """The schedule with its numbers as arrays; raises ValueError or TypeError for bad ones."""
        if isinstance(self.init, Annealed):
            raise TypeError("init: Annealed goes around a start, not around another Annealed")
        if not isinstance(model, LatentClassModel):
            raise ValueError(f"init: {type(model).__name__} has no latent assignments to anneal")
        check_bound("init: beta", self.beta, above=0.0)
        if is_concrete(self.beta) and np.max(fetched(self.beta)) > 1:
            raise ValueError(f"init: beta: must be at most 1, got {self.beta}")
        if not isinstance(self.steps, jax.Array):
            check_integer("init: steps", self.steps)
        check_bound("init: steps", self.steps, least=0.0)
        steps = to_device(self.steps, jnp.int32)
        return replace(self, beta=to_device(self.beta, dtype), steps=steps)


def anneal(model: LatentClassModel, batch: Batch, q: Q, plan: Annealed) -> Q:
    """The q after the tempered passes from `q`; traceable."""
    dtype = batch.weight.dtype
    chunk = automatic_chunk(model.row_size(batch), batch)
    first = q

    def assign(part: Batch, model: LatentClassModel, moments: Any, b: Array) -> tuple[Any, Array]:
        return model.tempered(moments, part, b), jnp.zeros((), dtype)

    def step(i: Array, q: Q) -> Q:
        done = i.astype(dtype) / jnp.asarray(plan.steps, dtype)
        b = jnp.asarray(plan.beta, dtype) ** (1.0 - done)
        moments = model.start_moments(q)
        new = model.update(q, accumulate(assign, batch, chunk, model, moments, b)[0])
        return new.lerp(first, _MEMORY * (1.0 - b))

    return lax.fori_loop(0, plan.steps, step, q)
