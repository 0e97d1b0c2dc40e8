"""Every model fits and predicts under each of JAX's debugging settings, and predictions export.

What is compiled is compiled once for all settings. What only concerns tracing is only traced.
"""

import contextlib
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx

STOP = vx.Stop(max_iter=3)
N = 24
RNG = np.random.default_rng(3)
HALF = np.arange(N) % 2
X = RNG.normal(size=(N, 2)) + 6.0 * HALF[:, None]
HOLES = np.where(RNG.random((N, 2)) < 0.2, np.nan, X)
COUNTS = RNG.poisson(2.0 + 8.0 * HALF[:, None], size=(N, 2)).astype(float)
WAITS = RNG.exponential(1.0 + 4.0 * HALF[:, None], size=(N, 2))
FLAGS = RNG.integers(2, size=(N, 2)).astype(float)
CODES = np.concatenate([[[0, 0], [1, 1], [2, 2]], RNG.integers(3, size=(N - 3, 2))]).astype(float)
SHARES = RNG.multinomial(7, [0.2, 0.5, 0.3], size=N).astype(float)
TABLE = {"size": X, "visits": COUNTS[:, 0], "kind": CODES[:, 0]}
KINDS = {"size": "gaussian", "visits": "poisson", "kind": "categorical"}

gaussian = functools.partial(vx.GaussianMixture.from_data, X, 2)
student = functools.partial(vx.StudentTMixture.from_data, X, 2)
sticks = vx.StickBreaking.dirichlet_process(1.0, 2)
process = vx.DirichletProcess.with_prior(2.0, 1.0, 2, truncated=False)
normal = {"mean": 0.5, "kappa": 0.7, "shape": 2.0, "rate": 3.0}

# name: rows, further arguments of Batch.of, and what builds the model
MODELS = {
    "full": (X, {}, gaussian),
    "tied": (X, {}, functools.partial(gaussian, covariance="tied")),
    "diag": (X, {}, functools.partial(gaussian, covariance="diag")),
    "spherical": (X, {}, functools.partial(gaussian, covariance="spherical")),
    "full, missing": (HOLES, {"missing": True}, gaussian),
    "tied, missing": (HOLES, {"missing": True}, functools.partial(gaussian, covariance="tied")),
    "diag, missing": (HOLES, {"missing": True}, functools.partial(gaussian, covariance="diag")),
    "measured": (X, {"noise": np.full_like(X, 0.1)}, gaussian),
    "labels": (X, {"label": np.where(np.arange(N) < 4, HALF, -1)}, gaussian),
    "weights": (X, {"weight": np.where(np.arange(N) < 4, 0.0, 1.0)}, gaussian),
    "k_max": (X, {}, functools.partial(gaussian, k_max=3)),
    "noise": (X, {}, functools.partial(gaussian, noise=True)),
    "noise, missing": (HOLES, {"missing": True}, functools.partial(gaussian, noise=True)),
    "sticks": (X, {}, functools.partial(gaussian, weights=sticks)),
    "process": (X, {}, functools.partial(gaussian, weights=process)),
    "student": (X, {}, student),
    "student, diag": (X, {}, functools.partial(student, covariance="diag")),
    "student, missing": (HOLES, {"missing": True}, student),
    "poisson": (COUNTS, {}, lambda: vx.PoissonMixture.from_data(COUNTS, 2)),
    "exponential": (WAITS, {}, lambda: vx.ExponentialMixture.from_data(WAITS, 2)),
    "bernoulli": (FLAGS, {}, lambda: vx.BernoulliMixture.from_data(FLAGS, 2)),
    "geometric": (COUNTS, {}, lambda: vx.GeometricMixture.from_data(COUNTS, 2)),
    "categorical": (CODES, {}, lambda: vx.CategoricalMixture.from_data(CODES, 2)),
    "multinomial": (SHARES, {}, lambda: vx.MultinomialMixture.from_data(SHARES, 2)),
    "mixed": (TABLE, {}, lambda: vx.MixedMixture.from_data(TABLE, 2, KINDS)),
    "univariate": (X[:, 0], {}, lambda: vx.NormalGammaExact.with_prior(**normal)),
    "factorised": (X[:, 0], {}, lambda: vx.FactorisedGaussian.with_prior(**normal)),
}
# of no kernel, start or density that others have not
LIKE_OTHERS = {
    "tied, missing", "measured", "labels", "weights", "k_max", "noise", "sticks", "student, diag",
    "univariate", "factorised",
}  # fmt: skip
READINGS = ("responsibilities", "predict", "log_likelihood", "log_predictive")


@contextlib.contextmanager
def every_setting():
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.debug_nans(True))
        stack.enter_context(jax.debug_infs(True))
        stack.enter_context(jax.numpy_rank_promotion("raise"))
        stack.enter_context(jax.numpy_dtype_promotion("strict"))
        stack.enter_context(jax.transfer_guard("disallow"))
        yield


def case(name):
    """Rows and model, all arrays of which are on the device; and whether it is a mixture."""
    rows, given, build = MODELS[name]
    batch, model = vx.Batch.of(rows, **given), jax.device_put(build())
    return batch, model, isinstance(model, vx.Mixture)


def readings(model, q, batch):
    whole = vx.Batch.of(batch.x) if batch.noise is not None else batch
    out = {name: getattr(model, name)(q, batch) for name in READINGS[:3]}
    return {**out, "log_predictive": model.log_predictive(q, whole)}


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("name", MODELS)
def test_fits_and_predicts_under_every_setting(key, name):
    batch, model, mixture = case(name)
    rank = jnp.asarray(HALF, jnp.int32) if mixture else None
    with every_setting():
        fit = vx.fit(model, batch, init=rank, stop=STOP)
        found = readings(model, fit.q, batch) if mixture else {}
        trace = fit.elbo_trace
        bound = vx.elbo(model, fit.q, batch)
    np.testing.assert_allclose(fit.elbo, bound, rtol=1e-4, atol=1e-3)
    n = int(fit.n_iter)
    assert np.isfinite(trace[:n]).all()
    assert np.isnan(trace[n:]).all()
    if mixture:
        np.testing.assert_allclose(found["responsibilities"].sum(-1), 1.0, atol=1e-5)
        assert all(np.isfinite(value).all() for value in found.values())


METHODS = {
    "EM": {"method": vx.EM()},
    "SVI": {"method": vx.SVI(batch_size=8)},
    "Memoized": {"method": vx.Memoized()},
    "Accelerated": {"method": vx.Accelerated()},
    "restarts": {"num_restarts": 3, "halving": vx.Halving()},
    "moves": {"moves": vx.Moves()},
}


def trace_only(model, batch, key, **given):
    """Shapes of a random start's fit and its readings: everything is traced, nothing compiled."""

    def fit(model, batch, key):
        fit = vx.fit(model, batch, key=key, stop=STOP, **given)
        if not isinstance(model, vx.Mixture):
            return fit.elbo
        more = (model.sample(fit.q, key, 5), model.sample_parameters(fit.q, key))
        holes = model.impute(fit.q, batch) if batch.mask is not None else ()
        return fit.elbo, readings(model, fit.q, batch), more, holes

    return jax.eval_shape(fit, model, batch, key)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in LIKE_OTHERS])
def test_random_starts_and_draws_promote_no_rank(key, name):
    batch, model, _ = case(name)
    with jax.numpy_rank_promotion("raise"):
        trace_only(model, batch, key)


@pytest.mark.parametrize("method", METHODS)
def test_methods_promote_no_rank_and_leak_no_tracer(key, method):
    batch, model, _ = case("full")
    with jax.numpy_rank_promotion("raise"), jax.checking_leaks():
        trace_only(model, batch, key, **METHODS[method])


@pytest.mark.parametrize("name", ["diag, missing", "noise", "process", "student", "mixed"])
def test_models_leak_no_tracer(key, name):
    batch, model, _ = case(name)
    with jax.checking_leaks():
        trace_only(model, batch, key)


def test_reading_on_the_host_promotes_no_rank(key):
    """Accessors and tables compute outside of programs."""
    with jax.numpy_rank_promotion("raise"):
        for name in ("full", "diag", "noise", "poisson", "categorical"):
            model = MODELS[name][2]()
            model.prior.summary()


def test_a_program_that_makes_nan_is_still_found():
    """The settings must find what they are for: rows whose squares overflow."""
    model = jax.device_put(gaussian())
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        vx.fit(model, vx.Batch.of(X * 1e200), init=jnp.asarray(HALF, jnp.int32), stop=STOP)


# -- export ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MODELS if name not in LIKE_OTHERS])
def test_predictions_export_for_any_number_of_rows(name):
    rows, given, build = MODELS[name]
    model = build()
    (n,) = jax.export.symbolic_shape("n")
    sizes = jax.tree.map(lambda a: jax.ShapeDtypeStruct((n, *a.shape[1:]), a.dtype), rows)

    def read(rows):
        batch = vx.Batch.of(rows, **given)
        return {reading: getattr(model, reading)(model.prior, batch) for reading in READINGS}

    program = jax.export.export(jax.jit(read))(sizes)
    assert {a.shape for a in program.out_avals} == {(n,), (n, model.num_components)}
    if name not in ("full", "diag, missing", "mixed", "student"):
        return  # compiling each would cost more than it tells
    for size in (3, N):
        part = jax.tree.map(operator.itemgetter(slice(size)), rows)
        found, expected = program.call(part), read(part)
        for reading in READINGS:
            np.testing.assert_allclose(found[reading], expected[reading], rtol=1e-9, atol=1e-9)
