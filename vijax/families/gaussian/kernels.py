"""Which exact kernel serves Gaussian rows: the only place that looks at their number and kind.

- "features": log-densities and sums as matrix products with features of the rows (`features.py`);
  several times as fast for many rows, where little cancels;
- "fused": log-densities to sums in one sweep (`fused.py`), for few whole rows of few columns;
- "rows": differences of every row from every mean (`likelihood.py`), for rows of every kind.
"""

from __future__ import annotations

from typing import Literal

from ...data.batch import Batch

Name = Literal["features", "fused", "rows"]

# from so many rows on features pay, and one sweep loses digits of float32
MANY_ROWS = 2048
# or from so many rows times components, if there are FEW_ROWS; for n = 500, d = 2 features gained
# a factor of 1.2 with 20 components and nothing with 6
FEW_ROWS, MUCH_WORK = 256, 2**13
FUSED_COLUMNS = 4  # up to so many, whitening is written out

# features are reliable if what cancels is at most so large, over sqrt(1 / eps) ...
LARGEST_PER_DIGITS = 0.5
# ... and over the square root of the number of rows
LARGEST_PER_ROOT = 8.0


def choose(rows: Batch, k: int, *, full: bool) -> tuple[Name, ...]:
    """Kernels that serve these rows and k components, the fastest first; "rows" is always there.

    `full` says that columns are correlated: then a row with missing entries has no features, and
    few whole rows can be fused.
    """
    n, d = rows.x.shape
    found: list[Name] = []
    many = n >= MANY_ROWS or (n >= FEW_ROWS and n * k >= MUCH_WORK)
    if many and rows.noise is None and not (full and rows.mask is not None):
        found.append("features")
    whole = rows.mask is None and rows.noise is None and rows.label is None
    if full and whole and n < MANY_ROWS and d <= FUSED_COLUMNS:
        found.append("fused")
    return (*found, "rows")
