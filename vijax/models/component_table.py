"""Components and their weights in one line, and as a table."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from .._text import Overview, count, short
from ..data.host import fetched, readable, unguarded

IN_USE = 0.01  # expected weight of a component in use


class ShownComponents:
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
                used = int(np.sum(fetched(self.weights.mean) >= IN_USE))
            what = f"{what}, {used} with weight >= {IN_USE:g}"
        return f"{type(self).__name__}({what})"

    def _repr_html_(self) -> str:
        several = not readable(self) or self.batch_axes
        return (Overview([repr(self)]) if several else self.overview()).html()


def _axes(weights: Any) -> tuple[int, ...]:
    """The shape of the weights, that of the components last."""
    return jax.eval_shape(lambda weights: weights.mean, weights).shape


def component_table(
    weights: Any,
    described: dict[str, Any],
    min_weight: float,
    *,
    sd: bool,
    what: str = "component",
    share: str = "weight",
) -> Overview:
    """A table of the components whose expected share of all steps is at least `min_weight`.

    They are sorted by it. It shows `share`, with standard deviations if `sd`, and the columns
    `described`, values (k,) by label. `what` is the word for one of the components.
    """
    with unguarded():
        weight = fetched(weights.mean)
        spread = fetched(weights.sd) if sd else None
        columns = {label: fetched(values) for label, values in described.items()}
    order = [int(k) for k in np.argsort(-weight, kind="stable") if weight[k] >= min_weight]
    title = f"{len(order)} of {int((weight > 0).sum())} {what}s have {share} >= {min_weight:g}"
    error = ["" if spread is None else f" ± {spread[k]:.3f}" for k in order]
    rows = {share: [f"{weight[k]:.3f}{e}" for k, e in zip(order, error, strict=True)]}
    rows |= {label: [f"{values[k]:.4g}" for k in order] for label, values in columns.items()}
    return Overview([title], [str(k) for k in order], rows, corner=what)
