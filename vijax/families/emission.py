"""What a mixture asks of its components: an exponential family whose parameters generate rows.

An E-step takes `q.moments()` (or `q.point()` for EM) and gives expected sufficient statistics:
`EmissionMoments.likelihood` scores rows, `Emission.observe` sums them up, and `Emission.e_step`
does both. `kernels` lists faster forms of the moments, which `e_step` may read instead.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from .._text import count, short
from ..data.batch import Batch
from ..exponential_family import ExponentialFamily, divergences
from ..kernel import Kernel
from ..numerics import special
from ..numerics.kl_terms import KLTerms
from .column_scale import refuse_exposure

_E = TypeVar("_E", bound="Emission")

Spread = Float[Array, ""] | float  # width of starting components relative to all the data


class EmissionMoments(abc.ABC):
    """Moments of k components, under q or at a point, from which rows get their likelihood."""

    @abc.abstractmethod
    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], Any]:
        """E[log p(x_n | theta_k)] in nats over observed entries, and the posterior of each row.

        If rows have latent variables of their own (missing entries, values behind noise,
        precisions), the first value has them integrated out under their optimal q, and the second
        is that q, for `Emission.observe`. Otherwise the second is None.
        """

    def log_distance(self, rows: Batch) -> Float[Array, "n k"] | None:
        """log of how far rows are from each component in standard deviations, up to a factor d.

        None says that log-densities of finite rows are finite.
        """
        return None

    def log_density(
        self, rows: Batch, factor: Float[Array, "n #k"] | None = None
    ) -> Float[Array, "n k"]:
        """As `likelihood`, for reading: finite for far rows wherever it can be.

        Log-densities that fall with the square of a distance have it multiplied by `factor`.
        """
        return self.likelihood(rows)[0]

    @abc.abstractmethod
    def impute(self, rows: Batch) -> tuple[Any, Any]:
        """Mean and variance (n, k, d) of every entry under each component, given those observed."""

    @abc.abstractmethod
    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """What a table shows of each component: a dict from label to values (k,)."""


class Emission(ExponentialFamily):
    """A family with one batch axis, the k components, whose parameters generate rows.

    A new family writes the abstract methods of `ExponentialFamily` and those below; all others have
    a default. `separable` says that components have no parameters in common. `num_background` is
    the number of components at the end that are not exchangeable with the others, such as noise.
    `parameter` is what a draw is called.
    `takes_exposure` says that `rows.exposure` counts; rows that have one are refused otherwise.
    """

    separable: ClassVar[bool] = True
    num_background: ClassVar[int] = 0
    parameter: ClassVar[str] = "components"
    takes_exposure: ClassVar[bool] = False

    @property
    def recodes(self) -> bool:
        """Whether `as_batch` changes entries, so that their levels must be known before."""
        return False

    def as_batch(self, rows: Batch) -> Batch:
        """Rows in the form that this family takes; TypeError for text, by default."""
        return rows.numeric()

    def decode(self, x: Any) -> Any:
        """Rows of this family, such as drawn ones, with levels in place of codes."""
        return x

    @abc.abstractmethod
    def check(self, rows: Batch) -> None:
        """Raise ValueError if rows are not values of this family; called on the host."""

    def check_rows(self, rows: Batch) -> None:
        """As `check`, and raise ValueError for rows with an exposure that would not count."""
        if not self.takes_exposure:
            refuse_exposure(rows, f"a {type(self).__name__}")
        self.check(rows)

    @abc.abstractmethod
    def observe(
        self: _E, rows: Batch, soft_counts: Float[Array, "n k"], moments: Any, row_posterior: Any
    ) -> _E:
        """Expected sufficient statistics of rows that count `soft_counts` times in each component.

        `moments` decide on their origin, and `row_posterior` is the second value of `likelihood`.
        """

    def e_step(
        self: _E,
        rows: Batch,
        moments: Any,
        log_weight: Float[Array, "m"],
        background: Float[Array, "n b"] | None = None,
    ) -> tuple[_E, Float[Array, "m"], Float[Array, "n"]]:
        """Expected sufficient statistics, soft counts (m,), and log_z of each row in nats.

        log_z is log sum_k exp(E[log p(x_n, z_n = k)]). `log_weight` is E[log weight] of m = k + b
        components; `background` has log-densities in nats of the last b, which have no statistics.
        """
        log_lik, row_posterior = moments.likelihood(rows)
        counts, log_z = soft_counts(rows, log_weight, log_lik, background)
        stats = self.observe(rows, counts[:, : log_lik.shape[1]], moments, row_posterior)
        return stats, jnp.sum(counts, 0), log_z

    def words(self) -> list[str]:
        """What the components are like, for the short form of a model; nothing by default."""
        return []

    def __repr__(self) -> str:
        try:
            axes = jax.eval_shape(lambda components: components.describe(), self)
            k = next(iter(axes.values())).shape[-1]
            words = [count(k, "component"), *self.words()]
        except Exception:  # a pytree may hold anything while JAX looks at its structure
            return short(self)
        return f"{type(self).__name__}({', '.join(words)})"

    def kernels(self, rows: Batch, moments: Any) -> tuple[Kernel, ...]:
        """Forms of `moments` that `e_step` may read, the fastest first; the last is exact."""
        return (Kernel(moments, self.row_size(rows)),)

    @abc.abstractmethod
    def embed(self, rows: Batch) -> Float[Array, "n f"]:
        """Rows as points for k-means++, columns on a common scale; missing entries at the mean."""

    @abc.abstractmethod
    def log_predictive(self, rows: Batch) -> Float[Array, "n k"]:
        """log E_q[p(x_n | theta_k)] in nats over observed entries, theta integrated out exactly."""

    @abc.abstractmethod
    def draw(self, key: Key[Array, ""], index: Int[Array, "n"]) -> Any:
        """One row from the predictive density of each of the components `index`."""

    @abc.abstractmethod
    def num_parameters(self) -> tuple[int, int]:
        """Number of free parameters of each component, and of those that all components share."""

    @abc.abstractmethod
    def row_size(self, rows: Batch) -> int:
        """Number of floats that `likelihood` and `observe` hold per row."""

    def seed(
        self: _E,
        rows: Batch,
        seeds: Int[Array, "k"],
        count: Float[Array, "k"],
        spread: Spread = 1.0,
    ) -> _E:
        """Statistics to start from: `count` rows in each component, around its seed row.

        By default a fraction spread / 2 of them is all the data, and the rest are copies of the
        seed row; `spread` = 0 gives copies alone.
        """
        share = self._shares(rows, len(seeds))
        at_seed = self.observe(rows.take(seeds), jnp.eye(len(seeds), dtype=count.dtype), None, None)
        everything = self.observe(rows, share, None, None)

        def blend(a: Array, b: Array) -> Array:
            mean = (1.0 - 0.5 * spread) * a + 0.5 * spread * b
            return count.reshape(-1, *[1] * (a.ndim - 1)) * mean

        return at_seed.map(blend, everything)

    def _shares(self, rows: Batch, k: int) -> Float[Array, "n #k"]:
        """The weights of the rows as shares of their sum, the same for all components."""
        return (rows.weight / jnp.sum(rows.weight))[:, None]

    def kl_from(self: _E, q: _E) -> Float[Array, ""]:
        """KL(q || prior) in nats, summed over the components; called on the prior."""
        return jnp.sum(q.kl(self))

    def kl_and_move_terms(self: _E, q: _E, last: _E) -> KLTerms:
        """Terms of KL(q || prior) and of KL(q || last), as two rows; called on the prior."""
        return divergences(q, self, last)

    def expected_log_lik(self, stats: Any) -> Float[Array, ""]:
        """E[log p(rows | theta)] in nats up to terms constant in theta; called on q."""
        return self.dot(stats)

    def log_prior(self, moments: Any, active: Bool[Array, "k"]) -> Float[Array, ""]:
        """Log prior density with respect to h at a point, in nats, of the components `active`."""
        return jnp.sum(jnp.where(active, self.log_kernel(moments), 0.0))

    def fix(self: _E, which: Bool[Array, "k"], values: _E) -> _E:
        """The components `which` of `values` beside the others of self, if `separable`."""

        def pick(own: Array, other: Array) -> Array:
            return jnp.where(which.reshape(-1, *[1] * (own.ndim - 1)), other, own)

        return jax.tree.map(pick, self, values)

    def unseen(self, prior: Any) -> Any:
        """One more component, without rows: the first of the prior; called on q."""
        return prior.take(jnp.zeros(1, jnp.int32))

    def take(self: _E, order: Int[Array, "m"]) -> _E:
        """The components of these indices."""
        return jax.tree.map(lambda a: a[order], self)

    def extend(self: _E, prior: Any) -> _E:
        """These components, then those of `prior`, which has more, beyond them; called on q."""

        def join(own: Array, other: Array) -> Array:
            return jnp.concatenate([own, other[own.shape[0] :].astype(own.dtype)])

        return jax.tree.map(join, self, prior)

    def exchangeable(self) -> Bool[Array, ""]:
        """Whether all components have the same parameters."""
        same = [jnp.all(leaf == leaf[:1]) for leaf in jax.tree.leaves(self)]
        return jnp.all(jnp.stack(same))

    def collapsed(self, count: Float[Array, "k"]) -> Bool[Array, "k"]:
        """Which components are at a singularity of the likelihood; asked under a flat prior."""
        return jnp.zeros(count.shape, bool)

    def point_at(self, value: Any) -> Any:
        """The moments at parameters of `value`, one draw of `sample`: `point`, at another point.

        Raises TypeError, by default.
        """
        raise TypeError(f"theta: {type(self).__name__} does not say what rows are at a draw of it")

    def merge_gain(self, prior: Any) -> Float[Array, "k k"]:
        """Gain of the components' part of the elbo in nats from merging j and k; called on q.

        It is A(eta0 + s_j + s_k) + A(eta0) - A(eta0 + s_j) - A(eta0 + s_k), with the
        responsibilities of all other components kept (Hughes & Sudderth 2013).
        """
        stats = self - prior
        numbers = jnp.arange(jax.tree.leaves(self)[0].shape[0])

        def merged_with(j: Array) -> Any:
            return jax.tree.map(lambda a: jnp.broadcast_to(a[j], a.shape), self) + stats

        # one copy of A for the pairs, the components as they are, and the prior
        parts = jax.vmap(merged_with)(numbers), self, prior.about(self)
        stacked = jax.tree.map(lambda a, *b: jnp.concatenate([a, *(c[None] for c in b)]), *parts)
        values = stacked.log_normalizer()
        merged, apart, empty = values[:-2], values[-2], values[-1]
        # a flat prior has no finite A(eta0), which does not matter for comparing pairs
        empty = jnp.where(jnp.isfinite(empty), empty, 0.0)
        return merged + empty[:, None] - apart[:, None] - apart[None]


def log_joint(
    log_weight: Float[Array, "k"], log_lik: Float[Array, "n k"], rows: Batch
) -> Float[Array, "n k"]:
    """E[log p(x_n, z_n = k)] in nats; -inf where the label of row n is known and is not k."""
    joint = log_weight[None] + log_lik
    if rows.label is None:
        return joint
    known = (rows.label >= 0)[:, None]
    other = rows.label[:, None] != jnp.arange(joint.shape[1], dtype=rows.label.dtype)[None]
    return jnp.where(known & other, -jnp.inf, joint)


def soft_counts(
    rows: Batch,
    log_weight: Float[Array, "m"],
    log_lik: Float[Array, "n k"],
    background: Float[Array, "n b"] | None = None,
) -> tuple[Float[Array, "n m"], Float[Array, "n"]]:
    """Weight times responsibility of each row and component, and log_z of each row in nats.

    Arguments and log_z are as in `Emission.e_step`, and `log_lik` is E[log p(x_n | theta_k)].
    """
    if background is not None:
        log_lik = jnp.concatenate([log_lik, background], -1)
    resp, log_z = special.normalize(log_joint(log_weight, log_lik, rows))
    return weighted(rows, resp), log_z


def weighted(rows: Batch, resp: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """Weight times responsibility; 0 for a row of weight 0, which may hold anything."""
    # no NaN of such a row may reach the result or its gradient
    present = (rows.weight > 0)[:, None]
    return jnp.where(present, rows.weight[:, None] * jnp.where(present, resp, 0.0), 0.0)
