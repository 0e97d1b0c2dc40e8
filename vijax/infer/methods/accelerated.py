"""Fewer passes: momentum around a monotone method, guarded by its exact objective."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ..._pytree import pytree, replace
from ...data.batch import Batch
from ...exponential_family import ExponentialFamily
from ...model import ConditionalModel, Model, Q
from ..method import FullPassMethod
from ..result import State
from ..run.passes import full_pass
from .cavi import CAVI

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
class Accelerated(FullPassMethod):
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

    The method must be a monotone `FullPassMethod`, and q an `ExponentialFamily`; TypeError is
    raised for others. Where a fit has several optima it may end in another one, and
    it may rest within `Stop.tol` of a saddle that plain steps, being slower, leave.
    """

    method: FullPassMethod = CAVI()  # noqa: RUF009
    monotone: ClassVar[bool] = True

    @property
    def point(self) -> bool:  # type: ignore[override]
        """Whether the method is at a point."""
        return self.method.point

    @property
    def chunk(self) -> int | None:  # type: ignore[override]
        """The method's number of rows held at once."""
        return self.method.chunk

    def check(self, model: Model) -> None:
        """Raise TypeError for a method that cannot be accelerated, or a model that it refuses."""
        if not (isinstance(self.method, FullPassMethod) and self.method.monotone):
            raise TypeError(f"method: expected CAVI() or EM() to accelerate, got {self.method!r}")
        self.method.check(model)

    def init(self, model: ConditionalModel, q: Q, batch: Batch) -> State:
        """A state whose `next_q` is `q`."""
        if not isinstance(q, ExponentialFamily):
            raise TypeError(f"q: momentum needs an ExponentialFamily, got {type(q).__name__}")
        state = self.method.init(model, q, batch)
        zero = jnp.zeros_like(state.elbo)
        count = jnp.asarray(-_PLAIN, jnp.int32)
        memory = Momentum(q, count, zero, zero, state.elbo, self._finite(q), state.memory)
        return replace(state, memory=memory, rate=zero + 1.0)

    def _finite(self, q: Q) -> list[Array]:
        """Which numbers of q are: outside of the family's domain, or on its edge, others are."""
        return [jnp.isfinite(a) for a in jax.tree.leaves((self.moments(q), q.log_normalizer()))]

    def step(
        self, model: ConditionalModel, state: State, batch: Batch, key: Key[Array, ""] | None
    ) -> State:
        """Evaluate the proposal, keep it or not, and make the next one."""
        return full_pass(self, model, state, batch)

    def moments(self, q: Q) -> Any:
        """What the local step reads of q."""
        return self.method.moments(q)

    def conclude(
        self, model: ConditionalModel, state: State, stats: Any, log_z: Float[Array, ""]
    ) -> State:
        """The state after a pass over all rows, however it was made."""
        old = state.memory
        new = self.method.conclude(model, replace(state, memory=old.inner, rate=None), stats, log_z)
        eps = jnp.finfo(new.elbo.dtype).eps
        finite = self._finite(new.q)
        same = [jnp.all(a == b) for a, b in zip(finite, old.finite, strict=True)]
        good = jnp.isfinite(new.elbo) & (new.failure == 0) & jnp.all(jnp.stack(same))
        good = good & (new.elbo >= old.best - _SLACK * eps * jnp.abs(new.elbo))
        kept = self._kept(old, new, finite)
        # huge: nothing is known of the next gain
        dropped = State(
            state.q,
            old.plain,
            state.elbo,
            jnp.full_like(new.improvement, jnp.finfo(new.improvement.dtype).max),
            jnp.zeros_like(new.failure),
            replace(old, count=jnp.zeros_like(old.count), weight=jnp.zeros_like(old.weight)),
            jnp.ones_like(kept.elbo),
        )
        drop = (old.weight > 0) & ~good
        return jax.tree.map(lambda a, b: jnp.where(drop, a, b), dropped, kept)

    def _kept(self, old: Momentum, new: State, finite: list[Array]) -> State:
        """The state at the point just evaluated."""
        plain = new.next_q
        improvement, change = self.method.improvements(plain, new.q, old.plain)
        rate = jnp.where(
            new.improvement > 0, change / jnp.where(new.improvement > 0, new.improvement, 1.0), 1.0
        )
        # 2 <F(q) - q, F(q) - F(q')> < 0, by the law of cosines: q - F(q') = b (F(q') - F(q''))
        against = improvement + change < old.weight**2 * old.change
        restart = against | ((rate > _EXCESS) & (old.count >= 0))
        count = jnp.where(restart, 0, old.count + 1)
        steps = jnp.maximum(count, 0).astype(improvement.dtype)
        weight = steps / (steps + 1.0)
        next_q = plain.map(lambda a, b: a + weight * (a - b), old.plain)
        best = jnp.maximum(old.best, new.elbo)
        memory = Momentum(plain, count, weight, change, best, finite, new.memory)
        return State(new.q, next_q, new.elbo, improvement, new.failure, memory, rate)

    def improvements(self, q: Q, *lasts: Q) -> list[Float[Array, ""]]:
        """The method's."""
        return self.method.improvements(q, *lasts)
