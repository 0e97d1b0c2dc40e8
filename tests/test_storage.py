"""Files: what goes in comes out, and what is no such file is refused by name and reason."""

import dataclasses
import enum
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax._pytree import REGISTRY, full_name
from vijax.data import storage

from .data import clusters


@vx.pytree
class Box:
    a: object
    b: object = None
    option: object = vx.static(default=1)


class Colour(enum.IntEnum):
    RED = 1


def assert_same(a, b):
    """Structure with static values, dtypes and bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if type(x) in (bool, int, float):
            assert type(x) is type(y)
            assert repr(x) == repr(y)
        else:
            assert isinstance(y, jax.Array)
            assert not y.weak_type
            x, y = np.asarray(x), np.asarray(y)
            assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def round_trip(path, tree):
    storage.save(path, tree)
    return storage.load(path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.npz"


@pytest.fixture
def fitted(rng):
    x, _ = clusters(rng, n=60, k=2)
    model = vx.GaussianMixture.from_data(x, 3)
    return model, x, vx.fit(model, x, key=jax.random.key(1), stop=vx.Stop(trace=16))


# -- round trips ----------------------------------------------------------------------------------


@pytest.mark.float32(hasty=True)
def test_results_come_back_whole(path, fitted):
    model, x, result = fitted
    again = round_trip(path, result)
    assert_same(result, again)
    assert type(again) is vx.Result
    np.testing.assert_array_equal(model.predict(again.q, x), model.predict(result.q, x))
    assert again.summary() == result.summary()
    resumed = vx.fit(model, x, init=again)
    assert_same(resumed, vx.fit(model, x, init=result))


@pytest.mark.parametrize("num_restarts", [1, 3])
def test_results_under_vmap(path, rng, num_restarts):
    x = jnp.asarray(rng.normal(size=(4, 30, 2)))
    keys = jax.random.split(jax.random.key(0), 4)

    def one(x, key):
        model = vx.GaussianMixture.from_data(x, 2)
        return vx.fit(model, x, key=key, num_restarts=num_restarts, stop=vx.Stop(trace=8))

    results = jax.vmap(one)(x, keys)
    again = round_trip(path, results)
    assert_same(results, again)
    assert again.elbos.shape == (4, num_restarts)


def test_other_containers(path, rng, fitted):
    model, x, result = fitted
    univariate = vx.FactorisedGaussian.with_prior(mean=0.0, kappa=1.0, shape=1.0, rate=2.0)
    missing = np.where(rng.random(x.shape) < 0.2, np.nan, x)
    frame = {"height": x[:, 0], "weight / kg": x[:, 1]}
    trees = [
        model,
        result.q,
        result.q.point(),
        univariate,
        vx.fit(univariate, x[:, 0]),
        vx.fit(model, x, init=np.repeat([0, 1, 2], 20), method=vx.EM()),
        vx.GaussianMixture.flat(2, 3),
        vx.CAVI(chunk=3),
        vx.Stop(),
        vx.Stop(tol=float("nan"), max_iter=jnp.asarray(3)),
        vx.Batch.of(missing, rng.random(60), missing=True, label=np.repeat([-1, 0, 1], 20)),
        vx.Batch.of(frame),
        dataclasses.replace(vx.Batch.of(x), names=("width", "größe")),
        {"model": model, "fits": [result, (result.q, None)], "empty": ({}, [], ())},
    ]
    for tree in trees:
        assert_same(tree, round_trip(path, tree))


INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
DTYPES = ["bool", *INTEGERS, "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_keep_their_bits(path, rng, dtype):
    some = rng.integers(0, 100, size=(3, 2)).astype(dtype)
    trees = [some, some[0, 0], some[:0], np.asfortranarray(some), jnp.asarray(some), some[:, ::-1]]
    assert_same(trees, round_trip(path, trees))
    swapped = some.astype(some.dtype.newbyteorder(">"))
    np.testing.assert_array_equal(round_trip(path, swapped), some)


@pytest.mark.float32(hasty=True)
def test_values_without_a_decimal(path):
    odd = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 1e-45, 3e38], np.float32)
    odd = np.append(odd, np.array([0x7FC00123], np.uint32).view(np.float32))
    assert_same(Box(odd), round_trip(path, Box(odd)))


@pytest.mark.parametrize("value", [True, -3, 10**30, 0.1, 1e-320, np.inf, -np.inf, "é\0\ud800"])
def test_static_values(path, value):
    for option in (value, (value, None, (value, 2, ()))):
        assert_same(
            Box(jnp.ones(2), option=option), round_trip(path, Box(jnp.ones(2), None, option))
        )


def test_keys_that_an_archive_could_confuse(path):
    names = ["file", "allow_pickle", "__vijax__", "", "a.b", "a/b", "a\\b", "../a", "a\0b", "x.npy"]
    names += ["x", "A", "größe", "\ud800", "type", "array", "value", "dict", "a b", "."]
    tree = {name: jnp.full(2, i) for i, name in enumerate(names)} | {"a": {"b": jnp.ones(1)}}
    assert_same(tree, round_trip(path, tree))
    assert list(round_trip(path, tree)) == list(tree)


@pytest.mark.float32(hasty=True)
def test_numpy_alone_can_read_it(path, fitted):
    _, _, result = fitted
    storage.save(path, result)
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["q.weights.conc"], result.q.weights.conc)
        header = json.loads(str(file["__vijax__"]), parse_constant=pytest.fail)
    assert header["format"] == 1
    assert header["vijax"] == vx.__version__
    assert header["tree"]["type"] == "vijax.Result"
    assert header["tree"]["fields"]["point"] == {"static": False}


# -- the file -------------------------------------------------------------------------------------


def test_the_name_is_taken_as_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("fit", "fit.npz", tmp_path / "fit.model", str(tmp_path / "größe.npz")):
        storage.save(name, Box(jnp.ones(2)))
        assert_same(storage.load(name), Box(jnp.ones(2)))
    assert sorted(os.listdir(tmp_path)) == ["fit", "fit.model", "fit.npz", "größe.npz"]


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    storage.save(path, Box(jnp.ones(2)))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        storage.save(path, Box(jnp.zeros(2)))
    monkeypatch.undo()
    assert os.listdir(path.parent) == [path.name]
    assert_same(storage.load(path), Box(jnp.ones(2)))


def test_links_and_rights_are_those_of_any_file(path):
    plain = path.with_name("plain")
    plain.write_bytes(b"")
    link = path.with_name("link.npz")
    link.symlink_to(path)
    storage.save(link, Box(jnp.ones(2)))
    assert link.is_symlink()
    assert path.stat().st_mode == plain.stat().st_mode


def test_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        storage.save(tmp_path / "nowhere" / "fit.npz", Box(1))
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        storage.save(tmp_path, Box(1))
    with pytest.raises(FileNotFoundError):
        storage.load(tmp_path / "fit.npz")


# -- what is not stored ---------------------------------------------------------------------------


class Undecorated(Box):
    pass


def earlier_and_later():
    @vx.pytree
    class Twice:
        a: object

    return Twice


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (Box(jax.random.key(0)), "a: random keys are not stored"),
        ({"deep": [Box(1, jax.random.split(jax.random.key(0)))]}, r"deep\.0\.b: random keys"),
        (Box("text"), "a: cannot be stored: a builtins.str"),
        (Box(np.array(["text"])), "a: arrays of dtype <U4"),
        (Box(np.array([None])), "a: arrays of dtype object"),
        (Box(np.ma.masked_array([1.0])), "a: cannot be stored: a numpy.ma"),
        (Box(jnp.ones(2, jnp.bfloat16)), "a: arrays of dtype bfloat16"),
        (Box(jnp.ones(2, complex)), "a: arrays of dtype complex"),
        (Box({1: 2.0}), "a: keys of a dict must be strings, got 1"),
        (Box(Colour.RED), "a: cannot be stored: a .*Colour"),
        (Box(Undecorated(1)), "a: cannot be stored: a .*Undecorated"),
        (Box(object()), "a: cannot be stored: a builtins.object"),
        (Box(1, option=Colour.RED), "option: cannot be stored: a .*Colour"),
        (Box(1, option=(1, [2])), r"option\.1: cannot be stored: a builtins.list"),
        (Box(1, option=np.float64(2.0)), "option: cannot be stored: a numpy.float64"),
        (Box(1, option=print), "option: cannot be stored: a builtins.builtin_function"),
        (object(), "tree: cannot be stored"),
    ],
)
def test_refused(path, tree, message):
    with pytest.raises(TypeError, match=message):
        storage.save(path, tree)
    assert not path.exists()


def test_classes_of_one_name(path):
    first, second = earlier_and_later(), earlier_and_later()
    assert type(round_trip(path, second(1))) is second
    with pytest.raises(TypeError, match="another class of that name was defined later"):
        storage.save(path, first(1))


def test_inside_jit(path):
    with pytest.raises(TypeError, match="a: a tracer has no values to store"):
        jax.jit(lambda a: storage.save(path, Box(a)))(1.0)


# -- what is not loaded ---------------------------------------------------------------------------


def rewrite(path, change):
    """Change the header of a file."""
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["__vijax__"]))
    header = change(header) or header
    arrays["__vijax__"] = np.asarray(header if isinstance(header, str) else json.dumps(header))
    with open(path, "wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"a,b\n1,2\n", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x80\x04N."]
)
def test_other_files(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path}: not a vijax file"):
        storage.load(path)


def test_other_arrays(path):
    np.savez(path, x=np.ones(2))
    with pytest.raises(ValueError, match=rf"{path}: not a vijax file: it has no __vijax__"):
        storage.load(path)
    with path.open("wb") as file:
        np.save(file, np.ones(2))
    with pytest.raises(ValueError, match=rf"{path}: not a vijax file: it has no __vijax__"):
        storage.load(path)
    np.savez(path, __vijax__=np.array({"format": 1}, object))
    with pytest.raises(ValueError, match=rf"{path}: damaged.*allow_pickle"):
        storage.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(format=2, vijax="9.8"), r"format 2 by vijax 9\.8.*upgrade"),
        (lambda h: h.pop("format") and None, "damaged: its header has no format"),
        (lambda h: h.update(format=0), "damaged: its header has no format"),
        (lambda h: "[1]", "damaged: its header has no format"),
        (lambda h: "{", "damaged: JSONDecodeError"),
        (lambda h: "[" * 100_000, "damaged: RecursionError"),
        (lambda h: h.pop("tree") and None, "tree: damaged: None describes nothing"),
        (lambda h: h["tree"].update(type="os.path"), "a os.path, a class not known here; import"),
        (lambda h: h["tree"].update(type=["x"]), "describes nothing"),
        (lambda h: h["tree"].update(fields=3), "describes nothing"),
        (lambda h: h["tree"]["fields"].update(c={"value": 1}), "a field 'c', which .*Box has not"),
        (lambda h: h["tree"]["fields"].pop("a") and None, "a: is not in the file"),
        (lambda h: h["tree"]["fields"].update(a={"static": 1}), "a: is static either"),
        (lambda h: h["tree"]["fields"].update(option={"value": 1}), "option: is static either"),
        (lambda h: h["tree"]["fields"].update(a={"value": []}), "a: damaged.* no plain value"),
        (lambda h: h["tree"]["fields"].update(a={"tuple": 1}), "a: damaged.*describes nothing"),
        (lambda h: h["tree"]["fields"].update(a={}), "a: damaged.*describes nothing"),
        (lambda h: h["tree"]["fields"].update(a=7), "a: damaged.*describes nothing"),
        (lambda h: h["tree"]["fields"]["a"].update(array="b"), "a: damaged: there is no array 'b'"),
        (lambda h: h["tree"]["fields"]["a"].update(array=[]), "a: damaged: there is no array"),
        (
            lambda h: h["tree"]["fields"]["a"].update(dtype="int8"),
            "a: damaged.*announced as",
        ),
    ],
)
def test_headers_that_do_not_fit(path, change, message):
    storage.save(path, Box(jnp.ones(2)))
    rewrite(path, change)
    with pytest.raises(ValueError, match=rf"{path}: .*{message}"):
        storage.load(path)


def test_a_field_that_came_later_takes_its_default(path):
    storage.save(path, Box(1, 2, option=3))
    rewrite(path, lambda h: (h["tree"]["fields"].pop("b"), h["tree"]["fields"].pop("option"), h)[2])
    assert_same(storage.load(path), Box(1))


def test_damaged_bytes_never_pass_for_others(path, rng, fitted):
    _, _, result = fitted
    storage.save(path, result)
    whole = path.read_bytes()
    refused = harmless = 0
    for trial in range(300):
        content = bytearray(whole)
        if trial % 3 == 0:
            content = content[: rng.integers(len(whole))]
        else:
            for place in rng.integers(len(whole), size=trial % 4 + 1):
                content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            again = storage.load(path)
        except ValueError as error:
            refused += str(path) in str(error)
        else:  # a bit that carries nothing, such as a time stamp
            assert_same(result, again)
            harmless += 1
    assert refused + harmless == 300
    assert refused > 200


def test_nothing_is_imported_or_run_from_a_file(path):
    """A class defined elsewhere is named, and found once it is defined."""
    script = f"""
import sys
import jax.numpy as jnp, vijax as vx
from vijax.data import storage

def define():
    @vx.pytree
    class Mine:
        a: object
    return Mine

if sys.argv[1] == "save":
    storage.save({str(path)!r}, define()(jnp.ones(2)))
else:
    try:
        storage.load({str(path)!r})
    except ValueError as error:
        assert "__main__.define.<locals>.Mine, a class not known here" in str(error), error
    else:
        raise AssertionError
    define()
    assert storage.load({str(path)!r}).a.shape == (2,)
"""
    for step in ("save", "load"):
        subprocess.run([sys.executable, "-c", script, step], check=True)


# -- dtypes ---------------------------------------------------------------------------------------


def test_float64_where_it_is_disabled(path, fitted):
    _, _, result = fitted
    storage.save(path, result)
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match=r"float64.*jax_enable_x64.*dtype=\"float32\""):
            storage.load(path)
        with pytest.raises(ValueError, match="dtype: float64 needs jax_enable_x64"):
            storage.load(path, dtype="float64")
        again = storage.load(path, dtype="float32")
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves(again)}
    assert kinds <= {"float32", "int32", "bool"}

    def shown(fit):  # what fills the traces up is NaN for whoever reads them
        runs = None if fit.runs is None else (fit.runs.elbo, fit.runs.status, fit.runs.elbo_trace)
        return fit.q, fit.elbo, fit.status, fit.n_iter, fit.elbo_trace, runs

    for a, b in zip(jax.tree.leaves(shown(result)), jax.tree.leaves(shown(again)), strict=True):
        np.testing.assert_array_equal(np.asarray(a).astype(b.dtype), b)


def test_conversion(path):
    tree = Box(jnp.asarray([1.5, np.nan, np.inf]), jnp.asarray([1, 2]))
    storage.save(path, tree)
    assert storage.load(path, dtype=jnp.float32).a.dtype == jnp.float32
    assert storage.load(path, dtype=np.dtype("float32")).b.dtype == jnp.int64
    storage.save(path, Box(jnp.asarray([1.5], jnp.float32)))
    assert storage.load(path, dtype=float).a.dtype == jnp.float64
    for dtype in ("int32", "float16", "no dtype", 7):
        with pytest.raises(ValueError, match="dtype: expected float32 or float64"):
            storage.load(path, dtype=dtype)
    storage.save(path, Box(jnp.asarray([1e300])))
    with pytest.raises(ValueError, match="a: has values too large for float32"):
        storage.load(path, dtype="float32")
    storage.save(path, Box(jnp.asarray([2**40])))
    with jax.enable_x64(False), pytest.raises(ValueError, match="a: has values too large for int"):
        storage.load(path, dtype="float32")


# -- the registry ---------------------------------------------------------------------------------


def containers_of_vijax():
    """Every dataclass that a module of the package defines."""
    found = {}
    for module in pkgutil.walk_packages(vx.__path__, "vijax."):
        if not module.name.endswith("__main__"):
            for cls in vars(importlib.import_module(module.name)).values():
                own = isinstance(cls, type) and cls.__module__ == module.name
                if own and "__dataclass_fields__" in vars(cls):
                    found[cls] = full_name(cls)
    return found


def test_names_say_what_a_class_is_and_not_where():
    """`vijax.Result` in whatever module it is, and each name is that of one class."""
    found = containers_of_vijax()
    assert len(found) > 50
    for cls, name in found.items():
        assert name == f"vijax.{cls.__name__}"
    assert len(set(found.values())) == len(found)
    registered = {name: cls for name, cls in REGISTRY.items() if name.startswith("vijax.")}
    assert set(registered.values()) <= set(found)
    assert all(found[cls] == name for name, cls in registered.items())
    # of others the module too, for two packages may well have a class of one name
    assert full_name(Box) == f"{__name__}.Box"
    assert full_name(earlier_and_later()) == f"{__name__}.earlier_and_later.<locals>.Twice"


def test_files_do_not_know_how_the_package_is_divided(path, rng, fitted):
    """Or a file could not be read any more when a class has moved."""
    model, x, result = fitted
    rows = vx.Batch.of({"a": x[:, 0], "b": rng.poisson(3.0, 60)})
    kinds = {"a": "gaussian", "b": "poisson"}
    trees = [
        model,
        result,
        result.q.point(),
        vx.MixedMixture.from_data(rows, 2, kinds),
        vx.StudentTMixture.from_data(x, 2),
        vx.GaussianMixture.from_data(x, 2, covariance="tied"),
        vx.GaussianMixture.from_data(x, 2, weights=vx.DirichletProcess.with_prior(1.0, 1.0, 2)),
        vx.SVI(),
    ]
    storage.save(path, trees)
    with np.load(path) as file:
        kinds = set(re.findall(r'"type": "([^"]*)"', str(file["__vijax__"])))
    assert len(kinds) > 10
    assert all(re.fullmatch(r"vijax\.\w+", kind) for kind in kinds)
    assert {"vijax.Result", "vijax.GaussianMixture", "vijax.NormalWishart"} <= kinds


def test_registry():
    assert REGISTRY["vijax.Result"] is vx.Result
    assert all(name == full_name(cls) for name, cls in REGISTRY.items())
    public = [getattr(vx, name) for name in dir(vx)]
    classes = [c for c in public if isinstance(c, type) and "__dataclass_fields__" in vars(c)]
    host = {vx.Chunks, vx.Report}  # a source of rows, and words about a fit: nothing to store
    assert set(classes) - host <= set(REGISTRY.values())
    assert len(classes) > 10


def test_what_lives_on_the_host_is_refused_by_name(tmp_path):
    report = vx.Report(1, 0.0, 0.0, 0.0, 1, 1, 0.0, 0.0)
    for value in (vx.Chunks.of(np.zeros((3, 1))), report):
        with pytest.raises(TypeError, match=rf"cannot be stored: a .*\.{type(value).__name__};"):
            vx.save(tmp_path / "no.npz", value)
