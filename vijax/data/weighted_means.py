"""Weighted means over the observed entries of rows, in NumPy on the host or in JAX."""

from __future__ import annotations

from typing import Any

from .host import namespace


def shares(x: Any, weight: Any, mask: Any = None) -> Any:
    """Weights (n,) as shares of each entry of x (n, ...), which sum to 1 over each column.

    Shares are 0 where `mask` is False, and in a whole column of which nothing was observed.
    """
    xp = namespace(x, weight, mask)
    share = xp.broadcast_to(weight.reshape(-1, *[1] * (x.ndim - 1)), x.shape)
    share = share if mask is None else xp.where(mask, share, 0.0)
    total = share.sum(0, keepdims=True)
    return (share / xp.where(total > 0, total, 1.0)).astype(x.dtype)


def means(x: Any, share: Any, mask: Any = None) -> Any:
    """Means of x (n, ...) with these shares; masked entries may hold anything.

    Sums are taken about an observed entry of each column, so that a large offset costs no digits.
    """
    if mask is None:
        return x[0] + (share * (x - x[:1])).sum(0)
    xp = namespace(x, share, mask)
    known = xp.where(mask, x, 0.0)
    first = xp.take_along_axis(known, xp.argmax(mask, 0)[None], 0)[0]
    return first + (share * xp.where(mask, known - first[None], 0.0)).sum(0)
