"""The weak limit of the HDP-HMM: learned concentrations that all transitions share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import gammaln

import vijax as vx
from vijax.numerics.polya_fit import fit_polya

from .oracles import hmm
from .test_hmm import POISSON, begin, sequences_of, settled

KEY = jax.random.key(0)
K = 3


def log_polya(count, conc):
    """log likelihood in nats of rows of counts, in some order."""
    each = gammaln(conc + count) - gammaln(conc)
    return each.sum() + (gammaln(conc.sum(-1)) - gammaln((conc + count).sum(-1))).sum()


def test_concentrations_are_those_of_the_highest_likelihood():
    """By SciPy's optimiser; no call lowers the likelihood, nor a number below its least."""
    rng = np.random.default_rng(0)
    extra = 2.0 * np.eye(6, K)
    count = np.array([rng.multinomial(30, rng.dirichlet([0.5, 1.0, 2.0] + own)) for own in extra])
    none = np.zeros(K + 1)
    wide, more = np.c_[count, np.zeros(6)], np.c_[extra, np.zeros(6)]
    conc, last = np.r_[np.ones(K), 0.0], -np.inf
    climb = jax.jit(fit_polya)
    for _ in range(40):
        conc = np.asarray(climb(*map(jnp.asarray, (wide, more, conc, none))))
        value = log_polya(count, conc[:K] + extra)
        assert value >= last - 1e-12 * abs(value)
        last = value
    best = minimize(lambda a: -log_polya(count, np.exp(a) + extra), np.zeros(K), tol=1e-12)
    np.testing.assert_allclose(conc[:K], np.exp(best.x), rtol=1e-4)
    assert conc[K] == 0.0
    empty = count.copy()
    empty[:, 2] = 0
    floor = np.array([1e-3, 1e-3, 0.2])
    conc = np.ones(K)
    for _ in range(3):
        conc = climb(*map(jnp.asarray, (1.0 * empty, extra, conc, floor)))
    np.testing.assert_allclose(conc[2], 0.2, rtol=1e-12)


def test_expected_counts_below_one_never_lower_it():
    """The proof for the fixed point is of counts of 1 or more."""
    rng = np.random.default_rng(5)
    climb, least = jax.jit(fit_polya), jnp.full(K, 1e-6)
    for size in 10.0 ** rng.uniform(-4.0, 0.0, size=20):
        count = size * rng.random((6, K))
        extra, conc = np.zeros((6, K)), 10.0 ** rng.uniform(-3.0, 2.0, size=K)
        new = np.asarray(climb(*map(jnp.asarray, (count, extra, conc)), least))
        assert log_polya(count, new) >= log_polya(count, conc) - 1e-10


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(2)
    xs = sequences_of(rng, POISSON, (5, 2, 1))
    batch = vx.Batch.sequences(xs)
    model = vx.HMM.with_prior(
        K, components=POISSON.prior(rng, K), chain="hdp", transitions=0.8, stay=0.5, initial=0.7
    )
    resp = jnp.asarray(rng.dirichlet(0.3 * np.ones(K), size=batch.steps.shape))
    return xs, batch, model, begin(model, batch, resp)


def test_bound_is_below_the_evidence_at_what_is_learned(small):
    """It never falls (`settled` looks), and all paths are added up."""
    xs, batch, model, start = small
    q, bound = settled(model, start, batch, 300)
    shared = np.asarray(q.labels.shared)
    assert (np.abs(shared - 0.8) > 1e-2).all()
    x = np.concatenate(xs)

    def of_path(z):
        return POISSON.evidence(x, z, model.components)

    rows = shared + 0.5 * np.eye(K)
    exact = hmm.log_evidence((5, 2, 1), np.full(K, 0.7), rows, of_path)
    assert exact - 8 * np.log(K) - 10.0 < bound <= exact + 1e-9

    @jax.jit
    def slope(q):
        return jax.grad(lambda q: sum(model.elbo_terms(q, batch).values()))(q).labels

    found, before = slope(q), slope(start)
    free = shared > 1.01 * 0.8e-2
    np.testing.assert_allclose(np.asarray(found.shared)[free], 0.0, atol=1e-4)
    assert (np.asarray(found.shared)[~free] <= 1e-4).all()
    assert np.abs(before.shared).max() > 1e-2
    np.testing.assert_allclose(found.transitions.conc, 0.0, atol=1e-5)


def planted(seed, t=250, k=4, stay=0.95):
    """Two sequences of four states that last, in the plane, and overlap."""
    rng = np.random.default_rng(seed)
    means = np.array([[0.0, 0.0], [2.5, 0.0], [0.0, 2.5], [2.5, 2.5]])
    z = np.zeros((2, t), int)
    for own in z:
        own[0] = rng.integers(k)
        for i in range(1, t):
            own[i] = own[i - 1] if rng.random() < stay else rng.integers(k)
    return means[z] + rng.normal(size=(2, t, 2))


def test_states_to_spare_are_hardly_gone_to():
    x = planted(0)
    model = vx.HMM.from_data(x, 12, chain="hdp")
    assert repr(model).endswith("WeakLimit prior)")
    fit = vx.fit(model, x, key=KEY, num_restarts=2).check()
    assert "4 of 12 states have share >= 0.01" in fit.summary()
    assert "shared" in fit.summary()
    shared = np.asarray(fit.q.labels.shared)
    used = np.asarray(fit.q.labels.mean) > 0.01
    assert shared[used].min() > 3 * shared[~used].max()
    with pytest.raises(ValueError, match=r"method: EM\(\)"):
        vx.fit(model, x, key=KEY, method=vx.EM())
    with pytest.raises(ValueError, match="conc: one for each state"):
        vx.HMM.from_data(x, 2, chain="hdp", conc=np.ones((2, 2)))
