"""Coordinate ascent with whole-data passes: CAVI, and EM as the same step at a point."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .._pytree import pytree, static
from ..batch import Batch
from ..model import penalties
from ..natural import divergences
from .loop import unevaluated
from .passes import expect, resolution, resolved
from .result import State, Status


def whole_pass(method: Any, model: Any, state: State, batch: Batch) -> State:
    """A step of a method that concludes from one pass over all rows."""
    moments = method.moments(state.proposal)
    new = method.conclude(model, state, *expect(model, moments, batch, method.chunk))
    return resolved(new, resolution(model, moments, batch, jnp.sum(batch.weight)))


@pytree
class CAVI:
    """Coordinate-ascent variational inference (Bishop 2006, section 10.1).

    The objective is the evidence lower bound. `chunk` is the number of rows held at once; None
    chooses it from sizes and device.
    """

    chunk: int | None = static(default=None)
    monotone: ClassVar[bool] = True
    point: ClassVar[bool] = False

    def init(self, model: Any, q: Any, batch: Batch) -> State:
        """A state whose proposal is `q`."""
        return unevaluated(q, batch)

    def step(self, model: Any, state: State, batch: Batch, key: Key[Array, ""] | None) -> State:
        """Local step at the proposal, its exact bound, and the update it implies.

        The gain is taken from the move of q, as 2 KL(new || old): the bound itself cannot resolve
        it in float32. An update raises the bound by exactly KL(old || new) and the responses of
        the latent variables add at most as much again, near a fixed point.
        """
        return whole_pass(self, model, state, batch)

    def moments(self, q: Any) -> Any:
        """What the local step reads of q."""
        return q.moments()

    def conclude(self, model: Any, state: State, stats: Any, log_z: Float[Array, ""]) -> State:
        """The state after a pass over all rows, however it was made."""
        q = state.proposal
        penalty, move = penalties(model, q, state.q)
        new = model.update(q, stats)
        return State(q, new, log_z - penalty, 2.0 * move, jnp.zeros_like(state.fault))

    def gains(self, q: Any, *lasts: Any) -> list[Float[Array, ""]]:
        """2 KL(q || last) in nats: what a step from `last` to `q` gained, near a fixed point."""
        return list(2.0 * divergences(q, *lasts).total_by_product())


@pytree
class EM:
    """Expectation maximisation: posterior mode under the model's prior, or maximum likelihood.

    The estimate is `q.point()`: for a mixture the means under q of weights, means and precisions.
    The objective is the log-likelihood there plus `log_kernel` of the prior, its log density in
    the natural basis. In that basis a mode exists under every proper prior, sparse ones too,
    where the textbook mode of a Dirichlet with conc < 1 does not (MacKay 1998, "Choice of basis
    for Laplace approximation"). A model built by `flat` has no prior: the objective is the
    log-likelihood (Dempster et al. 1977), and COLLAPSED is set where a component runs into a
    singularity of it.
    """

    chunk: int | None = static(default=None)
    monotone: ClassVar[bool] = True
    point: ClassVar[bool] = True

    def init(self, model: Any, q: Any, batch: Batch) -> State:
        """A state whose proposal is `q`, read at its point."""
        return unevaluated(q, batch, aux=q.point())

    def step(self, model: Any, state: State, batch: Batch, key: Key[Array, ""] | None) -> State:
        """E-step at the proposal's point, its exact objective, and the M-step it implies.

        The gain is twice what the M-step gained (`kernel_gap`), as in CAVI.
        """
        return whole_pass(self, model, state, batch)

    def moments(self, q: Any) -> Any:
        """What the local step reads of q: its point."""
        return q.point()

    def conclude(self, model: Any, state: State, stats: Any, log_z: Float[Array, ""]) -> State:
        """The state after a pass over all rows, however it was made."""
        q = state.proposal
        point = q.point()
        objective = log_z + model.log_prior(point)
        gain = 2.0 * jnp.sum(q.kernel_gap(state.aux))
        fault = jnp.where(model.collapsed(q), int(Status.COLLAPSED), 0).astype(state.fault.dtype)
        return State(q, model.update(q, stats), objective, gain, fault, aux=point)

    def gains(self, q: Any, *lasts: Any) -> list[Float[Array, ""]]:
        """Twice what an M-step from the point of each of `lasts` to that of `q` gained, in nats."""
        return [2.0 * jnp.sum(q.kernel_gap(last.point())) for last in lasts]
