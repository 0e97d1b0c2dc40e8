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
    "tied, missing", "measured", "labels", "weights", "k_max", "noise", "noise, missing", "sticks",
    "student, diag", "exponential", "geometric", "univariate", "factorised",
}  # fmt: skip
# one of each kind, as the settings ask little of the precision
IN_FLOAT64 = {"full", "diag, missing", "process", "student, missing", "mixed", "factorised"}
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
    if jax.config.jax_enable_x64 and name not in IN_FLOAT64:
        pytest.skip("tried in float32")
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


# -- the other drivers ----------------------------------------------------------------------------


def pieces(batch, *ends):
    return [batch.map_rows(lambda a, end=end: a[:end]) for end in ends]


@pytest.mark.parametrize("name", ["full", "diag, missing"])
def test_many_fits_under_every_setting(key, name):
    batch, model, _ = case(name)
    ragged = pieces(batch, N, 17)
    stacked = jax.tree.map(lambda a: jnp.stack([a, a]), batch)
    with every_setting():
        for datasets in (stacked, ragged):
            fits = vx.fit_many(model, datasets, key=key, stop=STOP)
            told = [str(fits), fits.summary(), fits.summary(0), fits._repr_html_()]
            counts = [fits.agreeing, fits.usable, fits.converged, fits[:1].elbo, fits[1].elbo]
            labels = fits.predict(datasets)
            resp = fits.responsibilities(datasets)
            table = fits.to_frame()
            if batch.mask is not None:
                fits.impute(datasets)
    assert all(told)
    assert np.isfinite(fits.elbo).all()
    assert np.isfinite(counts[-1])
    assert [len(own) for own in labels] == [N, 17]
    np.testing.assert_array_equal(np.argmax(resp[1], -1), labels[1])
    assert len(table["weight"]) == 2 * model.num_components


def test_chunks_and_streams_under_every_setting(key):
    batch, model, _ = case("diag")
    blocks = [jax.device_get(part.x) for part in pieces(batch, 10, 14)]
    with every_setting():
        whole = vx.Chunks.of(batch.x, chunk=10)
        for chunks in (whole, vx.Chunks.of(blocks, chunk=8)):
            fit = vx.fit(model, chunks, key=key, stop=STOP)
            assert np.isfinite(fit.elbo)
        stream = vx.Streaming(model, forget=0.9)
        for _ in range(2):
            stream = stream.update(batch, key=key, stop=STOP)
        total, bound = stream.total, stream.elbo
    assert np.isfinite([total, bound]).all()
    assert int(stream.num_batches) == 2


@pytest.mark.parametrize("name", ["k_max", "sticks"])
def test_components_that_are_off_under_every_setting(key, name):
    """The log of their weight is -inf, which is no fault."""
    batch, model, _ = case(name)
    with every_setting():
        fit = vx.fit(model, vx.Chunks.of(batch.x, chunk=10), key=key, stop=STOP)
        told = [fit.summary(), fit.q._repr_html_(), fit.q.summary(point=True), fit.q.table()]
    assert np.isfinite(fit.elbo)
    assert all(told)


def test_selection_under_every_setting(key):
    batch, _, _ = case("full")
    with every_setting():
        for method, criterion in ((vx.CAVI(), "elbo"), (vx.EM(), "bic")):
            settings = {"method": method, "criterion": criterion, "stop": STOP}
            found = vx.select_num_components(batch, [1, 2], key=key, **settings)
            assert "best: " in found.summary()
            assert np.isfinite(found.result(2).elbo)


def test_what_is_read_off_a_fit_under_every_setting(key):
    batch, model, _ = case("full")
    plain = jax.device_put(vx.Mixture(model.weights, model.components))  # without a switch
    labels = jnp.asarray(HALF, jnp.int32)
    with every_setting():
        fit = vx.fit(plain, batch, init=labels, stop=STOP)
        terms = vx.elbo_terms(plain, fit, batch)
        states = vx.trajectory(plain, batch, num_iters=2, key=key)
        labels = plain.predict(fit, batch)
        draws = plain.sample(fit, key, 3), model.sample_parameters(fit, key, (2,))
        density = model.density(fit).log_prob(batch)
        told = [repr(plain), repr(fit.q), fit._repr_html_(), fit.summary(), fit.q.table()]
        ordered = vx.align(vx.relabel(vx.prune(fit, 0.0)), fit)
        reports = []
        vx.fit(plain, batch, key=key, stop=STOP, callback=reports.append)
    np.testing.assert_allclose(sum(terms.values()), fit.elbo, rtol=1e-6)
    np.testing.assert_array_equal(model.predict(ordered, batch), labels)
    assert np.isfinite(states.elbo).all()
    assert np.isfinite(density).all()
    assert draws[1]["means"].shape == (2, 2, 2)
    assert all(told)
    assert reports


def test_normals_are_read_under_every_setting():
    for name in ("univariate", "factorised"):
        batch, model, _ = case(name)
        with every_setting():
            fit = vx.fit(model, batch, stop=STOP)
            assert "precision" in fit.summary()
            assert "precision" in fit._repr_html_()
            if name == "univariate":
                evidence = model.log_evidence(batch)
                np.testing.assert_allclose(evidence, fit.elbo, rtol=1e-6)


def test_models_are_built_under_every_setting():
    with every_setting():
        for _, _, build in MODELS.values():
            assert repr(build())


def read_density(model, key):
    out = []
    for known in (model.prior, model.prior.point()):
        density = model.density(known)
        rows = density.sample(key, 5)
        out += [density.mean, density.covariance, density.log_prob(rows)]
        out += [density.marginal([1]).log_prob(rows[:, 1:])]
        out += [density.conditional([0], [1.0]).log_prob(rows[:, 1:])]
    return out


@pytest.mark.parametrize("name", ["full", "tied", "diag", "spherical", "process"])
def test_densities_promote_no_rank(key, name):
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(read_density, case(name)[1], key)


FLAT = {
    "full": (X, lambda: vx.GaussianMixture.flat(2, 2)),
    "tied": (X, lambda: vx.GaussianMixture.flat(2, 2, covariance="tied")),
    "diag": (X, lambda: vx.GaussianMixture.flat(2, 2, covariance="diag")),
    "spherical": (X, lambda: vx.GaussianMixture.flat(2, 2, covariance="spherical")),
    "student": (X, lambda: vx.StudentTMixture.flat(2, 2)),
    "poisson": (COUNTS, lambda: vx.PoissonMixture.flat(2, 2)),
    "exponential": (WAITS, lambda: vx.ExponentialMixture.flat(2, 2)),
    "bernoulli": (FLAGS, lambda: vx.BernoulliMixture.flat(2, 2)),
    "geometric": (COUNTS, lambda: vx.GeometricMixture.flat(2, 2)),
}


@pytest.mark.parametrize("name", FLAT)
def test_maximum_likelihood_promotes_no_rank(key, name):
    rows, build = FLAT[name]
    with jax.numpy_rank_promotion("raise"):
        trace_only(build(), vx.Batch.of(rows), key, method=vx.EM())


@pytest.mark.parametrize("name", [name for name in MODELS if name not in LIKE_OTHERS])
def test_moves_terms_and_blocks_promote_no_rank(key, name):
    batch, model, _ = case(name)
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(model.elbo_terms, model.prior, batch)
        if isinstance(model, vx.Mixture):
            jax.eval_shape(lambda q: q.log_prob(q.sample(key, (3,))), model.prior)
            jax.eval_shape(lambda q: (vx.relabel(q), q.table(), q.point().table()), model.prior)
        options = {"moves": vx.Moves()}, {"method": vx.Memoized()}, {"method": vx.SVI(batch_size=8)}
        for given in options:
            jax.eval_shape(
                lambda model, given=given: vx.fit(model, batch, key=key, stop=STOP, **given), model
            )


@pytest.mark.parametrize("name", [name for name in MODELS if name not in LIKE_OTHERS])
def test_programs_may_close_over_rows_on_the_device(key, name):
    """What is computed of them while tracing is no tracer: they are checked as outside."""
    batch, model, _ = case(name)

    def work(key, model):
        fit = vx.fit(model, batch, key=key, init=jnp.asarray(HALF), stop=STOP)
        built = type(model).from_data(batch, 2) if name not in ("mixed", "process") else model
        return fit.elbo, readings(model, fit.q, batch), built

    jax.eval_shape(work, key, model)
    worse = vx._pytree.replace(
        batch, x=jax.tree.map(lambda a: a.at[0].set(jnp.inf), batch.x), mask=None
    )
    with pytest.raises(ValueError, match=r"infinite entries, the first in row 0"):
        jax.eval_shape(lambda key: vx.fit(model, worse, key=key, stop=STOP), key)


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
