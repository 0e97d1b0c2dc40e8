"""What imports cost beyond that of JAX, in fresh processes: `python -m benchmarks.imports`."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys

from .record import Entry

CASE = "import in a fresh process"
_ROUNDS = 11
_JAX = "import jax"
_SCRIPTS = {
    _JAX: _JAX,
    "import vijax": "import jax, vijax",
    "a fit's names": "import vijax as vx; vx.GaussianMixture, vx.fit",
    "every name of vijax": "from vijax import *",
}


def measure(rounds: int = _ROUNDS) -> list[Entry]:
    """Milliseconds of the processor, user and system, of each script in turn.

    Other work on the machine disturbs them less than time. The first round, which may compile the
    modules, is not timed.
    """
    runs: dict[str, list[float]] = {name: [] for name in _SCRIPTS}
    for turn in range(rounds + 1):
        for name, script in _SCRIPTS.items():
            spent = _processor(script)
            if turn:
                runs[name].append(spent)
    medians = {name: statistics.median(found) for name, found in runs.items()}
    out = []
    for name, value in medians.items():
        beyond = [a - b for a, b in zip(runs[name], runs[_JAX], strict=True)]
        detail = {
            "ratio_to_import_jax": value / medians[_JAX],
            "ms_beyond_import_jax": statistics.median(beyond),
        }
        out.append(Entry(CASE, name, "float32", "ms", value, runs=runs[name], detail=detail))
    return out


def _processor(script: str) -> float:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", script], check=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    """Print the medians."""
    for entry in measure():
        ratio, beyond = entry.detail.values()
        print(f"{entry.who:20} {entry.value:7.0f} ms {ratio:6.2f} {beyond:+7.0f} ms")


if __name__ == "__main__":
    main()
