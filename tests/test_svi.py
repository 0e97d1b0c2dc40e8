"""Stochastic variational inference: what its minibatches are, and where it meets CAVI."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import vijax as vx
from vijax.infer.methods.svi import Epoch
from vijax.infer.run.random_order import random_rows

from .data import clusters
from .programs import programs
from .table import leaves_close

K, N = 3, 40
METHOD = vx.SVI(batch_size=8)


def passes(number):
    return vx.Stop(tol=0.0, max_iter=number)


@pytest.fixture
def batch(rng):
    x = rng.poisson(np.array([[1.0, 4.0], [6.0, 2.0], [9.0, 9.0]])[rng.integers(K, size=N)])
    return vx.Batch.of(x.astype(float), rng.gamma(3.0, size=N))


def sticks(batch, ordered):
    weights = vx.StickBreaking.dirichlet_process(1.0, K, ordered=ordered)
    return vx.PoissonMixture.from_data(batch, K, weights=weights)


@pytest.fixture
def model(batch):
    return sticks(batch, ordered=False)


@pytest.fixture
def start(model, batch):
    """A q from arbitrary labels, and once more about its own means."""
    return begin(model, batch)


@jax.jit
def begin(model, batch):
    resp = jax.nn.one_hot(jnp.arange(N) % K, K)
    q = model.combine(model.prior, model.assign(model.prior, batch, resp))
    return model.combine(q, model.assign(q, batch, resp))


@jax.jit
def order_of(key, n):
    return random_rows(key, jnp.minimum(jnp.arange(64, dtype=jnp.int32), n - 1), n)


@pytest.mark.parametrize("n", [1, 2, 3, 12, 17, 64])
def test_an_order_has_every_row_once(n, key):
    for i in range(5):
        rows = np.asarray(order_of(jax.random.fold_in(key, i), jnp.asarray(n, jnp.int32)))[:n]
        assert sorted(rows) == list(range(n))


def test_all_orders_are_as_likely(key):
    n = jnp.asarray(4, jnp.int32)
    draw = jax.jit(jax.vmap(lambda k: random_rows(k, jnp.arange(4, dtype=jnp.int32), n)))
    orders = np.asarray(draw(jax.random.split(key, 12_000))) @ 4 ** np.arange(4)
    found, count = np.unique(orders, return_counts=True)
    assert len(found) == 24
    assert stats.chisquare(count).pvalue > 1e-3


@jax.jit
def one_minibatch(model, q, batch, epoch, i):
    part, share = epoch.minibatch(batch, i)
    return part, share, (1.0 / share) * model.local(q.moments(), part).stats


def test_scaled_statistics_are_unbiased(model, start, batch, key):
    """Over a pass their mean, each by its share of the rows, is exactly that of all rows."""
    whole = model.local(start.moments(), batch).stats
    epoch = Epoch.draw(key, batch, 7)  # in 6 minibatches of 7 or 6 rows
    assert epoch.num_batches == 6
    found = [one_minibatch(model, start, batch, epoch, i) for i in range(6)]
    rows = [int((part.weight > 0).sum()) for part, _, _ in found]
    assert sum(rows) == N
    assert set(rows) == {6, 7}
    np.testing.assert_allclose([share * N for _, share, _ in found], rows, rtol=1e-12)
    total = sum((s * share for _, share, s in found[1:]), found[0][2] * found[0][1])
    leaves_close(total.about(whole), whole, rtol=1e-10, atol=1e-10)


def test_all_rows_at_rate_one_are_cavi(model, start, batch, key):
    method = vx.SVI(batch_size=N + 5, rate=1.0)
    own = vx.trajectory(model, batch, init=start, num_iters=6, method=method, key=key)
    cavi = vx.trajectory(model, batch, init=start, num_iters=6)
    np.testing.assert_allclose(own.elbo, cavi.elbo, rtol=1e-12)
    np.testing.assert_allclose(own.improvement, cavi.improvement, rtol=1e-6, atol=1e-9)
    leaves_close(own.next_q, cavi.next_q, rtol=1e-8, atol=1e-9)


def test_absent_rows_change_nothing(rng, model, start, batch, key):
    place = np.sort(rng.permutation(N + 9)[:N])
    x, weight = rng.poisson(1e3, size=(N + 9, 2)).astype(float), np.zeros(N + 9)
    x[place], weight[place] = batch.x, batch.weight
    plain = vx.fit(model, batch, init=start, method=METHOD, key=key, stop=passes(3))
    longer = vx.fit(
        model, vx.Batch.of(x, weight), init=start, method=METHOD, key=key, stop=passes(3)
    )
    np.testing.assert_allclose(longer.elbo_trace[:3], plain.elbo_trace[:3], rtol=1e-11)
    leaves_close(longer.q, plain.q, rtol=1e-9, atol=1e-10)


def test_the_result_has_the_exact_bound(model, start, batch, key):
    fit = vx.fit(model, batch, init=start, method=METHOD, key=key, num_restarts=3, stop=passes(3))
    assert fit.status == vx.Status.MAX_ITER
    np.testing.assert_allclose(fit.elbo, vx.elbo(model, fit, batch), rtol=1e-12)
    assert fit.elbo == fit.elbos.max()
    assert len(np.unique(fit.elbos)) == 3  # the rows came in other orders


def test_numbers_of_a_rate_compile_nothing_anew(model, start, batch, key):
    def fit(rate):
        method = vx.SVI(batch_size=8, rate=rate)
        return vx.fit(model, batch, init=start, method=method, key=key, stop=passes(2))

    fit(vx.RobbinsMonro())
    fit(0.5)
    with programs("_fit") as seen:
        a, b = fit(vx.RobbinsMonro(delay=4.0, forgetting=0.9)), fit(0.3)
    assert not seen
    assert a.elbo != b.elbo
    by_optax = fit(optax.constant_schedule(0.3))
    np.testing.assert_allclose(by_optax.elbo, b.elbo, rtol=1e-6)


def test_rates_are_robbins_and_monros():
    rate = vx.RobbinsMonro(delay=2.0, forgetting=0.6)
    np.testing.assert_allclose(
        [rate(jnp.asarray(t)) for t in (0, 1, 9)], [2**-0.6, 3**-0.6, 11**-0.6], rtol=1e-6
    )
    assert vx.RobbinsMonro(delay=0.5)(jnp.asarray(0)) == 1.0


def test_vmap_over_keys_is_one_by_one(model, start, batch, key):
    def fit(key):
        return vx.fit(model, batch, init=start, method=METHOD, key=key, stop=passes(2)).elbo

    keys = jax.random.split(key, 3)
    np.testing.assert_allclose(jax.vmap(fit)(keys), [fit(k) for k in keys], rtol=1e-10)


def test_components_keep_their_places(model, start, batch, key):
    """CAVI puts them in order under such a prior; the mean of two orders would be of neither."""
    ordered = sticks(batch, ordered=True)
    same = dataclasses.replace(start, weights=dataclasses.replace(start.weights, ordered=True))
    own = vx.fit(ordered, batch, init=same, method=METHOD, key=key, stop=passes(2))
    other = vx.fit(model, batch, init=start, method=METHOD, key=key, stop=passes(2))
    np.testing.assert_array_equal(own.elbo_trace, other.elbo_trace)
    leaves_close(own.q, other.q, rtol=0.0)


@pytest.mark.float32(hasty=True)
def test_two_passes_are_near_the_batch_bound(rng, key):
    x, _ = clusters(rng, n=20_000, d=2, k=4, separation=6.0)
    x = (x + 100.0).astype(np.float32)
    model = vx.GaussianMixture.from_data(x, 4, covariance="diag")
    start = model.init(key, vx.Batch.of(x))
    method = vx.SVI(batch_size=256)
    fit = vx.fit(model, x, init=start, method=method, key=key, stop=passes(2))
    whole = vx.fit(model, x, init=start)
    assert fit.elbo.dtype == np.float32
    assert fit.elbo > whole.elbo - 1e-3 * abs(whole.elbo)


def test_many_fits_are_a_loop_of_fits(batch, model, key):
    sets = np.stack([batch.x, batch.x[::-1] + 1.0, batch.x[:, ::-1]])
    labels = np.tile(np.arange(N) % K, (3, 1))
    given = {"method": METHOD, "stop": passes(5)}
    many = vx.fit_many(model, sets, init=labels, key=key, **given)
    for i, x in enumerate(sets):
        own = jax.random.fold_in(key, i)
        alone = vx.fit(model, x, init=labels[i], key=own, **given)
        np.testing.assert_allclose(many.elbo[i], alone.elbo, rtol=1e-10)
        np.testing.assert_allclose(vx.elbo(model, alone, x), alone.elbo, rtol=1e-10)
    assert np.ptp(many.elbo) > 1e-3
    with pytest.raises(ValueError, match="key: this method's rows are drawn"):
        vx.fit_many(model, sets, init=labels, **given)


def test_a_nan_model_is_a_status(model, start, batch, key):
    broken = jax.tree.map(lambda a: a * np.nan if a.dtype == float else a, model)
    fit = vx.fit(broken, batch, init=start, method=METHOD, key=key)
    assert fit.status == vx.Status.NON_FINITE
    assert np.isnan(fit.elbo)


def test_bad_settings_are_named(model, start, batch, key):
    def fit(key=key, **settings):
        return vx.fit(model, batch, init=start, method=vx.SVI(**settings), key=key)

    with pytest.raises(ValueError, match="key: this method's rows are drawn"):
        fit(key=None)
    with pytest.raises(TypeError, match="batch_size"):
        fit(batch_size=0.5)
    with pytest.raises(ValueError, match="batch_size: must be finite and >= 1"):
        fit(batch_size=0)
    with pytest.raises(ValueError, match="rate: must be finite and > 0 and <= 1, got 2"):
        fit(rate=2.0)
    with pytest.raises(ValueError, match="rate: delay: must be finite and > 0"):
        fit(rate=vx.RobbinsMonro(delay=0.0))
