"""The protocols of models: what `fit` and the other drivers call.

- `Model`: a first q, and checks.
- `DensityModel`: a log density over real numbers, for black-box methods.
- `ConditionalModel`: the E-step `local`, the `update` of q(theta), and KL(q || prior).

Those of models whose rows belong to components are in `latent_class.py`.

Abstract methods must be written; all others have a default here. `local` and `kl` make the bound:

    ELBO(q) = sum_n w_n log Z_n - KL(q(theta) || p(theta))
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Generic

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from ._pytree import pytree, replace
from .data.batch import Batch
from .data.types import Data
from .exponential_family import Q as Q
from .exponential_family import Q_co, divergences, natural_step
from .guides.space import Space
from .kernel import Kernel


@pytree
class EStep:
    """The result of an E-step over n rows.

    `stats` are the expected sufficient statistics, weighted, summed over the rows, and of the type
    of the prior. `log_z` holds log Z_n in nats for each row, the log-normaliser of its q(z_n),
    without the row's weight. Statistics of several chunks, devices or batches add up. `rows` is the
    state of each row, a pytree with rows leading, for models whose rows have one.
    """

    stats: Any
    log_z: Float[Array, "n"]
    rows: Any = None


class Model(abc.ABC, Generic[Q_co]):
    """A family of q, of the type `Q_co`, with a starting point and checks.

    `draws` says whether `init` needs a key, and `first_is_fixed` that start 0 needs none. `by_row`
    says that rows of weight 0 may be added, and that rows may be cut into chunks and drawn;
    otherwise they are one whole. `estimates` says that the bound of a step is that on fixed draws,
    and `estimate` of a ConditionalModel a better one. `row_data` says that data are rows, and not
    sequences, unless they are a Batch. `names` are those of the columns that the model was made
    for, if they have any. Drivers remove them before anything is compiled.
    """

    draws: ClassVar[bool] = False
    first_is_fixed: ClassVar[bool] = False
    by_row: ClassVar[bool] = True
    estimates: ClassVar[bool] = False
    row_data: ClassVar[bool] = True
    names: tuple[str, ...] | None = None

    @property
    @abc.abstractmethod
    def template(self) -> Q_co:
        """Any q; it fixes the type and the shapes of all others."""

    @abc.abstractmethod
    def init(
        self, key: Key[Array, ""] | None, batch: Batch, restart: Int[Array, ""] | int = 0
    ) -> Q_co:
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

    def read(self, data: Data) -> Batch:
        """The data as a Batch, on the host until a program takes them; rows, by default."""
        return Batch.for_jit(data)

    def as_batch(self, data: Data) -> Batch:
        """Rows in the form that this model takes; TypeError for text, by default."""
        return Batch.of(data).numeric()

    def check(self, batch: Batch, point: bool) -> None:
        """Raise ValueError if the rows, or the method, do not suit the model.

        `point` is True for EM, False for Bayesian methods.
        """
        return

    def ascends(self, kept: bool) -> bool:
        """Whether steps of a monotone method never lower its objective: they do not, by default.

        `kept` says that the state of rows, if they have one, goes on from pass to pass. Without it
        an iterative E-step begins afresh, and may end elsewhere than the last one.
        """
        return True


class DensityModel(Model[Q_co]):
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
    def start_at(self, params: Any) -> Q_co:
        """A narrow q around these parameters, in the form of `space`."""


def unnamed(model: Model) -> Any:
    """The model without the names of its columns, so that other names compile nothing."""
    known: Any = model  # a pytree, as it has fields
    return model if model.names is None else replace(known, names=None)


class ConditionalModel(Model[Q_co]):
    """A model with a prior, an exact E-step and an exact update: what CAVI and EM need."""

    prior: Any

    @abc.abstractmethod
    def local(self, moments: Any, batch: Batch) -> EStep:
        """The E-step: the optimal q(z) given the moments of q(theta)."""

    def rows(self, batch: Batch) -> Any:
        """The state that every row starts from, a pytree with rows leading; None, by default.

        It is for models whose E-step is iterative, such as topic models. Drivers carry it from one
        pass to the next.
        """
        return None

    def local_from(self, moments: Any, batch: Batch, rows: Any) -> EStep:
        """The E-step from this state of the rows, which the result has renewed.

        log_z must be the exact bound on each row at the renewed state. By default it is `local`.
        """
        return self.local(moments, batch)

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
        return {"log_z": weighted_sum(batch, log_z), "kl": -self.kl(q)}

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


def weighted_sum(batch: Batch, values: Float[Array, "n"]) -> Float[Array, ""]:
    """The sum of values of rows times their weights; rows of weight 0 may hold anything."""
    return jnp.sum(jnp.where(batch.weight > 0, batch.weight * values, 0.0))


class Conjugate(ConditionalModel[Q_co]):
    """A model whose prior is conjugate: the update adds statistics to the prior."""

    @property
    def template(self) -> Q_co:
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
