"""What a model asks of the prior on its labels, which say what component a step belongs to."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree
from ...data.batch import Batch
from ...exponential_family import ExponentialFamily, Q, divergences, natural_step
from ...numerics.kl_terms import KLTerms

_L = TypeVar("_L", bound="Labels")


@pytree
class Labelled:
    """What is known of the labels of n rows, given the likelihood of their steps.

    `resp` are the responsibilities, (n, k), or (n, t, k) of sequences, and `stats` the expected
    statistics of the labels, weighted, summed over the rows, and of the type of their prior.
    `log_z` (n,) is the log-normaliser of q(labels) of each row in nats, which is the bound on the
    row. `rows` is what the next E-step starts from, if rows have a state of their own.
    """

    resp: Float[Array, "..."]
    stats: Any
    log_z: Float[Array, "n"]
    rows: Any = None


class Labels(ExponentialFamily):
    """A prior on the labels of all steps of a row, an exponential family over its parameters.

    A step is a row of its own, or an entry of a sequence. `ordered` says that classes are not
    exchangeable, and `closed` that the posterior has the form of the prior. `no_point` is why EM
    cannot use `point`, and what to do; empty if it can. `word` is what a class is called.
    """

    ordered: bool = False
    no_point: ClassVar[str] = ""
    closed: ClassVar[bool] = True
    word: ClassVar[str] = "component"

    @property
    def template(self: _L) -> _L:
        """Any q, which has none of the settings that a prior may have; the prior, by default."""
        return self

    def followed_by(self: _L, q: _L) -> _L:
        """The prior with this posterior in its place, and with its own settings."""
        return q

    def point_at(self, value: Any) -> Any:
        """The moments at parameters of `value`, one draw of `sample`; TypeError, by default."""
        raise TypeError(f"theta: the labels of rows have no sum under {type(self).__name__}")

    def log_prior_at(self, q: Q, value: Any) -> Float[Array, "..."]:
        """log p(value) in nats of draws of `q`, which has the numbers that are learned as a point.

        It is called on the prior, whose `log_prob` it is by default.
        """
        return self.log_prob(value)

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Number of classes k."""

    def row_size(self, t: int | None, floats: int) -> int:
        """Floats that an E-step holds per row of t steps of `floats` each; t is None for rows."""
        return floats if t is None else t * (floats + 4 * self.size)

    @property
    @abc.abstractmethod
    def on(self) -> Bool[Array, "*b k"]:
        """Which classes are switched on, if the prior is proper."""

    @property
    @abc.abstractmethod
    def mean(self) -> Float[Array, "*b k"]:
        """Expected share of each class among all steps."""

    @abc.abstractmethod
    def counts(self, stats: Any) -> Float[Array, "*b k"]:
        """The number of steps in each class that `stats` are of."""

    def possible(self, moments: Any) -> Bool[Array, "..."]:
        """Which classes a step may be in, (k,); all of them by default."""
        return jnp.ones((), bool)

    @abc.abstractmethod
    def infer(
        self, moments: Any, log_lik: Float[Array, "..."], rows: Batch, state: Any = None
    ) -> Labelled:
        """The optimal q(labels) given E[log p(step | class)] in nats, (n, k) or (n, t, k).

        It is called on the prior, with the moments of its q. `state` is that of the rows.
        """

    def fresh(self, rows: Batch) -> Any:
        """The state that rows start from, for `infer`; None, by default, if they have none."""
        return None

    def ascends(self, kept: bool) -> bool:
        """Whether `infer` never lowers the bound, if the state of rows is `kept` between passes."""
        return True

    def tempered(
        self, moments: Any, log_lik: Float[Array, "..."], rows: Batch, power: Float[Array, ""]
    ) -> Labelled:
        """As `infer`, with q(labels) ~ exp(power E[log p]), for `Annealed`."""
        cooler = jax.tree.map(lambda a: power * a, moments)
        return self.infer(cooler, power * log_lik, rows)

    @abc.abstractmethod
    def assign(self, resp: Float[Array, "..."], rows: Batch) -> Any:
        """Expected statistics of labels that are independent, with these responsibilities."""

    @abc.abstractmethod
    def give_to(self, stats: Any, heir: Int[Array, "k"]) -> Any:
        """The statistics if each class gives its steps to its heir, which may be itself."""

    @abc.abstractmethod
    def begin(self, count: Float[Array, "k"]) -> Any:
        """Statistics to start from, of labels of which only the number in each class is known."""

    def partition(
        self,
        key: Key[Array, ""],
        points: Float[Array, "m f"],
        rows: Batch,
        on: Bool[Array, "k"],
        restart: Int[Array, ""] | int = 0,
    ) -> Float[Array, "n t k"] | None:
        """Responsibilities (n, t, k) for a start; None, by default: it has seeds among the steps.

        `points` are all m = n t steps, whose distances are meaningful. Classes not `on` have none.
        """
        return None

    @abc.abstractmethod
    def take(self, order: Any) -> Any:
        """The classes `order` (m,), to be read, not fitted."""

    def exchangeable(self, which: Bool[Array, "k"]) -> Bool[Array, ""]:
        """Whether the classes `which` have the same distribution in any order; no, by default."""
        return jnp.zeros((), bool)

    def num_free(self, k: Float[Array, ""]) -> Float[Array, ""]:
        """Number of free parameters of k classes; ValueError by default."""
        raise ValueError(f"criterion: {type(self).__name__} has no BIC; take 'elbo' or 'cv'")

    def log_p_of(self, moments: Any, stats: Any) -> Float[Array, ""]:
        """E[log p(labels)] in nats of labels with these statistics; ValueError by default."""
        raise ValueError(f"criterion: {type(self).__name__} has no BIC; take 'elbo' or 'cv'")

    def astype(self: _L, dtype: Any) -> _L:
        """The same distribution in another float type."""
        return jax.tree.map(lambda a: a if a.dtype == dtype else a.astype(dtype), self)

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """What a table shows of each class besides its share: a dict from label to values (k,)."""
        return {}

    def update(self: _L, q: _L, stats: Any, rate: ArrayLike = 1.0) -> _L:
        """Optimal q given statistics, or a step of `rate` towards it; called on the prior."""
        return natural_step(q, stats + self, rate)

    def kl_from(self: _L, q: _L) -> Float[Array, ""]:
        """KL(q || prior) in nats; called on the prior."""
        return jnp.sum(q.kl(self))

    def kl_and_move_terms(self: _L, q: _L, last: _L) -> KLTerms:
        """Terms of KL(q || prior) and of KL(q || last), as two rows; called on the prior."""
        return divergences(q, self, last)

    def expected_log_lik(self, stats: Any) -> Float[Array, ""]:
        """E[log p(labels)] in nats of rows with these statistics; called on q."""
        return self.dot(stats)

    def check_point(self) -> None:
        """Raise ValueError with the reason if EM cannot use `point`."""
        if self.no_point:
            raise ValueError(f"method: EM() {self.no_point}")

    def log_prior(self, moments: Any) -> Float[Array, ""]:
        """Log prior density with respect to h at a point, in nats; only EM calls it."""
        self.check_point()
        return jnp.sum(self.log_kernel(moments))


def present(weight: Float[Array, "..."], value: Float[Array, "..."]) -> Float[Array, "..."]:
    """`weight` times `value` (..., k), and 0 where the weight is: such a row may hold anything."""
    some = (weight > 0)[..., None]
    return jnp.where(some, weight[..., None] * jnp.where(some, value, 0.0), 0.0)


def weighed(count: Float[Array, "..."], log_p: Float[Array, "..."]) -> Float[Array, ""]:
    """The sum of count times log_p, without terms that count 0 times, whose log_p may be -inf."""
    some = count > 0
    return jnp.sum(jnp.where(some, count * jnp.where(some, log_p, 0.0), 0.0))
