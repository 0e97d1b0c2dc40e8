"""Execute every `NN_name.py` beside this file and write its `.ipynb`, figures inside.

Those whose names are given, or all; as many at once as `--jobs` says, by default one.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

HERE = Path(__file__).parent


def execute(source: Path) -> str:
    """Run one notebook from a fresh kernel; raises at the first cell that fails."""
    start = time.perf_counter()
    notebook = jupytext.read(source)
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    with TemporaryDirectory() as folder:
        # sockets that are files: two kernels that start at once can pick the same TCP port
        sockets = Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}})
        client = NotebookClient(notebook, timeout=600, kernel_name="python3", config=sockets)
        client.execute(cwd=str(HERE))
    for number, cell in enumerate(notebook.cells):  # equal input, equal file
        cell["id"] = f"cell-{number}"
        cell.metadata.pop("execution", None)
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, source.with_suffix(".ipynb"))
    return f"{source.name}: {time.perf_counter() - start:.0f} s"


def main() -> None:
    """Execute what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NN_name.py")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if options.jobs > 1:  # threads of NumPy's of several kernels wait for each other
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    names = options.names or [path.name for path in sorted(HERE.glob("[0-9][0-9]_*.py"))]
    with ProcessPoolExecutor(options.jobs) as pool:
        for line in pool.map(execute, [HERE / name for name in names]):
            print(line, flush=True)


if __name__ == "__main__":
    main()
