"""Plots of hidden Markov models: states over time, and the transition matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...families.labels.chain import Chain
from ...models.component_table import IN_USE
from ...models.mixture_params import Fitted
from ...models.steps import known_of
from ...models.structured_params import StructuredParams
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PALE = 0.55  # share of white in the colours of states, so that values before them are seen


def plot_states(resp: Any, x: Any = None, *, time: Any = None, ax: Any = None) -> Axes:
    """Colour every step of one sequence by its states, behind the values x (t,) or (t, d).

    Args:
        resp: Responsibilities (t, k), by which colours are mixed, of the smoothed states or of the
            filtered ones; steps of NaN or zeros alone are grey.
        x: Values to draw, where they are not NaN.
        time: Numbers or dates (t,), by default those of the steps.
        ax: Axes to draw into.

    Example:
        from vijax.extras import plot

        resp = np.eye(2)[[0, 0, 0, 1, 1, 0]]
        axes = plot.plot_states(resp, np.array([0.1, -0.2, 0.0, 3.1, 2.9, 0.2]))
    """
    ax = style.axes_of(ax, 9.0, 2.5)
    resp = np.asarray(resp, float)
    if resp.ndim != 2:
        raise ValueError(f"resp: expected responsibilities (t, k), got shape {resp.shape}")
    own = np.arange(len(resp)) if time is None else np.asarray(time)
    if own.shape != resp.shape[:1]:
        raise ValueError(f"time: expected shape ({len(resp)},), got {own.shape}")
    at = np.asarray(_numbers(own), float)
    middle = 0.5 * (at[1:] + at[:-1])
    half = 0.5 if len(at) < 2 else 0.5 * (at[-1] - at[0]) / (len(at) - 1)
    edges = np.concatenate([[at[0] - half], middle, [at[-1] + half]])
    colours = style.blend(resp) * (1.0 - _PALE) + _PALE
    if np.issubdtype(own.dtype, np.datetime64):
        ax.xaxis_date()
    ax.pcolormesh(edges, [0.0, 1.0], colours[None], transform=ax.get_xaxis_transform(), zorder=0)
    if x is not None:
        values = np.asarray(x, float).reshape(len(resp), -1)
        for column in range(values.shape[1]):
            ax.plot(at, values[:, column], color="0.15", linewidth=0.8, alpha=1.0 / (1 + column))
    ax.set(xlim=(edges[0], edges[-1]), xlabel="step" if time is None else "")
    if x is None:
        ax.set_yticks([])
    return ax


def plot_transitions(
    q: StructuredParams | Fitted, *, min_weight: float = IN_USE, ax: Any = None
) -> Axes:
    """Plot the expected transition matrix of the states with a share of at least `min_weight`.

    Rows are the states that are left, columns those that follow; the commonest state comes first.
    Each cell holds its probability, and is the darker the larger it is. Raises TypeError for what
    has no transitions.

    Args:
        q: The q of a hidden Markov model, or its Result.
        min_weight: Smallest share of a state to draw.
        ax: Axes to draw into.

    Example:
        from vijax.extras import plot

        states = vx.PoissonMixture.with_prior(2, shape=1.0, rate=0.5, conc=1.0).components
        model = vx.HMM.with_prior(2, components=states, transitions=[[9, 1], [2, 8]])
        axes = plot.plot_transitions(model.prior)
    """
    ax = style.axes_of(ax, 4.0, 4.0)
    labels = known_of(q).labels
    if not isinstance(labels, Chain):
        name = type(labels).__name__
        raise TypeError(f"q: expected that of a hidden Markov model, but its labels are {name}")
    share = style.check_one("q", labels.mean, 1)
    order = [int(k) for k in np.argsort(-share, kind="stable") if share[k] >= min_weight]
    matrix = np.asarray(labels.transitions.mean, float)[np.ix_(order, order)]
    ax.imshow(matrix, cmap="Greys", vmin=0.0, vmax=1.0)
    for i, row in enumerate(matrix):
        for j, p in enumerate(row):
            look = {"ha": "center", "va": "center", "color": "white" if p > 0.5 else "black"}
            ax.text(j, i, f"{p:.2g}" if p >= 0.001 else "0", **look)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(range(len(order)), [str(k) for k in order])
        for k, label in zip(order, axis.get_ticklabels(), strict=True):
            label.set(color=style.colour(k), fontweight="bold")
    ax.set(xlabel="to state", ylabel="from state")
    return ax


def _numbers(time: np.ndarray) -> np.ndarray:
    """Dates as matplotlib's numbers; numbers as they are."""
    if not np.issubdtype(time.dtype, np.datetime64):
        return time
    from matplotlib.dates import date2num

    return date2num(time)
