"""Plot of the weights of all components."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...models.mixture_params import Fitted, MixtureMoments, MixtureParams, q_of
from . import style

_UNUSED = "#cccccc"


def plot_weights(
    q: MixtureParams | MixtureMoments | Fitted,
    *,
    min_weight: float = 0.01,
    ax: Any = None,
    backend: str = "matplotlib",
) -> Any:
    """Plot the weight of every component, with its standard deviation unless `q` is a point.

    Components below `min_weight` are grey; the others look as in `plot_mixture`. Raises
    ValueError for many fits.

    Args:
        q: A Result, the posterior of a mixture, or a point.
        min_weight: Smallest expected weight of a component in colour.
        ax: Axes or figure to draw into.
        backend: "matplotlib" or "plotly".

    Example:
        from vijax.extras import plot

        model = vx.PoissonMixture.with_prior(3, shape=1.0, rate=0.5, conc=[5.0, 2.0, 1.0])
        axes = plot.plot_weights(model.prior)
    """
    plotly = style.check_backend(backend)
    weights = q_of(q).weights
    weight, sd = style.check_one("q", weights.mean, 1), getattr(weights, "sd", None)
    sd = None if sd is None else np.asarray(sd)
    title = "weight" if sd is None else "posterior weight"
    component = np.arange(len(weight))
    used = [w >= min_weight for w in weight]
    colours = [style.colour(k) if on else _UNUSED for k, on in enumerate(used)]
    fillings = [style.filling(k) if on else "" for k, on in enumerate(used)]
    if plotly:
        go, figure = style.plotly_of(ax)
        error = None if sd is None else {"type": "data", "array": sd}
        look = {"color": colours, "pattern": {"shape": fillings}}
        figure.add_trace(go.Bar(x=component, y=weight, error_y=error, marker=look))
        return figure.update_layout(
            xaxis_title="component", yaxis_title=title, yaxis_rangemode="nonnegative"
        )
    ax = style.axes_of(ax)
    bars = ax.bar(component, weight, yerr=sd, color=colours, ecolor="0.3", capsize=2)
    for bar, filling in zip(bars, fillings, strict=True):
        bar.set(hatch=2 * filling, edgecolor="white" if filling else "none")
    ax.set_xticks(component[:: max(1, len(weight) // 10)])
    ax.set_ylim(bottom=0.0)
    ax.set(xlabel="component", ylabel=title)
    return ax
