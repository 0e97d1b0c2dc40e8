"""`model.log_lik(theta, x)`: of every family by the textbook, of chains by enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

import vijax as vx
from vijax.models import draws

from .data import clusters
from .tables.emissions import EMISSIONS

K, N, S = 3, 6, 4


def prior_model(emission, rng):
    return vx.Mixture(vx.Dirichlet(jnp.full(K, 2.0)), emission.prior(rng, K))


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("emission", EMISSIONS, ids=lambda e: e.name)
def test_every_family(emission, rng, key):
    model = prior_model(emission, rng)
    x = emission.rows(rng, N)
    theta = model.sample_parameters(model.prior, key, (S,))
    host = jax.tree.map(np.asarray, theta)
    if emission.evidence is None:
        expected = student_log_lik(x, host["components"], np.asarray(model.components.dof))
    else:
        expected = emission.log_lik(x, host["components"])
    expected = logsumexp(np.log(host["weights"])[:, None] + expected, -1)
    found = model.log_lik(theta, x)
    assert found.shape == (S, N)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def student_log_lik(x, v, dof):
    """(s, n, k), by SciPy."""
    each = [
        [
            stats.multivariate_t(m, np.linalg.inv(p), df=float(nu)).logpdf(x)
            for m, p, nu in zip(means, precisions, dof, strict=True)
        ]
        for means, precisions in zip(v.mean, v.precision, strict=True)
    ]
    return np.moveaxis(np.array(each), 1, 2)


@pytest.fixture(scope="module")
def gaussian():
    x, _ = clusters(np.random.default_rng(0), n=40, d=2, k=2, separation=3.0)
    x = x.astype(np.float64)
    x[3, 1] = np.nan
    rows = vx.Batch.of(x, missing=True)
    weights = vx.StickBreaking.dirichlet_process(1.0, 4, truncated=False)
    model = vx.GaussianMixture.from_data(rows, 4, weights=weights, covariance="tied")
    return model, vx.fit(model, rows, key=jax.random.key(0)), rows


def test_named_draws_chunks_and_the_predictive(gaussian, key, monkeypatch):
    """E_q[p(x_n | theta)] is the predictive density; of the infinite model with a new component."""
    model, fit, rows = gaussian
    theta = model.sample_parameters(fit, key, (2, 1000))
    found = np.asarray(model.log_lik(theta, rows))
    assert found.shape == (2, 1000, 40)
    p = np.exp(found.reshape(2000, 40))
    error = p.std(0) / np.sqrt(2000)
    exact = np.exp(np.asarray(model.log_predictive(fit, rows)))
    assert (abs(p.mean(0) - exact) < 5 * error + 1e-9).all()
    monkeypatch.setattr(draws, "_FLOATS", 4096)
    few = {name: value[:, :9] for name, value in theta.items()}
    np.testing.assert_allclose(model.log_lik(few, rows), found[:, :9], rtol=1e-5)


def test_hidden_markov_model(rng, key):
    x = [rng.normal(size=(4, 2)), rng.normal(size=(2, 2))]
    model = vx.HMM.from_data(x, 2, k_max=3)
    theta = model.sample_parameters(model.prior, key, (2,))
    found = model.log_lik(theta, x)
    host = jax.tree.map(np.asarray, theta)
    for s, (n, rows) in itertools.product(range(2), enumerate(x)):
        parts = host["components"]
        each = np.stack(
            [
                stats.multivariate_normal(m, np.linalg.inv(p)).logpdf(rows)
                for m, p in zip(parts.mean[s, :2], parts.precision[s, :2], strict=True)
            ],
            1,
        )
        log_first, log_next = np.log(host["initial"][s][:2]), np.log(host["transitions"][s][:2, :2])
        values = [
            log_first[path[0]]
            + each[np.arange(len(rows)), path].sum()
            + sum(log_next[a, b] for a, b in itertools.pairwise(path))
            for path in itertools.product(range(2), repeat=len(rows))
        ]
        np.testing.assert_allclose(found[s, n], logsumexp(values), rtol=1e-5)


def test_what_it_refuses(gaussian):
    model, fit, rows = gaussian
    with pytest.raises(TypeError, match="theta: expected draws of `sample_parameters`"):
        model.log_lik({"means": np.zeros((4, 2))}, rows)
    theta = model.sample_parameters(fit, jax.random.key(0), (3,))
    with pytest.raises(ValueError, match=r"theta: weights has draws \(2,\)"):
        model.log_lik(theta | {"weights": theta["weights"][:2]}, rows)
