"""D: 1000 data sets of n = 200, d = 2, k = 5: many small fits at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

import vijax as vx

from .. import ours, peers, problems
from ..record import Entry, entries
from ..timing import Timing, alternate, clock
from . import SMALL_LOOPS, TOLERANCES

TITLE = "1000 data sets of n = 200, d = 2, k = 5: many fits"
K = 5


def jobs(quick: bool) -> list[dict[str, Any]]:
    """By precision, devices and restarts; float32 with XLA set for small fits too; ragged sizes."""
    kinds = [("float32", 1), ("float64", 1), ("float32", 2), ("float64", 2)]
    if quick:
        kinds = kinds[:1]
    equal = [
        {"part": "equal", "dtype": dtype, "devices": devices, "restarts": restarts}
        for dtype, devices in kinds
        for restarts in ((1,) if quick or dtype == "float64" else (1, 10))
    ]
    small = [{**job, "xla_flags": SMALL_LOOPS} for job in equal if job["dtype"] == "float32"]
    ragged = [{"part": "ragged", "dtype": d, "devices": n} for d, n in kinds]
    return equal + ([] if quick else small) + ragged


def run(job: dict[str, Any]) -> list[Entry]:
    """One part."""
    return _ragged(job) if job["part"] == "ragged" else _equal(job)


def _model(x: Any) -> Any:
    return vx.GaussianMixture.with_prior(K, **vx.presets.sklearn(x, K))


def _stack(count: int, n: int, dtype: str) -> np.ndarray:
    parts = [problems.rows(n, 2, K, seed, spread=3.0)[0] for seed in range(count)]
    return np.stack(parts).astype(dtype)


def _equal(job: dict[str, Any]) -> list[Entry]:
    restarts, dtype, quick = job["restarts"], job["dtype"], job["quick"]
    count, n = (8, 40) if quick else (1000, 200)
    xs, key = _stack(count, n, dtype), jax.random.key(0)
    case = f"{count} x n={n} d=2 k={K}, {restarts} start{'s' * (restarts > 1)}"
    details: dict[str, dict[str, Any]] = {}
    out: list[Entry] = []

    # a part of the data sets where all would take minutes; their time is scaled up
    share = 1 if restarts == 1 else 20
    mark = None
    if "scikit-learn" in job["peers"]:
        theirs = partial(_scikit_learn, xs[: count // share].astype(np.float64), restarts)
        rounds = 2 if job["devices"] == 1 and restarts == 1 else 1
        timing = alternate({"scikit-learn:float64": theirs}, rounds, warm=True, budget=15.0)
        peer = timing["scikit-learn:float64"]
        if peer.error is None:
            bounds = ours.bounds_of_many(xs[: count // share], K, [r for _, _, r in peer.output])
            mark = float(bounds.mean())
            details["scikit-learn:float64"] = {
                "mean_bound": mark,
                "mean_iterations": float(np.mean([i for _, i, _ in peer.output])),
                "data_sets_timed": count // share,
                "processes": 2,
            }
        peer.runs = [share * run for run in peer.runs]
        for entry in entries(
            timing, case=case, dtype=dtype, unit="s", devices=job["devices"], details=details
        ):
            out.append(entry)

    fns: dict[str, Any] = {}
    options = {"key": key, "num_restarts": restarts}

    def ours_at(tol: float, halving: Any = None) -> Any:
        return vx.fit_many(_model, xs, stop=vx.Stop(tol=tol), halving=halving, **options)

    ways = {"vijax": None} | ({"vijax Halving": vx.Halving()} if restarts > 1 else {})
    for way, halving in ways.items():
        for tol in TOLERANCES if mark is not None else (1e-3,):
            found = _quality(ours_at(tol, halving), xs, count // share)
            if mark is None or found["mean_bound"] >= mark:
                name = f"{way} to the same mean bound"
                fns[name] = partial(ours_at, tol, halving)
                details[name] = {**found, "tol": tol}
                break
    fns["vijax"] = partial(ours_at, 1e-3)
    details["vijax"] = {**_quality(ours_at(1e-3), xs, count // share), "tol": 1e-3}
    times = alternate(fns, 1 if quick else 5, budget=10.0)
    if job["devices"] == 1 and "xla_flags" not in job:
        times["vijax, plain vmap"] = _plain_vmap(xs, key, restarts)
    for entry in entries(
        times, case=case, dtype=dtype, unit="s", devices=job["devices"], details=details
    ):
        entry.detail.setdefault("tol", 1e-3)
        out.append(entry)
    return out


def _scikit_learn(xs: np.ndarray, restarts: int) -> Any:
    from joblib import Parallel, delayed

    fit = delayed(peers.load("scikit-learn").seeded)
    return Parallel(n_jobs=2)(fit(x, K, restarts, seed) for seed, x in enumerate(xs))


def _plain_vmap(xs: np.ndarray, key: Any, restarts: int) -> Timing:
    """jit(vmap(fit)): every lane steps until the last has ended."""

    def one(x: Any, key: Any) -> Any:
        return vx.fit(_model(x), x, key=key, num_restarts=restarts).elbo

    # as fit_many gives them out
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(len(xs)))
    compiling, program = clock(lambda: jax.jit(jax.vmap(one)).lower(xs, keys).compile())
    timing = alternate({"": lambda: program(xs, keys)}, 2, warm=False, budget=10.0)[""]
    timing.first = compiling
    return timing


def _quality(fits: Any, xs: np.ndarray, count: int) -> dict[str, Any]:
    """Of the first `count`: what they reached, by the yardstick that all are held to."""
    iterations = float(np.mean(np.asarray(fits.n_iter)))
    q = jax.tree.map(lambda leaf: leaf[:count], fits.q)
    resp = jax.jit(jax.vmap(lambda q, x: _model(x).responsibilities(q, x)))(q, xs[:count])
    bound = float(ours.bounds_of_many(xs[:count], K, resp).mean())
    return {"mean_bound": bound, "mean_iterations": iterations}


def _fewer(sizes: np.ndarray) -> list[int]:
    """As few data sets as share the programs of all: sizes and their counts by powers of two."""
    width = np.maximum(16, 2 ** np.ceil(np.log2(sizes)).astype(int))
    keep: list[int] = []
    for w in np.unique(width):
        mine = np.flatnonzero(width == w)
        least = 2 ** int(np.ceil(np.log2(len(mine)))) // 2 + 1
        keep += list(mine[:least])
    return keep


def _ragged(job: dict[str, Any]) -> list[Entry]:
    """Rows per second on sizes of median 90, up to 5000, and on equal sizes."""
    quick, dtype = job["quick"], job["dtype"]
    count, n, median, largest = (8, 40, 20, 100) if quick else (1000, 200, 90, 5000)
    case = f"{count} ragged, median {median}, largest {largest}, d=2 k={K}"
    sizes = problems.ragged_sizes(count, median, largest)
    ragged = [
        problems.rows(int(size), 2, K, seed, spread=3.0)[0].astype(dtype)
        for seed, size in enumerate(sizes)
    ]
    equal, key = _stack(count, n, dtype), jax.random.key(0)
    fns = {
        "vijax, ragged": lambda: vx.fit_many(_model, ragged, key=key),
        "vijax, equal": lambda: vx.fit_many(_model, equal, key=key),
    }
    with ours.counting() as first:
        fns["vijax, ragged"]()
    with ours.counting() as later:
        fewer = [ragged[i] for i in _fewer(sizes)]
        vx.fit_many(_model, fewer, key=key)
    times = alternate(fns, 1 if quick else 5, budget=10.0)
    out = entries(times, case=case, dtype=dtype, unit="s", devices=job["devices"])
    for entry, rows in zip(out, (int(sizes.sum()), count * n), strict=True):
        iterations = np.asarray(times[entry.who].output.n_iter)
        passes = int((iterations * (sizes if "ragged" in entry.who else n)).sum())
        if entry.value:
            entry.detail = {
                "rows": rows,
                "rows_per_second": rows / entry.value,
                "row_iterations_per_second": passes / entry.value,
            }
    out[0].detail |= {"compilations": len(first), "compilations_of_another_number": len(later)}
    return out
