"""What a driver asks of a model, and the global step of conditionally conjugate models.

`Model` is what every driver needs to hold a fit: a q to start from and checks. `ConditionalModel`
adds exact updates, `LatentClassModel` latent assignments of rows to components, and
`SplitMergeModel` what a search over structures asks. Abstract methods must be written; all others
have a default here.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from ._pytree import pytree, replace
from .data.batch import Batch
from .data.types import Data
from .exponential_family import ExponentialFamily, Product, Q, divergences, natural_step
from .kernel import Kernel


@pytree
class EStep:
    """One local step over some rows.

    `stats` are expected sufficient statistics, weighted and summed, in the space of the prior.
    `log_z` is each row's part of the bound in nats, the log of the normaliser of its q(z),
    unweighted. Both add over rows, so that chunks, streams and devices are one thing.
    """

    stats: Any
    log_z: Float[Array, "n"]


class Model(abc.ABC):
    """A family of q, a start and checks. No loops, no jit, no input or output.

    `draws` says whether `init` needs a key.
    """

    draws: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def template(self) -> Q:
        """Any q: what fixes its type and its shapes."""

    @abc.abstractmethod
    def init(self, key: Key[Array, ""] | None, batch: Batch, restart: ArrayLike = 0) -> Q:
        """A q to start from, which breaks the symmetry between latent states.

        `restart` counts the starts of one fit, so that they can differ by design as well.
        """

    @abc.abstractmethod
    def row_size(self, batch: Batch) -> int:
        """Floats that a pass holds per row: sets the automatic chunk."""

    def as_batch(self, data: Data) -> Batch:
        """Rows in the form that this model takes."""
        return Batch.of(data)

    def check(self, batch: Batch, point: bool) -> None:
        """Raise ValueError if rows do not fit, or if `point` (EM) or Bayes is impossible.

        By default any rows fit.
        """
        return


class ConditionalModel(Model):
    """A prior, an exact local step and an exact global step: what CAVI and EM climb by."""

    prior: Any

    @abc.abstractmethod
    def local(self, moments: Any, batch: Batch) -> EStep:
        """Optimal q(z) given the moments of q(theta): the E-step."""

    @abc.abstractmethod
    def update(self, q: Q, stats: Any, rate: ArrayLike = 1.0) -> Q:
        """Optimal q(theta) given expected statistics; one sweep if theta has coupled blocks.

        With `rate` < 1 a natural-gradient step of that length from `q`; of coupled blocks each is
        moved before the next one is updated.
        """

    @abc.abstractmethod
    def kl(self, q: Q) -> Float[Array, ""]:
        """KL(q(theta) || p(theta)) in nats."""

    def kernels(self, moments: Any, batch: Batch) -> tuple[Kernel, ...]:
        """Forms of `moments` that `local` may read for these rows, the fastest first.

        The last must be exact for all rows; by default there is no other.
        """
        return (Kernel(moments, self.row_size(batch)),)

    def kl_and_move(self, q: Q, last: Q) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """`kl`, and KL(q || last) in nats: write it where both take less than each by itself."""
        return self.kl(q), jnp.sum(q.kl(last))

    def combine(self, q: Q, stats: Any, rate: ArrayLike = 1.0) -> Q:
        """`update` without reordering components.

        For methods that keep statistics, or a q, from several updates: theirs must be of the same
        components. By default `update`.
        """
        return self.update(q, stats, rate)

    def order(self, q: Q, stats: Any) -> Int[Array, "k"] | None:
        """The order that `update` puts components in; None, the default, if it moves none."""
        return None

    def reorder(self, stats: Any, order: Int[Array, "k"]) -> Any:
        """The same statistics with the components in this order."""
        return stats

    def expected_log_lik(self, q: Q, stats: Any) -> Float[Array, ""]:
        """E_q[log p(x, z | theta)] of rows with these statistics, up to terms constant in theta.

        Only `Memoized` asks. Raises ValueError, by default.
        """
        raise ValueError(
            f"method: Memoized needs `expected_log_lik(q, stats)` of {type(self).__name__}, for "
            "its bound; take CAVI(), or define it"
        )

    def with_posterior_as_prior(self, q: Q) -> ConditionalModel:
        """The same model with `q` for its prior. Raises ValueError, by default."""
        raise ValueError(
            f"model: the posterior of {type(self).__name__} is not of the form of its prior, so "
            "that it cannot become the prior of the next batch"
        )

    def log_prior(self, moments: Any) -> Float[Array, ""]:
        """log of the prior density in nats at a point, in the natural basis.

        Only EM asks. Raises ValueError, by default.
        """
        raise ValueError(f"method: {type(self).__name__} has no prior density for EM(); use CAVI()")

    def collapsed(self, q: Q) -> Bool[Array, ""]:
        """Whether a point estimate is at a singularity of the likelihood: never, by default.

        Only EM asks.
        """
        return jnp.zeros((), bool)


class Conjugate(ConditionalModel):
    """The global step of every model whose prior is conjugate: addition."""

    @property
    def template(self) -> ExponentialFamily:
        """The prior: q is of the same family."""
        return self.prior

    def update(self, q: Q, stats: Any, rate: ArrayLike = 1.0) -> Q:
        """Statistics + prior; statistics first, for their gauge is next to the current means."""
        return natural_step(q, stats + self.prior, rate)

    def kl(self, q: Q) -> Float[Array, ""]:
        """KL(q || prior) in nats."""
        return jnp.sum(q.kl(self.prior))

    def kl_and_move(self, q: Q, last: Q) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """KL(q || prior) and KL(q || last) in nats."""
        kl, move = divergences(q, self.prior, last).total_by_product()
        return kl, move

    def expected_log_lik(self, q: Q, stats: Any) -> Float[Array, ""]:
        """E_q[log p(x, z | theta)] of rows with these statistics, up to terms constant in theta."""
        return q.dot(stats)

    def with_posterior_as_prior(self: Any, q: Q) -> Any:
        """The same model with this posterior for its prior."""
        return replace(self, prior=q)

    def log_prior(self, moments: Any) -> Float[Array, ""]:
        """log of the prior density in nats at a point, in the natural basis."""
        return jnp.sum(self.prior.log_kernel(moments))


class LatentClassModel(ConditionalModel):
    """A model whose rows belong to one of `num_components` latent classes each."""

    @property
    @abc.abstractmethod
    def num_components(self) -> int:
        """k, switched-off components included."""

    @property
    @abc.abstractmethod
    def active(self) -> Bool[Array, "*b k"]:
        """Which components are switched on."""

    @abc.abstractmethod
    def start_moments(self, q: Q) -> Any:
        """Moments of a q that may be the prior: its point where it has no expectation."""

    @abc.abstractmethod
    def assign(self, q: Q, batch: Batch, resp: Float[Array, "n k"]) -> Any:
        """Statistics of given responsibilities, next to the means of q."""

    @abc.abstractmethod
    def log_joint(self, moments: Any, batch: Batch) -> Float[Array, "n k"]:
        """E[log p(x_n, z_n = k)] in nats; -inf against a known label."""


class SplitMergeModel(LatentClassModel):
    """A latent-class model whose components can be split, merged, deleted and born."""

    @property
    @abc.abstractmethod
    def movable(self) -> Bool[Array, "k"]:
        """Which components may be merged, split or begun anew."""

    @abc.abstractmethod
    def expected_weights(self, q: Q) -> Float[Array, "k"]:
        """Expected share of the rows in each component."""

    @abc.abstractmethod
    def embed(self, batch: Batch) -> Float[Array, "n f"]:
        """Rows as points whose squared distances mean something."""

    @abc.abstractmethod
    def merge_gain(self, q: Q) -> Float[Array, "k k"]:
        """What merging two components adds to the components' part of the bound, in nats."""


class ComponentParams(Product):
    """q(theta) of k components and of their weights, each a factor."""

    weights: Any
    components: Any

    @property
    @abc.abstractmethod
    def num_background(self) -> int:
        """The number of components at the end that must stay there, such as noise."""

    @abc.abstractmethod
    def take(self, order: Int[Array, "m"]) -> ComponentParams:
        """The components of these indices, in this order, with their weights."""
