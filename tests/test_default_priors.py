"""Default priors: what they say in data units, and that small clusters keep their own values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax.models.priors.gaussian import structured
from vijax.models.priors.scale import scale_of

from .data import clusters

KEY = jax.random.key(0)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("df", [None, 7.5, "each"])
def test_expected_covariance_is_that_of_a_cluster_for_any_df(rng, covariance, df):
    if covariance == "tied" and df == "each":
        pytest.skip("one df for all")
    x, _ = clusters(rng, n=120, k=3, separation=6.0)
    given = np.array([4.5, 6.0, 20.0]) if df == "each" else df
    components = vx.GaussianMixture.from_data(x, 3, covariance=covariance, df=given).components
    within = structured(scale_of(vx.Batch.of(x)).within, covariance)
    least = 3.0 if covariance in ("full", "tied") else 2.0
    degrees = np.broadcast_to(least + 4.0 if given is None else given, (3,))
    for k, degree in enumerate(degrees):
        covariances = np.asarray(components.covariance).reshape(-1, 2, 2)
        expected = covariances[k % len(covariances)]
        matrix = within if np.ndim(within) == 2 else np.diag(np.broadcast_to(within, 2))
        np.testing.assert_allclose(expected, matrix, rtol=1e-9)
        assert degree > least


def waits(rng, k=6, d=8):
    """Waiting times of equal clusters, whose rates are factors of 4 apart in every column."""
    steps = np.stack([rng.permutation(k) for _ in range(d)], 1)
    rate, z = 0.1 * 4.0**steps, np.arange(96) % k
    return rng.exponential(1.0 / rate[z]), z, rate


@pytest.mark.parametrize("family", ["exponential", "geometric"])
def test_clusters_of_short_waits_and_small_counts_keep_their_rates(rng, family):
    ratios, inside = [], []
    for _ in range(10):
        x, z, rate = waits(rng)
        if family == "exponential":
            model, name, truth = vx.ExponentialMixture.from_data(x, 8), "rate", rate
        else:
            truth = 1.0 / (1.0 + 2.0 * 3.0 ** np.log2(np.sqrt(10.0 * rate)))
            x = rng.geometric(truth[z]) - 1.0
            model, name = vx.GeometricMixture.from_data(x, 8), "p"
        q = vx.fit(model, x, init=z).q.components
        mean, sd = (np.asarray(getattr(q, name + end))[:6] for end in ("", "_sd"))
        ratios.append(mean / truth)
        inside.append(np.abs(mean - truth) < 2.0 * sd)
    assert 0.9 < np.mean(ratios) < 1.15
    assert np.mean(inside) > 0.85


def test_waits_without_a_scale_and_in_other_units():
    x = np.abs(np.random.default_rng(0).normal(size=(50, 2))) + 0.1
    prior = vx.ExponentialMixture.from_data(x, 2).components.each
    np.testing.assert_allclose(prior.shape, 0.5)
    below = (x < np.asarray(prior.rate[0]) / 0.5).mean(0)
    np.testing.assert_allclose(below, 0.2, atol=0.02)
    longer = vx.ExponentialMixture.from_data(60.0 * x, 2).components.each
    np.testing.assert_allclose(longer.rate, 60.0 * np.asarray(prior.rate), rtol=1e-9)
    traced = jax.jit(lambda x: vx.ExponentialMixture.from_data(x, 2))(jnp.asarray(x))
    np.testing.assert_allclose(traced.components.each.rate, prior.rate, rtol=1e-9)
    x[:, 1] = 0.0  # takes a fifth of the mean of the other column
    zeros = vx.ExponentialMixture.from_data(x, 2).components.each.rate[0]
    np.testing.assert_allclose(zeros[1], 0.5 * 0.2 * x[:, 0].mean(), rtol=1e-9)
    with pytest.raises(ValueError, match=r"shape: expected a scalar, \(2,\) or \(k, 2\)"):
        vx.ExponentialMixture.from_data(x, 2, shape=np.ones(3))


def test_short_waits_are_those_that_are_observed(rng):
    x = rng.exponential(size=(60, 1))
    holes = np.concatenate([x, np.full((30, 1), np.nan), np.full((30, 1), 1e-9)])
    weight = np.concatenate([np.ones(90), np.zeros(30)])
    whole = vx.ExponentialMixture.from_data(x, 2).components.each
    part = vx.ExponentialMixture.from_data(vx.Batch.of(holes, weight, missing=True), 2)
    np.testing.assert_allclose(part.components.each.rate, whole.rate, rtol=1e-9)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical", "exponential", "counts"])
def test_float32_rows_stay_float32_under_x64(rng, kind):
    x = rng.gamma(2.0, 3.0, size=(40, 2)).astype(np.float32)
    if kind == "exponential":
        model = vx.ExponentialMixture.from_data(x, 3)
    elif kind == "counts":
        model = vx.GeometricMixture.from_data(x.round(), 3)
    else:
        model = vx.GaussianMixture.from_data(x, 3, covariance=kind)
    batch = model.as_batch(jnp.asarray(x.round() if kind == "counts" else x))
    q = model.init(KEY, batch)
    assert {leaf.dtype for leaf in jax.tree.leaves((model.prior, q))} == {np.dtype(np.float32)}
    assert model.merge_gain(q).dtype == np.float32


BAD_ROWS = {
    "one mistyped row, full": ("full", [[1000.0, 0.0]]),
    "a sentinel, diag": ("diag", [[-999.0, -999.0]] * 3),
    "another unit, spherical": ("spherical", [[2e6, 3e6]]),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_few_bad_rows_leave_the_clusters_what_they_are(name):
    covariance, bad = BAD_ROWS[name]
    centres = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    rng = np.random.default_rng(0)
    rows = np.concatenate([centres[np.arange(300) % 3] + rng.normal(size=(300, 2)), bad])
    model = vx.GaussianMixture.from_data(rows, 5, covariance=covariance)
    fit = vx.fit(model, rows, key=jax.random.key(0), num_restarts=4)
    mean = np.asarray(fit.q.components.mean)[np.asarray(fit.q.weights.mean) > 0.1]
    assert len(mean) == 3
    assert np.linalg.norm(centres[:, None] - mean, axis=-1).min(1).max() < 0.5
