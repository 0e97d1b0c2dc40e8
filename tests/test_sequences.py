"""Sequences in a Batch: their steps as rows, padding, and what every form of data becomes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import vijax as vx
from vijax.data import chunked, padding
from vijax.infer.run.stacks import stack_by_size

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


# -- forms of data --------------------------------------------------------------------------------


def flat_is(batch, rows, lengths=LENGTHS):
    """The steps of sequences that are no padding are these rows."""
    n, t = batch.steps.shape
    index = np.concatenate([t * i + np.arange(size) for i, size in enumerate(lengths)])
    own = batch.flat().take(jnp.asarray(index))
    for name in ("x", "weight", "mask", "noise", "label", "group", "exposure"):
        jax.tree.map(np.testing.assert_array_equal, getattr(own, name), getattr(rows, name))
    assert (own.names, own.levels) == (rows.names, rows.levels)


def parts(rng):
    """All that may come with rows, of the steps of all sequences."""
    n = sum(LENGTHS)
    x = np.where(rng.uniform(size=(n, 2)) < 0.4, np.nan, rng.normal(size=(n, 2)))
    x[[1, 8]] = np.nan  # a step within a sequence, and one that is a sequence
    x[2] = 1.0
    return {
        "data": x,
        "mask": (rng.uniform(size=(n, 2)) < 0.9) | (x == 1.0),
        "label": rng.integers(-1, 3, n),
        "exposure": rng.gamma(2.0, size=n),
    }


def cut(values):
    ends = np.cumsum(LENGTHS)
    return [values[end - size : end] for end, size in zip(ends, LENGTHS, strict=True)]


def test_all_that_comes_with_rows(rng):
    """A step without an entry is missing, a sequence without one has weight 0."""
    given = parts(rng)
    options = {"missing": True, "weight": [2.0, 1.0, 3.0]}
    table = vx.Batch.sequences(**given, lengths=LENGTHS, **options)
    listed = {name: cut(values) for name, values in given.items()}
    same(table, vx.Batch.sequences(**listed, **options))
    rows = vx.Batch.of(
        given.pop("data"), np.repeat(options["weight"], LENGTHS), missing=True, **given
    )
    flat_is(table, rows)
    np.testing.assert_array_equal(table.steps[0], [1, 0, 1, 0, 0])
    np.testing.assert_array_equal(table.exists[0], [True, True, True, False, False])
    np.testing.assert_array_equal(table.weight, [2.0, 1.0, 0.0])
    assert not table.exists[2].any()
    read = table.unfilled.flat()
    assert read.steps is None
    np.testing.assert_array_equal(read.weight, table.flat().weight)
    again = vx.Batch.of(table)
    np.testing.assert_array_equal(again.steps, table.steps)
    assert np.isfinite(again.x).all()


def test_noise_and_exposures_of_columns(rng):
    x, noise = rng.poisson(3.0, (2, 4, 3)), rng.gamma(2.0, size=(2, 4, 3))
    batch = vx.Batch.sequences(x, noise=noise, exposure=noise, label=np.zeros((2, 4), int))
    assert batch.noise.shape == (2, 4, 3, 3)
    shape = [a.reshape(8, 3) for a in (x, noise)]
    rows = vx.Batch.of(shape[0], noise=shape[1], exposure=shape[1], label=np.zeros(8, int))
    flat_is(batch, rows, (4, 4))


def test_frames_with_text(rng):
    """Levels are those of all sequences, columns may have another order."""
    frame = pd.DataFrame(
        {
            "a": rng.normal(size=9),
            "b": list("xyzxyzxyu"),
            "c": pd.Categorical(list("pqpqpqpqp"), categories=["q", "p"]),
        }
    )
    frames = cut(frame)
    frames[1] = frames[1][["c", "a", "b"]]
    batch, rows = vx.Batch.sequences(frames), vx.Batch.of(frame)
    flat_is(batch, rows)
    same(batch, vx.Batch.sequences(frame, lengths=LENGTHS))
    same(vx.Batch.sequences(frames[0]), vx.Batch.sequences(frames[:1]))
    table = vx.Batch.sequences([{name: f[name].to_numpy() for name in frame} for f in frames])
    flat_is(table, vx.Batch.of({name: frame[name].to_numpy() for name in frame}))
    # what becomes of columns is what becomes of those of rows
    order, levels = ("c", "b", "a"), (None, tuple("wxyzu"), ("p", "q"))
    flat_is(batch.in_order(order), rows.in_order(order))
    flat_is(batch.coded(levels), rows.coded(levels))
    flat_is(batch.by_name(), rows.by_name())
    flat_is(batch.by_name().column("b"), rows.by_name().column("b"))
    known = {"b": (tuple("wxyzu"),)}
    flat_is(batch.by_name().columns_coded(known), rows.by_name().columns_coded(known))
    with pytest.raises(TypeError, match="text in column 'b'"):
        batch.numeric()
    with pytest.raises(ValueError, match="level 'u' in sequence 2, step 0"):
        batch.coded((None, tuple("xyz"), ("p", "q")))


def test_errors_name_sequence_and_step(xs):
    bad = [x.copy() for x in xs]
    bad[1][2, 1] = np.nan
    with pytest.raises(ValueError, match="first in sequence 1, step 2, column 1"):
        vx.Batch.sequences(bad)
    zero = vx.Batch.sequences(bad, [1.0, 0.0, 1.0])
    assert np.isfinite(zero.x).all()
    assert np.isnan(zero.unfilled.x[1, 2, 1])
    exposure = [np.ones(len(x)) for x in xs]
    exposure[1][4] = 0.0
    cases = [
        ("data.2.: expected shape .t, 2.", {"data": [*xs[:2], np.ones((4, 3))]}),
        ("sequence 1 has none", {"data": [xs[0], np.ones((0, 2))]}),
        ("exposure: .*sequence 1, step 4", {"data": xs, "exposure": exposure}),
        ("weight: .*sequence 2", {"data": xs, "weight": [1.0, 1.0, -1.0]}),
        ("weight: .*one per sequence", {"data": xs, "weight": [1.0, 1.0]}),
        ("label: expected a list of 3", {"data": xs, "label": [[0, 0, 0]]}),
        ("label.0.: expected 3 steps", {"data": xs, "label": [[0], [0], [0]]}),
        ("lengths: their sum is 8", {"data": np.ones((9, 2)), "lengths": [3, 5]}),
        ("lengths: expected one integer", {"data": np.ones((9, 2)), "lengths": [4.5, 4.5]}),
        (r"mask: expected shape \(2, 3, ...\)", {"data": np.ones((2, 3, 1)), "mask": xs[0] > 0}),
        ("expected a sequence", {"data": 3.0}),
    ]
    for text, given in cases:
        with pytest.raises(ValueError, match=text):
            vx.Batch.sequences(**given)
    with pytest.raises(TypeError, match="Batch.sequences"):
        _ = vx.Batch.of(xs[0]).exists
    with pytest.warns(UserWarning, match="60 % of 5 x 10 steps are padding"):
        vx.Batch.sequences([np.ones(10), *[np.ones(n) for n in (1, 2, 3, 4)]])


def test_rows_of_a_batch_of_sequences(xs, tmp_path):
    batch = vx.Batch.sequences(xs, [1.0, 0.0, 2.0], label=[[0, 1, -1], [2] * 5, [4]])
    np.testing.assert_array_equal(batch.labelled(5), [True, True, False, False, True])
    part = batch.take(jnp.array([2, 0]))
    np.testing.assert_array_equal(part.steps, np.asarray(batch.steps)[[2, 0]])
    np.testing.assert_array_equal(part.label, np.asarray(batch.label)[[2, 0]])
    same(batch.cut(1, 2), batch.take(jnp.array([1, 2])))
    vx.save(tmp_path / "batch", batch)
    same(vx.load(tmp_path / "batch"), batch)


def test_sequences_on_devices(rng):
    """Rows that are spread over devices stay there, and every device sums over its own."""
    mesh = jax.make_mesh((4,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    x = rng.normal(size=(8, 3, 2))
    batch = vx.Batch.sequences(jax.device_put(x, spread), label=np.zeros((8, 3), int))
    assert batch.sharding == vx.Batch.of(batch).sharding == spread
    for a in (batch.x, batch.steps, batch.label):
        assert a.sharding.is_equivalent_to(spread, a.ndim)

    @jax.jit
    def totals(batch):
        return chunked.map_rows(
            lambda part: part.weight * part.steps.sum(1) + _of_row(part), batch, 1
        )

    alone = vx.Batch.sequences(x)
    np.testing.assert_allclose(totals(batch), totals(alone))
    np.testing.assert_allclose(totals(alone), 3 + x.sum((1, 2)))


def test_chunks_hold_few_long_sequences():
    def rows_of(t, row_size):
        x = np.ones((2, t), np.float32)
        batch = vx.Batch(x, x[:, 0], steps=x, platform="cpu")
        return chunked.automatic_chunk(row_size, batch)

    assert [rows_of(10**5, 10**k) for k in (5, 6, 7)] == [20, 2, 1]
    assert rows_of(10, 1) == 8192
    row = vx.Batch(np.ones(2, np.float32), np.ones(2, np.float32), platform="cpu")
    assert chunked.automatic_chunk(10**7, row) == 256


def test_many_data_sets_of_sequences(rng):
    """Data sets are in stacks of equal size, and rows keep their number among all."""
    sizes = [(3, 5), (1, 9), (4, 7), (3, 8)]
    xs = [rng.normal(size=(n, t, 2)) for n, t in sizes]
    stacks, m = stack_by_size([vx.Batch.sequences(x) for x in xs])
    assert m == 4
    found = {stack.parts["steps"].shape[1:]: stack for stack in stacks}
    assert set(found) == {(4, 8), (1, 16)}
    numbers, starts = np.concatenate([s.number for s in stacks]), np.array([0, 3, 4, 8])
    assert sorted(numbers) == [0, 1, 2, 3]
    for stack in stacks:
        for j, i in enumerate(stack.number):
            n, t = sizes[i]
            assert (stack.size[j], stack.length[j]) == (n, t)
            own = {name: value[j] for name, value in stack.parts.items()}
            np.testing.assert_array_equal(own["x"][:n, :t], xs[i])
            assert own["steps"][:n].sum() == n * t
            assert own["weight"].sum() == n
            np.testing.assert_array_equal(stack.rows[j, :n], starts[i] + np.arange(n))
    with pytest.raises(ValueError, match="all need to be of sequences"):
        stack_by_size([vx.Batch.sequences(xs[0]), vx.Batch.of(xs[0][0])])


def test_chunks_of_sequences(rng):
    """Blocks of any length become chunks of one, with the sum of all steps as their weight."""
    xs = [rng.normal(size=(n, t, 2)) for n, t in ((3, 5), (2, 9), (1, 2))]
    blocks = [vx.Batch.sequences(x, np.arange(1.0, len(x) + 1)) for x in xs]
    chunks = vx.Chunks.of(blocks, chunk=4)
    found = list(chunks.batches(6))
    assert [batch.steps.shape for batch in found] == [(4, 9), (4, 9)]
    rows = [batch.flat() for batch in found]
    own = [np.asarray(r.x)[np.asarray(r.weight) > 0] for r in rows]
    np.testing.assert_array_equal(
        np.concatenate(own), np.concatenate([x.reshape(-1, 2) for x in xs])
    )
    survey = chunks.survey()
    assert (survey.num_rows, survey.total) == (6, 6 * 5 + 3 * 9 + 2)
    np.testing.assert_allclose(survey.sample.total_weight, survey.total)
    every = vx.Batch.sequences([x for block in xs for x in block], [1, 2, 3, 1, 2, 1])
    same(chunks.sample(), replace(every, as_given=None))
    words = vx.Batch.documents([[0, 1], [2]], vocabulary=9, dense=False)
    for batch in vx.Chunks.of([words, words.take(jnp.array([1]))], chunk=2).batches():
        assert batch.x.dtype == np.int32
        assert batch.names == words.names
    with pytest.raises(ValueError, match="all blocks need to be of sequences"):
        vx.Chunks.of([blocks[0], xs[0][0]])


def test_a_function_that_makes_models_is_given_batches_of_sequences(rng):
    """The raw array of many data sets could be of rows or of sequences."""
    xs = rng.normal(size=(3, 2, 6, 1))
    with pytest.raises(ValueError, match="see Batch.sequences, and for `fit_many`"):
        vx.fit_many(lambda x: vx.HMM.from_data(x, 2), xs, key=jax.random.key(0))
