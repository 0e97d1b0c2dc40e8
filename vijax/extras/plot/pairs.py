"""All pairs of columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...models.mixture_params import MixtureMoments, MixtureParams
from . import style
from .mixture import draw_column, draw_columns, read

_MOST = 8  # columns that can be told apart on one page


def plot_pairs(
    q: MixtureParams | MixtureMoments,
    x: Any,
    *,
    columns: Sequence[int] | None = None,
    names: Any = None,
    responsibilities: Any = None,
    min_weight: float = 0.01,
    sigmas: Sequence[float] = (1.0, 2.0),
    ax: Any = None,
) -> np.ndarray:
    """`plot_mixture` for every pair of `columns`, with each column's densities on the diagonal.

    `ax` and what is returned are arrays of axes, one row and column of them for each column of
    the data; those above the diagonal are taken away. Raises ValueError for more than eight
    columns.
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
            one = ax[r, c]
            if c > r:
                one.set_axis_off()
                continue
            if c == r:
                draw_column(one, scene, j)
                one.set_yticks([])
            else:
                draw_columns(one, scene, (i, j), rows, sigmas)
                if c:
                    one.tick_params(labelleft=False)
                    one.sharey(ax[r, 0])
            if r == m - 1:
                one.set_xlabel(scene.names[i])
            if c == 0:
                one.set_ylabel(scene.names[j] if r else "density")
    return ax
