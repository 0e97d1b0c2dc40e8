"""Data sets of many lengths: a plain loop beside scikit-learn's, and many fits read by one call.

python -m benchmarks.lengths [FILE]

It writes lengths.md: what is compiled, memory maps of the process, seconds, and how far bounds are
from those without padding. Times are those of one run on the machine at hand.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
from sklearn.mixture import BayesianGaussianMixture

import vijax as vx

_MAPS = Path("/proc/self/maps")


def write(path: str) -> None:
    """Run both and write the page."""
    lines = [
        "# Data sets of many lengths",
        "",
        "Written by `python -m benchmarks.lengths`.",
        "",
        "## A loop over 300 data sets of 300 lengths",
        "",
        "20 to 400 rows, d = 2, k = 3: `from_data`, `fit` with two restarts, `predict`, beside",
        "`BayesianGaussianMixture(n_init=2, max_iter=1000)` of scikit-learn on the same rows.",
        "",
        *_table(loop()),
        "",
        "## 3000 catalogues, read by one call each",
        "",
        "20 to 400 rows, d = 2, k = 3, errors of each row, a tenth of the entries missing:",
        "`fit_many`, then all of them at once; each is a first call, with compilation.",
        "",
        *_table(catalogues()),
    ]
    Path(path).write_text("\n".join(lines) + "\n")


def loop() -> dict[str, str]:
    """The plain loop, and what it compiles."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(200, 2)), rng.normal(size=(200, 2)) + 5.0])
    rng.shuffle(rows)
    lengths = rng.permutation(np.arange(20, 401))[:300]
    long: list[float] = []

    def listen(event: str, seconds: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration") and seconds > 0.3:
            long.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    begin, bounds = time.perf_counter(), {}
    for n in lengths:
        model = vx.GaussianMixture.from_data(rows[:n], 3)
        fit = vx.fit(model, rows[:n], key=jax.random.key(0), num_restarts=2)
        model.predict(fit, rows[:n])
        bounds[n] = float(fit.elbo)
    ours, programs, compiling = time.perf_counter() - begin, len(long), sum(long)
    maps = sum(1 for _ in _MAPS.open()) if _MAPS.exists() else 0
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n in lengths:
            peer = BayesianGaussianMixture(
                n_components=3, n_init=2, max_iter=1000, random_state=0
            ).fit(rows[:n])
            peer.predict(rows[:n])
    theirs = time.perf_counter() - begin
    apart = _apart(rows, bounds)
    return {
        "seconds": f"{ours:.1f}",
        "of which compilation of large programs": f"{compiling:.1f}",
        "scikit-learn, seconds": f"{theirs:.1f}",
        "programs over 0.3 s of compilation": str(programs),
        "memory maps of the process at the end": str(maps),
        "largest relative difference to eight bounds without padding": f"{apart:.1e}",
    }


def _apart(rows: np.ndarray, bounds: dict[int, float]) -> float:
    """The largest relative difference to bounds inside of a jit, where nothing is padded."""

    @jax.jit
    def bound(model: vx.Model, x: jax.Array) -> jax.Array:
        return vx.fit(model, x, key=jax.random.key(0), num_restarts=2).elbo

    apart = 0.0
    for n in list(bounds)[:8]:
        model = vx.GaussianMixture.from_data(rows[:n], 3)
        apart = max(apart, abs(float(bound(model, rows[:n])) / bounds[n] - 1.0))
    return apart


def catalogues() -> dict[str, str]:
    """Seconds of the fits and of each reading."""
    rng = np.random.default_rng(0)
    sets = []
    for n in rng.integers(20, 401, size=3000):
        noise = rng.gamma(2.0, 0.1, size=(n, 2))
        x = (5.0 * rng.normal(size=(3, 2)))[rng.integers(3, size=n)] + rng.normal(size=(n, 2))
        x = x + rng.normal(size=(n, 2)) * np.sqrt(noise)
        x[rng.uniform(size=x.shape) < 0.1] = np.nan
        sets.append(vx.Batch.of(x, missing=True, noise=noise))
    begin = time.perf_counter()
    fits = vx.fit_many(
        lambda batch: vx.GaussianMixture.from_data(batch, 3), sets, key=jax.random.key(0)
    )
    jax.block_until_ready(fits.elbo)
    seconds = {"fit_many": time.perf_counter() - begin}
    for name in ("responsibilities", "log_predictive", "impute", "predict"):
        begin = time.perf_counter()
        getattr(fits, name)(sets)
        seconds[name] = time.perf_counter() - begin
    return {name: f"{value:.1f} s" for name, value in seconds.items()}


def _table(values: dict[str, str]) -> list[str]:
    return ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in values.items())]


if __name__ == "__main__":
    write(sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).parent / "lengths.md"))
