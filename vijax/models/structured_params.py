"""The parameters of labels and components: q(theta) or p(theta), and their moments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic

import jax.numpy as jnp

from .._pytree import pytree, replace
from .._text import Overview
from ..data.host import unguarded
from ..data.types import ArrayLike
from ..families.labels.base import Labels
from ..latent_class import ComponentParams
from .component_table import IN_USE, ShownComponents, component_table
from .mixture_params import C_co

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    L_co = TypeVar("L_co", bound=Labels, covariant=True, default=Any)
else:
    from typing import TypeVar

    L_co = TypeVar("L_co", covariant=True)


@pytree
class StructuredMoments(ShownComponents):
    """Moments of the labels and of every component, under q or at a point."""

    labels: Any
    components: Any


@pytree
class StructuredParams(ShownComponents, ComponentParams, Generic[L_co, C_co]):
    """q(theta) or p(theta) of labels, such as a chain and of k components."""

    Moments: ClassVar = StructuredMoments
    labels: L_co
    components: C_co

    @property
    def weights(self) -> L_co:
        """The labels, whose `mean` is the expected share of each component among all steps."""
        return self.labels

    @property
    def num_background(self) -> int:
        return self.components.num_background

    def table(self, names: list[str] | None = None, *, point: bool = False) -> dict[str, Any]:
        with unguarded():
            components = self.point().components if point else self.components
            share = {"share": self.labels.mean}
            return share | self.labels.describe() | components.describe(names)

    def take(self, order: ArrayLike) -> StructuredParams[L_co, C_co]:
        order = jnp.asarray(order)
        return replace(self, labels=self.labels.take(order), components=self.components.take(order))

    def summary(
        self,
        min_weight: float = IN_USE,
        names: list[str] | None = None,
        *,
        point: bool = False,
        **options: Any,
    ) -> str:
        """A table of the components with a share of at least `min_weight` of all steps.

        It shows their shares, heaviest first, what the labels say of them, such as a chain's
        expected stays and transitions, and the lines of `components.describe`.
        """
        return self.overview(min_weight, names, point=point, **options).text()

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
            components = self.point().components if point else self.components
            described = self.labels.describe() | components.describe(names)
        words = {"what": self.labels.word, "share": "share"}
        return component_table(self.labels, described, min_weight, sd=False, **words)
