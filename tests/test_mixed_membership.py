"""Mixed membership over component families: all assignments added up, calculus, and drivers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import vijax as vx

from .oracles import lda
from .rows import gammas
from .table import leaves_close
from .tables.emissions import FULL, POISSON

K, LENGTHS = 2, (3, 1, 2)
KEY = jax.random.key(0)


@jax.jit
def sweep(model, q, batch):
    found = model.local(q.moments(), batch)
    bound = jnp.sum(batch.weight * found.log_z) - model.kl(q)
    return bound, model.update(q, found.stats), found


def model_of(rng, emission, k=K):
    labels = vx.Admixture.from_standard(gammas(rng, k), inner=500, tol=1e-12)
    return vx.MixedMembership(labels, emission.prior(rng, k))


def evidence(model, xs, emission):
    """log p(x), memberships and theta integrated out, all k^steps assignments added up."""
    x, conc = np.concatenate(xs), np.asarray(model.labels.conc)
    owner = np.repeat(np.arange(len(xs)), [len(own) for own in xs])
    terms = []
    for z in itertools.product(range(len(conc)), repeat=len(x)):
        z = np.array(z)
        counts = [np.bincount(z[owner == n], minlength=len(conc)) for n in range(len(xs))]
        term = sum(lda.dirichlet_evidence(count, conc) for count in counts)
        terms.append(term + emission.evidence(x, z, model.components))
    return logsumexp(terms)


@pytest.mark.parametrize("emission", [POISSON, FULL], ids=lambda e: e.name)
def test_bound_is_below_the_evidence_and_with_one_component_equal_to_it(rng, emission):
    xs = [emission.rows(rng, t) for t in LENGTHS]
    batch = vx.Batch.sequences(xs)
    for k in (K, 1) if emission is POISSON else (K,):
        model = model_of(rng, emission, k)
        exact = evidence(model, xs, emission)
        stats = sweep(model, model.prior, batch)[2].stats
        q, bounds = model.update(model.prior, stats), []
        for _ in range(40):
            bound, q, _ = sweep(model, q, batch)
            bounds.append(float(bound))
        assert (np.diff(bounds) >= -1e-8).all()
        assert bounds[-1] <= exact + 1e-9
        assert bounds[-1] > exact - sum(LENGTHS) * np.log(k) - 10.0
        if k == 1:
            np.testing.assert_allclose(bounds[-1], exact, rtol=1e-10)


def test_absence_and_repetition(rng):
    """Missing and repeated steps, weights and padding: as what they stand for."""
    xs = [POISSON.rows(rng, t) for t in LENGTHS]
    model = model_of(rng, POISSON)
    q = sweep(model, model.prior, vx.Batch.sequences(xs))[1]
    plain = sweep(model, q, vx.Batch.sequences(xs))
    holes = [np.vstack([x[:1], np.full((1, x.shape[1]), np.nan), x[1:]]) for x in xs]
    missing = sweep(model, q, vx.Batch.sequences(holes, missing=True))
    np.testing.assert_allclose(missing[2].log_z, plain[2].log_z, rtol=1e-11)
    leaves_close(missing[1], plain[1], 1e-10, 1e-12)
    # the order of steps, and of rows; a row that counts twice
    turned = [x[::-1] for x in xs[::-1]]
    other = sweep(model, q, vx.Batch.sequences(turned))
    np.testing.assert_allclose(other[2].log_z[::-1], plain[2].log_z, rtol=1e-11)
    twice = sweep(model, q, vx.Batch.sequences([*xs, xs[0]]))
    weighted = sweep(model, q, vx.Batch.sequences(xs, [2.0, 1.0, 1.0]))
    np.testing.assert_allclose(weighted[0], twice[0], rtol=1e-11)
    leaves_close(weighted[1], twice[1], 1e-10)
    # what a row of weight 0 holds is not read
    junk = vx.Batch.sequences([*xs, np.full((3, xs[0].shape[1]), 1e30)], [1.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(sweep(model, q, junk)[0], plain[0], rtol=1e-12)


@pytest.fixture(scope="module")
def fitted():
    """Individuals with steps from two groups far apart, in shares of their own."""
    rng = np.random.default_rng(4)
    share = rng.dirichlet([0.4, 0.4], size=40)
    groups = [rng.random(t) < own[0] for t, own in zip(rng.integers(5, 16, 40), share, strict=True)]
    xs = [rng.normal(12.0 * g)[:, None] for g in groups]
    model = vx.MixedMembership.from_data(xs, 2)
    fit = vx.fit(model, xs, key=KEY).check()
    return model, fit, xs, groups


def test_planted_shares_are_found(fitted):
    model, fit, xs, groups = fitted
    trace = np.asarray(fit.elbo_trace)[: int(fit.n_iter)]
    assert (np.diff(trace) >= -1e-9 * np.abs(trace[1:])).all()
    high = int(np.argmax(fit.q.components.mean[:, 0]))
    true = np.array([g.mean() for g in groups])
    found = np.asarray(model.memberships(fit, xs))
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-6)
    assert np.corrcoef(found[:, high], true)[0, 1] > 0.99
    np.testing.assert_allclose(fit.q.labels.count[high], sum(g.sum() for g in groups), rtol=1e-3)
    for own, g in zip(model.predict(fit, xs), groups, strict=True):
        np.testing.assert_array_equal(own == high, g)
    resp = model.responsibilities(fit, xs)
    assert resp[3].shape == (len(xs[3]), 2)
    np.testing.assert_allclose(resp[3].sum(1), 1.0, rtol=1e-6)


def test_reading_and_refusals(fitted):
    model, fit, xs, _ = fitted
    np.testing.assert_allclose(
        model.row_bound(fit, xs).sum(), vx.elbo_terms(model, fit, xs)["log_z"], rtol=1e-6
    )
    np.testing.assert_array_equal(model.log_held_out(fit, xs), model.row_bound(fit, xs))
    for reader in (model.log_predictive, model.log_likelihood):
        with pytest.raises(TypeError, match="MixedMembership has no closed form.*`row_bound`"):
            reader(fit, xs)
    with pytest.raises(ValueError, match=r"method: EM\(\) needs the exact posterior"):
        vx.fit(model, xs, key=KEY, method=vx.EM())
    with pytest.raises(ValueError, match="x: rows, but MixedMembership"):
        vx.fit(model, vx.Batch.of(xs[0]), key=KEY)
    with pytest.raises(ValueError, match="start: expected one of warm, cold, both"):
        vx.MixedMembership.from_data(xs, 2, start="hot")
    with pytest.raises(ValueError, match="conc"):
        vx.MixedMembership.from_data(xs, 2, conc=0.0)
    rows, labels = model.sample(fit, KEY, 4, length=6)
    assert rows.shape == (4, 6, 1)
    assert labels.shape == (4, 6)
    assert "2 of 2 components have share" in fit.summary()
