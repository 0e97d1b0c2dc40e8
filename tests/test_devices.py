"""Rows and fits over several devices and processes give what one device gives."""

import os
import re
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import vijax as vx
from vijax.data import host
from vijax.infer import fit as driver
from vijax.infer.arguments import prepare
from vijax.infer.initialise import Job, Start

from . import sharded_rows as given
from .haste import xla_flags

METHOD = vx.CAVI(chunk=given.CHUNK)
EXACT = 1e-10 if jax.config.jax_enable_x64 else 1e-6
KEY = jax.random.key(given.KEY)


def mesh_of(kind, names=("rows",), shape=(4,)):
    devices = np.array(jax.devices("cpu")[:4]).reshape(shape)
    return Mesh(devices, names, axis_types=(kind,) * len(names))


def same(fit, whole, tol=EXACT):
    """What two results say, against the size of its largest entry."""

    def said(result):
        moments = result.q.components.moments()
        weights = result.q.weights.mean
        runs = result.runs
        return [runs.elbo, runs.elbo_trace, weights, moments.mean, moments.covariance]

    np.testing.assert_array_equal(fit.runs.n_iter, whole.runs.n_iter)
    np.testing.assert_array_equal(fit.statuses, whole.statuses)
    for a, b in zip(said(fit), said(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tol * np.nanmax(np.abs(b)))


def fitted(name, put=lambda a: a):
    """From each kind of start; from two at once where they are random labels."""
    x, weight, seen = put(given.rows()), put(given.weights()), put(given.seen())
    if name == "full":
        data, start = x, {"key": KEY}
    elif name == "sticks":
        data, start = vx.Batch.of(x, weight), {"key": KEY, "init": "random", "num_restarts": 2}
    else:
        data, start = vx.Batch.of(x, weight, mask=seen), {"init": np.arange(len(x)) % 4}
    return vx.fit(getattr(given, name)(data), data, method=METHOD, **start)


@pytest.mark.parametrize(
    "name", [pytest.param("full", marks=pytest.mark.float32(hasty=True)), "diag", "sticks"]
)
def test_rows_over_four_devices(name):
    whole = fitted(name)
    for kind in (AxisType.Auto, AxisType.Explicit):
        spread = NamedSharding(mesh_of(kind), P("rows"))
        fit = fitted(name, partial(jax.device_put, device=spread))
        same(fit, whole)
        assert fit.elbo.is_fully_replicated


@pytest.fixture
def on_rows():
    return NamedSharding(mesh_of(AxisType.Auto), P("rows"))


def test_no_row_travels_while_a_fit_runs(on_rows):
    """The compiled program sums statistics over devices, and gathers nothing."""
    x = jax.device_put(given.rows(), on_rows)
    model, batch, method, stop, _ = prepare(given.full(x), x, METHOD, vx.Stop())
    start = Start("q", model.init(KEY, vx.Batch.of(given.rows())))
    job = Job(model, batch, None, start, method, stop)
    # neither moves, nor halving, nor a reporter
    lowered = driver._fit.lower(job, None, None, None, num_restarts=1)
    text = lowered.compile().as_text()
    assert "all-reduce(" in text
    assert not re.findall(r"(?:all-gather|all-to-all|collective-permute)\(.*", text)
    # and it scans over chunks: no array of a device's 32 rows and 4 components
    assert not re.findall(r"f64\[(?:32,4|4,32)[],]", text)


def test_rows_that_do_not_divide_are_padded():
    x, weight, seen = given.rows()[:121], given.weights()[:121], given.seen()[:121]
    label = np.where(np.arange(121) % 7 == 0, 2, -1)
    whole = vx.Batch.of(x, weight, mask=seen, label=label)
    model = given.full(whole)
    q = model.init(KEY, whole)
    expected = vx.elbo(model, q, whole)
    grid = mesh_of(AxisType.Explicit, ("a", "b"), (2, 2))
    for mesh, axis, size in (
        (mesh_of(AxisType.Auto), None, 124),
        (grid, "b", 122),
        (grid, ("a", "b"), 124),
    ):
        batch = vx.shard_rows(x, mesh, axis, weight=weight, mask=seen, label=label)
        assert batch.x.shape == (size, 2)
        assert float(batch.weight.sum()) == pytest.approx(float(whole.weight.sum()))
        for leaf in (batch.x, batch.weight, batch.mask, batch.label, batch.group):
            assert leaf.sharding.spec == batch.sharding.spec
            assert leaf.addressable_shards[0].data.shape[0] < size
        assert batch.patterns.is_fully_replicated
    np.testing.assert_allclose(vx.elbo(model, q, batch), expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"axis: 'c' is none of the mesh's, \('a', 'b'\)"):
        vx.shard_rows(x, grid, "c")


def test_every_part_is_put_beside_the_rows(on_rows):
    """Also where only one of them came spread, and in a frame's columns."""
    x, weight = given.rows(), given.weights()
    spread = jax.device_put(weight, on_rows)
    batch = vx.Batch.of({"a": x, "b": x[:, 0]}, spread)
    assert batch.sharding == on_rows
    for leaf in jax.tree.leaves(batch):
        assert leaf.sharding.spec == on_rows.spec
    assert batch.column("b").sharding == on_rows
    assert batch.take(jnp.arange(3)).sharding is None
    assert vx.Batch.of(x).sharding is None
    noise = vx.Batch.of(jax.device_put(x, on_rows), noise=np.ones((128, 2))).noise
    assert noise.addressable_shards[0].data.shape == (32, 2, 2)


def test_under_a_mesh_that_is_set():
    """With Explicit axes, the default of `jax.make_mesh`; results come back on it."""
    x, mesh = given.rows(), mesh_of(AxisType.Explicit)
    model = given.full(x)
    q = model.init(KEY, vx.Batch.of(x))
    expected = vx.elbo(model, q, x)
    with jax.set_mesh(mesh):
        spread = jax.device_put(x, NamedSharding(mesh, P("rows")))
        for data in (spread, vx.shard_rows(x, mesh)):
            bound = vx.elbo(given.full(data), q, data)
            assert bound.sharding.mesh == mesh
            np.testing.assert_allclose(bound + 0.0, expected, rtol=1e-12)
        refused = r"data: inside of jit, an array is spread over the Explicit axis 'rows'; call"
        with pytest.raises(ValueError, match=refused):
            jax.jit(lambda x: vx.elbo(model, q, x))(spread)
        with pytest.raises(ValueError, match=refused):
            jax.jit(vx.over_devices(lambda x: x))(spread)


def test_values_that_cannot_be_fetched_are_checked_where_they_are(on_rows, monkeypatch):
    """As in a process that holds some of the rows: what is looked at is reduced first."""

    def only_numbers(value):
        return not isinstance(value, jax.Array) or value.is_fully_replicated

    monkeypatch.setattr(host, "_addressable", only_numbers)
    x, n = jax.device_put(given.rows(), on_rows), 128

    def put(value):
        return jax.device_put(value, on_rows)

    model = vx.GaussianMixture.from_data(given.rows(), 4)
    counts = vx.PoissonMixture.from_data(np.ones((4, 2)), 4)
    hole = given.rows()
    hole[100, 1] = np.nan
    negative = np.where(np.arange(n) == 99, -1.0, 1.0)
    skew = np.tile([[1.0, 2.0], [2.0, 1.0]], (n, 1, 1))
    cases = [
        (lambda: vx.Batch.of(put(hole)), r"x: 1 NaN and 0 infinite .* in row 100, column 1"),
        (lambda: vx.Batch.of(x, put(negative)), "weight: must be >= 0"),
        (lambda: vx.Batch.of(x, put(negative * np.inf)), "weight: must be finite"),
        (lambda: vx.Batch.of(x, noise=put(skew)), "noise: .* no negative eigenvalue; row 0 is"),
        (lambda: vx.Batch.of(x, label=put(np.arange(n) - 5)), "label: .* got -5"),
        (
            lambda: vx.fit(model, vx.Batch.of(x, label=put(np.arange(n)))),
            "label: 4 in row 4, but the components are 0, 1, 2, 3",
        ),
        (lambda: vx.fit(model, x, init=put(np.arange(n) % 5)), "init: labels .* found 4"),
        (lambda: vx.fit(model, x, init=put(np.full((n, 4), 0.3))), "init: .* row 0 sums to 1.2"),
        (lambda: vx.fit(counts, x, key=KEY), "x: column 0 takes counts"),
    ]
    for bad, match in cases:
        with pytest.raises(ValueError, match=match):
            bad()
    mask = put(given.seen())
    there = vx.Batch.of(x, put(given.weights()), mask=mask)
    assert there.group is None  # patterns would have to be fetched
    here = given.full(vx.Batch.of(given.rows(), given.weights(), mask=given.seen()))
    for a, b in zip(jax.tree.leaves(given.full(there)), jax.tree.leaves(here), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_data_sets_over_devices():
    """Each device fits its share; a number that does not divide is padded."""
    x = np.random.default_rng(8).normal(size=(6, 16)) * np.arange(1, 7)[:, None]
    keys = jax.random.split(KEY, 6)
    model = vx.FactorisedGaussian.with_prior(mean=0.0, kappa=1.0, shape=1.0, rate=1.0)

    def fit_one(x, key):
        return vx.fit(model, x + jax.random.normal(key), stop=vx.Stop(tol=1e-9))

    whole = jax.jit(jax.vmap(fit_one))(x, keys)
    shared = jax.jit(vx.over_devices(jax.vmap(fit_one)))(x, keys)
    two = Mesh(np.array(jax.devices()[:2]), ("sets",), axis_types=(AxisType.Auto,))
    there = jax.device_put(x, NamedSharding(two, P("sets")))
    spread = jax.jit(jax.vmap(fit_one))(there, keys)
    assert len(shared.elbo.sharding.device_set) == 4
    assert len(spread.elbo.sharding.device_set) == 2
    for fits in (shared, spread):
        np.testing.assert_array_equal(fits.n_iter, whole.n_iter)
        np.testing.assert_allclose(fits.elbo, whole.elbo, rtol=1e-10)
    one = vx.over_devices(lambda a: a + 1, jax.devices()[:1])
    np.testing.assert_array_equal(one(jnp.arange(3)), [1, 2, 3])


@pytest.mark.float32(hasty=True)
def test_two_processes(tmp_path):
    """Each with half of the rows and two devices, through jax.distributed over loopback."""
    x, weight = given.rows(), given.weights()
    model = given.full(x)
    whole = vx.fit(model, x, key=KEY, method=METHOD)
    bound = vx.elbo(model, whole, vx.Batch.of(x, weight), method=METHOD)
    leaves, structure = jax.tree.flatten(whole)
    for found in run_two(tmp_path):
        fit = [jnp.asarray(next(found)) for _ in leaves]
        same(jax.tree.unflatten(structure, fit), whole)
        np.testing.assert_allclose(next(found), bound, rtol=EXACT)
        # the labels of a process's own rows, from a fit that is whole in each
        assert next(found) == 1


def run_two(folder, limit=240.0):
    """What each process of `two_processes` wrote; none outlives this."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {} if "XLA_FLAGS" in os.environ else os.environ | {"XLA_FLAGS": xla_flags()}
    env |= {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    running, logs = [], []
    try:
        for own in range(2):
            logs.append(folder / f"{own}.log")
            command = [sys.executable, "-m", "tests.two_processes", str(port), str(own)]
            with logs[own].open("w") as log:
                running.append(
                    subprocess.Popen(
                        [*command, str(folder / f"{own}.npz")],
                        cwd=Path(__file__).parents[1],
                        env=env,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )
        deadline = time.monotonic() + limit
        # if one fails, the other would wait for it
        while any(p.poll() is None for p in running) and not any(p.poll() for p in running):
            assert time.monotonic() < deadline, "\n".join(log.read_text() for log in logs)
            time.sleep(0.05)
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert not any(p.returncode for p in running), "\n".join(log.read_text() for log in logs)
    found = [np.load(folder / f"{own}.npz") for own in range(2)]
    return [iter([saved[name] for name in saved.files]) for saved in found]


def test_the_example_of_the_page(monkeypatch):
    """But for the fit itself, which takes long to compile."""
    page = (Path(__file__).parents[1] / "docs" / "devices.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for block in blocks:
        compile(block, "devices.md", "exec")

    def begun(model, rows, key, num_restarts):
        assert rows.sharding is not None
        zero = jnp.asarray(0)
        return vx.Result(model.prior, zero / 1.0, zero + 1, zero, zero / jnp.ones(1))

    monkeypatch.setattr(vx, "fit", begun)
    scope = {}
    exec(blocks[0], scope)
    assert scope["labels"].shape == (500,)
