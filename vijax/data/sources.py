"""Sources of rows that are read block by block: files, arrays and functions."""

from __future__ import annotations

import dataclasses
import mmap
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from . import levels as coding
from .batch import Batch
from .host import as_floats, column_names, columns_as_floats, fetched
from .reader import by_text

Part = dict[str, Any]  # arguments of Batch.of in NumPy: x, weight, mask, ...
OPTIONAL = ("weight", "mask", "noise", "label", "exposure")


@dataclasses.dataclass(frozen=True)
class Source:
    """Rows that can be read more than once.

    Every call of `blocks(rows)` reads from the first row on, in blocks of about `rows` rows.
    `num_rows` is None if it is not known before reading; `names` are the columns' names, if any.
    """

    blocks: Callable[[int], Iterator[Part]]
    num_rows: int | None = None
    names: tuple[str, ...] | None = None


def open_source(source: Any, weight: Any, columns: Any) -> Source:
    """The source of a path, an array, an iterable of blocks, or a function that makes one.

    Raises TypeError or ValueError that name the argument.
    """
    if isinstance(source, str | os.PathLike):
        return _of_path(os.fsdecode(source), weight, columns)
    if columns is not None:
        raise ValueError("columns: only of a .parquet or .npz file")
    if hasattr(source, "shape") and hasattr(source, "__getitem__"):
        return _of_array(source, weight)
    if weight is not None:
        raise ValueError("weight: blocks bring their own; yield Batch.of(x, weight)")
    if isinstance(source, Iterator):
        raise TypeError(
            "source: a generator can be read once only, and a fit reads it once per pass; give "
            "the function that makes it: Chunks.of(make), not Chunks.of(make())"
        )
    if isinstance(source, Mapping) or not (callable(source) or isinstance(source, Iterable)):
        raise TypeError(
            f"source: expected a path, an array, or a function without arguments that yields "
            f"blocks of rows, got {type(source).__name__}"
        )
    return _of_blocks(source if callable(source) else _Same(source))


def _of_array(x: Any, weight: Any) -> Source:
    n = int(x.shape[0]) if len(x.shape) else 0
    return Source(_with_weight(_Slices(x, n), _checked_weight(weight, n)), n, column_names(x))


# readers are objects of these classes, and no functions within functions, so that processes can
# send them to one another


class _Reader:
    """Fields that are sent as they are, but for memory maps, which are opened again."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: _closed(value) for name, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value() if isinstance(value, _Map) else value)


@dataclasses.dataclass(frozen=True)
class _Map:
    """Where the numbers of a memory map are."""

    path: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    order: Literal["C", "F"]

    def __call__(self) -> np.memmap:
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)


def _closed(value: Any) -> Any:
    """The place of a memory map of a file; anything else, and a part of one, as it is."""
    if not isinstance(value, np.memmap) or not isinstance(value.base, mmap.mmap):
        return value
    if value.filename is None:
        return value
    order = "C" if value.flags.c_contiguous else "F"
    return _Map(os.fsdecode(value.filename), value.dtype, value.offset, value.shape, order)


@dataclasses.dataclass(frozen=True, repr=False)
class _Slices(_Reader):
    x: Any
    n: int

    def __call__(self, rows: int) -> Iterator[Part]:
        for first in range(0, self.n, rows):
            yield {"x": _slice(self.x, first, first + rows)}


@dataclasses.dataclass(frozen=True, repr=False)
class _Same(_Reader):
    blocks: Any

    def __call__(self) -> Any:
        return self.blocks


def _slice(x: Any, first: int, last: int) -> Any:
    """Rows by position; `[]` of pandas goes by the labels of an index of floats."""
    if isinstance(x, jax.Array):
        return jax.lax.slice_in_dim(x, first, min(last, x.shape[0]))
    return (x.iloc if hasattr(x, "iloc") else x)[first:last]


def _checked_weight(weight: Any, n: int | None) -> Any:
    if isinstance(weight, str | os.PathLike):
        weight = np.load(weight, mmap_mode="r", allow_pickle=False)
    weight = weight if weight is None or hasattr(weight, "shape") else np.asarray(weight)
    if weight is not None and n is not None and weight.shape != (n,):
        raise ValueError(f"weight: expected one per row, shape ({n},), got {weight.shape}")
    return weight


def _with_weight(blocks: Callable[[int], Iterator[Part]], weight: Any) -> Any:
    return blocks if weight is None else _Weighted(blocks, weight)


@dataclasses.dataclass(frozen=True, repr=False)
class _Weighted(_Reader):
    blocks: Callable[[int], Iterator[Part]]
    weight: Any

    def __call__(self, rows: int) -> Iterator[Part]:
        first = 0
        for part in self.blocks(rows):
            last = first + length(part)
            yield part | {"weight": _slice(self.weight, first, last)}
            first = last


@dataclasses.dataclass(frozen=True, repr=False)
class _Made(_Reader):
    make: Callable[[], Any]

    def __call__(self, rows: int) -> Iterator[Part]:
        for block in self.make():
            yield _part_of(block)


def _of_blocks(make: Any) -> Source:
    names = None
    for block in make():
        names = block.names if isinstance(block, Batch) else column_names(block)
        break
    return Source(_Made(make), None, names)


def _part_of(block: Any) -> Part:
    if isinstance(block, Batch):
        if block.levels is not None:
            raise ValueError(
                "source: a Batch with text columns; yield the frame or the dict that it is made of"
            )
        part = {"x": block.x} | {name: getattr(block, name) for name in (*OPTIONAL, "steps")}
        return {name: jax.tree.map(fetched, v) for name, v in part.items() if v is not None}
    if isinstance(block, Mapping):
        return {"x": {name: _own(column) for name, column in by_text("x", block).items()}}
    if not hasattr(block, "shape"):
        raise TypeError(
            "source: expected blocks that are arrays, frames, dicts of columns or Batches, got "
            f"{type(block).__name__}"
        )
    return {"x": _own(block)}


def _own(block: Any) -> Any:
    """A copy of an array, because whoever yields blocks may fill the same array again."""
    return np.array(block, subok=True) if isinstance(block, np.ndarray) else block


def length(part: Part) -> int:
    """Number of rows of a block."""
    x = part["x"]
    return (next(iter(x.values())) if isinstance(x, dict) else x).shape[0]


def as_numbers(x: Any, missing: bool, dtype: Any = None, known: coding.BatchLevels = None) -> Any:
    """The rows of a block as floats in NumPy, of this dtype if it is given.

    Texts become codes of the levels that are `known`; they are an error without.
    """
    options = {"missing": missing, "dtype": dtype}
    names, found = column_names(x), None
    if known is not None:
        x, found = coding.coded(x)
    if isinstance(x, dict):
        out = {n: np.asarray(as_floats(f"x[{n!r}]", v, **options)) for n, v in x.items()}
        for name, want in known or ():
            column = out[name].reshape(len(out[name]), 1)
            have = coding.of_column(found, name)
            out[name] = _recoded(column, have, want, (name,)).reshape(out[name].shape)
        return out
    if found is None:
        return np.asarray(as_floats("x", x, **options))
    return _recoded(columns_as_floats("x", x, **options), found, known, names)


def _recoded(x: np.ndarray, have: Any, want: Any, names: tuple[str, ...] | None) -> np.ndarray:
    """Codes of the levels that are known, NaN where an entry is missing."""
    seen = ~np.isnan(x)
    codes = coding.recoded(x, np.ones(len(x)), seen, have, want, names)
    return np.where(seen, codes, np.nan).astype(x.dtype)


def levels_of_blocks(blocks: Iterator[Part]) -> coding.BatchLevels:
    """The levels of the text columns of all blocks; None if there is no text."""
    array: coding.ArrayLevels | None = None
    table: dict[str, coding.ArrayLevels] = {}
    for part in blocks:
        found = coding.coded(part["x"])[1]
        if isinstance(part["x"], Mapping):
            for name, own in found or ():
                every = coding.common([table.get(name), own])
                assert every is not None
                table[name] = every
        else:
            array = coding.common([array, found])
    return array or tuple(sorted(table.items())) or None


def has_text(part: Part) -> bool:
    """Whether a block has columns of text."""
    return coding.coded(part["x"])[1] is not None


# -- files ----------------------------------------------------------------------------------------


def _of_path(path: str, weight: Any, columns: Any) -> Source:
    kind = os.path.splitext(path)[1].lower()
    if kind == ".npy":
        if columns is not None:
            raise ValueError("columns: only of a .parquet or .npz file")
        return _of_array(np.load(path, mmap_mode="r", allow_pickle=False), weight)
    if kind == ".npz":
        return _of_npz(path, weight, columns)
    if kind in (".parquet", ".pq"):
        return _of_parquet(path, weight, columns)
    raise ValueError(f"source: expected a .npy, .npz or .parquet file, got {path!r}")


def _of_npz(path: str, weight: Any, columns: Any) -> Source:
    with zipfile.ZipFile(path) as archive:
        members = [name.removesuffix(".npy") for name in archive.namelist()]
    given = weight if isinstance(weight, str) and weight in members else None
    arrays = [name for name in members if name != given]
    if columns is None and len(arrays) != 1:
        raise ValueError(f"columns: name one array of {path!r}, which holds {arrays}")
    name = arrays[0] if columns is None else columns
    if name not in members:
        raise ValueError(f"columns: expected one of {members}, got {name!r}")
    shape = _member_header(path, name)[0]
    n = int(shape[0]) if shape else 0
    if given is not None:
        with np.load(path, allow_pickle=False) as archive:
            weight = archive[given]

    blocks = _Member(os.path.abspath(path), name)
    return Source(_with_weight(blocks, _checked_weight(weight, n)), n)


@dataclasses.dataclass(frozen=True, repr=False)
class _Member(_Reader):
    path: str
    name: str

    def __call__(self, rows: int) -> Iterator[Part]:
        for block in _member_rows(self.path, self.name, rows):
            yield {"x": block}


def _member_header(path: str, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        return _header(file, path, name)


def _header(file: Any, path: str, name: str) -> tuple[Any, bool, np.dtype]:
    """Shape, whether the order is Fortran's, and dtype of an array in a file."""
    version = np.lib.format.read_magic(file)
    first = np.lib.format.read_array_header_1_0
    read = first if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError(f"source: {name!r} in {path!r} holds objects, no numbers")
    return shape, fortran, dtype


def _member_rows(path: str, name: str, rows: int) -> Iterator[np.ndarray]:
    """Blocks of rows of a member; one in Fortran order is loaded whole."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        shape, fortran, dtype = _header(file, path, name)
        if fortran and len(shape) > 1:
            data = file.read()
            whole = np.frombuffer(data, dtype).reshape(shape[::-1]).T
            yield from (whole[i : i + rows] for i in range(0, shape[0], rows))
            return
        for first in range(0, shape[0], rows):
            count = min(rows, shape[0] - first)
            size = dtype.itemsize * count * int(np.prod(shape[1:]))
            data = file.read(size)
            if len(data) < size:
                raise ValueError(f"source: {path!r} ends within {name!r}")
            yield np.frombuffer(data, dtype).reshape(count, *shape[1:])


def _of_parquet(path: str, weight: Any, columns: Any) -> Source:
    try:
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "source: .parquet files need pyarrow: pip install pyarrow, or give a function that "
            "yields blocks of rows"
        ) from error
    with parquet.ParquetFile(path) as file:
        n, known = int(file.metadata.num_rows), list(file.schema_arrow.names)
    given = weight if isinstance(weight, str) and weight in known else None
    names = _column_list(columns, known, given)

    blocks = _Records(os.path.abspath(path), names, given)
    separate = None if given is not None else _checked_weight(weight, n)
    return Source(_with_weight(blocks, separate), n, tuple(names))


@dataclasses.dataclass(frozen=True, repr=False)
class _Records(_Reader):
    path: str
    names: list[str]
    weight: str | None

    def __call__(self, rows: int) -> Iterator[Part]:
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]

        wanted = self.names if self.weight is None else [*self.names, self.weight]
        with parquet.ParquetFile(self.path) as file:
            for record in file.iter_batches(batch_size=rows, columns=wanted):
                columns = [(name, _column(record, name)) for name in self.names]
                part: Part = {"x": columns_as_floats("x", columns, missing=True)}
                if self.weight is not None:
                    part["weight"] = _column(record, self.weight)
                yield part


def _column_list(columns: Any, known: Sequence[str], weight: str | None) -> list[str]:
    if columns is None:
        return [name for name in known if name != weight]
    names = [columns] if isinstance(columns, str) else list(columns)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"columns: expected some of {list(known)}, got {columns!r}")
    return names


def _column(record: Any, name: str) -> np.ndarray:
    """One column of a record batch of pyarrow, with NaN for null."""
    return record.column(record.schema.get_field_index(name)).to_numpy(zero_copy_only=False)
