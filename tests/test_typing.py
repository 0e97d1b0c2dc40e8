"""What users write is known to a strict type checker, and what they mistype is refused by it."""

import importlib.util
import json
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


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The errors of each page: file name to line to what is said of it."""
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed")
    folder = tmp_path_factory.mktemp("pages")
    for page in PAGES.glob("*.py"):
        shutil.copy(page, folder)
    (folder / "pyrightconfig.json").write_text(json.dumps(SETTINGS))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    run = subprocess.run([*command, "-p", str(folder)], capture_output=True, text=True, timeout=300)
    report = json.loads(run.stdout[run.stdout.index("{") :])
    assert report["summary"]["filesAnalyzed"] == 2
    errors = {"user_page.py": {}, "mistakes.py": {}}
    for one in report["generalDiagnostics"]:
        line = one["range"]["start"]["line"] + 1
        errors[Path(one["file"]).name].setdefault(line, []).append(one["message"])
    return errors


def test_what_users_write_is_known(found):
    assert not found["user_page.py"]


def test_every_mistake_is_refused_on_its_line(found):
    lines = (PAGES / "mistakes.py").read_text().splitlines()
    wrong = {i for i, line in enumerate(lines, 1) if line.endswith("  # wrong")}
    assert len(wrong) > 20
    assert set(found["mistakes.py"]) == wrong


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
