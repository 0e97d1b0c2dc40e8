"""Rows out of core: the same fit as in memory, from every kind of source, in one program."""

import importlib.util
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax.data import chunks as chunks_module
from vijax.infer.out_of_core import reader

from .conftest import X64
from .data import clusters
from .programs import programs
from .table import leaves_close

FLOAT = np.float64 if X64 else np.float32
TOL = 1e-10 if X64 else 2e-6


@pytest.fixture
def rows(rng):
    return clusters(rng, n=250, k=3)[0].astype(FLOAT)


@pytest.fixture
def weight(rng):
    return rng.integers(0, 4, size=250).astype(FLOAT)


def read(chunks):
    """All rows of positive weight, and their weights."""
    parts = [(np.asarray(b.x), np.asarray(b.weight)) for b in chunks.batches()]
    x, w = (np.concatenate(a) for a in zip(*parts, strict=True))
    return x[w > 0], w[w > 0]


class Counted:
    """A factory of blocks of different sizes that knows how often it was called."""

    def __init__(self, rows, weight=None, sizes=(100, 7, 43, 100)):
        self.rows, self.weight, self.sizes, self.calls = rows, weight, sizes, 0

    def __call__(self):
        self.calls += 1
        first = 0
        for n in self.sizes:
            part = slice(first, first + n)
            own = None if self.weight is None else self.weight[part]
            yield self.rows[part] if own is None else vx.Batch.of(self.rows[part], own)
            first += n


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(vx.CAVI(), id="CAVI", marks=pytest.mark.float32(hasty=True)),
        pytest.param(vx.EM(), id="EM"),
    ],
)
def test_the_same_fit_as_in_memory(rows, weight, key, method):
    """All restarts from one reading per pass; seeds are the same where the sample is all rows."""
    model = vx.GaussianMixture.from_data(rows, 3)
    stop = vx.Stop(max_iter=25)
    whole = vx.fit(
        model, vx.Batch.of(rows, weight), key=key, method=method, stop=stop, num_restarts=3
    )
    source = Counted(rows, weight)
    chunks = vx.Chunks.of(source, chunk=84)  # the last chunk is short
    before = source.calls
    fit = vx.fit(model, chunks, key=key, method=method, stop=stop, num_restarts=3)
    passes = source.calls - before
    assert passes == 2 + fit.runs.n_iter.max()  # a first look, the survey
    np.testing.assert_allclose(fit.elbos, whole.elbos, rtol=TOL)
    assert fit.point == method.point
    if not X64:  # what rounding does to a path is not asked
        return
    np.testing.assert_array_equal(fit.runs.n_iter, whole.runs.n_iter)
    np.testing.assert_array_equal(fit.statuses, whole.statuses)
    np.testing.assert_allclose(fit.runs.elbo_trace, whole.runs.elbo_trace, rtol=TOL)
    leaves_close(fit.q, whole.q, rtol=1e-7, atol=1e-9)


@pytest.mark.float32(hasty=True)
def test_one_program_for_any_number_of_chunks_and_many_add_up_like_one(rows, key, monkeypatch):
    for name in ("_SAMPLE_ROWS", "_LEAST_ROWS"):  # starts of one shape
        monkeypatch.setattr(chunks_module, name, 250)
    model = vx.GaussianMixture.from_data(rows, 3)
    stop, rtol = vx.Stop(max_iter=1), 1e-12 if X64 else 1e-6
    with programs("_add") as seen:
        for copies in (1, 40):
            chunks = vx.Chunks.of(np.tile(rows, (copies, 1)), chunk=84)
            fit = vx.fit(model, chunks, key=key, stop=stop, num_restarts=3)
            bound = vx.elbo(model, fit.q, vx.Batch.of(rows, np.full(250, copies, FLOAT)))
            np.testing.assert_allclose(fit.elbo, bound, rtol=rtol)
    assert len(seen) <= 2  # one trace and one lowering


def test_every_source_gives_the_same_rows(rows, weight, tmp_path):
    np.save(tmp_path / "x.npy", rows)
    np.save(tmp_path / "w.npy", weight)
    np.savez(tmp_path / "both.npz", x=rows, w=weight)
    np.savez_compressed(tmp_path / "one.npz", rows)
    np.savez(tmp_path / "columns.npz", np.asfortranarray(rows))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    weighted = [
        vx.Chunks.of(rows, weight, chunk=100),
        vx.Chunks.of(mapped, tmp_path / "w.npy", chunk=100),
        vx.Chunks.of(tmp_path / "x.npy", weight, chunk=99),
        vx.Chunks.of(tmp_path / "both.npz", "w", chunk=64),
        vx.Chunks.of(tmp_path / "both.npz", weight.tolist(), columns="x", chunk=1),
        vx.Chunks.of(Counted(rows, weight), chunk=30),
        vx.Chunks.of(lambda: iter(Counted(rows, weight)()), chunk=1000),
    ]
    for chunks in weighted:
        x, w = read(chunks)
        np.testing.assert_array_equal(x, rows[weight > 0])
        np.testing.assert_array_equal(w, weight[weight > 0])
    for source in (
        mapped,
        str(tmp_path / "one.npz"),
        tmp_path / "columns.npz",
        [rows[:90], rows[90:]],
        Counted(rows),
        lambda: (jnp.asarray(part) for part in np.split(rows, 5)),
    ):
        for check in (True, False):
            chunks = vx.Chunks.of(source, chunk=64)
            batches = list(chunks.batches(250, check=check))
            assert {b.x.shape for b in batches} == {(chunks.rows, 2)}
            x = np.concatenate([np.asarray(b.x)[np.asarray(b.weight) > 0] for b in batches])
            np.testing.assert_array_equal(x, rows)


def test_a_frame_of_parquet(rows, weight, tmp_path, monkeypatch):
    """Through pyarrow where it is installed, else through a stand-in with its interface."""
    table = {"a": rows[:, 0], "w": weight, "b": rows[:, 1]}
    path = tmp_path / "table.parquet"
    if importlib.util.find_spec("pyarrow"):
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table(table), path, row_group_size=60)
    else:
        monkeypatch.setitem(sys.modules, "pyarrow", types.SimpleNamespace(parquet=parquet(table)))
    chunks = vx.Chunks.of(path, "w", chunk=70)
    assert chunks.names == ("a", "b")
    x, w = read(chunks)
    np.testing.assert_array_equal(x, rows[weight > 0])
    np.testing.assert_array_equal(w, weight[weight > 0])
    swapped, ones = read(vx.Chunks.of(path, columns=["b", "a"], chunk=70))
    np.testing.assert_array_equal(swapped, rows[:, ::-1])
    np.testing.assert_array_equal(ones, 1.0)
    with pytest.raises(ValueError, match=r"columns: expected some of \['a', 'w', 'b'\], got 'c'"):
        vx.Chunks.of(path, columns="c")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"\.parquet files need pyarrow"):
        vx.Chunks.of(path)


def parquet(table):
    """What of pyarrow.parquet is used, over a dict of columns."""
    names = list(table)

    class Column(np.ndarray):
        def to_numpy(self, zero_copy_only):
            return np.asarray(self)

    class ParquetFile:
        metadata = types.SimpleNamespace(num_rows=len(table["a"]))
        schema_arrow = types.SimpleNamespace(names=names)

        def __init__(self, path):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def iter_batches(self, batch_size, columns):
            for first in range(0, 250, batch_size):
                found = [table[c][first : first + batch_size].view(Column) for c in columns]
                yield types.SimpleNamespace(
                    column=found.__getitem__,
                    schema=types.SimpleNamespace(get_field_index=columns.index),
                )

    return types.SimpleNamespace(ParquetFile=ParquetFile)


def test_a_block_may_be_filled_again_by_its_maker(rows):
    def make():
        block = np.empty((50, 2))
        for first in range(0, 250, 50):
            block[:] = rows[first : first + 50]
            yield block
            block[:] = np.nan

    for chunk in (50, 125):
        batches = list(vx.Chunks.of(make, chunk=chunk).batches(check=False))
        np.testing.assert_array_equal(np.concatenate([b.x for b in batches]), rows)


def test_missing_entries_labels_and_tables_come_through(rows):
    holes = rows.copy()
    holes[3, 1] = holes[200, 0] = np.nan
    holes[130] = np.nan
    seen = list(vx.Chunks.of(holes, missing=True, chunk=84).batches())
    mask = np.concatenate([b.mask for b in seen])[:250]
    np.testing.assert_array_equal(mask, ~np.isnan(holes))
    weight = np.concatenate([b.weight for b in seen])
    assert weight[130] == 0
    assert weight.sum() == 249
    # patterns of what is missing would be another program for every chunk
    assert {jax.tree.structure(b) for b in seen} == {jax.tree.structure(seen[0])}
    label = np.arange(250) % 4 - 1
    batch = vx.Batch.of(rows, label=label)
    parts = list(vx.Chunks.of([batch], chunk=84).batches())
    np.testing.assert_array_equal(np.concatenate([b.label for b in parts])[:250], label)
    table = {"width": rows[:, 0], "place": rows}
    parts = list(vx.Chunks.of([table], chunk=84).batches())
    np.testing.assert_array_equal(np.concatenate([b.x["place"] for b in parts])[:250], rows)


def test_bad_values_are_named_by_their_row_in_the_whole(rows, weight):
    model = vx.GaussianMixture.from_data(rows, 3)
    bad = rows.copy()
    bad[199, 1] = np.nan
    match = "x: NaN or infinite entries, the first in row 199, column 1; remove"
    with pytest.raises(ValueError, match=match):
        vx.fit(model, vx.Chunks.of(bad, chunk=84), key=jax.random.key(0))
    weight[199] = 0.0
    x, w = read(vx.Chunks.of(bad, weight, chunk=84))
    np.testing.assert_array_equal(x, rows[weight > 0])
    weight[120] = -1.0
    with pytest.raises(ValueError, match=r"rows 84 to 167: weight: must be >= 0"):
        read(vx.Chunks.of(bad, weight, chunk=84))
    with pytest.raises(ValueError, match=r"x: .*\b3\b"):
        vx.fit(model, vx.Chunks.of(np.ones((99, 3)), chunk=50), key=jax.random.key(0))


def test_arguments_are_checked(rows, weight, key, tmp_path):
    model = vx.GaussianMixture.from_data(rows, 3)
    chunks = vx.Chunks.of(rows, chunk=84)
    with pytest.raises(TypeError, match=r"source: a generator .* Chunks.of\(make\), not"):
        vx.Chunks.of(part for part in [rows])
    with pytest.raises(TypeError, match="source: expected a path, an array, .* got int"):
        vx.Chunks.of(3)
    with pytest.raises(TypeError, match="source: expected blocks that are arrays, .* got list"):
        vx.Chunks.of([[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"weight: expected one per row, shape \(250,\)"):
        vx.Chunks.of(rows, weight[:-1])
    with pytest.raises(ValueError, match=r"weight: blocks bring their own"):
        vx.Chunks.of(Counted(rows), weight)
    with pytest.raises(ValueError, match="source: there are no rows"):
        vx.Chunks.of(lambda: iter([]))
    with pytest.raises(ValueError, match="source: blocks of different form"):
        list(vx.Chunks.of([rows, rows[:, :1]], chunk=84).batches())
    with pytest.raises(ValueError, match=r"source: expected a .npy, .npz or .parquet file"):
        vx.Chunks.of("rows.csv")
    np.savez(tmp_path / "two.npz", x=rows, y=rows)
    with pytest.raises(ValueError, match=r"columns: name one array of .* \['x', 'y'\]"):
        vx.Chunks.of(tmp_path / "two.npz")
    np.savez(tmp_path / "objects.npz", np.array([{}, None]))
    with pytest.raises(ValueError, match="holds objects, no numbers"):
        vx.Chunks.of(tmp_path / "objects.npz")
    with pytest.raises(ValueError, match="chunk: must be finite and >= 1"):
        vx.Chunks.of(rows, chunk=0)
    with pytest.raises(ValueError, match="init: labels and responsibilities need the rows in mem"):
        vx.fit(model, chunks, init=np.zeros(250, int))
    with pytest.raises(ValueError, match="moves: need all rows in memory"):
        vx.fit(model, chunks, key=key, moves=vx.Moves())
    with pytest.raises(ValueError, match="halving: need all rows in memory"):
        vx.fit(model, chunks, key=key, num_restarts=2, halving=vx.Halving())
    with pytest.raises(ValueError, match="key: this start is drawn at random"):
        vx.fit(model, chunks)
    with pytest.raises(TypeError, match=r"Chunks are not one array; .* Chunks.sample\(\)"):
        vx.elbo(model, model.prior, chunks)


def test_a_factory_must_begin_anew(rows, key):
    model = vx.GaussianMixture.from_data(rows, 3)
    blocks = iter(Counted(rows)() for _ in range(5))  # four looks, and the survey
    last = [rows[:100]]
    chunks = vx.Chunks.of(lambda: next(blocks, last), chunk=84)
    with pytest.raises(ValueError, match="source: 100 rows or more in this pass, 250 before"):
        vx.fit(model, chunks, key=key, num_restarts=3)


def test_the_sample_is_drawn_from_all_rows_and_weighs_as_much(rng, monkeypatch):
    monkeypatch.setattr(chunks_module, "_SAMPLE_ROWS", 100)
    monkeypatch.setattr(chunks_module, "_LEAST_ROWS", 100)
    x = np.arange(4000.0)[:, None]
    weight = rng.integers(0, 3, size=4000).astype(float)
    sample = vx.Chunks.of(x, weight, chunk=1000).sample()
    picked = np.asarray(sample.x[:, 0]).astype(int)
    assert len(picked) == 100
    assert (np.diff(picked) > 0).all()
    assert (weight[picked] > 0).all()
    np.testing.assert_allclose(sample.weight / weight[picked], sample.weight[0] / weight[picked[0]])
    np.testing.assert_allclose(sample.weight.sum(), weight.sum())
    # the mean of 100 of the numbers 0 .. 3999, within five standard errors
    assert abs(picked.mean() - 2000) < 5 * 4000 / np.sqrt(12 * 100)
    other = vx.Chunks.of(x, weight, chunk=317).sample()
    np.testing.assert_array_equal(other.x, sample.x)
    prior = vx.GaussianMixture.from_data(sample, 2)
    leaves_close(vx.GaussianMixture.from_data(vx.Chunks.of(x, weight), 2), prior, rtol=1e-12)
    with pytest.raises(ValueError, match="noise: the box of Chunks is not known"):
        vx.GaussianMixture.from_data(vx.Chunks.of(x), 2, noise=True)


def test_a_table_is_read_as_its_model_reads_it(rows):
    from pandas import DataFrame

    frame = DataFrame(rows, columns=["width", "height"])
    batch = next(vx.Chunks.of(frame, chunk=84).batches())
    model = vx.MixedMixture.from_data(frame, 2, {"width": "gaussian", "height": "gaussian"})
    got, expected = reader(model, batch)(batch), model.as_batch(batch)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    leaves_close(got, expected, rtol=0.0)
    own = reader(vx.GaussianMixture.from_data(rows, 2), batch)(batch)
    assert own.names is None
    assert own.x is batch.x


def test_names_of_columns_reach_the_result(rows, key):
    from pandas import DataFrame

    frame = DataFrame(rows, columns=["width", "height"])
    model, stop = vx.GaussianMixture.from_data(rows, 3), vx.Stop(max_iter=2)
    fit = vx.fit(model, vx.Chunks.of(frame, chunk=84), key=key, stop=stop, num_restarts=3)
    assert fit.names == ("width", "height")
