"""Plot of a mixture in all pairs of columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...models.mixture_params import Fitted, MixtureMoments, MixtureParams
from . import style
from .mixture import draw_column, draw_columns, read

_MOST = 8  # columns that are readable on one page


def plot_pairs(
    q: MixtureParams | MixtureMoments | Fitted,
    x: Any,
    *,
    columns: Sequence[int] | None = None,
    names: Any = None,
    responsibilities: Any = None,
    min_weight: float = 0.01,
    sigmas: Sequence[float] = (1.0, 2.0),
    ax: Any = None,
) -> np.ndarray:
    """Draw `plot_mixture` for every pair of `columns`, and the densities on the diagonal.

    The result is an array of axes, those above the diagonal switched off. Raises ValueError for
    more than eight columns.

    Args:
        q, x, names, responsibilities, min_weight, sigmas: As in `plot_mixture`.
        columns: The columns to draw, by default all.
        ax: An array of axes to draw into, one row and column for each column.

    Example:
        from vijax.extras import plot

        x, _ = vx.datasets.three_clusters(100)
        model = vx.GaussianMixture.from_data(x, 3)
        fit = vx.fit(model, x, key=jax.random.key(0), num_restarts=4)
        axes = plot.plot_pairs(fit, x)
    """
    scene = read(q, x, names, min_weight)
    chosen = list(range(scene.x.shape[1]) if columns is None else columns)
    m = len(chosen)
    if not 2 <= m <= _MOST:
        raise ValueError(f"columns: expected 2 to {_MOST} of them to draw, got {m}")
    if ax is None:
        size = {"figsize": (2.0 * m + 1.0, 2.0 * m + 0.5), "layout": "constrained"}
        ax = style.pyplot().subplots(m, m, sharex="col", squeeze=False, **size)[1]
    if np.shape(ax) != (m, m):
        raise ValueError(f"ax: expected an array of axes, {(m, m)}, got {np.shape(ax)}")
    rows = style.blend_rows(responsibilities, len(scene.x))
    for r, j in enumerate(chosen):
        for c, i in enumerate(chosen):
            cell = ax[r, c]
            if c > r:
                cell.set_axis_off()
                continue
            if c == r:
                draw_column(cell, scene, j)
                cell.set_yticks([])
            else:
                draw_columns(cell, scene, (i, j), rows, sigmas)
                if c:
                    cell.tick_params(labelleft=False)
                    cell.sharey(ax[r, 0])
            if r == m - 1:
                cell.set_xlabel(scene.names[i])
            if c == 0:
                cell.set_ylabel(scene.names[j] if r else "density")
    return ax
