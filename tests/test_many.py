"""`fit_many` is a loop of fits: every layout, ragged data, bad data, several devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax import Status
from vijax.infer.run.devices import deal
from vijax.infer.run.restarts import choose_layout
from vijax.infer.run.stacks import Header, stack_by_size
from vijax.infer.stacked_models import stacked_models

from .data import clusters
from .programs import programs
from .table import leaves_close

KEY = jax.random.key(3)
STOP = vx.Stop(trace=5)  # shorter than the fits
M, N = 7, 40


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    return np.stack([clusters(rng, n=N, k=4, separation=2.0)[0] for _ in range(M)])


@pytest.fixture(scope="module")
def model(rows):
    return vx.GaussianMixture.from_data(rows.reshape(-1, 2), 3)


def many(models, data, **options):
    """Without the models, which a loop does not keep."""
    fits = vx.fit_many(models, data, **{"key": KEY, "stop": STOP, "num_restarts": 2, **options})
    return dataclasses.replace(fits, models=None)


def stacked(results):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)


def loop(models, data, **options):
    """The law: one fit after another."""
    given = {"stop": STOP, "num_restarts": 2, **options}
    fits = []
    for i, x in enumerate(data):
        one = models[i] if isinstance(models, list) else models
        fits.append(vx.fit(one, x, key=jax.random.fold_in(KEY, i), **given))
    return fits


@pytest.fixture(scope="module")
def looped(rows, model):
    return stacked(loop(model, rows))


@pytest.mark.parametrize(("layout", "devices"), [("auto", None), ("map", 1), ("vmap", 1), (3, 1)])
def test_every_layout_is_a_loop_of_fits(rows, model, looped, layout, devices):
    here = None if devices is None else jax.local_devices()[:devices]
    fits = many(model, rows, layout=layout, devices=here)
    leaves_close(fits, looped, rtol=1e-9, atol=1e-9)  # n_iter and status are integers
    assert fits.elbos.shape == (M, 2)
    assert int(fits.n_iter.max()) > STOP.trace


@pytest.mark.float32(hasty=True)
def test_lanes_in_float32(rows, model):
    fits = many(model, rows, layout=3, devices=jax.local_devices()[:1])
    for i, one in enumerate(loop(model, rows[:2])):
        assert fits.status[i] == one.status == Status.CONVERGED
        np.testing.assert_allclose(fits.elbo[i], one.elbo, rtol=1e-5)


def test_ragged_data_sets_are_fitted_as_if_alone(rows, model):
    sizes = [30, 40, 30, 40, 40, 30, 30]
    ragged = [x[:n] for x, n in zip(rows, sizes, strict=True)]
    alone = loop(model, ragged)
    with programs("_fit_many") as made:
        fits = many(model, ragged, devices=jax.local_devices()[:1])
        assert len(made) == 4  # a trace and a lowering for each of two sizes
    leaves_close(fits, stacked(alone), rtol=1e-8, atol=1e-8)
    # Batches, and what their absent rows hold, are the same
    weight = np.ones((M, N))
    weight[np.arange(N) >= np.array(sizes)[:, None]] = 0.0
    junk = np.where(weight[:, :, None] > 0, rows, np.nan)
    batches = [vx.Batch.of(x, w) for x, w in zip(junk, weight, strict=True)]
    batch = vx.Batch(jnp.asarray(junk), jnp.asarray(weight))
    for form in (batches, batch):
        again = many(model, form, layout=3, devices=jax.local_devices()[:1])
        np.testing.assert_allclose(again.elbo, fits.elbo, rtol=1e-9)


def test_a_bad_data_set_touches_no_other(rows, model, looped):
    bad = rows.copy()
    bad[3, 5, 0] = np.nan
    bad[4] = np.inf
    fits = many(model, bad, layout=3, devices=jax.local_devices()[:1])
    assert [Status(s).name for s in fits.status[3:5]] == ["NON_FINITE"] * 2
    good = np.array([0, 1, 2, 5, 6])
    here, there = (jax.tree.map(lambda a: a[good], f) for f in (fits, looped))
    leaves_close(here, there, rtol=1e-9, atol=1e-9)
    with pytest.raises(vx.FitError, match=r"2 of 7 fits, lanes \(3\), \(4\)"):
        fits.check()


def test_a_model_for_each(rows):
    models = [vx.GaussianMixture.from_data(x, 3) for x in rows]
    each = stacked(loop(models, rows))
    one = jax.local_devices()[:1]
    by_list = many(models, rows, layout="map", devices=one)
    leaves_close(by_list, each, rtol=1e-9, atol=1e-9)
    pile = jax.tree.map(lambda *a: jnp.stack(a), *models)
    leaves_close(many(pile, rows, layout="map", devices=one), by_list, rtol=0.0)
    made = many(lambda x: vx.GaussianMixture.from_data(x, 3), rows, layout="map", devices=one)
    leaves_close(made, by_list, rtol=1e-9, atol=1e-9)


def test_as_many_models_as_components_are_told_apart(rows, model):
    """Three data sets and three components: the leading axis alone does not say."""
    stacks, m = stack_by_size(rows[:3])
    pile = jax.tree.map(lambda a: jnp.stack([a] * 3), model)
    assert stacked_models(model, stacks, m, np.float64, Header())[1]
    assert not stacked_models(pile, stacks, m, np.float64, Header())[1]


def test_other_numbers_of_data_sets_compile_nothing(rows, model):
    one = {"layout": 3, "devices": jax.local_devices()[:1]}
    fits = many(model, rows, **one)
    with programs("_fit_many") as made:
        for m in (5, 6):
            fewer = many(model, rows[:m], **one)
            leaves_close(fewer, jax.tree.map(lambda a, m=m: a[:m], fits), rtol=0.0)
        many(model, rows + 1.0, **{**one, "key": jax.random.key(9)})
        many(model, rows, **one, stop=vx.Stop(tol=1e-2, trace=5))
    assert not made


def test_halving_returns_a_fit_that_is_run_to_its_end(rows, model, looped):
    fits = many(model, rows, halving=vx.Halving(2), layout="map", devices=jax.local_devices()[:1])
    assert fits.converged.all()
    assert (np.asarray(fits.statuses) == Status.DROPPED).sum() >= M - 2
    winner = np.argmax(np.where(fits.statuses == Status.CONVERGED, fits.elbos, -np.inf), 1)
    every = np.arange(M)
    # of the restart that it is, it is all that a full run would have been
    np.testing.assert_allclose(fits.elbo, np.asarray(looped.elbos)[every, winner], rtol=1e-9)
    np.testing.assert_array_equal(fits.n_iter, looped.runs.n_iter[every, winner])
    assert fits.runs is not None
    assert looped.runs is not None
    traces = [np.asarray(f.runs.elbo_trace)[every, winner] for f in (fits, looped)]
    np.testing.assert_allclose(*traces, rtol=1e-9)
    options = {"num_restarts": 2, "stop": STOP, "halving": vx.Halving(2)}
    own_key = jax.random.fold_in(KEY, 0)
    # without padding, whose rounding may decide between equal restarts
    alone = jax.jit(lambda x: vx.fit(model, x, key=own_key, **options))(rows[0])
    leaves_close(alone, jax.tree.map(lambda a: a[0], fits), rtol=1e-9, atol=1e-9)


def test_under_jit(rows, model, looped):
    fits = jax.jit(lambda x, key: many(model, x, key=key, layout="vmap"))(rows, KEY)
    leaves_close(fits, looped, rtol=1e-9, atol=1e-9)


def test_starts_for_each(rows, model):
    labels = np.tile(np.arange(N) % 3, (M, 1))
    one = {"num_restarts": 1, "layout": 3, "devices": jax.local_devices()[:1]}
    fits = many(model, rows, init=labels, **one)
    first = vx.fit(model, rows[1], init=labels[1], stop=STOP)
    np.testing.assert_allclose(fits.elbo[1], first.elbo, rtol=1e-9)
    assert fits.n_iter[1] == first.n_iter
    warm = many(model, rows, init=fits, **one)
    assert (np.asarray(warm.n_iter) == 4).all()
    assert (np.asarray(warm.elbo) >= np.asarray(fits.elbo) - 1e-9).all()


def test_lanes_are_as_many_as_memory_allows():
    assert choose_layout(1000, 200 * 30, "cpu") == 16
    assert choose_layout(1000, 2**20 // 8, "cpu") == 8
    assert choose_layout(1000, 2**20, "cpu") == choose_layout(3, 100, "cpu") == "map"
    assert choose_layout(1000, 2**22, "cpu", slots=True) == 1
    # an accelerator takes as many as fit, and steps them together
    assert choose_layout(3, 100, "gpu") == choose_layout(1000, 200 * 30, "tpu") == "vmap"
    assert choose_layout(1000, 2**22, "gpu") == 64
    assert choose_layout(1000, 2**27, "gpu") == "map"


def test_data_sets_are_dealt_out_in_turn():
    members, live, slots = deal(11, 2)
    assert len(members) == 16
    np.testing.assert_array_equal(live, [6, 5])
    np.testing.assert_array_equal(members.reshape(2, 8)[0, :6], [0, 2, 4, 6, 8, 10])
    np.testing.assert_array_equal(members.reshape(2, 8)[1, :5], [1, 3, 5, 7, 9])
    np.testing.assert_array_equal(members[slots], np.arange(11))
    assert len(deal(900, 1).members) == len(deal(1000, 1).members) == 1024


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"layout": "lanes"}, ValueError, "layout: expected one of auto"),
        ({"layout": 0}, ValueError, "layout: need at least 1 lane"),
        ({"num_restarts": 0}, ValueError, "num_restarts: must be at least 1"),
        ({"key": None}, ValueError, "key: this start is drawn"),
        ({"halving": 3}, TypeError, "halving: expected Halving"),
        ({"halving": vx.Halving(0)}, ValueError, "halving: sweeps"),
        ({"init": np.zeros((2, N), int)}, ValueError, "init: expected labels"),
        ({"data": []}, ValueError, "datasets: an empty list"),
        ({"data": np.zeros(5)}, ValueError, "datasets: expected data sets, then rows"),
        ({"data": [np.zeros((3, 2)), np.zeros((3, 1))]}, ValueError, "the same columns"),
        ({"data": vx.Batch.of(np.eye(2))}, ValueError, "datasets: a Batch of several"),
        ({"data": [{"a": np.zeros(3), "b": np.zeros(4)}]}, ValueError, "the same length"),
        ({"models": []}, ValueError, "models: 0 of them for 7 data sets"),
        ({"models": 3}, TypeError, "model: expected a model"),
    ],
)
def test_arguments_are_named(rows, model, change, error, message, unchecked):
    given = {"models": model, "data": rows, **change}
    with pytest.raises(error, match=message):
        many(given.pop("models"), given.pop("data"), **given)


def test_columns_must_be_those_of_the_model(rows, model):
    with pytest.raises(ValueError, match="x: has 3 columns, but the model's prior is for 2"):
        many(model, np.zeros((2, 5, 3)))
