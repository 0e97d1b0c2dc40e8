"""Labels that follow a Markov chain: what makes components a hidden Markov model."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree, replace
from ...data.batch import Batch
from ...data.host import check_bound
from ...exponential_family import Product, Q
from ...numerics.chain_forecast import ahead
from ...numerics.chain_paths import most_probable_path, simulate
from ...numerics.forward_backward import filtered, forward_backward
from ...numerics.kl_terms import KLTerms
from ..dirichlet import CategoricalMoments, Dirichlet
from .base import Labelled, Labels, present, weighed

_ROW = 2**13  # floats that a sequence counts for at least


@pytree
class ChainMoments:
    """E[log p] of the first state and of the next state given the last, under q or at a point."""

    initial: CategoricalMoments
    transitions: CategoricalMoments


@pytree
class Chain(Product, Labels):
    """z_1 ~ Categorical(initial), z_t | z_{t-1} = i ~ Categorical(transitions_i).

    `initial` (k,) and the rows of `transitions` (k, k) are Dirichlet distributions, in
    pseudo-counts of steps (Beal 2003, chapter 3). A transition of concentration 0 is
    impossible, under the prior and for ever.
    """

    Moments: ClassVar = ChainMoments
    word: ClassVar[str] = "state"
    initial: Dirichlet
    transitions: Dirichlet

    @classmethod
    def from_standard(cls, initial: Any, transitions: Any) -> Chain:
        """Chain with concentrations (k,) and (k, k) >= 0 in pseudo-counts; 0 is impossible.

        Raises ValueError for negative ones and for shapes that do not go together.
        """
        check_bound("initial", initial, least=0.0)
        check_bound("transitions", transitions, least=0.0)
        first, rows = Dirichlet.from_standard(initial), Dirichlet.from_standard(transitions)
        k = first.size
        if rows.conc.shape[-2:] != (k, k):
            raise ValueError(
                f"transitions: expected shape ({k}, {k}), one row for each of the {k} states of "
                f"`initial`, got {rows.conc.shape}"
            )
        return cls(first, rows)

    def point_at(self, value: dict[str, Any]) -> ChainMoments:
        parts = (CategoricalMoments.at(value[name]) for name in ("initial", "transitions"))
        return ChainMoments(*parts)

    @property
    def size(self) -> int:
        return self.initial.size

    def row_size(self, t: int | None, floats: int) -> int:
        """Floats that the chain holds per row, as components see few steps at a time.

        A row counts for many, since more rows side by side than fill a step leave the cache.
        """
        return max(4 * self.size * (t or 1), _ROW)

    @property
    def on(self) -> Bool[Array, "*b k"]:
        """States that a sequence can begin in, or that another state leads to."""
        return self.initial.on | jnp.any(self.transitions.on, -2)

    @property
    def mean(self) -> Float[Array, "*b k"]:
        """Expected share of each state among all steps, of sequences as long as those seen.

        It is the stationary distribution of a chain that begins again with the probability at
        which sequences do, at the means of the chain's parameters.
        """
        first, later = self.initial.total, jnp.sum(self.transitions.conc, (-2, -1))
        again = (first / (first + later))[..., None, None]
        total = self.transitions.total[..., None]
        rows = self.transitions.conc / jnp.where(total > 0, total, 1.0)
        start = self.initial.mean[..., None, :]
        step = (1.0 - again) * rows + jnp.where(total > 0, again, 1.0) * start
        k = self.size
        # pi (I - step + 1 1^T) = 1^T
        system = jnp.eye(k, dtype=step.dtype) - step + jnp.ones((k, k), step.dtype)
        share = jnp.linalg.solve(system.mT, jnp.ones((*step.shape[:-1], 1), step.dtype))[..., 0]
        return jnp.maximum(share, 0.0)

    def counts(self, stats: Chain) -> Float[Array, "*b k"]:
        return stats.initial.conc + jnp.sum(stats.transitions.conc, -2)

    def possible(self, moments: ChainMoments) -> Bool[Array, "k"]:
        ways = jnp.concatenate([moments.initial.log_p[None], moments.transitions.log_p])
        return jnp.any(ways > -jnp.inf, 0)

    def give_to(self, stats: Chain, heir: Int[Array, "k"]) -> Chain:
        first, pairs = stats.initial.conc, stats.transitions.conc
        rows = jnp.zeros_like(pairs).at[heir].add(pairs)
        pairs = jnp.zeros_like(pairs).at[:, heir].add(rows)
        return self._possible(jnp.zeros_like(first).at[heir].add(first), pairs)

    def begin(self, count: Float[Array, "k"]) -> Chain:
        """Half of all steps stay in their state, and the next of the others is any."""
        share = count / jnp.sum(count)
        rows = 0.5 * count[:, None] * (share[None] + jnp.eye(self.size, dtype=count.dtype))
        return self._possible(share, rows)

    def infer(
        self, moments: ChainMoments, log_lik: Float[Array, "..."], rows: Batch, state: Any = None
    ) -> Labelled:
        """Forward-backward with exp of the expected logs, whose normaliser bounds each sequence."""
        weight = jnp.where(rows.weight > 0, rows.weight, 0.0)
        found = forward_backward(*self._of(moments, log_lik, rows), weight)
        first = jnp.sum(present(weight, found.resp[:, 0]), 0)
        return Labelled(found.resp, Chain(Dirichlet(first), Dirichlet(found.pairs)), found.log_z)

    def filtered(
        self, moments: ChainMoments, log_lik: Float[Array, "n t k"], rows: Batch
    ) -> Float[Array, "n t k"]:
        """p(z_t | x_1, ..., x_t) of each step."""
        return filtered(*self._of(moments, log_lik, rows))[0]

    def path(
        self, moments: ChainMoments, log_lik: Float[Array, "n t k"], rows: Batch
    ) -> Int[Array, "n t"]:
        """The most probable path; -1 where a step does not exist."""
        return most_probable_path(*self._of(moments, log_lik, rows))

    def ahead(
        self, moments: ChainMoments, known: Float[Array, "n t k"], rows: Batch, horizon: int
    ) -> Float[Array, "n h k"]:
        """Probabilities of the states after each sequence, whose `filtered` ones are `known`.

        A sequence of which nothing exists is yet to begin.
        """
        length = jnp.sum(rows.exists, 1)
        state = jnp.take_along_axis(known, jnp.maximum(length - 1, 0)[:, None, None], 1)[:, 0]
        first = jnp.broadcast_to(jnp.exp(moments.initial.log_p), state.shape)
        begun = (length > 0)[:, None]
        state = jnp.where(begun, state, first)
        later = ahead(moments.transitions.log_p, state, horizon)
        fresh = jnp.concatenate([first[:, None], later[:, :-1]], 1)
        return jnp.where(begun[..., None], later, fresh)

    def simulate(
        self, moments: ChainMoments, key: Key[Array, ""], shape: tuple[int, int]
    ) -> Int[Array, "n t"]:
        """Paths of the chain itself, n of t steps."""
        return simulate(key, moments.initial.log_p, moments.transitions.log_p, *shape)

    def _of(
        self, moments: ChainMoments, log_lik: Float[Array, "..."], rows: Batch
    ) -> tuple[Array, Array, Array, Array]:
        """The arguments that functions of chains share."""
        assert rows.steps is not None  # `check` has seen to it
        # the chain passes through a missing step, and one that counts twice is two of one state
        steps = rows.steps[..., None]
        seen = jnp.where(steps > 0, steps * jnp.where(steps > 0, log_lik, 0.0), 0.0)
        return moments.initial.log_p, moments.transitions.log_p, seen, rows.exists

    def assign(self, resp: Float[Array, "n t k"], rows: Batch) -> Chain:
        here = rows.exists.astype(resp.dtype)
        seen = present(here, resp)
        own = present(rows.weight, seen.reshape(seen.shape[0], -1)).reshape(seen.shape)
        pairs = jnp.einsum("nti,ntj->ij", own[:, :-1], seen[:, 1:], precision="highest")
        return self._possible(jnp.sum(own[:, 0], 0), pairs)

    def _possible(self, first: Float[Array, "k"], pairs: Float[Array, "k k"]) -> Chain:
        """Statistics without transitions that the prior rules out, unless it is flat."""
        flat = jnp.all(self.transitions.conc == 0)
        first = jnp.where(self.initial.on | flat, first, 0.0)
        return Chain(Dirichlet(first), Dirichlet(jnp.where(self.transitions.on | flat, pairs, 0.0)))

    def exchangeable(self, which: Bool[Array, "k"]) -> Bool[Array, ""]:
        """Whether the states `which` begin, stay, move to one another and to others alike."""
        first, rows = self.initial.conc, self.transitions.conc
        one = jnp.argmax(which)
        own, eye = which[:, None] & which[None], jnp.eye(self.size, dtype=bool)
        other = jnp.max(jnp.where(own & ~eye, rows, 0.0))
        alike = jnp.where(which[:, None] & ~which[None], rows[one][None], rows)
        alike = jnp.where(~which[:, None] & which[None], rows[:, one][:, None], alike)
        alike = jnp.where(own, jnp.where(eye, rows[one, one], other), alike)
        return jnp.all(alike == rows) & jnp.all((first == first[one]) | ~which)

    def num_free(self, k: Float[Array, ""]) -> Float[Array, ""]:
        """Those of the first state and of the transitions that are possible."""

        def free(on: Bool[Array, "... k"]) -> Array:
            each = jnp.sum(on, -1, dtype=k.dtype)
            return jnp.sum(jnp.where(each > 0, each - 1.0, 0.0))

        counted = free(self.initial.on) + free(self.transitions.on)
        flat = jnp.all(self.transitions.conc == 0)
        return jnp.where(flat, (k - 1.0) * (k + 1.0), counted)

    def log_p_of(self, moments: ChainMoments, stats: Chain) -> Float[Array, ""]:
        first = weighed(stats.initial.conc, moments.initial.log_p)
        return first + weighed(stats.transitions.conc, moments.transitions.log_p)

    def take(self, order: Int[Array, "m"]) -> Chain:
        """The chain of these states alone, whose probabilities are scaled to sum to one."""
        rows = self.transitions.conc[order][:, order]
        return Chain(Dirichlet(self.initial.conc[order]), Dirichlet(rows))

    @property
    def stay(self) -> Float[Array, "*b k"]:
        """Expected number of steps that a state lasts, 1 / (1 - a_kk), at the mean of a_kk."""
        conc = self.transitions.conc
        own = jnp.diagonal(conc, axis1=-2, axis2=-1)
        other = jnp.sum(jnp.where(jnp.eye(self.size, dtype=bool), 0.0, conc), -1)
        return jnp.where(other > 0, 1.0 + own / jnp.where(other > 0, other, 1.0), jnp.inf)

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """How long each state lasts, and the transition matrix at its mean, a row for each end."""
        ends = {f"to {j}": self.transitions.mean[..., j] for j in range(self.size)}
        return {"stay": self.stay} | ends


class ChainSettings(Chain):
    """A prior with the distribution of a Chain, and settings of its own; a q is a Chain."""

    @property
    def template(self) -> Chain:
        return Chain(self.initial, self.transitions)

    def followed_by(self, q: Q) -> Any:
        return replace(self, initial=q.initial, transitions=q.transitions)

    def kl_and_move_terms(self, q: Q, last: Q) -> KLTerms:
        return self.template.kl_and_move_terms(q, last)
