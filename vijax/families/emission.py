"""What a mixture asks of its components: an exponential family that generates rows."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..data.batch import Batch
from ..exponential_family import ExponentialFamily, divergences
from ..kernel import Kernel
from ..numerics import special
from ..numerics.kl_terms import KLTerms

_E = TypeVar("_E", bound="Emission")


class EmissionMoments(abc.ABC):
    """Moments of k components, under q or at a point: what the likelihood of rows needs."""

    @abc.abstractmethod
    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], Any]:
        """E[log p(x_n | theta_k)] in nats, of the observed entries of each row.

        Rows' own latent variables (missing entries, noise, precisions) are at their optimum. The
        second value is their posterior, which `Emission.observe` reads; None if there are none.
        """

    @abc.abstractmethod
    def impute(self, rows: Batch) -> tuple[Any, Any]:
        """Mean and variance (n, k, d) of every entry under each component, given those observed."""

    @abc.abstractmethod
    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """What a table shows of each component: label to values (k,)."""


class Emission(ExponentialFamily):
    """A family with one batch axis, the k components, whose parameters generate rows.

    `separable` says that components are independent of each other. `num_background` is the number
    of components at the end that are not exchangeable with the others, such as uniform noise.
    """

    separable: ClassVar[bool] = True
    num_background: ClassVar[int] = 0

    def as_batch(self, rows: Batch) -> Batch:
        """Rows in the form that this family takes."""
        return rows

    @abc.abstractmethod
    def check(self, rows: Batch) -> None:
        """Host side: raise ValueError if rows are no values of this family."""

    @abc.abstractmethod
    def observe(
        self: _E, rows: Batch, soft_counts: Float[Array, "n k"], moments: Any, row_posterior: Any
    ) -> _E:
        """Expected statistics of rows that count `soft_counts` times in each component.

        They are written next to the means in `moments`; `row_posterior` is that of `likelihood`.
        """

    def e_step(
        self: _E,
        rows: Batch,
        moments: Any,
        log_weight: Float[Array, "m"],
        background: Float[Array, "n b"] | None = None,
    ) -> tuple[_E, Float[Array, "m"], Float[Array, "n"]]:
        """Statistics, soft counts of the m = k + b components, and log sum_k p(x_n, z_n = k).

        `log_weight` are the expected log-weights; `background` log-densities in nats of b further
        components, from whose rows nothing is learned.
        """
        log_lik, row_posterior = moments.likelihood(rows)
        counts, log_z = soft_counts(rows, log_weight, log_lik, background)
        stats = self.observe(rows, counts[:, : log_lik.shape[1]], moments, row_posterior)
        return stats, jnp.sum(counts, 0), log_z

    def kernels(self, rows: Batch, moments: Any) -> tuple[Kernel, ...]:
        """Forms of `moments` that `e_step` may read, the fastest first; the last is exact."""
        return (Kernel(moments, self.row_size(rows)),)

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
        """Floats that `likelihood` and `observe` hold per row."""

    def seed(
        self: _E,
        rows: Batch,
        seeds: Int[Array, "k"],
        count: Float[Array, "k"],
        spread: Float[Array, ""] | float = 1.0,
    ) -> _E:
        """Statistics to start from: `count` rows in each component, at its seed row.

        Half of them are the seed row and half are all the data, the latter times `spread`: with 1
        they vary as all the data do, with 0 not at all.
        """
        share = (rows.weight / jnp.sum(rows.weight))[:, None]
        own = self.observe(rows.take(seeds), jnp.eye(len(seeds), dtype=count.dtype), None, None)
        everything = self.observe(rows, share, None, None)

        def blend(a: Array, b: Array) -> Array:
            mean = (1.0 - 0.5 * spread) * a + 0.5 * spread * b
            return count.reshape(-1, *[1] * (a.ndim - 1)) * mean

        return own.map(blend, everything)

    def kl_from(self: _E, q: _E) -> Float[Array, ""]:
        """KL(q || self) of all components in nats: called on the prior."""
        return jnp.sum(q.kl(self))

    def kl_and_move_terms(self: _E, q: _E, last: _E) -> KLTerms:
        """Terms of KL(q || self) and of KL(q || last), a row for each: called on the prior."""
        return divergences(q, self, last)

    def expected_log_lik(self, stats: Any) -> Float[Array, ""]:
        """E[log p(rows | theta)] in nats up to terms constant in theta: called on q."""
        return self.dot(stats)

    def log_prior(self, moments: Any, active: Bool[Array, "k"]) -> Float[Array, ""]:
        """log of the prior density in nats at a point, natural basis; of the active components."""
        return jnp.sum(jnp.where(active, self.log_kernel(moments), 0.0))

    def fix(self: _E, which: Bool[Array, "k"], values: _E) -> _E:
        """The same with the components `which` as in `values`; only for separable families."""

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

        A(eta0 + s_j + s_k) + A(eta0) - A(eta0 + s_j) - A(eta0 + s_k), as a matrix over j and k
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


def log_joint(
    log_weight: Float[Array, "k"], log_lik: Float[Array, "n k"], rows: Batch
) -> Float[Array, "n k"]:
    """E[log p(x_n, z_n = k)] in nats; -inf against a known label."""
    both = log_weight + log_lik
    if rows.label is None:
        return both
    known = (rows.label >= 0)[:, None]
    other = rows.label[:, None] != jnp.arange(both.shape[1], dtype=rows.label.dtype)
    return jnp.where(known & other, -jnp.inf, both)


def soft_counts(
    rows: Batch,
    log_weight: Float[Array, "m"],
    log_lik: Float[Array, "n k"],
    background: Float[Array, "n b"] | None = None,
) -> tuple[Float[Array, "n m"], Float[Array, "n"]]:
    """Weight times responsibility of each row and component, and log sum_k p(x_n, z_n = k)."""
    if background is not None:
        log_lik = jnp.concatenate([log_lik, background], -1)
    resp, log_z = special.normalize(log_joint(log_weight, log_lik, rows))
    return weighted(rows, resp), log_z


def weighted(rows: Batch, resp: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """Weight times responsibility; 0 for a row of weight 0, whatever it holds."""
    # such a row must not spread a NaN, in values or in gradients
    present = (rows.weight > 0)[:, None]
    return jnp.where(present, rows.weight[:, None] * jnp.where(present, resp, 0.0), 0.0)
