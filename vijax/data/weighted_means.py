"""Weighted averages over rows, of the entries that were observed; on the host or traced."""

from __future__ import annotations

from typing import Any

from .host import namespace


def shares(x: Any, weight: Any, mask: Any = None) -> Any:
    """How much each entry of x (n, ...) counts in its column: weights (n,) scaled to sum to 1,

    0 where the mask has False, and everywhere in a column of which nothing was observed.
    """
    xp = namespace(x, weight, mask)
    share = xp.broadcast_to(weight.reshape(-1, *[1] * (x.ndim - 1)), x.shape)
    share = share if mask is None else xp.where(mask, share, 0.0)
    total = share.sum(0)
    return (share / xp.where(total > 0, total, 1.0)).astype(x.dtype)


def means(x: Any, share: Any, mask: Any = None) -> Any:
    """Averages of x (n, ...) with these shares, about an observed entry of each column, so that a
    large offset costs no digits; what masked entries hold does not matter.
    """
    if mask is None:
        return x[0] + (share * (x - x[0])).sum(0)
    xp = namespace(x, share, mask)
    known = xp.where(mask, x, 0.0)
    first = xp.take_along_axis(known, xp.argmax(mask, 0)[None], 0)[0]
    return first + (share * xp.where(mask, known - first, 0.0)).sum(0)
