"""Fits lower for accelerators, by the paths that are meant for those; where rows lie decides."""

import dataclasses
import inspect
import re
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax.data import host

N, K, RESTARTS = 97, 3, 5
MANY = 20_011  # more than two chunks on a CPU
KEY = jax.random.key(0)
ACCELERATORS = {"cuda": "gpu", "tpu": "tpu"}  # what JAX calls the devices

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(N, 2))
COUNTS = RNG.poisson(3.0, size=(N, 2)).astype(float)
FLAGS = (COUNTS > 2).astype(float)
TABLE = {"width": ROWS, "visits": COUNTS[:, 0]}
SEQUENCES = vx.Batch.sequences(ROWS[:96].reshape(16, 6, 2))
HOLES = vx.Batch.of(np.where(RNG.random((N, 2)) < 0.1, np.nan, ROWS), missing=True)


def gaussian(x, **options):
    return vx.GaussianMixture.from_data(x, K, **options)


def exact(kind):
    return kind.with_prior(mean=0.0, kappa=1.0, shape=1.0, rate=1.0)


def log_prior(params):
    return -0.5 * jnp.sum(params["a"] ** 2)


def log_lik(params, rows):
    return -0.5 * jnp.sum((rows - params["a"][None]) ** 2, -1)


def energy(m, rows, weight):
    square = -2.0 * rows @ m["a"]["x"] + jnp.trace(m["a"]["xx"])
    return -0.5 * jnp.sum(weight * (square + jnp.sum(rows**2, -1)))


MODELS = {
    **{f"gaussian, {c}": (gaussian(ROWS, covariance=c), ROWS) for c in ("full", "tied", "diag")},
    "gaussian, spherical": (gaussian(ROWS, covariance="spherical", noise=True), ROWS),
    "gaussian, holes": (gaussian(HOLES), HOLES),
    "gaussian, sticks": (
        gaussian(ROWS, weights=vx.DirichletProcess.with_prior(1.0, 1.0, K)),
        ROWS,
    ),
    "student": (vx.StudentTMixture.from_data(ROWS, K), ROWS),
    "bernoulli": (vx.BernoulliMixture.from_data(FLAGS, K), FLAGS),
    "categorical": (vx.CategoricalMixture.from_data(FLAGS, K), FLAGS),
    "exponential": (vx.ExponentialMixture.from_data(COUNTS + 1.0, K), COUNTS + 1.0),
    "multinomial": (vx.MultinomialMixture.from_data(COUNTS + 1.0, K), COUNTS + 1.0),
    "geometric": (vx.GeometricMixture.from_data(COUNTS + 1.0, K), COUNTS + 1.0),
    "poisson": (vx.PoissonMixture.from_data(COUNTS, K), COUNTS),
    "mixed": (
        vx.MixedMixture.from_data(TABLE, K, {"width": "gaussian", "visits": "poisson"}),
        TABLE,
    ),
    "hmm": (vx.HMM.from_data(SEQUENCES, K), SEQUENCES),
    "hmm mixture": (vx.HMMMixture.from_data(SEQUENCES, 2, K), SEQUENCES),
    "sequences": (vx.SequenceMixture.from_data(SEQUENCES, K), SEQUENCES),
    "mixed membership": (vx.MixedMembership.from_data(SEQUENCES, K), SEQUENCES),
    "topics": (vx.LDA.from_data(COUNTS + 1.0, K), COUNTS + 1.0),
    "log density": (vx.LogDensity(log_prior, log_lik, like={"a": np.zeros(2)}), ROWS),
    "energy": (vx.Energy({"a": vx.factor.normal((), 2)}, energy), ROWS),
    "one gaussian": (exact(vx.NormalGammaExact), ROWS[:, 0]),
    "one gaussian, factorised": (exact(vx.FactorisedGaussian), ROWS[:, 0]),
}


def on(platform, x):
    """The rows as if they were there."""
    return dataclasses.replace(vx.Batch.of(x), platform=platform)


def unasked():
    """Where rows are known to lie, nothing asks what JAX runs on here."""
    return mock.patch.object(jax, "default_backend", side_effect=AssertionError("was asked"))


def lowers(fit, *args, to=("cuda", "tpu")):
    with unasked():
        found = jax.export.export(jax.jit(fit), platforms=to)(*args)
    assert found.platforms == tuple(to)
    assert "stablehlo.while" in found.mlir_module()


def shapes(fit, *args):
    """Those of all floating-point arrays of the program, and its text."""
    with unasked():
        text = str(jax.make_jaxpr(fit)(*args))
    found = re.findall(r"\bf(?:32|64)\[(\d+(?:,\d+)*)\]", text)
    return {tuple(map(int, shape.split(","))) for shape in found}, text


def test_no_model_is_left_out():
    known = {type(model) for model, _ in MODELS.values()} | {vx.Mixture}
    public = [getattr(vx, name) for name in vx.__all__]
    kinds = [kind for kind in public if inspect.isclass(kind)]
    assert {k for k in kinds if issubclass(k, vx.Model) and not inspect.isabstract(k)} == known


@pytest.mark.parametrize("name", MODELS)
def test_every_model_lowers(name):
    model, x = MODELS[name]
    lowers(lambda model, rows: vx.fit(model, rows, key=KEY), model, on("gpu", x))


METHODS = {
    "EM": {"method": vx.EM()},
    "SVI": {"method": vx.SVI(20)},
    "Memoized": {"method": vx.Memoized(3)},
    "Accelerated": {"method": vx.Accelerated()},
    "Moves": {"moves": vx.Moves(), "num_restarts": 2},
    "Halving": {"halving": vx.Halving(5), "num_restarts": 4},
    "Annealed": {"init": vx.Annealed()},
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_lowers(name):
    def fit(model, rows):
        return vx.fit(model, rows, key=KEY, **METHODS[name])

    lowers(fit, gaussian(ROWS), on("gpu", ROWS))


@pytest.mark.parametrize("to", ACCELERATORS)
def test_an_accelerator_takes_all_restarts_at_once(to):
    def fit(model, rows):
        return vx.fit(model, rows, key=KEY, num_restarts=RESTARTS)

    def together(platform):
        found, text = shapes(fit, gaussian(ROWS), on(platform, ROWS))
        return any({RESTARTS, N} <= set(shape) for shape in found), f"length={RESTARTS}" in text

    assert together(ACCELERATORS[to]) == (True, False)  # by vmap, and by no loop
    assert not together("cpu")[0]
    lowers(fit, gaussian(ROWS), on(ACCELERATORS[to], ROWS), to=[to])


@pytest.mark.parametrize("to", ACCELERATORS)
@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_an_accelerator_takes_all_rows_at_once(to, covariance):
    x = np.tile(ROWS, (MANY // N + 1, 1))[:MANY]
    labels = jnp.arange(MANY) % K

    def fit(model, rows):
        return vx.fit(model, rows, init=labels)

    def whole(platform):
        found, _ = shapes(fit, gaussian(x, covariance=covariance), on(platform, x))
        return any({MANY, K} <= set(shape) for shape in found)

    assert whole(ACCELERATORS[to])
    assert not whole("cpu")  # in chunks
    lowers(fit, gaussian(x, covariance=covariance), on(ACCELERATORS[to], x), to=[to])


@pytest.mark.parametrize("to", ACCELERATORS)
def test_an_accelerator_takes_all_data_sets_at_once(to):
    def fit(model, sets):
        return vx.fit_many(model, sets, key=KEY, num_restarts=2)

    x = jnp.asarray(np.stack([ROWS + float(shift) for shift in range(5)]))

    def together(platform):
        sets = vx.Batch(x, jnp.ones(x.shape[:2]), platform=platform)
        found, _ = shapes(fit, gaussian(ROWS), sets)
        return any({10, N} <= set(shape) for shape in found), sets

    at_once, sets = together(ACCELERATORS[to])
    assert at_once
    lowers(fit, gaussian(ROWS), sets, to=[to])
    assert not together("cpu")[0]


def test_a_batch_knows_where_it_is(monkeypatch):
    last = jax.devices()[-1]
    monkeypatch.setattr(host, "_LARGEST_FETCH", 0)  # what is large stays where it is
    there = vx.Batch.of(jax.device_put(ROWS, last))
    assert there.platform == "cpu"
    assert there.x.devices() == {last}
    assert vx.Batch.of(there).platform == "cpu"
    # what is on the host goes to the device that JAX is told to take
    for name, device in {"tpu": "tpu", "gpu": "gpu", "cpu": last}.items():
        with jax.default_device(device), unasked():
            assert vx.Batch.for_jit(ROWS).platform == name


def test_a_fit_follows_the_default_device():
    model = exact(vx.NormalGammaExact)
    for device in jax.devices()[1:3]:
        with jax.default_device(device):
            assert vx.Batch.of(ROWS).x.devices() == {device}
            fit = vx.fit(model, ROWS[:, 0])
            many = vx.fit_many(model, ROWS.T, devices=[device])
        assert fit.elbo.devices() == many.elbo.devices() == {device}


def test_only_one_module_asks_what_jax_runs_on():
    root = Path(vx.__file__).parent
    asking = [path.name for path in root.rglob("*.py") if "default_backend" in path.read_text()]
    assert asking == ["shards.py"]
