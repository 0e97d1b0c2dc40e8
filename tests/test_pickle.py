"""Models, data, settings and results go to other processes and come back as they were."""

import copy
import functools
import operator
import pickle

import jax
import numpy as np
import pytest

import vijax as vx

STOP = vx.Stop(max_iter=4)
ROWS = np.random.default_rng(5).normal(size=(40, 2)) + 6.0 * (np.arange(40) % 2)[:, None]
WEIGHT = 1.0 + np.arange(40) % 3


def by_pickle(obj):
    return pickle.loads(pickle.dumps(obj))  # noqa: S301 (what the test itself wrote)


def blocks():
    yield vx.Batch.of(ROWS[:15], WEIGHT[:15])
    yield vx.Batch.of(ROWS[15:], WEIGHT[15:])


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("send", [by_pickle, copy.deepcopy])
def test_a_fit_of_what_was_sent_is_the_same(send, key):
    labels = np.where(np.arange(40) < 5, np.arange(40) % 2, -1)
    batch = vx.Batch.of(ROWS, WEIGHT, label=labels)
    model = vx.GaussianMixture.from_data(batch, 2, covariance="diag")
    method = vx.SVI(batch_size=16, rate=vx.RobbinsMonro(delay=2.0))
    given = {"key": key, "method": method, "stop": STOP, "num_restarts": 2}
    fit = vx.fit(model, batch, **given)
    sent = {name: value if name == "key" else send(value) for name, value in given.items()}
    again = vx.fit(send(model), send(batch), **sent)
    same(again, fit)
    came = send(fit)
    same(came, fit)
    assert repr(came) == repr(fit)
    np.testing.assert_array_equal(send(model).predict(came, batch), model.predict(fit, batch))
    # also as the prior of more rows, and as a start
    stream = vx.Streaming(model, last=came)
    same(send(stream).q, stream.q)


@pytest.mark.parametrize("send", [by_pickle, copy.deepcopy])
def test_many_fits_can_be_sent(send, key):
    sets = [ROWS, ROWS[:25]]
    model = vx.GaussianMixture.from_data(ROWS, 2, covariance="diag")
    fits = vx.fit_many(model, sets, key=key, stop=STOP)
    came = send(fits)
    assert repr(came) == repr(fits)
    for ours, theirs in zip(fits.predict(sets), came.predict(sets), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "setting",
    [
        vx.Stop(tol=0.5), vx.CAVI(chunk=7), vx.EM(), vx.SVI(batch_size=3, rate=0.2),
        vx.Memoized(num_blocks=3), vx.Accelerated(vx.EM()), vx.Moves(sweeps=2),
        vx.Halving(sweeps=3), vx.Annealed(init="random", steps=3),
        vx.SVI(batch_size=3, rate=operator.neg),
    ],
    ids=lambda setting: type(setting).__name__,
)  # fmt: skip
def test_settings_compile_nothing_anew(setting):
    for send in (by_pickle, copy.deepcopy):
        same(send(setting), setting)
        assert repr(send(setting)) == repr(setting)


def sources(folder):
    np.save(folder / "c.npy", ROWS)
    np.save(folder / "f.npy", np.asfortranarray(ROWS))
    np.savez(folder / "all.npz", x=ROWS, weight=WEIGHT)
    np.save(folder / "weight.npy", WEIGHT)
    mapped = np.load(folder / "c.npy", mmap_mode="r")
    bare = np.memmap(folder / "bare", np.float64, "w+", shape=(43, 2))
    bare[3:] = ROWS
    bare.flush()
    return {
        "array": (ROWS, {}),
        "weights": (ROWS, {"weight": WEIGHT}),
        "map": (mapped, {}),
        "map from an offset": (np.memmap(folder / "bare", np.float64, "r", 48, (40, 2)), {}),
        "part of a map": (bare[3:], {}),
        "map in Fortran order": (np.load(folder / "f.npy", mmap_mode="r"), {}),
        "path": (folder / "f.npy", {"weight": folder / "weight.npy"}),
        "archive": (folder / "all.npz", {"columns": "x", "weight": "weight"}),
        "list": ([ROWS[:10], ROWS[10:]], {}),
        "tables": ([{"a": ROWS[:, 0], "b": ROWS[:, 1]}], {}),
        "function": (blocks, {}),
        "partial": (functools.partial(np.array_split, ROWS, 3), {}),
    }


@pytest.mark.parametrize("send", [by_pickle, copy.deepcopy])
def test_chunks_can_be_sent(send, tmp_path):
    for name, (source, options) in sources(tmp_path).items():
        chunks = vx.Chunks.of(source, chunk=16, **options)
        came = send(chunks)
        assert repr(came) == repr(chunks), name
        weight = WEIGHT if options or name == "function" else np.ones(40)
        parts = list(came.batches())
        x = [np.stack(list(p.x.values()), 1) if isinstance(p.x, dict) else p.x for p in parts]
        found = np.concatenate([p.weight for p in parts])
        np.testing.assert_array_equal(np.concatenate(x)[found > 0], ROWS.astype(x[0].dtype), name)
        np.testing.assert_array_equal(found[found > 0], weight, name)


def test_a_fit_to_chunks_that_were_sent_is_the_same(key, tmp_path, monkeypatch):
    np.save(tmp_path / "rows.npy", ROWS)
    np.savez(tmp_path / "rows.npz", ROWS)
    monkeypatch.chdir(tmp_path)
    sent = [pickle.dumps(vx.Chunks.of(f"rows.{kind}", chunk=16)) for kind in ("npy", "npz")]
    monkeypatch.chdir("/")  # another process may be elsewhere
    model = vx.GaussianMixture.from_data(ROWS, 2, covariance="diag")
    fits = [vx.fit(model, pickle.loads(text), key=key, stop=STOP) for text in sent]  # noqa: S301
    right = vx.fit(model, vx.Chunks.of(ROWS, chunk=16), key=key, stop=STOP)
    for fit in fits:
        same(fit, right)


def test_a_file_is_sent_as_its_path(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((5000, 3)))
    for source in (tmp_path / "rows.npy", np.load(tmp_path / "rows.npy", mmap_mode="r")):
        assert len(pickle.dumps(vx.Chunks.of(source))) < 2000


def test_what_cannot_be_sent_says_so():
    chunks = vx.Chunks.of(lambda: [ROWS])
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(chunks)
    with pytest.raises(TypeError, match="read once only"):
        vx.Chunks.of(blocks())
