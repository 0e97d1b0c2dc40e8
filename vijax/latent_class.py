"""The protocols of models whose rows belong to components.

- `LatentClassModel`: each step of a row belongs to a class, with responsibilities.
- `SplitMergeModel`: components can be split, merged, deleted and born.
- `ComponentParams`: q(theta) of labels and components.
- `Predictor`: what is read off a fit.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int

from .data.batch import Batch
from .data.types import Data
from .exponential_family import Product, Q, Q_co
from .model import ConditionalModel
from .numerics import special


class LatentClassModel(ConditionalModel[Q_co]):
    """A model in which each step belongs to one of `num_components` latent classes.

    A step is a row, or an entry of a sequence; responsibilities are (n, k), or (n, t, k).
    `one_class_per_row` says that all steps of a sequence are of one class; then those that a start
    is given are (n, k).
    """

    one_class_per_row: ClassVar[bool] = False

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
    def assign(self, q: Q, batch: Batch, resp: Float[Array, "..."]) -> Any:
        """Expected statistics under the given responsibilities, written about the means of q."""

    @abc.abstractmethod
    def tempered(self, moments: Any, batch: Batch, power: Float[Array, ""]) -> Any:
        """Expected statistics under q(z) ~ exp(power E[log p(x, z)]), for `Annealed`."""


class MergeModel(LatentClassModel[Q_co]):
    """A latent-class model of which pairs of classes can be tried as one."""

    @abc.abstractmethod
    def merge_gain(self, q: Q) -> Float[Array, "k k"]:
        """The gain of the bound in nats from merging two components, but for their overlap.

        Merging j and k also loses the entropy of the assignments of rows to one of the two. Pairs
        of -inf are not tried.
        """

    @abc.abstractmethod
    def steps_of(self, q: Q) -> Float[Array, "k"]:
        """The expected number of steps in each class."""

    @abc.abstractmethod
    def give_to(self, moments: Any, batch: Batch, heir: Int[Array, "k"]) -> Any:
        """Expected statistics if each class gives its steps to its heir, which may be itself."""


class SplitMergeModel(LatentClassModel[Q_co]):
    """A latent-class model whose components can be split, merged, deleted and born.

    Its rows are independent given theta, each in one component.
    """

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
        return self.reassign(self.start_moments(q), batch, lambda _: (resp, None))[0]

    def tempered(self, moments: Any, batch: Batch, power: Float[Array, ""]) -> Any:
        def change(log_joint: Array) -> tuple[Array, None]:
            return special.normalize(power * log_joint)[0], None

        return self.reassign(moments, batch, change)[0]

    @abc.abstractmethod
    def log_joint(self, moments: Any, batch: Batch) -> Float[Array, "n k"]:
        """E[log p(x_n, z_n = k)] in nats; -inf for components other than a known label."""

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
    """q(theta) of k components and of the labels of steps, which are its two factors.

    `labels` are the parameters of the labels: independent ones have weights, a chain transitions.
    `weights` have the expected share `mean` of each component among all steps, `size` and `on`.
    """

    labels: Any
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

    def log_held_out(self, q: Q, x: Data) -> Any:
        """The score in nats of each row that the fit has not seen, (n,), for cross-validation."""

    def impute(self, q: Q, x: Data) -> Any:
        """Means and standard deviations of missing entries, in the form of x."""

    def decode(self, x: Any) -> Any:
        """Rows with the levels of categories in place of their codes."""
