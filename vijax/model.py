"""The protocols of models: what `fit` and the other drivers call.

- `Model`: a first q, and checks.
- `DensityModel`: a log density over real numbers, for black-box methods.
- `ConditionalModel`: the E-step `local`, the `update` of q(theta), and KL(q || prior).
- `LatentClassModel`: rows belong to components, with responsibilities.
- `SplitMergeModel`: components can be split, merged, deleted and born.

Abstract methods must be written; all others have a default here. `local` and `kl` make the bound:

    ELBO(q) = sum_n w_n log Z_n - KL(q(theta) || p(theta))
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from ._pytree import pytree, replace
from .data.batch import Batch
from .data.types import Data
from .exponential_family import ExponentialFamily, Product, Q, divergences, natural_step
from .guides.space import Space
from .kernel import Kernel


@pytree
class EStep:
    """The result of an E-step over n rows.

    `stats` are the expected sufficient statistics, weighted, summed over the rows, and of the type
    of the prior. `log_z` holds log Z_n in nats for each row, the log-normaliser of its q(z_n),
    without the row's weight. Statistics of several chunks, devices or batches add up.
    """

    stats: Any
    log_z: Float[Array, "n"]


class Model(abc.ABC):
    """A family of q with a starting point and checks.

    `draws` says whether `init` needs a key, and `first_is_fixed` that start 0 needs none. `by_row`
    says that rows of weight 0 may be added, and that rows may be cut into chunks and drawn;
    otherwise they are one whole. `estimates` says that the bound of a step is that on fixed draws,
    and `estimate` of a ConditionalModel a better one. `names` are those of the columns that the
    model was made for, if they have any. Drivers remove them before anything is compiled.
    """

    draws: ClassVar[bool] = False
    first_is_fixed: ClassVar[bool] = False
    by_row: ClassVar[bool] = True
    estimates: ClassVar[bool] = False
    names: tuple[str, ...] | None = None

    @property
    @abc.abstractmethod
    def template(self) -> Q:
        """Any q; it fixes the type and the shapes of all others."""

    @abc.abstractmethod
    def init(
        self, key: Key[Array, ""] | None, batch: Batch, restart: Int[Array, ""] | int = 0
    ) -> Q:
        """A q to start from, in which components differ.

        `restart` is the number of this start among those of one fit.
        """

    @abc.abstractmethod
    def row_size(self, batch: Batch) -> int:
        """The number of floats that an E-step holds per row; chunk sizes follow from it."""

    @property
    def recodes(self) -> bool:
        """Whether `as_batch` changes entries of rows, as it does for levels of categories."""
        return False

    def as_batch(self, data: Data) -> Batch:
        """Rows in the form that this model takes; TypeError for text, by default."""
        return Batch.of(data).numeric()

    def check(self, batch: Batch, point: bool) -> None:
        """Raise ValueError if the rows, or the method, do not suit the model.

        `point` is True for EM, False for Bayesian methods.
        """
        return


class DensityModel(Model):
    """A model of which log p(theta, x) is known, up to nothing, and no conjugate update.

    Parameters theta are a function of a vector u (d,) of real numbers, which `space` describes; q
    is over u. All constants count, so that bounds are comparable with those of other models.
    """

    draws: ClassVar[bool] = True
    first_is_fixed: ClassVar[bool] = True
    by_row: ClassVar[bool] = False  # there may be a parameter for each row

    @property
    @abc.abstractmethod
    def space(self) -> Space:
        """The form of theta."""

    @property
    @abc.abstractmethod
    def takes_rows(self) -> bool:
        """Whether the density is one of rows; if not, a fit has no data."""

    @abc.abstractmethod
    def log_density(self, u: Float[Array, "d"], batch: Batch) -> Float[Array, ""]:
        """log p(theta(u), x) + log |d theta / d u| in nats, with weighted rows."""

    @abc.abstractmethod
    def start_at(self, params: Any) -> Q:
        """A narrow q around these parameters, in the form of `space`."""


def unnamed(model: Model) -> Any:
    """The model without the names of its columns, so that other names compile nothing."""
    known: Any = model  # a pytree, as it has fields
    return model if model.names is None else replace(known, names=None)


class ConditionalModel(Model):
    """A model with a prior, an exact E-step and an exact update: what CAVI and EM need."""

    prior: Any

    @abc.abstractmethod
    def local(self, moments: Any, batch: Batch) -> EStep:
        """The E-step: the optimal q(z) given the moments of q(theta)."""

    @abc.abstractmethod
    def update(self, q: Q, stats: Any, rate: ArrayLike = 1.0) -> Q:
        """The optimal q(theta) given expected statistics; one sweep if theta has coupled blocks.

        With `rate` < 1 it is a natural-gradient step of that length from `q`; of coupled blocks,
        each is moved before the next one is updated.
        """

    @abc.abstractmethod
    def kl(self, q: Q) -> Float[Array, ""]:
        """KL(q(theta) || p(theta)) in nats."""

    def elbo_terms(self, q: Q, batch: Batch) -> dict[str, Float[Array, ""]]:
        """Named terms of the bound at q in nats, which add up to it.

        By default they are the sum of log Z_n, "log_z", and "kl", which is -KL(q || p).
        """
        log_z = self.local(q.moments(), batch).log_z
        return {"log_z": _weighted_sum(batch, log_z), "kl": -self.kl(q)}

    def estimate(self, q: Q, batch: Batch) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """An unbiased estimate of the bound at q in nats, and its standard error.

        By default it is the bound itself, with the error 0.
        """
        elbo = sum(self.elbo_terms(q, batch).values(), start=jnp.zeros((), batch.weight.dtype))
        return elbo, jnp.zeros_like(elbo)

    def magnitude(self, q: Q, stats: Any) -> Float[Array, ""] | None:
        """The sum of the magnitudes in nats of the terms of the bound at q, of which most cancel.

        `stats` are those of the E-step at q. Rounding of the bound is relative to it. None, the
        default, says that no term is larger than the bound and the number of rows.
        """
        return None

    def kernels(self, moments: Any, batch: Batch) -> tuple[Kernel, ...]:
        """Forms of `moments` that `local` may read for these rows, the fastest first.

        The last one must be exact for all rows; by default it is the only one.
        """
        return (Kernel(moments, self.row_size(batch)),)

    def kl_and_move(self, q: Q, last: Q) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """KL(q || prior) and KL(q || last) in nats; override it if one pass can give both."""
        return self.kl(q), jnp.sum(q.kl(last))

    def combine(self, q: Q, stats: Any, rate: ArrayLike = 1.0) -> Q:
        """The `update` without reordering components; used by SVI and Memoized.

        By default it is `update`.
        """
        return self.update(q, stats, rate)

    def order(self, q: Q, stats: Any) -> Int[Array, "k"] | None:
        """The order that `update` puts components in; None, the default, if it moves none."""
        return None

    def reorder(self, stats: Any, order: Int[Array, "k"]) -> Any:
        """The same statistics with the components in this order."""
        return stats

    def expected_log_lik(self, q: Q, stats: Any) -> Float[Array, ""]:
        """E_q[log p(x, z | theta)] in nats of rows with these statistics, for Memoized.

        Terms constant in theta are left out. Raises ValueError, by default.
        """
        raise ValueError(
            f"method: Memoized needs `expected_log_lik(q, stats)` of {type(self).__name__}, for "
            "its bound; take CAVI(), or define it"
        )

    def with_posterior_as_prior(self, q: Q) -> ConditionalModel:
        """The same model with `q` for its prior, for Streaming; ValueError, by default."""
        raise ValueError(
            f"model: the posterior of {type(self).__name__} is not of the form of its prior, so "
            "that it cannot become the prior of the next batch"
        )

    def log_prior(self, moments: Any) -> Float[Array, ""]:
        """Log prior density in nats at a point, in the natural basis, for EM.

        Raises ValueError, by default.
        """
        raise ValueError(f"method: {type(self).__name__} has no prior density for EM(); use CAVI()")

    def collapsed(self, q: Q) -> Bool[Array, ""]:
        """Whether an EM estimate is at a singularity of the likelihood: never, by default."""
        return jnp.zeros((), bool)


def _weighted_sum(batch: Batch, values: Float[Array, "n"]) -> Float[Array, ""]:
    return jnp.sum(jnp.where(batch.weight > 0, batch.weight * values, 0.0))


class Conjugate(ConditionalModel):
    """A model whose prior is conjugate: the update adds statistics to the prior."""

    @property
    def template(self) -> ExponentialFamily:
        """The prior; q is of the same family."""
        return self.prior

    def update(self, q: Q, stats: Any, rate: ArrayLike = 1.0) -> Q:
        """The posterior, stats + prior; the sum is written about the origin of `stats`."""
        return natural_step(q, stats + self.prior, rate)

    def kl(self, q: Q) -> Float[Array, ""]:
        return jnp.sum(q.kl(self.prior))

    def kl_and_move(self, q: Q, last: Q) -> tuple[Float[Array, ""], Float[Array, ""]]:
        kl, move = divergences(q, self.prior, last).total_by_product()
        return kl, move

    def expected_log_lik(self, q: Q, stats: Any) -> Float[Array, ""]:
        return q.dot(stats)

    def with_posterior_as_prior(self: Any, q: Q) -> Any:
        return replace(self, prior=q)

    def log_prior(self, moments: Any) -> Float[Array, ""]:
        return jnp.sum(self.prior.log_kernel(moments))


class LatentClassModel(ConditionalModel):
    """A model in which each row belongs to one of `num_components` latent classes."""

    @property
    @abc.abstractmethod
    def num_components(self) -> int:
        """The number of components, k, switched-off ones included."""

    @property
    @abc.abstractmethod
    def active(self) -> Bool[Array, "*b k"]:
        """Which components are switched on."""

    @abc.abstractmethod
    def start_moments(self, q: Q) -> Any:
        """Moments of a q that may be the prior: those of its point if it has no expectation."""

    @abc.abstractmethod
    def reassign(
        self,
        moments: Any,
        batch: Batch,
        change: Callable[[Float[Array, "n k"]], tuple[Float[Array, "n k"], Any]],
    ) -> tuple[Any, Any]:
        """Expected statistics under responsibilities that `change` makes of `log_joint`.

        They are written about the means of `moments`. The second value of `change` is handed on.
        """

    def assign(self, q: Q, batch: Batch, resp: Float[Array, "n k"]) -> Any:
        """Expected statistics under the given responsibilities, written about the means of q."""
        return self.reassign(self.start_moments(q), batch, lambda _: (resp, None))[0]

    @abc.abstractmethod
    def log_joint(self, moments: Any, batch: Batch) -> Float[Array, "n k"]:
        """E[log p(x_n, z_n = k)] in nats; -inf for components other than a known label."""


class SplitMergeModel(LatentClassModel):
    """A latent-class model whose components can be split, merged, deleted and born."""

    @property
    @abc.abstractmethod
    def movable(self) -> Bool[Array, "k"]:
        """Which components may be merged, split or born."""

    @abc.abstractmethod
    def expected_counts(self, q: Q, total: Float[Array, ""]) -> Float[Array, "k"]:
        """Expected number of rows in each component, of `total` rows."""

    @abc.abstractmethod
    def embed(self, batch: Batch) -> Float[Array, "n f"]:
        """Rows as points whose Euclidean distances are meaningful."""

    @abc.abstractmethod
    def merge_gain(self, q: Q) -> Float[Array, "k k"]:
        """The gain of the bound in nats from merging two components, but for their overlap.

        Merging j and k also loses the entropy of the assignments of rows to one of the two.
        """

    def grow(self, q: Q, total: Float[Array, ""]) -> Q:
        """A q of fewer components as one of this model, whose other components are empty.

        `total` is the number of rows. Raises ValueError, by default.
        """
        raise ValueError(f"init: {type(self).__name__} takes no q of fewer components")


class ComponentParams(Product):
    """q(theta) of k components and of their weights, which are its two factors."""

    weights: Any
    components: Any

    @property
    @abc.abstractmethod
    def num_background(self) -> int:
        """The number of components, such as noise, that must stay at the end."""

    @abc.abstractmethod
    def table(self, names: list[str] | None = None, *, point: bool = False) -> dict[str, Any]:
        """Weights and parameters (k,) of the components, by label.

        With `point` they are those of `point()`. `names` are those of the columns of the data.
        """

    @abc.abstractmethod
    def take(self, order: Int[Array, "m"]) -> ComponentParams:
        """The components of these indices, in this order, with their weights."""


@runtime_checkable
class Predictor(Protocol):
    """A model that answers questions about rows, each by itself, from a q.

    Results have the rows on the leading axis; `q` may be a Result.
    """

    def responsibilities(self, q: Q, x: Data) -> Any:
        """Posterior probability of each component, (n, k)."""

    def predict(self, q: Q, x: Data) -> Any:
        """The most probable component, (n,)."""

    def log_likelihood(self, q: Q, x: Data) -> Any:
        """log p(x_n | theta) in nats at the posterior means, (n,)."""

    def log_predictive(self, q: Q, x: Data) -> Any:
        """log E_q[p(x_n | theta)] in nats, (n,)."""

    def impute(self, q: Q, x: Data) -> Any:
        """Means and standard deviations of missing entries, in the form of x."""

    def decode(self, x: Any) -> Any:
        """Rows with the levels of categories in place of their codes."""
