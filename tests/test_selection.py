"""The number of components: one program, exact bounds, units that do not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

import vijax as vx

from .data import clusters
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
        used = int((np.asarray(masked.q.weights.mean) * 500 > 0.5).sum())
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
        rows[0], range(1, 5), key=jax.random.key(0), num_restarts=8, method=vx.EM()
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


@pytest.mark.parametrize("sizes", [[], [2, 2], [0, 1]])
def test_bad_numbers_are_named(sizes):
    with pytest.raises(ValueError, match="num_components: expected different numbers from 1 up"):
        vx.select_num_components(np.ones((4, 2)), sizes, key=jax.random.key(0))


def test_float32(rows):
    low = jnp.asarray(rows[0], jnp.float32)
    found = vx.select_num_components(low, range(1, 6), key=jax.random.key(0), num_restarts=4)
    assert found.score.dtype == jnp.float32
    assert found.best == 3
