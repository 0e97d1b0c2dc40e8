"""Stochastic variational inference: a natural-gradient step after every minibatch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from ..._pytree import pytree, replace, static
from ...data.batch import Batch
from ...data.host import check_bound, check_integer
from ...model import ConditionalModel, Model, Q
from ..method import Method
from ..result import State
from ..run.loop import unevaluated
from ..run.passes import expect
from ..run.random_order import random_rows
from .cavi import CAVI, need_rows


@pytree
class RobbinsMonro:
    """The schedule rate = (t + delay)^-forgetting at update t = 0, 1, ... (Robbins & Monro 1951).

    It converges for 0.5 < forgetting <= 1. A larger `delay` > 0 makes the first steps smaller.

    Example:
        method = vx.SVI(batch_size=256, rate=vx.RobbinsMonro(delay=64.0, forgetting=0.7))
    """

    delay: float | Float[Array, ""] = 1.0
    forgetting: float | Float[Array, ""] = 0.7

    def __call__(self, t: Int[Array, ""]) -> Float[Array, ""]:
        """The rate of update t, at most 1."""
        delay = jnp.asarray(self.delay)
        return jnp.minimum((t.astype(delay.dtype) + delay) ** -self.forgetting, 1.0)


@pytree
class _Function:
    """A callable schedule: static, so that each function is compiled once."""

    fn: Callable[[Any], Any] = static()

    def __call__(self, t: Int[Array, ""]) -> Any:
        return self.fn(t)


@pytree
class SVI(Method[ConditionalModel]):
    """Stochastic variational inference (Hoffman, Blei, Wang & Paisley 2013).

    Each update takes `batch_size` rows, scales their statistics to all rows, and moves q in natural
    coordinates by `rate` towards the q that they imply. `rate` is a number in (0, 1], a
    `RobbinsMonro`, or any function of the number of updates so far, such as an optax schedule.
    Numbers are traced, a function is part of the program.

    A step is one pass, so `Stop.max_iter` and `n_iter` count passes. In a pass each row of positive
    weight comes once, in a new random order; the last minibatches may have one row less. Statistics
    are scaled by the number of rows over that of the minibatch, which is unbiased; a ratio of
    weights would not be. Components keep their order, also under weights that CAVI sorts by size.

    `elbo` of a state, and `elbo_trace`, estimate the bound in nats: the sum of w_n log Z_n over the
    pass, each row at the q of its minibatch, less the mean KL(q || p) of these q. The estimate has
    no sampling noise but is behind q; it is exact if one minibatch has all rows. `Result.elbo` is
    exact, by one more pass at the end. CONVERGED says that q moves no more, also because rates
    fall; for a fixed number of passes give `Stop(max_iter=...)`, which ends as MAX_ITER.

    Args:
        batch_size: Number of rows of an update.
        rate: The step size, as above.
        chunk: As in `CAVI`.

    Example:
        x, _ = vx.datasets.three_clusters()
        model, passes = vx.GaussianMixture.from_data(x, 4), vx.Stop(max_iter=20)
        method = vx.SVI(batch_size=100, rate=0.1)
        fit = vx.fit(model, x, key=jax.random.key(0), method=method, stop=passes)
    """

    batch_size: int = static(default=1024)
    rate: Any = RobbinsMonro()
    chunk: int | None = static(default=None)
    draws: ClassVar[bool] = True
    estimates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if callable(self.rate) and jax.tree_util.all_leaves([self.rate]):
            object.__setattr__(self, "rate", _Function(self.rate))

    def check(self, model: Model) -> None:
        need_rows(self, model)
        check_integer("batch_size", self.batch_size)
        check_bound("batch_size", self.batch_size, least=1.0)
        if isinstance(self.rate, RobbinsMonro):
            check_bound("rate: delay", self.rate.delay, above=0.0)
            check_bound("rate: forgetting", self.rate.forgetting, least=0.0)
        elif not callable(self.rate):
            check_bound("rate", self.rate, above=0.0, most=1.0)

    def init(self, model: ConditionalModel, q: Q, batch: Batch) -> State:
        return unevaluated(q, batch, memory=jnp.asarray(0, jnp.int32))

    def step(
        self, model: ConditionalModel, state: State, batch: Batch, key: Key[Array, ""] | None
    ) -> State:
        """One pass: `q` is the one at which the last minibatch was read, `next_q` its update."""
        assert key is not None  # `draws` says that there is one
        epoch = Epoch.draw(key, batch, self.batch_size)

        def visit(i: Array, carry: Any) -> Any:
            _, q, t, log_zs, kls = carry
            part, share = epoch.minibatch(batch, i)
            stats, log_z = expect(model, q.moments(), part, self.chunk)[:2]
            rate = self.rate(t) if callable(self.rate) else self.rate
            rate = jnp.clip(jnp.asarray(rate).astype(share.dtype), 0.0, 1.0)
            new = model.combine(q, (1.0 / share) * stats, rate)
            kls = kls + share * model.kl(q)
            return q, new, t + 1, log_zs + log_z, kls

        zero = jnp.zeros_like(state.elbo)
        carry = (state.next_q, state.next_q, state.memory, zero, zero)
        carry = lax.fori_loop(jnp.zeros_like(state.memory), epoch.num_batches, visit, carry)
        q, next_q, t, log_zs, kls = carry
        improvement = 2.0 * jnp.sum(q.kl(state.q))
        return State(q, next_q, log_zs - kls, improvement, jnp.zeros_like(state.failure), memory=t)

    def evaluate(self, model: ConditionalModel, q: Q, batch: Batch) -> Float[Array, ""]:
        """The exact bound of q in nats, that of CAVI."""
        return CAVI(self.chunk).evaluate(model, q, batch)


@pytree
class Epoch:
    """One pass over the rows in minibatches: each row of positive weight once, in random order.

    The sizes of minibatches differ by one row at most, so that none is too small to be scaled up.
    """

    rows: Int[Array, "n"]
    num_rows: Int[Array, ""]
    num_batches: Int[Array, ""]
    key: Key[Array, ""]
    size: int = static()

    @classmethod
    def draw(cls, key: Key[Array, ""], batch: Batch, batch_size: int) -> Epoch:
        """A pass in minibatches of at most `batch_size` rows."""
        n = batch.weight.shape[0]
        size = min(batch_size, n)
        present = batch.weight > 0
        rows = jnp.nonzero(present, size=n, fill_value=0)[0].astype(jnp.int32)
        num_rows = jnp.maximum(jnp.sum(present, dtype=jnp.int32), 1)
        return cls(rows, num_rows, (num_rows + (size - 1)) // size, key, size)

    def minibatch(self, batch: Batch, i: Any) -> tuple[Batch, Float[Array, ""]]:
        """The rows of minibatch i, padded by rows of weight 0, and their share of all rows."""
        least, more = self.num_rows // self.num_batches, self.num_rows % self.num_batches
        first = i * least + jnp.minimum(i, more)
        size = least + (i < more).astype(jnp.int32)
        index = jnp.arange(self.size, dtype=jnp.int32)
        position = jnp.minimum(first + index, self.num_rows - 1)
        part = batch.take(self.rows[random_rows(self.key, position, self.num_rows)])
        dtype = part.weight.dtype
        part = replace(part, weight=jnp.where(index < size, part.weight, 0.0))
        return part, size.astype(dtype) / self.num_rows.astype(dtype)
