"""Which entries of rows were observed, and what stands in for those that were not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import weighted_means as averages
from .host import can_fetch, fetched, is_concrete, namespace, to_device
from .reader import by_text, columns_of, read_booleans

_ROWS_PER_PATTERN = 2  # with fewer, grouping rows by their missing entries saves nothing


def masks_of_table(mask: Any, x: dict[str, Any]) -> dict[str, Any]:
    """The mask of each column of a table, None for all where none is given."""
    if mask is None:
        return dict.fromkeys(x)
    columns = columns_of(mask)
    table = dict(columns) if columns else mask
    if not isinstance(table, Mapping):
        raise TypeError("mask: expected a dict of the columns, as x is")
    masks = by_text("mask", table)
    if set(masks) != set(x):
        raise ValueError(f"mask: expected the columns {sorted(x)}, got {sorted(masks)}")
    return {name: masks[name] for name in x}


def mask_of_frame(mask: Mapping[Any, Any], names: tuple[str, ...]) -> Any:
    """One array from the masks of a frame's columns by name."""
    masks = by_text("mask", mask)
    if set(masks) != set(names):
        raise ValueError(f"mask: expected the columns {sorted(names)}, got {sorted(masks)}")
    return np.stack([np.asarray(read_booleans(masks[name])) for name in names], 1)


def mask_of(name: str, x: Any, mask: Any, missing: bool) -> Any:
    """True where observed; None where nothing was declared missing."""
    if isinstance(x, dict):
        masks = mask or dict.fromkeys(x)
        seen = {own: mask_of(f"{name}[{own!r}]", a, masks[own], missing) for own, a in x.items()}
        return None if all(v is None for v in seen.values()) else _complete_masks(x, seen)
    if mask is not None:
        host = read_booleans(mask)
        if host.dtype != bool or host.shape != x.shape:
            raise ValueError(
                f"{name}: expected booleans of shape {x.shape}, True where observed, got "
                f"{host.dtype} of shape {host.shape}"
            )
        return host & ~namespace(x).isnan(x) if missing else host
    return ~namespace(x).isnan(x) if missing else None


def _complete_masks(x: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    return {name: ones(x[name].shape, bool) if v is None else v for name, v in seen.items()}


def without_empty_rows(weight: Any, seen: Any) -> Any:
    """The weights, with 0 for rows without any observed entry."""
    n = weight.shape[0]
    some = [a.reshape(n, -1).any(-1) for a in jax.tree.leaves(seen)]
    xp = namespace(weight, *some)
    return xp.where(xp.stack(some).any(0), weight, 0.0).astype(weight.dtype)


def _fill_missing(x: Any, weight: Any, seen: Any) -> Any:
    """Put the column's mean in place of missing entries, so that no NaN enters a computation."""
    xp = namespace(x, weight, seen)
    # rows of weight 0 may hold anything
    known = seen & (weight > 0).reshape(-1, *[1] * (x.ndim - 1))
    mean = averages.means(x, averages.shares(x, weight, known), known)
    return xp.where(seen, x, mean).astype(x.dtype)


def patterns_of(mask: Any, noise: Any) -> tuple[Any, Any]:
    """`group` and `patterns` of a concrete mask; (None, None) where they would save no work."""
    if mask is None or noise is not None or isinstance(mask, dict) or mask.ndim != 2:
        return None, None
    rows = fetched(mask) if is_concrete(mask) else mask
    if not isinstance(rows, np.ndarray):
        return None, None
    found, group = np.unique(rows, axis=0, return_inverse=True)
    if len(found) * _ROWS_PER_PATTERN > len(rows):
        return None, None
    size = 1 << (len(found) - 1).bit_length()  # a power of two, for fewer programs
    table = np.ones((size, rows.shape[1]), bool)
    table[: len(found)] = found
    return group.reshape(-1), to_device(table)


def fill_missing(x: Any, weight: Any, seen: Any) -> Any:
    """The rows with the column's mean in place of missing entries."""
    return x if seen is None else _filled(_fill_missing, x, weight, seen)


def fill_absent(x: Any, weight: Any) -> Any:
    """The rows with a present one in place of every row of weight 0."""
    if is_concrete(weight) and bool((fetched(weight) > 0).all()):
        return x
    return _filled(_fill_absent, x, weight)


def _filled(fill: Callable[..., Any], x: Any, *args: Any) -> Any:
    """`fill(x, *args)`, on the host if it can be, where no length is compiled for."""
    if not is_concrete(x, *args) or not can_fetch(x):
        return fill(x, *args)
    host = fill(fetched(x), *(fetched(a) for a in args))
    if not isinstance(x, jax.Array):
        return host
    return jax.device_put(host, x.sharding if x.committed else None)


def _fill_absent(x: Any, weight: Any) -> Any:
    """Put a present row in place of rows of weight 0, so that no NaN enters a computation."""
    xp = namespace(x, weight)
    present = weight > 0
    keep = present.reshape(-1, *[1] * (x.ndim - 1))
    return xp.where(keep, x, xp.asarray(x)[xp.argmax(present)])  # the index may be traced


def ones(shape: tuple[Any, ...], dtype: Any) -> Any:
    """Ones on the host; in JAX if the number of rows is a symbol, as for `jax.export`."""
    return (np if all(isinstance(n, int) for n in shape) else jnp).ones(shape, dtype)
