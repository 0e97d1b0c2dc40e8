"""Rows that stay on the host and reach the device chunk by chunk, all of one shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from .._pytree import replace
from .batch import Batch
from .host import check_bound, check_integer, common_dtype, to_device
from .sources import Part, Source, as_numbers, length, open_source

_CPU_FLOATS = 2**20  # of one chunk: two are on the device at a time
_DEVICE_FLOATS = 2**24
_LEAST_ROWS = 1024
_SAMPLE_ROWS = 2**16
_SAMPLE_FLOATS = 2**22


@dataclasses.dataclass(frozen=True)
class Survey:
    """What one look at all rows tells: how many, their weight, and a sample that stands for all."""

    num_rows: int
    total: float
    sample: Batch


@dataclasses.dataclass(frozen=True)
class Chunks:
    """Rows that need not fit in memory: `fit(model, Chunks.of(...))` reads them once per pass.

    Build it with `Chunks.of`. `rows` is the number of rows in a chunk, of which two are in memory
    at a time; a last, shorter one is filled up with rows of weight 0, so that one program serves
    all. `dtype` is that of the floats, `names` the columns' names, if they have any.
    """

    source: Source
    rows: int
    dtype: Any
    missing: bool = False
    names: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls,
        source: Any,
        weight: Any = None,
        *,
        chunk: int | None = None,
        missing: bool = False,
        columns: Any = None,
    ) -> Chunks:
        """From a file, a memory map, or a function that yields blocks of rows.

        `source` is one of

        - an array or memory map, rows first, that is read in slices;
        - a path: `.npy` (mapped), `.npz` (read as a stream; `columns` names the array where there
          are several), `.parquet` (through pyarrow; `columns` lists the columns, null is NaN);
        - a function without arguments, called once per pass, that yields blocks of any number of
          rows: arrays, frames, dicts of columns, or Batches with their weights, masks and labels;
          or a list of such blocks.

        `weight` is an array (n,) or the path of one, or the name of an array or a column in the
        same file. `chunk` is the number of rows at once, by default such that a chunk has 2^20
        numbers (2^24 on an accelerator). `missing=True` takes NaN for missing entries. The first
        block decides on the dtype and on what all blocks must have.

        Raises TypeError and ValueError that name the argument, OSError for files that cannot be
        read, ImportError for parquet without pyarrow.
        """
        if chunk is not None:
            check_integer("chunk", chunk)
            check_bound("chunk", chunk, least=1.0)
        opened = open_source(source, weight, columns)
        first = next(_numeric(opened.blocks(_LEAST_ROWS)), None)
        if first is None:
            raise ValueError("source: there are no rows")
        size = sum(a.size // a.shape[0] for a in jax.tree.leaves(first["x"]))
        rows = chunk or max(_LEAST_ROWS, _floats() // size)
        total = opened.num_rows
        if total is None:
            # one more than a chunk, to know whether there is another
            total = 0
            for part in opened.blocks(rows):
                total += length(part)
                if total > rows:
                    break
        if opened.num_rows is not None or total <= rows:
            rows = -(-total // -(-total // rows))  # as many chunks, all about equal
        dtype = common_dtype(*jax.tree.leaves(first["x"]))
        return cls(opened, rows, dtype, missing, opened.names)

    def batches(self, num_rows: int | None = None, *, check: bool = True) -> Iterator[Batch]:
        """All rows in order, as Batches of `rows` rows; chunks without any weight are left out.

        Raises ValueError for bad values (where `check`), with the row's number in the whole, and
        where there are not `num_rows` rows in all.
        """
        seen, ones = 0, None
        for part in self._parts():
            first, seen = seen, seen + length(part)
            if num_rows is not None and seen > num_rows:
                break
            if not check and set(part) == {"x"} and not self.missing and seen - first == self.rows:
                ones = to_device(np.ones(self.rows, self.dtype)) if ones is None else ones
                yield Batch(jax.tree.map(to_device, part["x"]), ones, names=self.names)
            elif (batch := self._batch(part, first, self.rows)) is not None:
                yield batch
        if seen == 0:
            raise ValueError("source: there are no rows")
        if num_rows is not None and seen != num_rows:
            raise ValueError(
                f"source: {seen} rows or more in this pass, {num_rows} before; the rows must stay "
                "the same, and a function must begin anew whenever it is called"
            )

    def survey(self, look: Callable[[Batch], Any] = lambda _: None) -> Survey:
        """Read and check all rows once, on the host; `look` sees every chunk.

        The sample holds at most 65,536 rows (fewer of many columns), in their order, and all of
        them where there are no more; otherwise it is drawn at random, the same at every call,
        from the rows of positive weight, and weighted to the total of all.
        """
        rng = np.random.default_rng(0)
        kept: list[Part] = []
        luck = np.zeros(0)
        seen, total, size = 0, 0.0, _SAMPLE_ROWS
        for part in self._parts():
            n = length(part)
            batch = self._batch(part, seen, self.rows)
            if batch is not None:
                look(batch)
            weight = self._weight(part)
            total += float(np.sum(weight, dtype=np.float64))
            floats = sum(a.size // n for a in jax.tree.leaves(part["x"]))
            size = max(_LEAST_ROWS, min(_SAMPLE_ROWS, _SAMPLE_FLOATS // floats))
            drawn = np.where(weight > 0, rng.random(n), 2.0)  # the others come last
            kept, luck = _luckiest(kept, luck, part | {"weight": weight}, drawn, size)
            seen += n
        if not kept:
            raise ValueError("source: there are no rows of positive weight")
        part = kept[0]
        own = float(np.sum(part["weight"], dtype=np.float64))
        if len(luck) < seen:
            part = part | {"weight": (part["weight"] * (total / own)).astype(self.dtype)}
        sample = self._batch(part, 0, len(luck))
        assert sample is not None  # its rows have positive weight
        return Survey(seen, total, sample)

    def sample(self) -> Batch:
        """Rows in memory that stand for all: see `survey`. For priors and for a first look."""
        return self.survey().sample

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError(
            "Chunks are not one array; `fit` takes them, everything else takes Chunks.sample()"
        )

    # -- from blocks to chunks --------------------------------------------------------------------

    def _parts(self) -> Iterator[Part]:
        """Blocks cut and joined to `rows` rows each, but for the last; floats of one dtype."""
        held: list[Part] = []
        count, structure = 0, None
        for part in _numeric(self.source.blocks(self.rows), self.dtype):
            own = jax.tree.map(lambda a: a.shape[1:], part)
            if structure is not None and own != structure:
                raise ValueError(f"source: blocks of different form: {structure} and {own}")
            structure = own
            n = length(part)
            if count == 0 and n == self.rows:
                yield part
                continue
            held, count = [*held, part], count + n
            if count >= self.rows:
                joined = held[0] if len(held) == 1 else _join(held)
                for first in range(0, count - count % self.rows, self.rows):
                    yield _cut(joined, slice(first, first + self.rows))
                count %= self.rows
                held = [_cut(joined, slice(length(joined) - count, None))] if count else []
        if count:
            yield _join(held)

    def _weight(self, part: Part) -> np.ndarray:
        """As Batch.of sees it: 0 too where nothing was observed."""
        n = length(part)
        weight = np.asarray(part.get("weight", np.ones(n)), self.dtype)
        masks = jax.tree.leaves(part.get("mask"))
        if self.missing and not masks:
            masks = [~np.isnan(a) for a in jax.tree.leaves(part["x"])]
        if not masks:
            return weight
        some = np.any([np.asarray(m).reshape(n, -1).any(1) for m in masks], 0)
        return np.where(some, weight, 0.0).astype(self.dtype)

    def _batch(self, part: Part, first: int, rows: int) -> Batch | None:
        """Checked, filled up to `rows` rows, and sent to the device; None without any weight."""
        n = length(part)
        weight = self._weight(part)
        if not weight.any():
            return None
        _check_finite(part, weight, first, self.missing)
        part = part | {"weight": weight}
        if n < rows:
            part = jax.tree.map(lambda a: _pad(a, rows - n), part)
            part["weight"][n:] = 0.0
        given = {name: part.get(name) for name in ("weight", "mask", "noise", "label")}
        try:
            batch = Batch.of(part["x"], missing=self.missing, **given)
        except (TypeError, ValueError) as error:
            raise type(error)(f"rows {first} to {first + n - 1}: {error}") from None
        # the patterns of missing entries differ from chunk to chunk, and so would the programs
        return replace(batch, group=None, patterns=None, names=self.names)


def _floats() -> int:
    return _CPU_FLOATS if jax.default_backend() == "cpu" else _DEVICE_FLOATS


def _numeric(blocks: Iterator[Part], dtype: Any = None) -> Iterator[Part]:
    """Blocks that have rows, with floats in NumPy."""
    for part in blocks:
        if length(part) == 0:
            continue
        x = part["x"]
        if any(getattr(a, "dtype", None) != dtype for a in jax.tree.leaves(x)):
            x = as_numbers(x)
        wanted = dtype or common_dtype(*jax.tree.leaves(x))
        cast = jax.tree.map(lambda a, to=wanted: np.asarray(a).astype(to, copy=False), x)
        yield part | {"x": cast}


def _join(parts: list[Part]) -> Part:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _cut(part: Part, rows: Any) -> Part:
    return jax.tree.map(lambda a: a[rows], part)


def _pad(a: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([a, np.broadcast_to(a[-1:], (count, *a.shape[1:]))])


def _luckiest(
    kept: list[Part], luck: np.ndarray, part: Part, drawn: np.ndarray, size: int
) -> tuple[list[Part], np.ndarray]:
    """The `size` rows of the smallest draws so far, in their order."""
    bound = np.inf if len(luck) < size else luck.max()
    new = np.flatnonzero(drawn < bound)
    if not len(new):
        return kept, luck
    joined = _join([*kept, _cut(part, new)])
    luck = np.concatenate([luck, drawn[new]])
    if len(luck) > size:
        best = np.sort(np.argpartition(luck, size)[:size])
        joined, luck = _cut(joined, best), luck[best]
    return [joined], luck


def _check_finite(part: Part, weight: np.ndarray, first: int, missing: bool) -> None:
    x, mask = part["x"], part.get("mask")
    named = x if isinstance(x, dict) else {"": x}
    for name, a in named.items():
        if np.isfinite(a).all():
            continue
        bad = np.isinf(a) if missing else ~np.isfinite(a)
        seen = mask[name] if isinstance(mask, dict) else mask
        bad = bad if seen is None else bad & seen
        bad = bad.reshape(len(a), -1) & (weight > 0)[:, None]
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise ValueError(
                f"{f'x[{name!r}]' if name else 'x'}: NaN or infinite entries, the first in row "
                f"{first + row}, column {column}; remove these rows, give them weight 0, or "
                "declare NaN missing with Chunks.of(..., missing=True)"
            )
