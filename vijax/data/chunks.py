"""Rows that stay on the host and reach the device in chunks of one shape."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from .._pytree import replace
from .._text import count
from .batch import Batch
from .documents import is_whole
from .exposure import exposure_by_column, exposure_by_name
from .host import (
    as_weights,
    check_bound,
    check_integer,
    check_total,
    common_dtype,
    to_device,
)
from .levels import BatchLevels
from .padding import with_steps
from .reader import label
from .shards import on_cpu, platform_of
from .sources import (
    OPTIONAL,
    Part,
    Source,
    as_numbers,
    has_text,
    length,
    levels_of_blocks,
    open_source,
)

_CPU_FLOATS = 2**20  # in a chunk; two chunks are on the device at a time
_DEVICE_FLOATS = 2**24
_LEAST_ROWS = 1024
_SAMPLE_ROWS = 2**16
_SAMPLE_FLOATS = 2**22


@dataclasses.dataclass(frozen=True)
class Survey:
    """The result of reading all rows once: their number, total weight and a sample of them.

    Of sequences it is the total weight of their steps.
    """

    num_rows: int
    total: float
    sample: Batch


@dataclasses.dataclass(frozen=True, repr=False)
class Chunks:
    """Rows that need not fit in memory: `fit(model, Chunks.of(...))` reads them once per pass.

    Build it with `Chunks.of`. `rows` is the number of rows in a chunk; two chunks are in memory at
    a time, and the last is filled up with rows of weight 0, so that one program serves all. `dtype`
    is that of the floats, `names` are the names of the columns, if they have any, and `levels`
    what the codes of text columns stand for. If rows are sequences, all are padded to `length`
    steps.
    """

    source: Source
    rows: int
    dtype: Any
    missing: bool = False
    names: tuple[str, ...] | None = None
    levels: BatchLevels = None
    length: int | None = None

    def __repr__(self) -> str:
        n = self.source.num_rows
        rows = "rows" if n is None else count(n, "row")
        names = "" if self.names is None else f", {count(len(self.names), 'named column')}"
        dtype = np.dtype(self.dtype).name
        return f"Chunks({rows} in chunks of {self.rows}, {dtype}{names})"

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
        """Chunks of a file, a memory map, or a function that yields blocks of rows.

        `source` is one of

        - an array or memory map, rows first, that is read in slices;
        - a path: `.npy` (mapped), `.npz` (read as a stream; `columns` names one of several arrays),
          `.parquet` (through pyarrow; `columns` lists the columns, null is NaN);
        - a function without arguments, called once per pass, that yields blocks of any number of
          rows: arrays, frames, dicts of columns, or Batches with their weights, masks, labels and
          exposure; or a list of such blocks. Batches may be of sequences or documents.

        `weight` is an array (n,), the path of one, or the name of an array or column in the same
        file. `chunk` is the number of rows in a chunk; by default a chunk has 2^20 numbers (2^24 on
        an accelerator). With `missing=True`, NaN is a missing entry. The first block fixes the
        dtype and the form of all blocks. If a frame or a dict has text columns, all rows are read
        once for their levels, and sequences for the longest.

        Chunks can be pickled if their source can: files go by their paths, arrays whole, functions
        if they are defined in a module. Raises TypeError and ValueError that name the argument,
        OSError for files that cannot be read, ImportError for parquet without pyarrow.

        Example: `chunks = vx.Chunks.of(np.ones((100, 2)), chunk=30)`
        """
        if chunk is not None:
            check_integer("chunk", chunk)
            check_bound("chunk", chunk, least=1.0)
        opened = open_source(source, weight, columns)
        blocks, levels = opened.blocks(_LEAST_ROWS), None
        head = list(itertools.islice(blocks, 1))
        if head and has_text(head[0]):
            levels = levels_of_blocks(opened.blocks(_LEAST_ROWS))
        first = next(_numeric(itertools.chain(head, blocks), missing, levels=levels), None)
        if first is None:
            raise ValueError("source: there are no rows")
        size = sum(a.size // a.shape[0] for a in jax.tree.leaves(first["x"]))
        least, longest = _LEAST_ROWS, None
        if "steps" in first:
            longest = max(_num_steps(part) for part in opened.blocks(_LEAST_ROWS))
            least, size = 1, size // _num_steps(first) * longest
        rows = chunk or max(least, _floats() // size)
        total = opened.num_rows
        if total is None:
            # count until it is known whether there is more than one chunk
            total = 0
            for part in opened.blocks(rows):
                total += length(part)
                if total > rows:
                    break
        if opened.num_rows is not None or total <= rows:
            rows = -(-total // -(-total // rows))  # the same number of chunks, about equal in size
        dtype = _dtype(first)
        return cls(opened, rows, dtype, missing, opened.names, levels, longest)

    def batches(self, num_rows: int | None = None, *, check: bool = True) -> Iterator[Batch]:
        """All rows in order, as Batches of `rows` rows, without chunks of total weight 0.

        Raises ValueError if there are not `num_rows` rows in all, and with `check` for bad values,
        naming the row counted from the first of all.
        """
        seen, ones = 0, None
        for part in self._parts():
            first, seen = seen, seen + length(part)
            if num_rows is not None and seen > num_rows:
                break
            if not check and set(part) == {"x"} and not self.missing and seen - first == self.rows:
                ones = to_device(np.ones(self.rows, self.dtype)) if ones is None else ones
                x = jax.tree.map(to_device, part["x"])
                place = {"names": self.names, "levels": self.levels}
                # as of other chunks, which Batch.of makes: all run the same programs
                yield Batch(x, ones, **place, platform=platform_of(ones))
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
        """Read and check all rows once, on the host, calling `look` with every chunk.

        The sample holds at most 65,536 rows in their order, fewer if there are many columns. If
        there are more, it is drawn at random from the rows of positive weight, the same at every
        call, and its weights are scaled to the total of all rows.
        """
        rng = np.random.default_rng(0)
        kept: list[Part] = []
        luck = np.zeros(0)
        seen, total, size = 0, 0.0, _SAMPLE_ROWS
        for part in self._parts():
            n = length(part)
            batch = self._batch(part, seen, self.rows)
            if batch is not None:
                try:
                    look(batch)
                except (TypeError, ValueError) as error:
                    raise type(error)(f"rows {seen} to {seen + n - 1}: {error}") from None
            weight = self._weight(part)
            total += _total(part, weight)
            floats = sum(a.size // n for a in jax.tree.leaves(part["x"]))
            least = _LEAST_ROWS if self.length is None else 1
            size = max(least, min(_SAMPLE_ROWS, _SAMPLE_FLOATS // floats))
            drawn = np.where(weight > 0, rng.random(n), 2.0)  # rows of weight 0 come last
            kept, luck = _luckiest(kept, luck, part | {"weight": weight}, drawn, size)
            seen += n
        if not total > 0:
            raise ValueError("source: no row of positive weight has an observed entry")
        check_total("weight", total, self.dtype)
        part = kept[0]
        sampled = _total(part, part["weight"])
        if len(luck) < seen:
            part = part | {"weight": (part["weight"] * (total / sampled)).astype(self.dtype)}
        sample = self._batch(part, 0, len(luck))
        assert sample is not None  # its rows have positive weight
        return Survey(seen, total, sample)

    def sample(self) -> Batch:
        """A sample of the rows in memory, as of `survey`: for priors and for a first look."""
        return self.survey().sample

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError(
            "Chunks are not one array; `fit` takes them, everything else takes Chunks.sample()"
        )

    # -- from blocks to chunks --------------------------------------------------------------------

    def _parts(self) -> Iterator[Part]:
        """Blocks cut and joined to `rows` rows each, the last one shorter; floats of one dtype."""
        held: list[Part] = []
        count, structure = 0, None
        blocks = self.source.blocks(self.rows)
        for part in _numeric(blocks, self.missing, self.dtype, self.levels):
            if self.length is not None:
                part = _with_steps(part, self.length)
            shapes = jax.tree.map(lambda a: a.shape[1:], part)
            if structure is not None and shapes != structure:
                raise ValueError(f"source: blocks of different form: {structure} and {shapes}")
            structure = shapes
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
        """The weights as Batch.of makes them: 0 also for rows without any observed entry."""
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
        """The part checked, filled up to `rows` rows, on the device; None if its weight is 0."""
        n = length(part)
        weight = self._weight(part)
        if not weight.any():
            return None
        if self.length is None:
            _check_finite(part, weight, first, self.missing, self.names)
        part = part | {"weight": weight}
        if n < rows:
            part = jax.tree.map(lambda a: _pad(a, rows - n), part)
            part["weight"][n:] = 0.0
        given = {name: part.get(name) for name in OPTIONAL}
        named = given["exposure"]
        if not isinstance(part["x"], dict):
            given["exposure"] = exposure_by_column(named, self.names)
        try:
            if self.length is None:
                batch = Batch.of(part["x"], missing=self.missing, **given)
            else:
                batch = Batch.of(Batch(**{**given, "x": part["x"], "steps": part["steps"]}))
        except (TypeError, ValueError) as error:
            raise type(error)(f"rows {first} to {first + n - 1}: {error}") from None
        # patterns of missing entries differ between chunks, and each would compile a new program
        place = {"names": self.names, "levels": self.levels}
        batch = replace(batch, group=None, patterns=None, as_given=None, **place)
        if isinstance(named, dict) and self.names is not None:
            by_name = exposure_by_name(batch.exposure, self.names)
            batch = replace(batch, exposure={name: by_name[name] for name in named})
        return batch


def _floats() -> int:
    return _CPU_FLOATS if on_cpu(None) else _DEVICE_FLOATS


def _numeric(
    blocks: Iterator[Part], missing: bool, dtype: Any = None, levels: BatchLevels = None
) -> Iterator[Part]:
    """Blocks with at least one row, their values as NumPy floats."""
    last = 0
    for part in blocks:
        first, last = last, last + length(part)
        if last == first:
            continue
        x, own = part["x"], {}
        try:
            whole = "steps" in part and is_whole(x)
            if not whole and not all(_is_plain(a, dtype) for a in jax.tree.leaves(x)):
                x = as_numbers(x, missing, dtype, levels)
            wanted = dtype or _dtype(part | {"x": x})
            if "weight" in part:
                own["weight"] = np.asarray(as_weights("weight", part["weight"], wanted))
        except (TypeError, ValueError) as error:
            raise type(error)(f"rows {first} to {last - 1}: {error}") from None
        if not whole:
            own["x"] = jax.tree.map(lambda a, to=wanted: a.astype(to, copy=False), x)
        yield part | own


def _dtype(part: Part) -> Any:
    """The dtype of the floats of a block: words of documents are none."""
    return common_dtype(*jax.tree.leaves((part["x"], part.get("steps"))))


def _num_steps(part: Part) -> int:
    steps = part.get("steps")
    if steps is None:
        raise ValueError("source: all blocks need to be of sequences, or none")
    return steps.shape[1]


def _with_steps(part: Part, t: int) -> Part:
    """The block with steps that do not exist at the end of its sequences, up to t."""
    batch = with_steps(Batch(**part), t) if _num_steps(part) <= t else Batch(**part)
    return {name: getattr(batch, name) for name in part}


def _total(part: Part, weight: np.ndarray) -> float:
    """The sum of the weights of rows, or of the steps of sequences."""
    weight = weight.astype(np.float64)
    return float(np.sum(weight if "steps" not in part else weight[:, None] * part["steps"]))


def _is_plain(a: Any, dtype: Any) -> bool:
    """Whether these are floats of this dtype that need no reading."""
    plain = isinstance(a, np.ndarray) and not isinstance(a, np.ma.MaskedArray)
    return plain and dtype is not None and a.dtype == dtype


def _join(parts: list[Part]) -> Part:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _cut(part: Part, rows: Any) -> Part:
    return jax.tree.map(lambda a: a[rows], part)


def _pad(a: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([a, np.broadcast_to(a[-1:], (count, *a.shape[1:]))])


def _luckiest(
    kept: list[Part], luck: np.ndarray, part: Part, drawn: np.ndarray, size: int
) -> tuple[list[Part], np.ndarray]:
    """The `size` rows with the smallest draws so far, in their order, and these draws."""
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


def _check_finite(
    part: Part, weight: np.ndarray, first: int, missing: bool, names: tuple[str, ...] | None
) -> None:
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
                f"{first + row}, {label(int(column), names)}; remove these rows, give them weight "
                "0, or declare NaN missing with Chunks.of(..., missing=True)"
            )
