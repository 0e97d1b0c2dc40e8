"""CSV files as people have them: numeric and coded columns, or an error that says what to do.

Messages name options of the command line, `python -m vijax`. Nothing is guessed in silence: a line
is left out only if it is blank or a comment, and other encodings than UTF-8 are noted.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .csv_cells import CsvError, Spelling, codes, numbers

_LISTED = 12  # names of columns in a message


@dataclass(frozen=True)
class CsvFormat(Spelling):
    """How a file is written; the other arguments are those of `Spelling`.

    Args:
        sep: Separator, one character; `" "` is any run of blanks. None is a tab for names in
            .tsv or .tab, a semicolon beside decimal commas, and otherwise a comma.
        encoding: None is UTF-8, or UTF-16 if the file says so, or else latin-1.
        comment: What comment lines begin with, "" for none. None leaves out lines that begin with
            "#" before the header, and only those.
        header: Whether the first line names the columns; otherwise they are x0, x1, ...
    """

    sep: str | None = None
    encoding: str | None = None
    comment: str | None = None
    header: bool = True

    def __post_init__(self) -> None:
        if self.decimal not in (".", ","):
            raise CsvError(f"decimal: expected '.' or ',', got {self.decimal!r}")
        if self.sep is not None and (len(self.sep) != 1 or self.sep in '"\r\n' + Spelling().digits):
            raise CsvError(
                f"sep: expected one character that no number has, such as ';', got {self.sep!r}"
            )
        try:
            codecs.lookup(self.encoding or "utf-8")
        except LookupError:
            raise CsvError(f"encoding: {self.encoding!r} is not known") from None


@dataclass(frozen=True)
class CsvTable:
    """Columns (n,) of float64 by name, NaN where missing.

    `levels` are the texts that the codes 0, 1, ... of a categorical column stand for; `notes` are
    lines about what was assumed or left out.
    """

    columns: dict[str, np.ndarray]
    levels: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_csv(
    path: str,
    form: CsvFormat = CsvFormat(),
    *,
    columns: list[str] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> CsvTable:
    """Read columns of a CSV file, which may be compressed by gzip.

    Raises CsvError naming the file, and the line or the column and row; rows count from 1.

    Args:
        path: The file; "-" is standard input.
        form: How it is written.
        columns: Names of the columns to read; None reads all, each of which must be numeric.
        kinds: What a column holds, by name. "categorical": levels, coded in sorted order;
            "bernoulli": 0 and 1, or false and true; "poisson", "geometric" and "exponential":
            their numbers. All others hold any finite numbers.
    """
    name = "standard input" if path == "-" else path
    kinds = kinds or {}
    try:
        text, notes = _decoded(_bytes_of(path), form.encoding)
        names, chosen, cells = _chosen_cells(text, path, form, columns, notes)
        unused = [column for column in kinds if column not in chosen]
        if unused:
            raise CsvError(f"no column {unused[0]!r} to be {kinds[unused[0]]}; {_list(chosen)}")
        table = CsvTable({}, {}, notes)
        for column, own in zip(chosen, cells, strict=True):
            if kinds.get(column) == "categorical":
                table.columns[column], table.levels[column] = codes(column, own, form)
            else:
                given = {"kind": kinds.get(column), "hint": _hint(names, own)}
                table.columns[column] = numbers(column, own, form, **given)
    except CsvError as error:
        raise CsvError(f"{name}: {error}") from None
    return table


# -- from bytes to cells --------------------------------------------------------------------------


def _bytes_of(path: str) -> bytes:
    if path == "-" and sys.stdin is None:
        raise CsvError("cannot be read as CSV: it is closed")
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CsvError(f"cannot be read as CSV: {reason}") from None


def _decoded(data: bytes, encoding: str | None) -> tuple[str, list[str]]:
    """The text, without the mark that some programs begin it with, and a note."""
    notes = []
    if encoding is None:
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        encoding = "utf-16" if wide else "utf-8"
        if not wide and not _is_utf8(data):
            encoding = "latin-1"
            notes = ["not UTF-8, so read as latin-1; --encoding names another encoding"]
    try:
        text = data.decode(encoding)
    except (UnicodeError, LookupError) as error:  # LookupError: a codec that is not of text
        raise CsvError(f"cannot be read as CSV: not {encoding}: {error}") from None
    if "\0" in text:
        raise CsvError("cannot be read as CSV: not a text file, or one in another --encoding")
    return text.removeprefix("\ufeff"), notes


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


class _Lines:
    """The lines of a text for `csv.reader`, without those between records that hold none.

    `between` is set by the reader of records after each, so that a quoted cell may hold lines that
    are empty or look like a comment. `start` is the line that the record began in.
    """

    def __init__(self, text: str, comment: str | None, blanks: bool):
        self.text, self.blanks = text, blanks
        self.comment, self.everywhere = ("#", False) if comment is None else (comment, True)
        self.between, self.start = True, 0
        self.skipped: list[int] = []

    def __iter__(self) -> Iterator[str]:
        for number, line in enumerate(io.StringIO(self.text, newline=""), 1):
            if self.between and self._is_comment(line):
                self.skipped.append(number)
                continue
            if self.between and not line.strip(" \r\n"):
                continue
            if self.between:
                self.between, self.start = False, number
            yield line.replace("\t", " ").strip() + "\n" if self.blanks else line

    def _is_comment(self, line: str) -> bool:
        wanted = self.comment and (self.everywhere or not self.start)
        return bool(wanted) and line.lstrip().startswith(self.comment)


def _records(lines: _Lines, sep: str) -> Iterator[list[str]]:
    reader = csv.reader(lines, delimiter=sep, skipinitialspace=True, strict=True)
    try:
        for record in reader:
            lines.between = True
            yield [cell.strip() for cell in record]
    except csv.Error as error:
        raise CsvError(f"cannot be read as CSV: line {lines.start}: {error}") from None


def _chosen_cells(
    text: str, path: str, form: CsvFormat, columns: list[str] | None, notes: list[str]
) -> tuple[list[str], list[str], list[list[str]]]:
    """Names of all columns, names of those that are read, and the cells of each of these."""
    sep = form.sep or _default_sep(path, form)
    lines = _Lines(text, form.comment, sep == " ")
    records = _records(lines, sep)
    first = next(records, None)
    if first is None:
        raise CsvError("no column: the file is empty")
    names = [" ".join(name.split()) for name in first]  # a spreadsheet breaks long names
    if not form.header:
        names = [f"x{j}" for j in range(len(first))]
    elif columns is None:
        _check_header(names, form, lines)
    chosen = names if columns is None else [" ".join(name.split()) for name in columns]
    _check_names(names, chosen, _hint(names, names))
    index = [names.index(name) for name in chosen]
    cells: list[list[str]] = [[] for _ in index]

    def add(record: list[str]) -> None:
        for column, j in zip(cells, index, strict=True):
            column.append(record[j])

    count = 0
    if not form.header:
        add(first)
        count = 1
    for record in records:
        count += 1
        if len(record) != len(names):
            wide = f"the header {len(names)}" if form.header else f"the first row {len(names)}"
            message = f"line {lines.start}: row {count} has {len(record)} cells, {wide}"
            raise CsvError(message + _hint(names, record) + _comment_hint(record))
        add(record)
    if count < 2:
        below = " below the header" if form.header else ""
        raise CsvError(f"needs at least two rows{below}, found {count}")
    if lines.skipped:
        notes.append(f"comment lines left out: {len(lines.skipped)}")
    return names, chosen, cells


def _default_sep(path: str, form: CsvFormat) -> str:
    if path.lower().removesuffix(".gz").endswith((".tsv", ".tab")):
        return "\t"
    return ";" if form.decimal == "," else ","


def _check_header(names: list[str], form: CsvFormat, lines: _Lines) -> None:
    first = next((name for name in names if form.number(name) is not None), None)
    if first is None:
        return
    comment = ""
    if lines.skipped:
        comment = f"; line {lines.skipped[-1]} was left out as a comment, --comment '' reads it"
    raise CsvError(
        f"the header holds numbers ({first!r}): with --no-header it is the first row, "
        f"and columns are x0, x1, ...; numbers that are names go into --columns{comment}"
    )


def _check_names(names: list[str], chosen: list[str], hint: str) -> None:
    """Raise CsvError unless every chosen name is that of exactly one column."""
    for name in chosen:
        if name not in names:
            raise CsvError(f"no column {name!r}; {_list(names)}{hint}")
        if names.count(name) > 1 and name:
            raise CsvError(f"more than one column is called {name!r}")
        if not name:
            number = names.index(name) + 1
            raise CsvError(f"column {number} has no name; name those to use with --columns")
        if chosen.count(name) > 1:
            raise CsvError(f"--columns has {name!r} more than once")


def _list(names: list[str]) -> str:
    more = f", ... ({len(names)} columns)" if len(names) > _LISTED else ""
    return f"it has {', '.join(names[:_LISTED])}{more}"


def _hint(names: list[str], cells: list[str]) -> str:
    """What to say if the whole header was taken for one name."""
    for sep in ";,\t| " if len(names) == 1 else "":
        if sep in names[0] and any(sep in cell for cell in cells):
            return f"; is it --sep {'tab' if sep == chr(9) else repr(sep)}?"
    return ""


def _comment_hint(record: list[str]) -> str:
    return "; --comment '#' leaves out such lines" if record[0].startswith("#") else ""
