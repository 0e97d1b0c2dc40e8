"""Hidden Markov models under every driver, and against hmmlearn from the same start."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import vijax as vx

from .table import leaves_close

PEER = json.loads((Path(__file__).parent / "comparison" / "hmmlearn.json").read_text())
KEY = jax.random.key(0)
K, N, T = 2, 7, 6
TIGHT = vx.Stop(tol=1e-13, max_iter=2000)


# -- hmmlearn -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peer():
    """Its sequences, and the responsibilities from which both start."""
    x, resp, lengths = np.array(PEER["x"]), np.array(PEER["resp"]), PEER["lengths"]
    cut = np.cumsum(lengths)[:-1]
    return np.split(x, cut), np.split(resp, cut), x


def at(states, i):
    return jax.tree.map(lambda a: a[i], states.q)


def chain_of(q):
    return {"initial": q.labels.initial, "transitions": q.labels.transitions}


def test_variational_inference_is_hmmlearns(peer):
    """Its bound lacks n d log(2 pi) / 2 (`GaussianHMM` of the same package has it)."""
    xs, resp, x = peer
    prior = PEER["prior"]
    one = {name: np.repeat([prior[name]], K, 0) for name in ("mean", "kappa", "df", "scatter")}
    model = vx.HMM.with_prior(
        K,
        components=vx.NormalWishart.from_standard(**one),
        transitions=prior["conc"],
        initial=prior["conc"],
    )
    states = vx.trajectory(model, xs, init=resp, num_iters=11)
    theirs = np.array(PEER["variational"]["objective"]) - 0.5 * x.size * np.log(2 * np.pi)
    np.testing.assert_allclose(states.elbo[:10], theirs, rtol=1e-10)
    for n, found in PEER["variational"]["after"].items():
        q = at(states, int(n))
        for name, own in chain_of(q).items():
            np.testing.assert_allclose(own.conc, found[name], rtol=1e-9)
        for name in ("mean", "kappa", "df", "scatter"):
            np.testing.assert_allclose(getattr(q.components, name), found[name], rtol=1e-9)


def test_maximum_likelihood_is_hmmlearns(peer):
    """Baum-Welch; and what both read off the same estimate."""
    xs, resp, x = peer
    model, method = vx.HMM.flat(K, x.shape[1]), vx.EM()
    states = vx.trajectory(model, xs, init=resp, method=method, num_iters=11)
    np.testing.assert_allclose(states.elbo[:10], PEER["em"]["objective"], rtol=1e-10)
    for n, found in PEER["em"]["after"].items():
        q = at(states, int(n))
        point = q.point()
        for name, own in chain_of(point).items():
            np.testing.assert_allclose(np.exp(own.log_p), found[name], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(q.components.mean, found["mean"], rtol=1e-9)
        np.testing.assert_allclose(point.components.covariance, found["covariance"], rtol=1e-9)
        np.testing.assert_allclose(
            np.sum(model.log_likelihood(q, xs)), found["log_likelihood"], rtol=1e-10
        )
        np.testing.assert_array_equal(np.concatenate(model.path(q, xs)), found["path"])
        own = np.concatenate(model.responsibilities(q, xs))
        np.testing.assert_allclose(own, found["resp"], rtol=1e-8, atol=1e-12)


# -- drivers --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted():
    """Counts that switch between two rates, sequences of 2 to 6 steps, and their states."""
    rng = np.random.default_rng(5)
    lengths = rng.integers(2, T + 1, size=N)
    states = [(rng.random() < 0.5) ^ (np.cumsum(rng.random(t) < 0.25) % 2 == 1) for t in lengths]
    return [rng.poisson(1 + 7 * s[:, None], (len(s), 1)).astype(float) for s in states], states


@pytest.fixture(scope="module")
def model(planted):
    return vx.HMM.from_data(planted[0], K, emission="poisson")


@pytest.fixture(scope="module")
def resp():
    """Of every step of the padded sequences."""
    return np.random.default_rng(6).dirichlet(np.ones(K), size=(N, T))


@pytest.fixture(scope="module")
def settled(planted, model, resp):
    return vx.fit(model, planted[0], init=resp, stop=TIGHT).check()


def test_bound_and_its_terms(planted, model, settled):
    terms = vx.elbo_terms(model, settled, planted[0])
    assert set(terms) == {"log_z", "kl"}
    np.testing.assert_allclose(sum(terms.values()), settled.elbo, rtol=1e-12)
    np.testing.assert_allclose(vx.elbo(model, settled, planted[0]), settled.elbo, rtol=1e-12)
    np.testing.assert_allclose(
        np.sum(model.row_bound(settled, planted[0])), terms["log_z"], rtol=1e-12
    )


def test_every_start_is_the_same_start(planted, model, resp, settled):
    """Responsibilities, labels, a q and a Result, in the form of the data or padded."""
    xs, states = planted
    stop = vx.Stop(max_iter=3)

    def bound(init):
        return vx.fit(model, xs, init=init, stop=stop).elbo_trace[0]

    lengths = [len(x) for x in xs]
    ragged = [r[:t] for r, t in zip(resp, lengths, strict=True)]
    np.testing.assert_allclose(bound(ragged), bound(resp), rtol=1e-12)
    labels = np.full((N, T), -1)
    for i, own in enumerate(states):
        labels[i, : len(own)] = own
    hot = np.where(labels[..., None] >= 0, np.eye(K)[labels], 0.5)
    np.testing.assert_allclose(bound(labels), bound(hot), rtol=1e-12)
    truth = [np.array(own, int) for own in states]
    np.testing.assert_allclose(bound(truth), bound(labels), rtol=1e-12)
    np.testing.assert_allclose(
        bound(model.predict(settled, xs)), bound(model.predict(settled, vx.Batch.sequences(xs)))
    )
    one = vx.fit(model, xs[0], init=truth[0], stop=stop)
    assert one.elbo == vx.fit(model, xs[:1], init=truth[:1], stop=stop).elbo
    for again in (settled, settled.q):
        np.testing.assert_allclose(bound(again), settled.elbo, rtol=1e-11)
    drawn = vx.fit(model, xs, key=KEY, init="random", stop=TIGHT).check()
    seeds = vx.fit(model, xs, key=KEY, stop=TIGHT, num_restarts=3).check()
    for fit in (drawn, seeds):
        assert abs(fit.elbo - settled.elbo) < 1e-6


METHODS = {
    "accelerated": {"method": vx.Accelerated(vx.CAVI())},
    "memoized": {"method": vx.Memoized(num_blocks=3)},
    "halving": {"halving": vx.Halving(2), "num_restarts": 4},
    "annealed": {"init": vx.Annealed()},
}


@pytest.mark.parametrize("name", METHODS)
def test_other_drivers_end_at_the_same_bound(planted, model, settled, name):
    fit = vx.fit(model, planted[0], key=KEY, stop=TIGHT, **METHODS[name]).check()
    np.testing.assert_allclose(fit.elbo, settled.elbo, rtol=1e-8)
    np.testing.assert_allclose(vx.elbo(model, fit, planted[0]), settled.elbo, rtol=1e-8)


def test_stochastic_inference_comes_near(planted, model, settled):
    method = vx.SVI(batch_size=3)
    fit = vx.fit(model, planted[0], key=KEY, method=method, stop=vx.Stop(tol=0.0, max_iter=150))
    bound = vx.elbo(model, fit, planted[0])
    assert settled.elbo - 0.1 < bound <= settled.elbo + 1e-9


def test_the_posterior_mode(planted, model, resp):
    """Its objective is log p(x, theta) at the point, and never falls."""
    xs = planted[0]
    states = vx.trajectory(model, xs, init=resp, method=vx.EM(), num_iters=30)
    objective = np.asarray(states.elbo)
    assert (np.diff(objective) >= -1e-10 * np.abs(objective[1:])).all()
    q = at(states, -1)
    point = q.point()
    own = np.sum(model.log_likelihood(q, xs)) + model.log_prior(point)
    np.testing.assert_allclose(objective[-1], own, rtol=1e-12)
    fit = vx.fit(model, xs, init=resp, method=vx.EM(), stop=TIGHT).check()
    np.testing.assert_allclose(fit.elbo, objective[-1], rtol=1e-4)


def test_many_data_sets_are_a_loop(planted, model, resp):
    """In lists of sequences of any lengths, and stacked; and what is read of them."""
    xs = planted[0]
    stop = vx.Stop(max_iter=15)
    which = [range(4), range(4, N), (2, 3, 4)]
    sets = [[xs[i] for i in own] for own in which]
    starts = [[resp[i][: len(xs[i])] for i in own] for own in which]
    fits = vx.fit_many(model, sets, init=starts, stop=stop)
    alone = [vx.fit(model, x, init=r, stop=stop) for x, r in zip(sets, starts, strict=True)]
    for i, one in enumerate(alone):
        np.testing.assert_allclose(fits[i].elbo, one.elbo, rtol=1e-9)
        leaves_close(fits[i].q, one.q, 1e-6, 1e-8)
    read = fits.responsibilities(sets)
    for own, one, x in zip(read, alone, sets, strict=True):
        for i, mine in enumerate(model.responsibilities(one, x)):
            np.testing.assert_allclose(own[i, : len(mine)], mine, atol=1e-9)
    cut = np.stack([[x[:2] for x in own[:2]] for own in sets])
    begin = np.stack([[r[:2] for r in own[:2]] for own in starts])
    for data in (cut, [vx.Batch.sequences(x) for x in cut]):
        together = vx.fit_many(model, data, init=begin, stop=stop)
        for i, own in enumerate(cut):
            one = vx.fit(model, own, init=begin[i], stop=stop)
            np.testing.assert_allclose(together[i].elbo, one.elbo, rtol=1e-9)


def test_sequences_over_devices(planted, model, resp):
    batch = vx.Batch.sequences([*planted[0], planted[0][0]], np.r_[np.ones(N), 0.5])
    own = np.concatenate([resp, resp[:1]])
    whole = vx.fit(model, batch, init=own, stop=vx.Stop(max_iter=5))
    mesh = jax.make_mesh((4,), ("rows",), devices=jax.devices("cpu")[:4])
    rows = vx.shard_rows(batch, mesh)
    assert len(rows.steps.sharding.device_set) == 4
    spread = vx.fit(model, rows, init=own, stop=vx.Stop(max_iter=5))
    np.testing.assert_allclose(spread.elbo, whole.elbo, rtol=1e-11)
    leaves_close(spread.q, whole.q, 1e-9)


def test_streams(planted, model, resp):
    """The posterior of one batch is the prior of the next: with one state, exactly."""
    xs = planted[0]
    one = vx.HMM.from_data(xs, 1, emission="poisson")
    stream = vx.Streaming(one)
    total = 0.0
    for part in (xs[:3], xs[3:]):
        stream = stream.update(part, key=KEY)
        total += stream.elbo
    whole = vx.fit(one, xs, key=KEY).check()
    np.testing.assert_allclose(total, whole.elbo, rtol=1e-9)
    after = model.with_posterior_as_prior(vx.fit(model, xs, init=resp).q)
    assert vx.fit(after, xs, init=resp, stop=vx.Stop(max_iter=2)).elbo < 0


def test_files(planted, model, settled, tmp_path):
    vx.save(tmp_path / "fit.npz", (model, settled))
    loaded, fit = vx.load(tmp_path / "fit.npz")
    leaves_close((loaded, fit.q), (model, settled.q), 0.0)
    for a, b in zip(loaded.path(fit, planted[0]), model.path(settled, planted[0]), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.long
def test_the_order_of_states(planted, model, settled):
    """A permutation moves states, ends and beginnings of transitions alike."""
    xs = planted[0]
    by_rate = vx.relabel(settled, lambda q: q.components.each.mean[:, 0])
    turned = vx.relabel(settled, lambda q: -q.components.each.mean[:, 0])
    assert np.diff(by_rate.q.components.each.mean[:, 0]) > 0
    p, r = by_rate.q.labels.transitions.conc, turned.q.labels.transitions.conc
    np.testing.assert_array_equal(p, r[::-1, ::-1])
    for name in ("responsibilities", "filtered"):
        one, two = (getattr(model, name)(fit, xs)[0] for fit in (by_rate, turned))
        np.testing.assert_allclose(one, two[:, ::-1], rtol=1e-12)
    np.testing.assert_allclose(
        model.log_likelihood(by_rate, xs), model.log_likelihood(turned, xs), rtol=1e-12
    )
    leaves_close(vx.align(turned, by_rate).q, by_rate.q, 0.0)
    wide = vx.HMM.from_data(xs, K, emission="poisson", k_max=3)
    fit = vx.fit(wide, xs, key=KEY, num_restarts=2).check()
    pruned = vx.prune(fit)
    assert pruned.q.labels.size == K
    for name in ("responsibilities", "path", "filtered"):
        kept, whole = (getattr(wide, name)(f, xs)[0] for f in (pruned, fit))
        np.testing.assert_allclose(kept, whole[..., :K] if whole.ndim > 1 else whole, atol=1e-9)
    assert wide.forecast(pruned, xs, 2).states.shape == (N, 2, K)
    assert "2 of 2 states" in pruned.summary()


def test_errors_name_the_argument(planted, model, unchecked):
    xs = planted[0]
    with pytest.raises(ValueError, match=re.escape("x: rows, but")):
        vx.fit(model, vx.Batch.of(xs[0]), key=KEY)
    with pytest.raises(ValueError, match=re.escape("x: rows, but")):
        model.responsibilities(model.prior, vx.Batch.of(xs[0]))
    with pytest.raises(ValueError, match="2 columns|shape"):
        vx.fit(model, [np.ones((3, 2))], key=KEY)
    with pytest.raises(
        ValueError, match=r"label: 2 in sequence 0, step 1, but the (states|components) are 0, 1"
    ):
        vx.fit(
            model, vx.Batch.sequences([xs[0]], label=[[0, 2, *[-1] * (len(xs[0]) - 2)]]), key=KEY
        )
    flat = vx.HMM.flat(K, 1, emission="poisson")
    with pytest.raises(ValueError, match="method: a flat prior"):
        vx.fit(flat, xs, key=KEY)
    with pytest.raises(ValueError, match="flat prior"):
        flat.with_posterior_as_prior(flat.prior)
    with pytest.raises(ValueError, match="weight: expected one per sequence"):
        vx.Batch.sequences(xs, np.ones(3))
    with pytest.raises(ValueError, match="moves: HMM has no components to move"):
        vx.fit(model, xs, key=KEY, moves=vx.Moves())
    with pytest.raises(ValueError, match="emission: expected one of"):
        vx.HMM.from_data(xs, 2, emission="normal")
    with pytest.raises(ValueError, match="transitions: "):
        vx.HMM.with_prior(2, components=model.components, transitions=np.ones((3, 3)))
    with pytest.raises(ValueError, match="transitions: "):
        vx.HMM.with_prior(2, components=model.components, transitions=[[1.0, 1.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="conc: "):
        vx.HMM.from_data(xs, 2, emission="poisson", conc=-1.0)
    with pytest.raises(ValueError, match="components: 2 of them, but labels for 3"):
        vx.fit(vx.HMM.with_prior(3, components=model.components), xs, key=KEY)
    with pytest.raises(TypeError, match="labels: expected a prior such as Chain"):
        vx.fit(vx.HMM(np.ones(2), model.components), xs, key=KEY)
    with pytest.raises(TypeError, match="log_predictive: HMM has no closed form"):
        model.log_predictive(model.prior, xs)
    with pytest.raises(ValueError, match="init: "):
        vx.fit(model, xs, init=np.zeros(N, int))
    with pytest.raises(ValueError, match="init: "):
        vx.fit(model, xs, init=[np.zeros(9, int)] * N)
    with pytest.raises(ValueError, match="horizon"):
        model.forecast(model.prior, xs, 0)


def test_starts_side_by_side_are_those_one_by_one(rng):
    """Lanes that do not divide the number of fits: the last ones are made twice, and are one."""
    xs = rng.normal(size=(20, 1, 12, 1)) + 4.0 * rng.integers(2, size=(20, 1, 12, 1))
    model = vx.HMM.from_data(xs.reshape(20, 12, 1), 2)
    key, stop = jax.random.key(0), vx.Stop(max_iter=3)
    lanes, one = (
        vx.fit_many(model, xs, key=key, stop=stop, layout=layout) for layout in (17, "map")
    )
    for a, b in zip(jax.tree.leaves(lanes.q), jax.tree.leaves(one.q), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(lanes.elbo, one.elbo, rtol=1e-10)
