"""Layout of the text of summaries, of tables in notebooks, and of short forms of objects."""

import dataclasses
import html
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_LONGEST = 120  # characters of the short form of an object


@dataclasses.dataclass(frozen=True)
class Overview:
    """Lines of text, and below them a column of cells for each of `head`, with labelled rows."""

    lines: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    corner: str = "component"

    def below(self, lines: Sequence[str]) -> "Overview":
        """The same table with more lines above it."""
        return dataclasses.replace(self, lines=[*lines, *self.lines])

    def text(self) -> str:
        """The table as text."""
        return "\n".join([*self.lines, *columns(list(self.head), self.rows, self.corner)])

    def html(self) -> str:
        """The table in HTML for a notebook, a row for each of `head`; all text is escaped."""
        parts = [f"<p>{'<br>'.join(map(html.escape, self.lines))}</p>"] if self.lines else []
        if self.head:
            cells = zip(*self.rows.values(), strict=True)
            body = [_row(label, "td", row) for label, row in zip(self.head, cells, strict=True)]
            head = _row(self.corner, "th", self.rows)
            parts.append(f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>")
        return f"<div>{''.join(parts)}</div>"


@runtime_checkable
class Described(Protocol):
    """What can show itself as a table."""

    def overview(self, *, point: bool = False, **options: Any) -> Overview:
        """The table, for notebooks."""
        ...


def _row(label: str, tag: str, cells: Iterable[str]) -> str:
    shown = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f"<tr><th>{html.escape(label)}</th>{shown}</tr>"


def estimates(**rows: tuple[Any, Any]) -> str:
    """One line for each parameter: its name, its mean and its standard deviation."""
    width = max(len(name) for name in rows)
    lines = [f"{name:{width}}  {float(m):.4g} ± {float(sd):.4g}" for name, (m, sd) in rows.items()]
    return "\n".join(lines)


def table_of_estimates(**rows: tuple[Any, Any]) -> Overview:
    """The same as a table."""
    means = [f"{float(m):.4g}" for m, _ in rows.values()]
    sds = [f"{float(sd):.4g}" for _, sd in rows.values()]
    return Overview((), list(rows), {"mean": means, "sd": sds}, corner="")


def columns(
    head: list[str], rows: dict[str, list[str]], corner: str = "component", per_block: int = 6
) -> list[str]:
    """Lines of a table with labelled rows, in blocks of at most `per_block` columns."""
    label_width = max(len(label) for label in [corner, *rows])
    width = max([len(h) for h in head] + [len(c) for row in rows.values() for c in row], default=1)
    lines = []
    for i in range(0, len(head), per_block):
        for label, cells in {corner: head, **rows}.items():
            shown = "  ".join(c.rjust(width) for c in cells[i : i + per_block])
            lines.append(f"{label.ljust(label_width)}  {shown}")
        lines.append("")
    return lines[:-1]


# -- short forms ----------------------------------------------------------------------------------


def short(obj: Any) -> str:
    """A dataclass in one short line: numbers as they are, arrays by dtype and shape.

    Fields that are None by default, and are, are left out. It reads no tracer.
    """
    name = type(obj).__name__
    fields = {
        field.metadata.get("shown", field.name): getattr(obj, field.name, None)
        for field in dataclasses.fields(obj)
        if field.default is not None or getattr(obj, field.name, None) is not None
    }
    for form in (_full, _brief):
        line = f"{name}({', '.join(f'{label}={form(v)}' for label, v in fields.items())})"
        if len(line) <= _LONGEST:
            return line
    return f"{name}(...)"


def count(number: int, what: str) -> str:
    """A number of things in words: "1 column", "3 columns"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _full(value: Any) -> str:
    return _form(value, _full, repr)


def _brief(value: Any) -> str:
    return _form(value, lambda _: "...", lambda obj: f"{type(obj).__name__}(...)")


def _form(value: Any, item: Callable[[Any], str], inner: Callable[[Any], str]) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _array(value)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {item(v)}' for key, v in value.items())}}}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return inner(value)
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return repr(value)


def _array(a: Any) -> str:
    """The value of a single number that is here, dtype and shape of any other array."""
    held = isinstance(a, np.ndarray | np.generic) or (
        isinstance(a, jax.Array)
        and not isinstance(a, Tracer)
        and not jnp.issubdtype(a.dtype, jax.dtypes.extended)
        and not a.is_deleted()
        and a.is_fully_addressable
    )
    if a.shape == () and held:
        number = np.asarray(jax.device_get(a)).item()
        return f"{number:.6g}" if isinstance(number, float) else str(number)
    return f"{a.dtype}[{','.join(map(str, a.shape))}]"
