"""Mean field against the exact posterior, where both have a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax.data import datasets

from .oracles import normal_gamma as oracle

PRIOR = {"mean": 1.0, "kappa": 0.5, "shape": 2.0, "rate": 3.0}
TIGHT = vx.Stop(tol=1e-20)


@pytest.mark.parametrize("n", [1, 2, 10, 100, 10_000])
def test_exact_posterior_and_evidence(n):
    x = datasets.normal_draws(n)
    model = vx.NormalGammaExact.with_prior(**PRIOR)
    post = model.posterior(x)
    got = (post.mean, post.kappa, post.shape, post.rate)
    np.testing.assert_allclose(got, oracle.posterior(x, **PRIOR), rtol=1e-12)
    evidence = oracle.log_evidence(x, **PRIOR)
    np.testing.assert_allclose(model.log_evidence(x), evidence, rtol=1e-12)
    fit = vx.fit(model, x).check()
    np.testing.assert_allclose(fit.elbo, evidence, rtol=1e-12)
    np.testing.assert_allclose(fit.q.rate, post.rate, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 10, 100, 10_000])
def test_mean_field_reaches_its_closed_form(n):
    x = datasets.normal_draws(n)
    fit = vx.fit(vx.FactorisedGaussian.with_prior(**PRIOR), x, stop=TIGHT).check()
    expected = oracle.factorised(x, **PRIOR)
    for name, got in (
        ("mean", fit.q.mu.mean),
        ("variance", fit.q.mu.variance),
        ("shape", fit.q.tau.shape),
        ("rate", fit.q.tau.rate),
    ):
        np.testing.assert_allclose(got, expected[name], rtol=1e-9, err_msg=name)
    evidence = vx.NormalGammaExact.with_prior(**PRIOR).log_evidence(x)
    np.testing.assert_allclose(evidence - fit.elbo, expected["gap"], rtol=1e-6, atol=1e-9)
    assert evidence > fit.elbo


def test_mean_field_has_the_right_means_and_too_little_spread():
    x = datasets.normal_draws(10)
    exact = vx.NormalGammaExact.with_prior(**PRIOR).posterior(x)
    q = vx.fit(vx.FactorisedGaussian.with_prior(**PRIOR), x, stop=TIGHT).check().q
    np.testing.assert_allclose(q.mu.mean, exact.mean, rtol=1e-12)
    np.testing.assert_allclose(q.tau.mean, exact.precision, rtol=1e-9)
    np.testing.assert_allclose(q.mu.variance, exact.mean_sd**2 * (1 - 1 / exact.shape), rtol=1e-9)


def test_every_iterate_can_be_read_back():
    x = datasets.normal_draws(100)
    model = vx.FactorisedGaussian.with_prior(**PRIOR)
    states = vx.trajectory(model, x, num_iters=6)
    assert states.q.mu.mean.shape == states.q.tau.rate.shape == states.elbo.shape == (6,)
    # by hand: the start is the prior, then q(mu) given E[tau], and q(tau) given q(mu)
    mean, kappa, shape, rate = oracle.posterior(x, **PRIOR)
    np.testing.assert_allclose(states.q.tau.mean[0], PRIOR["shape"] / PRIOR["rate"])
    tau = PRIOR["shape"] / PRIOR["rate"]
    for i in range(1, 6):
        variance = 1 / (kappa * tau)
        np.testing.assert_allclose(states.q.mu.mean[i], mean, rtol=1e-12)
        np.testing.assert_allclose(states.q.mu.variance[i], variance, rtol=1e-12)
        np.testing.assert_allclose(states.q.tau.rate[i], rate + 0.5 * kappa * variance, rtol=1e-12)
        tau = (shape + 0.5) / (rate + 0.5 * kappa * variance)
    assert (np.diff(states.elbo) >= 0).all()
    fit = vx.fit(model, x).check()
    n = int(fit.n_iter)
    np.testing.assert_allclose(fit.elbo_trace[:n][:6], states.elbo[:n], rtol=1e-12)


@pytest.mark.parametrize("kind", [vx.NormalGammaExact, vx.FactorisedGaussian])
def test_summary_shows_both_parameters(kind):
    x = datasets.normal_draws(100)
    lines = vx.fit(kind.with_prior(**PRIOR), x).summary().splitlines()
    assert lines[0].startswith("CONVERGED, ELBO ")
    assert lines[1].startswith("mean       ")
    mean, sd = map(float, lines[1].split()[1::2])
    np.testing.assert_allclose(mean, x.mean(), atol=0.05)
    np.testing.assert_allclose(sd, x.std() / 10, rtol=0.1)
    precision, _ = map(float, lines[2].split()[1::2])
    np.testing.assert_allclose(precision, 1 / x.var(), rtol=0.1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_far_offset_costs_no_digits(dtype):
    x = (datasets.normal_draws(1000) + 1e4).astype(dtype)
    prior = {**PRIOR, "mean": 1e4}
    q = vx.fit(vx.FactorisedGaussian.with_prior(**prior), x).check().q
    assert q.mu.mean.dtype == dtype
    expected = oracle.factorised(x.astype(float), **prior)
    np.testing.assert_allclose(q.tau.mean, expected["shape"] / expected["rate"], rtol=1e-4)
    assert abs(float(q.mu.mean) - expected["mean"]) < 2e-3


def test_a_vague_prior_is_the_textbook_estimate():
    x = datasets.normal_draws(1000)
    model = vx.NormalGammaExact.with_prior(mean=0.0, kappa=1e-9, shape=1e-9, rate=1e-9)
    post = model.posterior(x)
    np.testing.assert_allclose(post.mean, x.mean(), rtol=1e-9)
    np.testing.assert_allclose(post.precision, 1 / x.var(), rtol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_minibatches_of_coupled_blocks_end_where_all_rows_do(seed):
    """Ten rows of a thousand at a time for 60 passes: within 0.1 nats of CAVI's bound."""
    x = datasets.normal_draws(1000)
    model = vx.FactorisedGaussian.with_prior(**PRIOR)
    exact = vx.fit(model, x, stop=TIGHT).check()
    stop = vx.Stop(tol=0.0, max_iter=60)
    found = vx.fit(model, x, key=jax.random.key(seed), method=vx.SVI(batch_size=10), stop=stop)
    assert 0.0 <= exact.elbo - found.elbo < 0.1
    np.testing.assert_allclose(found.q.tau.shape, exact.q.tau.shape, rtol=1e-9)
    assert abs(float(found.q.mu.mean - exact.q.mu.mean)) < 0.1 * float(exact.q.mu.sd)


def test_refusals_name_the_argument():
    for name in ("kappa", "shape", "rate"):
        with pytest.raises(ValueError, match=f"{name}: must be finite and > 0, got 0"):
            vx.FactorisedGaussian.with_prior(**{**PRIOR, name: 0.0})
        with pytest.raises(ValueError, match=f"{name}: expected a scalar"):
            vx.NormalGammaExact.with_prior(**{**PRIOR, name: jnp.ones(2)})
    model = vx.FactorisedGaussian.with_prior(**PRIOR)
    with pytest.raises(ValueError, match=r"x: expected one number per row, \(n,\)"):
        vx.fit(model, np.zeros((5, 2)))
    with pytest.raises(ValueError, match="method: nothing is latent"):
        vx.fit(model, np.zeros(5), method=vx.EM())
    with pytest.raises(ValueError, match="init: FactorisedGaussian has no latent assignments"):
        vx.fit(model, np.zeros(5), init=np.zeros(5, int))
    with pytest.raises(ValueError, match="deterministic"):
        vx.fit(model, np.zeros(5), num_restarts=3)
