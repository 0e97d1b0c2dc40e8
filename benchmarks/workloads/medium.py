"""B: n = 100 000, d = 16, k = 32, full covariances, time per iteration."""

from __future__ import annotations

from typing import Any

from .. import machine, problems
from ..record import Entry
from .contest import contest

TITLE = "n = 100 000, d = 16, k = 32, full: time per iteration"


def jobs(quick: bool) -> list[dict[str, Any]]:
    """Alone with all peers; and over two devices with scikit-learn."""
    one = [{"dtype": dtype, "devices": 1} for dtype in ("float32", "float64")]
    two = [{"dtype": d, "devices": 2, "peers": ["scikit-learn"]} for d in ("float32", "float64")]
    return one if quick else one + two


def run(job: dict[str, Any]) -> list[Entry]:
    """The contest, and the share of the machine's own matrix rate."""
    n, d, k = (600, 3, 4) if job["quick"] else (100_000, 16, 32)
    size = 128 if job["quick"] else 2048
    case = f"n={n} d={d} k={k} full"
    rates = machine.matrix_rates(size, job["dtype"])
    found = contest(
        job,
        case,
        lambda dtype: problems.problem(n, d, k, dtype),
        few=(1, 3),
        many=(2, 22),
        rounds=1 if job["quick"] else 3,
        budget=25.0,
    )
    flops = 4 * n * k * (d + 1) * (d + 2) / 2
    rates = {
        name: max(rate, again)
        for (name, rate), again in zip(
            rates.items(), machine.matrix_rates(size, job["dtype"]).values(), strict=True
        )
    }
    for entry in found:
        if entry.value:
            rate = flops / entry.value / 1e6
            entry.detail |= {"gflops": rate, "share_of_matrix_rate": rate / max(rates.values())}
    found += [
        Entry(f"matrix product {size}", name, job["dtype"], "GFLOP/s", rate, job["devices"])
        for name, rate in rates.items()
    ]
    return found
