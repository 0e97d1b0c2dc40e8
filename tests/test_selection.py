"""The number of components: one program, exact bounds, units that do not matter."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

import vijax as vx
from vijax.models.mixture import Mixture

from .data import clusters, params_of
from .oracles import gaussian_mixture as oracle
from .programs import programs

STOP = vx.Stop(tol=1e-3)


@pytest.fixture(scope="module")
def rows():
    return vx.datasets.three_clusters()


@pytest.fixture(scope="module")
def selection(rows):
    return vx.select_num_components(rows[0], range(1, 9), key=jax.random.key(0), num_restarts=8)


def test_the_planted_number_is_found(selection, rows):
    assert selection.best == 3
    fit = selection.result().check()
    model = vx.GaussianMixture.from_data(rows[0], 3, k_max=8, conc=1.0)
    assert adjusted_rand_score(rows[1], model.predict(fit.q, rows[0])) > 0.85
    assert "best: 3 components" in selection.summary()


def test_each_score_is_the_elbo_of_a_model_of_that_size(selection, rows):
    """Masked components in one program are the small models themselves, and log k! comes on top."""
    for k in (1, 3, 5):
        model = vx.GaussianMixture.from_data(rows[0], k, conc=1.0)
        masked = selection.result(k)
        q = jax.tree.map(lambda a, k=k: a[:k], masked.q)
        np.testing.assert_allclose(vx.elbo(model, q, rows[0]), masked.elbo, rtol=1e-9)
        index = selection.num_components.index(k)
        used = int((np.asarray(masked.q.weights.conc)[:k] - 1.0 > 0.5).sum())
        ways = np.log([float(k - i) for i in range(used)]).sum()
        np.testing.assert_allclose(selection.score[index], masked.elbo + ways, rtol=1e-10)


@pytest.mark.parametrize("scale", [0.01, 1000.0])
def test_units_choose_nothing(selection, rows, scale):
    other = vx.select_num_components(
        rows[0] * scale, range(1, 9), key=jax.random.key(0), num_restarts=8
    )
    assert other.best == selection.best
    shift = 1000 * np.log(scale)
    np.testing.assert_allclose(other.score + shift, selection.score, rtol=1e-6)


def test_scikit_learns_bound_depends_on_units(rows):
    """The same experiment there, with its defaults: why its bound cannot choose."""
    chosen = []
    for scale in (0.01, 1.0, 1000.0):
        bounds = [
            BayesianGaussianMixture(
                n_components=k, n_init=3, random_state=0, max_iter=500, tol=1e-2
            )
            .fit(rows[0] * scale)
            .lower_bound_
            for k in range(1, 9)
        ]
        chosen.append(1 + int(np.argmax(bounds)))
    assert len(set(chosen)) > 1


def test_maximum_likelihood_is_ranked_by_bic(rows):
    found = vx.select_num_components(
        rows[0], range(1, 5), key=jax.random.key(0), num_restarts=32, method=vx.EM()
    )
    assert found.best == 3
    for i, k in enumerate(found.num_components):
        theirs = GaussianMixture(
            n_components=k, n_init=8, random_state=0, tol=1e-8, max_iter=3000, reg_covar=0
        )
        theirs.fit(rows[0])
        np.testing.assert_allclose(found.bic[i], theirs.bic(rows[0]), rtol=1e-4)
        np.testing.assert_allclose(found.aic[i], theirs.aic(rows[0]), rtol=1e-4)
        resp = theirs.predict_proba(rows[0])
        entropy = -np.sum(resp * np.log(np.maximum(resp, 1e-300)))
        np.testing.assert_allclose(found.icl[i], found.bic[i] + 2 * entropy, rtol=1e-3)
    assert "BIC" in found.summary()


def test_parameters_are_counted_for_every_structure():
    counts = {"full": (5, 0), "tied": (2, 3), "diag": (4, 0), "spherical": (3, 0)}
    for structure, expected in counts.items():
        model = vx.GaussianMixture.flat(3, 2, covariance=structure)
        assert model.components.num_parameters() == expected


def test_another_model(rng):
    rates = np.array([[1.0, 20.0], [20.0, 1.0], [20.0, 20.0]])
    x = rng.poisson(rates[np.arange(150) % 3]).astype(float)
    found = vx.select_num_components(
        x, range(1, 6), key=jax.random.key(0), build=vx.PoissonMixture.from_data, conc=1.0
    )
    assert found.best == 3


def test_one_program_for_all_sizes(rng):
    x, _ = clusters(rng, n=51, d=3)  # a shape of its own
    with programs("_fit") as made:
        vx.select_num_components(x, range(1, 5), key=jax.random.key(0), num_restarts=2)
    assert sum(event.endswith("module_duration") for event in made) == 1


@pytest.fixture(scope="module")
def few():
    """Seven rows of two clear clusters: few enough for all assignments."""
    near = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.2]]
    return np.array([*near, [8.0, 8.0], [8.5, 9.0], [9.0, 8.1]])


def exact_log_evidence(model, x):
    """From all k^n assignments; components without rows have evidence 1."""
    prior = params_of(model.prior)
    k = model.num_components
    terms = [
        oracle.log_joint_of_assignment(x, np.array(z), prior)
        for z in itertools.product(range(k), repeat=len(x))
    ]
    return logsumexp(terms)


def test_scores_are_below_the_exact_evidence(few):
    """Components without rows are not in use, whatever their prior weight is."""
    found = vx.select_num_components(few, range(1, 5), key=jax.random.key(0))
    exact = [
        exact_log_evidence(vx.GaussianMixture.from_data(few, k, conc=1.0), few) for k in range(1, 5)
    ]
    assert (np.asarray(found.score) <= np.array(exact) + 1e-9).all()
    assert (np.asarray(found.score) > np.array(exact) - 2.0).all()


def test_many_empty_components_do_not_win(rng):
    x, _ = clusters(rng, n=30, k=2, separation=6.0)
    found = vx.select_num_components(
        x, [1, 2, 3, 12, 24], key=jax.random.key(0), num_restarts=4, stop=STOP
    )
    assert found.best == 2


def test_what_tells_components_apart_is_not_relabelled(rng, few):
    x, truth = clusters(rng, n=40, k=2, separation=6.0)
    key = jax.random.key(0)
    labelled = vx.Batch.of(x, label=truth)
    found = vx.select_num_components(labelled, [2, 3], key=key, num_restarts=2)
    np.testing.assert_allclose(found.score, found.results.elbo)
    model = vx.GaussianMixture.from_data(x, 2, conc=1.0)
    exact = oracle.log_joint_of_assignment(x, truth, params_of(model.prior))
    np.testing.assert_allclose(found.score[0], exact, rtol=1e-9)

    def process(x, k, *, k_max):
        sticks = vx.StickBreaking.dirichlet_process(0.5, k).pad(k_max)
        model = vx.GaussianMixture.from_data(x, k_max, conc=1.0)
        return Mixture(sticks, model.components, jnp.arange(k_max) < k)

    found = vx.select_num_components(few, [2, 3], key=key, build=process)
    np.testing.assert_allclose(found.score, found.results.elbo)
    # under a prior for which two clusters explain these rows best
    frozen = vx.GaussianMixture.from_data(x, 3, conc=1.0, kappa=0.01, scatter=np.cov(x.T))
    fit = vx.fit(frozen, x, key=key, num_restarts=4)
    which = np.asarray(fit.q.weights.mean) == np.asarray(fit.q.weights.mean).max()
    model = frozen.freeze(fit, which)
    again = vx.fit(model, x, key=key)
    # of the two others one or both have rows, which is two orders either way
    assert (np.asarray(again.q.weights.conc)[~which] > 1.5).any()
    ways = model.log_relabellings(again.q, vx.Batch.of(x))
    np.testing.assert_allclose(ways, np.log(2.0), rtol=1e-9)


def test_noise_is_not_relabelled(rng):
    x, _ = clusters(rng, n=60, k=2, separation=6.0)
    x[:3] = [[40.0, -30.0], [-35.0, 20.0], [30.0, 30.0]]
    found = vx.select_num_components(
        x, [1, 2, 3], key=jax.random.key(0), num_restarts=4, noise=True
    )
    assert np.isfinite(found.score).all()
    assert found.best == 2
    np.testing.assert_allclose(found.score[1], found.results.elbo[1] + np.log(2.0), rtol=1e-9)


def test_frames_of_mixed_columns_by_maximum_likelihood(rng):
    counts = rng.poisson([[2.0, 30.0]] * 40 + [[20.0, 3.0]] * 40).astype(float)
    data = pd.DataFrame(counts, columns=["a", "b"])

    def build(x, k, *, k_max):
        return vx.MixedMixture.from_data(x, k, dict.fromkeys("ab", "poisson"), k_max=k_max)

    found = vx.select_num_components(
        data, [1, 2, 3], key=jax.random.key(0), method=vx.EM(), build=build, num_restarts=2
    )
    assert found.best == 2
    assert np.isfinite(found.icl).all()


def test_arguments_that_cannot_be_are_named(rng):
    x, key = clusters(rng, n=20)[0], jax.random.key(0)
    with pytest.raises(ValueError, match="conc: maximum likelihood has no prior"):
        vx.select_num_components(x, [1, 2], key=key, method=vx.EM(), conc=1.0)
    with pytest.raises(ValueError, match="weights: made for one number of components"):
        vx.select_num_components(x, [1, 2], key=key, weights=vx.Dirichlet.from_standard([1.0]))
    with pytest.raises(ValueError, match="build: needed for a table of columns"):
        vx.select_num_components({"a": x[:, 0]}, [1, 2], key=key)
    found = vx.select_num_components(x, [1, 2], key=key, num_restarts=1)
    with pytest.raises(ValueError, match="num_components: 5 was not tried"):
        found.result(5)


def test_a_single_number_is_refused_by_name(unchecked):
    with pytest.raises(TypeError, match="num_components: expected several integers, got 3"):
        vx.select_num_components(np.ones((4, 2)), 3, key=jax.random.key(0))


@pytest.mark.parametrize("sizes", [[], [2, 2], [0, 1]])
def test_bad_numbers_are_named(sizes):
    with pytest.raises(ValueError, match="num_components: expected different numbers from 1 up"):
        vx.select_num_components(np.ones((4, 2)), sizes, key=jax.random.key(0))


def test_float32(rows):
    low = jnp.asarray(rows[0], jnp.float32)
    found = vx.select_num_components(low, range(1, 6), key=jax.random.key(0), num_restarts=4)
    assert found.score.dtype == jnp.float32
    assert found.best == 3
