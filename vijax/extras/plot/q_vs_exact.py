"""A factorised posterior of mean and precision over the exact one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ...families.normal_gamma import MeanPrecision, NormalGamma
from ...models.univariate import FactorisedParams
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 200  # of the grid, along each axis


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
    reach `width` exact standard deviations to each side.
    """
    ax = style.axes_of(ax)
    tau, spread = float(exact.precision), float(exact.precision_sd)
    middle, sd = float(exact.mean), float(exact.mean_sd)
    mu = np.linspace(middle - width * sd, middle + width * sd, _POINTS)
    low = max(tau - width * spread, tau / _POINTS)
    precision = np.linspace(low, tau + width * spread, _POINTS)
    grid = MeanPrecision(*jnp.meshgrid(jnp.asarray(mu), jnp.asarray(precision)))
    _contours(ax, mu, precision, exact.log_prob(grid), masses, style.colour(2), 2.0, filled=True)
    stack = q if jnp.ndim(q.mu.mean) else jax.tree.map(lambda a: a[None], q)
    count = len(np.asarray(stack.mu.mean))
    for i in range(count):
        one = jax.tree.map(lambda a, i=i: a[i], stack)
        log_q = one.mu.log_prob(grid.mean) + one.tau.log_prob(grid.precision)
        last = i == count - 1
        shade = style.colour(1) if last else _lighter(style.colour(0), (i + 1) / count)
        _contours(ax, mu, precision, log_q, masses, shade, 2.0 if last else 1.0)
    looks = {"exact": style.colour(2), "q": style.colour(1)}
    looks |= {"q on the way": style.colour(0)} if count > 1 else {}
    for name, look in looks.items():
        ax.plot([], [], color=look, label=name)
    ax.legend(loc="upper right", frameon=False)
    ax.set(xlabel="mean", ylabel="precision")
    return ax


def _contours(
    ax: Axes,
    mu: np.ndarray,
    precision: np.ndarray,
    log_prob: Any,
    masses: Sequence[float],
    colour: Any,
    width: float,
    filled: bool = False,
) -> None:
    density = np.exp(np.asarray(log_prob, float))
    cell = (mu[1] - mu[0]) * (precision[1] - precision[0])
    levels = sorted({level(density, cell, mass) for mass in masses})
    if filled:
        ax.contourf(mu, precision, density, [*levels, density.max()], colors=[colour], alpha=0.15)
    ax.contour(mu, precision, density, levels, colors=[colour], linewidths=width)


def level(density: np.ndarray, cell: float, mass: float) -> float:
    """The density above which lies so much of the mass, on a grid whose cells are `cell` large."""
    ranked = np.sort(density, axis=None)[::-1]
    held = np.cumsum(ranked) * cell
    return float(ranked[min(int(np.searchsorted(held, mass)), len(ranked) - 1)])


def _lighter(colour: str, share: float) -> tuple[float, ...]:
    """So much of the colour, the rest white; never less than a quarter."""
    share = 0.25 + 0.75 * share
    return tuple(1.0 - share * (1.0 - int(colour[i : i + 2], 16) / 255.0) for i in (1, 3, 5))
