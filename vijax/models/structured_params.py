"""The parameters of labels and components: q(theta) or p(theta), and their moments."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp

from .._pytree import pytree, replace
from .._text import Overview
from ..data.host import unguarded
from ..data.types import ArrayLike
from ..latent_class import ComponentParams
from .component_table import IN_USE, ShownComponents, component_table


@pytree
class StructuredMoments(ShownComponents):
    """Moments of the labels and of every component, under q or at a point."""

    labels: Any
    components: Any


@pytree
class StructuredParams(ShownComponents, ComponentParams):
    """q(theta) or p(theta) of labels, such as a chain and of k components."""

    Moments: ClassVar = StructuredMoments
    labels: Any
    components: Any

    @property
    def weights(self) -> Any:
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

    def take(self, order: ArrayLike) -> StructuredParams:
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
