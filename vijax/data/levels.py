"""Levels of categories: text and category columns as codes, and codes as levels again.

A level is a text or an integer. Codes are numbers 0, 1, ... in the order of the levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .host import can_fetch, fetched, is_concrete
from .reader import columns_of, is_mark, label

Level: TypeAlias = str | int
Levels: TypeAlias = tuple[Level, ...]  # of one column, in the order of its codes
# of the columns of an array, None for a column of numbers
ArrayLevels: TypeAlias = tuple[Levels | None, ...]
# of a batch: ArrayLevels, or for a dict pairs of a name and ArrayLevels; None if it has no texts
BatchLevels: TypeAlias = tuple[Any, ...] | None

_SHOWN = 8  # levels in a message


def coded(data: Any) -> tuple[Any, BatchLevels]:
    """A frame or dict with the codes of its text and category columns in their place.

    Codes are floats, NaN where an entry is missing. Text has its levels in sorted order, a category
    column in its own. A frame with such columns becomes a list of its columns with their names.
    Anything else comes back as it is, also text beside numbers in one column. Names of a dict are
    text.
    """
    if isinstance(data, Mapping):
        tried = {own: _coded_column(column) for own, column in data.items()}
        found = {own: pair for own, pair in tried.items() if pair is not None}
        if not found:
            return data, None
        table = {**data, **{own: codes for own, (codes, _) in found.items()}}
        return table, tuple((own, (levels,)) for own, (_, levels) in sorted(found.items()))
    columns = columns_of(data)
    if not columns:
        return data, None
    pairs = [_coded_column(column) for _, column in columns]
    if all(pair is None for pair in pairs):
        return data, None
    read = [
        (own, column if pair is None else pair[0])
        for (own, column), pair in zip(columns, pairs, strict=True)
    ]
    return read, tuple(None if pair is None else pair[1] for pair in pairs)


def _coded_column(column: Any) -> tuple[np.ndarray, Levels] | None:
    """Codes and levels of a column of text or of categories; None for any other."""
    given = _categories(column)
    if given is None and not may_be_text(column):
        return None
    values = np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column, object)
    shape = values.shape
    if shape not in ((values.size,), (values.size, 1)):
        return None
    values = values.reshape(-1)
    missing = np.array([is_mark(v) or v != v for v in values], bool)
    present = values[~missing]
    if given is None:
        if not len(present) or not all(isinstance(v, str) for v in present):
            return None
        given = sorted({str(v) for v in present})
    levels = _as_levels(given)
    if levels is None:
        return None
    index = {level: float(i) for i, level in enumerate(levels)}
    codes = np.full(len(values), np.nan)
    codes[~missing] = [index[v] for v in present]
    return codes.reshape(shape), levels


def _categories(column: Any) -> list[Any] | None:
    """The categories that the dtype of a column lists, as those of pandas and Polars may."""
    categories = getattr(getattr(column, "dtype", None), "categories", None)
    return None if categories is None else list(categories)


def may_be_text(column: Any) -> bool:
    """Whether a column could be text, told by its dtype alone."""
    if isinstance(column, jax.Array):
        return False
    if isinstance(column, list | tuple):
        return any(isinstance(v, str) for v in column)
    dtype = getattr(column, "dtype", None)
    if dtype is None:
        return "string" in str(getattr(column, "type", ""))  # PyArrow
    if isinstance(dtype, np.dtype):
        return dtype.kind in "OUT"
    return not str(dtype).lower().startswith(("int", "uint", "float", "bool", "date"))


def _as_levels(values: Iterable[Any]) -> Levels | None:
    """Texts as levels; None if there are others, such as numbers, which are read as they are."""
    texts = list(values)
    if not texts or not all(isinstance(value, str) for value in texts):
        return None
    return tuple(str(value) for value in texts)


def of_column(levels: BatchLevels, name: str) -> ArrayLevels | None:
    """The levels of one column of a dict."""
    return dict(levels).get(name) if levels else None  # type: ignore[arg-type]


def by_name(levels: BatchLevels, names: Sequence[str]) -> BatchLevels:
    """The levels of an array with these names as those of a dict."""
    if levels is None:
        return None
    pairs = zip(names, levels, strict=True)
    return tuple((name, (own,)) for name, own in pairs if own is not None)  # type: ignore[misc]


def plain(sizes: Iterable[int]) -> tuple[Levels, ...]:
    """The levels 0, 1, ... of columns with these numbers of categories."""
    return tuple(tuple(range(size)) for size in sizes)


def is_plain(levels: Levels) -> bool:
    """Whether the levels are the codes 0, 1, ... themselves."""
    return levels == tuple(range(len(levels)))


def common(levels: Iterable[ArrayLevels | None]) -> ArrayLevels | None:
    """Levels of several arrays of the same columns: all that one of them has, in order."""
    known = [own for own in levels if own is not None]
    if not known:
        return None
    out: list[Levels | None] = []
    for columns in zip(*known, strict=True):
        every = {level: None for own in columns if own is not None for level in own}
        if not every:
            out.append(None)
        elif all(own in (columns[0], None) for own in columns):
            out.append(tuple(every))
        else:
            out.append(tuple(sorted(every, key=lambda v: (isinstance(v, str), v))))
    return tuple(out)


def recoded(
    x: Any,
    weight: Any,
    mask: Any,
    have: ArrayLevels | None,
    want: ArrayLevels,
    names: tuple[str, ...] | None,
) -> Any:
    """Codes (n, d) of the levels `want`, of rows whose columns have the levels `have`.

    Columns for which `want` has None stay as they are.

    A column without levels holds the levels themselves, if these are integers; if they are texts,
    its numbers are an error on the host, and codes inside of jit. Raises ValueError for a level
    that `want` has not, naming it, in a row of positive weight (n,) where `mask` has it observed;
    elsewhere its code is NaN.
    """
    have = (None,) * len(want) if have is None else have
    pairs = zip(have, want, strict=True)
    if all(w is None or own == w or (own is None and is_plain(w)) for own, w in pairs):
        return x
    concrete = is_concrete(x, weight, mask) and can_fetch(x)
    host: Any = np.array(fetched(x)) if concrete else x
    used = None
    if concrete:
        used = np.broadcast_to((fetched(weight) > 0)[:, None], host.shape)
        used = used if mask is None else used & fetched(mask)
    for j, wanted in enumerate(want):
        own = have[j]
        if wanted is None or own == wanted or (own is None and is_plain(wanted)):
            continue
        where = label(j, names)
        if own is None and isinstance(wanted[0], str):
            if concrete:
                raise ValueError(f"x: {where} takes {_listed(wanted)}, got numbers")
            continue
        table = np.array(wanted if own is None else [_index(v, wanted) for v in own], float)
        column = host[:, j]
        code = _positions(column, table) if own is None else _looked_up(column, table)
        if concrete:
            assert used is not None
            bad = used[:, j] & ~np.isfinite(code)
            if bad.any():
                row = int(bad.argmax())
                value = int(column[row]) if own is None else own[int(column[row])]
                raise ValueError(
                    f"x: {where} has the level {value!r} in row {row}; the model was made for "
                    f"{_listed(wanted)}"
                )
            host[:, j] = code if mask is None else np.where(fetched(mask)[:, j], code, 0.0)
        else:
            host = host.at[:, j].set(code.astype(host.dtype))
    if not concrete or not isinstance(x, jax.Array):
        return host
    return jax.device_put(host, x.sharding if x.committed else None)


def _index(level: Level, wanted: Levels) -> float:
    return float(wanted.index(level)) if level in wanted else np.nan


def _positions(column: Any, values: np.ndarray) -> Any:
    """The place of each number among these, which ascend; NaN if it is none of them."""
    xp, values = _for(column, values)
    place = xp.clip(xp.searchsorted(values, column), 0, len(values) - 1)
    return xp.where(values[place] == column, place.astype(values.dtype), xp.nan)


def _looked_up(column: Any, table: np.ndarray) -> Any:
    """The entry of the table for each code; NaN stays."""
    xp, table = _for(column, table)
    known = xp.isfinite(column)
    index = xp.clip(xp.where(known, column, 0.0).astype(int), 0, len(table) - 1)
    return xp.where(known, table[index], xp.nan)


def _for(column: Any, table: np.ndarray) -> tuple[Any, Any]:
    """The library of a column, and the table in it and in the dtype of the column."""
    xp = np if isinstance(column, np.ndarray) else jnp
    return xp, xp.asarray(table, column.dtype)


def _listed(levels: Levels) -> str:
    more = f", ... ({len(levels)} levels)" if len(levels) > _SHOWN else ""
    return ", ".join(str(level) for level in levels[:_SHOWN]) + more


def decoded(x: Any, levels: ArrayLevels) -> Any:
    """Codes (..., d) as levels: numbers if no column has texts, else objects of NumPy.

    Inside of jit codes of text stay codes.
    """
    texts = any(isinstance(own[0], str) for own in levels if own is not None)
    if texts and not is_concrete(x):
        return x
    if not texts:
        for j, own in enumerate(levels):
            if own is not None and not is_plain(own):
                table = jnp.asarray(own, x.dtype)
                x = jnp.asarray(x).at[..., j].set(table[x[..., j].astype(int)])
        return x
    codes = np.asarray(fetched(x))
    out = np.empty(codes.shape, object)
    for j, own in enumerate(levels):
        if own is None:
            out[..., j] = codes[..., j]
            continue
        table = np.empty(len(own), object)
        table[:] = own
        known = np.isfinite(codes[..., j])
        index = np.where(known, codes[..., j], 0.0).astype(int)
        values = table[index]
        values[~known] = None
        out[..., j] = values
    return out


def refuse_text(levels: ArrayLevels, names: tuple[str, ...] | None) -> None:
    """Raise TypeError naming the first column whose levels are texts."""
    for j, own in enumerate(levels):
        if own is not None and isinstance(own[0], str):
            raise TypeError(
                f"x: need real numbers, got text in {label(j, names)}; select or convert the "
                "numeric columns first, or make it categorical"
            )
