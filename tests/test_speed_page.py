"""docs/speed.md: its settings are those of the benchmarks, and change no result."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks import checks, workloads

PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
FIT = """
import jax, vijax as vx
x, _ = vx.datasets.three_clusters(120)
model = vx.GaussianMixture.from_data(x, 3)
fit = vx.fit(model, x, key=jax.random.key(0)).check()
print(*map(float, [fit.elbo, *sorted(fit.q.weights.conc)]))
"""


def flags():
    return re.search(r'export XLA_FLAGS="(.*)"', PAGE.read_text()).group(1)


def numbers(**env):
    clean = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", FIT], env=clean | env, capture_output=True, text=True, check=True
    )
    return np.array(done.stdout.split(), float)


def test_the_benchmarks_use_the_settings_of_the_page():
    assert flags() == workloads.SMALL_LOOPS


def test_the_settings_change_no_result():
    np.testing.assert_allclose(numbers(XLA_FLAGS=flags()), numbers(), rtol=1e-4)


def test_a_target_is_judged_by_the_usual_settings_and_names_both():
    def entry(case, who, dtype, value):
        return {
            "case": case,
            "who": who,
            "dtype": dtype,
            "process": "float32",
            "devices": 1,
            "value": value,
            "detail": {},
            "unit": "ms",
        }

    case = "10 given starts"
    usual = [entry(case, "scikit-learn", "float64", 60.0), entry(case, "vijax", "float32", 3.0)]
    other = [
        entry(workloads.SET + case, who, d, v)
        for who, d, v in (
            ("scikit-learn", "float64", 62.0),
            ("vijax", "float32", 2.0),
        )
    ]
    results = {"E": {"entries": usual + other}}
    check = next(c for c in checks.all_of(results) if "given" in c.what)
    assert check.value == 20.0
    assert check.note == f"vijax: 20.0; {workloads.SET}vijax: 31.0"
    assert checks.against_scikit_learn(results) == {f"E, {case}": 20.0}
