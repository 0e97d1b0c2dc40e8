"""A: n = 500, d = 2: time to scikit-learn's bound, time per iteration, and a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from typing import Any

import jax
import numpy as np

import vijax as vx

from .. import imports, ours, peers, problems
from ..record import Entry, entries
from ..timing import alternate
from . import SMALL_LOOPS, TOLERANCES
from .contest import contest

TITLE = "n = 500, d = 2: time to the same bound, time per iteration, a fresh process"

_EQUAL = 1e-9  # bounds that close, relatively, are the same


def jobs(quick: bool) -> list[dict[str, Any]]:
    """Both precisions in processes of their own, with XLA's usual settings and set for small fits;

    the cold starts alone.
    """
    parts: list[dict[str, Any]] = [
        {"part": "warm", "dtype": dtype, "devices": 1} for dtype in ("float64", "float32")
    ]
    if quick:
        return parts
    small = [{**part, "part": "bounds", "xla_flags": SMALL_LOOPS} for part in parts]
    return [*parts, *small, {"part": "cold", "dtype": "float32", "devices": 1}]


def run(job: dict[str, Any]) -> list[Entry]:
    """One part."""
    return _cold(job) if job["part"] == "cold" else _warm(job)


def _warm(job: dict[str, Any]) -> list[Entry]:
    dtype, quick = job["dtype"], job["quick"]
    x, _ = vx.datasets.three_clusters(100 if quick else 500)
    n = len(x)
    out: list[Entry] = []
    for k in (3,) if quick else (6, 20):
        for seed in range(1 if quick else 5):
            out += _same_bound(job, x, k, seed)
        if job["part"] == "bounds":
            continue
        case = f"per iteration, n={n} d=2 k={k} full"

        def make(kind: str, k: int = k) -> problems.Problem:
            return problems.problem(n, 2, k, kind)

        out += contest(
            job,
            case,
            make,
            few=(2, 22),
            many=(10, 1010),
            rounds=1 if quick else 5,
            budget=5.0,
        )
    return out if job["part"] == "bounds" else out + _recompiled(x.astype(dtype))


def _methods() -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {"vijax": {}}
    if hasattr(vx, "Accelerated"):
        out["vijax Accelerated"] = {"method": vx.Accelerated(vx.CAVI())}
    return out


def _same_bound(job: dict[str, Any], x: np.ndarray, k: int, seed: int) -> list[Entry]:
    """From equal responsibilities: scikit-learn at its tolerance, vijax at least as far.

    The tolerance of vijax is the loosest in `TOLERANCES` whose fit is at least as good. Both are
    judged by the same float64 bound; their own would not be comparable across precisions.
    """
    if "scikit-learn" not in job["peers"]:
        return []
    x = x.astype(job["dtype"])
    sk = peers.load("scikit-learn")
    resp = problems.random_responsibilities(len(x), k, seed)
    model = vx.GaussianMixture.with_prior(k, **vx.presets.sklearn(x, k))
    wide = x.astype(np.float64)

    def theirs(data: np.ndarray) -> Any:
        # their `reg_covar` is part of no prior: without it both climb the same bound
        return sk.fit_from(data, resp, max_iter=5000, tol=1e-3, reg_covar=0.0)

    peer = theirs(wide)
    mark = ours.judge(x, k, peer.predict_proba(wide))
    fns: dict[str, Any] = {"scikit-learn:float64": lambda: theirs(wide).lower_bound_}
    details: dict[str, dict[str, Any]] = {
        "scikit-learn:float64": {"iterations": int(peer.n_iter_), "bound": mark}
    }
    if job["dtype"] == "float32":
        fns["scikit-learn:float32"] = lambda: theirs(x).lower_bound_
    start = np.asarray(resp, x.dtype)
    missed = {}
    for name, options in _methods().items():
        tol, fit, bound = _loosest(model, x, k, start, options, mark)
        details[name] = {"iterations": int(fit.n_iter), "bound": bound, "tol": tol}
        if bound < mark - _EQUAL * abs(mark):
            missed[name] = f"ends at a lower bound, by {mark - bound:.3g} nats"
        stop = _stop(tol)
        fns[name] = partial(vx.fit, model, x, init=start, stop=stop, **options)
        if name == "vijax":
            plain = _stop(1e-3)
            fit = vx.fit(model, x, init=start, stop=plain)
            bound = ours.judge(x, k, model.responsibilities(fit.q, x))
            own = "vijax at its own tolerance"
            details[own] = {"iterations": int(fit.n_iter), "bound": bound, "tol": 1e-3}
            fns[own] = partial(vx.fit, model, x, init=start, stop=plain)
    times = alternate(fns, 1 if job["quick"] else 7, budget=3.0)
    for name, message in missed.items():
        times[name].error = message
    case = f"to the same bound, n={len(x)} d=2 k={k}, start {seed}"
    return entries(times, case=case, dtype=job["dtype"], details=details)


def _stop(tol: float) -> vx.Stop:
    return vx.Stop(tol=tol, max_iter=10_000)


def _loosest(
    model: Any, x: np.ndarray, k: int, start: np.ndarray, options: dict[str, Any], mark: float
) -> tuple[float, Any, float]:
    """The loosest tolerance whose fit is as good as `mark`, or the tightest: with fit and bound."""
    for tol in TOLERANCES[:-1]:
        fit = vx.fit(model, x, init=start, stop=_stop(tol), **options)
        bound = ours.judge(x, k, model.responsibilities(fit.q, x))
        if bound >= mark - _EQUAL * abs(mark):
            return tol, fit, bound
    tol = TOLERANCES[-1]
    fit = vx.fit(model, x, init=start, stop=_stop(tol), **options)
    return tol, fit, ours.judge(x, k, model.responsibilities(fit.q, x))


def _recompiled(x: np.ndarray) -> list[Entry]:
    """Compilations caused by a new tolerance, prior value, key and data of the same shape."""

    def fit(x: np.ndarray, kappa: float, tol: float, seed: int) -> Any:
        model = vx.GaussianMixture.from_data(x, 4, kappa=kappa)
        return jax.block_until_ready(
            vx.fit(model, x, key=jax.random.key(seed), stop=vx.Stop(tol=tol)).elbo
        )

    fit(x, 0.01, 1e-3, 0)
    with ours.counting() as compiled:
        fit(x, 0.01, 1e-2, 0)
        fit(x, 0.05, 1e-2, 0)
        fit(x[::-1] + 1, 0.05, 1e-2, 1)
    kind = str(x.dtype)
    return [Entry("compilations for new values", "vijax", kind, "count", len(compiled))]


_TUTORIAL = """
import time; t = time.perf_counter()
import jax, vijax as vx
u = time.perf_counter()
x, _ = vx.datasets.three_clusters()
model = vx.GaussianMixture.from_data(x, num_components=20)
fit = vx.fit(model, x, key=jax.random.key(0), num_restarts=16).check()
fit.elbo.block_until_ready()
print(u - t, time.perf_counter() - u)
"""
_SMALL = """
import time; t = time.perf_counter()
import jax, vijax as vx
u = time.perf_counter()
x, _ = vx.datasets.three_clusters()
model = vx.GaussianMixture.from_data(x, num_components=6)
fit = vx.fit(model, x, key=jax.random.key(0))
fit.elbo.block_until_ready()
print(u - t, time.perf_counter() - u)
"""
_THEIRS = """
import time; t = time.perf_counter()
from sklearn.mixture import BayesianGaussianMixture
import numpy as np
u = time.perf_counter()
x = np.load(PATH)
BayesianGaussianMixture(n_components=K, n_init=INIT, max_iter=1000, random_state=0,
    weight_concentration_prior_type="dirichlet_distribution").fit(x)
print(u - t, time.perf_counter() - u)
"""


def _cold(job: dict[str, Any]) -> list[Entry]:
    """Whole processes: import, compilation and fit, with and without JAX's persistent cache."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.npy")
        np.save(path, vx.datasets.three_clusters()[0])
        cache = {
            "JAX_COMPILATION_CACHE_DIR": os.path.join(folder, "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        out: list[Entry] = []
        for case, code, k, starts in (
            ("fresh process, k=20, 16 starts", _TUTORIAL, 20, 16),
            ("fresh process, k=6", _SMALL, 6, 1),
        ):
            scripts = {
                "vijax": (code, {}),
                "vijax, persistent cache": (code, cache),
                "scikit-learn:float64": (
                    _THEIRS.replace("PATH", repr(path))
                    .replace("K,", f"{k},")
                    .replace("INIT", str(starts)),
                    {},
                ),
            }
            split: dict[str, list[list[float]]] = {name: [] for name in scripts}

            def process(name: str, scripts: Any = scripts, split: Any = split) -> None:
                code, env = scripts[name]
                split[name].append(_python(code, env))

            fns = {
                name: (lambda name=name, process=process: process(name))
                for name in scripts
                if name.startswith("vijax") or "scikit-learn" in job["peers"]
            }
            times = alternate(fns, 3)  # the warm-up fills the cache
            details = {
                name: {
                    "import_s": float(np.median([a for a, _ in pairs[1:]])),
                    "compile_and_fit_s": float(np.median([b for _, b in pairs[1:]])),
                }
                for name, pairs in split.items()
                if len(pairs) > 1
            }
            out += entries(times, case=case, dtype="float32", unit="s", details=details)
    return out + imports.measure()


def _python(code: str, env: dict[str, str]) -> list[float]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | env,
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(part) for part in done.stdout.split()[-2:]]
