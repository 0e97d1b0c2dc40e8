"""Mixtures of hidden Markov models: each cluster's own sum over paths, and laws of its parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import vijax as vx

from .oracles import hmm
from .table import leaves_close
from .tables.emissions import POISSON
from .test_hmm import begin, e_steps, evidence, settled, sweep
from .test_sequence_mixture import agree

KEY = jax.random.key(0)
M, K, LENGTHS = 2, 2, (3, 1, 2)


@pytest.fixture(scope="module")
def small():
    """Sequences of which a step is missing, a model and a q."""
    rng = np.random.default_rng(3)
    xs = [POISSON.rows(rng, t) for t in LENGTHS]
    xs[0][1] = np.nan
    batch = vx.Batch.sequences(xs, missing=True)
    model = vx.HMMMixture.from_data(batch, M, K, emission="poisson", conc=0.7, stay=1.0)
    resp = jnp.asarray(rng.dirichlet(np.ones(M * K), size=batch.steps.shape))
    return xs, batch, model, begin(model, batch, resp)


def test_the_sum_over_paths_is_that_of_every_cluster(small):
    """Enumerated cluster by cluster; what is read is of the cluster that is most probable."""
    xs, batch, model, q = small

    @jax.jit
    def read(q, batch):
        said = {name: getattr(model, name)(q, batch) for name in ("clusters", "predict", "path")}
        logs = []
        for moments in (q.moments(), q.point()):
            own = moments.components.likelihood(batch.flat())[0]
            logs.append((own, moments.labels.initial.log_p, moments.labels.transitions.log_p))
        return said, logs

    said, logs = jax.tree.map(np.asarray, read(q, batch))
    steps = np.asarray(batch.steps)
    by_cluster = []
    for log_lik, first, moves in logs:
        own = np.where(steps[..., None] > 0, log_lik.reshape(*steps.shape, -1), 0.0)
        each = [slice(c * K, c * K + K) for c in range(M)]
        by_cluster.append(
            [
                [hmm.smoothed(first[c], moves[c, c], row[:t, c]) for c in each]
                for row, t in zip(own, LENGTHS, strict=True)
            ]
        )
    log_z = np.array([[found[0] for found in row] for row in by_cluster[0]])
    total = logsumexp(log_z, axis=1)
    np.testing.assert_allclose(sweep(model, q, batch)[2], total, rtol=1e-11)
    np.testing.assert_allclose(said["clusters"], np.exp(log_z - total[:, None]), rtol=1e-9)
    np.testing.assert_array_equal(said["predict"], log_z.argmax(1))
    for i, t in enumerate(LENGTHS):
        found = by_cluster[1][i][said["predict"][i]][2] if t else []
        np.testing.assert_array_equal(said["path"][i], np.r_[found, [-1] * (max(LENGTHS) - t)])


def test_bound_is_below_the_evidence(small):
    xs, batch, model, q = small
    exact = evidence(model, xs, POISSON)
    bound = settled(model, q, batch, 40)[1]
    assert exact - sum(LENGTHS) * np.log(M * K) - 10.0 < bound <= exact + 1e-9


def test_of_one_cluster_and_of_one_state(small):
    """A hidden Markov model, and a mixture of sequences."""
    xs, batch, *_ = small
    pairs = [
        (
            vx.HMMMixture.from_data(batch, 1, K, emission="poisson", initial=1.0),
            vx.HMM.from_data(batch, K, emission="poisson"),
        ),
        (
            vx.HMMMixture.from_data(batch, M, 1, emission="poisson", initial=0.5),
            vx.SequenceMixture.from_data(batch, M, emission="poisson"),
        ),
    ]
    rng = np.random.default_rng(4)
    resp = jnp.asarray(rng.dirichlet(np.ones(2), size=len(xs)))[:, None]
    resp = jnp.broadcast_to(resp, (*batch.steps.shape, 2))
    models = [model for pair in pairs for model in pair]
    moments = [begin(model, batch, resp).moments() for model in models]
    steps = e_steps(models, moments, [batch] * 4)
    for one, two in (steps[:2], steps[2:]):
        np.testing.assert_allclose(one.log_z, two.log_z, rtol=1e-11)
        leaves_close(one.stats.components, two.stats.components, 1e-10, 1e-12)


def test_clusters_that_differ_in_how_they_go_on():
    """States of the same two levels, which alternate or last; nothing else tells them apart."""
    rng = np.random.default_rng(6)
    label = rng.integers(2, size=16)
    change = np.where(label, 0.1, 0.9)
    z = np.array([np.cumsum(rng.random(30) < c) % 2 for c in change])
    z = z ^ rng.integers(2, size=(16, 1))
    x = 3.0 * z[..., None] + rng.normal(size=(16, 30, 1))
    model = vx.HMMMixture.from_data(x, 2, 2, k_max=3)
    assert model.active.tolist() == [True] * 4 + [False] * 2
    fit = vx.fit(model, x, key=KEY, num_restarts=2).check()
    assert agree(model.predict(fit, x), label)
    found = np.asarray(model.path(fit, x))
    assert max(np.mean((found ^ z) == c) for c in (0, 1)) > 0.5
    conc = np.asarray(fit.q.labels.transitions.conc)
    other = np.kron(np.eye(3), np.ones((2, 2))) == 0
    np.testing.assert_array_equal(conc[other], 0.0)
    np.testing.assert_array_equal(model.clusters(fit, x)[:, 2], 0.0)
    states = np.asarray(model.sample(fit, KEY, 20, length=9)[1])
    np.testing.assert_array_equal(states // 2, np.broadcast_to(states[:, :1] // 2, states.shape))
    with pytest.raises(ValueError, match="q: pruned"):
        model.predict(vx.prune(fit), x)
    with pytest.raises(ValueError, match="q: in another order"):
        model.predict(vx.relabel(fit, [0.0, 2.0, 1.0, 3.0, 4.0, 5.0]), x)
