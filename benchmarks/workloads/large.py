"""C: n = 1 000 000, d = 8, k = 16: time per iteration, memory, and rows that stay on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import vijax as vx

from .. import memory, ours, peers, problems
from ..record import Entry, entries
from ..timing import slopes
from .contest import contest

TITLE = "n = 1 000 000, d = 8, k = 16: time per iteration, memory, rows on disk"


def jobs(quick: bool) -> list[dict[str, Any]]:
    """Speed by covariance, dtype and devices; memory, one process for each tool; the disk."""
    kinds = [("full", "float32"), ("full", "float64"), ("diag", "float32"), ("diag", "float64")]
    speed = [
        {"part": "speed", "covariance": covariance, "dtype": dtype, "devices": 1}
        for covariance, dtype in (kinds[:1] if quick else kinds)
    ]
    two = [
        {"part": "speed", "covariance": c, "dtype": d, "devices": 2, "peers": []} for c, d in kinds
    ]
    peak = [
        {"part": "peak", "who": who, "dtype": _dtype_of(who), "devices": 1}
        for who in ("vijax", *(peers.NAMES if not quick else ()))
    ]
    rest = [
        {"part": "temporaries", "dtype": "float32", "devices": 1},
        {"part": "disk", "dtype": "float32", "devices": 1},
    ]
    return speed + ([] if quick else two) + peak + rest


def _dtype_of(who: str) -> str:
    return "float64" if who in ("scikit-learn", "bnpy") else "float32"


def run(job: dict[str, Any]) -> list[Entry]:
    """One part."""
    return {"speed": _speed, "peak": _peak, "temporaries": _temporaries, "disk": _disk}[
        job["part"]
    ](job)


def _sizes(job: dict[str, Any]) -> tuple[int, int, int]:
    return (3000, 3, 4) if job["quick"] else (1_000_000, 8, 16)


def _speed(job: dict[str, Any]) -> list[Entry]:
    n, d, k = _sizes(job)
    return contest(
        job,
        f"n={n} d={d} k={k} {job['covariance']}",
        lambda dtype: problems.problem(n, d, k, dtype, job["covariance"]),
        few=(1, 4),
        many=(1, 9),
        rounds=1 if job["quick"] else 3,
        budget=12.0,
    )


def _peak(job: dict[str, Any]) -> list[Entry]:
    """Resident memory above data, imports and what a small problem leaves behind."""
    n, d, k = _sizes(job)
    small, large = (problems.problem(size, d, k, job["dtype"]) for size in (n // 100, n))

    def make(problem: problems.Problem) -> Any:
        if job["who"] == "vijax":
            fit = ours.iterations(problem, vx.CAVI())
            return lambda: np.asarray(fit(3))
        module = peers.load(job["who"])
        refusal = getattr(module, "refuses", lambda _: None)(problem)
        if refusal:
            raise MemoryError(refusal)
        fit = module.iterations(problem)
        return lambda: fit(2)

    entry = Entry(f"peak memory, n={n} d={d} k={k} full", job["who"], job["dtype"], "MiB", None)
    try:
        run = make(large)  # what refuses this has no small problem to hang in
        make(small)()
        entry.value = memory.peak_rise(run)
    except Exception as error:  # a peer's failure is a result
        entry.error = f"{type(error).__name__}: {str(error)[:200]}"
    return [entry]


def _temporaries(job: dict[str, Any]) -> list[Entry]:
    n, d, k = _sizes(job)
    out = []
    for covariance in ("full", "diag"):
        for size in (n, 4 * n):
            x = np.random.default_rng(0).random((size, d), np.float32)
            problem = problems.Problem(x, k, np.arange(size) % k, covariance)
            value = ours.temporaries(problem, vx.CAVI())
            case = f"temporaries, n={size} d={d} k={k} {covariance}"
            out.append(Entry(case, "vijax CAVI", "float32", "MiB", value))
    return out


def _disk(job: dict[str, Any]) -> list[Entry]:
    """Rows per second from a memory-mapped file against the same from memory."""
    n, d, k = (20_000, 3, 4) if job["quick"] else (10_000_000, 8, 16)
    case = f"n={n} d={d} k={k} full, from a file"
    first = problems.problem(min(n, 1_000_000), d, k, "float32")
    start = vx.fit(
        ours.model_of(first, vx.CAVI()), first.x, init=first.labels, stop=ours.fixed(2)
    ).q
    model = ours.model_of(first, vx.CAVI())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        rows = np.lib.format.open_memmap(path, "w+", np.float32, (n, d))
        for begin in range(0, n, len(first.x)):
            rows[begin : begin + len(first.x)] = first.x[: n - begin]
        rows.flush()
        del rows

        def disk(count: int) -> Any:
            chunks = vx.Chunks.of(str(path))
            return vx.fit(model, chunks, init=start, stop=ours.fixed(count)).elbo

        disk(1)
        rise = memory.peak_rise(lambda: np.asarray(disk(2)))
        whole = np.load(path)

        def inside(count: int) -> Any:
            return vx.fit(model, whole, init=start, stop=ours.fixed(count)).elbo

        fns = {"vijax file": disk, "vijax memory": inside}
        times = slopes(fns, dict.fromkeys(fns, (1, 4)), 1 if job["quick"] else 3)
    out = entries(times, case=case, dtype="float32", unit="ms/iteration")
    for entry in out:
        if entry.value:
            entry.detail["rows_per_second"] = n / entry.value * 1e3
    out[0].detail["peak_rise_mib"] = rise
    return out
