"""The number of states of hidden Markov models: criteria and held-out sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, xlogy
from scipy.stats import poisson

import vijax as vx

from .oracles import hmm

KEY = jax.random.key(0)
START = {"num_restarts": 2, "stop": vx.Stop(tol=1e-6)}


@pytest.fixture(scope="module")
def sequences():
    """Counts of two states that last, ten sequences of five steps."""
    rng = np.random.default_rng(2)
    z = np.cumsum(rng.random((10, 5)) < 0.2, 1) % 2
    return rng.poisson(1.0 + 8.0 * z[..., None]).astype(float)


def test_every_criterion_finds_two_states(sequences):
    """The bound with relabellings; held-out sequences by a loop of fits."""
    found = vx.select_num_components(
        sequences,
        [1, 2, 3],
        key=KEY,
        build=vx.HMM,
        emission="poisson",
        criterion="cv",
        folds=2,
        **START,
    )
    assert found.best == 2
    fold = np.asarray(found.validation.fold)
    assert fold.shape == (10,)
    for i, k in enumerate((1, 2, 3)):
        model = vx.HMM.from_data(sequences[fold != 0], k, emission="poisson", conc=1.0, k_max=3)
        q = jax.tree.map(lambda a, i=i: a[i, 0], found.validation.results.q)
        own = model.log_likelihood(q, sequences[fold == 0])
        np.testing.assert_allclose(found.validation.log_density[i][fold == 0], own, rtol=1e-9)
    model = vx.HMM.from_data(sequences, 2, emission="poisson", conc=1.0, k_max=3)
    best = found.result()
    np.testing.assert_allclose(vx.elbo(model, best, sequences), best.elbo, rtol=1e-9)
    ways = model.log_relabellings(best.q, vx.Batch.sequences(sequences))
    np.testing.assert_allclose(ways, np.log(2.0), rtol=1e-9)


def test_bic_counts_transitions_and_steps(sequences):
    found = vx.select_num_components(
        sequences, [1, 2], key=KEY, build=vx.HMM, method=vx.EM(), emission="poisson", **START
    )
    assert found.best == 2
    for i, k in enumerate((1, 2)):
        model = vx.HMM.flat(k, 1, emission="poisson", k_max=2)
        one = found.result(k)
        log_lik = float(np.sum(model.log_likelihood(one, sequences)))
        free = k + (k - 1) + k * (k - 1)
        bic = free * np.log(50.0) - 2 * log_lik
        np.testing.assert_allclose(found.bic[i], bic, rtol=1e-9)
        np.testing.assert_allclose(found.aic[i], 2 * free - 2 * log_lik, rtol=1e-9)
    point = one.q.point()
    logs = (np.asarray(m.log_p) for m in (point.labels.initial, point.labels.transitions))
    z, entropy, logs = hmm.paths(2, 5), 0.0, list(logs)
    for x in sequences:
        log_lik = poisson.logpmf(x, np.asarray(point.components.mean)[:, 0])
        joint = hmm.log_joint(z, *logs, log_lik)
        p = np.exp(joint - logsumexp(joint))
        entropy -= xlogy(p, p).sum()
    np.testing.assert_allclose((found.icl[1] - found.bic[1]) / 2, entropy, rtol=1e-8)


def test_what_states_may_change_places():
    """A chain that treats some alike, and those that it tells apart."""
    k = 3
    same = vx.Chain.from_standard(np.ones(k), np.ones((k, k)) + 2 * np.eye(k))
    every, two = jnp.ones(k, bool), jnp.array([True, True, False])
    assert same.exchangeable(every)
    last = vx.Chain.from_standard([1.0, 1.0, 5.0], np.array([[3, 1, 2], [1, 3, 2], [4, 4, 9.0]]))
    assert not last.exchangeable(every)
    assert last.exchangeable(two)
    ordered = vx.Chain.from_standard([1.0, 0.0, 0.0], np.triu(np.ones((k, k))))
    assert not ordered.exchangeable(every)
    assert not ordered.exchangeable(two)
    np.testing.assert_allclose(ordered.num_free(jnp.asarray(3.0)), 0 + 2 + 1 + 0)
    np.testing.assert_allclose(same.num_free(jnp.asarray(3.0)), 2 + 6)


def test_one_long_sequence_has_no_folds(sequences):
    long = sequences.reshape(-1, 1)
    with pytest.raises(ValueError, match="folds: of sequences, and there is one; cut it"):
        vx.cross_validate(vx.HMM, long, 2, key=KEY, emission="poisson")
    with pytest.raises(ValueError, match="folds: 20 of 10 rows"):
        vx.cross_validate(vx.HMM, sequences, 2, key=KEY, emission="poisson", folds=20)
    model = vx.HMM.from_data(sequences, 2, emission="poisson")
    with pytest.raises(ValueError, match="folds: of sequences"):
        vx.cross_validate(model, long, key=KEY)
