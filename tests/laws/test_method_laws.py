"""Laws of every driver on every model: fixed points are shared, and jit is only speed."""

import jax
import numpy as np
import pytest

import vijax as vx

from ..table import CASES, leaves_close

METHODS = {"CAVI": vx.CAVI(), "EM": vx.EM()}
# EM needs latent assignments
PAIRS = [
    (case, name)
    for case in CASES
    for name in METHODS
    if case.methods and (case.mixture or name == "CAVI")
]
TIGHT = vx.Stop(tol=1e-12, max_iter=5000)


@pytest.fixture(params=PAIRS, ids=[f"{case.name}-{name}" for case, name in PAIRS])
def problem(request, rng):
    """A model, rows, a method, and a deterministic start."""
    case, name = request.param
    x = case.data(rng)
    model = case.model(rng, x)
    labels = np.arange(len(x)) % int(np.sum(model.active)) if case.mixture else None
    return model, x, METHODS[name], labels


def test_a_fit_ends_at_a_fixed_point(problem):
    model, x, method, init = problem
    fit = vx.fit(model, x, init=init, method=method, stop=TIGHT).check()
    more = vx.trajectory(model, x, init=fit, method=method, num_iters=3)
    np.testing.assert_allclose(more.elbo, fit.elbo, rtol=1e-11)
    last = jax.tree.map(lambda a: a[-1], more.q)
    leaves_close(last.about(fit.q), fit.q, rtol=1e-4, atol=1e-5)


def test_chunks_share_the_fixed_point(problem):
    model, x, method, init = problem
    whole = vx.fit(model, x, init=init, method=method, stop=TIGHT).check()
    chunked = type(method)(chunk=13)
    parts = vx.fit(model, x, init=init, method=chunked, stop=TIGHT).check()
    np.testing.assert_allclose(parts.elbo, whole.elbo, rtol=1e-10)
    leaves_close(parts.q.about(whole.q), whole.q, rtol=1e-4, atol=1e-5)


def test_the_objective_never_falls(problem):
    model, x, method, init = problem
    states = vx.trajectory(model, x, init=init, method=method, num_iters=40)
    objective = np.asarray(states.elbo)
    assert (np.diff(objective) >= -1e-9 * np.abs(objective[1:])).all()


def test_the_reported_gain_bounds_what_a_step_gained(problem):
    """Near the end; it is what the stopping rule lives on."""
    model, x, method, init = problem
    states = vx.trajectory(model, x, init=init, method=method, num_iters=40)
    gained, reported = np.diff(states.elbo)[20:], np.asarray(states.improvement)[21:]
    assert (gained <= reported * 1.2 + 1e-9).all()


def test_jit_changes_nothing(problem):
    """A few steps of the pure pieces, with every operation run by itself."""
    model, x, method, init = problem
    if method.point and not isinstance(model, vx.GaussianMixture):
        pytest.skip("EM reads the same pieces at a point")
    batch = vx.Batch.of(x)
    jitted = vx.trajectory(model, x, init=init, method=method, num_iters=3)
    q = jax.tree.map(lambda a: a[0], jitted.q)
    with jax.disable_jit():
        state = method.init(model, q, batch)
        for i in range(3):
            state = method.step(model, state, batch, None)
            np.testing.assert_allclose(state.elbo, jitted.elbo[i], rtol=1e-10)


def test_a_nan_model_is_a_status(problem):
    model, x, method, init = problem
    broken = jax.tree.map(lambda a: a * np.nan if a.dtype == float else a, model)
    fit = vx.fit(broken, x, init=init, method=method)
    assert fit.status == vx.Status.NON_FINITE
    assert np.isnan(fit.elbo)
    assert fit.n_iter == 1
