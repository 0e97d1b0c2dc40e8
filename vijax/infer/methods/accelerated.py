"""Momentum around a monotone method, for fewer passes; its exact objective guards it."""

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
from ..run.loop import CANCELLED
from ..run.passes import full_pass
from .cavi import CAVI

_PLAIN = 5  # steps without momentum at first, since they are no guide to later ones
_EXCESS = 10.0  # if moves in nats grow more than this, F has jumped or reordered components
_SLACK = 8.0  # a fall of the objective by so many eps of it is rounding


@pytree
class Momentum:
    """The memory of `Accelerated` after the last q that it kept.

    `plain` is F(q), the next q of the method itself; `count` the number of steps since momentum
    began; `weight` the momentum b in `next_q`, 0 if that is F(q); `change` the last move of F(q) in
    nats; `best` the highest objective in nats; `finite` which numbers of q are finite; `inner` the
    memory of the method.
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
    """CAVI or EM, its `method`, with Nesterov's momentum in natural coordinates.

    A step of the method is a map F. For CAVI, F(q) - q is the natural gradient of the bound, whose
    Hessian in that metric has eigenvalues between 0 and 1 near an optimum, so that 1 is the right
    step length for acceleration. The next q is F(q) + b (F(q) - F(q')), where q' is the last q and
    b = k / (k + 1) after k steps (Nesterov 1983). An error that F shrinks by 1 - c per step shrinks
    by about 1 - sqrt(c). Momentum restarts if it points against the gradient in the metric of KL
    (O'Donoghue & Candes 2015), and if F has reordered the components.

    Every step is one pass over the rows. A next q that lowers the objective by more than rounding,
    leaves the family or is not finite is dropped: the state stays, `elbo_trace` repeats its
    objective, and F(q), which is known, comes next. So the objective never falls, and a fixed point
    is one of F. The `rate` of the stopping rule is the square of the factor by which F shortens the
    last move.

    TypeError is raised unless the method is a monotone `FullPassMethod` and q an
    `ExponentialFamily`. A fit with several optima may end in another one than without momentum, and
    it may stay within `Stop.tol` of a saddle that plain steps, which are slower, would leave.

    Args:
        method: `CAVI()` or `EM()`.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.from_data(x, 4)
        fit = vx.fit(model, x, key=jax.random.key(0), method=vx.Accelerated(vx.CAVI()))
    """

    method: FullPassMethod = CAVI()  # noqa: RUF009
    monotone: ClassVar[bool] = True

    @property
    def point(self) -> bool:  # type: ignore[override]
        """Whether the estimate of the method is a point."""
        return self.method.point

    @property
    def chunk(self) -> int | None:  # type: ignore[override]
        """The number of rows in memory at once, that of the method."""
        return self.method.chunk

    def check(self, model: Model) -> None:
        if not (isinstance(self.method, FullPassMethod) and self.method.monotone):
            raise TypeError(f"method: expected CAVI() or EM() to accelerate, got {self.method!r}")
        self.method.check(model)

    def init(self, model: ConditionalModel, q: Q, batch: Batch) -> State:
        if not isinstance(q, ExponentialFamily):
            raise TypeError(f"q: momentum needs an ExponentialFamily, got {type(q).__name__}")
        state = self.method.init(model, q, batch)
        zero = jnp.zeros_like(state.elbo)
        count = jnp.asarray(-_PLAIN, jnp.int32)
        memory = Momentum(q, count, zero, zero, state.elbo, self._finite(q), state.memory)
        return replace(state, memory=memory, rate=zero + 1.0)

    def _finite(self, q: Q) -> list[Array]:
        """Which moments of q are finite; outside of the family or at its boundary others are."""
        return [jnp.isfinite(a) for a in jax.tree.leaves((self.moments(q), q.log_normalizer()))]

    def step(
        self, model: ConditionalModel, state: State, batch: Batch, key: Key[Array, ""] | None
    ) -> State:
        new = full_pass(self, model, state, batch)
        # a dropped q leaves the rows as they were
        dropped = new.improvement == jnp.finfo(new.improvement.dtype).max
        rows = jax.tree.map(lambda a, b: jnp.where(dropped, a, b), state.rows, new.rows)
        return replace(new, rows=rows)

    def moments(self, q: Q) -> Any:
        return self.method.moments(q)

    def conclude(
        self, model: ConditionalModel, state: State, stats: Any, log_z: Float[Array, ""]
    ) -> State:
        """The state after a pass with `next_q`, which is kept or dropped."""
        old = state.memory
        new = self.method.conclude(model, replace(state, memory=old.inner, rate=None), stats, log_z)
        eps = jnp.finfo(new.elbo.dtype).eps
        finite = self._finite(new.q)
        same = [jnp.all(a == b) for a, b in zip(finite, old.finite, strict=True)]
        good = jnp.isfinite(new.elbo) & (new.failure == 0) & jnp.all(jnp.stack(same))
        size = jnp.abs(new.elbo)
        size = size if new.magnitude is None else size + CANCELLED * new.magnitude
        good = good & (new.elbo >= old.best - _SLACK * eps * size)
        kept = self._kept(old, new, finite)
        # with a huge improvement, as nothing is known of the next one
        dropped = State(
            state.q,
            old.plain,
            state.elbo,
            jnp.full_like(new.improvement, jnp.finfo(new.improvement.dtype).max),
            jnp.zeros_like(new.failure),
            replace(old, count=jnp.zeros_like(old.count), weight=jnp.zeros_like(old.weight)),
            jnp.ones_like(kept.elbo),
            new.magnitude,
        )
        drop = (old.weight > 0) & ~good
        return jax.tree.map(lambda a, b: jnp.where(drop, a, b), dropped, kept)

    def _kept(self, old: Momentum, new: State, finite: list[Array]) -> State:
        """The state if the q just evaluated is kept."""
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
        numbers = new.elbo, improvement, new.failure
        return State(new.q, next_q, *numbers, memory, rate, new.magnitude)

    def improvements(self, q: Q, *lasts: Q) -> list[Float[Array, ""]]:
        return self.method.improvements(q, *lasts)
