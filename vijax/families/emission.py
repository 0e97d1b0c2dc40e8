"""What a mixture asks of a component family: a Natural over k components, and how rows follow."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..batch import Batch
from ..natural import Natural, divergences
from ..numerics.terms import Terms

_E = TypeVar("_E", bound="Emission")


class Emission(Natural):
    """A Natural with one batch axis, the k components, whose parameters generate rows.

    Its moments have `local(rows) -> (log_lik (n, k), latent)`: the expected log-density of each
    row in nats, rows' own latent variables at their optimum, and what `observe` must know of
    them (None if there are none). All of it counts observed entries only.

    `separable` says that components are independent of each other; `extra` is the number of
    components at the end that are not exchangeable with the others.
    """

    separable: ClassVar[bool] = True
    extra: ClassVar[int] = 0

    def read(self, rows: Batch) -> Batch:
        """Rows in the form that this family takes."""
        return rows

    @abc.abstractmethod
    def check(self, rows: Batch) -> None:
        """Host side: raise ValueError if rows are no values of this family."""

    @abc.abstractmethod
    def observe(self: _E, rows: Batch, mass: Float[Array, "n k"], at: Any, latent: Any) -> _E:
        """Expected statistics of rows that count `mass` times in each component, about `at`."""

    @abc.abstractmethod
    def embed(self, rows: Batch) -> Float[Array, "n f"]:
        """Rows as points whose squared distances mean something; missing entries at the mean."""

    @abc.abstractmethod
    def log_predictive(self, rows: Batch) -> Float[Array, "n k"]:
        """log E_q[p(x_n | theta_k)] in nats, theta integrated out exactly."""

    @abc.abstractmethod
    def draw(self, key: Key[Array, ""], index: Int[Array, "n"]) -> Any:
        """One row from the predictive density of each of these components."""

    @abc.abstractmethod
    def num_parameters(self) -> tuple[int, int]:
        """Free parameters of each component, and those that all share."""

    @abc.abstractmethod
    def row_size(self, rows: Batch) -> int:
        """Floats that `local` and `observe` hold per row."""

    def seed(
        self: _E,
        rows: Batch,
        seeds: Int[Array, "k"],
        count: Float[Array, "k"],
        spread: Float[Array, ""] | float = 1.0,
    ) -> _E:
        """Statistics to start from: `count` rows in each component, at its seed row.

        They are as far apart as those of all the data where `spread` is 1, and all the same where
        it is 0; here half of them are the seed row and half are all the data, times `spread`.
        """
        share = (rows.weight / jnp.sum(rows.weight))[:, None]
        own = self.observe(rows.take(seeds), jnp.eye(len(seeds), dtype=count.dtype), None, None)
        everything = self.observe(rows, share, None, None)

        def blend(a: Array, b: Array) -> Array:
            mean = (1.0 - 0.5 * spread) * a + 0.5 * spread * b
            return count.reshape(-1, *[1] * (a.ndim - 1)) * mean

        return own.map(blend, everything)

    def penalty(self: _E, q: _E) -> Float[Array, ""]:
        """KL(q || prior) of all components in nats, called on the prior."""
        return jnp.sum(q.kl(self))

    def penalties(self: _E, q: _E, last: _E) -> Terms:
        """`penalty`, and KL(q || last): a row for each, called on the prior."""
        return divergences(q, self, last)

    def expected_log_lik(self, stats: Any) -> Float[Array, ""]:
        """E[log p(rows | theta)] in nats, called on q; less what no parameter changes."""
        return self.dot(stats)

    def log_prior(self, moments: Any, active: Bool[Array, "k"]) -> Float[Array, ""]:
        """log of the prior density in nats at a point, natural basis; of the active components."""
        return jnp.sum(jnp.where(active, self.log_kernel(moments), 0.0))

    def fix(self: _E, which: Bool[Array, "k"], values: _E) -> _E:
        """The components `which` as in `values`, for families that are separable."""

        def pick(own: Array, other: Array) -> Array:
            return jnp.where(which.reshape(-1, *[1] * (own.ndim - 1)), other, own)

        return jax.tree.map(pick, self, values)

    def unseen(self, prior: Any) -> Any:
        """One component without rows, beside those of q: the first of the prior."""
        return prior.take(jnp.zeros(1, jnp.int32))

    def take(self: _E, order: Int[Array, "m"]) -> _E:
        """The components of these indices."""
        return jax.tree.map(lambda a: a[order], self)

    def exchangeable(self) -> Bool[Array, ""]:
        """Whether all components have the same parameters."""
        same = [jnp.all(leaf == leaf[:1]) for leaf in jax.tree.leaves(self)]
        return jnp.all(jnp.stack(same))

    def collapsed(self, count: Float[Array, "k"]) -> Bool[Array, "k"]:
        """Under a flat prior, which components are at a singularity of the likelihood."""
        return jnp.zeros(count.shape, bool)

    def merge_gain(self, prior: Any) -> Float[Array, "k k"]:
        """What merging two components adds to the bound, rows' labels kept, in nats.

        A(eta0 + s_j + s_k) + A(eta0) - A(eta0 + s_j) - A(eta0 + s_k), as matrix over j and k
        (Hughes & Sudderth 2013).
        """
        stats = self - prior
        k = jax.tree.leaves(self)[0].shape[0]

        def with_one(j: Array) -> Float[Array, "k"]:
            one = jax.tree.map(lambda a: jnp.broadcast_to(a[j], a.shape), self)
            return (one + stats).log_normalizer()

        both = jax.vmap(with_one)(jnp.arange(k))
        own, empty = self.log_normalizer(), prior.log_normalizer()
        # a flat prior has none, and pairs need none to be compared
        empty = jnp.where(jnp.isfinite(empty), empty, 0.0)
        return both + empty[:, None] - own[:, None] - own
