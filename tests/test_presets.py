"""Prior presets: the other tool's own fixed point, or the textbook's own formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import multivariate_normal
from sklearn.mixture import BayesianGaussianMixture

import vijax as vx
from vijax.models.priors import presets

from .data import clusters

PRESETS = [presets.sklearn, presets.bishop, presets.mclust]
STRUCTURES = ["full", "tied", "diag", "spherical"]
TIGHT = vx.Stop(tol=1e-12, max_iter=9999)


@pytest.fixture
def rows(rng):
    x, _ = clusters(rng, n=80, d=3, k=2, separation=2.0)
    return x @ np.diag([1.0, 3.0, 0.5]) + [0.0, 10.0, -5.0]


# -- scikit-learn ---------------------------------------------------------------------------------


class FromResponsibilities(BayesianGaussianMixture):
    """Scikit-learn's model with all defaults of its prior, started where we say."""

    start: np.ndarray

    def _initialize_parameters(self, X, random_state, **_):  # noqa: N803 (their name)
        self._initialize(X, self.start)


def peer_of(start, k, covariance="full"):
    peer = FromResponsibilities(
        n_components=k,
        covariance_type=covariance,
        weight_concentration_prior_type="dirichlet_distribution",
        reg_covar=0.0,
        tol=1e-12,
        max_iter=20_000,
    )
    peer.start = start
    return peer


def test_sklearn_has_the_same_fixed_point(rng, rows):
    start = rng.dirichlet(np.full(3, 0.3), size=len(rows))
    peer = peer_of(start, 3).fit(rows)
    model = vx.GaussianMixture.with_prior(3, **presets.sklearn(rows, 3))
    q = vx.fit(model, rows, init=start, stop=TIGHT).check().q
    point = q.point()
    np.testing.assert_allclose(q.components.mean, peer.means_, rtol=1e-6)
    np.testing.assert_allclose(q.weights.mean, peer.weights_, rtol=1e-5, atol=1e-6)
    size = np.abs(peer.covariances_).max()
    np.testing.assert_allclose(point.components.covariance, peer.covariances_, atol=1e-6 * size)


@pytest.mark.parametrize(
    ("covariance", "times"), [("full", 1.0), ("tied", 3.0), ("diag", 1.0), ("spherical", 3.0)]
)
def test_what_sklearn_counts_differently(rng, rows, covariance, times):
    """One update from the same responsibilities: three components, three columns."""
    start = rng.dirichlet(np.full(3, 0.3), size=len(rows))
    peer = peer_of(start, 3, covariance)
    peer._check_parameters(rows)
    peer._initialize(rows, start)
    prior = presets.sklearn(rows, 3, covariance)
    prior |= {"df": times * prior["df"], "scatter": times * prior["scatter"]}
    model = vx.GaussianMixture.with_prior(3, **prior)
    q = jax.tree.map(lambda a: a[0], vx.trajectory(model, rows, init=start, num_iters=1).q)
    np.testing.assert_allclose(q.components.mean, peer.means_, rtol=1e-9)
    theirs = peer.covariances_
    if covariance == "diag":
        theirs = np.stack([np.diag(row) for row in theirs])
    if covariance == "spherical":
        theirs = theirs[:, None, None] * np.eye(3)
    np.testing.assert_allclose(covariances(q), np.broadcast_to(theirs, (3, 3, 3)), atol=1e-9)


def covariances(q):
    """Sigma at the point of q as matrices (k, d, d), told from densities alone."""
    moments = q.point().components
    d = q.components.mean.shape[-1]
    steps = np.concatenate(
        [np.zeros((1, d)), np.eye(d), *[np.eye(d) + np.eye(d)[[j]] for j in range(d)]]
    )

    def log_lik(k):
        at = q.components.mean[k] + jnp.asarray(steps)
        return -2.0 * moments.likelihood(vx.Batch.of(at))[0][:, k]

    out = []
    for k in range(len(q.components.mean)):
        value = log_lik(k) - log_lik(k)[0]
        single, both = value[1 : d + 1], value[d + 1 :].reshape(d, d)
        cross = 0.5 * (both - single[:, None] - single[None])
        precision = jnp.where(np.eye(d, dtype=bool), jnp.diag(single), cross)
        out.append(np.linalg.inv(precision))
    return np.stack(out)


# -- mclust ---------------------------------------------------------------------------------------


def log_posterior(theta, x, k, covariance):
    """Fraley & Raftery (2007), section 2, in (logits, mu, Sigma), up to a constant."""
    logits, mu, sigma = theta
    d = x.shape[1]
    variance = np.cov(x.T)
    if covariance in ("diag", "spherical"):
        variance = np.trace(variance) / d
    scale, nu, kappa = variance / k ** (2 / d), d + 2, 0.01
    full = {
        "full": lambda: sigma,
        "tied": lambda: jnp.broadcast_to(sigma, (k, d, d)),
        "diag": lambda: jax.vmap(jnp.diag)(sigma),
        "spherical": lambda: sigma[:, None, None] * jnp.eye(d),
    }[covariance]()
    parts = [multivariate_normal.logpdf(x, mu[j], full[j]) for j in range(k)]
    likelihood = jax.nn.logsumexp(jax.nn.log_softmax(logits) + jnp.stack(parts, 1), 1).sum()
    means = sum(multivariate_normal.logpdf(mu[j], x.mean(0), full[j] / kappa) for j in range(k))
    if covariance in ("full", "tied"):  # inverse Wishart
        power = 0.5 * (nu + d + 1) * jnp.linalg.slogdet(sigma)[1]
        rest = 0.5 * jnp.trace(jnp.linalg.solve(sigma, jnp.broadcast_to(scale, sigma.shape)).T)
    else:  # inverse Gamma
        power, rest = (0.5 * nu + 1) * jnp.log(sigma), 0.5 * scale / sigma
    return likelihood + means - jnp.sum(power) - jnp.sum(rest)


def estimates(q, covariance):
    sigma = covariances(q)
    if covariance == "tied":
        np.testing.assert_allclose(sigma, np.broadcast_to(sigma[0], sigma.shape), rtol=1e-6)
        sigma = sigma[0]
    if covariance in ("diag", "spherical"):
        off = sigma * (1 - np.eye(sigma.shape[-1]))
        np.testing.assert_allclose(off, 0.0, atol=1e-8)
        sigma = np.diagonal(sigma, axis1=1, axis2=2)
    if covariance == "spherical":
        np.testing.assert_allclose(sigma, sigma[:, :1] * np.ones(3), rtol=1e-7)
        sigma = sigma[:, 0]
    mean = jnp.asarray(q.components.mean)
    return jnp.log(q.weights.mean), mean, jnp.asarray(sigma)


@pytest.mark.parametrize("covariance", STRUCTURES)
def test_mclust_is_stationary(rng, rows, covariance):
    k = 2
    model = vx.GaussianMixture.with_prior(k, **presets.mclust(rows, k, covariance))
    start = (rows[:, 1] > rows[:, 1].mean()).astype(int)
    fit = vx.fit(model, rows, init=start, method=vx.EM(), stop=TIGHT).check()
    theta = estimates(fit.q, covariance)
    slope = jax.grad(log_posterior)(theta, rows, k, covariance)
    np.testing.assert_allclose(slope[0], 0.0, atol=1e-5)  # in rows
    np.testing.assert_allclose(slope[1], 0.0, atol=2e-5)
    np.testing.assert_allclose(slope[2], 0.0, atol=2e-4)
    # it is that function which EM climbs
    early = vx.fit(model, rows, init=start, method=vx.EM(), stop=vx.Stop(max_iter=1))
    climbed = log_posterior(theta, rows, k, covariance)
    climbed -= log_posterior(estimates(early.q, covariance), rows, k, covariance)
    np.testing.assert_allclose(climbed, fit.elbo - early.elbo, rtol=1e-5, atol=1e-5)
    assert climbed > 1e-3


def test_mclust_needs_columns_that_vary(rng):
    x = rng.normal(size=(40, 3))
    x[:, 1] = 2.0
    with pytest.raises(ValueError, match="scatter: must be positive definite"):
        vx.GaussianMixture.with_prior(2, **presets.mclust(x, 2))


# -- all ------------------------------------------------------------------------------------------


def test_bishop_on_standardised_data(rng, rows):
    z = (rows - rows.mean(0)) / rows.std(0)
    prior = presets.bishop(z, 4)
    assert (prior["conc"], prior["kappa"], prior["df"]) == (1e-3, 1.0, 3.0)
    np.testing.assert_allclose(prior["mean"], 0.0, atol=1e-12)
    np.testing.assert_allclose(prior["scatter"], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(presets.bishop(z, 4, "tied")["scatter"], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(presets.bishop(z, 4, "diag")["scatter"], np.ones(3))
    np.testing.assert_allclose(presets.bishop(z, 4, "spherical")["scatter"], 1.0)
    model = vx.GaussianMixture.with_prior(4, **prior)
    scaled = vx.GaussianMixture.with_prior(4, **presets.bishop(rows, 4))
    init = np.arange(len(rows)) % 4
    one = vx.fit(model, z, init=init, stop=TIGHT)
    two = vx.fit(scaled, rows, init=init, stop=TIGHT)
    shift = len(rows) * np.log(rows.std(0)).sum()
    np.testing.assert_allclose(one.elbo, two.elbo + shift, rtol=1e-9)
    np.testing.assert_array_equal(model.predict(one.q, z), scaled.predict(two.q, rows))


@pytest.mark.parametrize("covariance", STRUCTURES)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.float32(hasty=True)
def test_units_weights_and_dtype(rng, rows, preset, covariance):
    one = preset(rows, 3, covariance)
    assert one["covariance"] == covariance
    two = preset(-4.0 * rows + 16.0, 3, covariance)
    rtol = 1e-5 if one["mean"].dtype == np.float32 else 1e-9
    np.testing.assert_allclose(two["mean"], -4.0 * one["mean"] + 16.0, rtol=rtol, atol=1e-4)
    scale = np.abs(one["scatter"]).max()
    np.testing.assert_allclose(two["scatter"], 16.0 * one["scatter"], rtol=rtol, atol=scale * rtol)
    assert {n: v for n, v in one.items() if n not in ("mean", "scatter")} == {
        n: v for n, v in two.items() if n not in ("mean", "scatter")
    }
    count = rng.integers(0, 3, size=len(rows))
    weighted = preset(vx.Batch.of(rows, count), 3, covariance)
    repeated = preset(np.repeat(rows, count, 0), 3, covariance)
    np.testing.assert_allclose(weighted["mean"], repeated["mean"], rtol=rtol, atol=1e-5)
    np.testing.assert_allclose(
        weighted["scatter"], repeated["scatter"], rtol=rtol, atol=scale * rtol
    )
    half = preset(rows.astype(np.float32), 3, covariance)
    assert half["mean"].dtype == half["scatter"].dtype == np.float32
    model = vx.GaussianMixture.with_prior(3, **half)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(model.prior)} == {"float32"}


@pytest.mark.parametrize("preset", PRESETS)
def test_inside_jit(rows, preset):
    for covariance in STRUCTURES:
        outside = preset(rows, 2, covariance)
        inside = jax.jit(lambda x: preset(x, 2, covariance)["scatter"])(jnp.asarray(rows))  # noqa: B023
        np.testing.assert_allclose(inside, outside["scatter"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("preset", PRESETS)
def test_one_column(rng, preset):
    x = rng.normal(size=(20, 1))
    for covariance in STRUCTURES:
        model = vx.GaussianMixture.with_prior(2, **preset(x, 2, covariance))
        assert model.num_components == 2


@pytest.mark.parametrize("preset", PRESETS)
def test_refused(rows, preset):
    with pytest.raises(ValueError, match="covariance: expected one of full, tied, diag"):
        preset(rows, 2, "tied-diag")
    with pytest.raises(ValueError, match="num_components: must be at least 1"):
        preset(rows, 0)
    with pytest.raises(ValueError, match="x: expected rows and columns"):
        preset(rows[:, 0], 2)
    with pytest.raises(ValueError, match="x: needs at least two rows"):
        preset(rows[:1], 2)
    missing = np.where(rows > rows.mean(), np.nan, rows)
    with pytest.raises(ValueError, match="x: has missing entries"):
        preset(vx.Batch.of(missing, missing=True), 2)
    preset(vx.Batch.of(rows, missing=True), 2)
