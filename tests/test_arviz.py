"""vijax.extras.arviz: what ArviZ reads is what SciPy says, and comes back from a file."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

import vijax as vx
from vijax.extras.arviz import to_datatree

pytest.importorskip("arviz_base")
arviz_stats = pytest.importorskip("arviz_stats")


@pytest.fixture(scope="module")
def exported():
    rng = np.random.default_rng(0)
    x = rng.normal(6.0 * rng.integers(2, size=(80, 1)), 1.0, size=(80, 2))
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(x, columns=["length", "width"])
    model = vx.GaussianMixture.from_data(frame, 2, k_max=3)
    fit = vx.fit(model, frame, key=jax.random.key(0))
    tree = to_datatree(fit, model, frame, key=jax.random.key(1), num_draws=400)
    return x, model, fit, tree


def test_groups_and_names(exported):
    x, _, fit, tree = exported
    posterior = tree["posterior"]
    assert dict(posterior.sizes) == {
        "chain": 1,
        "draw": 400,
        "component": 2,
        "column": 2,
        "other_column": 2,
    }
    assert list(posterior.coords["column"].values) == ["length", "width"]
    np.testing.assert_array_equal(tree["observed_data"]["x"], x)
    assert tree.attrs["status"] == "CONVERGED"
    np.testing.assert_allclose(tree.attrs["elbo"], float(fit.elbo))
    mean = posterior["means"].mean(("chain", "draw"))
    np.testing.assert_allclose(mean, np.asarray(fit.q.components.mean)[:2], atol=0.3)


def test_log_likelihood_by_hand(exported):
    x, _, _, tree = exported
    posterior = tree["posterior"]
    w, mean, cov = (posterior[n].values[0, :5] for n in ("weights", "means", "covariances"))
    each = [
        [stats.multivariate_normal(mean[s, k], cov[s, k]).logpdf(x) for k in range(2)]
        for s in range(5)
    ]
    expected = logsumexp(np.log(w)[..., None] + np.array(each), 1)
    np.testing.assert_allclose(tree["log_likelihood"]["rows"].values[0, :5], expected, rtol=1e-4)


def test_weights_of_draws(exported):
    """E_q of the weights is p(x), and of their logs at least the bound; k-hat is ArviZ's."""
    _, model, fit, tree = exported
    sample = tree["sample_stats"]
    log_ratio = (sample["lp"] - sample["lq"]).values.ravel().astype(float)
    error = log_ratio.std() / np.sqrt(400)
    # the bound has the labels of the rows in q too, so it is below the mean over theta alone
    assert log_ratio.mean() > float(fit.elbo) - 5 * error
    evidence = logsumexp(log_ratio) - np.log(400)
    chosen = vx.elbo(model, fit, exported[0])
    assert float(chosen) - 1e-3 < evidence < float(chosen) + 2.0
    _, k_hat = arviz_stats.base.array_stats.psislw(-log_ratio)
    np.testing.assert_allclose(tree.attrs["k_hat"], float(k_hat), atol=1e-3)


def test_leave_one_out(exported):
    """LOO is near the sum of log predictive densities of fits without the row."""
    x, model, fit, tree = exported
    loo = arviz_stats.loo(tree)
    corrected = arviz_stats.loo_approximate_posterior(
        tree, tree["sample_stats"]["lp"], tree["sample_stats"]["lq"]
    )
    total = float(np.asarray(model.log_predictive(fit, x)).sum())
    assert loo.elpd < total  # each row was seen by the fit
    assert loo.elpd > total - 15
    assert abs(loo.elpd - corrected.elpd) < 3
    held_out = vx.cross_validate(model, x, key=jax.random.key(0), folds=20, num_restarts=1)
    assert abs(loo.elpd - float(held_out.total)) < 3


def test_files(exported, tmp_path):
    pytest.importorskip("h5netcdf")
    xarray = pytest.importorskip("xarray")
    tree = exported[3]
    tree.to_netcdf(tmp_path / "fit.nc", engine="h5netcdf")
    back = xarray.open_datatree(tmp_path / "fit.nc", engine="h5netcdf")
    assert back.attrs["status"] == "CONVERGED"
    for group in ("posterior", "log_likelihood", "sample_stats", "observed_data"):
        for name, value in tree[group].data_vars.items():
            np.testing.assert_array_equal(back[group][name], value)
    back.close()


def test_tables_sequences_and_densities(rng, key):
    side = np.repeat([0, 1], 20)
    table = {"size": rng.normal(5.0 * side), "flag": (rng.random(40) < 0.5).astype(float)}
    table["size"][3] = np.nan
    rows = vx.Batch.of(table, missing=True)
    model = vx.MixedMixture.from_data(rows, 2, {"size": "gaussian", "flag": "bernoulli"})
    fit = vx.fit(model, rows, init=side)
    tree = to_datatree(fit, model, rows, key=key, num_draws=20)
    assert tree["posterior"]["size_mean"].dims == ("chain", "draw", "component")
    assert tree["posterior"]["flag_p"].shape == (1, 20, 2)
    assert np.isnan(tree["observed_data"]["size"].values[3])

    x = [rng.normal(size=(5, 1)), rng.normal(size=(3, 1))]
    chain = vx.HMM.from_data(x, 2, covariance="diag")
    fit = vx.fit(chain, x, init="random", key=key)
    tree = to_datatree(fit, chain, x, key=key, num_draws=20)
    assert tree["posterior"]["transitions"].dims == ("chain", "draw", "state", "to_state")
    assert tree["posterior"]["precision"].dims == ("chain", "draw", "state", "column")
    assert tree["log_likelihood"]["rows"].shape == (1, 20, 2)
    assert np.isnan(tree["observed_data"]["x"].values[1, 3:]).all()

    density = vx.LogDensity(normal_prior, normal_rows, like={"mean": np.zeros(2)})
    fit = vx.fit(density, rng.normal(size=(30, 2)))
    data = rng.normal(size=(30, 2))
    tree = to_datatree(fit, density, data, key=key, num_draws=20)
    mean = tree["posterior"]["mean"].values[0]
    expected = stats.norm(mean[:, None], 1).logpdf(data).sum(-1)
    np.testing.assert_allclose(tree["log_likelihood"]["rows"].values[0], expected, rtol=1e-5)
    lp = expected.sum(1) + stats.norm(0, 3).logpdf(mean).sum(1)
    np.testing.assert_allclose(tree["sample_stats"]["lp"].values[0], lp, rtol=1e-5)


def normal_prior(params):
    return jax.scipy.stats.norm.logpdf(params["mean"], scale=3.0).sum()


def normal_rows(params, rows):
    return jax.scipy.stats.norm.logpdf(rows, params["mean"]).sum(-1)


def test_what_it_refuses(exported, key):
    x, model, fit, _ = exported
    flat = vx.GaussianMixture.flat(2, 2)
    with pytest.raises(ValueError, match="by EM, an estimate"):
        to_datatree(fit, flat, x, key=key)
    with pytest.raises(ValueError, match="by EM, an estimate"):
        to_datatree(dataclasses.replace(fit, point=True), model, x, key=key)
    with pytest.raises(ValueError, match="num_draws"):
        to_datatree(fit, model, x, key=key, num_draws=0)


@pytest.mark.usefixtures("unchecked")
def test_a_q_is_not_a_fit(exported, key):
    x, model, fit, _ = exported
    with pytest.raises(TypeError, match="fit: expected a Result"):
        to_datatree(fit.q, model, x, key=key)


def test_a_learned_concentration(exported, key):
    """The mean of log p(x, theta) / q(theta) is at least the bound, and next to it."""
    x = exported[0]
    weights = vx.DirichletProcess.with_prior(1.0, 1.0, 3, truncated=False)
    model = vx.GaussianMixture.from_data(x, 3, weights=weights, covariance="diag")
    fit = vx.fit(model, x, init=(x[:, 0] > 3).astype(int))
    tree = to_datatree(fit, model, x, key=key, num_draws=400, log_likelihood=False)
    log_ratio = (tree["sample_stats"]["lp"] - tree["sample_stats"]["lq"]).values.ravel()
    error = log_ratio.std() / np.sqrt(400)
    assert float(fit.elbo) - 5 * error < log_ratio.mean() < float(fit.elbo) + 2.0
    assert tree["posterior"]["concentration"].shape == (1, 400)
    assert "log_likelihood" not in tree.children
