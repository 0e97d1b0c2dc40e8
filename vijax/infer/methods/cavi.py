"""Coordinate-ascent variational inference: every step is a pass over all rows."""

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

    A step is the E-step at the last update, whose bound is exact, and the next update. The bound is
    ELBO(q) = sum_n w_n log Z_n - KL(q || p), where log Z_n comes from the E-step, and never falls.
    `fit` raises TypeError for a model without exact updates.

    Args:
        chunk: Number of rows that are read at once, which changes memory but no result; by default
            as many as suit the device.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.from_data(x, 4)
        fit = vx.fit(model, x, key=jax.random.key(0), method=vx.CAVI())
    """

    chunk: int | None = static(default=None)
    monotone: ClassVar[bool] = True

    def check(self, model: Model) -> None:
        need_conditional(self, model)

    def init(self, model: ConditionalModel, q: Q, batch: Batch) -> State:
        return unevaluated(q, batch, rows=model.rows(batch))

    def step(
        self, model: ConditionalModel, state: State, batch: Batch, key: Key[Array, ""] | None
    ) -> State:
        return full_pass(self, model, state, batch)

    def moments(self, q: Q) -> Any:
        return q.moments()

    def conclude(
        self, model: ConditionalModel, state: State, stats: Any, log_z: Float[Array, ""]
    ) -> State:
        """The state after a pass, with ELBO = sum_n w_n log Z_n - KL(q || p).

        The improvement is 2 KL(q || last): an update raises the bound by exactly KL(last || q),
        and near a fixed point the latent variables add at most as much again. A difference of two
        bounds would be rounding in float32.
        """
        q = state.next_q
        kl, move = model.kl_and_move(q, state.q)
        new = model.update(q, stats)
        size = model.magnitude(q, stats)
        none = jnp.zeros_like(state.failure)
        return State(q, new, log_z - kl, 2.0 * move, none, magnitude=size)

    def improvements(self, q: Q, *lasts: Q) -> list[Float[Array, ""]]:
        """2 KL(q || last) in nats for each of `lasts`."""
        return list(2.0 * divergences(q, *lasts).total_by_product())


def need_conditional(method: Method[Any], model: Model) -> ConditionalModel:
    """The model as a ConditionalModel; raises TypeError naming the method if it is none."""
    if not isinstance(model, ConditionalModel):
        raise TypeError(
            f"method: {type(method).__name__} needs a ConditionalModel, with `local`, `update` and "
            f"`kl`, got {type(model).__name__}"
        )
    return model


def need_rows(method: Method[Any], model: Model) -> ConditionalModel:
    """As `need_conditional`; raises ValueError if the model needs all rows at once."""
    known = need_conditional(method, model)
    if not known.by_row:
        raise ValueError(
            f"method: {type(method).__name__} reads some rows at a time, but this "
            f"{type(model).__name__} needs all of them at once; take CAVI()"
        )
    return known
