"""Fewer passes: momentum around a monotone method, guarded by its exact objective."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from .._pytree import pytree, replace
from ..batch import Batch
from ..natural import Natural
from .cavi import CAVI, whole_pass
from .result import State

_PLAIN = 5  # steps before any momentum: the first ones say little of the next
_EXCESS = 10.0  # a map that stretches the last move as much has jumped, or reordered components
_SLACK = 8.0  # the fall of an objective, in eps of it, that is rounding


@pytree
class Momentum:
    """What `Accelerated` remembers of the last point q that it kept.

    `plain` is F(q), the method's own next point; `count` the steps since the last restart;
    `weight` the momentum in the proposal, 0 if it is F(q) itself; `change` the move of F(q) in
    nats; `best` the highest objective; `finite` which numbers of q are; `inner` the method's own.
    """

    plain: Any
    count: Int[Array, "*b"]
    weight: Float[Array, "*b"]
    change: Float[Array, "*b"]
    best: Float[Array, "*b"]
    finite: Any
    inner: Any


@pytree
class Accelerated:
    """`method`, CAVI or EM, with Nesterov's momentum in natural coordinates.

    The method is a map F; CAVI's F(q) - q is the natural gradient of the bound, and near an
    optimum its Hessian in that metric has eigenvalues between 0 and 1, so that the step 1 is the
    one that accelerated gradients ask for: proposals are F(q) + b (F(q) - F(q')), q' the point
    before, b = k / (k + 1) after k steps (Nesterov 1983). An error that F shrinks by 1 - c a step
    shrinks by about 1 - sqrt(c). Momentum begins anew where it points against the gradient, in
    the metric of KL (O'Donoghue & Candes 2015), and where F has reordered the components.

    Every step is one pass over the rows. A proposal with momentum that lowers the objective by
    more than rounding, leaves the family, or is not finite, is dropped: the state stays, its
    objective stands once more in `elbo_trace`, and F(q), known already, comes next. So the
    objective never falls, each is that of its q, and a fixed point is one of F. The `rate` for the
    stopping rule is the square of how much F shortens the last move, with momentum or without.

    The method must be monotone and have `moments`, `conclude` and `gains`; q must be a Natural.
    TypeError is raised for others. Where a fit has several optima it may end in another one, and
    it may rest within `Stop.tol` of a saddle that plain steps, being slower, leave.
    """

    method: Any = CAVI()

    @property
    def monotone(self) -> bool:
        """Always."""
        return True

    @property
    def point(self) -> bool:
        """The method's."""
        return bool(getattr(self.method, "point", False))

    @property
    def chunk(self) -> int | None:
        """The method's."""
        return getattr(self.method, "chunk", None)

    def init(self, model: Any, q: Any, batch: Batch) -> State:
        """A state whose proposal is `q`."""
        needed = ("conclude", "moments", "gains")
        if not (getattr(self.method, "monotone", False) and all(map(self._has, needed))):
            raise TypeError(f"method: expected CAVI() or EM() to accelerate, got {self.method!r}")
        if not isinstance(q, Natural):
            raise TypeError(f"q: momentum needs a Natural, got {type(q).__name__}")
        state = self.method.init(model, q, batch)
        zero = jnp.zeros_like(state.elbo)
        count = jnp.asarray(-_PLAIN, jnp.int32)
        memory = Momentum(q, count, zero, zero, state.elbo, self._finite(q), state.aux)
        return replace(state, aux=memory, rate=zero + 1.0)

    def _has(self, name: str) -> bool:
        return hasattr(self.method, name)

    def _finite(self, q: Any) -> list[Array]:
        """Which numbers of q are: outside of the family's domain, or on its edge, others are."""
        return [jnp.isfinite(a) for a in jax.tree.leaves((self.moments(q), q.log_normalizer()))]

    def step(self, model: Any, state: State, batch: Batch, key: Key[Array, ""] | None) -> State:
        """Evaluate the proposal, keep it or not, and make the next one."""
        return whole_pass(self, model, state, batch)

    def moments(self, q: Any) -> Any:
        """What the local step reads of q."""
        return self.method.moments(q)

    def conclude(self, model: Any, state: State, stats: Any, log_z: Float[Array, ""]) -> State:
        """The state after a pass over all rows, however it was made."""
        old = state.aux
        new = self.method.conclude(model, replace(state, aux=old.inner, rate=None), stats, log_z)
        eps = jnp.finfo(new.elbo.dtype).eps
        finite = self._finite(new.q)
        same = [jnp.all(a == b) for a, b in zip(finite, old.finite, strict=True)]
        good = jnp.isfinite(new.elbo) & (new.fault == 0) & jnp.all(jnp.stack(same))
        good = good & (new.elbo >= old.best - _SLACK * eps * jnp.abs(new.elbo))
        kept = self._kept(old, new, finite)
        # huge: nothing is known of the next gain
        dropped = State(
            state.q,
            old.plain,
            state.elbo,
            jnp.full_like(new.gain, jnp.finfo(new.gain.dtype).max),
            jnp.zeros_like(new.fault),
            replace(old, count=jnp.zeros_like(old.count), weight=jnp.zeros_like(old.weight)),
            jnp.ones_like(kept.elbo),
        )
        drop = (old.weight > 0) & ~good
        return jax.tree.map(lambda a, b: jnp.where(drop, a, b), dropped, kept)

    def _kept(self, old: Momentum, new: State, finite: list[Array]) -> State:
        """The state at the point just evaluated."""
        plain = new.proposal
        gain, change = self.method.gains(plain, new.q, old.plain)
        rate = jnp.where(new.gain > 0, change / jnp.where(new.gain > 0, new.gain, 1.0), 1.0)
        # 2 <F(q) - q, F(q) - F(q')> < 0, by the law of cosines: q - F(q') = b (F(q') - F(q''))
        against = gain + change < old.weight**2 * old.change
        restart = against | ((rate > _EXCESS) & (old.count >= 0))
        count = jnp.where(restart, 0, old.count + 1)
        steps = jnp.maximum(count, 0).astype(gain.dtype)
        weight = steps / (steps + 1.0)
        proposal = plain.map(lambda a, b: a + weight * (a - b), old.plain)
        best = jnp.maximum(old.best, new.elbo)
        memory = Momentum(plain, count, weight, change, best, finite, new.aux)
        return State(new.q, proposal, new.elbo, gain, new.fault, memory, rate)
