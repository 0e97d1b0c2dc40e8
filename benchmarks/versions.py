"""This checkout against another one, in turns: `python -m benchmarks.versions OTHER [CASE ...]`.

OTHER is the root of another checkout of vijax, such as `git worktree add /tmp/before REV` makes.
Each checkout has a process of its own, which holds the compiled fits of all cases; the two take
turns, round after round, so that what else the machine does meets both. The table has medians of
seconds for each call and the ratio of this checkout to the other.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS = 9
HERE = Path(__file__).parents[1]


def cases(names: list[str]) -> dict[str, Callable[[], Any]]:
    """The cases whose title begins with one of `names`, or all; only names both checkouts have."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import vijax as vx

    def clusters(n: int, d: int, k: int) -> tuple[Any, Any]:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, k, n)
        x = rng.normal(size=(k, d))[labels] * 4 + rng.normal(size=(n, d))
        return jnp.asarray(x), jnp.asarray(labels.astype(np.int32))

    def steps(n: int, d: int, k: int, count: int, covariance: str = "full") -> Callable[[], Any]:
        x, labels = clusters(n, d, k)
        prior = vx.presets.sklearn(x, k, covariance)
        model = vx.GaussianMixture.with_prior(k, **prior)
        stop = vx.Stop(tol=0.0, max_iter=count, patience=2**30)
        return lambda: vx.fit(model, x, init=labels, stop=stop).elbo

    def many(restarts: int) -> Callable[[], Any]:
        rng = np.random.default_rng(0)
        means = rng.normal(size=(1000, 5, 2)) * 4
        labels = rng.integers(0, 5, (1000, 200))
        x = np.take_along_axis(means, labels[..., None], 1) + rng.normal(size=(1000, 200, 2))
        x = jnp.asarray(x)
        model = vx.GaussianMixture.with_prior(5, **vx.presets.sklearn(x[0], 5))
        key = jax.random.key(0)
        return lambda: vx.fit_many(model, x, key=key, num_restarts=restarts).elbo

    makers: dict[str, Callable[[], Callable[[], Any]]] = {
        "A: 500 x 2, k=6, 500 steps": lambda: steps(500, 2, 6, 500),
        "A: 500 x 2, k=20, 500 steps": lambda: steps(500, 2, 20, 500),
        "B: 100000 x 16, k=32, 10 steps": lambda: steps(100_000, 16, 32, 10),
        "C: 1000000 x 8, k=16, 4 steps": lambda: steps(1_000_000, 8, 16, 4),
        "C: 1000000 x 8, k=16, diag, 4 steps": lambda: steps(1_000_000, 8, 16, 4, "diag"),
        "D: 1000 x 200 x 2, k=5, one start": lambda: many(1),
        "D: 1000 x 200 x 2, k=5, ten starts": lambda: many(10),
    }
    wanted = tuple(names) or ("",)
    return {name: make() for name, make in makers.items() if name.startswith(wanted)}


def serve(names: list[str]) -> None:
    """Compile all cases, then answer each number on standard input with the seconds of its call."""
    import jax

    found = cases(names)
    for call in found.values():
        jax.block_until_ready(call())
    print("\t".join(found), flush=True)
    calls = list(found.values())
    for line in sys.stdin:
        begin = time.perf_counter()
        jax.block_until_ready(calls[int(line)]())
        print(time.perf_counter() - begin, flush=True)


def worker(root: Path, precision: str, names: list[str]) -> subprocess.Popen[str]:
    """A process with the vijax of `root`."""
    env = os.environ | {"PYTHONPATH": str(root), "JAX_ENABLE_X64": precision}
    command = [sys.executable, str(Path(__file__).resolve()), "--serve", *names]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=env, cwd=root, text=True, stdin=pipe, stdout=pipe)


def ask(process: subprocess.Popen[str], line: str) -> str:
    """One answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    if line:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    return process.stdout.readline().strip()


def main(other: Path, names: list[str]) -> None:
    """Print the table for both precisions."""
    print("| case | precision | before | now | now / before |\n| --- | --- | --- | --- | --- |")
    for precision, label in (("0", "float32"), ("1", "float64")):
        both = [worker(root, precision, names) for root in (other, HERE)]
        titles = [ask(process, "").split("\t") for process in both][0]
        for i, title in enumerate(titles):
            seconds: list[list[float]] = [[], []]
            for turn in range(ROUNDS):
                for which in (0, 1) if turn % 2 else (1, 0):
                    seconds[which].append(float(ask(both[which], str(i))))
            before, now = (statistics.median(each) for each in seconds)
            row = f"{before:.4g} s | {now:.4g} s | {now / before:.3f}"
            print(f"| {title} | {label} | {row} |", flush=True)
        for process in both:
            process.kill()


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(sys.argv[2:])
    else:
        main(Path(sys.argv[1]), sys.argv[2:])
