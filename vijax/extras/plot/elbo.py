"""Plot of the objective against the iteration."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...infer.result import Result
from ...infer.status import Status
from . import style


def plot_elbo(result: Result, *, ax: Any = None, backend: str = "matplotlib") -> Any:
    """Plot the objective of every restart against the iteration, the returned run in black.

    The vertical range begins at the worst run in its fourth iteration, so that the first jump does
    not flatten the others. Runs that did not converge are dashed. Iterations beyond the length of
    `elbo_trace` (`Stop.trace`) were not recorded and are not drawn.
    Raises ValueError for many fits.

    Args:
        result: A Result of one data set.
        ax: Axes or figure to draw into.
        backend: "matplotlib" or "plotly".

    Example:
        from vijax.extras import plot

        x, _ = vx.datasets.three_clusters(100)
        model = vx.GaussianMixture.from_data(x, 3)
        fit = vx.fit(model, x, key=jax.random.key(0), num_restarts=4)
        axes = plot.plot_elbo(fit)
    """
    plotly = style.check_backend(backend)
    style.check_one("result", result.status, 0)
    runs = result.runs
    traces = np.asarray(result.elbo_trace)[None] if runs is None else np.asarray(runs.elbo_trace)
    last = max(int(np.isfinite(traces).sum(1).max()), 2)
    early = traces[:, : min(4, last)][:, -1:]
    low = np.min(early, where=np.isfinite(early), initial=np.inf)
    high = np.max(traces, where=np.isfinite(traces), initial=-np.inf)
    span = (low, high + 0.05 * (high - low)) if low < high else None
    title = "objective (nats)" if result.point else "ELBO (nats)"
    if plotly:
        return _with_plotly(result, traces, last, span, title, ax)
    ax = style.axes_of(ax)
    for trace, status in zip(traces, np.asarray(result.statuses), strict=True):
        look = "-" if status == Status.CONVERGED else "--"
        ax.plot(1 + np.arange(len(trace)), trace, look, color="0.7", linewidth=0.8)
    best = np.asarray(result.elbo_trace)
    ax.plot(1 + np.arange(len(best)), best, color="black", linewidth=1.8, label="returned")
    if span is not None:
        ax.set_ylim(*span)
    ax.set_xlim(1, last)
    ax.set(xlabel="iteration", ylabel=title)
    ax.legend(loc="lower right", frameon=False)
    return ax


def _with_plotly(
    result: Result, traces: np.ndarray, last: int, span: Any, title: str, ax: Any
) -> Any:
    go, figure = style.plotly_of(ax)
    steps = 1 + np.arange(last)
    for i, (trace, status) in enumerate(zip(traces, np.asarray(result.statuses), strict=True)):
        dash = "solid" if status == Status.CONVERGED else "dash"
        look = {"color": "#b3b3b3", "width": 1, "dash": dash}
        name = f"restart {i}, {Status(int(status)).name}"
        line = {"x": steps, "y": trace[:last], "mode": "lines", "line": look}
        figure.add_trace(go.Scatter(**line, name=name, showlegend=False))
    best = np.asarray(result.elbo_trace)[:last]
    look = {"color": "black", "width": 2}
    figure.add_trace(go.Scatter(x=steps, y=best, mode="lines", line=look, name="returned"))
    return figure.update_layout(xaxis_title="iteration", yaxis_title=title, yaxis_range=span)
