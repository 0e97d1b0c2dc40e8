"""Linear response, importance weights and MCMC draws, against exact posteriors and quadrature."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy import stats
from scipy import integrate, special

import vijax as vx
from vijax.criticism.curvature import dense_response, diagonal_response, iterative_response
from vijax.guides.roots import BlockRoot, DiagonalRoot, FullRoot, LowRankRoot
from vijax.numerics.effective_size import effective_size
from vijax.numerics.matched_draws import matched, mean_draws
from vijax.numerics.pareto import pareto_index

POSITIVE = vx.constraints.Positive()


def worst(a, b):
    return float(np.abs(np.log(np.asarray(a) / np.asarray(b))).max())


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


# -- normal posteriors -----------------------------------------------------------------------------

RNG = np.random.default_rng(0)
_ROOT = RNG.normal(size=(4, 4)) * np.array([[1.0], [30.0], [0.1], [1.0]])
PRECISION = _ROOT @ _ROOT.T + np.diag([0.1, 1.0, 0.001, 0.1])
MEAN = np.array([3.0, -1.0, 200.0, 0.0])
COVARIANCE = np.linalg.inv(PRECISION)
LIKE = {"a": np.zeros(3), "b": 0.0}
LOG_Z = 1.5


def normal_log_density(params):
    u = jnp.append(params["a"], params["b"]) - MEAN
    log_norm = 0.5 * np.linalg.slogdet(PRECISION)[1] - 2.0 * math.log(2 * math.pi)
    return LOG_Z - 0.5 * u @ PRECISION @ u + log_norm


def best_root(kind):
    if kind == "diag":
        return DiagonalRoot(jnp.asarray(1 / np.sqrt(np.diag(PRECISION))))
    rotation = np.linalg.qr(RNG.normal(size=(4, 4)))[0]  # any root is one
    covariance, groups = COVARIANCE, (0, 0, 0, 0)
    if kind == "blocks":
        covariance, groups = np.zeros((4, 4)), (0, 0, 0, 1)
        covariance[:3, :3] = np.linalg.inv(PRECISION[:3, :3])
        covariance[3, 3] = 1 / PRECISION[3, 3]
        rotation[:3, :3], rotation[3, :], rotation[:, 3] = np.linalg.qr(rotation[:3, :3])[0], 0, 0
        rotation[3, 3] = 1.0
    matrix = np.linalg.cholesky(covariance) @ rotation
    log_det = jnp.asarray(0.5 * np.linalg.slogdet(covariance)[1])
    if kind == "blocks":
        return BlockRoot(jnp.asarray(matrix), log_det, groups)
    return FullRoot(jnp.asarray(matrix), log_det)


@functools.cache
def normal_case(kind):
    """The model, and the best q of this structure."""
    model = vx.LogDensity(normal_log_density, like=LIKE, covariance=kind)
    return model, vx.TransformedNormal(jnp.asarray(MEAN), best_root(kind), model.space)


@pytest.mark.parametrize("kind", ["full", "blocks", "diag"])
def test_the_response_is_the_covariance_of_a_normal_posterior(kind):
    model, q = normal_case(kind)
    response = vx.linear_response(model, q)
    scale = np.sqrt(np.diag(COVARIANCE))
    np.testing.assert_allclose(
        np.asarray(response.covariance) / np.outer(scale, scale),
        COVARIANCE / np.outer(scale, scale),
        atol=1e-9,
    )
    assert (response.covariance == response.covariance.T).all()
    assert response.status == vx.Status.CONVERGED
    np.testing.assert_allclose(flat(response.sd), scale, rtol=1e-9)
    np.testing.assert_allclose(flat(response.sd_q), flat(q.sd))
    assert response.sd["a"].shape == (3,)
    assert "a[2]" in response.summary()


def test_many_responses_are_each_their_own():
    model, q = normal_case("diag")
    several = jax.tree.map(lambda a: jnp.stack([a, 2.0 * a]), q)
    responses = jax.vmap(lambda q: vx.linear_response(model, q))(several)
    np.testing.assert_allclose(responses.covariance, np.stack([COVARIANCE] * 2), rtol=1e-8)
    assert responses.summary() == "2 fits, 2 CONVERGED"
    with pytest.raises(ValueError, match="result: holds fits of shape"):
        vx.linear_response(model, several)


def test_a_normal_posterior_is_exact():
    model, q = normal_case("full")
    criticism = vx.criticize(model, q, key=jax.random.key(0), num_draws=200)
    assert criticism.verdict == vx.Verdict.EXACT
    assert criticism.k_hat == 0
    assert criticism.evidence_se == 0
    np.testing.assert_allclose(criticism.log_evidence, LOG_Z, atol=1e-8)
    np.testing.assert_allclose(criticism.ess, 1.0, atol=1e-8)
    assert criticism.summary().startswith("EXACT")


def test_the_ways_to_the_response_agree():
    """On a skewed posterior: by one matrix, by Hessians, and by their products alone."""

    def log_density(u):
        rate = jnp.asarray([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0], [1.0, 1.0, 1.0]]) @ u
        return jnp.sum(jnp.asarray([1.0, 0.0, 3.0]) * rate - jnp.exp(rate)) - 0.5 * u @ u

    space = vx.LogDensity(lambda p: jnp.sum(p), like=jnp.zeros(3)).space
    center, z = jnp.asarray([0.1, -0.4, 0.6]), matched(jnp.asarray(0), 16, 3, float)
    matrix = jnp.asarray([[0.6, 0.1, 0.0], [-0.2, 0.5, 0.0], [0.0, 0.0, 0.5]])
    for root in (
        FullRoot(matrix, jnp.log(0.16)),
        BlockRoot(matrix, jnp.log(0.16), (0, 0, 1)),
        DiagonalRoot(jnp.asarray([0.5, 0.4, 0.5])),
    ):
        q = vx.TransformedNormal(center, root, space)
        ways = [dense_response, *([diagonal_response] if isinstance(root, DiagonalRoot) else [])]
        ways += [functools.partial(iterative_response, hessians=by) for by in (True, False)]
        found = jax.jit(lambda q, ways=ways: [way(log_density, q, z, 10) for way in ways])(q)
        for covariance, good in found:
            assert good
            np.testing.assert_allclose(covariance, found[0][0], rtol=1e-8)


def test_a_saddle_has_no_response():
    """Nor has a direction that is flat but for rounding."""
    for bend in (0.3, 0.0):

        def log_density(p, bend=bend):
            return -0.5 * p["a"] ** 2 + bend * p["b"] ** 2

        model = vx.LogDensity(log_density, like={"a": 0.0, "b": 0.0}, covariance="diag")
        response = vx.linear_response(model, model.template)
        assert response.status == vx.Status.NON_FINITE
        assert np.isnan(flat(response.sd)).all()
        assert np.isnan(response.covariance).all()
        assert "NON_FINITE" in response.summary()


def test_means_over_draws_come_in_parts():
    x = jnp.arange(14.0).reshape(7, 2)
    for at_once in (1, 3, 7, 100):
        np.testing.assert_allclose(mean_draws(lambda a: a**2, x, at_once), np.mean(x**2, 0))


# -- skewed posteriors -----------------------------------------------------------------------------

A0, B0, ROWS = 1.5, 2.0, np.array([0.3, -1.2, 2.1, 0.4, 1.3, -0.2, 0.9, 3.0])


def gamma_normal_log_prior(p):
    prior = stats.norm.logpdf(p["mean"], 0.0, 1 / jnp.sqrt(0.1 * p["precision"]))
    return prior + stats.gamma.logpdf(p["precision"], A0, scale=1 / B0)


def normal_log_lik(p, y):
    return stats.norm.logpdf(y, p["mean"], 1 / jnp.sqrt(p["precision"]))


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_unknown_mean_and_precision(kind):
    """A Normal-Gamma: the mean is of Student's t, and the log of a Gamma varies by trigamma(a)."""
    like = {"mean": 0.0, "precision": 1.0}
    model = vx.LogDensity(
        gamma_normal_log_prior,
        normal_log_lik,
        like=like,
        constraints={"precision": POSITIVE},
        covariance=kind,
    )
    n, kappa, a = len(ROWS), 0.1 + len(ROWS), A0 + len(ROWS) / 2
    center = ROWS.sum() / kappa
    b = B0 + 0.5 * (np.sum((ROWS - ROWS.mean()) ** 2) + 0.1 * n / kappa * ROWS.mean() ** 2)
    exact = {"mean": np.sqrt(b / kappa / (a - 1)), "precision": np.sqrt(special.polygamma(1, a))}
    method = vx.GaussianVI()
    result = vx.fit(model, ROWS, method=method).check()
    response = vx.linear_response(model, result, ROWS, method=method)
    np.testing.assert_allclose(response.mean["mean"], center, atol=0.01)
    names = ["precision"] if kind == "diag" else ["mean", "precision"]
    for name in names:  # no tilt of the mean bends a diagonal q, so that it misses t's tails
        error = worst(response.sd[name], exact[name])
        assert error < 0.5 * worst(response.sd_q[name], exact[name])
    if kind == "full":
        log_evidence = (
            special.gammaln(a) - special.gammaln(A0) + A0 * np.log(B0) - a * np.log(b)
            + 0.5 * np.log(0.1 / kappa) - n / 2 * np.log(2 * np.pi)
        )  # fmt: skip
        criticism = vx.criticize(model, result, ROWS, key=jax.random.key(2), method=method)
        error = abs(float(criticism.log_evidence) - log_evidence)
        assert error < 4 * float(criticism.evidence_se)
        assert criticism.elbo < log_evidence
        assert abs(criticism.elbo - result.elbo) < 4 * np.hypot(criticism.elbo_se, result.elbo_se)
        assert criticism.verdict in (vx.Verdict.GOOD, vx.Verdict.USABLE)


SCHOOLS = {
    "y": np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]),
    "sd": np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]),
}


def schools_prior(p):
    above = jnp.log(2.0) + stats.cauchy.logpdf(p["tau"], 0.0, 5.0)
    return stats.norm.logpdf(p["mu"], 0.0, 5.0) + above


def centred(p):
    return schools_prior(p) + jnp.sum(stats.norm.logpdf(p["theta"], p["mu"], p["tau"]))


def non_centred(p):
    return schools_prior(p) + jnp.sum(stats.norm.logpdf(p["theta"]))


def centred_lik(p, rows):
    return stats.norm.logpdf(rows["y"], p["theta"], rows["sd"])


def non_centred_lik(p, rows):
    return stats.norm.logpdf(rows["y"], p["mu"] + p["tau"] * p["theta"], rows["sd"])


@functools.cache
def schools(parametrisation, covariance):
    functions = {"centred": (centred, centred_lik), "non-centred": (non_centred, non_centred_lik)}
    model = vx.LogDensity(
        *functions[parametrisation],
        like={"mu": 0.0, "tau": 1.0, "theta": np.zeros(8)},
        constraints={"tau": POSITIVE},
        covariance=covariance,
    )
    return model, vx.fit(model, SCHOOLS).check()


@functools.cache
def schools_by_quadrature():
    """Log evidence, and sds of mu, log tau and the standardised effects: given mu and tau, normal.

    Effects are eta | mu, tau ~ N(v tau (y - mu) / sd^2, v) with v = 1 / (1 + tau^2 / sd^2).
    """
    y, sd = SCHOOLS["y"], SCHOOLS["sd"]
    mu, log_tau = np.linspace(-25, 35, 301), np.linspace(-14, 6, 401)
    m, t = np.meshgrid(mu, np.exp(log_tau), indexing="ij")
    scale = np.sqrt(sd**2 + t[..., None] ** 2)
    log_p = -0.5 * ((y - m[..., None]) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
    log_p = log_p.sum(-1) - 0.5 * (m / 5) ** 2 - np.log(5 * np.sqrt(2 * np.pi))
    log_p += np.log(2 / (np.pi * 5 * (1 + (t / 5) ** 2))) + np.log(t)
    top = log_p.max()

    def total(f):
        return integrate.trapezoid(integrate.trapezoid(f, log_tau, axis=1), mu, axis=0)

    p = np.exp(log_p - top)
    z = total(p)

    def spread(mean, variance=0.0):
        first = total(p * mean) / z
        return np.sqrt(total(p * ((mean - first) ** 2 + variance)) / z)

    effects = []
    for y_j, sd_j in zip(y, sd, strict=True):
        v = 1 / (1 + (t / sd_j) ** 2)
        effects.append(spread(v * t * (y_j - m) / sd_j**2, v))
    sds = np.array([spread(m), spread(np.log(t)), *effects])
    return top + np.log(z), sds


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_eight_schools_non_centred(covariance):
    """The response has at most half of the error of q; the table of the design has a fifth."""
    model, result = schools("non-centred", covariance)
    log_evidence, exact = schools_by_quadrature()
    response = vx.linear_response(model, result, SCHOOLS)
    sd, sd_q = flat(response.sd), flat(response.sd_q)
    assert worst(sd_q, exact) > 0.2
    assert worst(sd, exact) < 0.5 * worst(sd_q, exact)
    criticisms = jax.jit(jax.vmap(lambda key: vx.criticize(model, result, SCHOOLS, key=key)))(
        jax.random.split(jax.random.key(0), 5)
    )
    assert np.median(criticisms.verdict) <= vx.Verdict.USABLE
    assert np.abs(np.median(criticisms.log_evidence) - log_evidence) < 0.15
    alone = vx.criticize(model, result, SCHOOLS, key=jax.random.split(jax.random.key(0), 5)[3])
    for name in ("k_hat", "ess", "log_evidence", "elbo"):
        np.testing.assert_allclose(getattr(alone, name), getattr(criticisms, name)[3], rtol=1e-8)
    assert alone.verdict == criticisms.verdict[3]


def test_eight_schools_centred_is_not_good():
    model, result = schools("centred", "full")
    criticism = vx.criticize(model, result, SCHOOLS, key=jax.random.key(0))
    assert criticism.verdict in (vx.Verdict.SPREAD_WRONG, vx.Verdict.POOR)
    assert criticism.k_hat > 0.7
    assert criticism.ess < 0.1
    assert "linear_response" in criticism.summary()


# -- importance weights ----------------------------------------------------------------------------


def test_k_hat_of_pareto_weights():
    uniform = jax.random.uniform(jax.random.key(0), (200, 4000))
    program = jax.jit(jax.vmap(pareto_index))
    for index, mean in ((0.2, 0.25), (0.5, 0.51), (0.7, 0.68), (1.0, 1.0)):
        found = program(-index * jnp.log(uniform))
        assert abs(float(jnp.mean(found)) - mean) < 0.03  # sd / sqrt(200) is below 0.01
        assert 0.07 < float(jnp.std(found)) < 0.15


def test_k_hat_equals_that_of_arviz_and_knows_weights_without_a_tail():
    """`psislw(-log_weights)` of arviz-stats 0.8.0, which takes minus the log weights."""
    uniform = np.random.default_rng(4).uniform(size=1000)
    expected = {0.2: 0.3534323038164603, 0.7: 0.8450770929248368, 1.0: 1.130520602246536}
    lanes = [-index * np.log(uniform) for index in expected]
    lanes.append(-0.25 * np.random.default_rng(5).normal(size=1000) ** 2)
    equal = np.zeros(1000)
    first = np.arange(1000) == 0
    lanes += [equal, np.where(first, 2000.0, 0.0), np.where(first, np.nan, 0.0), equal - np.inf]
    found = jax.jit(jax.vmap(pareto_index))(jnp.asarray(np.stack(lanes)))
    known = [*expected.values(), -1.4548112884358235]
    np.testing.assert_allclose(found[:4], known, rtol=1e-10)
    np.testing.assert_array_equal(found[4:], [0.0, np.inf, np.nan, np.inf])


def test_densities_of_zero_and_nan_are_told():
    """A density 0 on half of the line: log(1 / 2) of evidence, no bound. One NaN: no estimate."""
    like, z = {"a": 0.0, "b": 0.0}, jnp.zeros(2)

    def log_prior(p):
        return jnp.where(
            p["a"] > 0, stats.norm.logpdf(p["a"]) + stats.norm.logpdf(p["b"]), -jnp.inf
        )

    def with_nan(p):
        return log_prior(p) + jnp.where(p["b"] > 2.0, jnp.nan, 0.0)

    def nowhere(p):
        return log_prior(p) - jnp.inf

    found = {}
    for fn in (log_prior, with_nan, nowhere):
        model = vx.LogDensity(fn, like=like, covariance="diag")
        q = vx.TransformedNormal(z, DiagonalRoot(jnp.ones(2)), model.space)
        found[fn] = vx.criticize(model, q, key=jax.random.key(0), num_draws=1000)
    zero, nan, none = found.values()
    assert abs(zero.log_evidence - np.log(0.5)) < 4 * zero.evidence_se < 0.3
    assert zero.elbo == -jnp.inf
    assert zero.elbo_se == jnp.inf
    assert zero.non_finite == 0
    assert jnp.isnan(jnp.stack([nan.elbo, nan.log_evidence, nan.k_hat, nan.ess])).all()
    assert nan.verdict == vx.Verdict.POOR
    assert nan.non_finite > 0
    assert "NaN" in nan.summary()
    assert none.verdict == vx.Verdict.POOR
    assert none.log_evidence == -jnp.inf
    assert none.ess == 0


def test_low_rank_has_weights_but_no_response():
    model, _ = normal_case("full")
    root = LowRankRoot(jnp.full(4, 0.1), jnp.ones((4, 1)))
    q = vx.TransformedNormal(jnp.asarray(MEAN), root, model.space)
    assert vx.criticize(model, q, key=jax.random.key(0)).verdict == vx.Verdict.POOR
    with pytest.raises(ValueError, match="low rank"):
        vx.linear_response(model, q)


# -- reference draws -------------------------------------------------------------------------------


def test_draws_of_q_itself_agree_with_it():
    _, result = schools("non-centred", "full")
    draws = result.q.sample(jax.random.key(1), (4, 1000))
    comparison = vx.compare(result, draws)
    for value, error in (
        (comparison.mean_difference, comparison.mean_error),
        (comparison.log_sd_ratio, comparison.log_sd_error),
    ):
        z = flat(value) / flat(error)
        assert np.abs(z).max() < 4
        assert 0.3 < np.std(z) < 2
    np.testing.assert_allclose(flat(comparison.mean_error), 1 / np.sqrt(4000), rtol=0.15)
    np.testing.assert_allclose(flat(comparison.log_sd_error), 1 / np.sqrt(8000), rtol=0.25)
    assert comparison.worst_mean == np.abs(flat(comparison.mean_difference)).max()
    shifted = {**draws, "mu": draws["mu"][:, ::-1] * 2.0 + 1.0}
    moved = vx.compare(result.q, jax.tree.map(lambda a: a[0], shifted))
    np.testing.assert_allclose(moved.worst_log_sd, np.log(2), atol=0.1)
    assert "mu" in repr(moved)
    assert moved.num_chains == 1
    assert moved.num_draws == 1000


def test_the_effective_size_of_an_autoregression():
    noise = np.random.default_rng(0).normal(size=(4, 20_000))
    x = noise.copy()
    for t in range(1, x.shape[1]):
        x[:, t] = 0.8 * x[:, t - 1] + noise[:, t]
    apart = noise + 3.0 * np.arange(4)[:, None]
    found = jax.jit(jax.vmap(effective_size))(jnp.asarray(np.stack([x, noise, apart])))
    np.testing.assert_allclose(found[:2], [x.size * 0.2 / 1.8, x.size], rtol=0.1)
    assert found[2] < 10  # chains that disagree are worth one draw each


def test_bad_arguments_are_named():
    model, q = normal_case("diag")
    key, good = jax.random.key(0), {"a": jnp.zeros((10, 3)), "b": jnp.zeros(10)}
    other = vx.LogDensity(lambda p: -(p["c"] ** 2), like={"c": 0.0})
    mixture = vx.GaussianMixture.from_data(np.zeros((3, 1)), 2)
    cases = [
        (TypeError, "model", lambda: vx.linear_response(mixture, q)),
        (TypeError, "result", lambda: vx.linear_response(model, 1.0)),
        (ValueError, "result: a q of a, b, but", lambda: vx.linear_response(other, q)),
        (TypeError, "method: needs the fixed draws",
         lambda: vx.linear_response(model, q, method=vx.CAVI())),
        (ValueError, "num_draws", lambda: vx.criticize(model, q, key=key, num_draws=10)),
        (ValueError, "draws: expected a, b", lambda: vx.compare(q, {"a": good["a"]})),
        (ValueError, "draws: b has shape", lambda: vx.compare(q, {**good, "b": good["b"][1:]})),
        (ValueError, "draws: a chain of 3",
         lambda: vx.compare(q, {"a": jnp.zeros((3, 3)), "b": jnp.zeros(3)})),
        (ValueError, "draws: b in draw 4 of chain 0",
         lambda: vx.compare(q, {**good, "b": good["b"].at[4].set(jnp.nan)})),
    ]  # fmt: skip
    for error, message, call in cases:
        with pytest.raises(error, match=message):
            call()
