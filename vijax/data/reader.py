"""The reader: what users hand over becomes NumPy arrays of numbers, column by column.

NumPy alone would decide by dtype: a date beside a number becomes a number, text that looks like a
number too, and a masked entry shows what lies under its mask.
"""

from __future__ import annotations

import datetime
import decimal
import numbers
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

_DATES = (datetime.date, datetime.time, np.datetime64)
_DURATIONS = (datetime.timedelta, np.timedelta64)
_NUMBERS = (numbers.Real, decimal.Decimal, np.bool_)
_FLAGS = (bool, np.bool_)
_NO_FRAMES = (np.ndarray, jax.Array, Mapping, list, tuple)
_SELECT = "select or convert the numeric columns first"
_FROM_START = (
    "convert to numbers relative to a start, such as (t - t.min()) / np.timedelta64(1, 'D')"
)
_BY_UNIT = "divide by a unit, such as t / np.timedelta64(1, 's')"
_UNMASK = "give its data, and mask=~x.mask to Batch.of, or missing=True, or fill it"


@runtime_checkable
class _FrameOfItems(Protocol):
    """A data frame that lists names and columns, as pandas and Astropy have it."""

    columns: Any

    def items(self) -> Iterable[tuple[Any, Any]]: ...


@runtime_checkable
class _FrameOfSeries(Protocol):
    """A data frame that lists columns which know their name, as Polars has it."""

    columns: Any

    def iter_columns(self) -> Iterable[Any]: ...


@runtime_checkable
class _FrameOfArrays(Protocol):
    """A table that lists columns and names apart, as PyArrow has it."""

    column_names: list[str]

    def itercolumns(self) -> Iterable[Any]: ...


@runtime_checkable
class _LabelledArray(Protocol):
    """An array whose axes have names and labels, as xarray has it."""

    dims: tuple[Any, ...]
    coords: Any


@runtime_checkable
class _UniformFrame(Protocol):
    """A data frame that knows the dtype of every column."""

    dtypes: Iterable[Any]


def columns_of(value: Any) -> list[tuple[str, Any]] | None:
    """The columns of a data frame by name; None for anything else, or if it does not list them."""
    if isinstance(value, _NO_FRAMES):
        return None
    if isinstance(value, _FrameOfArrays):
        return list(zip(map(str, value.column_names), value.itercolumns(), strict=True))
    if isinstance(value, _FrameOfSeries):
        return [(str(column.name), column) for column in value.iter_columns()]
    if isinstance(value, _FrameOfItems):
        return [(str(name), column) for name, column in value.items()]
    return None


def column_names(value: Any) -> tuple[str, ...] | None:
    """The names of a data frame's columns, as text; None for anything else."""
    if isinstance(value, _NO_FRAMES):
        return None
    if isinstance(value, _FrameOfArrays):
        return tuple(map(str, value.column_names))
    if isinstance(value, _LabelledArray):
        last = value.dims[-1] if len(value.dims) == 2 else None
        return tuple(map(str, np.asarray(value.coords[last]))) if last in value.coords else None
    columns = getattr(value, "columns", None)
    return None if columns is None else tuple(str(name) for name in columns)


def is_uniform(value: Any) -> bool:
    """Whether all columns of a frame have one number dtype of NumPy, so that no column differs."""
    if isinstance(value, _NO_FRAMES) or not isinstance(value, _UniformFrame):
        return False
    kinds = set(value.dtypes) if hasattr(value, "columns") else set()
    return len(kinds) == 1 and all(isinstance(k, np.dtype) and k.kind in "fiu" for k in kinds)


def label(column: int, names: tuple[str, ...] | None) -> str:
    """What an error calls a column: its name if it has one, else its number."""
    return f"column {column}" if names is None else f"column {names[column]!r}"


def read_numbers(
    name: str, value: Any, *, missing: bool = False, column: str | None = None
) -> np.ndarray:
    """Array-like real numbers in NumPy, in the dtype and the shape that they come in.

    Marks of missing entries (None, NA) become NaN, and masked entries where `missing` is declared.
    Raises TypeError naming the argument, and the column, for all that is not real numbers: dates,
    durations, text, masked entries. `column` is that of a frame.
    """
    where = "" if column is None else f" in column {column!r}"
    host = _named_array_of(name, value, where)
    hidden = np.ma.getmaskarray(host) if np.ma.is_masked(host) else None
    if hidden is not None and not missing:
        raise TypeError(f"{name}: a masked array{where}; {_UNMASK}")
    host = np.asarray(host)
    if host.dtype == object and host.ndim:
        host = _of_objects(name, host, where)
    _check_kind(name, host.dtype, where)
    host = _native(host)
    if hidden is not None:
        wide = host if host.dtype.kind == "f" else host.astype(np.float64)
        host = np.where(hidden, np.asarray(np.nan, wide.dtype), wide)
    return host


def read_labels(name: str, value: Any, *, floats: bool = True) -> Any:
    """Integers, -1 where an entry is masked or NA; what is in JAX stays there.

    With `floats` whole numbers are integers too, and NaN is -1, as frames store integers with
    missing entries. Other arrays, such as text or fractions, come back for the caller to refuse.
    """
    if isinstance(value, jax.Array):
        return value
    host = _named_array_of(name, value, "")
    if np.ma.is_masked(host):
        whole = host.dtype.kind in "iu"
        return np.where(np.ma.getmaskarray(host), -1, np.asarray(host, np.int64)) if whole else host
    host = _native(np.asarray(host))
    if host.dtype == object and host.ndim == 1:
        marks = _marks()
        if not all(issubclass(k, marks) or _is_integer(k) for k in set(map(type, host))):
            return host
        return np.array([-1 if isinstance(v, marks) else int(v) for v in host], np.int64)
    if floats and host.dtype.kind == "f":
        unknown = np.isnan(host)
        if (unknown | ((host == np.round(host)) & (np.abs(host) < 2.0**53))).all():
            return np.where(unknown, -1, host).astype(np.int64)
    return host


def read_booleans(value: Any) -> Any:
    """Booleans of an array or a frame; what is in JAX stays there.

    Returns arrays of another dtype, such as of NA, as they are, for the caller to refuse.
    """
    if isinstance(value, jax.Array):
        return value
    columns = columns_of(value)
    if columns:
        parts = [read_booleans(column) for _, column in columns]
        return np.stack(parts, 1)
    host = array_of(value)
    if np.ma.is_masked(host):
        return np.asarray(host, object)  # whether an entry was observed must be known
    host = np.asarray(host)
    if host.dtype == object and host.ndim and all(type(v) in _FLAGS for v in host.flat):
        return host.astype(bool)
    return host


def check_device_kind(name: str, dtype: Any) -> None:
    """Raise TypeError naming the argument unless an array of JAX holds real numbers."""
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise TypeError(f"{name}: need real numbers, got a key")
    _check_kind(name, dtype, "")


# -- one array ------------------------------------------------------------------------------------


def _named_array_of(name: str, value: Any, where: str) -> np.ndarray:
    try:
        return array_of(value)
    except ValueError as error:
        message = f"{name}: rows of different length, or no numbers{where}: {error}"
        raise ValueError(message) from None


def array_of(value: Any) -> np.ndarray:
    """A column, a tensor of another library or a sequence as a NumPy array, masks included."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "to_numpy"):
        return np.asarray(value.to_numpy())
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    if isinstance(value, list | tuple) and any(isinstance(v, np.ma.MaskedArray) for v in value):
        return np.ma.array(value)  # numpy.asarray would show what lies under the masks
    return np.asarray(value)


def _native(host: np.ndarray) -> np.ndarray:
    """The same numbers in the byte order of this machine, which JAX needs."""
    return host if host.dtype.isnative else host.astype(host.dtype.newbyteorder("="))


def _check_kind(name: str, dtype: Any, where: str) -> None:
    kind = dtype.kind
    # bfloat16 and the like have the NumPy kind "V"; durations are integers to NumPy
    wide = kind not in "mM" and any(jnp.issubdtype(dtype, k) for k in (jnp.floating, jnp.integer))
    if kind in "fiub" or wide:
        return
    remedy = {"M": _FROM_START, "m": _BY_UNIT}.get(kind, _SELECT)
    if dtype.names is not None:
        remedy = "give a dict of its columns, {name: x[name] for name in x.dtype.names}"
    raise TypeError(f"{name}: need real numbers, got dtype {dtype}{where}; {remedy}")


def _of_objects(name: str, host: np.ndarray, where: str) -> np.ndarray:
    """Python numbers as floats, NaN for None and NA; TypeError for anything else."""
    marks, columns = _marks(), host.reshape(host.shape[0], -1)
    found = np.empty(columns.shape, np.float64)
    for j in range(columns.shape[1]):
        values = columns[:, j].tolist()
        for kind in set(map(type, values)):
            if issubclass(kind, marks) or _is_real(kind):
                continue
            place = where or (f" in column {j}" if host.ndim > 1 else "")
            remedy = _SELECT
            if issubclass(kind, _DATES):
                remedy = _FROM_START
            elif issubclass(kind, _DURATIONS):
                remedy = _BY_UNIT
            raise TypeError(
                f"{name}: need real numbers, got dtype object with {kind.__name__}{place}; {remedy}"
            )
        try:
            found[:, j] = [np.nan if isinstance(v, marks) else float(v) for v in values]
        except OverflowError as error:
            raise ValueError(f"{name}: no float64{where}: {error}") from None
    return found.reshape(host.shape)


def _is_real(kind: type) -> bool:
    # NumPy's durations are integers to Python
    return issubclass(kind, _NUMBERS) and not issubclass(kind, _DURATIONS)


def _is_integer(kind: type) -> bool:
    return issubclass(kind, numbers.Integral) and not issubclass(kind, (*_DURATIONS, bool))


def _marks() -> tuple[type, ...]:
    """The types of the marks for a missing entry: None, and NA of pandas if that is in use."""
    pandas = sys.modules.get("pandas")
    return (type(None),) if pandas is None else (type(None), type(pandas.NA))


def is_mark(value: Any) -> bool:
    """Whether a value marks a missing entry: None, or NA of pandas."""
    return isinstance(value, _marks())


def by_text(name: str, table: Mapping[Any, Any]) -> dict[str, Any]:
    """A table whose names are text, as those of a frame are; ValueError if two become one."""
    named = {str(own): value for own, value in table.items()}
    if len(named) < len(table):
        raise ValueError(f"{name}: columns of the same name: {', '.join(map(repr, table))}")
    return named
