"""What users write is known to a strict type checker, and what they mistype is refused by it."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import gammaln

import vijax as vx

from .typing.user_page import own_model_and_method

PAGES = Path(__file__).parent / "typing"
SETTINGS = {"typeCheckingMode": "strict", "pythonVersion": "3.11"}


NAMES = ("user_page.py", "revealed.py", "mistakes.py")


def run_pyright(folder):
    """(file, line, severity, message) of everything that pyright says."""
    (folder / "pyrightconfig.json").write_text(json.dumps(SETTINGS))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    run = subprocess.run([*command, "-p", str(folder)], capture_output=True, text=True, timeout=300)
    report = json.loads(run.stdout[run.stdout.index("{") :])
    assert report["summary"]["filesAnalyzed"] == len(NAMES)
    for one in report["generalDiagnostics"]:
        line = one["range"]["start"]["line"] + 1
        yield Path(one["file"]).name, line, one["severity"], one["message"]


def run_mypy(folder):
    """The same of mypy, which finds vijax where this test does."""
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", *NAMES]
    env = os.environ | {"MYPYPATH": str(Path(vx.__file__).parents[1])}
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder, env=env)
    found = re.findall(r"^(\S+?):(\d+): (\w+): (.*)$", run.stdout, re.MULTILINE)
    assert found, run.stdout + run.stderr
    for name, line, severity, message in found:
        short = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", message)  # of types, without their modules
        yield name, int(line), severity, short


def read(run, folder):
    """Of what a checker says: file name to line to errors, and to types revealed."""
    for name in NAMES:
        shutil.copy(PAGES / name, folder)
    errors, types = ({name: {} for name in NAMES} for _ in range(2))
    for name, line, severity, message in run(folder):
        revealed = re.search(r'(?:Type of .* is|Revealed type is) "(.*?)"', message)
        if revealed:
            types[name][line] = revealed[1]
        elif severity == "error":
            errors[name].setdefault(line, []).append(message)
    return errors, types


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each checker that is installed says."""
    checkers = {"pyright": run_pyright, "mypy": run_mypy}
    there = [name for name in checkers if importlib.util.find_spec(name) is not None]
    if not there:
        pytest.skip("neither pyright nor mypy is installed")
    return {name: read(checkers[name], tmp_path_factory.mktemp(name)) for name in there}


def test_what_users_write_is_known(found):
    for errors, _ in found.values():
        assert not errors["user_page.py"]
        assert not errors["revealed.py"]


def test_types_reach_below_the_dot(found):
    lines = (PAGES / "revealed.py").read_text().splitlines()
    expected = {
        i: line.partition("  # ")[2] for i, line in enumerate(lines, 1) if "reveal_type(" in line
    }
    assert len(expected) > 10
    for _, types in found.values():
        assert types["revealed.py"] == expected


def test_every_mistake_is_refused_on_its_line(found):
    lines = (PAGES / "mistakes.py").read_text().splitlines()
    wrong = {i for i, line in enumerate(lines, 1) if line.endswith("  # wrong")}
    assert len(wrong) > 20
    for errors, _ in found.values():
        assert set(errors["mistakes.py"]) == wrong


def test_types_travel_with_the_package():
    assert (Path(vx.__file__).parent / "py.typed").is_file()


def test_the_model_and_the_method_of_the_page_are_exact(rng):
    """A rate with a Gamma prior: the bound is the evidence, of a negative multinomial."""
    x = rng.poisson(3.0, 40).astype(float)
    a, b, n, total = 2.0, 0.5, len(x), x.sum()
    evidence = a * np.log(b) - gammaln(a) + gammaln(a + total) - (a + total) * np.log(b + n)
    evidence -= gammaln(x + 1.0).sum()
    for fit in own_model_and_method(x):
        assert fit.status == vx.Status.CONVERGED
        np.testing.assert_allclose(fit.elbo, evidence, rtol=1e-9)
        np.testing.assert_allclose(fit.q.shape, a + total, rtol=1e-6)
        np.testing.assert_allclose(fit.q.rate, b + n, rtol=1e-6)
