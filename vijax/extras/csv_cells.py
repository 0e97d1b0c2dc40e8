"""Cells of a CSV file as numbers or codes; a cell is a number only if it is one in ASCII digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import numpy as np

_MISSING = {"", "na", "n/a", "#n/a", "nan", "-nan", "null", "<na>"}  # in any case
_INFINITE = {"inf", "infinity"}
_TRUTH = {"false": "0", "true": "1"}  # as pandas and R write flags
_SHOWN = 40  # characters of a cell in a message

_Valid = Callable[[float], bool]
_TAKES: dict[str, tuple[str, _Valid]] = {  # the numbers of a kind of column
    "poisson": ("counts 0, 1, 2, ...", lambda v: v >= 0 and v == round(v)),
    "geometric": ("counts 0, 1, 2, ...", lambda v: v >= 0 and v == round(v)),
    "exponential": ("numbers >= 0", lambda v: v >= 0),
    "bernoulli": ("0 and 1, or false and true", lambda v: v in (0.0, 1.0)),
}


class CsvError(ValueError):
    """A file that cannot be used, in one line: where, why, and what to do."""


@dataclass(frozen=True)
class Spelling:
    """How numbers and missing entries are written.

    Args:
        decimal: The decimal mark, "." or ",".
        missing: Whether empty cells, NA, N/A, NaN and null are missing entries.
        na: Further cells that are missing entries; a number matches cells of the same value.
    """

    decimal: str = "."
    missing: bool = False
    na: tuple[str, ...] = ()

    @property
    def may_miss(self) -> bool:
        """Whether entries may be missing."""
        return self.missing or bool(self.na)

    @property
    def digits(self) -> str:
        """The characters of a number."""
        return "0123456789+-eE" + self.decimal

    def number(self, cell: str) -> float | None:
        """The number of a cell, infinite if too large; None for other text.

        Python's `float` alone takes 1_000, digits of any script, nan and infinity for numbers.
        """
        if not cell or cell.strip(self.digits):
            return None
        try:
            return float(cell.replace(self.decimal, "."))
        except ValueError:
            return None

    def numbers(self, cells: list[str]) -> np.ndarray | None:
        """All cells at once, None unless each is a finite number: the fast way for most columns."""
        if "".join(cells).strip(self.digits):
            return None
        try:
            values = np.array([float(cell.replace(self.decimal, ".")) for cell in cells])
        except ValueError:
            return None
        return values if np.isfinite(values).all() else None

    def is_missing(self, cell: str) -> bool:
        """Whether a cell says that there is no entry, declared or not."""
        if cell.lower() in _MISSING or cell in self.na:
            return True
        return bool(self._na_values) and self.number(cell) in self._na_values

    @cached_property
    def _na_values(self) -> set[float]:
        values = (self.number(token) for token in self.na)
        return {value for value in values if value is not None}


def numbers(
    name: str, cells: list[str], spelling: Spelling, *, kind: str | None = None, hint: str = ""
) -> np.ndarray:
    """The numbers (n,) of a column in float64, NaN where missing.

    Raises CsvError for a cell that holds none, or none of this kind of column, and for a column
    without an entry; `hint` ends the message about text.
    """
    plain = None if kind in _TAKES or spelling.na else spelling.numbers(cells)
    if plain is not None:
        return plain
    values = np.empty(len(cells))
    takes, valid = _TAKES.get(kind or "", ("", None))
    for i, cell in enumerate(cells):
        text = _TRUTH.get(cell.lower(), cell) if kind == "bernoulli" else cell
        value = spelling.number(text)
        if value is None or spelling.na:
            missing = spelling.is_missing(cell)
            if value is None and not missing and cell.lstrip("+-").lower() not in _INFINITE:
                raise CsvError(
                    f"column {name!r} holds text ({_shown(cell)} in row {i + 1}); choose numeric "
                    "columns with --columns, or say --kinds NAME=categorical"
                    f"{hint or _decimal_hint(cell, spelling)}"
                )
            value = np.nan if missing and spelling.may_miss else value
        if value is None or np.isinf(value):
            _refuse_entry(name, "finite number", i, cell)
        if valid is not None and not np.isnan(value) and not valid(value):
            raise CsvError(
                f"column {name!r} is {kind}, which takes {takes}, not {_shown(cell)} in row {i + 1}"
            )
        values[i] = value
    _check_some(name, bool(np.isfinite(values).any()))
    return values


def codes(name: str, cells: list[str], spelling: Spelling) -> tuple[np.ndarray, list[str]]:
    """Codes (n,) of a column's levels in float64, NaN where missing, and the levels in order.

    Levels are texts, in the order of their values if all are numbers. Raises CsvError for a missing
    level that was not declared, and for a column without an entry.
    """
    present = {cell for cell in cells if not spelling.is_missing(cell)}
    if not spelling.may_miss:
        for i, cell in enumerate(cells):
            if cell not in present:
                _refuse_entry(name, "level", i, cell)
    _check_some(name, bool(present))
    values = {cell: spelling.number(cell) for cell in present}
    known = {cell: value for cell, value in values.items() if value is not None}
    levels = sorted(present)
    if len(known) == len(levels):
        levels.sort(key=known.__getitem__)
    code = {level: float(i) for i, level in enumerate(levels)}
    return np.array([code.get(cell, np.nan) for cell in cells]), levels


def _refuse_entry(name: str, what: str, i: int, cell: str) -> NoReturn:
    raise CsvError(
        f"column {name!r} has no {what} in row {i + 1} ({_shown(cell)}); "
        "remove the row, choose other columns with --columns, or say --missing"
    )


def _check_some(name: str, some: bool) -> None:
    if not some:
        raise CsvError(f"column {name!r} has no entry at all; leave it out with --columns")


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= _SHOWN else cell[:_SHOWN] + "...")


def _decimal_hint(cell: str, spelling: Spelling) -> str:
    other = "," if spelling.decimal == "." else "."
    known = Spelling(decimal=other).number(cell) is not None
    return f"; or say --decimal {other}" if known else ""
