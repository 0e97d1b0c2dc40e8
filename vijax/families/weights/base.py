"""What a mixture asks of the prior on its weights."""

from __future__ import annotations

import abc
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ...data.batch import Batch
from ...data.host import fetched, is_concrete, to_device
from ...data.sequences import step_weight
from ...numerics import special
from ..labels.base import Labelled, Labels, present, weighed

_W = TypeVar("_W", bound="Weights")


class Weights(Labels):
    """An exponential family over the probabilities of k components; moments have `log_p` (k,).

    As labels they are independent: every step is in a component by itself. A family that leaves
    it to the user whether it is `ordered` has a static field of that name.
    """

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

    def infer(
        self, moments: Any, log_lik: Float[Array, "..."], rows: Batch, state: Any = None
    ) -> Labelled:
        """r = exp(E[log p(step, class)]) / Z of each step; log_z of a row is the sum over steps."""
        shape = log_lik.shape
        resp, log_z = special.normalize((moments.log_p + log_lik).reshape(-1, shape[-1]))
        resp, log_z = resp.reshape(shape), log_z.reshape(shape[:-1])
        if rows.steps is not None:
            log_z = jnp.sum(jnp.where(rows.steps > 0, rows.steps * log_z, 0.0), 1)
        return Labelled(resp, self.assign(resp, rows), log_z)

    def assign(self, resp: Float[Array, "..."], rows: Batch) -> Any:
        soft = present(step_weight(rows), resp)
        return self.observe(jnp.sum(soft, tuple(range(soft.ndim - 1))))

    def give_to(self, stats: Any, heir: Int[Array, "k"]) -> Any:
        count = self.counts(stats)
        return self.observe(jnp.zeros_like(count).at[heir].add(count))

    def begin(self, count: Float[Array, "k"]) -> Any:
        return self.observe(count)

    def expected_log_lik(self, stats: Any) -> Float[Array, ""]:
        """E[log p(z)] in nats of rows with these statistics; called on q."""
        return self.log_p_of(self.moments(), stats)

    def log_p_of(self, moments: Any, stats: Any) -> Float[Array, ""]:
        return weighed(self.counts(stats), moments.log_p)

    def num_free(self, k: Float[Array, ""]) -> Float[Array, ""]:
        return k - 1.0

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

    def arrange(self: _W, q: _W, stats: Any) -> Int[Array, "k"]:
        """An order of the components that does not lower the elbo; called on the prior."""
        return jnp.arange(self.size)


def pad_zeros(a: Float[Array, "*b k"], size: int) -> Float[Array, "*b m"]:
    """`a` with zeros appended to the last axis, up to `size` entries."""
    extra = size - a.shape[-1]
    if not extra:
        return a
    more = [(0, 0)] * (a.ndim - 1) + [(0, extra)]
    if is_concrete(a):  # on the host, where no size is compiled for
        return to_device(np.pad(fetched(a), more))
    return jnp.pad(a, more)
