"""The parameters of a mixture: q(theta) or p(theta), and their moments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, runtime_checkable

import jax.numpy as jnp

from .._pytree import pytree
from .._text import Overview
from ..data.host import unguarded
from ..data.types import ArrayLike
from ..families.emission import Emission
from ..families.weights.base import Weights
from ..latent_class import ComponentParams
from .component_table import IN_USE, ShownComponents, component_table

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    W_co = TypeVar("W_co", bound=Weights, covariant=True, default=Any)
    C_co = TypeVar("C_co", bound=Emission, covariant=True, default=Any)
else:
    from typing import TypeVar

    W_co, C_co = TypeVar("W_co", covariant=True), TypeVar("C_co", covariant=True)


@pytree
class MixtureMoments(ShownComponents):
    """Moments of the weights and of every component, under q or at a point."""

    weights: Any
    components: Any

    @property
    def labels(self) -> Any:
        """The moments of the weights."""
        return self.weights

    def table(self, names: list[str] | None = None) -> dict[str, Any]:
        """Weights and parameters (k,) of the components, by label."""
        with unguarded():
            return {"weight": self.weights.mean, **self.components.describe(names)}

    def summary(self, min_weight: float = IN_USE, names: list[str] | None = None) -> str:
        """The table of `MixtureParams.summary` for a point, without standard deviations."""
        return self.overview(min_weight, names).text()

    def overview(self, min_weight: float = IN_USE, names: list[str] | None = None) -> Overview:
        """The same in the form of a table for notebooks."""
        with unguarded():
            described = self.components.describe(names)
        return component_table(self.weights, described, min_weight, sd=False)


@pytree
class MixtureParams(ShownComponents, ComponentParams, Generic[W_co, C_co]):
    """q(theta) or p(theta) of a mixture: its weights, and k components on the last batch axis."""

    Moments: ClassVar = MixtureMoments
    weights: W_co
    components: C_co

    @property
    def labels(self) -> W_co:
        """The weights."""
        return self.weights

    @property
    def num_background(self) -> int:
        return self.components.num_background

    def table(self, names: list[str] | None = None, *, point: bool = False) -> dict[str, Any]:
        with unguarded():
            if point:
                return self.point().table(names)
            weights = {"weight": self.weights.mean, "weight sd": self.weights.sd}
            return weights | self.components.describe(names)

    def take(self, order: ArrayLike) -> MixtureParams[W_co, C_co]:
        order = jnp.asarray(order)
        return MixtureParams(self.weights.take(order), self.components.take(order))

    def summary(
        self,
        min_weight: float = IN_USE,
        names: list[str] | None = None,
        *,
        point: bool = False,
        **options: Any,
    ) -> str:
        """A table of the components whose expected weight is at least `min_weight`.

        It shows weights with their posterior standard deviations, heaviest first, and the lines of
        `components.describe`. With `point` it is the table of `q.point()`.
        """
        return self.overview(min_weight, names, point=point).text()

    def overview(
        self,
        min_weight: float = IN_USE,
        names: list[str] | None = None,
        *,
        point: bool = False,
        **options: Any,
    ) -> Overview:
        """What `summary` says, in the form of a table for notebooks."""
        with unguarded():
            known = self.point() if point else self
            described = known.components.describe(names)
        return component_table(known.weights, described, min_weight, sd=not point)


@runtime_checkable
class Fitted(Protocol):
    """What holds the q of a fit, its objective and the names of its columns: a Result."""

    @property
    def q(self) -> Any:
        """The q of the fit."""
        ...

    @property
    def elbo(self) -> Any:
        """Its objective in nats."""
        ...

    @property
    def names(self) -> Any:
        """The names of its columns, if any."""
        ...


def q_of(fitted: Any) -> Any:
    """The q or point itself, or the q of a Result; raises TypeError for anything else.

    Raises ValueError for many fits at once.
    """
    q = fitted.q if isinstance(fitted, Fitted) else fitted
    if not isinstance(q, MixtureParams | MixtureMoments):
        raise TypeError(
            f"q: expected a Result, a q or a point of a mixture first, got {type(q).__name__}"
        )
    if isinstance(fitted, Fitted) and jnp.ndim(fitted.elbo):
        raise ValueError("q: a Result of many fits; take one of them, fits[i]")
    return q
