"""Every notebook is executed as written, says what it shows, and is linked where it should be."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))


def cells_of(source):
    """(kind, text) of a file in Jupytext's percent format."""
    for part in source.read_text().split("# %%")[1:]:
        head, _, body = part.partition("\n")
        lines = body.strip("\n").split("\n")
        if "[markdown]" in head:
            yield "markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines)
        else:
            yield "code", "\n".join(lines)


@pytest.fixture(params=SOURCES, ids=lambda path: path.stem)
def source(request):
    return request.param


@pytest.fixture
def executed(source):
    return json.loads(source.with_suffix(".ipynb").read_text())["cells"]


def test_there_are_sixteen():
    assert [int(path.name[:2]) for path in SOURCES] == list(range(16))


def test_what_was_executed_is_what_is_written(source, executed):
    shown = [(cell["cell_type"], "".join(cell["source"]).strip("\n")) for cell in executed]
    assert shown == list(cells_of(source))


def test_it_says_what_it_shows_and_what_can_go_wrong(source):
    cells = list(cells_of(source))
    assert cells[0][0] == "markdown"
    assert "What this shows" in cells[0][1]
    text = "\n".join(text for kind, text in cells if kind == "markdown")
    assert text.index("What can go wrong") < text.index("Sources:")
    assert cells[-1][0] == "code"
    assert "assert " in cells[-1][1]


def test_figures_are_inside_and_nothing_failed_or_warned(source, executed):
    assert source.with_suffix(".ipynb").stat().st_size < 600_000
    outputs = [out for cell in executed for out in cell.get("outputs", [])]
    assert any("image/png" in out.get("data", {}) for out in outputs)
    assert not [out for out in outputs if out["output_type"] == "error"]
    assert not [out for out in outputs if out.get("name") == "stderr"]
    assert all(cell["execution_count"] for cell in executed if cell["cell_type"] == "code")


@pytest.mark.parametrize("page", ["README.md", "notebooks/README.md"])
def test_it_is_linked(source, page):
    folder = "" if page.startswith("notebooks") else "notebooks/"
    assert f"]({folder}{source.stem}.ipynb)" in (ROOT / page).read_text()
