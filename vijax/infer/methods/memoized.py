"""Coordinate ascent by blocks of rows, which remembers the statistics of every block."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree, replace, static
from ...data.batch import Batch
from ...data.host import check_bound, check_integer
from ...model import ConditionalModel, Model, Q
from ...numerics.chunked import zeros_like_result
from ..method import Method
from ..result import State
from ..run.loop import unevaluated
from ..run.passes import expect, floored, rounding_floor
from .cavi import need_rows


@pytree
class Memory:
    """What is remembered of every block, on a leading axis m; `complete` after the first pass.

    `stats` are the statistics of the last visit. `offset` is the part of the bound in nats that is
    constant in theta: the entropy of the latent variables and the constants of the likelihood.
    `rows` is the state of the rows of every block, if they have one.
    """

    stats: Any
    offset: Float[Array, "*b m"]
    complete: Bool[Array, "*b"]
    rows: Any = None


@pytree
class Memoized(Method[ConditionalModel]):
    """Exact variational inference by blocks of rows, with an update of q after each block.

    (Neal & Hinton 1998, incremental EM; Hughes & Sudderth 2013, memoized variational inference.)
    Every `num_blocks`-th row is in the same block. A step is one pass, in which the new statistics
    of each block in turn replace its old ones in the sum that q follows. The sum adds the new
    statistics so far to the old ones still to be replaced; nothing is subtracted, so that rounding
    does not accumulate. The first pass reads all blocks at the starting q, as CAVI does, and one
    block is CAVI. It needs memory for 2 `num_blocks` statistics.

    The objective is the exact bound in nats of q together with the responsibilities of the last
    visits, and never falls: ELBO = E_q[log p(x, z | theta)] + sum of offsets - KL(q || p). As these
    responsibilities are older than q, it is at most `vx.elbo`, and equal at the end. `fit` raises
    ValueError for a model that needs all rows at once.

    Args:
        num_blocks: Number of blocks, m.
        chunk: As in `CAVI`.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.from_data(x, 4)
        fit = vx.fit(model, x, key=jax.random.key(0), method=vx.Memoized(num_blocks=5))
    """

    num_blocks: int = static(default=10)
    chunk: int | None = static(default=None)
    monotone: ClassVar[bool] = True

    def check(self, model: Model) -> None:
        check_integer("num_blocks", self.num_blocks)
        check_bound("num_blocks", self.num_blocks, least=1.0)
        known = need_rows(self, model)
        if type(known).expected_log_lik is ConditionalModel.expected_log_lik:
            known.expected_log_lik(None, None)  # raises ValueError

    def init(self, model: ConditionalModel, q: Q, batch: Batch) -> State:
        size = self._size(batch)
        zero = zeros_like_result(lambda: model.local(q.moments(), batch.cut(0, size)).stats)
        zero = jax.tree.map(lambda a: jnp.zeros((self.num_blocks, *a.shape), a.dtype), zero)
        offset = jnp.zeros(self.num_blocks, batch.weight.dtype)
        blocks = [model.rows(self._block(batch, jnp.asarray(i))) for i in range(self.num_blocks)]
        rows = jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)
        return unevaluated(q, batch, Memory(zero, offset, jnp.zeros((), bool), rows))

    def step(
        self, model: ConditionalModel, state: State, batch: Batch, key: Key[Array, ""] | None
    ) -> State:
        """One pass over the blocks, the exact bound at its last q, and the update after it.

        The improvement is 2 KL(new || old) of the move of the whole pass. Along the slowest
        direction, which decides when a fit ends, a pass gains at most as much as a step of CAVI
        that moves q as far.
        """
        old: Memory = state.memory
        zero = jax.tree.map(lambda a: jnp.zeros_like(a[0]), old.stats)
        # for each block, the sum of the old statistics of the blocks after it
        _, later = lax.scan(lambda total, s: (s + total, total), zero, old.stats, reverse=True)

        def visit(carry: Any, block: Any) -> tuple[Any, Any]:
            q, _, before = carry
            index, after, own = block
            part = self._block(batch, index)
            found = expect(model, q.moments(), part, self.chunk, own)
            stats, log_z = found.stats, found.log_z
            offset = log_z - model.expected_log_lik(q, stats)
            before = stats + before  # about the origin of `stats`, next to the current means
            new = model.combine(q, before + after)
            new = jax.tree.map(lambda a, b: jnp.where(old.complete, a, b), new, q)
            return (new, q, before), (stats, offset, found.rows)

        start = (state.next_q, state.q, zero)
        blocks = (jnp.arange(self.num_blocks), later, old.rows)
        (_, q, total), (stats, offset, rows) = lax.scan(visit, start, blocks)
        elbo = jnp.sum(offset) + model.expected_log_lik(q, total) - model.kl(q)
        order = model.order(q, total)
        if order is not None:
            stats = jax.vmap(lambda s: model.reorder(s, order))(stats)
            total = model.reorder(total, order)
        memory = Memory(stats, offset, jnp.ones_like(old.complete), rows)
        improvement = 2.0 * jnp.sum(q.kl(state.q))
        new = State(
            q, model.combine(q, total), elbo, improvement, jnp.zeros_like(state.failure), memory
        )
        part = batch.cut(0, self._size(batch))
        floor = rounding_floor(model, q.moments(), part)
        return floored(new, floor * batch.total_weight)

    def _size(self, batch: Batch) -> int:
        return -(-batch.weight.shape[0] // self.num_blocks)

    def _block(self, batch: Batch, index: Int[Array, ""]) -> Batch:
        """Rows index, index + num_blocks, ..., so that sorted rows are spread over all blocks."""
        n = batch.weight.shape[0]
        rows = index + self.num_blocks * jnp.arange(self._size(batch))
        part = batch.take(jnp.minimum(rows, n - 1))
        return replace(part, weight=jnp.where(rows < n, part.weight, 0.0))
