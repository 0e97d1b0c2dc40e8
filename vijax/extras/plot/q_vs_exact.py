"""A factorised posterior of mean and precision over the exact one."""

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
_REACH = 8.0  # standard deviations beyond which there is little mass


def plot_q_vs_exact(
    q: FactorisedParams,
    exact: NormalGamma,
    *,
    masses: Sequence[float] = (0.5, 0.9),
    width: float = 4.0,
    ax: Any = None,
) -> Axes:
    """Contours of q(mu) q(tau) over those of the exact p(mu, tau | x).

    A contour is the smallest region that holds so much of the mass, from `masses`. With a leading
    axis, as in the `q` of a `trajectory`, every iterate is drawn, from light to dark. The axes
    reach `width` times the scale of the exact marginals to each side (of the mean's Student t, and
    the precision's sd); what lies beyond is cut off.
    """
    ax = style.axes_of(ax)
    scale = jnp.sqrt(exact.rate / (exact.shape * exact.kappa))
    place, own = (
        _grid(exact.mean, scale, exact.precision, exact.precision_sd, reach)
        for reach in (width, _REACH)
    )
    look = {"colour": style.colour(2), "line": 2.0, "filled": True}
    _contours(ax, exact.log_prob, place, own, masses, **look)
    stack = q if jnp.ndim(q.mu.mean) else jax.tree.map(lambda a: a[None], q)
    count = len(np.asarray(stack.mu.mean))
    for i in range(count):
        one = jax.tree.map(lambda a, i=i: a[i], stack)
        last = i == count - 1
        shade = style.colour(1) if last else _lighter(style.colour(0), (i + 1) / count)

        def log_q(at: MeanPrecision, one: Any = one) -> Any:
            return one.mu.log_prob(at.mean) + one.tau.log_prob(at.precision)

        own = _grid(one.mu.mean, one.mu.sd, one.tau.mean, one.tau.sd, _REACH)
        _contours(ax, log_q, place, own, masses, colour=shade, line=2.0 if last else 1.0)
    looks = {"exact": style.colour(2), "q": style.colour(1)}
    looks |= {"q on the way": style.colour(0)} if count > 1 else {}
    for name, look in looks.items():
        ax.plot([], [], color=look, label=name)
    ax.legend(loc="upper right", frameon=False)
    ax.set(xlabel="mean", ylabel="precision")
    return ax


def _grid(mean: Any, sd: Any, precision: Any, spread: Any, width: float) -> list[np.ndarray]:
    """Means and precisions to `width` standard deviations to each side."""
    mean, sd, precision, spread = (float(a) for a in (mean, sd, precision, spread))
    low = max(precision - width * spread, precision / _POINTS)
    return [
        np.linspace(mean - width * sd, mean + width * sd, _POINTS),
        np.linspace(low, precision + width * spread, _POINTS),
    ]


def _contours(
    ax: Axes,
    log_prob: Callable[[MeanPrecision], Any],
    place: list[np.ndarray],
    own: list[np.ndarray],
    masses: Sequence[float],
    colour: Any,
    line: float,
    filled: bool = False,
) -> None:
    """Drawn over the grid `place`, with levels from `own`, which holds nearly all of the mass."""

    def density(grid: list[np.ndarray]) -> np.ndarray:
        mean, precision = jnp.meshgrid(*(jnp.asarray(a) for a in grid))
        return np.exp(np.asarray(log_prob(MeanPrecision(mean, precision)), float))

    cell = (own[0][1] - own[0][0]) * (own[1][1] - own[1][0])
    mine, drawn = density(own), density(place)
    levels = sorted({level(mine, cell, mass) for mass in masses})
    if filled:
        ax.contourf(*place, drawn, [*levels, np.inf], colors=[colour], alpha=0.15)
    if drawn.max() > levels[0]:
        ax.contour(*place, drawn, levels, colors=[colour], linewidths=line)


def level(density: np.ndarray, cell: float, mass: float) -> float:
    """The density above which lies so much of the mass, on a grid whose cells are `cell` large."""
    ranked = np.sort(density, axis=None)[::-1]
    held = np.cumsum(ranked) * cell
    return float(ranked[min(int(np.searchsorted(held, mass)), len(ranked) - 1)])


def _lighter(colour: str, share: float) -> tuple[float, ...]:
    """So much of the colour, the rest white; never less than a quarter."""
    return tuple(1.0 - (0.25 + 0.75 * share) * (1.0 - style.light_of(colour)))
