"""The columns of a Batch by their names: as a dict, and in the order of a model."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from .._pytree import replace
from . import levels as coding
from .documents import lists_words
from .exposure import exposure_by_name
from .host import fetched, is_concrete

# what the columns of a table do not share
_OWN = dict.fromkeys(("noise", "group", "patterns", "names", "as_given"))


def column(rows: Any, name: str) -> Any:
    """One column of a Batch of a dict; see `Batch.column`."""
    x, mask = rows.x[name], None if rows.mask is None else rows.mask[name]
    if x.ndim == (1 if rows.steps is None else 2):
        x, mask = x[..., None], None if mask is None else mask[..., None]
    own = {"x": x, "mask": mask, "levels": coding.of_column(rows.levels, name)}
    exposure = None if rows.exposure is None else rows.exposure.get(name)
    return replace(rows, **_OWN, **own, exposure=exposure)


def by_name(rows: Any) -> Any:
    """A Batch of a data frame with its columns as a dict; see `Batch.by_name`."""
    names = rows.names
    if names is None or isinstance(rows.x, dict):
        return rows
    if len(set(names)) < len(names):
        raise ValueError(f"x: columns of the same name: {', '.join(names)}")
    if rows.noise is not None:
        raise ValueError("noise: a table of columns takes none")
    if lists_words(rows):
        raise ValueError("x: lists of words are no table of columns; give Batch.documents dense")
    parts: dict[str, Any] = {
        field: None if value is None else {name: value[..., j] for j, name in enumerate(names)}
        for field, value in (("x", rows.x), ("mask", rows.mask))
    }
    parts["exposure"] = exposure_by_name(rows.exposure, names)
    parts["levels"] = coding.by_name(rows.levels, names)
    given = None if rows.as_given is None else by_name(rows.as_given)
    return replace(rows, **_OWN | parts | {"as_given": given})


def in_order(rows: Any, names: tuple[str, ...] | None) -> Any:
    """A Batch with its columns in the order of these names; see `Batch.in_order`."""
    own = rows.names
    if names is None or own is None or own == names or isinstance(rows.x, dict):
        return rows
    if lists_words(rows):
        return _renumbered(rows, names)
    index = _order(own, names)
    mask, noise, patterns, exposure = rows.mask, rows.noise, rows.patterns, rows.exposure
    parts = {"x": rows.x[..., index]}
    parts["mask"] = None if mask is None else mask[..., index]
    parts["noise"] = None if noise is None else noise[..., index, :][..., index]
    parts["patterns"] = None if patterns is None else patterns[..., index]
    if exposure is not None and not isinstance(exposure, dict) and exposure.shape[-1] > 1:
        parts["exposure"] = exposure[..., index]
    given = None if rows.as_given is None else in_order(rows.as_given, names)
    levels = None if rows.levels is None else tuple(rows.levels[j] for j in index)
    return replace(rows, **parts, names=names, levels=levels, as_given=given)


def _order(own: tuple[str, ...], names: tuple[str, ...]) -> np.ndarray:
    """The place of each of these names among one's own; ValueError unless they are the same."""
    if len(set(own)) < len(own) or set(own) != set(names):
        missing = [name for name in names if name not in own]
        more = [name for name in own if name not in names]
        found = f"no column {missing[0]!r}" if missing else f"columns {', '.join(own)}"
        found = f"column {more[0]!r} is unknown" if more and not missing else found
        raise ValueError(f"x: {found}; the model was made for columns {', '.join(names)}")
    return np.array([own.index(name) for name in names])


def _renumbered(rows: Any, names: tuple[str, ...]) -> Any:
    """Lists of words with the numbers that these have among the names."""
    number = {name: j for j, name in enumerate(names)}
    unknown = [name for name in rows.names if name not in number]
    if unknown:
        raise ValueError(
            f"x: the word {unknown[0]!r} is unknown; the model was made for {len(names)} others"
        )
    table = np.array([number[name] for name in rows.names], np.int32)
    given = None if rows.as_given is None else in_order(rows.as_given, names)
    x = table[fetched(rows.x)] if is_concrete(rows.x) else jax.numpy.asarray(table)[rows.x]
    if isinstance(rows.x, jax.Array) and not isinstance(x, jax.Array):
        x = jax.device_put(x, rows.x.sharding if rows.x.committed else None)
    return replace(rows, x=x, names=names, as_given=given)
