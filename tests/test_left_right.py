"""Left-to-right chains: what is impossible stays so, and starts are segments."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import vijax as vx

from .oracles import discrete, hmm
from .test_hmm import begin, settled, sweep

K, LENGTHS = 3, (12, 9, 15, 4, 2)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def planted():
    """Sequences whose level rises twice, and their states."""
    rng = np.random.default_rng(4)
    states = [np.minimum((np.arange(t) * K + rng.integers(2)) // 12, K - 1) for t in LENGTHS]
    return [rng.normal(size=(len(z), 1)) + 6.0 * z[:, None] for z in states], states


@pytest.fixture(scope="module")
def model(planted):
    return vx.HMM.from_data(planted[0], K, chain="left_right", stay=2.0, k_max=4)


@pytest.fixture(scope="module")
def found(planted):
    """The fits of each number of states."""
    options = {"chain": "left_right", "stay": 2.0, "num_restarts": 2}
    return vx.select_num_components(planted[0], [1, 2, 3, 4], key=KEY, build=vx.HMM, **options)


@pytest.fixture(scope="module")
def fit(found):
    return found.result(K).check()


def allowed(t, k, skips=0):
    """Every path that begins in state 0 and never falls."""
    for z in itertools.product(range(k), repeat=t):
        step = np.diff(z)
        if z[0] == 0 and (step >= 0).all() and (step <= 1 + skips).all():
            yield np.array(z)


def test_states_never_fall(planted, model, fit):
    xs, states = planted
    for own, z in zip(model.path(fit, xs), states, strict=True):
        assert own[0] == 0
        assert np.isin(np.diff(own), [0, 1]).all()
        assert np.mean(own == z) > 0.7
    drawn = np.asarray(model.sample(fit, KEY, 200, length=12)[1])
    assert (drawn[:, 0] == 0).all()
    assert np.isin(np.diff(drawn, axis=1), [0, 1]).all()
    assert (drawn[:, -1] == K - 1).any()
    q = fit.q.labels
    np.testing.assert_array_equal(np.asarray(q.transitions.mean)[[1, 2, 2, 0], [0, 0, 1, 2]], 0.0)
    np.testing.assert_array_equal(q.initial.mean, [1.0, 0.0, 0.0, 0.0])
    assert np.isinf(q.stay[K - 1])
    np.testing.assert_array_equal(q.mean[K], 0.0)
    moves = model.sample_parameters(fit, KEY, (5,))["transitions"]
    np.testing.assert_array_equal(np.tril(moves[0], -1), 0.0)


def test_bound_is_a_sum_over_the_paths_that_are_allowed():
    """Row by row at a q, with and without skips; and never above the evidence."""
    rng = np.random.default_rng(5)
    xs = [rng.poisson(3.0, size=(t, 1)).astype(float) for t in (3, 1, 2)]
    batch = vx.Batch.sequences(xs)

    @jax.jit
    def read(q, batch):
        moments = q.moments()
        return moments.components.likelihood(batch.flat())[0], moments.labels.transitions.log_p

    for skips in (0, 1):
        model = vx.HMM.from_data(
            xs, K, emission="poisson", chain="left_right", skips=skips, conc=0.7
        )
        resp = rng.dirichlet(np.ones(K), size=batch.steps.shape)
        q = begin(model, batch, jnp.asarray(resp))
        log_lik, moves = map(np.asarray, read(q, batch))
        log_lik = log_lik.reshape(3, 3, K)
        expected = []
        for own, x in zip(log_lik, xs, strict=True):
            terms = [
                own[np.arange(len(z)), z].sum() + moves[z[:-1], z[1:]].sum()
                for z in allowed(len(x), K, skips)
            ]
            expected.append(logsumexp(terms))
        np.testing.assert_allclose(sweep(model, q, batch)[2], expected, rtol=1e-11)
        conc = (np.asarray(d.conc) for d in (model.labels.initial, model.labels.transitions))
        shape, rate = (np.asarray(getattr(model.components.each, n)) for n in ("shape", "rate"))
        x = np.concatenate(xs)

        def evidence(z, x=x, shape=shape, rate=rate):
            each = [(x[z == k], shape[k], rate[k]) for k in range(K)]
            return sum(discrete.poisson(own, np.ones(len(own)), a, b) for own, a, b in each)

        exact = hmm.log_evidence([3, 1, 2], *conc, evidence)
        assert settled(model, q, batch, 40)[1] <= exact + 1e-9


def test_starts_are_segments(planted, model):
    """The first of equal length, others cut at random; in the order of the states, and ragged."""
    xs, _ = planted
    batch = vx.Batch.sequences(xs)
    points = jnp.zeros((batch.steps.size, 1))

    @jax.jit
    def start(batch, restart):
        key = jax.random.fold_in(KEY, restart)
        resp = model.labels.partition(key, points, batch, model.active, restart)
        return resp, model.init(key, batch, restart).components.mean[:, 0]

    found = []
    for restart in range(4):
        resp, mean = start(batch, restart)
        state = np.asarray(resp).argmax(-1)
        np.testing.assert_array_equal(np.asarray(resp).sum(-1), 1.0)
        for own, t in zip(state, LENGTHS, strict=True):
            assert (np.diff(own[:t]) >= 0).all()
        found.append(state)
        assert (np.diff(mean[:K]) > 0).all()
    np.testing.assert_array_equal(found[0][0, :12], np.repeat(np.arange(K), 4))
    np.testing.assert_array_equal(found[0][1, :9], np.repeat(np.arange(K), 3))
    assert len({a.tobytes() for a in found}) == 4
    known = vx.Batch.sequences(xs, label=[np.r_[2, np.full(t - 1, -1)] for t in LENGTHS])
    assert start(known, 0)[1][2] < start(batch, 0)[1][2]


def test_other_numbers_of_states(model, found, fit):
    """The number is found; states to spare are switched off; the posterior as the next prior."""
    assert found.best == K
    assert model.active.tolist() == [True] * K + [False]
    assert "LeftRight prior" in repr(model)
    after = model.with_posterior_as_prior(fit.q)
    assert type(after.labels) is type(model.labels)


def test_errors_name_the_argument(planted):
    xs = planted[0]
    for options, message in (
        ({"chain": "ring"}, "chain: expected one of"),
        ({"skips": 1}, "skips: of a left-to-right chain"),
        ({"chain": "left_right", "skips": -1}, "skips: "),
        ({"chain": "left_right", "initial": [0.0, 1.0]}, "initial: "),
        ({"chain": "left_right", "conc": [[1.0, 0.0], [1.0, 0.0]]}, "conc: "),
    ):
        with pytest.raises(ValueError, match=message):
            vx.HMM.from_data(xs, 2, **options)
