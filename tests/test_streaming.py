"""Streams: exact where the posterior is, and one program for all batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx

from .programs import programs
from .table import leaves_close

K = 2


@pytest.fixture
def exact():
    return vx.NormalGammaExact.with_prior(mean=0.5, kappa=0.7, shape=2.0, rate=3.0)


@pytest.fixture
def chunks(rng):
    return rng.normal(3.0, 2.0, size=(4, 15))


def run(model, batches, forget=1.0, **options):
    stream = vx.Streaming(model, forget)
    for rows in batches:
        stream = stream.update(rows, **options)
    return stream


def test_the_exact_posterior_and_the_exact_evidence(exact, chunks):
    stream = run(exact, chunks)
    whole = exact.posterior(chunks.ravel())
    leaves_close(stream.q.about(whole), whole, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(stream.total, exact.log_evidence(chunks.ravel()), rtol=1e-11)
    assert stream.num_batches == 4
    before = exact.log_evidence(chunks[:3].ravel())
    np.testing.assert_allclose(stream.elbo, stream.total - before, rtol=1e-10)


def test_forgotten_rows_count_less(exact, chunks):
    """t batches old: forget^t of a row each."""
    stream = run(exact, chunks, forget=0.6)
    weight = np.repeat(0.6 ** np.arange(3, -1, -1), 15)
    whole = exact.posterior(vx.Batch.of(chunks.ravel(), weight))
    leaves_close(stream.q.about(whole), whole, rtol=1e-10, atol=1e-10)
    # nothing is left of the others
    last = exact.posterior(chunks[-1])
    own = run(exact, chunks, forget=0.0).q
    leaves_close(own.about(last), last, rtol=1e-10, atol=1e-10)


def test_one_program_for_all_batches_and_any_forget(exact, chunks):
    first = run(exact, chunks[:2])
    with programs("_fit") as seen:
        stream = first.update(chunks[2])
        vx.Streaming(exact, 0.3, stream.last).update(chunks[3])
    assert not seen


def test_a_scan_over_batches_is_the_loop(exact, chunks):
    def step(stream, rows):
        stream = stream.update(rows)
        return stream, stream.elbo

    first = run(exact, chunks[:2], forget=0.8)
    last, elbos = jax.jit(lambda s: jax.lax.scan(step, s, jnp.asarray(chunks[2:])))(first)
    np.testing.assert_allclose(last.total, run(exact, chunks, forget=0.8).total, rtol=1e-11)
    np.testing.assert_allclose(first.total + elbos.sum(), last.total, rtol=1e-11)


def test_one_component_is_exact_too(rng):
    x = rng.normal(size=(45, 2)) @ rng.normal(size=(2, 2)) + 5.0
    model = vx.GaussianMixture.from_data(x, 1, covariance="diag")
    init = np.zeros(15, int)
    stream = run(model, x.reshape(3, 15, 2), init=init)
    whole = vx.fit(model, x, init=np.zeros(45, int)).check()
    np.testing.assert_allclose(stream.total, whole.elbo, rtol=1e-9)
    leaves_close(stream.q.about(whole.q), whole.q, rtol=1e-8, atol=1e-8)


@pytest.fixture
def mixture(rng):
    """Two far clusters, the first batch without any row of the second."""
    labels = (np.arange(90) >= 30) & (np.arange(90) % 3 == 0)
    x = rng.poisson(np.where(labels, 400.0, 20.0)[:, None]).astype(float)
    weights = vx.StickBreaking.dirichlet_process(1.0, K)
    return vx.PoissonMixture.from_data(x, K, weights=weights), x.reshape(3, 30, 1)


def begin(model, batches, forget=1.0):
    """All rows of the first batch in one component, then from q to q."""
    stream = vx.Streaming(model, forget).update(batches[0], init=np.zeros(30, int))
    for rows in batches[1:]:
        stream = stream.update(rows)
    return stream


def test_a_mixture_finds_what_comes_later(mixture):
    model, batches = mixture
    stream = begin(model, batches)
    assert stream.last.status == vx.Status.CONVERGED
    x = batches.reshape(-1, 1)
    whole = vx.fit(model, x, init=stream.q).check()
    # so far apart that the labels are nearly certain; given them both are exact
    leaves_close(stream.q.about(whole.q), whole.q, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(stream.total, whole.elbo, atol=0.1)


def test_the_bound_is_that_of_the_batch_under_its_prior(mixture):
    model, batches = mixture
    stream = begin(model, batches[:2], forget=0.9)
    after = stream.update(batches[2])
    np.testing.assert_allclose(after.elbo, vx.elbo(stream.current, after.q, batches[2]), rtol=1e-10)
    np.testing.assert_allclose(after.total, stream.total + after.elbo, rtol=1e-12)


def test_before_the_first_batch(exact):
    stream = vx.Streaming(exact)
    leaves_close(stream.q, exact.prior, rtol=0.0)
    assert stream.elbo == stream.total == 0.0


def test_a_posterior_that_is_no_prior_is_refused(rng):
    x = rng.normal(size=(20, 2))
    process = vx.DirichletProcess.with_prior(2.0, 1.0, 3)
    cases = {
        "FactorisedGaussian is not of the form": (
            vx.FactorisedGaussian.with_prior(mean=0.5, kappa=0.7, shape=2.0, rate=3.0)
        ),
        "weights: the posterior of a learned": vx.GaussianMixture.from_data(x, 3, weights=process),
        "flat prior": vx.GaussianMixture.flat(3, 2),
    }
    for message, model in cases.items():
        with pytest.raises(ValueError, match=message):
            vx.Streaming(model).update(x if "Gaussian is" not in message else x[:, 0])
    with pytest.raises(ValueError, match="forget: must be finite and >= 0 and <= 1"):
        vx.Streaming(cases["flat prior"], forget=1.5).update(x)
