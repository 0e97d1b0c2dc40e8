"""What a mixture asks of the prior on its weights."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from ...exponential_family import ExponentialFamily, divergences, natural_step
from ...numerics import special
from ...numerics.kl_terms import KLTerms

_W = TypeVar("_W", bound="Weights")


class Weights(ExponentialFamily):
    """An exponential family over the probabilities of k components; moments have `log_p` (k,).

    `ordered` says that components are not exchangeable, so that their order matters; a family that
    leaves this to the user has a static field of that name. `has_point` says that EM can use
    `point`, and `closed` that the posterior has the form of the prior.
    """

    ordered: bool = False
    has_point: ClassVar[bool] = True
    closed: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Number of components k."""

    @property
    @abc.abstractmethod
    def on(self) -> Bool[Array, "*b k"]:
        """Which components are switched on, if the prior is proper."""

    @property
    @abc.abstractmethod
    def mean(self) -> Float[Array, "*b k"]:
        """E[pi_k]."""

    @property
    @abc.abstractmethod
    def sd(self) -> Float[Array, "*b k"]:
        """Standard deviation of pi_k."""

    @property
    def rest(self) -> Float[Array, "*b"] | None:
        """Expected weight beyond the k components; None if these have all of it."""
        return None

    @abc.abstractmethod
    def observe(self, count: Float[Array, "*b k"]) -> Any:
        """Sufficient statistics of `count` rows in each component; linear in the counts."""

    @abc.abstractmethod
    def counts(self, stats: Any) -> Float[Array, "*b k"]:
        """The counts whose `observe` gives `stats`."""

    @property
    def takes_rest(self) -> Bool[Array, "*b k"]:
        """Which component has the rows that `counts` of a q leaves out: none, by default."""
        return jnp.zeros_like(self.on)

    @abc.abstractmethod
    def take(self, order: Any) -> Any:
        """The weights of the components `order` (m,), to be read, not fitted."""

    @abc.abstractmethod
    def pad(self: _W, size: int) -> _W:
        """The same family with `size` components, new ones at the end and switched off."""

    def astype(self: _W, dtype: Any) -> _W:
        """The same distribution in another float type."""
        return jax.tree.map(lambda a: a if a.dtype == dtype else a.astype(dtype), self)

    def update(self: _W, q: _W, stats: Any, rate: ArrayLike = 1.0) -> _W:
        """Optimal q given statistics, or a step of `rate` towards it; called on the prior."""
        return natural_step(q, stats + self, rate)

    def kl_from(self: _W, q: _W) -> Float[Array, ""]:
        """KL(q || prior) in nats; called on the prior."""
        return jnp.sum(q.kl(self))

    def kl_and_move_terms(self: _W, q: _W, last: _W) -> KLTerms:
        """Terms of KL(q || prior) and of KL(q || last), as two rows; called on the prior."""
        return divergences(q, self, last)

    def expected_log_lik(self, stats: Any) -> Float[Array, ""]:
        """E[log p(z)] in nats of rows with these statistics; called on q."""
        count = self.counts(stats)
        some = count > 0
        return jnp.sum(jnp.where(some, count * jnp.where(some, self.moments().log_p, 0.0), 0.0))

    def log_prior(self, moments: Any) -> Float[Array, ""]:
        """Log prior density with respect to h at a point, in nats; only EM calls it."""
        return jnp.sum(self.log_kernel(moments))

    def merge_gain(self, prior: Any) -> Float[Array, "k k"]:
        """Gain of the weights' part of the elbo in nats from merging j and k; called on q.

        By default it is that of the log-likelihood at its maximum, sum_k n_k log(n_k / n).
        """
        count = self.counts(self) - self.counts(prior)
        count = jnp.where(count > 0, count, 0.0)

        def power(n: Array) -> Array:
            return special.xlogy(n, jnp.log(jnp.where(n > 0, n, 1.0)))

        both = power(count[:, None] + count[None])
        return both - power(count)[:, None] - power(count)[None]

    def exchangeable(self, which: Bool[Array, "k"]) -> Bool[Array, ""]:
        """Whether the components `which` have the same distribution in any order."""
        return jnp.zeros((), bool)

    def arrange(self: _W, q: _W, stats: Any) -> Int[Array, "k"]:
        """An order of the components that does not lower the elbo; called on the prior."""
        return jnp.arange(self.size)


def pad_zeros(a: Float[Array, "*b k"], size: int) -> Float[Array, "*b m"]:
    """`a` with zeros appended to the last axis, up to `size` entries."""
    extra = size - a.shape[-1]
    return jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, extra)]) if extra else a
