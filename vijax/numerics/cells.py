"""The scatter inside of clusters that nobody has labelled, by halving the rows again and again."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from .cholesky import chol

MOST_CELLS = 16
_SQUARINGS = 6  # of a scatter matrix, for the first axis of its 64th power
_MOST_SQUARED = 64  # columns; a larger matrix is not squared, but applied _STEPS times
_STEPS = 16
_TIE = 1e-5  # relative; of numbers so near each other the first is the largest
_LEAST_ROWS = 8.0  # rows in each cell, on average
_LEAST_SHRINKAGE = 1e-3  # of the correlations
_LEAST_VARIANCE = 1e-5  # inside of cells, relative to that of all rows


def scatter_within(xp: Any, z: Any, mass: Any, weight: Any, resolution: Any) -> Any:
    """Covariance (d, d) inside of the cells of z (n, d), in NumPy or `jax.numpy` as `xp`.

    The cell with the largest sum of squares along its principal axis is halved along that axis,
    where the two halves have the least sum of squares. Of 1 to 16 cells, the number c with the
    least log(c^2 |W|) + c d log(n) / n is taken. W is their pooled covariance (Marriott 1971):
    halving a normal cluster shrinks |W| by less than halving clusters that are apart. The last term
    is what BIC asks for the means.

    Args:
        z: Rows about their mean, all columns with variance 1 or constant; 0 where not to be used.
        mass: Weight of each entry (n, d), 0 where it is not to be used.
        weight: Weight of each row (n,).
        resolution: Least distance (d,) of two unequal values of a column.
    """
    n, d = z.shape
    total, entries = weight.sum(), mass.sum(0)
    floor = xp.maximum(resolution**2 / 12.0, _LEAST_VARIANCE).astype(z.dtype)
    eye, numbers = np.eye(d, dtype=bool), np.arange(MOST_CELLS, dtype=np.int32)

    repeat = lax.fori_loop if xp is jnp else _repeat
    product = partial(jnp.matmul, precision=lax.Precision.HIGHEST) if xp is jnp else np.matmul

    def largest(values: Any) -> Any:
        return xp.argmax(values >= (1.0 - _TIE) * values.max())

    def unit(axis: Any) -> Any:
        length = xp.sqrt((axis**2).sum())
        return axis / xp.where(length > 0, length, 1.0)

    def cell(inside: Any) -> tuple[Any, Any, Any]:
        """Scatter (d, d), its largest eigenvalue, and the axis of it."""
        own = xp.where(inside[:, None], mass, 0.0)
        count = own.sum(0)
        centred = z - (own * z).sum(0) / xp.where(count > 0, count, 1.0)
        half = xp.sqrt(own) * centred
        scatter = product(half.T, half)

        power = scatter
        for _ in range(_SQUARINGS if d <= _MOST_SQUARED else 0):
            trace = power.trace()
            power = power / xp.where(trace > 0, trace, 1.0)
            power = product(power, power)
        axis = unit(power[largest(xp.diagonal(power))])
        for _ in range(1 if d <= _MOST_SQUARED else _STEPS):
            axis = unit(product(scatter, axis))
        return scatter, xp.sqrt((product(scatter, axis) ** 2).sum()), axis

    def pooled(scatter: Any, number: Any) -> tuple[Any, Any]:
        """The criterion and W for c = `number` cells."""
        count = xp.asarray(number, z.dtype)
        rows = xp.maximum(total, _LEAST_ROWS)
        free = xp.sqrt(xp.maximum(entries - count, 1.0))
        within = scatter.sum(0) / (free[:, None] * free)
        varies = xp.diagonal(within) > 0
        variance = xp.where(varies, xp.maximum(xp.diagonal(within), floor), 1.0)
        shrink = xp.maximum(d / (total + d), _LEAST_SHRINKAGE)
        within = xp.where(eye, xp.diag(variance), (1.0 - shrink) * within)
        root = chol(within) if xp is jnp else np.linalg.cholesky(within)
        log_det = 2.0 * xp.log(xp.diagonal(root)).sum()
        score = log_det + 2.0 * xp.log(count) + d * count * xp.log(rows) / rows
        return xp.where(count * _LEAST_ROWS <= rows, score, xp.inf), within

    def halve(i: Any, carry: Any) -> Any:
        label, scatter, size, axis, best, within = carry
        chosen, i = (xp.asarray(c, np.int32) for c in (largest(size), i))
        place = product(z, axis[chosen])
        inside = label == chosen
        order = xp.argsort(xp.where(inside, place, xp.inf))
        mine = xp.where(inside, weight, 0.0)[order]
        sums, counts = xp.cumsum(mine * place[order]), xp.cumsum(mine)
        rest = counts[-1] - counts
        between = sums**2 / xp.where(counts > 0, counts, 1.0)
        between = between + (sums[-1] - sums) ** 2 / xp.where(rest > 0, rest, 1.0)
        cut = place[order][largest(xp.where((counts > 0) & (rest > 0), between, 0.0))]
        label = xp.where(inside & (place > cut), i, label)
        for c in (chosen, i):
            new = cell(label == c)
            scatter = xp.where((numbers == c)[:, None, None], new[0], scatter)
            size = xp.where(numbers == c, new[1], size)
            axis = xp.where((numbers == c)[:, None], new[2], axis)
        score, found = pooled(scatter, i + 1)
        better = score < best - _TIE
        return (
            label,
            scatter,
            size,
            axis,
            xp.where(better, score, best),
            xp.where(better, found, within),
        )

    first = cell(weight >= 0)
    scatter = xp.where((numbers == 0)[:, None, None], first[0], 0.0)
    size = xp.where(numbers == 0, first[1], 0.0)
    axis = xp.broadcast_to(first[2], (MOST_CELLS, d))
    score, within = pooled(scatter, 1)
    carry = xp.zeros(n, np.int32), scatter, size, axis, score, within
    return repeat(1, MOST_CELLS, halve, carry)[-1]


def _repeat(lower: int, upper: int, step: Any, value: Any) -> Any:
    """`jax.lax.fori_loop` on the host."""
    for i in range(lower, upper):
        value = step(i, value)
    return value
