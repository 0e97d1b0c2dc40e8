"""Execute every `NN_name.py` beside this file and write its `.ipynb`, figures inside."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(source: Path) -> None:
    """Run one notebook from a fresh kernel; raises at the first cell that fails."""
    start = time.perf_counter()
    notebook = jupytext.read(source)
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(HERE))
    for number, cell in enumerate(notebook.cells):  # equal input, equal file
        cell["id"] = f"cell-{number}"
        cell.metadata.pop("execution", None)
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, source.with_suffix(".ipynb"))
    print(f"{source.name}: {time.perf_counter() - start:.0f} s")


def main() -> None:
    """Run those whose names were given, or all."""
    names = sys.argv[1:] or [path.name for path in sorted(HERE.glob("[0-9][0-9]_*.py"))]
    for name in names:
        execute(HERE / name)


if __name__ == "__main__":
    main()
