"""Plot of a factorised posterior of mean and precision over the exact one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ...families.normal_gamma import MeanPrecision, NormalGamma
from ...models.univariate import FactorisedParams
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 300  # of a grid, along each axis
_REACH = 8.0  # standard deviations, beyond which there is little mass


def plot_q_vs_exact(
    q: FactorisedParams,
    exact: NormalGamma,
    *,
    masses: Sequence[float] = (0.5, 0.9),
    width: float = 4.0,
    ax: Any = None,
) -> Axes:
    """Plot contours of q(mu) q(tau) over those of the exact p(mu, tau | x).

    Args:
        q: The factorised posterior. With a leading axis, as in the `q` of a `trajectory`, every
            iterate is drawn, from light to dark.
        exact: The exact posterior.
        masses: A contour is the smallest region that holds one of these probabilities.
        width: The axes reach so many times the scale of the exact marginals to each side, of the
            Student t of the mean and the sd of the precision; what lies beyond is cut off.
        ax: Axes to draw into.

    Example:
        from vijax.extras import plot

        prior = {"mean": 0.0, "kappa": 0.1, "shape": 1.0, "rate": 1.0}
        x = vx.datasets.normal_draws(20)
        exact = vx.NormalGammaExact.with_prior(**prior).posterior(x)
        fit = vx.fit(vx.FactorisedGaussian.with_prior(**prior), x)
        axes = plot.plot_q_vs_exact(fit.q, exact)
    """
    ax = style.axes_of(ax)
    scale = jnp.sqrt(exact.rate / (exact.shape * exact.kappa))
    drawn, wide = (
        _grid(exact.mean, scale, exact.precision, exact.precision_sd, reach)
        for reach in (width, _REACH)
    )
    look = {"colour": style.colour(2), "line": 2.0, "filled": True}
    _contours(ax, exact.log_prob, drawn, wide, masses, **look)
    stack = q if jnp.ndim(q.mu.mean) else jax.tree.map(lambda a: a[None], q)
    count = len(np.asarray(stack.mu.mean))
    for i in range(count):
        iterate = jax.tree.map(lambda a, i=i: a[i], stack)
        last = i == count - 1
        shade = style.colour(1) if last else _lighter(style.colour(0), (i + 1) / count)

        mu, tau = iterate.mu, iterate.tau

        def log_q(value: MeanPrecision, mu: Any = mu, tau: Any = tau) -> Any:
            return mu.log_prob(value.mean) + tau.log_prob(value.precision)

        wide = _grid(mu.mean, mu.sd, tau.mean, tau.sd, _REACH)
        _contours(ax, log_q, drawn, wide, masses, colour=shade, line=2.0 if last else 1.0)
    looks = {"exact": style.colour(2), "q": style.colour(1)}
    looks |= {"q on the way": style.colour(0)} if count > 1 else {}
    for name, look in looks.items():
        ax.plot([], [], color=look, label=name)
    ax.legend(loc="upper right", frameon=False)
    ax.set(xlabel="mean", ylabel="precision")
    return ax


def _grid(mean: Any, sd: Any, precision: Any, spread: Any, width: float) -> list[np.ndarray]:
    """Grids of means and of precisions that reach `width` standard deviations to each side."""
    mean, sd, precision, spread = (float(a) for a in (mean, sd, precision, spread))
    low = max(precision - width * spread, precision / _POINTS)
    return [
        np.linspace(mean - width * sd, mean + width * sd, _POINTS),
        np.linspace(low, precision + width * spread, _POINTS),
    ]


def _contours(
    ax: Axes,
    log_prob: Callable[[MeanPrecision], Any],
    drawn: list[np.ndarray],
    wide: list[np.ndarray],
    masses: Sequence[float],
    colour: Any,
    line: float,
    filled: bool = False,
) -> None:
    """Draw contours over the grid `drawn`, with levels from `wide`, which has nearly all mass."""

    def density(grid: list[np.ndarray]) -> np.ndarray:
        mean, precision = jnp.meshgrid(*(jnp.asarray(a) for a in grid))
        return np.exp(np.asarray(log_prob(MeanPrecision(mean, precision)), float))

    cell = (wide[0][1] - wide[0][0]) * (wide[1][1] - wide[1][0])
    full, values = density(wide), density(drawn)
    levels = sorted({level(full, cell, mass) for mass in masses})
    if filled:
        ax.contourf(*drawn, values, [*levels, np.inf], colors=[colour], alpha=0.15)
    if values.max() > levels[0]:
        ax.contour(*drawn, values, levels, colors=[colour], linewidths=line)


def level(density: np.ndarray, cell: float, mass: float) -> float:
    """The density above which lies the given mass, on a grid whose cells have area `cell`."""
    descending = np.sort(density, axis=None)[::-1]
    above = np.cumsum(descending) * cell
    return float(descending[min(int(np.searchsorted(above, mass)), len(descending) - 1)])


def _lighter(colour: str, share: float) -> tuple[float, ...]:
    """The colour mixed with white; at least a quarter of it for `share` 0, all of it for 1."""
    return tuple(1.0 - (0.25 + 0.75 * share) * (1.0 - style.light_of(colour)))
