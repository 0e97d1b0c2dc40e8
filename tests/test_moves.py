"""Structure moves: never worse, out of local optima, in fixed shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

import vijax as vx
from vijax.infer import moves as moves_module

from .data import clusters

FEW = vx.Moves(max_trials=60, patience=15)


def grid(rng, per=40, spread=0.25):
    """Nine clusters on a grid, and their labels."""
    centers = np.stack(np.meshgrid(np.arange(3.0), np.arange(3.0)), -1).reshape(-1, 2) * 3
    labels = np.repeat(np.arange(9), per)
    return centers[labels] + spread * rng.normal(size=(9 * per, 2)), labels


def test_out_of_a_local_optimum_that_plain_sweeps_keep(rng):
    """Two clusters share a component, and two components a cluster: nothing moves by itself."""
    x, truth = grid(rng)
    model = vx.GaussianMixture.from_data(x, 9, conc=1.0)
    wrong = truth.copy()
    wrong[truth == 1] = 0
    wrong[(truth == 8) & (np.arange(len(x)) % 2 == 0)] = 1
    plain = vx.fit(model, x, init=wrong).check()
    best = vx.fit(model, x, init=truth).check()
    assert plain.elbo < best.elbo - 20
    moved = vx.fit(model, x, init=wrong, key=jax.random.key(0), moves=vx.Moves()).check()
    assert moved.elbo > best.elbo - 0.01
    assert adjusted_rand_score(truth, model.predict(moved.q, x)) > 0.99


@pytest.mark.parametrize("conc", [1 / 12, 1.0], ids=["sparse", "even"])
def test_too_few_and_too_many(rng, conc):
    """From one component, and from twelve, to the nine that there are."""
    x, truth = grid(rng)
    model = vx.GaussianMixture.from_data(x, 12, conc=conc)
    target = vx.fit(model, x, init=truth).check()
    for start in (np.zeros(len(x), int), rng.integers(12, size=len(x))):
        fit = vx.fit(model, x, init=start, key=jax.random.key(1), moves=vx.Moves()).check()
        assert fit.elbo > target.elbo - 0.01
        assert int((fit.q.weights.mean > 0.02).sum()) == 9


@pytest.mark.parametrize(
    "build",
    [
        lambda x: vx.GaussianMixture.from_data(x, 8),
        lambda x: vx.GaussianMixture.from_data(x, 8, covariance="tied"),
        lambda x: vx.GaussianMixture.from_data(x, 8, covariance="diag"),
        lambda x: vx.GaussianMixture.from_data(x, 8, noise=True),
        lambda x: vx.GaussianMixture.from_data(
            x, 8, weights=vx.StickBreaking.dirichlet_process(1.0, 8)
        ),
        lambda x: vx.StudentTMixture.from_data(x, 8, dof=5.0),
        lambda x: vx.GaussianMixture.from_data(x, 6, k_max=8),
    ],
    ids=["full", "tied", "diag", "noise", "sticks", "student", "k_max"],
)
def test_never_worse_than_without(rng, build):
    x, _ = clusters(rng, n=150, k=4, separation=2.5)
    model, key = build(x), jax.random.key(0)
    plain = vx.fit(model, x, key=key, num_restarts=3)
    moved = vx.fit(model, x, key=key, num_restarts=3, moves=FEW).check()
    assert moved.elbo >= plain.elbo - 1e-2
    again = vx.fit(model, x, init=moved.q)
    assert again.elbo < moved.elbo + 0.05  # it was a fixed point
    np.testing.assert_allclose(vx.elbo(model, moved.q, x), moved.elbo, rtol=1e-9)
    trace = np.asarray(moved.elbo_trace)
    trace = trace[np.isfinite(trace)]
    assert (np.diff(trace) >= -1e-9 * np.abs(trace[1:])).all()
    assert moved.n_iter > plain.n_iter


def test_em_moves_too(rng):
    x, truth = grid(rng)
    model = vx.GaussianMixture.flat(9, 2)
    wrong = truth.copy()
    wrong[truth == 1] = 0
    wrong[(truth == 8) & (np.arange(len(x)) % 2 == 0)] = 1
    plain = vx.fit(model, x, init=wrong, method=vx.EM())
    moved = vx.fit(model, x, init=wrong, method=vx.EM(), key=jax.random.key(0), moves=vx.Moves())
    assert moved.check().elbo > plain.elbo + 20


def test_other_families_move(rng):
    rates = np.array([[1.0, 20.0], [20.0, 1.0], [20.0, 20.0], [1.0, 1.0]])
    truth = np.repeat(np.arange(4), 50)
    x = rng.poisson(rates[truth]).astype(float)
    model = vx.PoissonMixture.from_data(x, 8)
    fit = vx.fit(model, x, init=np.zeros(200, int), key=jax.random.key(0), moves=vx.Moves()).check()
    assert adjusted_rand_score(truth, model.predict(fit.q, x)) > 0.95


def test_vmap_over_data_sets_is_the_loop(rng):
    sets = np.stack([clusters(rng, n=60, k=3, separation=2.0)[0] for _ in range(3)])
    keys = jax.random.split(jax.random.key(0), 3)
    short = vx.Moves(max_trials=8, patience=4, sweeps=10)

    def one(x, key):
        return vx.fit(vx.GaussianMixture.from_data(x, 4), x, key=key, moves=short)

    together = jax.jit(jax.vmap(one))(jnp.asarray(sets), keys)
    for i in range(3):
        alone = one(sets[i], keys[i])
        np.testing.assert_allclose(together.elbo[i], alone.elbo, rtol=1e-6)
        assert together.status[i] == alone.status


def test_values_of_rows_by_chunks(rng):
    """Row by row results of a chunked pass are those of the whole."""
    from vijax.data.chunked import map_rows

    x, _ = clusters(rng, n=70)
    batch = vx.Batch.of(x)

    def values(part):
        return jnp.stack([part.x[:, 0] * 2, part.weight], -1)

    whole = map_rows(values, batch, 70)
    np.testing.assert_array_equal(map_rows(values, batch, 16), whole)


def test_a_failed_first_fit_is_returned(rng):
    x, _ = clusters(rng, n=30)
    model = vx.GaussianMixture.from_data(x, 3)
    broken = jax.tree.map(lambda a: a * np.nan if a.dtype == float else a, model)
    fit = vx.fit(broken, x, key=jax.random.key(0), moves=vx.Moves())
    assert fit.status == vx.Status.NON_FINITE


def test_the_split_separates_two_blobs(rng):
    points = jnp.asarray(np.concatenate([rng.normal(size=(50, 2)), rng.normal(size=(50, 2)) + 8]))
    half = moves_module._halves(jax.random.key(0), points, jnp.ones(100))
    assert len(np.unique(half[:50])) == 1
    assert len(np.unique(half[50:])) == 1
    assert half[0] != half[99]


def test_bad_moves_are_named(rng, unchecked):
    x, _ = clusters(rng, n=30)
    model = vx.GaussianMixture.from_data(x, 3)
    key = jax.random.key(0)
    with pytest.raises(TypeError, match="moves: expected Moves"):
        vx.fit(model, x, key=key, moves=True)
    with pytest.raises(ValueError, match="key: moves are drawn at random"):
        vx.fit(model, x, init=np.zeros(30, int), moves=vx.Moves())
    with pytest.raises(ValueError, match="moves: patience: must be finite and >= 0"):
        vx.fit(model, x, key=key, moves=vx.Moves(patience=-1))
    exact = vx.NormalGammaExact.with_prior(mean=0.0, kappa=1.0, shape=1.0, rate=1.0)
    with pytest.raises(ValueError, match="moves: NormalGammaExact has no components"):
        vx.fit(exact, x[:, 0], key=key, moves=vx.Moves())


@pytest.mark.parametrize(
    "weights",
    [
        {"conc": 3.0},
        {"weights": vx.StickBreaking.dirichlet_process(2.0, 4)},
        {"weights": vx.DirichletProcess.with_prior(1.0, 1.0, 4)},
    ],
    ids=["dirichlet", "sticks", "process"],
)
def test_expected_counts_are_those_of_the_rows(rng, weights):
    """Whatever the prior adds: with conc 3, empty components counted as used."""
    x, z = clusters(rng, n=60, k=3)
    model = vx.GaussianMixture.from_data(x, 4, **weights)
    stop = vx.Stop(tol=1e-10)
    q = vx.fit(model, x, init=z, stop=stop).q
    rows = np.asarray(model.responsibilities(q, x)).sum(0)
    counts = model.expected_counts(q, jnp.asarray(60.0))
    np.testing.assert_allclose(counts, rows, atol=1e-3)
