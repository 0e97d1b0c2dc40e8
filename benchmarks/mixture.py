"""vijax and scikit-learn on the same work, in one process: `python benchmarks/mixture.py`.

Both fit the same Bayesian Gaussian mixtures with full covariances from k-means++ starts, for a
fixed number of iterations, in the dtype each prefers (vijax float32, scikit-learn float64).
Compilation is timed by itself. Prints a Markdown table with the ratios of the best of the runs.
"""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import sklearn
from sklearn.mixture import BayesianGaussianMixture

import vijax as vx


def rows(n: int, d: int, k: int, seed: int) -> np.ndarray:
    """Rows from k clusters about four standard deviations apart."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(k, d)) * 4.0
    return (means[rng.integers(k, size=n)] + rng.normal(size=(n, d))).astype(np.float32)


def clock(fn: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Seconds of the first call, and of the fastest of the later ones."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(fn())
        times.append(time.perf_counter() - start)
    return times[0], min(times[1:])


def ours(x: np.ndarray, k: int, iterations: int, restarts: int) -> Callable[[], Any]:
    """One call for a data set (n, d), or for a stack of them (b, n, d)."""
    stop = vx.Stop(tol=0.0, max_iter=iterations, patience=iterations + 1)

    def one(x: Any, key: Any) -> Any:
        model = vx.GaussianMixture.from_data(x, k)
        return vx.fit(model, x, key=key, num_restarts=restarts, stop=stop).elbo

    if x.ndim == 2:
        return lambda: one(x, jax.random.key(0))
    keys = jax.random.split(jax.random.key(0), len(x))
    many = jax.jit(jax.vmap(one))
    return lambda: many(x, keys)


def theirs(x: np.ndarray, k: int, iterations: int, restarts: int) -> Callable[[], Any]:
    """The same with scikit-learn, data sets one after the other."""

    def one(x: np.ndarray) -> Any:
        peer = BayesianGaussianMixture(
            n_components=k,
            n_init=restarts,
            max_iter=iterations,
            tol=0.0,
            init_params="k-means++",
            random_state=0,
            weight_concentration_prior_type="dirichlet_distribution",
        )
        return peer.fit(x.astype(np.float64)).lower_bound_

    return lambda: [one(part) for part in (x[None] if x.ndim == 2 else x)]


def main() -> None:
    """Run every row of the table."""
    warnings.simplefilter("ignore")  # scikit-learn says of every run that it did not converge
    small = np.stack([rows(100, 2, 3, seed) for seed in range(256)])
    cases = [
        ("the demo: n = 500, d = 2, k = 20, 16 starts", rows(500, 2, 3, 0), 20, 100, 16),
        ("256 data sets: n = 100, d = 2, k = 3, 4 starts", small, 3, 50, 4),
        ("n = 10 000, d = 8, k = 16", rows(10_000, 8, 16, 0), 16, 50, 1),
        ("n = 200 000, d = 8, k = 16", rows(200_000, 8, 16, 0), 16, 10, 1),
    ]
    print(
        f"jax {jax.__version__} on {jax.default_backend()}, scikit-learn {sklearn.__version__}, "
        f"Python {platform.python_version()}\n"
    )
    print("| work | vijax | scikit-learn | ratio | vijax, first call |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, x, k, iterations, restarts in cases:
        first, fast = clock(ours(x, k, iterations, restarts), 3)
        _, slow = clock(theirs(x, k, iterations, restarts), 1)
        print(f"| {name} | {fast:.3f} s | {slow:.2f} s | {slow / fast:.0f} | {first:.1f} s |")


if __name__ == "__main__":
    main()
