"""The choice of kernels for Gaussian rows by their number and kind, with all thresholds.

- "features": log-densities and sums as matrix products with features of the rows (`features.py`);
  several times as fast for many rows, and reliable where little cancels;
- "fused": from log-densities to sums in one sweep (`fused.py`), for few whole rows of few columns;
- "rows": differences of every row from every mean (`likelihood.py`), for all rows.
"""

from __future__ import annotations

from typing import Literal

from ...data.batch import Batch

Name = Literal["features", "fused", "rows"]

# least number of rows for which features pay; from here on, fused sums lose digits in float32
MANY_ROWS = 2048
# features also pay from FEW_ROWS rows and MUCH_WORK rows times components on; for n = 500, d = 2
# they gained a factor of 1.2 with 20 components and nothing with 6
FEW_ROWS, MUCH_WORK = 256, 2**13
FUSED_COLUMNS = 4  # most columns for which whitening is written out

# features are reliable if the terms that cancel are at most this times sqrt(1 / eps) ...
LARGEST_PER_DIGITS = 0.5
# ... and at most this times the square root of the number of rows
LARGEST_PER_ROOT = 8.0


def choose(rows: Batch, k: int, *, full: bool) -> tuple[Name, ...]:
    """Names of kernels that serve these rows and k components, the fastest first, "rows" the last.

    `full` says that columns are correlated. Then rows with missing entries have no features, and
    few whole rows can be fused.
    """
    n, d = rows.x.shape
    names: list[Name] = []
    many = n >= MANY_ROWS or (n >= FEW_ROWS and n * k >= MUCH_WORK)
    if many and rows.noise is None and not (full and rows.mask is not None):
        names.append("features")
    whole = rows.mask is None and rows.noise is None and rows.label is None
    if full and whole and n < MANY_ROWS and d <= FUSED_COLUMNS:
        names.append("fused")
    return (*names, "rows")
