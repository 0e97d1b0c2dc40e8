"""How much Python a fit runs, and how large its program is: `python -m benchmarks.trace`.

Counted during the first `vx.fit` of a process, which traces: the files of vijax that are entered,
how often one call is in another file than the call before it, and all calls. Then the equations of
the traced program, and the seconds that its compilation takes. All in float32. With `--functions`
the functions that are called most often are listed too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import jax

import vijax as vx

# rows and restarts
CASES = {
    "500 rows": (500, 1),
    "5000 rows": (5000, 1),
    "500 rows, 4 restarts": (500, 4),
}
COMPONENTS = 4
ROUNDS = 3  # timed compilations
MOST = 60  # functions that are listed


def calls(num_rows: int, num_restarts: int) -> list[tuple[str, str]]:
    """File and function of every call within vijax during a fit, in order."""
    folder = Path(vx.__file__).parent
    x, _ = vx.datasets.three_clusters(num_rows)
    model, key = vx.GaussianMixture.from_data(x, COMPONENTS), jax.random.key(0)
    inside, found = f"{folder}/", []

    def listen(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(inside):
            found.append((frame.f_code.co_filename, frame.f_code.co_qualname))

    sys.setprofile(listen)
    try:
        vx.fit(model, x, key=key, num_restarts=num_restarts)
    finally:
        sys.setprofile(None)
    return [(file.removeprefix(inside), function) for file, function in found]


def in_own_process(case: str) -> list[tuple[str, str]]:
    """The calls of a case in a new process, where nothing has been traced before."""
    command = [sys.executable, __file__, "--case", case]
    same = os.environ | {"PYTHONPATH": str(Path(vx.__file__).parents[1])}  # the same vijax
    run = subprocess.run(command, env=same, stdout=subprocess.PIPE, check=True, text=True)
    return [tuple(call) for call in json.loads(run.stdout)]


def num_equations(jaxpr: Any) -> int:
    """Equations of a jaxpr and of all jaxprs within it, each as often as it occurs."""
    total = 0
    for equation in jaxpr.eqns:
        total += 1
        for value in equation.params.values():
            for part in value if isinstance(value, list | tuple) else [value]:
                inner = getattr(part, "jaxpr", part)  # of a closed one
                total += num_equations(inner) if hasattr(inner, "eqns") else 0
    return total


def program() -> tuple[int, float, float]:
    """Equations of the tutorial's fit; median seconds to trace it, and to lower and compile it."""
    x, _ = vx.datasets.three_clusters()
    model, key = vx.GaussianMixture.from_data(x, COMPONENTS), jax.random.key(0)

    def fit(model: Any, key: Any) -> Any:
        return vx.fit(model, x, key=key)

    equations = num_equations(jax.make_jaxpr(fit)(model, key).jaxpr)
    tracing, compiling = [], []
    for _ in range(ROUNDS):
        jax.clear_caches()
        start = time.perf_counter()
        traced = jax.jit(fit).trace(model, key)
        middle = time.perf_counter()
        traced.lower().compile()
        tracing.append(middle - start)
        compiling.append(time.perf_counter() - middle)
    return equations, statistics.median(tracing), statistics.median(compiling)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--functions", action="store_true", help="list the most called ones")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", False)
    jax.config.update("jax_enable_compilation_cache", False)
    if options.case is not None:
        print(json.dumps(calls(*CASES[options.case])))
        return
    found = {case: in_own_process(case) for case in CASES}
    print(f"vijax in {Path(vx.__file__).parent}\n")
    print("| first fit | files | changes of file | calls |", "|---|---|---|---|", sep="\n")
    for case, made in found.items():
        files = [file for file, _ in made]
        changes = sum(a != b for a, b in zip(files, files[1:], strict=False))
        print(f"| {case} | {len(set(files))} | {changes} | {len(made)} |")
    equations, tracing, compiling = program()
    print(f"\n{equations} equations; traced in {tracing:.2f} s,", end=" ")
    print(f"lowered and compiled in {compiling:.2f} s (medians of {ROUNDS})")
    if options.functions:
        for case, made in found.items():
            print(f"\n{case}:")
            for (file, function), count in Counter(made).most_common(MOST):
                print(f"{count:5} {file}: {function}")


if __name__ == "__main__":
    main()
