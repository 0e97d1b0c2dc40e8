"""The start of a chain of states: pairs of them are tried as one, and what gains is kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from ..data.batch import Batch
from ..data.chunked import accumulate, automatic_chunk
from ..latent_class import MergeModel
from ..model import Q
from ..numerics.lanes import anywhere
from .methods.cavi import CAVI
from .result import State

_FIRST = 60  # passes before the first pair is tried
_TRIAL = 8  # passes of each trial
_PATIENCE = 8  # failed trials in a row that end the search
_LEAST_STEPS = 0.5  # a class with fewer steps is empty


class Search(NamedTuple):
    """The best q so far with its bound, and the trial under way, of one pair as one.

    Passes of the trial count down from `until`. `tried` are pairs that did not gain, `pair` is the
    one under trial, and `fails` counts failures in a row.
    """

    best: State
    now: State
    until: Int[Array, ""]
    pair: Int[Array, "2"]
    tried: Bool[Array, "k k"]
    fails: Int[Array, ""]
    done: Bool[Array, ""]


def merge_classes(model: MergeModel, batch: Batch, q: Q) -> Q:
    """The q after passes of CAVI, and after pairs of classes were merged as long as it gains.

    A trial gives all steps of one class to another one and runs a few passes; it is kept if the
    bound is higher then. Pairs are tried in the order of `merge_gain`. Two states of a chain that
    share the steps of one never part by coordinate ascent, as each step between them counts.
    """
    k = model.num_components
    if k == 1:
        return q
    method = CAVI()
    chunk = automatic_chunk(model.row_size(batch), batch)
    eps = jnp.finfo(batch.weight.dtype).eps

    def give(part: Batch, model: MergeModel, moments: Any, heir: Array) -> tuple[Any, Array]:
        return model.give_to(moments, part, heir), jnp.zeros((), part.weight.dtype)

    def next_trial(now: Search) -> Search:
        """Judge the trial that has ended, and begin the next one."""
        first = now.pair[0] == now.pair[1]
        margin = 4.0 * eps * jnp.abs(now.best.elbo)
        better = jnp.isfinite(now.now.elbo) & (now.now.elbo > now.best.elbo + margin)
        better = (better | first) & ~now.done
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), now.now, now.best)
        i, j = now.pair[0], now.pair[1]
        tried = now.tried.at[i, j].set(True).at[j, i].set(True)
        # a class that has changed may gain with others
        again = jnp.zeros(k, bool).at[now.pair].set(True)
        tried = jnp.where(better & (again[:, None] | again[None]), False, tried)
        fails = jnp.where(better, 0, now.fails + 1)
        steps = model.steps_of(best.q)
        used = model.active & (steps > _LEAST_STEPS)
        pairs = used[:, None] & used[None] & ~tried & ~jnp.eye(k, dtype=bool)
        gain = model.merge_gain(best.q)
        pairs = pairs & (gain > -jnp.inf)  # nor is NaN
        index = jnp.argmax(jnp.where(pairs, gain, -jnp.inf))
        keep, gone = index // k, index % k
        done = now.done | ~jnp.any(pairs) | (fails >= _PATIENCE)
        heir = jnp.where(jnp.arange(k) == gone, keep, jnp.arange(k))
        stats, _ = accumulate(give, batch, chunk, model, best.q.moments(), heir)
        trial = method.init(model, model.update(best.q, stats), batch)
        pair = jnp.stack([keep, gone]).astype(now.pair.dtype)
        return Search(best, trial, jnp.asarray(_TRIAL, jnp.int32), pair, tried, fails, done)

    def step(now: Search) -> Search:
        new = method.step(model, now.now, batch, None)
        now = now._replace(now=new, until=now.until - 1)
        return lax.cond(now.until <= 0, next_trial, lambda now: now, now)

    start = method.init(model, q, batch)
    zero = jnp.asarray(0, jnp.int32)
    none = Search(
        best=start,
        now=start,
        until=jnp.asarray(_FIRST, jnp.int32),
        pair=jnp.zeros(2, jnp.int32),
        tried=jnp.zeros((k, k), bool),
        fails=zero,
        done=jnp.asarray(False),
    )
    # under vmap all lanes try their pairs at the same passes, so that a pass is one E-step
    return lax.while_loop(lambda now: anywhere(~now.done), step, none).best.next_q
