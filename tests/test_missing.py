"""Missing entries and measurement noise: quadrature, direct maximisation, and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, stats
from scipy.special import logsumexp
from sklearn.datasets import load_iris

import vijax as vx
from vijax.models.mixture import Mixture

from .data import clusters
from .tables.emissions import (
    BERNOULLI,
    CATEGORICAL,
    DIAG,
    EMISSIONS,
    FULL,
    POISSON,
    SPHERICAL,
    TIED,
)


def holes(rng, x, share=0.2):
    """x with NaN in a share of its entries, and what was observed."""
    seen = rng.random(x.shape) > share
    return np.where(seen, x, np.nan), seen


@pytest.mark.parametrize("emission", [FULL, TIED], ids=["full", "tied"])
def test_missing_entries_are_integrated_out_exactly(emission, rng):
    """Each row's part of the bound: log of the integral of exp(E_q[log N(x | theta)])."""
    q = emission.prior(rng, 2)
    model = Mixture(vx.Dirichlet.from_standard([1.0, 2.0]), q)
    x = np.array([[0.3, np.nan], [np.nan, -1.2], [0.5, 0.1]])
    batch = vx.Batch.of(x, missing=True)
    got = model.components.moments().likelihood(batch)[0]
    moments = q.moments()

    def density(row, k):
        return float(np.exp(moments.log_lik(jnp.asarray(row)[None])[0, k]))

    for k in range(2):
        first = integrate.quad(lambda v, k=k: density([0.3, v], k), -60, 60, epsabs=0, limit=200)
        second = integrate.quad(lambda v, k=k: density([v, -1.2], k), -60, 60, epsabs=0, limit=200)
        whole = density([0.5, 0.1], k)
        expected = np.log([first[0], second[0], whole])
        np.testing.assert_allclose(got[:, k], expected, rtol=1e-8)


def test_noise_is_integrated_out_exactly(rng):
    q = FULL.prior(rng, 2)
    root = rng.normal(size=(1, 2, 2))
    noise = root @ root.mT + 0.1 * np.eye(2)
    x = np.array([[0.4, -0.3]])
    got = q.moments().likelihood(vx.Batch.of(x, noise=noise))[0]
    side, step = np.linspace(-12, 12, 601, retstep=True)
    y = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    weight = stats.multivariate_normal(x[0], noise[0]).pdf(y) * step**2
    expected = np.log(weight @ np.exp(q.moments().log_lik(jnp.asarray(y))))
    np.testing.assert_allclose(got[0], expected, rtol=1e-9)


def test_noise_and_missing_entries_together(rng):
    """A missing entry is one of infinite noise."""
    q = FULL.prior(rng, 2)
    x = np.array([[0.4, np.nan], [0.1, 0.2]])
    noise = np.array([[0.3, 0.5], [0.2, 0.1]])
    both = q.moments().likelihood(vx.Batch.of(x, missing=True, noise=noise))[0]
    large = np.where(np.isnan(x), 1e9, noise)
    alone = q.moments().likelihood(vx.Batch.of(np.nan_to_num(x), noise=large))[0]
    lost = -0.5 * np.log(2 * np.pi * 1e9)
    np.testing.assert_allclose(both[0] + lost, alone[0], atol=1e-6)
    np.testing.assert_allclose(both[1], alone[1], rtol=1e-9)


def test_no_noise_is_the_plain_model(rng):
    x, _ = clusters(rng, n=60)
    model = vx.GaussianMixture.from_data(x, 3)
    labels = rng.integers(3, size=60)
    plain = vx.fit(model, x, init=labels)
    noisy = vx.fit(model, vx.Batch.of(x, noise=np.zeros((60, 2))), init=labels)
    np.testing.assert_allclose(noisy.elbo, plain.elbo, rtol=1e-9)


def test_noise_is_taken_off_the_covariance(rng):
    """Extreme deconvolution: the width of the clusters themselves (Bovy, Hogg & Roweis 2011)."""
    n = 2000
    clean = rng.normal(size=(n, 2)) @ np.array([[1.0, 0.5], [0.0, 0.8]])
    sd = rng.uniform(0.5, 3.0, size=(n, 2))
    x = clean + sd * rng.normal(size=(n, 2))
    batch = vx.Batch.of(x, noise=sd**2)
    model = vx.GaussianMixture.from_data(batch, 1)
    fit = vx.fit(model, batch, init=np.zeros(n, int), stop=vx.Stop(max_iter=3000)).check()
    covariance, spread = fit.q.components.covariance[0], fit.q.components.covariance_sd[0]
    truth = np.array([[1.0, 0.5], [0.0, 0.8]]).T @ np.array([[1.0, 0.5], [0.0, 0.8]])
    # rows that hide behind their noise tell less than q believes, hence the wide allowance
    assert (np.abs(covariance - truth) < 8 * spread).all()
    assert (np.cov(x.T)[0, 0] - truth[0, 0]) > 20 * spread[0, 0]


def test_grouped_patterns_are_the_rows_one_by_one(rng):
    x, _ = holes(rng, clusters(rng, n=80, d=3)[0])
    grouped = vx.Batch.of(x, missing=True)
    assert grouped.group is not None
    assert grouped.patterns.shape == (8, 3)
    apart = vx.Batch(grouped.x, grouped.weight, grouped.mask)
    model = vx.GaussianMixture.from_data(grouped, 3)
    labels = rng.integers(3, size=80)
    for method in (vx.CAVI(), vx.EM(), vx.CAVI(chunk=17)):
        a = vx.fit(model, grouped, init=labels, method=method)
        b = vx.fit(model, apart, init=labels, method=method)
        np.testing.assert_allclose(a.elbo, b.elbo, rtol=1e-10)


@pytest.mark.parametrize(
    "emission", [e for e in EMISSIONS if e.name not in ("multinomial", "mixed", "mixed, tied")],
    ids=lambda e: e.name,
)  # fmt: skip
def test_fits_with_holes_never_fall_and_empty_rows_are_absent(emission, rng):
    x, seen = holes(rng, emission.rows(rng, 40), 0.25)
    x[:3] = np.nan
    model = Mixture(vx.Dirichlet.from_standard([0.5, 0.5, 0.5]), emission.prior(rng, 3))
    batch = vx.Batch.of(x, missing=True)
    np.testing.assert_array_equal(batch.weight[:3], 0.0)
    states = vx.trajectory(model, batch, key=jax.random.key(0), num_iters=30)
    elbo = np.asarray(states.elbo)
    assert np.isfinite(elbo).all()
    assert (np.diff(elbo) >= -1e-9 * np.abs(elbo[1:])).all()
    last = jax.tree.map(lambda a: a[-1], states.q)
    rest = vx.Batch.of(x[3:], missing=True)
    np.testing.assert_allclose(vx.elbo(model, last, rest), vx.elbo(model, last, batch), rtol=1e-10)


@pytest.mark.parametrize(
    "emission", [DIAG, SPHERICAL, POISSON, BERNOULLI, CATEGORICAL], ids=lambda e: e.name
)
def test_holes_in_independent_columns_are_neutral(emission, rng):
    """Rows with one entry each say as much as the same entries of complete rows."""
    x = emission.rows(rng, 30)
    model = Mixture(vx.Dirichlet.from_standard([1.0]), emission.prior(rng, 1))
    first, second = x.copy(), x.copy()
    first[:, 1], second[:, 0] = np.nan, np.nan
    split = vx.Batch.of(np.concatenate([first, second]), missing=True)
    whole = vx.fit(model, x, init=np.zeros(30, int)).elbo
    parts = vx.fit(model, split, init=np.zeros(60, int)).elbo
    np.testing.assert_allclose(parts, whole, rtol=1e-9)


def observed_log_likelihood(x, seen, weights, means, covariances):
    rows = []
    for row, mask in zip(x, seen, strict=True):
        each = [
            stats.multivariate_normal.logpdf(row[mask], m[mask], c[np.ix_(mask, mask)])
            for m, c in zip(means, covariances, strict=True)
        ]
        rows.append(logsumexp(np.log(weights) + each))
    return np.sum(rows)


def test_em_with_holes_is_the_direct_maximum(rng):
    """L-BFGS on the likelihood of the observed entries, from EM's answer and from beside it."""
    x, _ = clusters(rng, n=60, k=2, separation=1.5)
    x, seen = holes(rng, x)
    keep = seen.any(1)
    x, seen = x[keep], seen[keep]
    batch = vx.Batch.of(x, missing=True)
    stop = vx.Stop(tol=1e-10, max_iter=20000)
    fit = vx.fit(
        vx.GaussianMixture.flat(2, 2), batch, key=jax.random.key(0), num_restarts=4,
        method=vx.EM(), stop=stop,
    ).check()  # fmt: skip
    theta = fit.q.point()
    weights, means = np.asarray(theta.weights.mean), np.asarray(theta.components.mean)
    covariances = np.asarray(theta.components.covariance)
    direct = observed_log_likelihood(x, seen, weights, means, covariances)
    np.testing.assert_allclose(fit.elbo, direct, rtol=1e-10)

    rows, mask = jnp.asarray(np.nan_to_num(x)), jnp.asarray(seen)

    def minus(v):
        log_w, mean = jax.nn.log_softmax(jnp.append(0.0, v[0])), v[1:5].reshape(2, 2)
        low = jnp.zeros((2, 2, 2)).at[:, [0, 1, 1], [0, 0, 1]].set(v[5:].reshape(2, 3))
        covariance = low @ low.mT
        both = mask[:, None, :, None] & mask[:, None, None, :]
        inner = jnp.where(both, covariance, 0.0) + (~mask).astype(float)[
            :, None, :, None
        ] * jnp.eye(2)
        z = jnp.where(mask[:, None], rows[:, None] - mean, 0.0)
        square = jnp.einsum("nki,nki->nk", z, jnp.linalg.solve(inner, z[..., None])[..., 0])
        log_det = jnp.linalg.slogdet(inner)[1]
        size = mask.astype(float).sum(1)[:, None]
        each = -0.5 * (square + log_det + size * jnp.log(2 * jnp.pi))
        return -jax.scipy.special.logsumexp(log_w + each, -1).sum()

    low = np.linalg.cholesky(covariances)[:, [0, 1, 1], [0, 0, 1]].ravel()
    at = np.concatenate([[np.log(weights[1] / weights[0])], means.ravel(), low])
    value, slope = jax.jit(jax.value_and_grad(minus))(jnp.asarray(at))
    np.testing.assert_allclose(-value, fit.elbo, rtol=1e-10)
    np.testing.assert_allclose(slope, 0.0, atol=1e-3)
    beside = at + 0.05 * rng.normal(size=at.shape)
    found = optimize.minimize(jax.jit(jax.value_and_grad(minus)), beside, jac=True)
    np.testing.assert_allclose(-found.fun, fit.elbo, rtol=1e-6)


def test_a_column_missing_at_random_hardly_moves_the_means_on_iris(rng):
    x = load_iris().data
    labels = load_iris().target
    model = vx.GaussianMixture.from_data(x, 3)
    whole = vx.fit(model, x, init=labels).check()
    thin = x.copy()
    thin[rng.random(len(x)) < 0.3, 2] = np.nan
    batch = vx.Batch.of(thin, missing=True)
    fit = vx.fit(model, batch, init=labels).check()
    move = np.abs(fit.q.components.mean - whole.q.components.mean)
    assert (move < 2 * fit.q.components.mean_sd).all()


def test_imputation_is_the_conditional_mean(rng):
    x, _ = clusters(rng, n=200, k=1)
    x = x @ np.array([[1.0, 0.8], [0.0, 0.6]])
    hidden = x.copy()
    hidden[:50, 1] = np.nan
    batch = vx.Batch.of(hidden, missing=True)
    model = vx.GaussianMixture.from_data(batch, 1)
    fit = vx.fit(model, batch, init=np.zeros(200, int)).check()
    mean, sd = model.impute(fit.q, batch)
    theta = fit.q.point().components
    centre, covariance = np.asarray(theta.mean[0]), np.asarray(theta.covariance[0])
    slope = covariance[0, 1] / covariance[0, 0]
    expected = centre[1] + slope * (hidden[:50, 0] - centre[0])
    np.testing.assert_allclose(mean[:50, 1], expected, rtol=1e-9)
    left = covariance[1, 1] - covariance[0, 1] ** 2 / covariance[0, 0]
    np.testing.assert_allclose(sd[:50, 1], np.sqrt(left), rtol=1e-9)
    np.testing.assert_array_equal(mean[50:], x[50:])
    np.testing.assert_array_equal(np.asarray(sd)[np.asarray(batch.mask)], 0.0)
    error = np.abs(mean[:50, 1] - x[:50, 1]) / sd[:50, 1]
    assert 0.5 < np.mean(error < 1) < 0.85


@pytest.mark.float32
def test_float32_with_holes_far_from_the_origin(rng):
    x, _ = clusters(rng, n=300, k=2, separation=6.0)
    dtype = jnp.result_type(float)
    x, _ = holes(rng, (x + 1e4).astype(dtype), 0.1)
    batch = vx.Batch.of(x.astype(np.float32), missing=True)
    model = vx.GaussianMixture.from_data(batch, 2)
    fit = vx.fit(model, batch, key=jax.random.key(0), num_restarts=4).check()
    centre = np.float32(x.astype(np.float32)) - np.float32(1e4)
    near = vx.Batch.of(centre, missing=True)
    other = vx.fit(
        vx.GaussianMixture.from_data(near, 2), near, key=jax.random.key(0), num_restarts=4
    ).check()
    np.testing.assert_allclose(fit.elbo, other.elbo, rtol=1e-4)


def test_holes_under_jit_and_vmap(rng):
    """The mask of a tracer: each row its own pattern."""
    sets = np.stack([holes(rng, clusters(rng, n=40, k=2)[0], 0.15)[0] for _ in range(3)])

    def one(x, key):
        batch = vx.Batch.of(x, missing=True)
        return vx.fit(vx.GaussianMixture.from_data(batch, 2), batch, key=key).elbo

    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.jit(jax.vmap(one))(jnp.asarray(sets), keys)
    alone = [one(x, key) for x, key in zip(sets, keys, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-9)


@pytest.mark.parametrize("kind", ["full", "poisson", "bernoulli", "mixed"])
def test_padding_beside_holes_changes_nothing(rng, kind):
    """Rows of weight 0 may hold anything, also where the first present row has a hole."""
    x = {
        "full": clusters(rng, n=30)[0],
        "poisson": rng.poisson(3.0, (30, 2)).astype(float),
        "bernoulli": rng.integers(2, size=(30, 2)).astype(float),
    }.get(kind, rng.normal(size=(30, 2)))
    x[0, 0] = x[5, 1] = np.nan
    pad = np.full((4, 2), np.nan)
    pad[1:] = 0.0
    both, weight = np.concatenate([x, pad]), np.r_[np.ones(30), np.zeros(4)]
    make = {
        "full": vx.GaussianMixture.from_data,
        "poisson": vx.PoissonMixture.from_data,
        "bernoulli": vx.BernoulliMixture.from_data,
    }.get(kind, lambda x, k: vx.MixedMixture.from_data(x, k, dict.fromkeys("ab", "gaussian")))
    table = (lambda a: {"a": a[:, 0], "b": a[:, 1]}) if kind == "mixed" else (lambda a: a)
    rows = vx.Batch.of(table(x), missing=True)
    padded = vx.Batch.of(table(both), weight, missing=True)
    models = [make(batch, 2) for batch in (rows, padded)]
    for a, b in zip(*map(jax.tree.leaves, models), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    label = np.arange(34) % 2
    fits = [
        vx.fit(model, batch, init=label[: len(batch.weight)])
        for model, batch in zip(models, (rows, padded), strict=True)
    ]
    np.testing.assert_allclose(fits[0].elbo, fits[1].elbo, rtol=1e-10)
