"""CSV files as they come: the right table, or one line that says where, why and what to do."""

import gzip
import io
import sys

import numpy as np
import pandas as pd
import pytest

from vijax.extras.csv_cells import CsvError
from vijax.extras.csv_table import CsvFormat, read_csv

NAN = np.nan


def case(data, expected, *, name="data.csv", columns=None, kinds=None, **form):
    """A file's bytes, how to read it, and its columns or (part of) the message."""
    data = data.encode() if isinstance(data, str) else data
    return data, name, columns, kinds, form, expected


AB = {"a": [1, 3], "b": [2, 4]}
READ = {
    "byte order mark, CRLF, blank lines": case("\ufeffa, b\r\n1,2\r\n\r\n  \r\n3, 4 \r\n\r\n", AB),
    "line ends of an old Mac": case("a,b\r1,2\r3,4", AB),
    "tabs": case("a\tb\n1\t2\n3\t4\n", AB, name="data.tsv"),
    "tabs by name of a zipped file": case(
        gzip.compress(b"a\tb\n1\t2\n3\t4\n"), AB, name="d.TSV.gz"
    ),
    "gzip, whatever its name": case(gzip.compress(b"a,b\n1,2\n3,4\n"), AB),
    "semicolons": case("a;b\n1;2\n3;4\n", AB, sep=";"),
    "any blanks": case("  a   b\n 1\t 2  \n 3 4\n", AB, sep=" "),
    "decimal commas": case("a;b\n1,5;-2\n,5;4,0\n", {"a": [1.5, 0.5], "b": [-2, 4]}, decimal=","),
    "quoted decimal commas": case(
        'a,b\n"1,5","2,25"\n"3","4"\n', {"a": [1.5, 3], "b": [2.25, 4]}, sep=",", decimal=","
    ),
    "UTF-16 as Excel writes it": case("a,b\n1,2\n3,4\n".encode("utf-16"), AB),
    "latin-1": case("größe,b\n1,2\n3,4\n".encode("latin-1"), {"größe": [1, 3], "b": [2, 4]}),
    "an encoding that is named": case(
        "preis €,b\n1,2\n3,4\n".encode("cp1252"),
        {"preis €": [1, 3], "b": [2, 4]},
        encoding="cp1252",
    ),
    "comments before the header": case('# made by "x\n#\na,b\n1,2\n3,4\n', AB),
    "comments anywhere": case("a,b\n% it's, \"so\n1,2\n  % more\n3,4\n%", AB, comment="%"),
    "a name that begins with #": case("#a,b\n1,2\n3,4\n", {"#a": [1, 3], "b": [2, 4]}, comment=""),
    "quoted lines that look like others": case(
        'a,note,b\n1,"one\n\n# two, ""three""",2\n3,,4\n', AB, columns=["a", "b"], comment="#"
    ),
    "names with commas and line ends": case(
        '"size,\ncm", b\n1,2\n3,4\n', {"size, cm": [1, 3], "b": [2, 4]}
    ),
    "no header": case("1,2\n3,4\n", {"x0": [1, 3], "x1": [2, 4]}, header=False),
    "numbers that are names": case("id,2019\nx,1\ny,2\n", {"2019": [1, 2]}, columns=["2019"]),
    "missing entries": case(
        'a,b\nNA,1\nnan,2\n,3\n"",4\nN/A,5\nNULL,6\n#N/A,7\n-nan,8\n0,9\n',
        {"a": [*[NAN] * 8, 0], "b": range(1, 10)},
        missing=True,
    ),
    "a missing entry in the only column": case('a\n1\n""\n3\n', {"a": [1, NAN, 3]}, missing=True),
    "other words for missing": case(
        "a,b\n-999,?\n-999.0,2\n99,4\n", {"a": [NAN, NAN, 99], "b": [NAN, 2, 4]}, na=("-999", "?")
    ),
    "spellings of numbers": case(
        "a\n+1\n-.5\n5.\n1E3\n2e-2\n007\n-0\n", {"a": [1, -0.5, 5, 1000, 0.02, 7, 0]}
    ),
    "text that nobody asked for": case("a,t,b\n1,x,2\n3,y,4\n", AB, columns=["a", "b"]),
    "columns in another order": case(
        "b,a\n2,1\n4,3\n", {"b": [2, 4], "a": [1, 3]}, columns=["b", "a"]
    ),
    "flags": case(
        "f,g\nTrue,0\nFALSE,1\n", {"f": [1, 0], "g": [0, 1]}, kinds=dict.fromkeys("fg", "bernoulli")
    ),
    "levels": case("k\nb\na\n B\nb\n", {"k": [2, 1, 0, 2]}, kinds={"k": "categorical"}),
    "levels that are numbers": case(
        "k\n10\n9\n010\n", {"k": [2, 0, 1]}, kinds={"k": "categorical"}
    ),
    "levels, some missing": case(
        "k\nb\nNA\na\n-\n", {"k": [1, NAN, 0, NAN]}, kinds={"k": "categorical"}, na=("-",)
    ),
}


@pytest.fixture
def read(tmp_path):
    def run(data, name, columns, kinds, form, _):
        path = tmp_path / name
        path.write_bytes(data)
        return read_csv(str(path), CsvFormat(**form), columns=columns, kinds=kinds)

    return run


@pytest.mark.parametrize("name", READ)
def test_files_that_are_read(name, read):
    table, expected = read(*READ[name]), READ[name][-1]
    assert list(table.columns) == list(expected)
    for column, values in expected.items():
        np.testing.assert_array_equal(table.columns[column], np.array([*values], float))
        assert table.columns[column].dtype == np.float64


def text(cell):
    """A column of a cell that Python's `float`, or another reader, takes for a number."""
    return case(f'month,b\n1,1\n"{cell}",2\n', f"column 'month' holds text ({cell!r} in row 2)")


REFUSED = {
    **{
        name: text(cell)
        for name, cell in {
            "identifiers": "2024_01",
            "thousands with underscores": "1_000",
            "thousands with commas": "1,000",
            "thousands with blanks": "1 000",
            "full-width digits": "\uff11\uff12",
            "Arabic digits": "\u0661\u0662",
            "another minus": "\u22121",
            "hexadecimal": "0x1p3",
            "per cent": "5%",
            "a date": "2024-01-05",
            "an exponent alone": "e5",
            "a flag": "True",
        }.items()
    },
    "infinity": case("a\n1\n-Infinity\n", "column 'a' has no finite number in row 2 ('-Infinity')"),
    "beyond float64": case("a\n1\n1e999\n", "column 'a' has no finite number in row 2 ('1e999')"),
    "infinity among missing": case("a\n1\nNA\ninf\n", "in row 3 ('inf')", missing=True),
    "missing, not declared": case("a,b\n1,2\nNA,3\n", "or say --missing"),
    "a level missing, not declared": case(
        "k\na\n\nNA\n", "column 'k' has no level in row 2 ('NA')", kinds={"k": "categorical"}
    ),
    "nothing but missing": case("a,b\n1,\n2,NA\n", "'b' has no entry at all", missing=True),
    "decimal points beside commas": case("a\n1,5\n1.5\n", "holds text ('1.5'", decimal=","),
    "a row too long": case("a,b\n1,2\n\n3,4,5\n", "line 4: row 2 has 3 cells, the header 2"),
    "a row too short": case("1,2\n3\n", "line 2: row 2 has 1 cells, the first row 2", header=False),
    "a comment in the middle": case("a,b\n1,2\n# so\n", "line 3: row 2 has 1 cells"),
    "a comment's hint": case("a,b\n1,2\n# so\n", "; --comment '#' leaves out such lines"),
    "a header of numbers": case("5.1,3.5\n4.9,3.0\n", "header holds numbers ('5.1'): with --no-h"),
    "a header of numbers and text": case("x,3.5\ny,3.0\n", "holds numbers ('3.5')"),
    "a header taken for a comment": case("#a,b\n1,2\n3,4\n", "line 1 was left out as a comment"),
    "no name, as pandas writes an index": case(",a\n0,1\n1,3\n", "column 1 has no name"),
    "two of a name": case("a,a\n1,2\n3,4\n", "more than one column is called 'a'"),
    "a column twice": case("a,b\n1,2\n3,4\n", "more than once", columns=["a", "a"]),
    "no such column": case("a,b\n1,2\n", "no column 'c'; it has a, b", columns=["c"]),
    "no column to be of a kind": case("a\n1\n2\n", "no column 'b' to be", kinds={"b": "poisson"}),
    "a quote that does not end": case('a,b\n1,"2\n3,4\n', "line 2: unexpected end of data"),
    "text behind a quote": case('a,b\n1,2\n3,"4"5\n', "line 3: "),
    "another separator": case("a;b\n1;2\n3;4\n", "is it --sep ';'?"),
    "another separator, and decimal commas": case("a;b\n1,5;2,5\n", "is it --sep ';'?"),
    "another decimal mark": case("a;b\n1,5;2\n3;4\n", "or say --decimal ,", sep=";"),
    "UTF-16 without a mark": case("a,b\n1,2\n".encode("utf-16-le"), "not a text file"),
    "a spreadsheet": case(b"PK\x03\x04\x14\0\x06\0\xff\xfe", "not a text file"),
    "half a gzip": case(gzip.compress(b"a,b\n1,2\n3,4\n" * 99)[:40], "cannot be read as CSV: "),
    "not in the encoding named": case("ä\n1\n".encode("latin-1"), "not utf-8", encoding="utf-8"),
    "no bytes": case("", "no column: the file is empty"),
    "comments only": case("# a\n\n#", "no column: the file is empty"),
    "one row": case("a\n1\n", "needs at least two rows below the header, found 1"),
    "a fraction among counts": case(
        "v\n1\n2.5\n", "column 'v' is poisson, which takes counts", kinds={"v": "poisson"}
    ),
    "a negative count": case("v\n1\n-2\n", "not '-2' in row 2", kinds={"v": "geometric"}),
    "a negative time": case("v\n1\n-2\n", "takes numbers >= 0", kinds={"v": "exponential"}),
    "a third flag": case("v\n1\n2\n", "takes 0 and 1", kinds={"v": "bernoulli"}),
    "a separator of two": case("a\n1\n", "sep: expected one character", sep="||"),
    "a separator that numbers have": case("a\n1\n", "sep: expected one character", sep="."),
    "an encoding that is none": case(
        "a\n1\n", "encoding: 'utf-7b' is not known", encoding="utf-7b"
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_refused(name, read):
    with pytest.raises(CsvError) as error:
        read(*REFUSED[name])
    assert REFUSED[name][-1] in str(error.value)
    assert "\n" not in str(error.value)


def test_what_was_assumed_is_said(read):
    data = "# one\nä;k\n# two\n1;b\n2;a\n".encode("latin-1")
    table = read(*case(data, None, sep=";", comment="#", kinds={"k": "categorical"}))
    assert table.levels == {"k": ["a", "b"]}
    latin, comments = table.notes
    assert "latin-1" in latin
    assert comments == "comment lines left out: 2"
    numbered = read(*case("k,b\n10,1\n9.50,2\n", None, kinds={"k": "categorical"}))
    assert numbered.levels == {"k": ["9.50", "10"]}


def test_standard_input(monkeypatch):
    for data in (b"a,b\n1,2\n3,4\n", gzip.compress(b"a,b\n1,2\n3,4\n")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        table = read_csv("-")
        np.testing.assert_array_equal(table.columns["b"], [2.0, 4.0])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n1\nx\n")))
    with pytest.raises(CsvError, match=r"^standard input: column 'a' holds text"):
        read_csv("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CsvError, match="it is closed"):
        read_csv("-")


@pytest.mark.parametrize("options", [{}, {"sep": "\t"}, {"sep": ";", "decimal": ","}])
def test_what_pandas_writes_is_read_to_the_last_digit(options, read):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3)) * 10.0 ** rng.integers(-300, 300, (50, 3))
    x[rng.random(x.shape) < 0.2] = NAN
    frame = pd.DataFrame(x, columns=["a", "b, c", 'd "e"'])
    written = io.StringIO()
    frame.to_csv(written, index=False, **options)
    table = read(*case(written.getvalue(), None, missing=True, **options))
    assert list(table.columns) == list(frame.columns)
    np.testing.assert_array_equal(np.column_stack(list(table.columns.values())), x)
