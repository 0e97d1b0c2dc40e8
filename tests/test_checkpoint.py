"""A fit over chunks that is cut off at any moment goes on from its last pass to the same end."""

import os
import signal
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

import vijax as vx

from .table import leaves_close

KEY = jax.random.key(3)
STOP = vx.Stop(max_iter=12, tol=0.0)


@pytest.fixture
def rows():
    rng = np.random.default_rng(8)
    return rng.poisson([[3.0, 8.0]], size=(200, 2)) + 6.0 * rng.integers(0, 2, size=(200, 1))


@pytest.fixture
def model(rows):
    return vx.PoissonMixture.from_data(rows, 3)


class Cut:
    """Blocks of rows; something happens before the second block of one pass."""

    def __init__(self, rows, number, happening):
        self.rows, self.number, self.happening, self.calls = rows, number, happening, 0

    def __call__(self):
        self.calls += 1
        yield self.rows[:90]
        if self.calls == self.number:
            self.happening()
        yield self.rows[90:]


def interrupt():
    raise KeyboardInterrupt


def fit(model, source, **options):
    chunks = vx.Chunks.of(source, chunk=50)
    return vx.fit(model, chunks, key=KEY, **{"num_restarts": 2, "stop": STOP, **options})


@pytest.fixture
def path(model, rows, tmp_path):
    """A checkpoint of a fit that was interrupted within its fourth pass."""
    path = tmp_path / "fit.npz"
    with pytest.raises(KeyboardInterrupt):
        fit(model, Cut(rows, 9, interrupt), checkpoint=path)  # five calls before the first pass
    assert [p.name for p in tmp_path.iterdir()] == ["fit.npz"]
    return path


def test_an_interrupted_fit_goes_on_to_the_same_bits(model, rows, path):
    whole = fit(model, rows)
    saved = vx.load(path)
    assert (np.asarray(saved.run.n_iter) == 3).all()
    assert saved.num_rows == saved.total == 200
    reads = Cut(rows, 0, interrupt)
    fitted = fit(model, reads, resume=path)
    assert reads.calls == 3 + 12 - 3  # `of` looks three times; no row is read for a start
    leaves_close(fitted, whole, rtol=0.0)
    # the file has gone on with the fit, and a finished one reads nothing
    reads = Cut(rows, 0, interrupt)
    leaves_close(fit(model, reads, resume=path), whole, rtol=0.0)
    assert reads.calls == 3


def test_a_higher_limit_goes_on_where_a_lower_one_stopped(model, rows, tmp_path):
    path = tmp_path / "fit.npz"
    short = fit(model, rows, stop=vx.Stop(max_iter=5, tol=0.0), checkpoint=path)
    assert short.status == vx.Status.MAX_ITER
    leaves_close(fit(model, rows, resume=path), fit(model, rows), rtol=0.0)


def test_another_fit_does_not_go_on(model, rows, path):
    def refused(error, match, own=model, data=rows, file=path, **options):
        with pytest.raises(error, match=match):
            fit(own, data, **{"resume": file, **options})

    wider, other = vx.PoissonMixture.from_data(rows, 4), vx.PoissonMixture.from_data(rows + 1, 3)
    refused(ValueError, r"model: weights.\w+ is float\d+ of shape \(3,\) in .*, .* \(4,\)", wider)
    refused(ValueError, r"model: components\S+ has other values in .*fit.npz than here", other)
    gaussian = vx.GaussianMixture.from_data(rows, 3)
    refused(ValueError, "model: .* another model: PoissonMixture there, Gaus", gaussian)
    refused(ValueError, "method: .*: CAVI there, EM here", method=vx.EM())
    refused(ValueError, "num_restarts: .* has 2 of them, got 5", num_restarts=5)
    refused(ValueError, "stop: trace: .* has room for 1024", stop=vx.Stop(trace=9))
    refused(ValueError, "source: 199 rows or more in this pass, 200 before", data=rows[1:])
    refused(FileNotFoundError, "nothing", file=path.with_name("nothing"))
    vx.save(path, model)
    refused(ValueError, "resume: .*fit.npz holds a PoissonMixture, no checkpoint")
    for name in ("checkpoint", "resume"):
        with pytest.raises(ValueError, match=f"{name}: only a fit to Chunks can stop in between"):
            vx.fit(model, rows, key=KEY, **{name: path})


KILLED = """
    import os, signal
    import numpy as np, jax, vijax as vx
    from tests.test_checkpoint import Cut, fit
    rows = np.load("rows.npy")
    kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
    fit(vx.PoissonMixture.from_data(rows, 3), Cut(rows, 10, kill), checkpoint="fit.npz")
"""


def test_kill_9_within_a_pass_loses_that_pass_alone(model, rows, tmp_path):
    np.save(tmp_path / "rows.npy", rows)
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    env = os.environ | {"PYTHONPATH": here}
    code = textwrap.dedent(KILLED)
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True)
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert (np.asarray(vx.load(tmp_path / "fit.npz").run.n_iter) == 4).all()
    fitted = fit(model, rows, resume=tmp_path / "fit.npz")
    whole = fit(model, rows)
    np.testing.assert_allclose(fitted.elbos, whole.elbos, rtol=1e-9)
    np.testing.assert_allclose(fitted.runs.elbo_trace, whole.runs.elbo_trace, rtol=1e-9)
