"""Categorical distribution of a label, the q of assignments in models of one's own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from .._pytree import pytree
from ..data.host import check_bound, standard
from ..exponential_family import ExponentialFamily
from ..numerics import special
from ..numerics.broadcasting import broadcasts


@pytree
class LabelMoments:
    """E[1(z = k)], the probability of each label; 0 and 1 at a point."""

    probs: Float[Array, "*b k"]


@pytree
class Categorical(ExponentialFamily):
    """z ~ Categorical(softmax(logits)); T(z) = (1(z = k))_k, h = 1."""

    logits: Float[Array, "*b k"]

    @classmethod
    def from_standard(cls, probs: Any) -> Categorical:
        """Categorical with probabilities (*b, k) > 0, scaled to sum to one."""
        check_bound("probs", probs, above=0.0)
        (probs,) = standard(probs=(probs, 1))
        return cls(jnp.log(probs) - jnp.log(jnp.sum(probs, -1, keepdims=True)))

    def log_normalizer(self) -> Float[Array, "*b"]:
        """log sum_k exp(logits_k), in nats."""
        return special.exponentials(self.logits, -1)[2]

    @property
    def log_p(self) -> Float[Array, "*b k"]:
        """log of the probability of each label."""
        return self.logits - self.log_normalizer()[..., None]

    @property
    def probs(self) -> Float[Array, "*b k"]:
        """Probability of each label."""
        return jnp.exp(self.log_p)

    @property
    def mean(self) -> Float[Array, "*b k"]:
        """E[1(z = k)], the probabilities."""
        return self.probs

    @property
    def sd(self) -> Float[Array, "*b k"]:
        """Standard deviation of each 1(z = k)."""
        p = self.probs
        return jnp.sqrt(p * (1.0 - p))

    def expectation(self) -> Categorical:
        return Categorical(self.probs)

    def moments(self) -> LabelMoments:
        return LabelMoments(self.probs)

    def point(self) -> LabelMoments:
        size = self.logits.shape[-1]
        return LabelMoments(jax.nn.one_hot(self.mode(), size, dtype=self.logits.dtype))

    def mode(self) -> Int[Array, "*b"]:
        return jnp.argmax(self.logits, -1)

    def log_kernel(self, moments: LabelMoments) -> Float[Array, "*b"]:
        return jnp.sum(special.xlogy(moments.probs, self.log_p), -1)

    def kernel_gap(self, moments: LabelMoments) -> Float[Array, "*b"]:
        """max_k logits_k - <logits, T>, in nats."""
        below = jnp.max(self.logits, -1, keepdims=True) - self.logits
        return jnp.sum(special.xlogy(moments.probs, below), -1)

    def expected_log_prob(self, moments: LabelMoments) -> Float[Array, "*b"]:
        return self.log_kernel(moments)

    def kl(self, prior: Categorical) -> Float[Array, "*b"]:
        """sum_k [p_k log(p_k / p0_k) - p_k + p0_k] in nats, terms that are not negative."""
        log_p, log_p0 = self.log_p, prior.log_p
        p, p0, step = jnp.exp(log_p), jnp.exp(log_p0), log_p0 - log_p
        close = jnp.abs(step) < 1.0
        near = p * special.excess(jnp.exp(jnp.where(close, step, 0.0)))
        return jnp.sum(jnp.where(close, near, p0 - p - special.xlogy(p, step)), -1)

    def entropy(self) -> Float[Array, "*b"]:
        log_p = self.log_p
        return -jnp.sum(special.xlogy(jnp.exp(log_p), log_p), -1)

    @broadcasts
    def log_prob(self, value: Int[Array, "..."]) -> Float[Array, "..."]:
        log_p = jnp.broadcast_to(self.log_p, (*value.shape, self.logits.shape[-1]))
        return jnp.take_along_axis(log_p, value[..., None], -1)[..., 0]

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Int[Array, "..."]:
        return jax.random.categorical(key, self.logits, shape=(*shape, *self.logits.shape[:-1]))
