"""Memoized inference: against a plain reference that keeps responsibilities, and its laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx

from .data import cast, clusters
from .table import leaves_close

K, BLOCKS = 3, 4
TIGHT = vx.Stop(tol=1e-12, max_iter=5000)
METHOD = vx.Memoized(num_blocks=BLOCKS)


def rows(rng, kind=None):
    """33 rows, some of them absent, with weights; in no multiple of the blocks."""
    weight = rng.gamma(3.0, size=33) * (rng.random(33) < 0.9)
    if kind == "counts":
        x = rng.poisson(np.array([[1.0, 4.0], [6.0, 2.0], [9.0, 9.0]])[rng.integers(3, size=33)])
        return vx.Batch.of(x.astype(float), weight)
    x, _ = clusters(rng, n=33, d=2, k=K, separation=2.0)
    if kind == "missing":
        x[rng.random(x.shape) < 0.2] = np.nan
    return vx.Batch.of(x, weight, missing=kind == "missing")


def gaussian(batch, covariance="full", weights=None, noise=False):
    return vx.GaussianMixture.from_data(
        batch, K, covariance=covariance, weights=weights, noise=noise
    )


def sticks(truncated=True):
    return vx.StickBreaking.dirichlet_process(1.5, K, truncated=truncated)


# name: kind of rows, model of them
MODELS = {
    "full": (None, gaussian),
    "tied, sticks": (None, lambda b: gaussian(b, "tied", sticks())),
    "diag, process": (None, lambda b: gaussian(b, "diag", vx.DirichletProcess.with_prior(2, 1, K))),
    "counts, infinite sticks": (
        "counts",
        lambda b: vx.PoissonMixture.from_data(b, K, weights=sticks(truncated=False)),
    ),
    "missing, noise": ("missing", lambda b: gaussian(b, "diag", noise=True)),
    "student": (None, lambda b: vx.StudentTMixture.from_data(b, K, covariance="diag")),
}
# those whose rows have no latent variables beside the component
PLAIN = ["full", "tied, sticks", "diag, process", "counts, infinite sticks"]


def problem(rng, name):
    """A model, its rows, and a q to start from."""
    kind, build = MODELS[name]
    batch = rows(rng, kind)
    model = build(batch)
    resp = jax.nn.one_hot(jnp.arange(33) % K, model.num_components)
    return model, batch, posterior(model, posterior(model, model.prior, batch, resp), batch, resp)


@jax.jit
def responsibilities(model, q, batch):
    log_joint = model.log_joint(q.moments(), batch)
    return jax.nn.softmax(jnp.where(batch.weight[:, None] > 0, log_joint, 0.0))


@jax.jit
def posterior(model, q, batch, resp):
    return model.combine(q, model.assign(q, batch, resp))


@jax.jit
def bound_and_update(model, q, batch, resp):
    """The bound, the update, and the responsibilities in its order of the components."""
    stats = model.assign(q, batch, resp)
    order = model.order(q, stats)
    elbo = model.elbo(q, batch, jnp.where(batch.weight[:, None] > 0, resp, 0.0))
    return elbo, model.update(q, stats), resp if order is None else resp[:, order]


def reference(model, batch, q, passes):
    """Every responsibility is remembered, and everything is computed from all of them."""
    resp = responsibilities(model, q, batch)
    for i in range(passes):
        for b in range(BLOCKS if i else 0):
            q = posterior(model, q, batch, resp) if b else q
            resp = resp.at[b::BLOCKS].set(responsibilities(model, q, batch)[b::BLOCKS])
        elbo, new, resp = bound_and_update(model, q, batch, resp)
        yield q, elbo
        q = new


@pytest.mark.parametrize("name", PLAIN[1:])
def test_bound_and_q_are_those_of_the_remembered_responsibilities(rng, name):
    model, batch, start = problem(rng, name)
    fit = vx.fit(model, batch, init=start, method=METHOD, stop=vx.Stop(tol=0.0, max_iter=4))
    *_, (q, _) = expected = list(reference(model, batch, start, 4))
    np.testing.assert_allclose(fit.elbo_trace[:4], [elbo for _, elbo in expected], rtol=1e-11)
    leaves_close(fit.q.about(q), q, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", PLAIN)
def test_it_ends_at_a_fixed_point_of_cavi_and_never_falls(rng, name):
    model, batch, start = problem(rng, name)
    fit = vx.fit(model, batch, init=start, method=METHOD, stop=TIGHT).check()
    trace = np.asarray(fit.elbo_trace)[: int(fit.n_iter)]
    assert (np.diff(trace) >= -1e-10 * np.abs(trace[1:])).all()
    elbo, q, _ = bound_and_update(model, fit.q, batch, responsibilities(model, fit.q, batch))
    np.testing.assert_allclose(elbo, fit.elbo, rtol=1e-8)
    leaves_close(q.about(fit.q), fit.q, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_remembered_is_a_bound_that_touches(rng, name):
    """Elsewhere than at the q of the visit it is lower, by an amount of second order."""
    model, batch, start = problem(rng, name)
    other = model.combine(start, 1.3 * model.local(start.moments(), batch.cut(0, 20)).stats)

    @jax.jit
    def gap(at):
        visited = model.local(start.moments(), batch)
        here = model.local(start.lerp(other, at).moments(), batch)
        change = jnp.sum(batch.weight * (here.log_z - visited.log_z))
        before = model.expected_log_lik(start, visited.stats)
        after = model.expected_log_lik(start.lerp(other, at), visited.stats)
        return change - (after - before), jnp.abs(after - before)

    for at in (-1e-3, 1e-3):
        lower, moved = gap(at)
        assert -1e-10 < lower < 0.05 * moved
    assert gap(0.5)[0] > 0


def test_one_block_is_cavi(rng):
    model, batch, start = problem(rng, "tied, sticks")
    own = vx.trajectory(model, batch, init=start, num_iters=8, method=vx.Memoized(num_blocks=1))
    cavi = vx.trajectory(model, batch, init=start, num_iters=8)
    np.testing.assert_allclose(own.elbo, cavi.elbo, rtol=1e-12)
    np.testing.assert_allclose(own.improvement, cavi.improvement, rtol=1e-6, atol=1e-9)
    leaves_close(own.next_q, cavi.next_q, rtol=1e-9, atol=1e-10)


def test_gain_bounds_what_a_pass_gained(rng):
    """Near the end; it is what the stopping rule lives on."""
    model, batch, start = problem(rng, "counts, infinite sticks")
    states = vx.trajectory(model, batch, init=start, num_iters=40, method=METHOD)
    gained, reported = np.diff(states.elbo)[15:], np.asarray(states.improvement)[16:]
    assert (gained <= reported * 1.2 + 1e-9).all()


def test_what_is_remembered_adds_up_to_all_rows(rng):
    """After many passes too: nothing is subtracted, so nothing drifts."""
    model, batch, start = problem(rng, "counts, infinite sticks")
    end = vx.fit(model, batch, init=start, method=METHOD, stop=TIGHT)
    states = vx.trajectory(model, batch, init=end, num_iters=40, method=METHOD)
    stats, q = jax.tree.map(lambda a: a[-1], (states.memory.stats, states.q))
    blocks = [jax.tree.map(lambda a, b=b: a[b], stats) for b in range(BLOCKS)]
    whole = model.assign(q, batch, responsibilities(model, q, batch))
    leaves_close(sum(blocks[1:], blocks[0]).about(whole), whole, rtol=1e-6, atol=1e-7)


def test_absent_rows_change_nothing(rng):
    model, batch, start = problem(rng, "counts, infinite sticks")
    x = np.concatenate([batch.x, rng.poisson(1e3, size=(7, 2))])
    padded = vx.Batch.of(x, np.concatenate([batch.weight, np.zeros(7)]))
    stop = vx.Stop(tol=0.0, max_iter=5)
    plain = vx.fit(model, batch, init=start, method=METHOD, stop=stop)
    longer = vx.fit(model, padded, init=start, method=METHOD, stop=stop)
    np.testing.assert_allclose(longer.elbo_trace[:5], plain.elbo_trace[:5], rtol=1e-11)


@pytest.mark.float32
def test_single_precision_far_from_the_origin(rng):
    x, labels = clusters(rng, n=3000, d=2, k=K, separation=30.0)
    x = (x + 1e4).astype(np.float32)
    model = vx.GaussianMixture.from_data(x, K, covariance="diag")
    method = vx.Memoized(num_blocks=7)
    fit = vx.fit(model, x, init=np.roll(labels, 500), method=method).check()
    assert fit.elbo.dtype == np.float32
    wide = jax.dtypes.canonicalize_dtype(np.float64)
    exact = vx.elbo(cast(model, wide), cast(fit.q, wide), x.astype(wide))
    np.testing.assert_allclose(fit.elbo, exact, rtol=1e-5)


def test_its_first_step_is_at_the_q_it_is_given(rng):
    model, batch, start = problem(rng, "counts, infinite sticks")
    own = vx.elbo(model, start, batch, method=METHOD)
    np.testing.assert_allclose(own, vx.elbo(model, start, batch), rtol=1e-12)


def test_a_coupled_model_of_no_components(rng):
    x = rng.normal(1.0, 2.0, size=40)
    model = vx.FactorisedGaussian.with_prior(mean=0.5, kappa=0.7, shape=2.0, rate=3.0)
    method = vx.Memoized(num_blocks=50)  # more than rows
    fit = vx.fit(model, x, method=method, stop=TIGHT).check()
    np.testing.assert_allclose(fit.elbo, vx.fit(model, x, stop=TIGHT).elbo, rtol=1e-10)


def test_bad_settings_are_named(rng):
    x = rng.normal(size=(10, 2))
    model = vx.GaussianMixture.from_data(x, 2)
    with pytest.raises(ValueError, match="num_blocks: must be finite and >= 1"):
        vx.fit(model, x, init=model.prior, method=vx.Memoized(num_blocks=0))
    with pytest.raises(TypeError, match="num_blocks"):
        vx.fit(model, x, init=model.prior, method=vx.Memoized(num_blocks=2.5))
