"""The parameters of a mixture: distributions over them, and values of them."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from .._pytree import pytree
from .._text import columns
from ..model import ComponentParams


@pytree
class MixtureMoments:
    """Moments of the weights and of every component: under q, or at a point."""

    weights: Any
    components: Any

    def summary(self, min_weight: float = 0.01, names: list[str] | None = None) -> str:
        """As `MixtureParams.summary`, of a point: nothing has a standard deviation."""
        weight = np.asarray(self.weights.mean)
        return _table(weight, None, self.components, min_weight, names)


@pytree
class MixtureParams(ComponentParams):
    """q(theta) or p(theta) of a mixture: weights, and k components on the last batch axis."""

    Moments: ClassVar = MixtureMoments
    weights: Any
    components: Any

    @property
    def num_background(self) -> int:
        """Components at the end that must stay there, such as noise."""
        return self.components.num_background

    def take(self, order: Any) -> MixtureParams:
        """The components of these indices, in this order, with their weights."""
        order = jnp.asarray(order)
        return MixtureParams(self.weights.take(order), self.components.take(order))

    def summary(
        self,
        min_weight: float = 0.01,
        names: list[str] | None = None,
        *,
        point: bool = False,
        **options: Any,
    ) -> str:
        """A table of the components whose expected weight is at least `min_weight`.

        Weights with their posterior standard deviation, heaviest first; then what the component
        family describes of itself (`describe`), one line per column of the data.
        """
        if point:
            return self.point().summary(min_weight, names)
        weight, sd = np.asarray(self.weights.mean), np.asarray(self.weights.sd)
        return _table(weight, sd, self.components, min_weight, names)


def _table(weight: Any, sd: Any, components: Any, min_weight: float, names: Any) -> str:
    order = [int(k) for k in np.argsort(-weight, kind="stable") if weight[k] >= min_weight]
    title = f"{len(order)} of {int((weight > 0).sum())} components have weight >= {min_weight:g}"
    spread = ["" if sd is None else f" ± {sd[k]:.3f}" for k in order]
    rows = {"weight": [f"{weight[k]:.3f}{s}" for k, s in zip(order, spread, strict=True)]}
    for label, values in components.describe(names).items():
        rows[label] = [f"{values[k]:.4g}" for k in order]
    return "\n".join([title, *columns([str(k) for k in order], rows)])
