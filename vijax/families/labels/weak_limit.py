"""Chains whose transitions share learned concentrations: the weak limit of the HDP-HMM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ..._pytree import gauge, pytree, replace
from ...exponential_family import Q, natural_step
from ...numerics.kl_terms import KLTerms
from ...numerics.polya_fit import fit_polya
from ..dirichlet import Dirichlet
from .chain import Chain

_LEAST = 1e-2  # of the concentration at the start, below which none is learned


@pytree
class WeakLimit(Chain):
    """A chain whose transitions are Dirichlet(shared + own_i), row i, with `shared` learned.

    `shared` (k,) are pseudo-counts of going to each state that all rows have in common, in the
    notation of the hierarchical Dirichlet process alpha beta_j: their sum is the concentration, and
    their shares are the weights of the states (Teh et al. 2006; Fox et al. 2011, whose sticky prior
    is an own_i of staying). They are a point, that of the highest bound, so that the ELBO is a
    bound on log p(x | shared), to be maximised. They stay above a hundredth of where they start.

    In a prior, `transitions` are shared + own at the start; in a q, they are those of its rows. EM
    is refused, because its point would need another update. Where rows of transitions are alike,
    the highest bound may be that of ever larger numbers, which a fit then stops on the way to.
    """

    no_point: ClassVar[str] = (
        'does not fit concentrations that are learned; use CAVI(), or chain="full"'
    )
    closed: ClassVar[bool] = False
    shared: Float[Array, "*b k"] = gauge()

    def _each(self, fn: Callable[..., Any], *others: Any) -> dict[str, Any]:
        """`fn` of the factors alone, of which `shared` is none."""
        names = ("initial", "transitions")
        return {name: fn(*[getattr(each, name) for each in (self, *others)]) for name in names}

    @property
    def _own(self) -> Float[Array, "*b k k"]:
        """The pseudo-counts that each row of a prior has in addition; called on the prior."""
        on = self.transitions.on
        return jnp.where(on, self.transitions.conc - self.shared[..., None, :], 0.0)

    def _given(self, shared: Float[Array, "*b k"]) -> Chain:
        """The prior of the rows at these shared concentrations."""
        rows = jnp.where(self.transitions.on, shared[..., None, :] + self._own, 0.0)
        return Chain(self.initial, Dirichlet(rows))

    def followed_by(self, q: Q) -> Any:
        """The chain of this posterior, whose concentrations are no longer shared."""
        return Chain(q.initial, q.transitions)

    def log_prior_at(self, q: Q, value: Any) -> Float[Array, "..."]:
        """log p(value | shared) in nats, at the `shared` of q."""
        return self._given(q.shared).log_prob(value)

    def update(self, q: Q, stats: Chain, rate: ArrayLike = 1.0) -> Any:
        """q of the rows at the best `shared` for the counts of transitions that are in it."""
        now = self._given(q.shared)
        rows = natural_step(Chain(q.initial, q.transitions), stats + now, rate)
        count = jnp.maximum(rows.transitions.conc - now.transitions.conc, 0.0)
        best = fit_polya(count, self._own, q.shared, _LEAST * self.shared)
        transitions = Dirichlet(self._given(best).transitions.conc + count)
        return replace(q, initial=rows.initial, transitions=transitions, shared=best)

    def kl_from(self, q: Q) -> Float[Array, ""]:
        """KL of the rows from their prior at the `shared` of q."""
        return self._given(q.shared).kl_from(q)

    def kl_and_move_terms(self, q: Q, last: Q) -> KLTerms:
        return self._given(q.shared).kl_and_move_terms(q, Chain(last.initial, last.transitions))

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """The shared pseudo-counts of going to each state, and what a chain says."""
        return {"shared": self.shared} | super().describe(names)
