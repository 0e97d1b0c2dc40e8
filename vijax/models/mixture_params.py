"""The parameters of a mixture: q(theta) or p(theta), and their moments."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from .._pytree import pytree
from .._text import columns
from ..data.types import ArrayLike
from ..model import ComponentParams


@pytree
class MixtureMoments:
    """Moments of the weights and of every component, under q or at a point."""

    weights: Any
    components: Any

    def table(self, names: list[str] | None = None) -> dict[str, Any]:
        """Weights and parameters (k,) of the components, by label."""
        return {"weight": self.weights.mean, **self.components.describe(names)}

    def summary(self, min_weight: float = 0.01, names: list[str] | None = None) -> str:
        """The table of `MixtureParams.summary` for a point, without standard deviations."""
        weight = np.asarray(self.weights.mean)
        return _table(weight, None, self.components, min_weight, names)


@pytree
class MixtureParams(ComponentParams):
    """q(theta) or p(theta) of a mixture: its weights, and k components on the last batch axis."""

    Moments: ClassVar = MixtureMoments
    weights: Any
    components: Any

    @property
    def num_background(self) -> int:
        return self.components.num_background

    def table(self, names: list[str] | None = None, *, point: bool = False) -> dict[str, Any]:
        if point:
            return self.point().table(names)
        weights = {"weight": self.weights.mean, "weight sd": self.weights.sd}
        return weights | self.components.describe(names)

    def take(self, order: ArrayLike) -> MixtureParams:
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

        It shows weights with their posterior standard deviations, heaviest first, and the lines of
        `components.describe`. With `point` it is the table of `q.point()`.
        """
        if point:
            return self.point().summary(min_weight, names)
        weight, sd = np.asarray(self.weights.mean), np.asarray(self.weights.sd)
        return _table(weight, sd, self.components, min_weight, names)


@runtime_checkable
class Fitted(Protocol):
    """What holds the q of a fit, its objective and the names of its columns: a Result."""

    q: Any
    elbo: Any
    names: Any


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


def _table(
    weight: np.ndarray,
    sd: np.ndarray | None,
    components: Any,
    min_weight: float,
    names: list[str] | None,
) -> str:
    order = [int(k) for k in np.argsort(-weight, kind="stable") if weight[k] >= min_weight]
    title = f"{len(order)} of {int((weight > 0).sum())} components have weight >= {min_weight:g}"
    error = ["" if sd is None else f" ± {sd[k]:.3f}" for k in order]
    rows = {"weight": [f"{weight[k]:.3f}{e}" for k, e in zip(order, error, strict=True)]}
    for label, values in components.describe(names).items():
        rows[label] = [f"{values[k]:.4g}" for k in order]
    return "\n".join([title, *columns([str(k) for k in order], rows)])
