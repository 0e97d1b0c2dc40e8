"""`python -m benchmarks.first_call` prints what a first call costs: the table of docs/speed.md.

Processor seconds of each call at first and again, in a process of its own without and then with
programs that an earlier process has kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from .page import table


def calls() -> dict[str, Callable[[], Any]]:
    """The calls of the table, in this order."""
    import jax

    import vijax as vx

    x, _ = vx.datasets.three_clusters()
    key, other = jax.random.key(0), jax.random.key(1)
    model = vx.GaussianMixture.from_data(x, 20)
    roomy = [vx.GaussianMixture.from_data(x, k, k_max=20) for k in (20, 19)]
    fit = vx.fit(model, x, key=key, num_restarts=1)
    jax.clear_caches()

    def fitted(model: Any = model, x: Any = x, key: Any = key, restarts: int = 16) -> Any:
        return vx.fit(model, x, key=key, num_restarts=restarts).elbo

    return {
        "`fit`, 20 components, 16 restarts": fitted,
        "the same for another key": lambda: fitted(key=other),
        "the same for 480 rows": lambda: fitted(x=x[:480]),
        "for one restart": lambda: fitted(restarts=1),
        "for 20 components with `k_max=20`": lambda: fitted(roomy[0]),
        "for 19 of them": lambda: fitted(roomy[1]),
        "`predict`": lambda: model.predict(fit, x),
        "`log_predictive`": lambda: model.log_predictive(fit, x),
        "`summary`": fit.summary,
        "`select_num_components(x, range(1, 9))`": (
            lambda: vx.select_num_components(x, range(1, 9), key=key).best
        ),
    }


def measure() -> None:
    """Print the processor seconds of all calls, at first and again."""
    import jax

    found = {}
    for name, call in calls().items():
        seconds = []
        for _ in range(2):
            begin = time.process_time()
            jax.block_until_ready(call())
            seconds.append(time.process_time() - begin)
        found[name] = seconds
    print(json.dumps(found))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        kept = {"JAX_COMPILATION_CACHE_DIR": folder}
        kept |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        runs = []
        for env in ({}, kept, kept):
            command = [sys.executable, "-m", "benchmarks.first_call", "measure"]
            done = subprocess.run(
                command, env=os.environ | env, stdout=subprocess.PIPE, text=True, check=True
            )
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    plain, _, again = runs
    lines = [[name, *(f"{s:.2f}" for s in plain[name]), f"{again[name][0]:.2f}"] for name in plain]
    print(table(["call", "first", "again", "first, from a kept program"], lines))


if __name__ == "__main__":
    measure() if sys.argv[1:] == ["measure"] else main()
