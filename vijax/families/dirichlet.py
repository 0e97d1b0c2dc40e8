"""Dirichlet distribution of probabilities, conjugate to categorical rows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from .._pytree import pytree
from ..data.host import check_bound, standard
from ..numerics import special
from ..numerics.broadcasting import broadcasts
from ..numerics.kl_terms import KLTerms
from .weights.base import Weights, pad_zeros


@pytree
class CategoricalMoments:
    """Moments for a categorical likelihood: E[log p_k] under q, or log p_k at a point."""

    log_p: Float[Array, "*b k"]

    @classmethod
    def at(cls, p: Float[Array, "*b k"]) -> CategoricalMoments:
        """The moments at these probabilities."""
        return cls(jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1.0)), -jnp.inf))

    @property
    def mean(self) -> Float[Array, "*b k"]:
        """exp of `log_p`: p_k at a point, its geometric mean under q."""
        return jnp.exp(self.log_p)


@pytree
class Dirichlet(Weights):
    """p ~ Dirichlet(alpha) with concentrations alpha = `conc`; T(p) = log p, h(p) = prod_k 1 / p_k.

    An entry with conc = 0 is switched off: its probability is 0, and no result has a term of it.
    Mixtures of different size share one program in this way. If all are off, as in the transitions
    from a state that is, every result is 0.
    """

    conc: Float[Array, "*b k"]

    @classmethod
    def from_standard(cls, conc: Any) -> Dirichlet:
        """Dirichlet with concentrations (*b, k) > 0 in pseudo-counts; 0 switches an entry off."""
        check_bound("conc", conc, least=0.0)
        return cls(*standard(conc=(conc, 1)))

    @property
    def size(self) -> int:
        return self.conc.shape[-1]

    @property
    def on(self) -> Bool[Array, "*b k"]:
        return self.conc != 0

    @property
    def _on(self) -> Any:
        return self.conc > 0

    def observe(self, count: Float[Array, "*b k"]) -> Dirichlet:
        return Dirichlet(count)

    def counts(self, stats: Dirichlet) -> Float[Array, "*b k"]:
        return stats.conc

    def take(self, order: Int[Array, "m"]) -> Dirichlet:
        """The distribution of these entries scaled to sum to one, which is a Dirichlet."""
        return Dirichlet(self.conc[order])

    def exchangeable(self, which: Bool[Array, "k"]) -> Bool[Array, ""]:
        """Whether the components `which` have the same concentration."""
        return jnp.all((self.conc == jnp.max(jnp.where(which, self.conc, 0.0))) | ~which)

    def merge_gain(self, prior: Dirichlet) -> Float[Array, "k k"]:
        """log Gamma(a_j + n_k) - log Gamma(a_j) - log Gamma(a0_k + n_k) + log Gamma(a0_k).

        Here n = a - a0. Under a flat prior it is that of the log-likelihood.
        """
        count = jnp.maximum(self.conc - prior.conc, 0.0)
        own = jnp.broadcast_to(self._safe[:, None], (count.shape[0], count.shape[0]))
        base = jnp.concatenate([own, prior._safe[None]])
        ratio = special.log_gamma_ratio(base, count[None])
        gain = ratio[:-1] - ratio[-1:]
        return jnp.where(prior._on[None], gain, super().merge_gain(prior))

    def pad(self, size: int) -> Dirichlet:
        return Dirichlet(pad_zeros(self.conc, size))

    @property
    def _safe(self) -> Float[Array, "*b k"]:
        return jnp.where(self._on, self.conc, 1.0)

    @property
    def total(self) -> Float[Array, "*b"]:
        """sum_k alpha_k."""
        return jnp.sum(self.conc, -1)

    @property
    def _safe_total(self) -> Float[Array, "*b"]:
        # without a number of the host, as means are read under JAX's transfer guard
        none = self.total == self.total - self.total
        return self.total + none.astype(self.total.dtype)

    @property
    def _with_total(self) -> Float[Array, "*b m"]:
        """alpha_k, and their sum as a last entry."""
        return jnp.concatenate([self._safe, self._safe_total[..., None]], -1)

    @property
    def mean(self) -> Float[Array, "*b k"]:
        return self.conc / self._safe_total[..., None]

    @property
    def variance(self) -> Float[Array, "*b k"]:
        """Var[p_k]."""
        return self.mean * (1.0 - self.mean) / (self.total[..., None] + 1.0)

    @property
    def sd(self) -> Float[Array, "*b k"]:
        variance = self.variance
        return jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 0.0)

    def _sum(self, terms: Float[Array, "*b k"]) -> Float[Array, "*b"]:
        return jnp.sum(jnp.where(self._on, terms, 0.0), -1)

    @property
    def _log_mean(self) -> Float[Array, "*b k"]:
        if self.size == 2:  # -log(1 + alpha_j / alpha_k) keeps the digits of a mean close to 1
            return -jnp.log1p(self.conc[..., ::-1] / self._safe)
        return jnp.log(self._safe / self._safe_total[..., None])

    def log_normalizer(self) -> Float[Array, "*b"]:
        """sum_k log Gamma(alpha_k) - log Gamma(sum_k alpha_k), in nats.

        The main terms of Stirling's formula are gathered as sum_k alpha_k log E[p_k].
        """
        a = self._safe
        each = special.stirling_error(a) - 0.5 * jnp.log(a) + 0.5 * special.LOG_2PI
        total = self._safe_total
        whole = special.stirling_error(total) - 0.5 * jnp.log(total) + 0.5 * special.LOG_2PI
        whole = jnp.where(self.total != 0, whole, 0.0)
        return self._sum(a * self._log_mean + each) - whole

    def expectation(self) -> Dirichlet:
        """E[log p_k] = digamma(alpha_k) - digamma(sum_j alpha_j); 0 for an entry that is off.

        Computed as log E[p_k] + digamma_gap(sum_j alpha_j) - digamma_gap(alpha_k).
        """
        gaps = special.digamma_gap(self._with_total)
        gap = gaps[..., -1:] - gaps[..., :-1]
        return Dirichlet(jnp.where(self._on, self._log_mean + gap, 0.0))

    def moments(self) -> CategoricalMoments:
        """E[log p_k]; -inf for an entry that is off."""
        return CategoricalMoments(jnp.where(self._on, self.expectation().conc, -jnp.inf))

    def point(self) -> CategoricalMoments:
        """log of alpha_k / sum_j alpha_j: the mode in the softmax basis (MacKay 1998)."""
        on = self.conc > 0
        return CategoricalMoments(jnp.where(on, self._log_mean, -jnp.inf))

    def mode(self) -> Float[Array, "*b k"]:
        """(alpha_k - 1) / sum_j (alpha_j - 1); NaN unless every alpha_k >= 1."""
        excess = jnp.where(self._on, self.conc - 1.0, 0.0)
        exists = jnp.all(excess >= 0, -1, keepdims=True)
        return jnp.where(exists, excess / jnp.sum(excess, -1, keepdims=True), jnp.nan)

    def _log(self, moments: CategoricalMoments, base: float) -> Float[Array, "*b"]:
        log_p = jnp.where(self._on, moments.log_p, 0.0)
        return self._sum(special.xlogy(self._safe - base, log_p)) - self.log_normalizer()

    def log_kernel(self, moments: CategoricalMoments) -> Float[Array, "*b"]:
        """Expected log of Dir(p | alpha) prod_k p_k in nats."""
        return self._log(moments, 0.0)

    def kernel_gap(self, moments: CategoricalMoments) -> Float[Array, "*b"]:
        """sum_k alpha_k log(E[p_k] / p_k) = sum_k alpha_k excess(p_k / E[p_k]), in nats."""
        log_ratio = jnp.where(self._on, moments.log_p - self._log_mean, 0.0)
        return self._sum(self._safe * special.excess(jnp.exp(log_ratio)))

    def expected_log_prob(self, moments: CategoricalMoments) -> Float[Array, "*b"]:
        return self._log(moments, 1.0)

    def kl(self, prior: Dirichlet) -> Float[Array, "*b"]:
        """KL(self || prior) in nats; both must have the same entries switched on."""
        return self.kl_terms(prior).total()

    def kl_terms(self, prior: Dirichlet) -> KLTerms:
        """The terms of `kl`, with A and A0 the sums of concentrations a_k and a0_k.

        KL = log(Gamma(A) / Gamma(A0)) - sum_k [log(Gamma(a_k) / Gamma(a0_k))
        - (a_k - a0_k) (digamma(a_k) - digamma(A))]. Arranged as
        sum_k [a0_k excess(E[p_k] / E0[p_k]) + shape_gap(a_k, a0_k)] - shape_gap(A, A0).
        """
        ratio = self.mean / jnp.where(prior._on, prior.mean, 1.0)
        ratio = jnp.where(self._on, ratio, 1.0)
        shape = self._with_total
        sign = jnp.where(jnp.arange(shape.shape[-1]) < self.size, 1.0, -1.0).astype(shape.dtype)
        sign = jnp.broadcast_to(sign, shape.shape)
        none = shape[..., :0]
        return KLTerms(ratio, prior._safe, shape, prior._with_total, sign, none)

    def entropy(self) -> Float[Array, "*b"]:
        a, total = self._safe, self._safe_total
        each = self._log_mean + (a - 1.0) * special.digamma_gap(a)
        each = each + special.stirling_error(a) - 0.5 * jnp.log(a) + 0.5 * special.LOG_2PI
        size = self._sum(jnp.ones_like(a))
        whole = (total - size) * special.digamma_gap(total)
        whole = whole + special.stirling_error(total) - 0.5 * jnp.log(total)
        whole = jnp.where(self.total != 0, whole + 0.5 * special.LOG_2PI, 0.0)
        return self._sum(each) - whole

    @broadcasts
    def log_prob(self, value: Float[Array, "*s k"]) -> Float[Array, "..."]:
        """log p(value) in nats; `value` sums to one over the last axis."""
        return self.expected_log_prob(CategoricalMoments(jnp.log(value)))

    @broadcasts
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*s k"]:
        """Draws of p as normalised log-Gammas, so that tiny concentrations do not give 0 / 0."""
        full = (*shape, *self.conc.shape)
        log_gamma = jax.random.loggamma(key, self._safe, full, self.conc.dtype)
        p = jax.nn.softmax(jnp.where(self._on, log_gamma, -jnp.inf), -1)
        return jnp.where(self._on, p, 0.0)
