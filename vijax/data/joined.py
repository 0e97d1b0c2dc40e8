"""Sequences in any form, joined to one table of all their steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .host import fetched, is_concrete
from .reader import array_of, by_text, columns_of
from .sequences import Layout


def joined(parts: dict[str, Any], lengths: Any) -> tuple[dict[str, Any], Layout]:
    """The parts of a Batch of sequences with all steps on one axis, and where these are.

    Raises ValueError naming the part for other forms, and for sequences without steps.
    """
    data = parts["data"]
    given = {name: value for name, value in parts.items() if value is not None}
    if lengths is not None:
        size = _size("data", data)
        sizes = _lengths(lengths, size)
    elif is_list(data):
        sizes = np.array([_size(f"data[{i}]", item) for i, item in enumerate(data)])
        given = {name: _of_list(name, value, sizes) for name, value in given.items()}
    elif getattr(data, "ndim", None) == 3:
        n, t = data.shape[:2]
        given = {name: _of_array(name, value, n, t) for name, value in given.items()}
        sizes = np.full(n, t)
    else:
        sizes = np.array([_size("data", data)])
    if not len(sizes) or not (sizes > 0).all():
        which = f"; sequence {int(np.argmin(sizes))} has none" if len(sizes) else ""
        raise ValueError(f"data: every sequence needs at least one step{which}")
    return {name: given.get(name) for name in parts}, Layout(sizes)


def is_list(data: Any) -> bool:
    """Whether this is a list of sequences, rather than of numbers."""
    if not isinstance(data, list | tuple):
        return False
    return any(isinstance(item, Mapping) or columns_of(item) or np.ndim(item) for item in data)


def _size(name: str, value: Any) -> int:
    """The number of steps of a sequence, or of a table."""
    if isinstance(value, Mapping):
        sizes = {own: _size(f"{name}[{own!r}]", column) for own, column in value.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"{name}: columns of different length: {sizes}")
        return next(iter(sizes.values()))
    columns = columns_of(value)
    if columns:
        return len(columns[0][1])
    shape = np.shape(value)
    if not shape:
        raise ValueError(f"{name}: expected a sequence, (t, d) or (t,), got one number")
    return shape[0]


def _lengths(lengths: Any, size: int) -> np.ndarray:
    sizes = np.asarray(fetched(lengths))
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu":
        raise ValueError(
            f"lengths: expected one integer per sequence, (n,), got {sizes.dtype} of shape "
            f"{sizes.shape}"
        )
    if sizes.sum() != size:
        raise ValueError(f"lengths: their sum is {sizes.sum()}, but data has {size} steps")
    return sizes.astype(np.int64)


def _of_array(name: str, value: Any, n: int, t: int) -> Any:
    """A part of sequences (n, t, ...) with their steps on one axis."""
    if isinstance(value, Mapping):
        return {own: _of_array(f"{name}[{own!r}]", column, n, t) for own, column in value.items()}
    array = value if isinstance(value, jax.Array) else array_of(value)
    if array.shape[:2] != (n, t):
        raise ValueError(f"{name}: expected shape ({n}, {t}, ...), as data, got {array.shape}")
    return array.reshape(n * t, *array.shape[2:])


def _of_list(name: str, value: Any, sizes: np.ndarray) -> Any:
    """A part of sequences in a list, with all steps on one axis."""
    n = len(sizes)
    if not isinstance(value, list | tuple) or len(value) != n:
        got = f"{len(value)}" if isinstance(value, list | tuple) else type(value).__name__
        raise ValueError(f"{name}: expected a list of {n}, one for each sequence, got {got}")
    found = [_size(f"{name}[{i}]", item) for i, item in enumerate(value)]
    for i, (size, own) in enumerate(zip(sizes, found, strict=True)):
        if size != own:
            raise ValueError(f"{name}[{i}]: expected {size} steps, as data[{i}] has, got {own}")
    return _concatenated(name, list(value))


def _concatenated(name: str, items: list[Any]) -> Any:
    """Arrays, dicts or frames of the same columns as one."""
    if isinstance(items[0], Mapping):
        tables = [by_text(name, item) if isinstance(item, Mapping) else None for item in items]
        known = tuple(tables[0] or ())
        for i, table in enumerate(tables):
            if table is None or set(table) != set(known):
                raise ValueError(f"{name}[{i}]: expected the columns {sorted(known)}, as the first")
        columns = {own: [table[own] for table in tables if table is not None] for own in known}
        return {own: _concatenated(f"{name}[{own!r}]", column) for own, column in columns.items()}
    frames = [columns_of(item) for item in items]
    if not frames[0]:
        return _concatenated_arrays(name, items)
    known = tuple(own for own, _ in frames[0])
    ordered: list[list[Any]] = []
    for i, frame in enumerate(frames):
        own = tuple(column for column, _ in frame or ())
        if own != known:
            if len(set(known)) < len(known) or sorted(own) != sorted(known):
                raise ValueError(f"{name}[{i}]: expected the columns {known}, as the first")
            assert frame is not None
            frame = sorted(frame, key=lambda pair: known.index(pair[0]))
        ordered.append([column for _, column in frame or ()])
    return JoinedFrame(
        [
            (own, _joined_column(name, [columns[j] for columns in ordered]))
            for j, own in enumerate(known)
        ]
    )


def _concatenated_arrays(name: str, items: list[Any]) -> Any:
    if not is_concrete(*items):
        return jnp.concatenate([jnp.asarray(item) for item in items])
    arrays = [array_of(fetched(a) if isinstance(a, jax.Array) else a) for a in items]
    for i, a in enumerate(arrays):
        if a.shape[1:] != arrays[0].shape[1:]:
            shape = ("t", *arrays[0].shape[1:])
            shown = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
            raise ValueError(f"{name}[{i}]: expected shape {shown}, as the first, got {a.shape}")
    masked = any(isinstance(a, np.ma.MaskedArray) for a in arrays)
    return np.ma.concatenate(arrays) if masked else np.concatenate(arrays)


@dataclasses.dataclass(frozen=True)
class JoinedFrame:
    """The columns of several data frames, one below the other."""

    pairs: list[tuple[str, Any]]

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [name for name, _ in self.pairs]

    def items(self) -> list[tuple[str, Any]]:
        """The columns with their names."""
        return self.pairs


@dataclasses.dataclass(frozen=True)
class CategoryColumn:
    """A column of categories, which its dtype lists."""

    values: np.ndarray
    categories: list[Any]

    @property
    def dtype(self) -> Any:
        """A dtype that lists the categories, as that of pandas does."""
        return SimpleNamespace(categories=self.categories)

    def to_numpy(self) -> np.ndarray:
        """The values."""
        return self.values


def _joined_column(name: str, columns: list[Any]) -> Any:
    found = [getattr(getattr(column, "dtype", None), "categories", None) for column in columns]
    values = _concatenated_arrays(name, columns)
    listed = [list(own) for own in found if own is not None]
    if len(listed) < len(found):
        return values
    every = {level: None for own in listed for level in own}
    return CategoryColumn(values.astype(object), list(every))
