"""Plot of rows and components in one or two columns of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.scipy import stats

from ...data.batch import Batch
from ...data.host import column_names
from ...models.mixture_params import Fitted, MixtureMoments, MixtureParams, q_of
from . import style

_GREY = "#999999"


class Scene(NamedTuple):
    """The rows (n, d), components and column names of a figure; `shown` are components to draw."""

    x: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    dof: np.ndarray | None
    shown: list[int]
    names: list[str]


def plot_mixture(
    q: MixtureParams | MixtureMoments | Fitted,
    x: Any,
    *,
    columns: tuple[int, int] = (0, 1),
    names: Any = None,
    responsibilities: Any = None,
    min_weight: float = 0.01,
    sigmas: Sequence[float] = (1.0, 2.0),
    ax: Any = None,
    backend: str = "matplotlib",
) -> Any:
    """Plot rows and the components with weight >= `min_weight`, in two columns of the data.

    Ellipses are contours of E[Sigma_k], or of the scale matrix of a Student-t, around E[mu_k]. Data
    with one column are drawn as a histogram with the density of each component.

    Args:
        q: A Result, the posterior of a mixture, or a point; after EM give `q.point()`.
        x: Rows, array-like (n, d) or a Batch.
        columns: The two columns to draw.
        names: Names of all columns, by default those of the data.
        responsibilities: (n, k); every row then has the mixed colours of its components.
        min_weight: Smallest expected weight of a component to draw. More than eight components
            have their numbers beside them.
        sigmas: Standard deviations at which contours are drawn.
        ax: Axes or figure to draw into.
        backend: "matplotlib" or "plotly".

    Example:
        from vijax.extras import plot

        x, _ = vx.datasets.three_clusters(100)
        model = vx.GaussianMixture.from_data(x, 3)
        fit = vx.fit(model, x, key=jax.random.key(0), num_restarts=4)
        colours = model.responsibilities(fit, x)
        axes = plot.plot_mixture(fit, x, responsibilities=colours)
    """
    plotly = style.check_backend(backend)
    scene = read(q, x, names, min_weight)
    rows = style.blend_rows(responsibilities, len(scene.x))
    if plotly:
        return _with_plotly(scene, columns, rows, responsibilities, sigmas, ax)
    ax = style.axes_of(ax)
    if scene.x.shape[1] == 1:
        draw_column(ax, scene, 0)
        ax.set(xlabel=scene.names[0], ylabel="density")
    else:
        draw_columns(ax, scene, columns, rows, sigmas)
        ax.set(xlabel=scene.names[columns[0]], ylabel=scene.names[columns[1]])
    return ax


def read(
    q: MixtureParams | MixtureMoments | Fitted, x: Any, names: Any, min_weight: float
) -> Scene:
    """The scene of a mixture in NumPy, the heaviest components first."""
    if names is None:
        names = x.names if isinstance(x, Batch) else column_names(x)
        names = q.names if names is None and isinstance(q, Fitted) else names
    known, x = q_of(q), np.asarray(_present(x), float)
    weight = style.check_one("q", known.weights.mean, 1)
    components = getattr(known.components, "others", known.components)  # noise has no location
    dof = getattr(components, "dof", None)
    components = getattr(components, "gaussian", components)
    if not hasattr(components, "covariance"):
        raise ValueError(f"q: no contours for components that are {type(components).__name__}")
    means = np.asarray(components.mean, float)
    covariances = np.asarray(components.covariance, float)
    order = np.argsort(-weight[: len(means)], kind="stable")
    shown = [int(k) for k in order if weight[k] >= min_weight]
    names = [f"x{j}" for j in range(x.shape[1])] if names is None else [str(name) for name in names]
    dof = None if dof is None else np.asarray(dof, float)
    return Scene(x, weight, means, covariances, dof, shown, names)


def _present(x: Any) -> Any:
    """The rows of a Batch with NaN, which is not drawn, for missing entries and absent rows."""
    if not isinstance(x, Batch):
        return x
    rows = np.where(np.asarray(x.weight)[:, None] > 0, np.asarray(x.x, float), np.nan)
    return rows if x.mask is None else np.where(np.asarray(x.mask), rows, np.nan)


def draw_columns(
    ax: Any,
    scene: Scene,
    columns: tuple[int, int],
    colours: np.ndarray | None,
    sigmas: Sequence[float],
) -> None:
    """Draw rows as points and components as ellipses."""
    points = scene.x[:, list(columns)]
    ax.scatter(*points.T, s=6, c=_GREY if colours is None else colours, linewidths=0, zorder=1)
    for k in scene.shown:
        look = {"color": style.colour(k), "linestyle": style.line(k)}
        for ellipse in _ellipses(scene, k, columns, sigmas):
            ax.plot(*ellipse.T, linewidth=1.5, zorder=2, **look)
        mean = scene.mean[k, list(columns)]
        ax.plot(*mean, "+", color=style.colour(k), markersize=8, zorder=3)
        if len(scene.shown) > 8:
            font = {"color": style.colour(k), "size": 8, "weight": "bold", "zorder": 4}
            box = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5}
            move = {"xytext": (3, 3), "textcoords": "offset points", "clip_on": True}
            ax.annotate(str(k), mean, bbox=box, **font, **move)


def draw_column(ax: Any, scene: Scene, j: int) -> None:
    """Draw a histogram of column j, and weight times density of every component."""
    x = scene.x[np.isfinite(scene.x[:, j]), j]
    if not len(x):
        return
    ax.hist(x, bins=_num_bins(x), density=True, color="0.85", zorder=1)
    grid = np.linspace(x.min(), x.max(), 400)
    for k in scene.shown:
        dof = None if scene.dof is None else float(scene.dof[k])
        density = _density(grid, scene.mean[k, j], scene.covariance[k, j, j], dof)
        look = {"color": style.colour(k), "linestyle": style.line(k)}
        ax.plot(grid, scene.weight[k] * density, zorder=2, **look)


def _num_bins(x: np.ndarray) -> int:
    """The number of bins of Freedman and Diaconis (1981), from 10 to 100."""
    width = 2.0 * np.subtract(*np.percentile(x, [75, 25])) / len(x) ** (1 / 3)
    return int(np.clip(np.ptp(x) / width if width > 0 else 10, 10, 100))


def _density(x: np.ndarray, mean: float, variance: float, dof: float | None) -> np.ndarray:
    z, sd = (x - mean) / np.sqrt(variance), np.sqrt(variance)
    return np.asarray(stats.norm.pdf(z) if dof is None else stats.t.pdf(z, dof)) / sd


def _ellipses(
    scene: Scene, k: int, columns: tuple[int, int], sigmas: Sequence[float]
) -> list[np.ndarray]:
    pick = list(columns)
    block = scene.covariance[k][np.ix_(pick, pick)]
    if not np.isfinite(block).all():  # such as a component without rows under a vague prior
        return []
    return [style.contour(scene.mean[k, pick], block, sigma) for sigma in sigmas]


def _with_plotly(
    scene: Scene,
    columns: tuple[int, int],
    colours: np.ndarray | None,
    resp: Any,
    sigmas: Sequence[float],
    ax: Any,
) -> Any:
    if scene.x.shape[1] == 1:
        raise ValueError('backend: data with one column are drawn by "matplotlib" only')
    go, figure = style.plotly_of(ax)
    i, j = columns
    look: dict[str, Any] = {"size": 5, "color": _GREY}
    text = None
    if colours is not None:
        look["color"] = [f"rgb({r},{g},{b})" for r, g, b in (255 * colours).round().astype(int)]
        text = [_likeliest(row) for row in np.asarray(resp, float)]
    rows = {"x": scene.x[:, i], "y": scene.x[:, j], "mode": "markers", "marker": look}
    figure.add_trace(go.Scatter(**rows, text=text, name="rows", showlegend=False))
    for k in scene.shown:
        name = f"{k}: weight {scene.weight[k]:.3f}"
        pieces = _ellipses(scene, k, columns, sigmas)
        gap = np.full((1, 2), np.nan)
        path = np.concatenate([part for piece in pieces for part in (piece, gap)] or [gap])
        form = {"color": style.colour(k), "dash": style.dash(k)}
        figure.add_trace(go.Scatter(x=path[:, 0], y=path[:, 1], mode="lines", line=form, name=name))
        place = {"x": [scene.mean[k, i]], "y": [scene.mean[k, j]], "mode": "markers"}
        cross = {"symbol": "cross-thin", "size": 10, "line": {"color": form["color"], "width": 2}}
        figure.add_trace(go.Scatter(**place, marker=cross, name=f"mean of {k}", showlegend=False))
    return figure.update_layout(xaxis_title=scene.names[i], yaxis_title=scene.names[j])


def _likeliest(resp: np.ndarray) -> str:
    """The two components with the largest responsibilities, as text."""
    order = np.argsort(-resp, kind="stable")[:2]
    return ", ".join(f"{k}: {resp[k]:.2f}" for k in order)
