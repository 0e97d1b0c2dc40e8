"""The bound of the Gaussian mixture against exact evidence, enumeration, sampling and calculus."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import vijax as vx

from .data import clusters, mixture_of, params_of, q_of, random_prior
from .oracles import gaussian_mixture as oracle


@pytest.mark.parametrize("n", [1, 5, 20, 80, 320])
def test_one_component_is_the_exact_evidence(rng, n):
    x = rng.normal(size=(n, 3)) @ rng.normal(size=(3, 3)) + 5.0
    labels = np.zeros(n, int)
    for model in (mixture_of(random_prior(rng, k=1, d=3)), vx.GaussianMixture.from_data(x, 1)):
        evidence = oracle.log_evidence_of_one(x, params_of(model.prior))
        fit = vx.fit(model, x, init=labels).check()
        np.testing.assert_allclose(fit.elbo, evidence, rtol=1e-9)


@pytest.mark.parametrize("d", [1, 5])
def test_one_component_in_other_dimensions(rng, d):
    x = rng.normal(size=(12, d))
    model = mixture_of(random_prior(rng, k=1, d=d))
    evidence = oracle.log_evidence_of_one(x, params_of(model.prior))
    fit = vx.fit(model, x, init=np.zeros(12, int)).check()
    np.testing.assert_allclose(fit.elbo, evidence, rtol=1e-9)


@pytest.mark.parametrize(("n", "k"), [(1, 2), (4, 3), (6, 3), (8, 2)])
def test_bound_never_exceeds_the_enumerated_evidence(rng, n, k):
    for i in range(3):
        prior = random_prior(rng, k=k, d=2)
        x = rng.normal(size=(n, 2)) * 3
        evidence = oracle.log_evidence(x, prior)
        fit = vx.fit(mixture_of(prior), x, key=jax.random.key(i), num_restarts=8)
        assert (fit.elbos <= evidence + 1e-9).all()
        # and it is not trivially loose: mean field pays for k^n labellings at most
        assert fit.elbo > evidence - n * np.log(k) - 10.0


def arbitrary(rng, n=40, k=3, d=2):
    """Rows, a prior, responsibilities and a q that have nothing to do with each other."""
    x, _ = clusters(rng, n=n, d=d, k=k, separation=1.5)
    return x, random_prior(rng, k, d), rng.dirichlet(np.ones(k), size=n), random_prior(rng, k, d)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_bound_at_any_point_is_bishops(rng, d):
    x, prior, resp, q = arbitrary(rng, d=d)
    got = mixture_of(prior).elbo(q_of(q), x, jnp.asarray(resp))
    np.testing.assert_allclose(got, oracle.elbo(x, resp, q, prior), rtol=1e-10)


def test_bound_at_any_point_is_the_monte_carlo_estimate(rng):
    """E_q[log p(x, z, theta) - log q(z, theta)] with SciPy's samplers and densities."""
    x, prior, resp, q = arbitrary(rng, n=15)
    draws = []
    for _ in range(3000):
        weights, means, precisions = oracle.sample(rng, q)
        rows = np.stack(
            [
                oracle.log_likelihood(
                    x, weights[k : k + 1], means[k : k + 1], precisions[k : k + 1]
                )
                for k in range(3)
            ],
            axis=1,
        )
        log_p = (resp * rows).sum() + oracle.log_prior(weights, means, precisions, prior)
        draws.append(log_p - oracle.log_prior(weights, means, precisions, q))
    entropy = -(resp * np.log(resp)).sum()
    error = np.std(draws) / np.sqrt(len(draws))
    got = mixture_of(prior).elbo(q_of(q), x, jnp.asarray(resp))
    assert abs(got - (np.mean(draws) + entropy)) < 5 * error


def test_bound_through_the_drivers_is_the_bound_at_optimal_responsibilities(rng):
    x, prior, _, q = arbitrary(rng)
    model = mixture_of(prior)
    resp = oracle.responsibilities(x, q)
    np.testing.assert_allclose(model.responsibilities(q_of(q), x), resp, rtol=1e-9)
    np.testing.assert_allclose(
        vx.elbo(model, q_of(q), x), oracle.elbo(x, resp, q, prior), rtol=1e-10
    )
    np.testing.assert_array_equal(model.predict(q_of(q), x), resp.argmax(1))


def m_step(model, x, resp):
    """q given responsibilities: the statistics taken about the means, plus the prior."""
    first = model.update(model.prior, model.assign(model.prior, vx.Batch.of(x), resp))
    return model.update(first, model.assign(first, vx.Batch.of(x), resp))


def test_update_is_the_textbooks(rng):
    x, prior, resp, _ = arbitrary(rng)
    got = params_of(m_step(mixture_of(prior), x, jnp.asarray(resp)))
    for name, value in oracle.update(x, resp, prior).items():
        np.testing.assert_allclose(got[name], value, rtol=1e-9, err_msg=name)


def test_hard_assignments_give_the_exact_joint(rng):
    x, prior, _, _ = arbitrary(rng)
    z = rng.integers(3, size=len(x))
    resp = jnp.asarray(np.eye(3)[z])
    model = mixture_of(prior)
    got = model.elbo(m_step(model, x, resp), x, resp)
    np.testing.assert_allclose(got, oracle.log_joint_of_assignment(x, z, prior), rtol=1e-10)


def test_gradient_vanishes_after_each_half_step(rng):
    x, prior, resp, q = arbitrary(rng)
    model, resp = mixture_of(prior), jnp.asarray(resp)

    def bound(q, logits):
        return model.elbo(q, x, jax.nn.softmax(logits, -1))

    slope = jax.jit(jax.grad(bound, (0, 1)))
    logits = jnp.log(resp)
    at_m = slope(m_step(model, x, resp), logits)[0]
    for leaf in jax.tree.leaves(at_m):
        np.testing.assert_allclose(leaf, 0.0, atol=1e-9)
    best = model.responsibilities(q_of(q), x)
    np.testing.assert_allclose(slope(q_of(q), jnp.log(best))[1], 0.0, atol=1e-9)
    # the same derivatives are far from zero elsewhere, so the test can fail
    away = slope(q_of(q), logits)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(away[0])) > 0.1
    assert float(jnp.abs(away[1]).max()) > 0.01


def test_no_perturbation_beats_a_half_step(rng):
    x, prior, resp, _ = arbitrary(rng)
    model = mixture_of(prior)
    best_q = m_step(model, x, jnp.asarray(resp))
    top = model.elbo(best_q, x, jnp.asarray(resp))
    for _ in range(10):
        noise = rng.dirichlet(np.ones(3), size=len(x))
        near = jnp.asarray(0.97 * resp + 0.03 * noise)
        assert model.elbo(m_step(model, x, near), x, jnp.asarray(resp)) <= top + 1e-9
    best_r = model.responsibilities(best_q, x)
    top = model.elbo(best_q, x, best_r)
    for _ in range(10):
        noise = rng.dirichlet(np.ones(3), size=len(x))
        assert model.elbo(best_q, x, 0.97 * best_r + 0.03 * jnp.asarray(noise)) <= top + 1e-9


def test_bound_never_falls_after_any_half_step_for_50_keys(rng):
    x, _ = clusters(rng, n=150, k=4, separation=2.0)
    model = vx.GaussianMixture.from_data(x, 6)

    def run(key):
        resp = jax.random.dirichlet(key, jnp.ones(6), (150,))

        def sweep(resp, _):
            q = m_step(model, x, resp)
            better = model.responsibilities(q, x)
            return better, (model.elbo(q, x, resp), model.elbo(q, x, better))

        return jax.lax.scan(sweep, resp, length=40)[1]

    halves = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 50))
    elbo = np.stack(halves, -1).reshape(50, -1)
    assert np.isfinite(elbo).all()
    assert (np.diff(elbo) >= -1e-9 * np.abs(elbo[:, 1:])).all()
    assert (elbo[:, -1] > elbo[:, 0] + 10).all()


@pytest.mark.parametrize("method", [vx.CAVI(), vx.EM()], ids=["CAVI", "EM"])
def test_objective_never_falls_in_fits_for_50_keys(rng, method):
    x, _ = clusters(rng, n=150, k=4, separation=2.0)
    model = vx.GaussianMixture.from_data(x, 6)
    fit = vx.fit(model, x, key=jax.random.key(1), num_restarts=50, method=method)
    traces = np.asarray(fit.runs.elbo_trace)
    steps = np.diff(traces)
    seen = np.isfinite(steps)
    assert (steps[seen] >= -1e-9 * np.abs(traces[:, 1:][seen])).all()
    assert (np.asarray(fit.statuses) == vx.Status.CONVERGED).all()


def test_masked_components_change_nothing(rng):
    """k_max = 6 with 3 switched on is the model with 3."""
    x, _ = clusters(rng, n=80)
    labels = rng.integers(3, size=80)
    small = vx.GaussianMixture.from_data(x, 3)
    large = vx.GaussianMixture.from_data(x, 3, k_max=6)
    for method in (vx.CAVI(), vx.EM()):
        a = vx.fit(small, x, init=labels, method=method)
        b = vx.fit(large, x, init=labels, method=method)
        np.testing.assert_allclose(b.elbo, a.elbo, rtol=1e-12)
        np.testing.assert_allclose(b.q.weights.mean[:3], a.q.weights.mean, rtol=1e-9)
        np.testing.assert_array_equal(b.q.weights.mean[3:], 0.0)
        assert a.n_iter == b.n_iter
    drawn = vx.fit(large, x, key=jax.random.key(0), init="random", num_restarts=4)
    assert (drawn.q.weights.mean[3:] == 0).all()


def test_em_objective_is_log_likelihood_plus_log_prior(rng):
    """With the prior's density in the natural basis: textbook density times its base measure."""
    x, prior, resp, _ = arbitrary(rng)
    model = mixture_of(prior)
    fit = vx.fit(model, x, init=resp, method=vx.EM(), stop=vx.Stop(tol=1e-9)).check()
    q = fit.q
    weights, means = np.asarray(q.weights.mean), np.asarray(q.components.mean)
    precisions = np.asarray(q.components.precision)
    log_lik = oracle.log_likelihood(x, weights, means, precisions).sum()
    base = -np.log(weights).sum() - 0.5 * 2 * np.linalg.slogdet(precisions)[1].sum()
    log_prior = oracle.log_prior(weights, means, precisions, prior) - base
    np.testing.assert_allclose(fit.elbo, log_lik + log_prior, rtol=1e-9)

    def objective(parameters):
        """The same objective at any parameters, by JAX, free of the library's E-step."""
        logits, means, roots = parameters
        log_w = jax.nn.log_softmax(logits)
        total, rows = 0.0, []
        for k in range(3):
            root = jnp.tril(roots[k])
            precision = root @ root.T
            log_det = jnp.linalg.slogdet(precision)[1]
            z = (x - means[k]) @ root
            rows.append(log_w[k] + 0.5 * (log_det - 2 * jnp.log(2 * jnp.pi) - (z**2).sum(-1)))
            move = (means[k] - prior["mean"][k]) @ root
            square = prior["kappa"][k] * move @ move + jnp.trace(prior["scatter"][k] @ precision)
            total += prior["conc"][k] * log_w[k] + 0.5 * (prior["df"][k] * log_det - square)
        return total + jax.scipy.special.logsumexp(jnp.stack(rows), 0).sum()

    at = (jnp.log(weights), jnp.asarray(means), jnp.linalg.cholesky(precisions))
    for slope in jax.grad(objective)(at):
        np.testing.assert_allclose(slope, 0.0, atol=2e-3)


def test_flat_prior_is_maximum_likelihood(rng):
    x, _ = clusters(rng, n=200)
    fit = vx.fit(
        vx.GaussianMixture.flat(3, 2),
        x,
        key=jax.random.key(0),
        num_restarts=4,
        method=vx.EM(),
        stop=vx.Stop(tol=1e-8),
    ).check()
    theta = fit.q.point()
    weights = np.exp(np.asarray(theta.weights.log_p))
    np.testing.assert_allclose(weights, fit.q.weights.mean, rtol=1e-12)
    precisions = np.asarray(fit.q.components.precision)
    means = np.asarray(fit.q.components.mean)
    rows = oracle.log_likelihood(x, weights, means, precisions)
    np.testing.assert_allclose(fit.elbo, rows.sum(), rtol=1e-10)
    # each estimate is its own weighted moment
    log_joint = np.stack(
        [
            oracle.log_likelihood(x, weights[k : k + 1], means[k : k + 1], precisions[k : k + 1])
            for k in range(3)
        ],
        axis=1,
    )
    resp = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
    for k in range(3):
        centre = resp[:, k] @ x / resp[:, k].sum()
        covariance = (resp[:, k, None] * (x - centre)).T @ (x - centre) / resp[:, k].sum()
        np.testing.assert_allclose(means[k], centre, atol=1e-4)
        np.testing.assert_allclose(np.linalg.inv(precisions[k]), covariance, atol=1e-3)
