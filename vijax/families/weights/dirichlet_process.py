"""A Dirichlet process whose concentration is learned."""

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
    """Moments of the sticks and of the concentration; rows need only `log_p`."""

    sticks: StickMoments
    concentration: GammaMoments

    @property
    def log_p(self) -> Float[Array, "*b k"]:
        """E[log pi_t]."""
        return self.sticks.log_p

    @property
    def mean(self) -> Float[Array, "*b k"]:
        """pi_t where this is a point; the geometric means under a q."""
        return self.sticks.mean


@pytree
class DirichletProcess(Product, Weights):
    """v_t ~ Beta(1, alpha) for all sticks, alpha ~ Gamma(shape, rate); q(v) q(alpha).

    (Blei & Jordan 2006, section 5, with the prior of Escobar & West 1995.) As a q, two
    independent factors. As a prior the sticks given alpha: only their pattern of on and off is
    used, and they are shown at E[alpha]; `update` and `kl_from` are those of the coupled prior.

    Draws are a dict of weights, under "sticks", and "concentration". EM is refused: a point
    estimate of alpha needs 1 - v at its own point estimate, another update; give EM the
    concentration itself, `StickBreaking.dirichlet_process`.
    """

    Moments: ClassVar = ProcessMoments
    has_point: ClassVar[bool] = False
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
        """alpha ~ Gamma(shape > 0, rate > 0), of mean shape / rate; the rest as StickBreaking."""
        concentration = Gamma.from_standard(shape, rate)
        sticks = StickBreaking.dirichlet_process(
            concentration.mean, num_components, truncated=truncated, ordered=ordered
        )
        return cls(sticks, concentration, ordered)

    @property
    def size(self) -> int:
        """k."""
        return self.sticks.size

    @property
    def on(self) -> Bool[Array, "*b k"]:
        """Which components can have rows."""
        return self.sticks.on

    @property
    def mean(self) -> Float[Array, "*b k"]:
        """E[pi_t]."""
        return self.sticks.mean

    @property
    def sd(self) -> Float[Array, "*b k"]:
        """Posterior standard deviation of each pi_t."""
        return self.sticks.sd

    @property
    def rest(self) -> Float[Array, "*b"] | None:
        """E of the weight beyond the k components, in the infinite model."""
        return self.sticks.rest

    def observe(self, count: Float[Array, "*b k"]) -> StickBreaking:
        """Statistics of the sticks; rows say nothing of alpha but through them."""
        return self.sticks.observe(count)

    def counts(self, stats: Any) -> Float[Array, "*b k"]:
        """Rows in component t, of statistics or of a q, there with the prior's."""
        return self.sticks.counts(getattr(stats, "sticks", stats))

    def take(self, order: Any) -> PermutedWeights:
        """The weights of these components, for reading."""
        return self.sticks.take(order)

    def pad(self, size: int) -> DirichletProcess:
        """Sticks that are off, appended."""
        return replace(self, sticks=self.sticks.pad(size))

    def _given(self, concentration: Gamma) -> StickBreaking:
        """exp E[log p(v | alpha)], normalised: Beta(1, E[alpha])."""
        a = self.sticks.drawn.astype(concentration.rate.dtype)
        return replace(self.sticks, a=a, b=a * concentration.mean[..., None])

    def _num_sticks(self) -> Float[Array, "*b"]:
        return jnp.sum(self.sticks.drawn, -1, dtype=self.concentration.rate.dtype)

    def update(
        self, q: Q, stats: StickBreaking, rate: ArrayLike = 1.0
    ) -> DirichletProcess:
        """One sweep: q(v) given q(alpha), then q(alpha) given q(v) (Blei & Jordan 2006, eq. 18-19).

        q(v_t) = Beta(1 + N_t, E[alpha] + N_>t),
        q(alpha) = Gamma(shape + T, rate - sum_t E[log(1 - v_t)]) over the T sticks that are on.
        """
        sticks = self._given(q.concentration).update(q.sticks, stats, rate)
        shape = self.concentration.shape + self._num_sticks()
        decay = self.concentration.rate - jnp.sum(sticks.expectation().b, -1)
        concentration = natural_step(q.concentration, Gamma(shape, decay), rate)
        return replace(self, sticks=sticks, concentration=concentration)

    def kl_from(self, q: Q) -> Float[Array, ""]:
        """E_q[log q(v) q(alpha) - log p(v | alpha) p(alpha)] in nats, of terms none negative.

        E[log p(v | alpha)] is the log density of Beta(1, E[alpha]) sticks short of
        log E[alpha] - E[log alpha] for each.
        """
        sticks = q.sticks.kl(self._given(q.concentration))
        spread = self._num_sticks() * special.digamma_gap(q.concentration.shape)
        return jnp.sum(sticks + spread + q.concentration.kl(self.concentration))

    def kl_and_move_terms(self, q: Q, last: Q) -> KLTerms:
        """`kl_from`, which is no divergence between two of a kind, and KL(q || last)."""
        return KLTerms.known(jnp.stack([self.kl_from(q), jnp.sum(q.kl(last))]))

    def log_prior(self, moments: Any) -> Float[Array, ""]:
        """Refused by name, for only EM asks."""
        raise ValueError(
            "method: EM() does not fit a concentration with a prior; use CAVI(), or fix it with "
            "StickBreaking.dirichlet_process(concentration, ...)"
        )

    def arrange(self, q: Q, stats: StickBreaking) -> Int[Array, "k"]:
        """Components by size, largest first, if that raises the bound at the present q(alpha)."""
        return self._given(q.concentration).arrange(q.sticks, stats)
