"""Coordinate ascent with a pass over all rows in every step."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..._pytree import pytree, static
from ...data.batch import Batch
from ...exponential_family import divergences
from ...model import ConditionalModel, Model, Q
from ..method import FullPassMethod, Method
from ..result import State
from ..run.loop import unevaluated
from ..run.passes import full_pass


@pytree
class CAVI(FullPassMethod):
    """Coordinate-ascent variational inference (Bishop 2006, section 10.1).

    The objective is the evidence lower bound. `chunk` is the number of rows held at once; None
    chooses it from sizes and device.
    """

    chunk: int | None = static(default=None)
    monotone: ClassVar[bool] = True

    def check(self, model: Model) -> None:
        """Raise TypeError for a model without exact updates."""
        need_conditional(self, model)

    def init(self, model: ConditionalModel, q: Q, batch: Batch) -> State:
        """A state whose `next_q` is `q`."""
        return unevaluated(q, batch)

    def step(
        self, model: ConditionalModel, state: State, batch: Batch, key: Key[Array, ""] | None
    ) -> State:
        """Local step at `next_q`, its exact bound, and the update it implies.

        The improvement is taken from the move of q, as 2 KL(new || old): the bound itself cannot
        resolve it in float32. An update raises the bound by exactly KL(old || new) and the
        responses of the latent variables add at most as much again, near a fixed point.
        """
        return full_pass(self, model, state, batch)

    def moments(self, q: Q) -> Any:
        """What the local step reads of q."""
        return q.moments()

    def conclude(
        self, model: ConditionalModel, state: State, stats: Any, log_z: Float[Array, ""]
    ) -> State:
        """The state after a pass, with ELBO = sum_n w_n log Z_n - KL(q || prior)."""
        q = state.next_q
        kl, move = model.kl_and_move(q, state.q)
        new = model.update(q, stats)
        return State(q, new, log_z - kl, 2.0 * move, jnp.zeros_like(state.failure))

    def improvements(self, q: Q, *lasts: Q) -> list[Float[Array, ""]]:
        """2 KL(q || last) in nats: what a step from `last` to `q` gained, near a fixed point."""
        return list(2.0 * divergences(q, *lasts).total_by_product())


def need_conditional(method: Method[Any], model: Model) -> ConditionalModel:
    """The model; raises TypeError naming the method for one without exact updates."""
    if not isinstance(model, ConditionalModel):
        raise TypeError(
            f"method: {type(method).__name__} needs a ConditionalModel, with `local`, `update` and "
            f"`kl`, got {type(model).__name__}"
        )
    return model
