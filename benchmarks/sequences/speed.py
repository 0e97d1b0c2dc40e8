"""Seconds per iteration beside hmmlearn and dynamax, ragged sequences, and memory by length.

Each case and precision has a process of its own, in which the contenders take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..page import table
from ..timing import Timing, slopes

ROUNDS = 5
K, D = 8, 4
SMALL = 3, 2, 100  # states, columns and steps of each of many small models
MODELS, LOOPED = 1000, 20  # small models, and how many of them the loop of hmmlearn fits
LIMIT = 600  # seconds of a case


class Case(NamedTuple):
    """What is fitted, and how many times faster than each peer in float32 and float64."""

    title: str
    targets: dict[str, tuple[float, float]]


HMMLEARN = {"hmmlearn, scaling": (10.0, 2.0), "hmmlearn, log": (20.0, 8.0)}
CASES = {
    "long": Case("one chain of 100 000 steps", HMMLEARN),
    "short": Case(
        "1000 sequences of 100 steps",
        {"hmmlearn, scaling": (15.0, 2.0), "hmmlearn, log": (50.0, 8.0)},
    ),
    "many": Case(
        "1000 models of 3 states, each of 100 steps, d = 2, `fit_many`",
        {"hmmlearn, scaling": (100.0, 100.0), "hmmlearn, log": (100.0, 100.0)},
    ),
    "long_em": Case("EM, one chain of 100 000 steps", {"dynamax": (3.0, 3.0)}),
    "short_em": Case("EM, 1000 sequences of 100 steps", {"dynamax": (3.0, 3.0)}),
}
MOST_WHOLE = 100.0  # times as fast as the loop of hmmlearn
MOST_RAGGED = 1.5  # times the seconds of as many steps in sequences of one length
SHAPES = {"long": (1, 100_000), "short": (1000, 100)}


def section(_: Any) -> str:
    """Both tables and what memory does."""
    lines: list[list[object]] = []
    for name, case in CASES.items():
        for precision, dtype in enumerate(("float32", "float64")):
            found = in_process(name, dtype)
            own = found["vijax"]
            for peer, targets in case.targets.items():
                ratio, target = found[peer] / own, targets[precision]
                cells = [case.title, dtype, f"{1e3 * own:.1f}", peer, f"{1e3 * found[peer]:.1f}"]
                lines.append([*cells, f"{ratio:.1f}", f"{target:g}", *_met(ratio >= target)])
    heads = ["work", "precision", "vijax, ms", "peer", "ms", "times faster", "wanted", "met"]
    parts = [_HEAD, table(heads, lines), _WHOLE]
    lines = []
    for dtype in ("float32", "float64"):
        found = in_process("whole", dtype)
        own = found["vijax"]
        for peer in HMMLEARN:
            ratio = found[peer] / own
            cells = [dtype, f"{own:.2f}", peer, f"{found[peer]:.1f}", f"{ratio:.0f}"]
            lines.append([*cells, f"{MOST_WHOLE:g}", *_met(ratio >= MOST_WHOLE)])
    heads = ["precision", "vijax, s", "peer", "s", "times faster", "wanted", "met"]
    parts += [table(heads, lines), _RAGGED]
    lines = []
    for dtype in ("float32", "float64"):
        found = in_process("ragged", dtype)
        ratio = found["ragged"] / found["equal"]
        cells = [dtype, f"{1e3 * found['equal']:.1f}", f"{1e3 * found['ragged']:.1f}"]
        lines.append([*cells, f"{ratio:.2f}", f"{MOST_RAGGED:g}", *_met(ratio <= MOST_RAGGED)])
    parts += [table(["precision", "equal, ms", "ragged, ms", "ratio", "wanted", "met"], lines)]
    lines = []
    for dtype in ("float32", "float64"):
        for t in (100_000, 1_000_000):
            found = in_process("memory", dtype, t)["MiB"]
            lines.append([dtype, f"{t:,}", f"{found:.0f}", f"{found * 2**20 / t:.0f}"])
    parts += [_MEMORY, table(["precision", "steps", "MiB", "bytes per step"], lines)]
    return "\n\n".join(parts)


_HEAD = f"""Milliseconds per iteration of the public `fit`: the difference of fits of 23 and of 3
iterations, over 20 (of hmmlearn 6 and 2, of dynamax 4 and 2); medians of {ROUNDS} rounds in which
all take turns. k = {K}, d = {D}, full covariance, all from the same labels and, but for dynamax,
under the same prior: their means agree after two updates. hmmlearn is `VariationalGaussianHMM`,
float64 throughout, without its own start; dynamax is `fit_em` as one program. Of the small models
the loop of hmmlearn fits {LOOPED}, and its time is multiplied by {MODELS // LOOPED}."""
_WHOLE = f"""The same {MODELS} models as a user fits them, start and stop included, one start each:
`fit_many` (compiled before), and a loop of hmmlearn's `VariationalGaussianHMM` with its defaults,
whose start is ten k-means; {LOOPED} of these, times {MODELS // LOOPED}. Medians of {ROUNDS}."""
_RAGGED = (
    """1000 sequences of 10 to 2000 steps, and as many steps in 1000 sequences of one length:"""
)
_MEMORY = """Memory that a fit of one chain takes beyond the data and what a small fit leaves:"""


def _met(met: bool) -> list[str]:
    return ["yes" if met else "**no**"]


def in_process(*job: object) -> dict[str, float]:
    """The figures of one job, measured in a process of its own."""
    env = os.environ | {"JAX_ENABLE_X64": str(int(job[1] == "float64")), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.sequences.speed", *map(str, job)]
    done = subprocess.run(
        command, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=LIMIT
    )
    found = json.loads(done.stdout.splitlines()[-1])
    print(*job, found, flush=True)
    return found


def medians(
    fns: dict[str, Callable[[int], Any]], times: dict[str, tuple[int, int]]
) -> dict[str, float]:
    """Seconds per iteration of each contender, after they have been found to agree."""
    found: dict[str, Timing] = slopes(fns, times, ROUNDS, again=tuple(fns))
    for name, timing in found.items():
        if timing.error:
            raise RuntimeError(f"{name}: {timing.error}")
    return {name: statistics.median(timing.runs) for name, timing in found.items()}


def agree(runs: dict[str, Callable[[int], Any]]) -> None:
    """Raise unless all have the same means after two updates; ours ends before the third."""
    own, *others = (np.asarray(run(2 + (who == "vijax"))) for who, run in runs.items())
    for other in others:
        np.testing.assert_allclose(own[: len(other)], other, atol=2e-3)


def measure(name: str, dtype: str) -> dict[str, float]:
    """Seconds per iteration of the contenders of a case."""
    import vijax as vx

    from . import contenders
    from .chains import planted

    rng = np.random.default_rng(0)
    times = {"vijax": (3, 23)}
    if name == "ragged":
        lengths = rng.integers(10, 2001, size=1000)
        x, z = planted(rng, 1000, 2000, D, K, 0.95, 2.0)
        x = x.astype(dtype)
        mean = round(lengths.mean())
        rows = [x[i, :t] for i, t in enumerate(lengths)]
        fns = {
            "ragged": contenders.ours(rows, [z[i, :t] for i, t in enumerate(lengths)], K),
            "equal": contenders.ours(x[:, :mean], z[:, :mean], K),
        }
        return medians(fns, dict.fromkeys(fns, (3, 13)))
    if name in ("many", "whole"):
        k, d, t = SMALL
        drawn = [planted(rng, 1, t, d, k, 0.9, 3.0) for _ in range(MODELS)]
        xs, zs = (np.stack(a) for a in zip(*drawn, strict=True))
        xs = xs.astype(dtype)
        model = contenders.model_of_all(xs, k)
        if name == "whole":
            return whole(xs, k, model)
        fns = {"vijax": contenders.ours_many(xs, zs, k)}
        for kind in ("scaling", "log"):
            few = contenders.hmmlearn_loop(xs[:LOOPED], zs[:LOOPED], k, kind, model)
            fns[f"hmmlearn, {kind}"] = few
            times[f"hmmlearn, {kind}"] = 2, 12
        agree(fns)
        found = medians(fns, times)
        return {who: s * (1 if who == "vijax" else MODELS / LOOPED) for who, s in found.items()}
    n, t = SHAPES[name.removesuffix("_em")]
    x, z = planted(rng, n, t, D, K, 0.95, 2.0)
    x = x.astype(dtype)
    z = np.where(rng.random(z.shape) < 0.3, rng.integers(K, size=z.shape), z)
    if name.endswith("_em"):
        fns = {"vijax": contenders.ours(x, z, K, vx.EM()), "dynamax": contenders.dynamax(x, z, K)}
        return medians(fns, times | {"dynamax": (2, 4)})
    fns = {"vijax": contenders.ours(x, z, K)}
    for kind in ("scaling", "log"):
        fns[f"hmmlearn, {kind}"] = contenders.hmmlearn(x, z, K, kind)
        times[f"hmmlearn, {kind}"] = (2, 6) if kind == "scaling" else (2, 4)
    agree(fns)
    return medians(fns, times)


def whole(xs: np.ndarray, k: int, model: Any) -> dict[str, float]:
    """Seconds of fits of all models by the calls of a user."""
    from . import contenders

    fns = {"vijax": contenders.whole_ours(xs, model)}
    for kind in ("scaling", "log"):
        fns[f"hmmlearn, {kind}"] = contenders.whole_hmmlearn(xs[:LOOPED], k, kind)
    fns["vijax"]()
    seconds: dict[str, list[float]] = {who: [] for who in fns}
    for _ in range(ROUNDS):
        for who, run in fns.items():
            begin = time.perf_counter()
            run()
            seconds[who].append(time.perf_counter() - begin)
    found = {who: statistics.median(own) for who, own in seconds.items()}
    return {who: s * (1 if who == "vijax" else MODELS / LOOPED) for who, s in found.items()}


def memory(dtype: str, t: int) -> dict[str, float]:
    """MiB of a fit to one chain of t steps."""
    from ..memory import peak_rise
    from . import contenders
    from .chains import planted

    rng = np.random.default_rng(0)
    x, z = planted(rng, 1, t, D, K, 0.95, 2.0)
    x = x.astype(dtype)
    np.asarray(contenders.ours(x[:, :1000], z[:, :1000], K)(3))
    run = contenders.ours(x, z, K)
    rise = peak_rise(lambda: np.asarray(run(3)))
    return {"MiB": float("nan") if rise is None else rise}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("case")
    parser.add_argument("dtype", choices=["float32", "float64"])
    parser.add_argument("steps", type=int, nargs="?")
    job = parser.parse_args()
    out = memory(job.dtype, job.steps) if job.case == "memory" else measure(job.case, job.dtype)
    print(json.dumps(out))
