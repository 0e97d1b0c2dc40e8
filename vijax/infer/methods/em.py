"""Expectation maximisation: coordinate ascent at a point."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..._pytree import pytree, static
from ...data.batch import Batch
from ...model import ConditionalModel, Model, Q
from ..method import FullPassMethod
from ..result import State, Status
from ..run.loop import unevaluated
from ..run.passes import full_pass
from .cavi import need_conditional


@pytree
class EM(FullPassMethod):
    """Expectation maximisation: posterior mode under the model's prior, or maximum likelihood.

    The estimate is `q.point()`: for a mixture the means under q of weights, means and precisions.
    The objective is the log-likelihood there plus `log_kernel` of the prior, its log density in
    the natural basis. In that basis a mode exists under every proper prior, sparse ones too,
    where the textbook mode of a Dirichlet with conc < 1 does not (MacKay 1998, "Choice of basis
    for Laplace approximation"). A model built by `flat` has no prior: the objective is the
    log-likelihood (Dempster et al. 1977), and COLLAPSED is set where a component runs into a
    singularity of it. `chunk` is the number of rows held at once; None chooses it.
    """

    chunk: int | None = static(default=None)
    monotone: ClassVar[bool] = True
    point: ClassVar[bool] = True

    def check(self, model: Model) -> None:
        """Raise TypeError for a model without exact updates."""
        need_conditional(self, model)

    def init(self, model: ConditionalModel, q: Q, batch: Batch) -> State:
        """A state whose `next_q` is `q`, read at its point."""
        return unevaluated(q, batch, memory=q.point())

    def step(
        self, model: ConditionalModel, state: State, batch: Batch, key: Key[Array, ""] | None
    ) -> State:
        """E-step at the point of `next_q`, its exact objective, and the M-step it implies.

        The improvement is twice what the M-step gained (`kernel_gap`), as in CAVI.
        """
        return full_pass(self, model, state, batch)

    def moments(self, q: Q) -> Any:
        """What the local step reads of q: its point."""
        return q.point()

    def conclude(
        self, model: ConditionalModel, state: State, stats: Any, log_z: Float[Array, ""]
    ) -> State:
        """The state after a pass, with objective sum_n w_n log Z_n + log p(theta)."""
        q = state.next_q
        point = q.point()
        objective = log_z + model.log_prior(point)
        improvement = 2.0 * jnp.sum(q.kernel_gap(state.memory))
        failure = jnp.where(model.collapsed(q), int(Status.COLLAPSED), 0)
        failure = failure.astype(state.failure.dtype)
        return State(q, model.update(q, stats), objective, improvement, failure, memory=point)

    def improvements(self, q: Q, *lasts: Q) -> list[Float[Array, ""]]:
        """Twice what an M-step from the point of each of `lasts` to that of `q` gained, in nats."""
        return [2.0 * jnp.sum(q.kernel_gap(last.point())) for last in lasts]
