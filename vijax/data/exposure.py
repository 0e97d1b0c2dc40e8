"""The exposure of counts and waiting times: how long, or how much of it, each was observed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from .host import as_floats, fetched, is_concrete, namespace
from .reader import by_text, columns_of
from .reader import label as column_label


def exposure_of(
    exposure: Any, x: Any, names: tuple[str, ...] | None, dtype: Any, weight: Any, seen: Any
) -> Any:
    """Exposures (n, 1) or (n, d), or a dict of them by column; `weight` is 0 for empty rows."""
    if exposure is None:
        return None
    columns = columns_of(exposure)
    if columns and (names is not None or isinstance(x, dict)):
        exposure = dict(columns)
    if isinstance(exposure, Mapping):
        table = by_text("exposure", exposure)
        known = tuple(x) if isinstance(x, dict) else names
        if known is None:
            raise ValueError("exposure: a dict needs columns with names; give an array (n, d)")
        unknown = [name for name in table if known.count(name) != 1]
        if unknown:
            raise ValueError(
                f"exposure: {unknown[0]!r} is not one of the columns {', '.join(known)}"
            )
        own = {name: _select(x, name, names) for name in table}
        masks = {name: None if seen is None else _select(seen, name, names) for name in table}
        read = {
            name: _of_column(f"exposure[{name!r}]", a, own[name], dtype, weight, masks[name])
            for name, a in table.items()
        }
        return read or None
    if isinstance(x, dict):
        raise ValueError(
            "exposure: x is a dict of columns; give a dict as well, by the names of the columns "
            "that have one"
        )
    return _of_column("exposure", exposure, x, dtype, weight, seen)


def _select(x: Any, name: str, names: tuple[str, ...] | None) -> Any:
    """The column of this name, of a dict or of an array whose columns have names."""
    if isinstance(x, dict):
        return x[name]
    assert names is not None  # the caller has found `name` among them
    return x[:, names.index(name)]


def _of_column(name: str, value: Any, x: Any, dtype: Any, weight: Any, seen: Any) -> Any:
    e = as_floats(name, value, missing=True, dtype=dtype)
    n = x.shape[0]
    if e.shape != (n,) and (x.ndim != 2 or e.shape not in ((n, 1), x.shape)):
        shapes = f"({n},)" if x.ndim != 2 else f"({n},) or {x.shape}"
        raise ValueError(f"{name}: expected shape {shapes}, got {e.shape}")
    e = e[:, None] if e.ndim == 1 else e
    used = (weight > 0)[:, None]
    if seen is not None and e.shape[1] > 1:
        used = used & seen
    elif seen is not None:
        used = used & (seen[:, None] if seen.ndim == 1 else seen.any(1, keepdims=True))
    xp = namespace(e, used)
    # XLA takes subnormal numbers for 0
    good = xp.isfinite(e) & (e >= float(jnp.finfo(dtype).tiny))
    if is_concrete(e, used):
        bad = fetched(used & ~good)
        if bool(bad.any()):
            row = int(bad.any(1).argmax())
            j = int(bad[row].argmax())
            where = f", {column_label(j, None)}" if e.shape[1] > 1 else ""
            raise ValueError(
                f"{name}: must be finite and > 0, got {float(fetched(e)[row, j]):g} in row "
                f"{row}{where}; declare entries without exposure missing, by a mask, or give their "
                "rows weight 0"
            )
    return xp.where(good | used, e, 1.0).astype(dtype)


def exposure_by_name(exposure: Any, names: tuple[str, ...]) -> Any:
    """The exposures of a data frame by the names of its columns."""
    if exposure is None or isinstance(exposure, dict):
        return exposure
    one = exposure.shape[-1] == 1
    return {name: exposure if one else exposure[..., j : j + 1] for j, name in enumerate(names)}


def exposure_by_column(exposure: Any, names: tuple[str, ...] | None) -> Any:
    """The exposures of a data frame by name as one array (n, d), 1 for columns that have none."""
    if not isinstance(exposure, dict):
        return exposure
    assert names is not None  # without names there is no such dict
    like = next(iter(exposure.values()))
    xp = namespace(*exposure.values())
    none = xp.ones_like(like)
    return xp.concatenate([exposure.get(name, none) for name in names], -1)
