"""Units, offsets and float32: the answer must not depend on how numbers are stored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

import vijax as vx


def two_clusters(rng, separation, n=400):
    """Correlated rows around two centres `separation` sds apart, and which is whose."""
    labels = np.arange(n) % 2
    root = np.array([[1.0, 0.0], [0.6, 0.8]])
    return rng.normal(size=(n, 2)) @ root.T + separation * labels[:, None] * [0.6, 0.8], labels


def in_double(x, labels):
    """E[Sigma] in float64 NumPy by the textbook, which is exact where labels are certain."""
    prior = vx.GaussianMixture.from_data(x.astype(np.float32), 2).prior.components
    covariances = []
    for k in range(2):
        rows = x[labels == k]
        m0 = np.asarray(prior.mean[k], float)
        kappa0, df0 = float(prior.kappa[k]), float(prior.df[k])
        n, centre = len(rows), rows.mean(0)
        within = (rows - centre).T @ (rows - centre)
        between = kappa0 * n / (kappa0 + n) * np.outer(centre - m0, centre - m0)
        scatter = np.asarray(prior.scatter[k], float) + within + between
        covariances.append(scatter / (df0 + n - 3))
    return np.stack(covariances)


def close(got, exact, rtol=1e-3):
    """Each entry relative to the two standard deviations it belongs to."""
    sd = np.sqrt(np.diagonal(exact, axis1=1, axis2=2))
    assert (np.abs(got - exact) < rtol * sd[:, :, None] * sd[:, None, :]).all()


@pytest.mark.float32
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("separation", [30.0, 1000.0])
def test_float32_covariances_far_from_the_origin_and_far_apart(rng, offset, separation):
    """Within 1e-3, from the default start, against float64 on the same float32 numbers."""
    x, labels = two_clusters(rng, separation)
    low = (x + offset).astype(np.float32)
    fit = vx.fit(
        vx.GaussianMixture.from_data(low, 2), low, key=jax.random.key(0), num_restarts=4
    ).check()
    assert fit.q.components.covariance.dtype == jnp.float32
    order = np.argsort(np.asarray(fit.q.components.mean)[:, 0])
    exact = in_double(low.astype(float), labels)
    got = np.asarray(fit.q.components.covariance, float)[order]
    close(got, exact)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_float32_covariances_of_overlapping_clusters(rng, offset):
    """With soft responsibilities there is no closed form, so float64 is the reference."""
    x, labels = two_clusters(rng, 3.0)
    low = (x + offset).astype(np.float32)
    fits = []
    for data in (low, low.astype(np.float64)):
        model = vx.GaussianMixture.from_data(data, 2)
        fits.append(vx.fit(model, data, init=labels, stop=vx.Stop(tol=1e-6)).check())
    got, exact = (np.asarray(f.q.components.covariance, float) for f in fits)
    close(got, exact)
    assert abs(float(fits[0].elbo) - float(fits[1].elbo)) < 1e-6 * abs(fits[1].elbo) + 1e-3


def together(x, k=6, **options):
    """The probability that two rows are of one component, for all pairs, after a drawn start.

    It does not depend on the order of components, which rounding decides where starts are alike.
    """
    model = vx.GaussianMixture.from_data(x, k)
    fit = vx.fit(model, x, key=jax.random.key(3), num_restarts=3, **options)
    resp = np.asarray(model.responsibilities(fit.q, x))
    return resp @ resp.T, fit


# EM with more components than clusters rests near saddles, and rounding says how long
@pytest.mark.parametrize(("method", "k"), [(vx.CAVI(), 6), (vx.EM(), 2)], ids=["CAVI", "EM"])
@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e8])
def test_units_change_no_cluster(rng, scale, method, k):
    x, _ = two_clusters(rng, 4.0)
    plain, one = together(x, k, method=method)
    scaled, two = together(x * scale, k, method=method)
    np.testing.assert_allclose(scaled, plain, atol=1e-6)
    if not method.point:  # a bound changes by the volume element, a posterior mode does not
        np.testing.assert_allclose(two.elbo + x.size * np.log(scale), one.elbo, atol=1e-2)


@pytest.mark.parametrize("units", [[1e-8, 1.0], [1.0, 1e6], [1e-3, 1e5]])
def test_units_of_single_columns_change_no_cluster(rng, units):
    x, _ = two_clusters(rng, 4.0)
    np.testing.assert_allclose(together(x * units)[0], together(x)[0], atol=1e-6)


def test_a_shift_by_a_million_sds_changes_no_cluster(rng):
    x, _ = two_clusters(rng, 4.0)
    np.testing.assert_allclose(together(x + 1e6 * x.std(0))[0], together(x)[0], atol=1e-6)


@pytest.mark.float32
@pytest.mark.parametrize(("scale", "offset"), [(1e-4, 0.0), (1e4, 0.0), (1.0, 1e3)])
def test_units_change_no_label_in_float32(rng, scale, offset):
    """Rounding may reorder the components of a drawn start, so this one is given."""
    x, truth = two_clusters(rng, 5.0)
    labels = []
    for data in (x.astype(np.float32), (x * scale + offset).astype(np.float32)):
        model = vx.GaussianMixture.from_data(data, 2)
        fit = vx.fit(model, data, init=truth).check()
        assert fit.elbo.dtype == jnp.float32
        labels.append(model.predict(fit.q, data))
    assert (labels[0] != labels[1]).sum() <= (1 if offset else 0)  # the offset rounds the rows


@pytest.mark.float32
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "int32", "bool"])
def test_narrow_numbers_are_widened(rng, kind):
    x = jnp.asarray(rng.integers(0, 2, size=(40, 2))).astype(kind)
    model = vx.GaussianMixture.from_data(x, 2)
    fit = vx.fit(model, x, key=jax.random.key(0))
    assert fit.elbo.dtype == (jnp.float32 if "float" in kind else jnp.result_type(float))
    assert np.isfinite(fit.elbo)


def test_float64_data_that_float32_cannot_tell_apart_are_announced():
    """Only where float64 is disabled; there the columns would silently become constant."""
    x = 1e8 + np.arange(20.0)[:, None]
    with jax.enable_x64(False), pytest.warns(UserWarning, match="x: column 0 steps by"):
        vx.Batch.of(x)


@pytest.mark.float32
@pytest.mark.parametrize("structure", ["full", "tied", "diag", "spherical"])
def test_every_structure_keeps_its_digits_far_from_the_origin(rng, structure):
    """Offset of 1e4 sds in float32: the fit of the same float32 numbers moved to the origin."""
    x, _ = two_clusters(rng, 6.0)
    low = (x + 1e4).astype(np.float32)
    near = low - np.float32(1e4)  # exactly

    def run(x):
        model = vx.GaussianMixture.from_data(x, 3, covariance=structure)
        return vx.fit(model, x, key=jax.random.key(0), num_restarts=4)

    far, home = run(low), run(near)
    assert abs(float(far.elbo - home.elbo)) < 1e-5 * abs(float(home.elbo)) + 0.1
    order = np.argsort(-np.asarray(home.q.weights.mean))[:2]
    other = np.argsort(-np.asarray(far.q.weights.mean))[:2]
    close(far.q.components.covariance[other], np.asarray(home.q.components.covariance[order]), 5e-3)


@pytest.mark.parametrize("structure", ["full", "tied", "diag", "spherical"])
def test_every_structure_ignores_units(rng, structure):
    """Scales from 1e-8 to 1e8 and an offset of 1e6 sds in float64, from the default prior."""
    x, _ = two_clusters(rng, 6.0)

    def run(x):
        model = vx.GaussianMixture.from_data(x, 4, covariance=structure)
        fit = vx.fit(model, x, key=jax.random.key(0), num_restarts=4)
        return fit, model.predict(fit.q, x)

    plain, labels = run(x)
    for scale, offset in ((1e-8, 0.0), (1e-4, 0.0), (1e4, 0.0), (1e8, 0.0), (1.0, 1e6)):
        fit, got = run(x * scale + offset)
        np.testing.assert_allclose(fit.elbo + x.size * np.log(scale), plain.elbo, rtol=1e-7)
        assert adjusted_rand_score(labels, got) == 1.0  # equal starts may tie
