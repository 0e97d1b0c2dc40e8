"""What criticism shows: lines, and a table with a row for each entry of a pytree."""

from __future__ import annotations

import abc
from typing import Any

import jax
import numpy as np

from .._text import Overview
from ..data.host import fetched, readable, unguarded


def labels_of(tree: Any) -> list[str]:
    """A label for each entry of the arrays of a pytree, such as "slope" or "level[2]"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        (jax.tree_util.keystr(path, simple=True, separator=".") or "theta")
        + "".join(f"[{i}]" for i in index)
        for path, leaf in leaves
        for index in np.ndindex(np.shape(leaf))
    ]


def values_of(tree: Any) -> np.ndarray:
    """All entries of the arrays of a pytree, in the order of `labels_of`."""
    return np.concatenate([np.ravel(fetched(leaf)) for leaf in jax.tree.leaves(tree)])


def text_of(table: Overview) -> str:
    """A table with a row of text for each of `head`, which suits many entries."""
    if not table.head:
        return "\n".join(table.lines)
    width = max(map(len, [table.corner, *table.head]))
    sizes = {name: max([len(name), *map(len, cells)]) for name, cells in table.rows.items()}
    heads = "  ".join(name.rjust(size) for name, size in sizes.items())
    lines = [*table.lines, f"{table.corner:{width}}  {heads}"]
    for i, label in enumerate(table.head):
        cells = "  ".join(table.rows[name][i].rjust(size) for name, size in sizes.items())
        lines.append(f"{label:{width}}  {cells}")
    return "\n".join(lines)


class Finding(abc.ABC):
    """A result that shows itself as lines of text, and mostly a table below them."""

    @abc.abstractmethod
    def _lines(self) -> list[str]:
        """What it says, of concrete values."""

    def _table(self) -> Overview:
        """The lines and the table; without one by default."""
        return Overview(self._lines())

    def summary(self) -> str:
        """All that it says, as text."""
        with unguarded():
            return text_of(self._table())

    def __repr__(self) -> str:
        if not readable(self):
            return f"{type(self).__name__}(traced)"
        with unguarded():
            return f"{type(self).__name__}({self._lines()[0]})"

    def _repr_html_(self) -> str:
        if not readable(self):
            return Overview([repr(self)]).html()
        with unguarded():
            return self._table().html()
