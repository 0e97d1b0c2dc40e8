"""Rows and their weights: the only form in which data reach a model."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from ._host import as_floats, is_concrete, namespace, to_device
from ._pytree import pytree


@pytree
class Batch:
    """Rows `x` and a non-negative weight each.

    An integer weight counts repetitions; weight 0 is absence, so that ragged data sets, chunks
    and shards can be padded: such a row changes no result, whatever it holds.
    """

    x: Float[Array, "*b n *d"]
    weight: Float[Array, "*b n"]

    @classmethod
    def of(cls, data: Any, weight: Any = None) -> Batch:
        """From anything array-like with rows first; float64 stays float64 where it is enabled.

        Concrete values are checked here, tracers are not. Raises TypeError for data that are not
        numbers; ValueError for no rows, NaN or infinite entries, and negative or missing weights.
        Warns when float64 data lose their resolution in float32.
        """
        if isinstance(data, Batch):
            if weight is not None:
                raise ValueError("weight: give it in the Batch or beside the array, not both")
            data, weight = data.x, data.weight
        x = as_floats("x", data)
        if x.ndim == 0 or x.size == 0:
            raise ValueError(f"x: need at least one row and one column, got shape {x.shape}")
        n = x.shape[0]
        w = np.ones(n, x.dtype) if weight is None else as_floats("weight", weight).astype(x.dtype)
        if w.shape != (n,):
            raise ValueError(f"weight: expected one per row, shape ({n},), got {w.shape}")
        if is_concrete(w) and not _all(np.isfinite, w):
            raise ValueError("weight: must be finite")
        if is_concrete(w) and not (_all(lambda a: a >= 0, w) and float(w.max()) > 0):
            raise ValueError("weight: must be >= 0, and positive for at least one row")
        if is_concrete(x, w):
            _check_finite(x, w)
        return cls(to_device(_fill_absent(x, w)), to_device(w))


def _all(test: Any, values: Any) -> bool:
    return bool(test(np.asarray(values)).all())


def _check_finite(x: Any, weight: Any) -> None:
    xp = namespace(x)
    if bool(xp.isfinite(x).all()):
        return
    present = np.asarray(weight) > 0
    values = np.asarray(x).reshape(x.shape[0], -1)
    bad = ~np.isfinite(values) & present[:, None]
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"x: {int(np.isnan(values[present]).sum())} NaN and "
            f"{int(np.isinf(values[present]).sum())} infinite entries, the first in row {row}, "
            f"column {column}; remove these rows or give them weight 0"
        )


def _fill_absent(x: Any, weight: Any) -> Any:
    """Put a present row in place of rows of weight 0: whatever they held can do no harm."""
    xp = namespace(x, weight)
    present = weight > 0
    if xp is np and present.all():
        return x
    keep = present.reshape(-1, *[1] * (x.ndim - 1))
    return xp.where(keep, x, x[xp.argmax(present)])
