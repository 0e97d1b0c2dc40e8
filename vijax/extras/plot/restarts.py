"""Plot of all restarts of a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...infer.result import Result
from ...infer.status import Status
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKS = {
    Status.CONVERGED: ("o", style.colour(0)),
    Status.MAX_ITER: ("^", style.colour(4)),
    Status.ELBO_DECREASED: ("v", style.colour(3)),
    Status.NON_FINITE: ("x", style.colour(7)),
    Status.COLLAPSED: ("D", style.colour(1)),
    Status.DROPPED: (".", "#999999"),
    Status.RUNNING: ("s", style.colour(6)),
}


def plot_restarts(result: Result, *, ax: Any = None) -> Axes:
    """Plot the final objective of every restart against its iterations, marked by its status.

    The returned one has a ring. Those without a finite objective are at the lower edge.

    Args:
        result: A Result of one data set.
        ax: Axes to draw into.

    Example:
        from vijax.extras import plot

        x, _ = vx.datasets.three_clusters(100)
        model = vx.GaussianMixture.from_data(x, 3)
        fit = vx.fit(model, x, key=jax.random.key(0), num_restarts=4)
        axes = plot.plot_restarts(fit)
    """
    style.check_one("result", result.status, 0)
    ax = style.axes_of(ax)
    runs = result if result.runs is None else result.runs
    status = np.atleast_1d(np.asarray(result.statuses))
    elbo = np.atleast_1d(np.asarray(result.elbos, float))
    steps = np.atleast_1d(np.asarray(runs.n_iter))
    finite = np.isfinite(elbo)
    for kind, (mark, look) in _MARKS.items():
        ended = status == kind
        if not ended.any():
            continue
        label = f"{ended.sum()} {kind.name}"
        drawn, lost = ended & finite, ended & ~finite
        points = {"linestyle": "none", "marker": mark, "color": look, "markersize": 6}
        ax.plot(steps[drawn], elbo[drawn], label=label, alpha=0.8, **points)
        if lost.any():
            edge = ax.get_xaxis_transform()
            ax.plot(steps[lost], np.full(lost.sum(), 0.03), transform=edge, **points)
    if np.isfinite(float(result.elbo)):
        returned = int(result.n_iter), float(result.elbo)
        ax.plot(*returned, "o", color="black", label="returned", **style.RING)
    ax.margins(0.08)
    ax.legend(loc="best", framealpha=0.7, edgecolor="none", markerscale=0.8)
    ylabel = "final objective (nats)" if result.point else "final ELBO (nats)"
    ax.set(xlabel="iterations", ylabel=ylabel)
    return ax
