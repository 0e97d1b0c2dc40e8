"""Expectation maximisation, which is coordinate ascent at a point."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..._pytree import pytree, static
from ...data.batch import Batch
from ...model import ConditionalModel, Model, Q
from ..method import FullPassMethod
from ..result import State
from ..run.loop import unevaluated
from ..run.passes import full_pass
from ..status import Status
from .cavi import need_conditional


@pytree
class EM(FullPassMethod):
    """Expectation maximisation: posterior mode under the model's prior, or maximum likelihood.

    The estimate is `q.point()`, for a mixture the means under q of weights, means and precisions.
    The objective is log p(x | theta) + log p(theta) in nats at that point, with the prior density
    in the natural basis (`log_kernel`). There every proper prior has a mode; in the textbook basis
    a Dirichlet with conc < 1 has none (MacKay 1998, "Choice of basis for Laplace approximation").

    A model built by `flat` has no prior: the objective is the log-likelihood (Dempster et al.
    1977). COLLAPSED is set if a component reaches a singularity of it.

    Args:
        chunk: As in `CAVI`.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.flat(3, 2)
        fit = vx.fit(model, x, key=jax.random.key(0), method=vx.EM())
        print(fit.elbo, fit.q.point().components.mean)  # log-likelihood in nats, (3, 2)
    """

    chunk: int | None = static(default=None)
    monotone: ClassVar[bool] = True
    point: ClassVar[bool] = True

    def check(self, model: Model) -> None:
        need_conditional(self, model)

    def init(self, model: ConditionalModel, q: Q, batch: Batch) -> State:
        return unevaluated(q, batch, memory=q.point(), rows=model.rows(batch))

    def step(
        self, model: ConditionalModel, state: State, batch: Batch, key: Key[Array, ""] | None
    ) -> State:
        return full_pass(self, model, state, batch)

    def moments(self, q: Q) -> Any:
        return q.point()

    def conclude(
        self, model: ConditionalModel, state: State, stats: Any, log_z: Float[Array, ""]
    ) -> State:
        """The state after a pass, with objective sum_n w_n log Z_n + log p(theta).

        The improvement is twice what the M-step gained, `kernel_gap`, for the reason in `CAVI`.
        """
        q = state.next_q
        point = q.point()
        objective = log_z + model.log_prior(point)
        improvement = 2.0 * jnp.sum(q.kernel_gap(state.memory))
        failure = jnp.where(model.collapsed(q), int(Status.COLLAPSED), 0)
        failure = failure.astype(state.failure.dtype)
        return State(q, model.update(q, stats), objective, improvement, failure, memory=point)

    def improvements(self, q: Q, *lasts: Q) -> list[Float[Array, ""]]:
        """Twice the gain in nats of an M-step from the point of each of `lasts` to that of q."""
        return [2.0 * jnp.sum(q.kernel_gap(last.point())) for last in lasts]
