"""Figures with matplotlib, which is imported when the first one is drawn.

Every function draws into `ax`, or into a new figure, and returns the axes; none of them shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._host import column_names
from ..batch import Batch
from ..infer.result import Result, Status
from ..models.mixture_params import MixtureMoments, MixtureParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito (2008) and two of Tol's: told apart by colour-blind readers
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#882255"]


def _axes(ax: Any) -> Axes:
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "matplotlib>=3.9"') from error
    return plt.subplots(figsize=(5.0, 4.0), layout="constrained")[1]


def colour(k: int) -> str:
    """Colour of component k, the same in every figure."""
    return _COLOURS[k % len(_COLOURS)]


def contour(
    mean: np.ndarray, covariance: np.ndarray, sigma: float, points: int = 200
) -> np.ndarray:
    """Points (points, 2) at Mahalanobis distance `sigma` from `mean`."""
    angle = np.linspace(0.0, 2.0 * np.pi, points)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    root = np.linalg.cholesky(np.asarray(covariance, float))
    return np.asarray(mean, float) + sigma * (root @ circle).T


def plot_mixture(
    q: MixtureParams | MixtureMoments,
    x: Any,
    *,
    columns: tuple[int, int] = (0, 1),
    names: Sequence[str] | None = None,
    min_weight: float = 0.01,
    sigmas: Sequence[float] = (1.0, 2.0),
    ax: Any = None,
) -> Axes:
    """Rows and the components with weight >= `min_weight`, in two columns of the data.

    Ellipses are contours of E[Sigma_k] around E[mu_k] at `sigmas` standard deviations; after EM
    give `q.point()`, as to `plot_weights`, for contours of the estimate. Data with
    one column are shown as a histogram with the density of each component.
    """
    ax = _axes(ax)
    names = names or getattr(x, "names", None) or column_names(x)
    x = np.asarray(_observed(x), float)
    weight = np.asarray(q.weights.mean)
    components = getattr(q.components, "others", q.components)  # noise has no place
    means = np.asarray(components.mean, float)
    covariances = np.asarray(components.covariance, float)
    order = np.argsort(-weight[: len(means)], kind="stable")
    shown = [int(k) for k in order if weight[k] >= min_weight]
    names = names or [f"x{j}" for j in range(x.shape[1])]
    if x.shape[1] == 1:
        _plot_line(ax, x[:, 0], weight, means[:, 0], covariances[:, 0, 0], shown)
        ax.set(xlabel=names[0], ylabel="density")
        return ax
    i, j = columns
    ax.scatter(x[:, i], x[:, j], s=6, color="0.6", linewidths=0, zorder=1)
    for k in shown:
        block = covariances[k][np.ix_([i, j], [i, j])]
        for sigma in sigmas:
            line = contour(means[k, [i, j]], block, sigma)
            ax.plot(line[:, 0], line[:, 1], color=colour(k), linewidth=1.5, zorder=2)
        ax.plot(*means[k, [i, j]], "+", color=colour(k), markersize=8, zorder=3)
    ax.set(xlabel=names[i], ylabel=names[j])
    return ax


def _observed(x: Any) -> Any:
    """Rows of a Batch with NaN where entries are missing, which is not drawn; else x itself."""
    if not isinstance(x, Batch):
        return x
    rows = np.asarray(x.x, float)
    return rows if x.mask is None else np.where(np.asarray(x.mask), rows, np.nan)


def _plot_line(
    ax: Axes, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, var: np.ndarray, shown: list[int]
) -> None:
    x = x[np.isfinite(x)]
    ax.hist(x, bins="auto", density=True, color="0.85", zorder=1)
    grid = np.linspace(x.min(), x.max(), 400)
    for k in shown:
        density = np.exp(-0.5 * (grid - mean[k]) ** 2 / var[k]) / np.sqrt(2 * np.pi * var[k])
        ax.plot(grid, weight[k] * density, color=colour(k), zorder=2)


def plot_elbo(result: Result, *, ax: Any = None) -> Axes:
    """The objective of every restart against the iteration; the returned run in black.

    The vertical range starts where the worst run stands after three iterations, so that the first
    jump does not flatten the rest. Runs that did not converge are dashed.
    """
    ax = _axes(ax)
    runs = result.runs
    traces = np.asarray(result.elbo_trace)[None] if runs is None else np.asarray(runs.elbo_trace)
    statuses = np.asarray(result.statuses)
    for trace, status in zip(traces, statuses, strict=True):
        style = "-" if status == Status.CONVERGED else "--"
        ax.plot(1 + np.arange(len(trace)), trace, style, color="0.7", linewidth=0.8)
    best = np.asarray(result.elbo_trace)
    ax.plot(1 + np.arange(len(best)), best, color="black", linewidth=1.8, label="returned")
    last = int(np.isfinite(traces).sum(1).max())
    early = traces[:, min(3, last - 1)]
    low, high = np.nanmin(early), np.nanmax(traces)
    if np.isfinite(low) and high > low:
        ax.set_ylim(low, high + 0.05 * (high - low))
    ax.set_xlim(1, max(last, 2))
    ax.set(xlabel="iteration", ylabel="objective (nats)" if result.point else "ELBO (nats)")
    ax.legend(loc="lower right", frameon=False)
    return ax


def plot_weights(
    q: MixtureParams | MixtureMoments, *, min_weight: float = 0.01, ax: Any = None
) -> Axes:
    """Weight of every component, with its standard deviation where q has one: not at a point."""
    ax = _axes(ax)
    weight, sd = np.asarray(q.weights.mean), getattr(q.weights, "sd", None)
    component = np.arange(len(weight))
    colours = [colour(int(k)) if weight[k] >= min_weight else "0.8" for k in component]
    ax.bar(component, weight, yerr=sd, color=colours, ecolor="0.3", capsize=2)
    ax.set_xticks(component[:: max(1, len(weight) // 10)])
    ax.set_ylim(bottom=0.0)
    ax.set(xlabel="component", ylabel="posterior weight")
    return ax
