"""Data sets of any sizes as a few stacks, padded by rows of weight 0 to powers of two.

Sequences are padded by steps that do not exist likewise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ..._pytree import replace
from ...data import levels
from ...data.batch import Batch, check_entries
from ...data.host import as_floats, column_names, common_dtype, fetched, is_concrete
from ...data.padding import with_steps
from ...data.reader import by_text, read_numbers
from ...model import Model

Names = tuple[str, ...] | None

_LEAST_ROWS = 16  # of a data set of the smallest size


class Stack(NamedTuple):
    """Data sets of equal size, stacked on a leading axis m.

    `parts` are the fields of their Batch, and `number` (m,) their numbers in the order of the user.
    `rows` (m, n) is the index of each padded row among all rows of all data sets, and `size` (m,)
    the number of rows that are not padding; both are None for data that the user gave as one stack.
    Of sequences `length` (m,) is the number of steps that are not padding.
    """

    parts: dict[str, Any]
    number: np.ndarray
    rows: np.ndarray | None
    size: np.ndarray | None = None
    length: np.ndarray | None = None


class Part(NamedTuple):
    """Members of a whole: `tree[slots[j]]` is number `number[j]` in the order of the user."""

    number: np.ndarray
    slots: np.ndarray
    tree: Any


class Header(NamedTuple):
    """What the columns of all data sets have in common: names, and levels of text."""

    names: Names = None
    levels: Any = None


def in_order(datasets: Any, names: Names, model: Model | None = None) -> tuple[Any, Header]:
    """The data sets with their columns in the order of these names, texts as codes, and a header.

    Without `names` the order is that of the first data set with names. Levels are those of the
    `model` if that has some, else all that occur. Raises ValueError for other columns or levels.
    """
    if isinstance(datasets, Batch):
        return datasets, Header(datasets.names or names, datasets.levels)
    sequences = model is not None and not model.row_data
    if not isinstance(datasets, list | tuple):
        return (_of_sequences(datasets) if sequences else datasets), Header(names)
    if model is not None and sequences:
        datasets = [_named(i, model.read, item) for i, item in enumerate(datasets)]
    if model is not None and model.recodes and is_concrete(*jax.tree.leaves(datasets)):
        read, as_batch = model.read, model.as_batch
        items = [_named(i, lambda item: as_batch(read(item)), x) for i, x in enumerate(datasets)]
        return items, Header(names, items[0].levels if items else None)
    items = [
        _named(i, Batch.for_jit, item) if _is_frame(item) else item
        for i, item in enumerate(datasets)
    ]
    batches = [item for item in items if isinstance(item, Batch)]
    given = [item.names for item in batches if item.names is not None]
    if given:
        names = names or given[0]
        items = [
            _named(i, item.in_order, names) if isinstance(item, Batch) else item
            for i, item in enumerate(items)
        ]
    if any(item.levels is not None for item in batches):
        items = _of_same_levels([_named(i, Batch.for_jit, item) for i, item in enumerate(items)])
        return items, Header(names, items[0].levels)
    return (items if batches else datasets), Header(names)


def _of_sequences(x: Any) -> Batch:
    """Sequences (m, n, t, d) of equal length as a stack."""
    x = _floats("datasets", x)
    if x.ndim != 4 or x.size == 0:
        raise ValueError(
            "datasets: expected data sets, then sequences, steps and columns, (m, n, t, d), got "
            f"{x.shape}; for others, give a list"
        )
    weight: Any = np.ones(x.shape[:2], x.dtype)
    steps: Any = np.ones(x.shape[:3], x.dtype)
    return Batch(x, weight, steps=steps)


def _is_frame(item: Any) -> bool:
    """Whether an item has names, or texts in a dict."""
    if isinstance(item, Mapping):
        return any(levels.may_be_text(column) for column in item.values())
    return column_names(item) is not None


def _of_same_levels(batches: list[Batch]) -> list[Batch]:
    """The data sets with codes of the same levels, which are those of all of them."""
    if not isinstance(batches[0].x, dict):
        every = levels.common(batch.levels for batch in batches)
        return (
            batches
            if every is None
            else [_named(i, batch.coded, every) for i, batch in enumerate(batches)]
        )
    names = {name for batch in batches for name, _ in batch.levels or ()}
    found = {
        name: levels.common(levels.of_column(batch.levels, name) for batch in batches)
        for name in sorted(names)
    }
    return [_named(i, batch.columns_coded, found) for i, batch in enumerate(batches)]


def stack_by_size(datasets: Any, *, fitted: bool = True) -> tuple[list[Stack], int]:
    """The data sets in stacks of equal size, and their number.

    Raises TypeError and ValueError as `Batch.of`, but does not look at values. Those to be `fitted`
    need an observed entry each.
    """
    if isinstance(datasets, list | tuple):
        return _ragged(list(datasets), fitted), len(datasets)
    parts = _stacked(datasets)
    m = parts["weight"].shape[0]
    return [Stack(parts, np.arange(m), None)], m


def _stacked(datasets: Any) -> dict[str, Any]:
    if isinstance(datasets, Batch):
        if datasets.weight.ndim != 2:
            raise ValueError(
                "datasets: a Batch of several data sets has weight (m, n); for data sets of "
                f"their own, give a list; got weight of shape {datasets.weight.shape}"
            )
        return _fields(datasets)
    if isinstance(datasets, Mapping):
        if any(column_names(value) is not None for value in datasets.values()):
            raise TypeError(
                "datasets: a dict of data frames; a dict holds the columns (m, n) of stacked data "
                "sets, so give the frames as a list, list(datasets.values())"
            )
        datasets = by_text("datasets", datasets)
        x = {name: _floats(f"datasets[{name!r}]", value) for name, value in datasets.items()}
    else:
        x = _floats("datasets", datasets)
    leaves = jax.tree.leaves(x)
    if any(a.ndim < 2 or a.size == 0 for a in leaves) or len({a.shape[:2] for a in leaves}) != 1:
        shapes = ", ".join(str(a.shape) for a in leaves)
        raise ValueError(
            f"datasets: expected data sets, then rows, then columns, (m, n, d), got {shapes}; for "
            "data sets of different size, give a list"
        )
    dtype = common_dtype(*leaves)
    x = jax.tree.map(lambda a: a.astype(dtype), x)
    return {"x": x, "weight": np.ones(leaves[0].shape[:2], dtype)}


def _fields(batch: Batch) -> dict[str, Any]:
    """The arrays of a Batch that a fit takes, by field."""
    batch = replace(batch, as_given=None)
    arrays = [f.name for f in dataclasses.fields(batch) if not f.metadata.get("static")]
    values = {name: getattr(batch, name) for name in arrays}
    return {name: value for name, value in values.items() if value is not None}


def _floats(name: str, value: Any) -> Any:
    """`as_floats` of an array (m, n, ...), which takes the rows of all data sets together."""
    value = value if isinstance(value, jax.Array) else read_numbers(name, value)
    flat = value.reshape(-1, *value.shape[2:]) if value.ndim > 1 else value
    return as_floats(name, flat).reshape(value.shape)


def _ragged(items: list[Any], fitted: bool) -> list[Stack]:
    if not items:
        raise ValueError("datasets: an empty list")
    if not is_concrete(*jax.tree.leaves(items)):
        raise TypeError("datasets: under jit or vmap, give stacked arrays, not a list")
    lengths = _lengths(items)
    if lengths is None:
        flat, sizes = _all_rows(items, fitted)
        return _by_size(flat, sizes, np.cumsum(sizes) - sizes)
    stacks, sizes = [], np.array([item.weight.shape[0] for item in items])
    first = np.cumsum(sizes) - sizes
    padded = lengths if (lengths == lengths[0]).all() else _powers_of_two(lengths)
    for t in np.unique(padded):
        number = np.flatnonzero(padded == t)
        flat, own = _all_rows([with_steps(items[i], int(t)) for i in number], fitted)
        for stack in _by_size(flat, own, first[number], least=1):
            which = number[stack.number]
            stacks.append(stack._replace(number=which, length=lengths[which]))
    return stacks


def _by_size(
    flat: dict[str, Any], sizes: np.ndarray, first: np.ndarray, least: int = _LEAST_ROWS
) -> list[Stack]:
    """Stacks of data sets that follow one another in `flat`; `first` is where in all rows."""
    padded = np.maximum(least, _powers_of_two(sizes))
    if (sizes == sizes[0]).all():
        padded = sizes
    stacks, start = [], np.cumsum(sizes) - sizes
    for size in np.unique(padded):
        number = np.flatnonzero(padded == size)
        index = np.arange(size)
        present = index < sizes[number][:, None]
        # padding repeats the first row of a data set
        rows = np.where(present, index, 0)
        parts = jax.tree.map(lambda a, own=start[number][:, None] + rows: a[own], flat)
        parts["weight"] = np.where(present, parts["weight"], 0).astype(parts["weight"].dtype)
        stacks.append(Stack(parts, number, first[number][:, None] + rows, sizes[number]))
    return stacks


def _powers_of_two(sizes: np.ndarray) -> np.ndarray:
    return 1 << np.ceil(np.log2(sizes)).astype(int)


def _lengths(items: list[Any]) -> np.ndarray | None:
    """The numbers of steps of data sets of sequences; None of rows."""
    steps = [item.steps if isinstance(item, Batch) else None for item in items]
    if all(own is None for own in steps):
        return None
    if any(own is None for own in steps):
        raise ValueError("datasets: all need to be of sequences, or none")
    return np.array([own.shape[1] for own in steps if own is not None])


def _named(number: int, read: Callable[..., Any], *args: Any) -> Any:
    """`read(*args)`, whose errors name the data set."""
    try:
        return read(*args)
    except (TypeError, ValueError) as error:
        raise type(error)(f"datasets[{number}]: {error}") from None


def _checked_fields(item: Any, fitted: bool) -> dict[str, Any]:
    batch = item if isinstance(item, Batch) else Batch.of(item)
    if fitted:
        check_entries(batch)
    return _fields(batch)


def _numbers(number: int, name: str, value: Any) -> np.ndarray:
    """The numbers of a data set, or of one of its columns, in NumPy."""
    if type(value) is np.ndarray and value.dtype.kind == "f":
        return value  # the most usual form, of which there may be thousands
    if isinstance(value, jax.Array) or column_names(value) is not None:
        return np.asarray(_named(number, as_floats, name, value))
    return _named(number, read_numbers, name, value)


def _all_rows(items: list[Any], fitted: bool) -> tuple[dict[str, Any], np.ndarray]:
    """The fields of one Batch of the rows of all items, and the number of rows of each."""
    if any(isinstance(item, Batch) for item in items):
        batches = [_named(i, _checked_fields, item, fitted) for i, item in enumerate(items)]
        for batch in batches:  # patterns of missing entries are those of one data set
            batch.pop("group", None)
            batch.pop("patterns", None)
        kinds = {jax.tree.structure(batch) for batch in batches}
        if len(kinds) > 1:
            raise ValueError(
                "datasets: all need the same parts (mask, noise, label, exposure), or none"
            )
        sizes = np.array([batch["weight"].shape[0] for batch in batches])
        try:
            flat = jax.tree.map(lambda *a: np.concatenate([fetched(v) for v in a]), *batches)
        except ValueError as error:
            raise ValueError(f"datasets: of different columns: {error}") from None
        return flat, sizes
    if any(isinstance(item, Mapping) for item in items):
        if not all(isinstance(item, Mapping) for item in items):
            raise ValueError("datasets: all need to be dicts of columns, or none")
        items = [by_text("datasets", item) for item in items]
        names = {tuple(item) for item in items}
        if len(names) > 1:
            raise ValueError(f"datasets: of different columns: {sorted(names)}")
        columns = {
            name: [_numbers(i, f"x[{name!r}]", item[name]) for i, item in enumerate(items)]
            for name in items[0]
        }
        arrays = next(iter(columns.values()))
        if any([len(a) for a in own] != [len(a) for a in arrays] for own in columns.values()):
            raise ValueError("datasets: in a table, all columns must have the same length")
        x = {name: as_floats(f"x[{name!r}]", np.concatenate(a)) for name, a in columns.items()}
    else:
        arrays = [_numbers(i, "x", item) for i, item in enumerate(items)]
        shapes = {a.shape[1:] for a in arrays}
        if len(shapes) > 1 or any(a.ndim == 0 or a.size == 0 for a in arrays):
            given = ", ".join(str(a.shape) for a in arrays[:5])
            raise ValueError(f"datasets: each needs rows, and the same columns; got shapes {given}")
        x = as_floats("datasets", np.concatenate(arrays))
    sizes, dtype = np.array([len(a) for a in arrays]), common_dtype(*jax.tree.leaves(x))
    x = jax.tree.map(lambda a: a.astype(dtype, copy=False), x)
    return {"x": x, "weight": np.ones(sizes.sum(), dtype)}, sizes


# -- members of stacks ----------------------------------------------------------------------------


def pick(tree: Any, index: np.ndarray) -> Any:
    """Members `index` of the leading axis, taken on the host, where nothing is compiled."""

    def pick(leaf: Any) -> Any:
        return leaf if is_identity(index, leaf.shape[0]) else fetched(leaf)[index]

    return jax.tree.map(pick, tree)


def is_identity(index: np.ndarray, size: int) -> bool:
    """Whether the indices are those of all members, in order."""
    return len(index) == size and bool((index == np.arange(size)).all())


def join(parts: list[Part], m: int) -> Any:
    """One stack of all parts, in the order of the user."""

    def merged(*leaves: Any) -> Any:
        first = fetched(leaves[0])
        out = np.empty((m, *first.shape[1:]), first.dtype)
        for part, leaf in zip(parts, leaves, strict=True):
            out[part.number] = fetched(leaf)[part.slots]
        return out

    return jax.device_put(jax.tree.map(merged, *(part.tree for part in parts)))
