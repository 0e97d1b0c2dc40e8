"""Plot of the score of each number of components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...selection.num_components import Selection
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_SCORES = {
    "elbo": "ELBO + log relabellings",
    "bic": "-BIC / 2",
    "cv": "held-out log density",
}


def plot_num_components(selection: Selection, *, ax: Any = None) -> Axes:
    """Plot the score in nats of every number of components, the best with a ring.

    The score is that of the criterion: the ELBO with relabellings counted, -BIC / 2, or the
    held-out log density. Fits that failed are crosses at the lower edge.

    Args:
        selection: What `select_num_components` returned.
        ax: Axes to draw into.

    Example:
        from vijax.extras import plot

        x, _ = vx.datasets.three_clusters(100)
        selection = vx.select_num_components(x, range(1, 4), key=jax.random.key(0))
        axes = plot.plot_num_components(selection)
    """
    ax = style.axes_of(ax)
    order = np.argsort(selection.num_components)
    k = np.asarray(selection.num_components)[order]
    score = np.asarray(selection.score, float)[order]
    usable = np.asarray(selection.results.usable)[order] & np.isfinite(score)
    ax.plot(k[usable], score[usable], "o-", color=style.colour(0), markersize=5)
    if usable.any():
        top = k[usable][np.argmax(score[usable])], score[usable].max()
        ax.plot(*top, "o", color=style.colour(1), **style.RING)
        ax.annotate(f"{top[0]}", top, xytext=(0, -18), textcoords="offset points", ha="center")
    if not usable.all():
        failed, edge = k[~usable], ax.get_xaxis_transform()
        ax.plot(failed, np.full(len(failed), 0.03), "x", color="0.4", transform=edge)
    ax.set_xticks(k[:: 1 + len(k) // 16])
    ax.margins(y=0.12)
    ax.set(xlabel="number of components", ylabel=f"{_SCORES[selection.criterion]} (nats)")
    return ax
