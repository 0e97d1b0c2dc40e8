"""Axes, colours and contours of all figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# colours of Okabe & Ito (2008) and two of Tol's, which colour-blind readers can distinguish
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#882255"]
# after eight components, the next line of matplotlib or of Plotly, and the next filling of both
_LINES = ["-", "--", ":", "-."]
_DASHES = ["solid", "dash", "dot", "dashdot"]
_FILLINGS = ["", "/", "x", "."]
RING = {"markersize": 13, "markerfacecolor": "none", "markeredgewidth": 1.5}


def axes_of(ax: Any, width: float = 5.0, height: float = 4.0) -> Axes:
    """`ax`, or the axes of a new figure."""
    if ax is not None:
        return ax
    return pyplot().subplots(figsize=(width, height), layout="constrained")[1]


def pyplot() -> Any:
    """matplotlib.pyplot, imported when the first figure is drawn."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "matplotlib>=3.9"') from error
    return plt


def plotly_of(ax: Any) -> tuple[Any, Any]:
    """Plotly's module of graph objects, and `ax` or a new figure."""
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise ImportError('this backend needs Plotly: pip install "plotly>=6.0"') from error
    return go, go.Figure(layout={"template": "simple_white"}) if ax is None else ax


def check_backend(backend: str) -> bool:
    """Whether the backend is Plotly; raises ValueError for an unknown one."""
    if backend not in ("matplotlib", "plotly"):
        raise ValueError(f'backend: expected "matplotlib" or "plotly", got {backend!r}')
    return backend == "plotly"


def colour(k: int) -> str:
    """Colour of component k, the same in every figure; eight components later it is used again."""
    return _COLOURS[k % len(_COLOURS)]


def light_of(code: str) -> np.ndarray:
    """Red, green and blue in 0 .. 1 of a code "#rrggbb"."""
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0


def line(k: int) -> str:
    """Line of component k; with its colour it is one of 32."""
    return _LINES[k // len(_COLOURS) % len(_LINES)]


def dash(k: int) -> str:
    """Line of component k, by Plotly's names."""
    return _DASHES[k // len(_COLOURS) % len(_DASHES)]


def filling(k: int) -> str:
    """Pattern of the bar of component k, which goes with its colour as `line` does."""
    return _FILLINGS[k // len(_COLOURS) % len(_FILLINGS)]


def blend(resp: Any) -> np.ndarray:
    """Red, green and blue (n, 3) in 0 .. 1: the colours of the components, mixed as light.

    The shares are the responsibilities (n, k) of each row; a row with NaN or zeros alone is grey.
    """
    resp = np.asarray(resp, float)
    screen = np.array([light_of(colour(k)) for k in range(resp.shape[1])])
    total = resp.sum(1, keepdims=True)
    known = np.isfinite(total) & (total > 0)
    share = np.where(known, resp, 0.0) / np.where(known, total, 1.0)
    light = (share @ screen**2.2).clip(0.0, 1.0) ** (1.0 / 2.2)
    return np.where(known, light, 0.6)


def blend_rows(resp: Any, n: int) -> np.ndarray | None:
    """`blend` of n rows, None for None; raises ValueError for another number of rows."""
    if resp is None:
        return None
    if np.shape(resp)[:1] != (n,):
        raise ValueError(
            f"responsibilities: expected one row for each of {n}, got shape {np.shape(resp)}"
        )
    return blend(resp)


def check_one(name: str, value: Any, ndim: int) -> np.ndarray:
    """The value in NumPy; raises ValueError if it is that of many fits."""
    host = np.asarray(value)
    if host.ndim != ndim:
        raise ValueError(
            f"{name}: expected one fit, got a batch of them; take one with "
            "jax.tree.map(lambda a: a[i], fits)"
        )
    return host


def contour(
    mean: np.ndarray, covariance: np.ndarray, sigma: float, points: int = 200
) -> np.ndarray:
    """Points (points, 2) at Mahalanobis distance `sigma` from `mean`."""
    angle = np.linspace(0.0, 2.0 * np.pi, points)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    root = np.linalg.cholesky(np.asarray(covariance, float))
    return np.asarray(mean, float) + sigma * (root @ circle).T
