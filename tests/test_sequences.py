"""Sequences in a Batch: their steps as rows, padding, and what every form of data becomes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax.data import padding

LENGTHS = (3, 5, 1)


@pytest.fixture
def xs(rng):
    return [rng.normal(size=(t, 2)) for t in LENGTHS]


def same(a, b):
    """The same Batch, but for where it is."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_list_is_padded_by_steps_that_do_not_exist(xs):
    batch = vx.Batch.sequences(xs, [1.0, 2.0, 0.5])
    assert batch.x.shape == (3, 5, 2)
    np.testing.assert_array_equal(batch.steps, np.arange(5) < np.array(LENGTHS)[:, None])
    np.testing.assert_array_equal(batch.exists, batch.steps > 0)
    for i, x in enumerate(xs):
        np.testing.assert_array_equal(batch.x[i, : len(x)], x)
        np.testing.assert_array_equal(batch.x[i, len(x) :], np.tile(xs[0][:1], (5 - len(x), 1)))
    np.testing.assert_allclose(batch.total_weight, 3 + 2 * 5 + 0.5)


def test_every_form_is_the_same_batch(xs):
    whole = vx.Batch.sequences(xs)
    same(whole, vx.Batch.sequences(np.concatenate(xs), lengths=LENGTHS))
    same(whole, vx.Batch.sequences([jnp.asarray(x) for x in xs]))
    same(whole, vx.Batch.of(whole))
    equal = np.stack([x[:1] for x in xs])
    same(vx.Batch.sequences(equal), vx.Batch.sequences(list(equal)))
    one = vx.Batch.sequences(xs[0])
    same(one, vx.Batch.sequences([xs[0]]))
    assert one.x.shape == (1, 3, 2)
    assert vx.Batch.sequences(xs[0][:, 0]).x.shape == (1, 3)


def test_flat_is_the_batch_of_all_steps(xs):
    """Also inside of jit and vmap."""
    batch = vx.Batch.sequences(xs, [1.0, 2.0, 0.5], label=[[0, 1, 0], [1, 1, 1, 1, 1], [0]])
    rows = jax.jit(lambda b: b.flat())(batch)
    counts = np.asarray(rows.weight) > 0
    np.testing.assert_array_equal(np.asarray(rows.x)[counts], np.concatenate(xs))
    np.testing.assert_array_equal(np.asarray(rows.weight)[counts], np.repeat([1, 2, 0.5], LENGTHS))
    np.testing.assert_array_equal(np.asarray(rows.label)[~counts], -1)
    assert rows.steps is None
    assert rows.flat() is rows
    stacked = jax.tree.map(lambda a: jnp.stack([a, a]), batch)
    same(jax.vmap(lambda b: b.flat())(stacked), jax.tree.map(lambda a: jnp.stack([a, a]), rows))


# -- programs of few sizes ------------------------------------------------------------------------


def test_sizes_are_few_and_not_much_larger():
    numbers = np.r_[1:600, 10**4, 10**6]
    for n in (1, 7, 300):
        sizes = np.array([padding.padded_sizes(n, int(t)) for t in numbers])
        assert (sizes >= np.stack([np.full_like(numbers, n), numbers], 1)).all()
        many = n * numbers > 512
        share = sizes.prod(1) / (n * numbers)
        assert (share[many] <= (1.25 if n == 1 else 1.125**2)).all()
        assert (share <= 4).all()
        assert len(np.unique(sizes[:512], axis=0)) <= (20 if n == 1 else 60)


def _of_row(batch):
    return jnp.sum(batch.x * batch.steps[..., None], (1, 2))


def _of_step(batch):
    return 2 * batch.x, {"exists": batch.exists, "length": jnp.sum(batch.steps, 1)}


def test_padding_is_cut_from_what_is_read(rng, monkeypatch):
    """Arrays by step are told from others as long by a second number of steps."""
    monkeypatch.setattr(padding, "_PIECE", 16)
    xs = [rng.normal(size=(t, 7)) for t in (3, 5, 7, 1, 2)]
    batch = vx.Batch.sequences(xs)
    padded, value = padding.pad(batch, np.asarray(batch.steps))
    assert padded.steps.shape == (8, 8) == value.shape
    assert not np.asarray(padded.weight)[5:].any()
    assert not np.asarray(padded.steps)[:5, 7].any()
    np.testing.assert_allclose(padding.read_rows(_of_row, batch), [x.sum() for x in xs])
    double, rest = padding.read_rows(_of_step, batch)
    np.testing.assert_array_equal(double, 2 * batch.x)
    np.testing.assert_array_equal(rest["exists"], batch.exists)
    np.testing.assert_array_equal(rest["length"], [3, 5, 7, 1, 2])
