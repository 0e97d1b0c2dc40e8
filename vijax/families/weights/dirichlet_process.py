"""Weights of a Dirichlet process whose concentration is learned."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from ..._pytree import pytree, replace, static
from ...exponential_family import Product, Q, natural_step
from ...numerics import special
from ...numerics.kl_terms import KLTerms
from ..gamma import Gamma, GammaMoments
from .base import Weights
from .permuted import PermutedWeights
from .stick_breaking import StickBreaking, StickMoments


@pytree
class ProcessMoments:
    """Moments of the sticks and of the concentration; E-steps need only `log_p`."""

    sticks: StickMoments
    concentration: GammaMoments

    @property
    def log_p(self) -> Float[Array, "*b k"]:
        """E[log pi_t]."""
        return self.sticks.log_p

    @property
    def mean(self) -> Float[Array, "*b k"]:
        """exp of `log_p`: pi_t at a point, its geometric mean under q."""
        return self.sticks.mean


@pytree
class DirichletProcess(Product, Weights):
    """v_t ~ Beta(1, alpha) for all sticks and alpha ~ Gamma(shape, rate), with q(v) q(alpha).

    (Blei & Jordan 2006, section 5, with the prior of Escobar & West 1995.) A q is a product of its
    two factors. A prior is not, because the sticks depend on alpha: `update` and `kl_from` are
    those of the joint prior, and of the prior's `sticks`, shown at E[alpha], only the pattern of on
    and off is used.

    Draws are a dict of weights, under "sticks", and "concentration". EM is refused, because a point
    estimate of alpha would need another update; give EM a fixed concentration with
    `StickBreaking.dirichlet_process`.
    """

    Moments: ClassVar = ProcessMoments
    no_point: ClassVar[str] = (
        "does not fit a concentration with a prior; use CAVI(), or fix it with "
        "StickBreaking.dirichlet_process(concentration, ...)"
    )
    closed: ClassVar[bool] = False
    sticks: StickBreaking
    concentration: Gamma
    ordered: bool = static(default=True)

    @classmethod
    def with_prior(
        cls,
        shape: Any,
        rate: Any,
        num_components: int,
        *,
        truncated: bool = True,
        ordered: bool = True,
    ) -> DirichletProcess:
        """Prior alpha ~ Gamma(shape > 0, rate > 0); other arguments are as in `StickBreaking`."""
        concentration = Gamma.from_standard(shape, rate)
        sticks = StickBreaking.dirichlet_process(
            concentration.mean, num_components, truncated=truncated, ordered=ordered
        )
        return cls(sticks, concentration, ordered)

    @property
    def size(self) -> int:
        return self.sticks.size

    @property
    def on(self) -> Bool[Array, "*b k"]:
        return self.sticks.on

    @property
    def mean(self) -> Float[Array, "*b k"]:
        return self.sticks.mean

    @property
    def sd(self) -> Float[Array, "*b k"]:
        return self.sticks.sd

    @property
    def rest(self) -> Float[Array, "*b"] | None:
        return self.sticks.rest

    @property
    def takes_rest(self) -> Bool[Array, "*b k"]:
        return self.sticks.takes_rest

    def observe(self, count: Float[Array, "*b k"]) -> StickBreaking:
        """Sufficient statistics of the sticks; rows depend on alpha only through these."""
        return self.sticks.observe(count)

    def counts(self, stats: Any) -> Float[Array, "*b k"]:
        """The counts of statistics; of a q, the counts plus the prior's 1."""
        return self.sticks.counts(getattr(stats, "sticks", stats))

    def take(self, order: Any) -> PermutedWeights:
        return self.sticks.take(order)

    def pad(self, size: int) -> DirichletProcess:
        return replace(self, sticks=self.sticks.pad(size))

    def _given(self, concentration: Gamma) -> StickBreaking:
        """exp E[log p(v | alpha)] normalised, which is Beta(1, E[alpha]) for every stick."""
        a = self.sticks.drawn.astype(concentration.rate.dtype)
        return replace(self.sticks, a=a, b=a * concentration.mean[..., None])

    def _num_sticks(self) -> Float[Array, "*b"]:
        return jnp.sum(self.sticks.drawn, -1, dtype=self.concentration.rate.dtype)

    def log_prior_at(self, q: Q, value: dict[str, Array]) -> Float[Array, "..."]:
        """log p(v | alpha) p(alpha) in nats."""
        alpha = value["concentration"]
        a = jnp.broadcast_to(self.sticks.drawn.astype(alpha.dtype), value["sticks"].shape)
        sticks = replace(self.sticks, a=a, b=a * alpha[..., None])
        return sticks.log_prob(value["sticks"]) + self.concentration.log_prob(alpha)

    def update(self, q: Q, stats: StickBreaking, rate: ArrayLike = 1.0) -> DirichletProcess:
        """q(v) given q(alpha), then q(alpha) given q(v) (Blei & Jordan 2006, eq. 18-19).

        q(v_t) = Beta(1 + N_t, E[alpha] + N_>t), with N_t and N_>t the rows in component t and in
        later ones; q(alpha) = Gamma(shape + T, rate - sum_t E[log(1 - v_t)]) over the T sticks
        that are on.
        """
        sticks = self._given(q.concentration).update(q.sticks, stats, rate)
        shape = self.concentration.shape + self._num_sticks()
        decay = self.concentration.rate - jnp.sum(sticks.expectation().b, -1)
        concentration = natural_step(q.concentration, Gamma(shape, decay), rate)
        return replace(self, sticks=sticks, concentration=concentration)

    def kl_from(self, q: Q) -> Float[Array, ""]:
        """E_q[log q(v) q(alpha) - log p(v | alpha) p(alpha)] in nats, by non-negative terms.

        They are KL(q(v) || Beta(1, E[alpha])), log E[alpha] - E[log alpha] for each stick, and
        KL(q(alpha) || p(alpha)).
        """
        sticks = q.sticks.kl(self._given(q.concentration))
        spread = self._num_sticks() * special.digamma_gap(q.concentration.shape)
        return jnp.sum(sticks + spread + q.concentration.kl(self.concentration))

    def kl_and_move_terms(self, q: Q, last: Q) -> KLTerms:
        """`kl_from`, which is not a KL between two members of this family, and KL(q || last)."""
        return KLTerms.known(jnp.stack([self.kl_from(q), jnp.sum(q.kl(last))]))

    def arrange(self, q: Q, stats: StickBreaking) -> Int[Array, "k"]:
        """As `StickBreaking.arrange`, at the present q(alpha)."""
        return self._given(q.concentration).arrange(q.sticks, stats)
