"""The parameters of a mixture: q(theta) or p(theta), and their moments."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from .._pytree import pytree
from .._text import Overview, count, short
from ..data.host import fetched, readable, unguarded
from ..data.types import ArrayLike
from ..model import ComponentParams

_IN_USE = 0.01  # expected weight of a component in use


class _Shown:
    """A short form and a table of what has weights and components."""

    weights: Any
    overview: Any

    @property
    def batch_axes(self) -> tuple[int, ...]:
        """The axes in front of that of the components."""
        return _axes(self.weights)[:-1]

    def __repr__(self) -> str:
        try:
            axes = _axes(self.weights)
        except Exception:  # a pytree may hold anything while JAX looks at its structure
            return short(self)
        what = count(axes[-1], "component")
        if axes[:-1]:
            what = f"{'x'.join(map(str, axes[:-1]))} of {what}"
        elif readable(self.weights):
            with unguarded():
                used = int(np.sum(fetched(self.weights.mean) >= _IN_USE))
            what = f"{what}, {used} with weight >= {_IN_USE:g}"
        return f"{type(self).__name__}({what})"

    def _repr_html_(self) -> str:
        several = not readable(self) or self.batch_axes
        return (Overview([repr(self)]) if several else self.overview()).html()


@pytree
class MixtureMoments(_Shown):
    """Moments of the weights and of every component, under q or at a point."""

    weights: Any
    components: Any

    def table(self, names: list[str] | None = None) -> dict[str, Any]:
        """Weights and parameters (k,) of the components, by label."""
        with unguarded():
            return {"weight": self.weights.mean, **self.components.describe(names)}

    def summary(self, min_weight: float = _IN_USE, names: list[str] | None = None) -> str:
        """The table of `MixtureParams.summary` for a point, without standard deviations."""
        return self.overview(min_weight, names).text()

    def overview(self, min_weight: float = _IN_USE, names: list[str] | None = None) -> Overview:
        """The same in the form of a table for notebooks."""
        return _table(self.weights, self.components, min_weight, names, sd=False)


@pytree
class MixtureParams(_Shown, ComponentParams):
    """q(theta) or p(theta) of a mixture: its weights, and k components on the last batch axis."""

    Moments: ClassVar = MixtureMoments
    weights: Any
    components: Any

    @property
    def num_background(self) -> int:
        return self.components.num_background

    def table(self, names: list[str] | None = None, *, point: bool = False) -> dict[str, Any]:
        with unguarded():
            if point:
                return self.point().table(names)
            weights = {"weight": self.weights.mean, "weight sd": self.weights.sd}
            return weights | self.components.describe(names)

    def take(self, order: ArrayLike) -> MixtureParams:
        order = jnp.asarray(order)
        return MixtureParams(self.weights.take(order), self.components.take(order))

    def summary(
        self,
        min_weight: float = _IN_USE,
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
        min_weight: float = _IN_USE,
        names: list[str] | None = None,
        *,
        point: bool = False,
        **options: Any,
    ) -> Overview:
        """What `summary` says, in the form of a table for notebooks."""
        with unguarded():
            known = self.point() if point else self
        return _table(known.weights, known.components, min_weight, names, sd=not point)


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


def _axes(weights: Any) -> tuple[int, ...]:
    """The shape of the weights, that of the components last."""
    return jax.eval_shape(lambda weights: weights.mean, weights).shape


def _table(
    weights: Any, components: Any, min_weight: float, names: list[str] | None, *, sd: bool
) -> Overview:
    with unguarded():
        weight = fetched(weights.mean)
        spread = fetched(weights.sd) if sd else None
        described = {label: fetched(v) for label, v in components.describe(names).items()}
    order = [int(k) for k in np.argsort(-weight, kind="stable") if weight[k] >= min_weight]
    title = f"{len(order)} of {int((weight > 0).sum())} components have weight >= {min_weight:g}"
    error = ["" if spread is None else f" ± {spread[k]:.3f}" for k in order]
    rows = {"weight": [f"{weight[k]:.3f}{e}" for k, e in zip(order, error, strict=True)]}
    rows |= {label: [f"{values[k]:.4g}" for k in order] for label, values in described.items()}
    return Overview([title], [str(k) for k in order], rows)
