"""Priors, posteriors and predictive densities in numpyro: the same densities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax.extras.numpyro import predictive, sample_sites

from .tables.emissions import EMISSIONS

numpyro = pytest.importorskip("numpyro")
import numpyro.distributions as dist  # noqa: E402
from numpyro.handlers import seed, substitute, trace  # noqa: E402

K = 3


@pytest.fixture(autouse=True)
def _lenient():
    """numpyro itself mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def drawn(q):
    """A value drawn by numpyro, the log density of all its sites, and their names."""
    model = seed(lambda: sample_sites("theta", q), 0)
    sites = trace(model).get_trace()
    value = substitute(lambda: sample_sites("theta", q), {n: s["value"] for n, s in sites.items()})
    log_p = sum(np.asarray(s["fn"].log_prob(s["value"])).sum() for s in sites.values())
    return value(), log_p, list(sites)


@pytest.mark.parametrize("emission", EMISSIONS, ids=lambda e: e.name)
def test_sites_of_every_family(emission, rng):
    q = emission.prior(rng, K)
    value, log_p, names = drawn(q)
    assert all(name.startswith("theta.") for name in names)
    np.testing.assert_allclose(log_p, np.asarray(q.log_prob(value)).sum(), rtol=1e-5)


def test_sites_of_models(rng, key):
    x = rng.normal(size=(20, 2))
    mixture = vx.GaussianMixture.from_data(x, 2)
    value, log_p, names = drawn(mixture.prior)
    assert names == ["theta.weights", "theta.components.precision", "theta.components.mean"]
    np.testing.assert_allclose(log_p, mixture.prior.log_prob(value), rtol=1e-5)
    chain = vx.HMM.from_data([x], 2)
    value, log_p, _ = drawn(chain.prior)
    np.testing.assert_allclose(log_p, chain.prior.log_prob(value), rtol=1e-5)
    sticks = vx.StickBreaking.pitman_yor(1.5, 0.2, 4)
    weights, log_p, _ = drawn(sticks)
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-6)
    # the density of the sticks is that of the weights times the Jacobian
    left = 1.0 - np.concatenate([[0.0], np.cumsum(np.asarray(weights)[:-2])])
    expected = sticks.log_prob(weights) + np.log(left).sum()
    np.testing.assert_allclose(log_p, expected, rtol=1e-5)


def test_a_model_of_numpyro_with_our_prior(rng):
    """Its log density is our log joint, with labels summed over."""
    x = rng.normal(size=(15, 2))
    model = vx.GaussianMixture.from_data(x, 2)

    def mixture(x):
        theta = sample_sites("", model.prior)
        parts = theta["components"]
        each = dist.MultivariateNormal(parts.mean, precision_matrix=parts.precision)
        rows = dist.MixtureSameFamily(dist.Categorical(theta["weights"]), each)
        numpyro.sample("x", rows.expand([len(x)]), obs=x)

    theta = jax.tree.map(lambda a: a[0], model.prior.sample(jax.random.key(1), (1,)))
    values = {
        "weights": theta["weights"],
        "components.mean": theta["components"].mean,
        "components.precision": theta["components"].precision,
    }
    log_p, _ = numpyro.infer.util.log_density(mixture, (x,), {}, values)
    plain = vx.Mixture(model.weights, model.components)
    expected = model.prior.log_prob(theta) + plain.log_lik(theta, x).sum()
    np.testing.assert_allclose(log_p, expected, rtol=1e-5)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_predictive_of_gaussians(covariance, rng, key):
    x = rng.normal(size=(30, 2))
    model = vx.GaussianMixture.from_data(x, 2, covariance=covariance)
    q = model.prior
    found = predictive(model, q)
    np.testing.assert_allclose(found.log_prob(x), model.log_predictive(q, x), rtol=1e-5)
    assert found.sample(key, (5,)).shape == (5, 2)


DISCRETE = {
    "poisson": (vx.PoissonMixture, lambda rng: rng.poisson(4.0, size=(20, 2))),
    "exponential": (vx.ExponentialMixture, lambda rng: rng.exponential(size=(20, 2))),
    "bernoulli": (vx.BernoulliMixture, lambda rng: rng.integers(2, size=(20, 2))),
    "categorical": (vx.CategoricalMixture, lambda rng: rng.integers(3, size=(20, 2))),
}


@pytest.mark.parametrize("kind", DISCRETE)
def test_predictive_of_other_families(kind, rng):
    build, rows = DISCRETE[kind]
    x = rows(rng)
    weights = vx.StickBreaking.dirichlet_process(1.0, 2, truncated=kind != "poisson")
    model = build.from_data(x, 2, weights=weights)
    found = predictive(model, model.prior)
    whole = kind in ("bernoulli", "categorical", "poisson")
    given = jnp.asarray(x, jnp.int32 if whole else None)
    expected = model.log_predictive(model.prior, np.asarray(x, float))
    np.testing.assert_allclose(found.log_prob(given), expected, rtol=1e-5)


def test_what_it_refuses(rng):
    x = rng.normal(size=(20, 2))
    model = vx.GaussianMixture.from_data(x, 2, k_max=4)
    with pytest.raises(ValueError, match=r"theta\.weights: some entries are switched off"):
        drawn(model.prior)
    process = vx.DirichletProcess.with_prior(1.0, 1.0, 3)
    with pytest.raises(TypeError, match="no sites for a DirichletProcess"):
        drawn(process)
    geometric = vx.GeometricMixture.from_data(rng.integers(5, size=(20, 2)), 2)
    with pytest.raises(TypeError, match="no predictive density of a BetaGeometric"):
        predictive(geometric, geometric.prior)
