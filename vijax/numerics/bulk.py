"""Where most of a column is: the shortest interval with four fifths of its entries."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Bulk(NamedTuple):
    """Both ends (d,) of the intervals, and the least gap between unequal entries (0: unknown)."""

    low: Any
    high: Any
    gap: Any

    def near(self, x: Any) -> Any:
        """Which entries of x (n, d) are at most the interval's own length outside of it.

        All are, of a column with four fifths of its entries equal.
        """
        length = self.high - self.low
        with np.errstate(invalid="ignore", over="ignore"):
            inside = (x >= self.low - length) & (x <= self.high + length)
        return inside | (length <= 0)


def evenly(n: int, most: int) -> slice:
    """At most `most` of n rows, evenly spread."""
    return slice(None, None, -(-n // most))


def bulk_of(xp: Any, x: Any, used: Any) -> Bulk:
    """The Bulk of the entries of columns x (n, d) that are `used`, in NumPy or `jax.numpy` as `xp`.

    It is the shorth of Andrews et al. (1972) with four fifths in place of half. Other entries may
    hold anything.
    """
    n = x.shape[0]
    x = xp.sort(xp.where(used, x, xp.inf), 0)
    count = used.sum(0)
    kept = (4 * count + 4) // 5  # at least four fifths
    last = xp.arange(n)[:, None] + xp.maximum(kept, 1)[None] - 1
    end = xp.take_along_axis(x, xp.minimum(last, n - 1), 0)
    with np.errstate(invalid="ignore", over="ignore"):
        length = xp.where(last < count[None], end - x, xp.inf)
        gaps = x[1:] - x[:-1]
    first = xp.argmin(length, 0)[None]
    low, high = (xp.where(count > 0, xp.take_along_axis(a, first, 0)[0], 0.0) for a in (x, end))
    gap = xp.where((gaps > 0) & xp.isfinite(gaps), gaps, xp.inf).min(0, initial=xp.inf)
    return Bulk(low, high, xp.where(xp.isfinite(gap), gap, 0.0))
