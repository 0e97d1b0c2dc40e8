"""jit, vmap and new values: one program, no crosstalk."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx

from .data import clusters
from .programs import programs
from .table import leaves_close

NUM_SETS, NUM_RESTARTS = 64, 8
CAVI = vx.CAVI()
STOP = vx.Stop(tol=1e-4, max_iter=300)


def many(rng, n=60, dtype=np.float64):
    """Data sets that need different numbers of iterations."""
    sets = [clusters(rng, n=n, k=3, separation=rng.uniform(0.5, 6.0))[0] for _ in range(NUM_SETS)]
    return np.stack(sets).astype(dtype)


def fit_one(x, key, method=CAVI, stop=STOP):
    model = vx.GaussianMixture.from_data(x, 3)
    return vx.fit(model, x, key=key, method=method, num_restarts=NUM_RESTARTS, stop=stop)


def by_weight(q):
    """Components by size: restarts that tie up to rounding differ by a permutation."""
    order = np.argsort(np.asarray(q.weights.conc))
    return jax.tree.map(lambda a: a[order], q)


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("method", [vx.CAVI(), vx.EM()], ids=["CAVI", "EM"])
def test_vmap_over_data_sets_and_restarts_is_the_loop(rng, method):
    dtype = jnp.result_type(float)
    sets, keys = many(rng, dtype=dtype), jax.random.split(jax.random.key(0), NUM_SETS)
    together = jax.jit(jax.vmap(lambda x, key: fit_one(x, key, method)))(jnp.asarray(sets), keys)
    assert together.elbo.shape == (NUM_SETS,)
    assert together.elbos.shape == (NUM_SETS, NUM_RESTARTS)
    assert together.q.components.scatter.shape == (NUM_SETS, 3, 2, 2)
    assert len(np.unique(together.n_iter)) > 10  # lanes stop at different times
    exact = dtype == jnp.float64
    for i in range(NUM_SETS):
        alone = fit_one(sets[i], keys[i], method)
        if exact:
            np.testing.assert_allclose(together.elbos[i], alone.elbos, rtol=1e-8)
            np.testing.assert_array_equal(together.statuses[i], alone.statuses)
            # gains near 1e-16 nats are rounding, and whether they shrink is chance
            np.testing.assert_allclose(together.runs.n_iter[i], alone.runs.n_iter, atol=8)
            ours, theirs = (
                by_weight(jax.tree.map(lambda a, i=i: a[i], together.q)),
                by_weight(alone.q),
            )
            leaves_close(ours.weights, theirs.weights, rtol=1e-5, atol=1e-5)
            ours, theirs = ours.components, theirs.components
            leaves_close(ours.about(theirs), theirs, rtol=1e-5, atol=1e-5)
        else:  # rounding may send single restarts elsewhere
            np.testing.assert_allclose(together.elbo[i], alone.elbo, rtol=1e-4, atol=0.1)


def test_new_values_trace_nothing(rng):
    """New data, keys, priors, tolerances, limits and weights; and any container of the same."""
    sets = many(rng, n=641)  # a shape of its own, 768 rows
    with programs("_fit") as made:
        for method in (vx.CAVI(), vx.EM()):
            fit_one(sets[0], jax.random.key(0), method)
        assert made
        made.clear()
        for i in range(1, 4):
            key = jax.random.key(i)
            for method in (vx.CAVI(), vx.EM()):
                fit_one(sets[i], key, method, vx.Stop(tol=10.0**-i, max_iter=50 + i, patience=i))
                fit_one(jnp.asarray(sets[i]), key, method, vx.Stop(tol=jnp.asarray(0.1)))
                fit_one(sets[i].tolist(), key, method)
                model = vx.GaussianMixture.with_prior(
                    3, conc=i, mean=0, kappa=0.1 * i, df=[4, 5, 6], scatter=np.eye(2) * i
                )
                batch = vx.Batch.of(sets[i], rng.random(641))
                vx.fit(model, batch, key=key, method=method, num_restarts=NUM_RESTARTS)
    assert not made


@pytest.mark.long
def test_models_of_different_size_share_one_program(rng):
    x = many(rng)[0]
    models = [vx.GaussianMixture.from_data(x, k, k_max=6) for k in range(1, 7)]
    stack = jax.tree.map(lambda *a: jnp.stack(a), *models)
    key = jax.random.key(0)
    fits = jax.vmap(lambda m: vx.fit(m, x, key=key, num_restarts=4))(stack)
    for i, model in enumerate(models):
        alone = vx.fit(model, x, key=key, num_restarts=4)
        np.testing.assert_allclose(fits.elbo[i], alone.elbo, rtol=1e-9)
        assert (np.asarray(fits.q.weights.mean[i]) > 0).sum() == i + 1


@pytest.mark.float32(hasty=True)
def test_a_bad_data_set_touches_no_neighbour(rng):
    sets = many(rng, dtype=jnp.result_type(float))[:8]
    broken = sets.copy()
    broken[2, 5, 1] = np.nan
    broken[5, 0, 0] = np.inf
    keys = jax.random.split(jax.random.key(0), 8)
    run = jax.jit(jax.vmap(fit_one))
    good, mixed = run(jnp.asarray(sets), keys), run(jnp.asarray(broken), keys)
    sick = np.isin(np.arange(8), [2, 5])
    assert (np.asarray(mixed.status)[sick] == vx.Status.NON_FINITE).all()
    assert np.isnan(np.asarray(mixed.elbo)[sick]).all()
    for a, b in zip(jax.tree.leaves(good), jax.tree.leaves(mixed), strict=True):
        np.testing.assert_array_equal(np.asarray(a)[~sick], np.asarray(b)[~sick])
    with pytest.raises(vx.FitError, match=r"2 of 8 fits, lanes \(2\), \(5\): NON_FINITE: "):
        mixed.check()


def test_ragged_data_sets_are_padded_with_weight_zero(rng):
    sizes = [40, 60, 25]
    sets = [clusters(rng, n=n)[0] for n in sizes]
    padded = [np.concatenate([x, np.full((60 - len(x), 2), np.nan)]) for x in sets]
    weights = [np.arange(60) < n for n in sizes]
    models = [vx.GaussianMixture.from_data(x, 3) for x in sets]
    labels = [rng.integers(3, size=60) for _ in sets]
    batches = [vx.Batch.of(x, w.astype(float)) for x, w in zip(padded, weights, strict=True)]
    stack = [jax.tree.map(lambda *a: jnp.stack(a), *group) for group in (models, batches)]
    together = jax.vmap(lambda m, b, z: vx.fit(m, b, init=z))(*stack, jnp.asarray(labels))
    for i, n in enumerate(sizes):
        alone = vx.fit(models[i], sets[i], init=labels[i][:n])
        np.testing.assert_allclose(together.elbo[i], alone.elbo, rtol=1e-10)
        assert together.n_iter[i] == alone.n_iter


def test_the_bound_can_be_differentiated_through_a_fit_of_fixed_length(rng):
    """Envelope theorem: at a fixed point the slope in the prior is the bound's own."""
    x, _ = clusters(rng, n=50)
    model = vx.GaussianMixture.from_data(x, 2)
    q = vx.fit(model, x, key=jax.random.key(0), stop=vx.Stop(tol=1e-10)).q

    def after_steps(prior):
        moved = dataclasses.replace(model, weights=prior.weights, components=prior.components)
        return vx.trajectory(moved, x, init=q, num_iters=5).elbo[-1]

    def at_once(prior):
        return vx.elbo(
            dataclasses.replace(model, weights=prior.weights, components=prior.components), q, x
        )

    through, direct = jax.grad(after_steps)(model.prior), jax.grad(at_once)(model.prior)
    leaves_close(through, direct, rtol=1e-3, atol=1e-4)


def test_inputs_are_never_changed(rng):
    x, _ = clusters(rng, n=50)
    before = x.copy()
    model = vx.GaussianMixture.from_data(x, 2)
    leaves = [np.asarray(leaf).copy() for leaf in jax.tree.leaves(model)]
    vx.fit(model, x, key=jax.random.key(0))
    np.testing.assert_array_equal(x, before)
    for leaf, old in zip(jax.tree.leaves(model), leaves, strict=True):
        np.testing.assert_array_equal(leaf, old)


@pytest.mark.parametrize("other", [{}, {"noise": 0.1}, {"label": 0}, {"missing": True}])
def test_weights_may_be_traced_where_rows_are_not(rng, other):
    """Rows are NumPy's, their weights vary: every lane is the fit of its own weights."""
    x = clusters(rng, n=40, d=2, k=2)[0]
    if "noise" in other:
        other = {"noise": np.full_like(x, 0.1)}
    elif "label" in other:
        other = {"label": np.where(np.arange(len(x)) < 3, 0, -1)}
    elif other:
        x[5, 1] = np.nan
    weights = (rng.random((3, len(x))) < 0.8).astype(float)
    model = vx.GaussianMixture.from_data(x[10:], 2)
    start = rng.dirichlet(np.ones(2), size=len(x))

    def run(weight):
        batch = vx.Batch.of(x, weight, **other)
        return vx.fit(model, batch, init=start, stop=vx.Stop(max_iter=5)).elbo

    together = jax.jit(jax.vmap(run))(jnp.asarray(weights))
    np.testing.assert_allclose(together, [run(w) for w in weights], rtol=1e-5)
