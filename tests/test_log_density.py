"""`LogDensity` and `TransformedNormal`: forms of parameters, bad input, densities, files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.scipy import stats

import vijax as vx
from vijax.guides.space import Space

C = vx.constraints


def scale_density(params):
    """Gamma(3, 2), which is log-normal enough to be fitted."""
    return stats.gamma.logpdf(params["scale"], 3.0, scale=0.5)


SCALE = vx.LogDensity(scale_density, like={"scale": 1.0}, constraints={"scale": C.Positive()})


def square(params, rows):
    return -((rows - params["a"]) ** 2)


def flat(params):
    return jnp.zeros(()) * params["a"]


@pytest.fixture(scope="module")
def nested():
    like = [{"x": np.zeros(2)}, (np.ones(3), 0.5), None]
    constraints = [None, (C.Simplex(), C.Interval(0.0, 2.0)), None]
    return Space.of(like, constraints)


def test_parameters_of_any_form_go_there_and_back(nested, rng):
    u = jnp.asarray(rng.normal(size=nested.size))
    params, _ = nested.constrain(u)
    assert nested.size == 2 + 2 + 1
    assert jax.tree.map(jnp.shape, params) == [{"x": (2,)}, ((3,), ()), None]
    np.testing.assert_allclose(nested.unconstrain(params), u, atol=1e-12)
    assert nested.names == ["0.x", "1.0", "1.1"]
    assert nested.labels == ["0.x[0]", "0.x[1]", "1.0[0]", "1.0[1]", "1.0[2]", "1.1"]


def test_log_det_is_that_of_all_parameters(nested, rng):
    u = jnp.asarray(rng.normal(size=nested.size))

    def free(u):
        first, (weights, half), _ = nested.constrain(u)[0]
        return jnp.concatenate([first["x"], weights[:-1], half[None]])

    expected = np.linalg.slogdet(jax.jacobian(free)(u))[1]
    np.testing.assert_allclose(nested.constrain(u)[1], expected, rtol=1e-12)


def test_a_log_normal_is_fitted_exactly():
    def log_normal(params):
        z = jnp.log(params["scale"])
        return stats.norm.logpdf(z, 1.0, 0.5) - z

    model = vx.LogDensity(log_normal, like={"scale": 1.0}, constraints={"scale": C.Positive()})
    q = vx.fit(model).check().q
    known = scipy.stats.lognorm(0.5, scale=np.e)
    levels = (0.05, 0.5, 0.95)
    np.testing.assert_allclose(q.quantiles(levels)["scale"], known.ppf(levels), rtol=1e-9)
    np.testing.assert_allclose(q.median["scale"], np.e, rtol=1e-9)
    for value in (0.3, 2.0, 9.0):
        np.testing.assert_allclose(q.log_prob({"scale": value}), known.logpdf(value), rtol=1e-9)
    draws = q.sample(jax.random.key(0), (40, 100))["scale"]
    assert draws.shape == (40, 100)
    assert scipy.stats.kstest(np.ravel(draws), known.cdf).pvalue > 1e-3
    assert "scale" in q.summary()
    assert q.entropy() == pytest.approx(scipy.stats.norm(0, 0.5).entropy())


def test_log_prob_is_a_density():
    q = vx.fit(SCALE).q
    grid = np.geomspace(1e-3, 60.0, 2001)
    values = np.exp(jax.vmap(lambda v: q.log_prob({"scale": v}))(jnp.asarray(grid)))
    np.testing.assert_allclose(np.trapezoid(values, grid), 1.0, rtol=1e-4)


def test_low_rank_densities_are_those_of_scipy(rng):
    model = vx.LogDensity(
        scale_density, like={"scale": 1.0, "b": np.zeros(3)}, covariance=("low_rank", 2)
    )
    q = model.template
    root = type(q.root)(jnp.asarray(rng.random(4) + 0.5), jnp.asarray(rng.normal(size=(4, 2))))
    q = type(q)(jnp.asarray(rng.normal(size=4)), root, q.space)
    known = scipy.stats.multivariate_normal(q.location, q.covariance)
    u = rng.normal(size=(5, 4))
    np.testing.assert_allclose(q.log_density(jnp.asarray(u)), known.logpdf(u), rtol=1e-10)
    np.testing.assert_allclose(q.root.sd**2, np.diagonal(q.covariance), rtol=1e-12)


def test_a_fit_is_stored_with_its_space(tmp_path, nested):
    result = vx.fit(SCALE)
    vx.save(tmp_path / "fit.npz", result)
    loaded = vx.load(tmp_path / "fit.npz")
    assert jax.tree.structure(loaded) == jax.tree.structure(result)
    np.testing.assert_array_equal(loaded.q.location, result.q.location)
    again = vx.fit(SCALE, init=loaded)
    assert again.n_iter <= 5
    vx.save(tmp_path / "space.npz", nested)
    assert jax.tree.structure(vx.load(tmp_path / "space.npz")) == jax.tree.structure(nested)


def test_starts_are_parameters_a_q_or_a_result():
    result = vx.fit(SCALE)
    for init in (result, result.q, {"scale": 1.3}):
        np.testing.assert_allclose(vx.fit(SCALE, init=init).elbo, result.elbo, atol=2e-3)
    np.testing.assert_allclose(vx.elbo(SCALE, result), result.elbo, rtol=1e-12)
    assert SCALE.start_at({"scale": 1.3}).median["scale"] == pytest.approx(1.3)


def test_reports_and_iterates():
    seen = []
    result = vx.fit(SCALE, callback=lambda report: seen.append(report))
    assert seen
    trace = vx.trajectory(SCALE, num_iters=4).elbo
    np.testing.assert_allclose(trace, result.elbo_trace[:4], rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: vx.LogDensity(3, like=0.0), "log_prior: expected a function"),
        (lambda: vx.LogDensity(flat, like={}), "like: has no parameters"),
        (lambda: vx.LogDensity(flat, like={"a": 1j}), "like: a is complex"),
        (lambda: vx.LogDensity(flat, like={"a": "x"}), "like: a is 'x'"),
        (lambda: vx.LogDensity(flat, like={"a": True}), "like: a is True"),
        (
            lambda: vx.LogDensity(flat, like={"a": 0.0}, constraints={"a": "positive"}),
            "constraints: a has 'positive'",
        ),
        (
            lambda: vx.LogDensity(flat, like={"a": 0.0}, constraints={"b": C.Positive()}),
            "constraints: 'b' is no parameter",
        ),
        (
            lambda: vx.LogDensity(flat, like={"a": 0.0}, constraints={"a": C.Simplex()}),
            "constraints: a: Simplex",
        ),
        (lambda: vx.LogDensity(flat, like={"a": 0.0}, covariance="low"), "covariance: expected"),
        (lambda: vx.LogDensity(flat, like={"a": 0.0}, blocks=["b"]), "blocks: no parameter"),
    ],
)
def test_bad_models_are_refused_by_name(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()


def fit_of(prior, likelihood=None, like=0.0, data=None):
    vx.fit(vx.LogDensity(prior, likelihood, like={"a": like}), data)


def looping(params):
    return jax.lax.while_loop(lambda v: v < 3.0, lambda v: v + 1.0, params["a"])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((lambda p: p["a"], None, np.zeros(2)), r"log_prior: must return nats, a scalar.*\(2,\)"),
        (
            (lambda p: jax.lax.complex(p["a"], p["a"]),),
            "log_prior: must return nats, a scalar, returned complex",
        ),
        ((lambda p: (p["a"], 0.0),), "log_prior: must return nats"),
        ((looping,), "model: the log density has no gradient"),
        ((flat, lambda p, x: x.sum() * p["a"], 0.0, np.ones(5)), "log_lik: .* not be summed"),
        ((flat, lambda p, x: x, 0.0, np.ones((5, 2))), r"log_lik: must return nats of shape \(5,"),
        ((flat, square), "data: LogDensity is a model of rows"),
        ((flat, None, 0.0, np.ones(5)), "data: this LogDensity has no log_lik"),
        ((flat, square, 0.0, np.array([1.0, np.nan])), "x: "),
        ((flat, square, 0.0, vx.Batch.of(np.ones(3), label=[0, 1, 0])), "label: a LogDensity"),
    ],
)
def test_bad_functions_and_rows_are_refused_by_name(arguments, match):
    with pytest.raises((TypeError, ValueError), match=match):
        fit_of(*arguments)


def test_bad_arguments_of_a_fit_are_refused_by_name():
    key = jax.random.key(0)
    refused = [
        ({"num_restarts": 3}, "key: this start is drawn"),
        ({"init": "random", "key": key}, "init: "),
        ({"init": {"size": 1.0}}, "init: expected the parameters scale"),
        ({"init": {"scale": np.ones(2)}}, "init: scale: expected shape"),
        ({"method": vx.GaussianVI(num_draws=65)}, "num_draws: expected an even number"),
        ({"method": vx.GaussianVI(num_draws=2)}, "num_draws: expected an even number"),
        ({"method": vx.CAVI()}, "method: CAVI needs a ConditionalModel"),
        ({"moves": vx.Moves(), "key": key}, "moves: LogDensity has no components"),
    ]
    for options, match in refused:
        with pytest.raises((TypeError, ValueError), match=match):
            vx.fit(SCALE, **options)
    mixture = vx.GaussianMixture.from_data(np.arange(6.0)[:, None], 2)
    with pytest.raises(TypeError, match="method: GaussianVI needs a DensityModel"):
        vx.fit(mixture, np.arange(6.0)[:, None], method=vx.GaussianVI(), key=key)


def test_errors_inside_of_a_function_say_where():
    with pytest.raises(Exception, match="ones_like|unexpected|argument") as caught:
        fit_of(lambda p: jnp.ones_like(p["a"], wrong=1))
    assert any("log_prior: raised this" in note for note in caught.value.__notes__)


def test_fits_and_reads_under_debugging_settings():
    """Implicit transfers, rank promotion and NaN are errors here."""

    def prior(params):
        return stats.norm.logpdf(params["slope"]).sum() + stats.gamma.logpdf(params["scale"], 2.0)

    def likelihood(params, rows):
        return stats.norm.logpdf(rows["y"], rows["x"] * params["slope"][0], params["scale"])

    like, constraints = {"slope": np.zeros(2), "scale": 1.0}, {"scale": C.Positive()}
    model = vx.LogDensity(prior, likelihood, like=like, constraints=constraints)
    rows, key = {"x": np.arange(8.0), "y": np.arange(8.0) % 3}, jax.random.key(0)
    with (
        jax.transfer_guard("disallow"),
        jax.debug_nans(True),
        jax.numpy_rank_promotion("raise"),
    ):
        result = vx.fit(model, rows, init={"slope": np.zeros(2), "scale": 2.0})
        assert "scale" in result.summary()
        vx.elbo(model, result, rows)
        vx.linear_response(model, result, rows)
        draws = result.q.sample(key, (3,))
        result.q.log_prob({"slope": np.zeros(2), "scale": 2.0})
    assert draws["slope"].shape == (3, 2)
