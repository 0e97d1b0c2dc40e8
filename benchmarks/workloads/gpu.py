"""G: the same work on a GPU, against what that device can do at most."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import vijax as vx

from .. import machine, ours, peers, problems
from ..record import Entry, entries
from ..timing import alternate, slopes

TITLE = "on the GPU: time per iteration, and the share of what the device can do"

# n, d, k, covariance; the last is the shape that Flash-GMM publishes (arXiv 2606.10896)
_CASES = (
    (100_000, 16, 32, "full"),
    (1_000_000, 8, 16, "full"),
    (1_000_000, 8, 16, "diag"),
    (10_000_000, 8, 16, "full"),
    (1_000_000, 128, 1024, "spherical"),
)


def jobs(quick: bool) -> list[dict[str, Any]]:
    """Both precisions, alone on the default device; the parent leaves them out without a GPU."""
    kinds = ("float32",) if quick else ("float32", "float64")
    return [{"dtype": dtype, "devices": 1, "accelerator": True} for dtype in kinds]


def run(job: dict[str, Any]) -> list[Entry]:
    """Rates of the device first, then every case."""
    dtype, quick = job["dtype"], job["quick"]
    if jax.default_backend() == "cpu" and not quick:
        return [Entry("device", "jax", dtype, "count", 0, error="no GPU")]
    device = jax.devices()[0].device_kind
    size = 128 if quick else 8192
    rates = machine.matrix_rates(size, dtype)
    copy = machine.bandwidth(4 if quick else 2000)
    out = [
        Entry(f"matrix product {size}", name, dtype, "GFLOP/s", rate, detail={"device": device})
        for name, rate in rates.items()
    ]
    out.append(Entry("copy", "jax", dtype, "GB/s", copy, detail={"device": device}))
    for n, d, k, covariance in ((500, 3, 4, "full"),) if quick else _CASES:
        out += _iterations(job, n, d, k, covariance, rates, copy)
    return out + _many(job)


def _iterations(
    job: dict[str, Any],
    n: int,
    d: int,
    k: int,
    covariance: str,
    rates: dict[str, float],
    copy: float,
) -> list[Entry]:
    dtype = job["dtype"]
    if covariance == "spherical":  # clusters are not needed for the time of a pass
        rng = np.random.default_rng(0)
        x = rng.normal(size=(n, d)).astype(dtype)
        problem = problems.Problem(x, k, rng.integers(k, size=n), covariance)
    else:
        problem = problems.problem(n, d, k, dtype, covariance)
    fns: dict[str, Any] = {}
    for method in (vx.CAVI(), vx.EM()):
        fns[f"vijax {type(method).__name__}"] = ours.iterations(problem, method)
    steps = dict.fromkeys(fns, (2, 22))
    flops = (
        4
        * n
        * k
        * {"full": (d + 1) * (d + 2) / 2, "diag": 2 * d + 1, "spherical": d + 2}[covariance]
    )
    if "scikit-learn" in job["peers"] and n * d * k <= 200_000_000 and covariance != "spherical":
        fns["scikit-learn on the CPU"] = peers.load("scikit-learn").iterations(problem)
        steps["scikit-learn on the CPU"] = (1, 2)
    times = slopes(fns, steps, 1 if job["quick"] else 5, budget=15.0)
    out = entries(times, case=f"n={n} d={d} k={k} {covariance}", dtype=dtype, unit="ms/iteration")
    for entry in out:
        if entry.value and entry.who.startswith("vijax"):
            read = problem.x.nbytes / entry.value / 1e6
            rate = flops / entry.value / 1e6
            entry.detail = {
                "gflops": rate,
                "share_of_matrix_rate": rate / rates["jax"],
                "share_of_bandwidth": read / copy,
            }
    return out


def _many(job: dict[str, Any]) -> list[Entry]:
    """As D, in one program."""
    from .many import _model, _stack

    dtype, quick = job["dtype"], job["quick"]
    count, n = (4, 40) if quick else (1000, 200)
    xs, key = _stack(count, n, dtype), jax.random.key(0)
    out = []
    for restarts in (1,) if quick else (1, 10):
        case = f"{count} x n={n} d=2 k=5, {restarts} start{'s' * (restarts > 1)}"
        if hasattr(vx, "fit_many"):
            fns = {
                "vijax": lambda restarts=restarts: (
                    vx.fit_many(_model, xs, key=key, num_restarts=restarts).elbo
                )
            }
            out += entries(
                alternate(fns, 1 if quick else 5, budget=10.0), case=case, dtype=dtype, unit="s"
            )
    return out
