"""vijax.extras.sklearn: scikit-learn's own checks, its labels, and few programs."""

import contextlib
import itertools
import pickle
import warnings

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine, make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Peer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from vijax.extras.sklearn import (
    BayesianGaussianMixture,
    GaussianHMM,
    GaussianMixture,
    TableMixture,
)

ESTIMATORS = [GaussianMixture(), BayesianGaussianMixture(), TableMixture(), GaussianHMM()]


def known_failures(estimator):
    """Of 15 rows in 30 columns the likelihood has no maximum, and covariances have no floor."""
    if not isinstance(estimator, GaussianMixture):
        return {}
    reason = "sample_weight is tried on fewer rows than columns, where there is no estimate."
    return {"check_sample_weight_equivalence_on_dense_data": reason}


@pytest.mark.usefixtures("unchecked")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=known_failures)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@contextlib.contextmanager
def compiled():
    """Names of all programs that are compiled in the block."""
    names = []

    def listen(event, _duration, fun_name="", **_):
        if event.endswith("jaxpr_to_mlir_module_duration"):
            names.append(fun_name.removeprefix("jit(").rstrip(")"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(scope="module")
def iris():
    return load_iris().data


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_iterations_are_those_of_scikit_learn(covariance, iris):
    """From the same parameters, three of them."""
    precisions = Peer(3, covariance_type=covariance, random_state=0).fit(iris[::2]).precisions_
    for given in (
        {"means_init": iris[[0, 60, 120]]},
        {"precisions_init": precisions},
        {"weights_init": [0.2, 0.3, 0.5]},
    ):
        options = {"covariance_type": covariance, "random_state": 1, "tol": 0.0, "max_iter": 3}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            peer = Peer(3, reg_covar=0.0, **options, **given).fit(iris)
            ours = GaussianMixture(3, **options, **given).fit(iris)
        np.testing.assert_allclose(ours.means_, peer.means_, rtol=1e-9)
        np.testing.assert_allclose(ours.covariances_, peer.covariances_, rtol=1e-7, atol=1e-9)


DATA = {
    "iris": (lambda: load_iris().data, "full"),
    "wine": (lambda: load_wine().data, "diag"),
    "blobs": (lambda: make_blobs(200, centers=3, random_state=1)[0], "full"),
}


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("name", DATA)
def test_labels_are_those_of_scikit_learn(name):
    """From the same k-means labels, to the same maximum."""
    read, covariance = DATA[name]
    x = read()
    given = {"covariance_type": covariance, "random_state": 0}
    peer = Peer(3, reg_covar=0.0, tol=1e-9, max_iter=5000, **given).fit(x)
    ours = GaussianMixture(3, tol=1e-8, max_iter=5000, **given).fit(x)
    np.testing.assert_array_equal(ours.predict(x), peer.predict(x))
    np.testing.assert_allclose(ours.lower_bound_, peer.lower_bound_, rtol=1e-5)
    for attribute in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        found, expected = getattr(ours, attribute), getattr(peer, attribute)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    np.testing.assert_allclose([ours.bic(x), ours.aic(x)], [peer.bic(x), peer.aic(x)], rtol=1e-5)


def test_a_grid_search_compiles_once(iris):
    grid = {"n_components": [1, 2, 3, 4, 5]}
    search = GridSearchCV(GaussianMixture(random_state=0), grid, cv=5)
    jax.clear_caches()
    with compiled() as names, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(iris)
    assert sorted(names) == ["_fit", "_log_likelihood", "_parameters"]
    with compiled() as names:
        search.best_estimator_.set_params(n_components=4).fit(iris[:90])
    assert names == []


def test_attributes_of_the_posterior(iris):
    model = BayesianGaussianMixture(6, random_state=0).fit(iris)
    q = model.result_.q
    assert (model.weights_ > 0.01).sum() < 6
    assert model.means_.shape == (6, 4)
    assert model.mean_precision_.shape == model.degrees_of_freedom_.shape == (6,)
    np.testing.assert_allclose(model.weight_concentration_.sum(), 151, rtol=1e-5)
    identity = np.broadcast_to(np.eye(4), (6, 4, 4))
    np.testing.assert_allclose(model.precisions_ @ model.covariances_, identity, atol=1e-8)
    scatter = np.asarray(q.components.scatter)[:6]
    expected = scatter / model.degrees_of_freedom_[:, None, None]
    np.testing.assert_allclose(model.covariances_, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.lower_bound_, float(model.result_.elbo))
    assert len(model.lower_bounds_) == model.n_iter_
    np.testing.assert_allclose(model.predict_proba(iris).sum(1), 1.0, rtol=1e-12)
    process = {"weight_concentration_prior_type": "dirichlet_process"}
    sticks = model.set_params(**process, covariance_type="diag").fit(iris)
    np.testing.assert_allclose(sticks.weights_.sum(), 1.0, rtol=1e-6)
    assert (np.diff(sticks.weights_) < 1e-3).all()  # in order of size
    assert [a.shape for a in sticks.weight_concentration_] == [(6,), (6,)]
    x, label = model.sample(5)
    assert x.shape == (5, 4)
    assert set(label) <= set(range(6))


def test_tools_of_scikit_learn(iris):
    frame = pd.DataFrame(iris, columns=list("abcd"))
    model = BayesianGaussianMixture(3, random_state=0)
    pipe = make_pipeline(StandardScaler(), model).set_output(transform="pandas")
    out = pipe.fit_transform(frame)
    assert list(out.columns) == [f"bayesiangaussianmixture{i}" for i in range(3)]
    fitted = pipe[-1]
    np.testing.assert_array_equal(out.to_numpy().argmax(1), pipe.predict(frame))
    assert list(fitted.feature_names_in_) == list("abcd")
    again = pickle.loads(pickle.dumps(fitted))
    scaled = pipe[0].transform(frame)
    np.testing.assert_array_equal(again.score_samples(scaled), fitted.score_samples(scaled))
    assert not hasattr(clone(fitted), "result_")
    warm = fitted.set_params(warm_start=True).fit(scaled)
    assert warm.n_iter_ <= 5
    assert warm.set_params(n_components=2).fit(scaled).weights_.shape == (2,)  # begins anew


def test_weights_and_missing_entries(iris):
    x = iris.copy()
    x[::7, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        BayesianGaussianMixture(3).fit(x)
    given = {"n_components": 3, "missing": True, "random_state": 0}
    model = BayesianGaussianMixture(**given).fit(x)
    assert model.predict(x[:5]).shape == (5,)
    # a row of weight 0 is absent: the first start draws the same without it
    weight = np.ones(150)
    weight[100:] = 0
    without = BayesianGaussianMixture(1, missing=True).fit(x[:100])
    absent = BayesianGaussianMixture(1, missing=True).fit(x, sample_weight=weight)
    np.testing.assert_allclose(absent.means_, without.means_, rtol=1e-5)
    np.testing.assert_allclose(absent.lower_bound_, without.lower_bound_, rtol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (GaussianMixture(0), "n_components: must"),
        (GaussianMixture().set_params(n_components=2.0), "n_components: expected an integer"),
        (GaussianMixture(covariance_type="round"), "covariance_type: expected one of full"),
        (GaussianMixture(init_params="ones"), "init_params: expected one of kmeans"),
        (GaussianMixture(9, k_max=8), "k_max: 8"),
        (GaussianMixture(200), "n_components: 200, but there are n_samples=150"),
        (GaussianMixture(2, means_init=[0.0, 1.0]), "means_init: expected shape"),
        (GaussianMixture(2, means_init=np.eye(2, 4), init_params="k-means++"), "means_init: goes"),
        (BayesianGaussianMixture(weight_concentration_prior=0.0), "weight_concentration_prior"),
        (TableMixture(kinds={"7": "poisson"}), "kinds: no column '7'"),
        (GaussianHMM(algorithm="best"), "algorithm: expected one of viterbi"),
    ],
)
def test_arguments(iris, estimator, message):
    with pytest.raises((ValueError, TypeError), match=message):
        estimator.fit(iris)


def test_a_collapse_is_a_value_error():
    with pytest.raises(ValueError, match="COLLAPSED"):
        GaussianMixture(1).fit(np.ones((5, 2)))


def test_table(rng):
    side = np.repeat([0, 1], 60)
    frame = pd.DataFrame(
        {
            "size": rng.normal(6.0 * side, 1.0),
            "count": rng.poisson(2.0 + 8.0 * side),
            "colour": np.where(rng.random(120) < 0.9, side, 1 - side),
        }
    )
    frame["colour"] = frame["colour"].map({0: "red", 1: "blue"})
    frame.loc[3, "size"] = np.nan
    model = TableMixture(
        4, kinds={"count": "poisson"}, missing=True, init_params="random", random_state=0, n_init=3
    ).fit(frame)
    assert model.kinds_ == {"size": "gaussian", "count": "poisson", "colour": "categorical"}
    label = model.predict(frame)
    assert len(set(label)) == 2
    assert max(np.mean(label == label[side == s][0]) for s in (0, 1)) < 0.6
    assert all(np.mean(label[side == s] == label[side == s][0]) > 0.95 for s in (0, 1))
    assert "colour" in model.result_.summary()
    new = frame.iloc[:2].assign(colour="green")
    with pytest.raises(ValueError, match="green"):
        model.predict(new)


@pytest.fixture(scope="module")
def chain():
    rng = np.random.default_rng(3)
    states = np.repeat([0, 1, 0, 1], 30)
    x = rng.normal(3.0 * states[:, None], 1.0, size=(120, 2))
    return x, GaussianHMM(2, random_state=0).fit(x, [50, 70])


def test_sequences(chain):
    x, model = chain
    assert model.covars_.shape == (2, 2, 2)
    np.testing.assert_allclose(model.transmat_.sum(1), 1.0, rtol=1e-6)
    # all 2^6 paths of two short sequences, at the posterior means
    short, lengths = x[28:34], [4, 2]
    density = np.stack(
        [
            multivariate_normal(m, c).logpdf(short)
            for m, c in zip(model.means_, model.covars_, strict=True)
        ],
        1,
    )

    def log_joint(path):
        total = sum(density[t, z] for t, z in enumerate(path))
        for first, length in ((0, 4), (4, 2)):
            total += np.log(model.startprob_[path[first]])
            steps = range(first + 1, first + length)
            total += sum(np.log(model.transmat_[path[t - 1], path[t]]) for t in steps)
        return total

    paths = list(itertools.product(range(2), repeat=6))
    values = np.array([log_joint(path) for path in paths])
    log_p, best = model.decode(short, lengths)
    np.testing.assert_allclose(log_p, values.max(), rtol=1e-5)
    np.testing.assert_array_equal(best, paths[values.argmax()])
    np.testing.assert_array_equal(best, model.predict(short, lengths=lengths))
    np.testing.assert_allclose(
        model.score(short, lengths=lengths), np.logaddexp.reduce(values), rtol=1e-5
    )
    assert model.predict_proba(short, lengths).shape == (6, 2)


def test_lengths(chain):
    x, model = chain
    with pytest.raises(ValueError, match="lengths: expected positive integers"):
        model.predict(x, [50, 60])
    ignored = np.arange(120) % 2
    np.testing.assert_array_equal(model.predict(x, ignored), model.predict(x))
    drawn, states = model.sample(7)
    assert drawn.shape == (7, 2)
    assert states.shape == (7,)
