"""Plot of the responsibilities of all rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELLED = 0.02  # share of the rows; with fewer a component has no room for its number


def plot_responsibilities(resp: Any, *, min_weight: float = 0.01, ax: Any = None) -> Axes:
    """Plot every row as a column that is divided by its responsibilities (n, k).

    Rows are sorted by their most probable component, the most certain ones first. Components with
    less than `min_weight` of all rows are grey together. A component with enough rows has its
    number above them.

    Args:
        resp: Responsibilities (n, k), as of `model.responsibilities`.
        min_weight: Smallest share of the rows that has a colour.
        ax: Axes to draw into.

    Example:
        from vijax.extras import plot

        resp = np.random.default_rng(0).dirichlet([0.3, 0.3, 0.3], 50)
        axes = plot.plot_responsibilities(resp)
    """
    ax = style.axes_of(ax, 8.0, 2.5)
    resp = np.asarray(resp, float)
    if resp.ndim != 2:
        raise ValueError(f"resp: expected responsibilities (n, k), got shape {resp.shape}")
    likeliest = resp.argmax(1)
    order = np.lexsort((-resp.max(1), likeliest))
    resp, likeliest = resp[order], likeliest[order]
    edges = np.arange(len(resp) + 1)
    base = np.zeros(len(resp))
    used = [k for k in range(resp.shape[1]) if resp[:, k].mean() >= min_weight]
    for k in used:
        look = {"facecolor": style.colour(k), "hatch": 2 * style.filling(k), "linewidth": 0}
        ax.stairs(base + resp[:, k], edges, baseline=base, fill=True, edgecolor="white", **look)
        base = base + resp[:, k]
    ax.stairs(np.ones(len(resp)), edges, baseline=base, fill=True, facecolor="0.8", linewidth=0)
    for k in used:
        rows = np.flatnonzero(likeliest == k)
        if len(rows) >= _LABELLED * len(resp):
            font = {"ha": "center", "va": "bottom", "size": 8, "color": style.colour(k)}
            ax.text(rows.mean() + 0.5, 1.02, str(k), **font)
    ax.set(xlim=(0, len(resp)), ylim=(0.0, 1.0), xlabel="row, in order", ylabel="responsibility")
    return ax
