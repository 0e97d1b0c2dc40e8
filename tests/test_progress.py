"""One report for all lanes, whatever is vmapped around a fit, and nothing where nobody listens."""

import io
import logging
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax.infer.run.progress import Listener, listener_of

from .programs import programs
from .table import leaves_close

KEY = jax.random.key(0)
STOP = vx.Stop(max_iter=25)
ALL = vx.Stop(max_iter=25, tol=0.0, patience=100)  # takes all of its iterations


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(8)
    return rng.poisson([[3.0, 8.0]], size=(60, 2)) + 6.0 * rng.integers(0, 2, size=(60, 1))


@pytest.fixture(scope="module")
def model(rows):
    return vx.PoissonMixture.from_data(rows, 3)


@pytest.fixture(scope="module")
def starts(model, rows):
    """Six, that end after different numbers of iterations."""
    batch = vx.Batch.of(rows)
    keys = jax.random.split(KEY, 6)
    return batch, jax.jit(jax.vmap(lambda key: model.init(key, batch)))(keys)


def one(model, batch, q, reporter):
    stop = vx.Stop(max_iter=40, tol=1.0, patience=1)
    return vx.iterate(vx.CAVI(), model, batch, q, stop, None, reporter)


@pytest.mark.parametrize("lanes", [(), (6,), (2, 3)], ids=["jit", "vmap", "nested vmap"])
def test_one_report_for_all_lanes(model, starts, lanes):
    batch, q = starts
    q = jax.tree.map(lambda a: a[0] if not lanes else a.reshape(*lanes, *a.shape[1:]), q)
    heard = []
    run = one
    for _ in lanes:
        run = jax.vmap(run, (None, None, 0, None))
    reporter = vx.Reporter.to(heard.append, num_rows=60, every=1)
    result = jax.jit(run)(model, batch, q, reporter)
    reporter.leave()
    n_iter = np.asarray(result.n_iter).reshape(-1)
    trace = np.asarray(result.elbo_trace).reshape(len(n_iter), -1)
    final = np.asarray(result.elbo).reshape(-1)
    assert [r.iteration for r in heard] == [*range(1, n_iter.max()), n_iter.max()]
    if lanes:
        assert len(set(n_iter)) > 1
    for r in heard:
        now = np.where(n_iter > r.iteration, trace[:, r.iteration - 1], final)
        np.testing.assert_allclose([r.best, r.median, r.worst], [f(now) for f in SUMMARIES])
        assert r.lanes == len(n_iter)
        assert r.running == (n_iter > r.iteration).sum()
        assert r.rows_per_second > 0
        assert r.seconds >= 0
    with programs("run") as seen:
        again = []
        reporter = vx.Reporter.to(again.append, every=3)
        jax.block_until_ready(jax.jit(run)(model, batch, q, reporter))
        reporter.leave()
    assert not seen  # another callback and another rate are the same program
    assert [r.iteration for r in again] == [*range(3, n_iter.max(), 3), n_iter.max()]
    assert again[0].rows_per_second == 0  # as many rows as it was told


SUMMARIES = (np.max, np.median, np.min)


def test_many_fits_report_and_are_the_same(model, rows):
    """On two devices the five, on one what is alone of its size."""
    sets = [rows[:30] for _ in range(5)] + [rows]
    heard = []
    options = {
        "key": KEY,
        "init": "random",
        "stop": ALL,
        "layout": 2,
        "devices": jax.devices("cpu")[:2],
    }
    told = vx.fit_many(model, sets, callback=heard.append, **options)
    leaves_close(told, vx.fit_many(model, sets, **options), rtol=1e-12, atol=1e-12)
    assert {news.lanes for news in heard} == {1, 2}
    assert all(news.worst <= news.median <= news.best for news in heard if news.running)
    assert max(news.iteration for news in heard) <= told.n_iter.max()
    assert max(news.best for news in heard if news.running) <= told.elbo.max() + 1e-9


def test_off_is_not_in_the_program(model, starts):
    batch, q = starts
    q = jax.tree.map(lambda a: a[0], q)
    plain = str(jax.make_jaxpr(one)(model, batch, q, None))
    assert "callback" not in plain
    reporter = vx.Reporter.to(lambda report: None)
    assert "callback" in str(jax.make_jaxpr(one)(model, batch, q, reporter))
    reporter.leave()
    found = jax.make_jaxpr(lambda x: vx.fit(model, x, key=KEY))(batch)
    assert "callback" not in str(found)


def test_fit_reports_rarely_and_at_the_end(model, rows):
    heard, other = [], []
    options = {"key": KEY, "init": "random", "num_restarts": 4, "stop": ALL}
    fit = vx.fit(model, rows, **options, callback=heard.append)
    most = int(fit.runs.n_iter.max())
    assert most > 20
    assert [r.iteration for r in heard] == [10, 20, most]
    last = heard[-1]
    np.testing.assert_allclose([last.best, last.worst], [fit.elbos.max(), fit.elbos.min()])
    assert (last.lanes, last.running) == (4, 0)
    with programs("_fit") as seen:
        vx.fit(model, rows, **options, callback=other.append)
    assert not seen
    assert len(other) == 3
    assert len(heard) == 3


def test_a_callback_that_raises_is_warned_of(model, rows):
    def bad(report):
        heard.append(report)
        raise LookupError("gone")

    heard = []
    options = {"key": KEY, "num_restarts": 4, "stop": STOP}
    plain = vx.fit(model, rows, callback=lambda report: None, **options)
    with pytest.warns(RuntimeWarning, match=r"callback: raised LookupError\('gone'\); the fit"):
        fit = vx.fit(model, rows, callback=bad, **options)
    assert len(heard) == 1
    leaves_close(fit, plain, rtol=1e-12)
    heard.clear()
    chunks = vx.Chunks.of(rows, chunk=20)
    with pytest.warns(RuntimeWarning, match="callback: raised LookupError"):
        vx.fit(model, chunks, callback=bad, **options)
    assert len(heard) == 1


def test_under_a_jit_of_the_user_it_is_heard_at_every_call(model, rows):
    heard = []

    @jax.jit
    def run(x):
        return jax.vmap(lambda x: vx.fit(model, x, key=KEY, stop=STOP, callback=heard.append))(x)

    x = jnp.asarray(np.stack([rows, rows + 1, rows[::-1]]))
    for _ in range(2):
        heard.clear()
        fits = jax.block_until_ready(run(x))
        jax.effects_barrier()
        assert heard[-1].iteration == fits.n_iter.max()
        assert {r.lanes for r in heard} == {3}
        assert all(r.rows_per_second > 0 for r in heard)


def test_one_report_a_pass_out_of_core(model, rows):
    heard = []
    chunks = vx.Chunks.of(rows, chunk=20)
    fit = vx.fit(model, chunks, key=KEY, num_restarts=4, stop=STOP, callback=heard.append)
    assert [r.iteration for r in heard] == list(range(1, int(fit.runs.n_iter.max()) + 1))
    trace = np.asarray(fit.runs.elbo_trace)
    assert heard[0].best == trace[:, 0].max()
    assert heard[0].running == 4
    assert heard[-1].running == 0
    assert heard[0].rows_per_second > 0


def test_ctrl_c_in_a_callback_ends_a_fit_over_chunks(model, rows):
    def stop(report):
        raise KeyboardInterrupt

    fit = vx.fit(model, vx.Chunks.of(rows, chunk=20), key=KEY, num_restarts=4, callback=stop)
    assert fit.status == vx.Status.INTERRUPTED
    assert fit.n_iter == 1
    assert np.isfinite(fit.elbo)


class Bar:
    """What of tqdm is used."""

    bars = []

    def __init__(self, desc, unit):
        self.n, self.text, self.closed = 0, "", False
        self.bars.append(self)

    def set_postfix_str(self, text, refresh):
        self.text = text

    def update(self, n):
        self.n += n

    def close(self):
        self.closed = True


def test_progress_is_a_bar_or_lines(model, rows, monkeypatch, caplog):
    chunks = vx.Chunks.of(rows, chunk=20)
    options = {"key": KEY, "num_restarts": 4, "stop": STOP, "progress": True}
    monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=Bar))
    fit = vx.fit(model, rows, **options)
    most = int(fit.runs.n_iter.max())
    (bar,) = Bar.bars
    assert (bar.n, bar.closed) == (most, True)
    assert bar.text.startswith(f"{float(fit.elbo):.6g}, median ")
    assert "0 of 4 running" in bar.text
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with caplog.at_level(logging.INFO, "vijax"):
        vx.fit(model, chunks, **options)
    assert f"iteration {most}: " in caplog.messages[-1]
    assert len(caplog.messages) < most / 2
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(logging.getLogger("vijax"), "hasHandlers", lambda: False)
    vx.fit(model, chunks, **options)
    assert stream.getvalue().splitlines()[-1].startswith(f"vijax: iteration {most}: ")


def test_lanes_without_a_finite_bound_are_left_out():
    heard = []
    listener = Listener(heard.append, 10)
    listener.receive([np.nan] * 3, [2, 2, 1, 2])
    assert np.isnan(heard[0].best)
    assert str(heard[0]).startswith("iteration 1: nan")


def test_search_reports_its_proposals(model, rows):
    heard = []
    moves = vx.Moves(max_trials=11)
    fit = vx.fit(model, rows, key=KEY, stop=STOP, moves=moves, callback=heard.append)
    assert len(heard) == 2  # after ten proposals, and at the end
    assert heard[-1].iteration == fit.n_iter
    assert heard[-1].best == fit.elbo
    assert heard[0].best <= heard[1].best


def test_arguments_are_checked():
    """Asked of the check itself: these tests run under a type checker that is faster."""
    with pytest.raises(TypeError, match="progress: expected True or False, got 3"):
        listener_of(3, None, 0)
    with pytest.raises(TypeError, match="callback: expected a function of a Report, got 3"):
        listener_of(False, 3, 0)
