"""Many fits are read as they were made: one call for all data sets, stacked or ragged."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.special import digamma, softmax

import vijax as vx

from .data import clusters
from .programs import programs
from .test_reading import READERS

KEY = jax.random.key(0)
SIZES = [20, 33, 20, 40, 17]


def build(batch):
    return vx.GaussianMixture.from_data(batch, 2)


def ragged(rng, missing=False, noise=False):
    """Data sets of several sizes, with holes and with noise."""
    sets = [clusters(rng, n=n, k=2)[0] for n in SIZES]
    if missing:
        for x in sets:
            x[rng.uniform(size=x.shape) < 0.2] = np.nan
    errors = [rng.gamma(2.0, size=x.shape) if noise else None for x in sets]
    return [vx.Batch.of(x, missing=missing, noise=e) for x, e in zip(sets, errors, strict=True)]


def one_by_one(fits, name, sets):
    return [getattr(fits.model(i), name)(fits[i].q, x) for i, x in enumerate(sets)]


def close(found, right, rtol=1e-6):
    assert jax.tree.structure(found) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("noise", [False, True])
def test_ragged_data_sets(rng, noise):
    sets = ragged(rng, missing=True, noise=noise)
    fits = vx.fit_many(build, sets, key=KEY)
    refused = {"log_predictive"} if noise else set()
    for name in {*READERS, "impute"} - refused:
        found = getattr(fits, name)(sets)
        assert isinstance(found, list)
        close(found, one_by_one(fits, name, sets))


def test_stacked_data_sets(rng):
    x = np.stack([clusters(rng, n=30, k=2)[0] for _ in range(3)])
    model = vx.GaussianMixture.from_data(x.reshape(-1, 2), 2)  # one for all
    fits = vx.fit_many(model, x, key=KEY)
    for name in READERS:
        found = getattr(fits, name)(x)
        assert found.shape[:2] == (3, 30)
        close(list(found), one_by_one(fits, name, list(x)))


def test_new_rows_may_be_of_other_number(rng):
    sets = ragged(rng)
    fits = vx.fit_many(build, sets, key=KEY)
    new = [clusters(rng, n=n, k=2)[0] for n in (3, 1, 100, 7, 33)]
    close(fits.predict(new), one_by_one(fits, "predict", new))


@pytest.mark.parametrize("kind", ["counts", "mixed", "student", "noise", "infinite"])
def test_every_kind_of_mixture(rng, kind):
    sets = [clusters(rng, n=n, k=2)[0] for n in (20, 25, 30)]
    builds = {
        "counts": lambda b: vx.PoissonMixture.from_data(b, 2),
        "student": lambda b: vx.StudentTMixture.from_data(b, 2, dof=4.0),
        "noise": lambda b: vx.GaussianMixture.from_data(b, 2, covariance="diag", noise=True),
        "infinite": lambda b: vx.GaussianMixture.from_data(
            b, 2, weights=vx.StickBreaking.dirichlet_process(1.0, 2)
        ),
        "mixed": lambda b: vx.MixedMixture.from_data(b, 2, {"a": "gaussian", "b": "poisson"}),
    }
    if kind == "counts":
        sets = [np.floor(np.abs(x)) for x in sets]
    if kind == "mixed":
        sets = [{"a": x[:, 0], "b": np.floor(np.abs(x[:, 1]))} for x in sets]
    fits = vx.fit_many(builds[kind], sets, key=KEY)
    for name in READERS:
        close(getattr(fits, name)(sets), one_by_one(fits, name, sets))
    frame = fits.to_frame()
    assert len(frame) == 3 * fits[0].q.weights.mean.shape[0]
    total = frame.groupby("data_set")["weight"].sum()
    assert (total <= 1.0 + 1e-6).all()


def test_frames_are_read_by_the_names_of_their_columns(rng):
    sets = [pd.DataFrame(clusters(rng, n=n, k=2)[0], columns=["u", "v"]) for n in (20, 30)]
    fits = vx.fit_many(build, sets, key=KEY)
    right = fits.predict(sets)
    turned = [sets[0], sets[1][["v", "u"]]]
    close(fits.predict(turned), right)
    with pytest.raises(ValueError, match="no column 'v'"):
        fits.predict([sets[0], sets[1].rename(columns={"v": "w"})])


def test_rows_of_weight_zero_have_answers_too(rng):
    sets = [clusters(rng, n=n, k=2)[0] for n in (20, 30)]
    weights = [(np.arange(len(x)) % 3 > 0).astype(float) for x in sets]
    held_out = [vx.Batch.of(x, weight=w) for x, w in zip(sets, weights, strict=True)]
    fits = vx.fit_many(build, held_out, key=KEY)
    close(fits.responsibilities(held_out), fits.responsibilities(sets))
    empty = [np.full((2, 2), np.nan), sets[1]]
    holes = [vx.Batch.of(x, missing=True) for x in empty]
    # a row without any entry: E[log weight], and (E[log|Lambda|] - log|E[Lambda]| - d / kappa) / 2
    q, d = fits[0].q, 2
    df, kappa = np.asarray(q.components.df), np.asarray(q.components.kappa)
    known = digamma(0.5 * df) + digamma(0.5 * (df - 1.0)) - d * np.log(0.5 * df) - d / kappa
    odds = softmax(digamma(np.asarray(q.weights.conc)) + 0.5 * known)
    np.testing.assert_allclose(fits.responsibilities(holes)[0], [odds, odds], rtol=1e-6)


def test_members_are_fits_of_their_own(rng):
    sets = ragged(rng)
    fits = vx.fit_many(build, sets, key=KEY)
    one = fits[3]
    close(one.predict(sets[3]), fits.predict(sets)[3])
    assert fits.summary(3) == one.summary()
    assert "5 fits" in fits.summary()
    some = fits[1:4]
    close(some.predict(sets[1:4]), fits.predict(sets)[1:4])
    order = np.array([4, 0])
    close(fits[order].predict([sets[4], sets[0]]), [fits.predict(sets)[i] for i in order])


def test_the_table_has_a_row_for_each_component(rng):
    sets = [pd.DataFrame(clusters(rng, n=n, k=2)[0], columns=["u", "v"]) for n in (20, 30, 40)]
    fits = vx.fit_many(build, sets, key=KEY)
    frame = fits.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame["data_set"].tolist() == [0, 0, 1, 1, 2, 2]
    assert frame["component"].tolist() == [0, 1] * 3
    for i in range(3):
        own = frame[frame["data_set"] == i]
        q = fits[i].q
        np.testing.assert_allclose(own["weight"], q.weights.mean, rtol=1e-6)
        np.testing.assert_allclose(own["weight sd"], q.weights.sd, rtol=1e-6)
        np.testing.assert_allclose(own["mean v"], q.components.mean[:, 1], rtol=1e-6)
        sd = np.sqrt(np.asarray(q.components.covariance)[:, 0, 0])
        np.testing.assert_allclose(own["sd u"], sd, rtol=1e-6)


def test_the_table_without_a_library_for_frames(rng, monkeypatch):
    x, _ = clusters(rng, n=20, k=2)
    fits = vx.fit_many(build, [x, x], key=KEY)
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    table = fits.to_frame()
    assert isinstance(table, dict)
    assert all(len(column) == 4 for column in table.values())


def test_few_programs_read_them_all(rng):
    sets = [clusters(rng, n=n, k=2)[0] for n in range(65, 129)]
    fits = vx.fit_many(build, sets, key=KEY)
    with programs("_read_stack") as seen:
        fits.predict(sets)
        fits.predict(sets[::-1])
        fits.predict([x[:65] for x in sets])
    assert len(seen) <= 4  # a trace and a lowering for each of 128 rows and 65


def test_saved_and_loaded(rng, tmp_path):
    sets = ragged(rng)
    fits = vx.fit_many(build, sets, key=KEY)
    vx.save(tmp_path / "fits.vijax", fits)
    again = vx.load(tmp_path / "fits.vijax")
    close(again.predict(sets), fits.predict(sets))


def test_errors_say_what_to_do(rng):
    sets = ragged(rng)
    fits = vx.fit_many(build, sets, key=KEY)
    with pytest.raises(ValueError, match="datasets: 4 of them for 5 fits"):
        fits.predict(sets[:4])
    x = jnp.stack([clusters(rng, n=20, k=2)[0]] * 2)
    model = vx.GaussianMixture.from_data(x[0], 2)
    inside = jax.jit(lambda x: vx.fit_many(model, x, key=KEY))(x)
    with pytest.raises(ValueError, match="made inside of jit"):
        inside.predict(x)
    numbers = rng.normal(size=(3, 20))
    exact = vx.NormalGammaExact.with_prior(mean=0.0, kappa=1.0, shape=1.0, rate=1.0)
    fits = vx.fit_many(exact, [vx.Batch.of(a) for a in numbers])
    with pytest.raises(TypeError, match="reads no rows"):
        fits.predict(numbers)
    with pytest.raises(TypeError, match="has no components"):
        fits.to_frame()
