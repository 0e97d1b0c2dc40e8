"""Ending a fit early: a callback that says so, or raises; Ctrl-C, on every path."""

import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

import vijax as vx
from vijax.infer.run import interrupt

from .data import clusters

KEY = jax.random.key(0)
ENDLESS = vx.Stop(max_iter=10**8, tol=0.0, patience=10**8)
PATHS = ["fit", "restarts", "many", "lanes", "chunks", "moves"]


def endless(rng):
    """A call for each path through the drivers, that ends when it is told to."""
    x, _ = clusters(rng, n=120, k=3)
    model = vx.GaussianMixture.from_data(x, 4)
    options = {"key": KEY, "stop": ENDLESS}
    many = {**options, "devices": jax.devices("cpu")[:1]}
    sets = [x, x[:30], x[:100], x[20:]]  # the second is a stack of its own
    moves = vx.Moves(max_trials=10**7, patience=10**7)
    return {
        "fit": lambda f: vx.fit(model, x, callback=f, **options),
        "restarts": lambda f: vx.fit(model, x, num_restarts=3, callback=f, **options),
        "many": lambda f: vx.fit_many(model, sets, callback=f, **many),
        "lanes": lambda f: vx.fit_many(model, sets, layout=2, callback=f, **many),
        "chunks": lambda f: vx.fit(model, vx.Chunks.of(x, chunk=50), callback=f, **options),
        "moves": lambda f: vx.fit(model, x, key=KEY, moves=moves, callback=f),
    }


@pytest.mark.parametrize("path", PATHS)
def test_a_callback_ends_the_fit(rng, path):
    heard = []

    def callback(report):
        heard.append(report)
        return vx.STOP if len(heard) == 3 else None

    result = endless(rng)[path](callback)
    assert len(heard) == 3
    assert (np.asarray(result.status) == vx.Status.INTERRUPTED).all()
    begun = np.asarray(result.n_iter) > 0
    assert begun.any()
    assert (np.isfinite(np.asarray(result.elbo)) == begun).all()
    with pytest.raises(vx.FitError, match="INTERRUPTED: Ctrl-C or the callback ended it early"):
        result.check()


@pytest.mark.parametrize("path", ["fit", "chunks"])
def test_a_callback_that_raises_ends_the_fit(rng, path):
    def callback(report):
        raise LookupError("gone")

    with pytest.warns(RuntimeWarning, match=r"callback: raised LookupError\('gone'\); the fit"):
        result = endless(rng)[path](callback)
    assert (np.asarray(result.status) == vx.Status.INTERRUPTED).all()


def test_what_is_returned_is_the_best_so_far(rng):
    """The same q as after as many iterations, from which the fit goes on to the same end."""
    x, _ = clusters(rng, n=120, k=3)
    model = vx.GaussianMixture.from_data(x, 4)
    part = vx.fit(model, x, key=KEY, init="random", callback=lambda report: vx.STOP)
    n_iter = int(part.n_iter)
    assert n_iter == 10
    short = vx.fit(model, x, key=KEY, init="random", stop=vx.Stop(max_iter=n_iter))
    np.testing.assert_allclose(part.elbo, short.elbo, rtol=1e-12)
    np.testing.assert_allclose(vx.elbo(model, part, x), part.elbo, rtol=1e-6)
    whole = vx.fit(model, x, key=KEY, init="random")
    np.testing.assert_allclose(vx.fit(model, x, init=part).elbo, whole.elbo, atol=0.05)


def test_the_best_of_restarts_is_among_those_that_ended_before(rng):
    """With halving, and in a layout that runs restarts one after another."""
    x, _ = clusters(rng, n=120, k=3)
    model = vx.GaussianMixture.from_data(x, 4)
    options = {"key": KEY, "init": "random", "num_restarts": 4}
    fit = vx.fit(model, x, callback=lambda r: vx.STOP, halving=vx.Halving(), **options)
    assert fit.status == vx.Status.INTERRUPTED
    finite = np.asarray(fit.elbos)[np.isfinite(fit.elbos)]
    assert float(fit.elbo) == finite.max()


def test_inside_of_a_jit_every_call_is_ended_by_its_own_answer(rng):
    x, _ = clusters(rng, n=120, k=3)
    model = vx.GaussianMixture.from_data(x, 4)
    answers = [vx.STOP]
    run = jax.jit(lambda x: vx.fit(model, x, key=KEY, init="random", callback=lambda r: answers[0]))
    assert run(x).status == vx.Status.INTERRUPTED
    answers[0] = None
    assert run(x).status == vx.Status.CONVERGED
    answers[0] = vx.STOP
    assert run(x).status == vx.Status.INTERRUPTED


def test_only_long_programs_look_for_ctrl_c(monkeypatch):
    looks = interrupt.iterations_between_looks
    config = types.SimpleNamespace(jax_compilation_cache_dir=None)
    monkeypatch.setattr(interrupt, "jax", types.SimpleNamespace(config=config))
    assert looks(10**3, 1000) is None
    assert looks(10**6, 1000) == 10
    assert looks(4, 10**6) == 1000  # an iteration takes its time, however small
    assert looks(10**9, 1000) == 1
    config.jax_compilation_cache_dir = "/tmp/programs"
    assert looks(10**9, 1000) is None


@pytest.mark.parametrize(
    ("path", "told"),
    [*((path, "quiet") for path in ("fit", "many", "chunks", "moves")), ("fit", "told")],
)
def test_ctrl_c(path, told):
    """With a callback it is a partial result, without one KeyboardInterrupt; nothing goes on."""
    root = Path(__file__).parents[1]
    script = [sys.executable, "-m", "tests.interrupted", path, told]
    own = ("JAX_NUM_CPU_DEVICES", "JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS")
    env = {name: value for name, value in os.environ.items() if name not in own}
    with subprocess.Popen(script, cwd=root, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "running\n"
        text = ""
        for seconds in (1.0, 15.0, 15.0, 15.0):  # Python drops an exception inside of its collector
            try:
                text, _ = process.communicate(timeout=seconds)
                break
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGINT)
        process.kill()
    ended, busy = text.strip().split("|")
    wanted = f"[{int(vx.Status.INTERRUPTED)}] True" if told == "told" else "KeyboardInterrupt"
    assert ended == wanted
    assert float(busy) < 0.5
