"""Tempered starts: what they are, and that hard random labels are escaped from more often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

import vijax as vx
from vijax.data import datasets

from .programs import programs
from .table import leaves_close


@pytest.fixture(scope="module")
def rows():
    return datasets.three_clusters(150)[0]


@pytest.fixture(scope="module")
def model(rows):
    return vx.GaussianMixture.from_data(rows, 4)


def test_no_steps_are_the_plain_start(rows, model, key):
    plain = vx.trajectory(model, rows, init="random", key=key, num_iters=3)
    bare = vx.trajectory(model, rows, init=vx.Annealed("random", steps=0), key=key, num_iters=3)
    leaves_close(bare, plain, rtol=0.0)


def test_beta_one_is_cavi(rows, model):
    labels = np.arange(150) % 4
    later = vx.trajectory(model, rows, init=labels, num_iters=6)
    start = vx.Annealed(labels, beta=1.0, steps=5)
    first = vx.trajectory(model, rows, init=start, num_iters=1)
    np.testing.assert_allclose(first.elbo[0], later.elbo[5], rtol=1e-12)


def test_responsibilities_are_tempered(rows, model):
    """One step, beside NumPy's softmax of the tempered log joint."""
    batch, labels = model.as_batch(rows), np.arange(150) % 4
    q = jax.tree.map(lambda a: a[0], vx.trajectory(model, rows, init=labels, num_iters=1).q)
    resp = softmax(0.4 * np.asarray(model.log_joint(q.moments(), batch)), axis=1)
    expected = model.update(q, model.assign(q, batch, jnp.asarray(resp)))
    expected = expected.lerp(q, 1e-4 * 0.6)  # the trace of the start that stays in
    start = vx.Annealed(q, beta=0.4, steps=1)
    got = jax.tree.map(lambda a: a[0], vx.trajectory(model, rows, init=start, num_iters=1).q)
    leaves_close(got, expected, rtol=1e-9, atol=1e-9)


def test_random_labels_are_escaped_from_more_often(key):
    """The tutorial data with twice the components that it needs."""
    x, _ = datasets.three_clusters()
    wide = {"kappa": 0.01, "df": 4.0, "scatter": np.cov(x.T)}
    model = vx.GaussianMixture.from_data(x, 6, **wide)
    options = {"key": key, "num_restarts": 16}
    plain = vx.fit(model, x, init="random", **options)
    tempered = vx.fit(model, x, init=vx.Annealed("random"), **options)
    top = max(plain.elbo, tempered.elbo)
    hits = [int((np.asarray(fit.elbos) > top - 0.1).sum()) for fit in (plain, tempered)]
    assert hits[1] >= hits[0] + 3
    assert tempered.converged
    np.testing.assert_allclose(vx.elbo(model, tempered.q, x), tempered.elbo, rtol=1e-12)
    trace = np.asarray(tempered.elbo_trace)[: int(tempered.n_iter)]
    assert (np.diff(trace) > -1e-9).all()


@pytest.mark.parametrize("method", [vx.EM(), vx.Accelerated()], ids=["EM", "Accelerated"])
def test_any_method_goes_on_from_it(rows, model, method, key):
    fit = vx.fit(model, rows, init=vx.Annealed(), key=key, num_restarts=2, method=method).check()
    np.testing.assert_allclose(vx.elbo(model, fit.q, rows, method=method), fit.elbo, rtol=1e-12)


def test_maximum_likelihood(rows, key):
    """Under a flat prior q has a point and no moments."""
    model = vx.GaussianMixture.flat(2, 2)
    fit = vx.fit(model, rows, init=vx.Annealed(), key=key, method=vx.EM()).check()
    assert np.isfinite(fit.elbo)


def test_numbers_do_not_compile_anew(rows, model, key):
    vx.fit(model, rows, init=vx.Annealed("random"), key=key)
    with programs("_fit") as seen:
        vx.fit(model, rows, init=vx.Annealed("random", beta=0.7, steps=7), key=key)
    assert not seen


def test_bad_schedules_are_refused(rows, model, key):
    def fit(init, model=model, x=rows):
        return vx.fit(model, x, init=init, key=key)

    with pytest.raises(ValueError, match="init: beta: must be at most 1, got 1.5"):
        fit(vx.Annealed(beta=1.5))
    with pytest.raises(ValueError, match="init: beta: must be finite and > 0"):
        fit(vx.Annealed(beta=0.0))
    with pytest.raises(ValueError, match="init: steps: must be finite and >= 0"):
        fit(vx.Annealed(steps=-1))
    with pytest.raises(TypeError, match="not around another Annealed"):
        fit(vx.Annealed(vx.Annealed()))
    with pytest.raises(ValueError, match="init: expected None, 'random'"):
        fit(vx.Annealed("anything"))
    exact = vx.NormalGammaExact.with_prior(mean=0, kappa=1, shape=1, rate=1)
    with pytest.raises(ValueError, match="NormalGammaExact has no latent assignments to anneal"):
        fit(vx.Annealed(), exact, rows[:, 0])
