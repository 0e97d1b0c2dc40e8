"""Sums over paths of hidden Markov chains, against all paths one by one and against laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vijax.numerics.chain_log_space import log_space
from vijax.numerics.chain_paths import most_probable_path, sample_paths, simulate
from vijax.numerics.forward_backward import filtered, forward_backward

from .oracles import chains as oracle

X64 = bool(jax.config.jax_enable_x64)
DTYPE = np.float64 if X64 else np.float32
N, T, K, DRAWS = 7, 7, 3, 2000
LENGTHS = np.array([7, 7, 5, 1, 0, 7, 6])


def chain(rng, k=K, mass=0.9):
    """Logs of probabilities that sum to `mass`."""
    p = mass * rng.dirichlet(np.ones(k), k + 1)
    return np.log(p[0]), np.log(p[1:])


def existing(lengths, t):
    return np.arange(t) < np.asarray(lengths)[:, None]


def arrays(*values):
    return [jnp.asarray(v, DTYPE if np.asarray(v).dtype.kind == "f" else None) for v in values]


@jax.jit
def everything(key, log_initial, log_transition, log_lik, exists, weight):
    """All that is computed of chains, in one program."""
    at = log_initial, log_transition, log_lik, exists
    smoothed = forward_backward(*at, weight)
    return smoothed, filtered(*at), most_probable_path(*at), sample_paths(key, *at, DRAWS)


def compare(key, log_initial, log_transition, log_lik, lengths, weight):
    """Everything against all paths; what does not exist is 0 or -1."""
    exists = existing(lengths, log_lik.shape[1])
    given = arrays(log_initial, log_transition, log_lik, exists, weight)
    smoothed, (now, log_z), best, draws = jax.device_get(everything(key, *given))
    given = jax.device_get(given)
    tol = 1e-12 if X64 else 2e-5
    pairs = 0.0
    for n, length in enumerate(lengths):
        assert (smoothed.resp[n, length:] == 0).all()
        assert (now[n, length:] == 0).all()
        assert (best[n, length:] == -1).all()
        assert (draws[:, n, length:] == -1).all()
        if not length:
            assert smoothed.log_z[n] == log_z[n] == 0
            continue
        start, move, lik = (a.astype(float) for a in (*given[:2], given[2][n, :length]))
        steps = [oracle.by_paths(start, move, lik[:i]) for i in range(1, length + 1)]
        resp, pair, exact, path = steps[-1]
        np.testing.assert_allclose(log_z[n], exact, rtol=tol, atol=tol)
        filtering = [step[0][-1] for step in steps]
        np.testing.assert_allclose(now[n, :length], filtering, rtol=tol, atol=tol)
        if weight[n] == 0:
            assert smoothed.log_z[n] == 0
            assert (smoothed.resp[n] == 0).all()
        else:
            np.testing.assert_allclose(smoothed.log_z[n], exact, rtol=tol, atol=tol)
            np.testing.assert_allclose(smoothed.resp[n, :length], resp, rtol=tol, atol=tol)
            pairs = pairs + weight[n] * pair
        if exact == -np.inf:
            assert (best[n] == -1).all()
            assert (draws[:, n] == -1).all()
            continue
        assert (best[n, :length] == path).all()
        share = np.mean(draws[:, n, :length, None] == np.arange(K), 0)
        assert (
            np.abs(share - resp) < 5 * np.sqrt(np.maximum(resp * (1 - resp), 0) / DRAWS) + 1e-6
        ).all()
        z = np.eye(K)[draws[:, n, :length]]
        counts = np.einsum("sti,stj->ij", z[:, :-1], z[:, 1:]) / DRAWS
        assert (np.abs(counts - pair) < 5 * length * np.sqrt(0.25 / DRAWS)).all()
    np.testing.assert_allclose(smoothed.pairs, pairs, rtol=tol, atol=tol)
    assert np.isfinite(smoothed.resp).all()


@pytest.mark.float32(hasty=True)
def test_sums_over_all_paths(rng, key):
    """Ragged sequences, a missing step, labels, a state that is off, weights, absent ones."""
    log_initial, log_transition = chain(rng)
    log_lik = 2.0 * rng.normal(size=(N, T, K)) - 50.0
    weight = np.array([1.0, 0.3, 2.0, 1.0, 1.0, 0.0, 1.0])
    log_lik[0, 3] = 0.0  # a missing step
    log_lik[1, 2, 1:] = log_lik[1, 5, :2] = -np.inf  # labels
    compare(key, log_initial, log_transition, log_lik, LENGTHS, weight)
    off = log_transition.copy()
    off[:, 1] = off[1] = off[0, 2] = -np.inf
    start = np.where(np.arange(K) == 1, -np.inf, log_initial)
    log_lik[:, :, 1] += 2000.0  # a state that is off may explain the data best
    log_lik[1] = log_lik[0]
    log_lik[6, 4, ::2] = -np.inf  # and a sequence may be impossible without it
    compare(key, start, off, log_lik, LENGTHS, weight)


@pytest.mark.float32(hasty=True)
def test_what_underflows_is_summed_with_logs(rng, key):
    """Evidence may demand a transition of expected log -1000; other sequences are as they were."""
    log_initial, log_transition = chain(rng)
    log_transition[0, 1] = log_transition[2, 1] = log_transition[1, 0] = -1000.0
    log_transition[1, 2] = -1000.0
    log_lik = rng.normal(size=(N, T, K))
    log_lik[0, :3, 0] += 3000.0
    log_lik[0, 3:5, 1] += 3000.0
    log_lik[0, 5:, 2] += 3000.0
    compare(key, log_initial, log_transition, log_lik, LENGTHS, np.ones(N))


BLOCKS = 1, 7, 64


@jax.jit
def by_blocks(log_initial, log_transition, log_lik, exists, weight):
    given = log_initial, log_transition, log_lik, exists, weight
    return [forward_backward(*given, block) for block in BLOCKS], log_space(*given)


def check_sums(got, expected, weight, tol):
    """Against (resp, pairs, log_z) of every sequence."""
    pairs = sum(w * pair for w, (_, pair, _) in zip(weight, expected, strict=True))
    np.testing.assert_allclose(got[1], pairs, rtol=tol, atol=tol)
    for n, (resp, _, log_z) in enumerate(expected):
        np.testing.assert_allclose(got[0][n, : len(resp)], resp, rtol=tol, atol=tol)
        assert (got[0][n, len(resp) :] == 0).all()
        np.testing.assert_allclose(got[2][n], log_z, rtol=tol, atol=tol)


@pytest.mark.parametrize("kind", ["forgets", "remembers", "one way", "late", 61, 422])
def test_blocks_are_the_plain_scan_and_log_space(rng, kind):
    """Whether or not a block's start can be guessed; also backwards, by the transposed chain."""
    t, lengths, weight = BLOCKS[-1], [64, 50, 7, 8, 1], np.array([1.0, 0.5, 2.0, 1.0, 1.0])
    log_initial, log_transition = chain(rng)
    scale = 3.0
    if kind == "remembers":  # states that differ in little and are hardly ever left
        log_transition, scale = np.log(np.full((K, K), 1e-6) + 0.9 * np.eye(K)), 0.1
    if kind == "one way":
        with np.errstate(divide="ignore"):
            log_transition = np.log(np.triu(np.exp(log_transition)))
    log_lik = scale * rng.normal(size=(len(lengths), t, K)) - 20.0
    if kind == "forgets":  # labels, after which what came before is known
        log_lik[:, 1::3] = np.where(np.arange(K) == 1, log_lik[:, 1::3], -np.inf)
    if isinstance(kind, int):  # nearly all that a number can hold; few other seeds are as hard
        rng = np.random.default_rng(kind)
        log_transition = -700.0 * rng.random((K, K))
        log_transition[rng.random((K, K)) < 0.3] = -np.inf
        log_transition[np.arange(K), np.arange(K)] = -1.0
        log_initial = -200.0 * rng.random(K)
        log_lik = 60.0 * rng.normal(size=log_lik.shape)
        log_lik += np.repeat(60.0 * rng.normal(size=(len(lengths), t // 8, K)), 8, 1)
    if kind == "late":  # the last step decides where all of the others were
        log_transition, log_lik[0, -1] = np.log(np.full((K, K), 1e-12) + np.eye(K)), [0, 40, 0]
    given = log_initial, log_transition, log_lik, existing(lengths, t), weight
    expected = [
        oracle.in_logs(log_initial, log_transition, log_lik[n, :length])
        for n, length in enumerate(lengths)
    ]
    outs, logs = by_blocks(*arrays(*given))
    for out in (*outs, logs):
        check_sums(out, expected, weight, 1e-11)
        np.testing.assert_allclose(out[2], logs[2], rtol=1e-12)
    back = log_lik[:, ::-1].copy()
    for n, length in enumerate(lengths):
        back[n, :length] = log_lik[n, :length][::-1]
        back[n, length - 1] += log_initial
    given = np.zeros(K), log_transition.T, back, existing(lengths, t), weight
    for out in by_blocks(*arrays(*given))[0]:
        np.testing.assert_allclose(out.log_z, logs[2], rtol=1e-12)
        np.testing.assert_allclose(out.pairs, logs[1].T, rtol=1e-11, atol=1e-11)


def test_steps_that_do_not_exist_change_no_bit(rng):
    """Of a plain scan all is the same; in blocks a product of more columns may round otherwise."""
    log_initial, log_transition = chain(rng)
    lengths, weight = [12, 9, 3], np.ones(3)
    log_lik = rng.normal(size=(3, 20, K))
    log_lik[~existing(lengths, 20)] = np.nan
    whole = jax.jit(lambda *a: [forward_backward(*a, block) for block in (20, 4)])
    for t in (12, 20):
        given = log_initial, log_transition, log_lik[:, :t], existing(lengths, t), weight
        plain, blocks = whole(*arrays(*given))
        if t == 12:
            first, first_blocks = plain, blocks
    assert (plain.resp[:, :12] == first.resp).all()
    assert (plain.resp[:, 12:] == 0).all()
    assert (plain.log_z == first.log_z).all()
    assert (plain.pairs == first.pairs).all()
    for a, b in zip(blocks, first_blocks, strict=True):
        a = a[:, :12] if a.ndim == 3 else a
        np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-14)


def test_derivatives(rng):
    """Of log_z they are resp and pairs; those of the sums are those of differences."""
    log_initial, log_transition = chain(rng)
    log_transition[0, 2] = -np.inf
    log_lik = rng.normal(size=(4, 6, K))
    log_lik[0, 2, 1] = -np.inf
    log_lik[2, 3] = -np.inf  # no path
    weight, slope = np.array([1.0, 0.5, 1.0, 0.0]), rng.normal(size=(4, 6, K))
    exists, weight = arrays(existing([6, 4, 6, 6], 6), weight)

    def bound(*given):
        log_z = forward_backward(*given, exists, weight, 3).log_z
        return jnp.sum(weight * jnp.where(log_z > -jnp.inf, log_z, 0.0))

    def other(*given):
        resp, pairs, _ = forward_backward(*given, exists, weight)
        return jnp.sum(resp * slope) + jnp.sum(jnp.sin(pairs))

    @jax.jit
    def slopes(*given):
        both = [jax.grad(fn, (0, 1, 2))(*given) for fn in (bound, other)]
        return *both, forward_backward(*given, exists, weight), other(*given)

    given = arrays(log_initial, log_transition, log_lik)
    of_bound, of_other, sums, _ = slopes(*given)
    resp = weight[:, None, None] * sums.resp
    for a, b in zip(of_bound, (resp[:, 0].sum(0), sums.pairs, resp), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    move = [jnp.asarray(rng.normal(size=a.shape)) for a in given]
    up, down = (
        slopes(*[a + s * 1e-5 * m for a, m in zip(given, move, strict=True)])[-1] for s in (1, -1)
    )
    along = sum(jnp.sum(jnp.where(a != 0, a * m, 0.0)) for a, m in zip(of_other, move, strict=True))
    assert all(np.isfinite(a).all() for a in of_other)
    np.testing.assert_allclose(along, (up - down) / 2e-5, rtol=1e-7, atol=1e-8)


def test_lanes_are_as_if_alone(rng):
    """Under vmap too, where one of them underflows; and so are derivatives."""
    chains = [chain(rng) for _ in range(3)]
    log_initial, log_transition = (np.stack(a) for a in zip(*chains, strict=True))
    log_transition[1, 0, 1:] = -2000.0
    log_lik = 3.0 * rng.normal(size=(2, 24, K))
    log_lik[0, 5, 0] += 3000.0
    log_lik[0, 6, 1] += 3000.0
    log_lik, exists, weight = arrays(log_lik, existing([24, 15], 24), np.array([1.0, 2.0]))

    def sums(*parameters):
        def bound(log_lik):
            out = forward_backward(*parameters, log_lik, exists, weight, 6)
            return jnp.sum(out.log_z), out

        return jax.value_and_grad(bound, has_aux=True)(log_lik)

    parameters = arrays(log_initial, log_transition)
    together, alone = jax.jit(jax.vmap(sums))(*parameters), jax.jit(sums)
    for i in range(3):
        one = alone(*(p[i] for p in parameters))
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("n", "block"), [(2, 4), (1, None)])
def test_lanes_of_lanes_with_data_of_their_own(rng, n, block):
    """Two vmaps, over data sets of other lengths and over chains."""
    chains = [chain(rng) for _ in range(2)]
    log_initial, log_transition = (jnp.asarray(np.stack(a)) for a in zip(*chains, strict=True))
    log_lik = jnp.asarray(rng.normal(size=(3, 2, 12, K)))
    exists = jnp.asarray(np.stack([existing(n, 12) for n in ([12, 3], [0, 7], [12, 12])]))
    weight = jnp.asarray([[1.0, 2.0], [1.0, 1.0], [0.0, 0.5]])
    log_lik, exists, weight = (a[:, :n] for a in (log_lik, exists, weight))

    def of_data(lik, on, by):
        return jax.vmap(lambda *own: forward_backward(*own, lik, on, by, block))(
            log_initial, log_transition
        )

    together = jax.jit(jax.vmap(of_data))(log_lik, exists, weight)
    for i in range(3):
        for j in range(2):
            own = log_initial[j], log_transition[j], log_lik[i], exists[i], weight[i]
            alone = forward_backward(*own, block)
            for a, b in zip(together, alone, strict=True):
                np.testing.assert_allclose(a[i, j], b, rtol=1e-10, atol=1e-10)


@pytest.mark.float32
@pytest.mark.parametrize("block", [None, 20_000])
def test_long_chains_in_float32(rng, block):
    """States 1000 sd apart that are left once in a million steps, and log-densities far from 0."""
    t, stay = 20_000, 1.0 - 1e-6
    log_initial = np.log([0.5, 0.5]).astype(np.float32)
    log_transition = np.log([[stay, 1.0 - stay], [1.0 - stay, stay]]).astype(np.float32)
    z = (np.arange(t) // 7000) % 2
    x = 1000.0 * z + rng.normal(size=t)
    run = jax.jit(lambda *a: forward_backward(*a, block))
    for offset in (0.0, -300.0):
        log_lik = -0.5 * (x[:, None] - [0.0, 1000.0]) ** 2 + offset
        log_lik = log_lik.astype(np.float32)
        one, on = np.ones(1, np.float32), np.ones((1, t), bool)
        out = run(log_initial, log_transition, log_lik[None], on, one)
        wide = (a.astype(float) for a in (log_initial, log_transition, log_lik))
        exact = oracle.log_z_of_scales(*wide)
        assert abs(float(out.log_z[0]) - exact) < 1e-7 * abs(exact) + 1e-3
        np.testing.assert_allclose(out.resp[0], np.eye(2)[z], atol=1e-6)
        assert float(out.pairs.sum()) == pytest.approx(t - 1, abs=2e-3)


def test_simulated_paths_follow_the_chain(rng, key):
    log_initial, log_transition = chain(rng, mass=1.0)
    log_transition[1, 0] = -np.inf
    z = np.asarray(simulate(key, *arrays(log_initial, log_transition), 2000, 6))
    assert z.shape == (2000, 6)
    p = np.exp(log_initial)
    share = np.mean(z[:, :1] == np.arange(K), 0)
    assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / len(z))).all()
    counts = np.einsum("nti,ntj->ij", np.eye(K)[z[:, :-1]], np.eye(K)[z[:, 1:]])
    p = np.exp(log_transition) / np.exp(log_transition).sum(1, keepdims=True)
    total = counts.sum(1, keepdims=True)
    assert (np.abs(counts / total - p) <= 5 * np.sqrt(p * (1 - p) / total)).all()
