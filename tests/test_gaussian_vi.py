"""`GaussianVI`: exact on normal posteriors, monotone, blind to units, truthful about its end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.scipy import stats
from jax.tree_util import Partial

import vijax as vx
from vijax.guides.roots import FullRoot
from vijax.guides.transformed_normal import TransformedNormal
from vijax.numerics.matched_draws import matched

from .table import leaves_close

Y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
SE = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
SCHOOLS = {"y": Y, "se": SE}


def normal_density(params, inverse_root, mean):
    """N(mean, L L^T) times e^3, from L^-1."""
    z = inverse_root @ (params["u"] - mean)
    log_det = jnp.sum(jnp.log(jnp.abs(jnp.diagonal(inverse_root))))
    return stats.norm.logpdf(z).sum() + log_det + 3.0


def normal_target(rng, d, condition):
    """A model whose posterior is normal, its mean, and the root L of its covariance."""
    axes = np.linalg.qr(rng.normal(size=(d, d)))[0]
    root = np.linalg.cholesky(axes * np.geomspace(1.0, 1.0 / condition, d) @ axes.T)
    mean = 10.0 * rng.normal(size=d)
    density = Partial(normal_density, inverse_root=np.linalg.inv(root), mean=mean)
    return density, mean, root


def spread_prior(params):
    spread = jnp.log(2.0) + stats.cauchy.logpdf(params["spread"], scale=5.0)
    return stats.norm.logpdf(params["mean"], scale=5.0) + spread


def off_centre_prior(params):
    return spread_prior(params) + stats.norm.logpdf(params["effect"]).sum()


def off_centre_likelihood(params, rows):
    effect = params["mean"] + params["spread"] * params["effect"]
    return stats.norm.logpdf(rows["y"], effect, rows["se"])


def centred_prior(params):
    effect = stats.norm.logpdf(params["effect"], params["mean"], params["spread"])
    return spread_prior(params) + effect.sum()


def centred_likelihood(params, rows):
    return stats.norm.logpdf(rows["y"], params["effect"], rows["se"])


def schools(prior=off_centre_prior, likelihood=off_centre_likelihood, **options):
    like = {"mean": 0.0, "spread": 1.0, "effect": np.zeros(8)}
    constraints = {"spread": vx.constraints.Positive()}
    return vx.LogDensity(prior, likelihood, like=like, constraints=constraints, **options)


def logistic_prior(params):
    return stats.norm.logpdf(params["slope"], scale=3.0).sum()


def logistic_likelihood(params, rows):
    score = jnp.sum(rows["x"] * params["slope"], -1)
    return rows["y"] * score - jax.nn.softplus(score)


LOGISTIC = vx.LogDensity(
    logistic_prior, logistic_likelihood, like={"slope": np.zeros(3)}, independent_rows=True
)


def logistic_rows(rng, n=40):
    x = rng.normal(size=(n, 3))
    y = rng.random(n) < 1.0 / (1.0 + np.exp(-x @ np.array([1.0, -1.0, 0.5])))
    return {"x": x, "y": y.astype(float)}


# -- normal posteriors ----------------------------------------------------------------------------


@pytest.mark.parametrize(("d", "condition"), [(2, 1e8), (10, 1e8), (20, 1e8)])
def test_a_normal_posterior_is_found_exactly_from_afar(rng, d, condition):
    density, mean, root = normal_target(rng, d, condition)
    model = vx.LogDensity(density, like={"u": np.zeros(d)})
    start = mean + 1e4 * root @ rng.normal(size=d)  # 1e4 standard deviations away
    result = vx.fit(model, init={"u": start}, stop=vx.Stop(tol=1e-14)).check()
    assert result.n_iter <= 8
    away = np.linalg.solve(root, result.q.location - mean)
    np.testing.assert_allclose(away, 0.0, atol=1e-8)
    whitened = np.linalg.solve(root, np.linalg.solve(root, result.q.covariance).T)
    np.testing.assert_allclose(whitened, np.eye(d), atol=1e-8)
    np.testing.assert_allclose(result.elbo, 3.0, atol=1e-8)  # log Z
    np.testing.assert_allclose(result.elbo_se, 0.0, atol=1e-9)


@pytest.mark.float32
@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_a_normal_posterior_in_float32(rng, covariance):
    density, mean, root = normal_target(rng, 6, 1e4)
    model = vx.LogDensity(density, like={"u": np.zeros(6, np.float32)}, covariance=covariance)
    result = vx.fit(model).check()
    away = np.linalg.solve(root, np.asarray(result.q.location, float) - mean)
    assert np.abs(away).max() < 0.1  # 1e-6 of the mean is up to 1e-2 sd in the narrow directions
    expected = (
        np.sum(root**2, 1) if covariance == "full" else 1 / np.sum(np.linalg.inv(root) ** 2, 0)
    )
    np.testing.assert_allclose(result.q.root.sd**2, expected, rtol=2e-2)
    if covariance == "full":
        np.testing.assert_allclose(result.elbo, 3.0, atol=0.05)


def test_a_diagonal_covariance_has_the_inverse_precisions(rng):
    density, mean, root = normal_target(rng, 10, 1e6)
    model = vx.LogDensity(density, like={"u": np.zeros(10)}, covariance="diag")
    result = vx.fit(model, stop=vx.Stop(tol=1e-8)).check()
    assert result.n_iter <= 10
    precision = np.sum(np.linalg.inv(root) ** 2, 0)
    np.testing.assert_allclose(result.q.root.sd**-2, precision, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.solve(root, result.q.location - mean), 0.0, atol=1e-5)


def test_blocks_have_the_inverse_of_their_precision(rng):
    density, _, root = normal_target(rng, 5, 1e3)

    def in_parts(params):
        return density({"u": jnp.concatenate([params["a"], params["b"], params["c"]])})

    like = {"a": np.zeros(2), "b": np.zeros(2), "c": np.zeros(1)}
    model = vx.LogDensity(in_parts, like=like, blocks=[("a", "c")])
    result = vx.fit(model, stop=vx.Stop(tol=1e-8)).check()
    precision = np.linalg.inv(root @ root.T)
    for members in ([0, 1, 4], [2, 3]):
        own = np.ix_(members, members)
        found = result.q.covariance[own]
        np.testing.assert_allclose(found, np.linalg.inv(precision[own]), rtol=1e-6)
    np.testing.assert_array_equal(result.q.covariance[np.ix_([0, 1, 4], [2, 3])], 0.0)


# -- the ascent -----------------------------------------------------------------------------------


def test_iterates_are_invariant_under_affine_maps(rng):
    matrix, shift = rng.normal(size=(3, 3)), rng.normal(size=3)
    rows = logistic_rows(rng)

    def mapped_prior(params):
        return logistic_prior({"slope": matrix @ params["slope"] + shift})

    def mapped_likelihood(params, rows):
        return logistic_likelihood({"slope": matrix @ params["slope"] + shift}, rows)

    mapped = vx.LogDensity(mapped_prior, mapped_likelihood, like={"slope": np.zeros(3)})
    q = mapped.template
    log_det = q.root.log_det + np.linalg.slogdet(matrix)[1]
    image = TransformedNormal(
        jnp.asarray(matrix @ q.location + shift),
        FullRoot(jnp.asarray(matrix @ q.root.matrix), log_det),
        LOGISTIC.template.space,
    )
    ours = vx.trajectory(LOGISTIC, rows, num_iters=8, init=image).q
    theirs = vx.trajectory(mapped, rows, num_iters=8, init=q).q
    np.testing.assert_allclose(theirs.location @ matrix.T + shift, ours.location, rtol=1e-9)
    np.testing.assert_allclose(matrix @ theirs.root.matrix, ours.root.matrix, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_the_objective_never_falls_and_is_stationary_at_the_end(covariance):
    model = schools(centred_prior, centred_likelihood, covariance=covariance)
    result = vx.fit(model, SCHOOLS, stop=vx.Stop(tol=1e-9)).check()
    trace = np.asarray(result.elbo_trace)[: int(result.n_iter)]
    assert np.diff(trace).min() > -1e-11
    q, d = result.q, 10
    z = vx.GaussianVI().base_draws(q)
    batch = vx.Batch.of(SCHOOLS)

    def objective(move):
        """By a tilt of the mean and a symmetric change of the spread."""
        shift, change = move[:d], move[d:]
        i, j = q.root.free_entries
        spread = jnp.eye(d).at[i, j].add(change)
        spread = 0.5 * (spread + spread.T)
        u = q.at(shift + z @ spread)
        return (
            jnp.mean(jax.vmap(lambda u: model.log_density(u, batch))(u))
            + jnp.linalg.slogdet(spread)[1]
        )

    gradient = jax.jit(jax.grad(objective))(jnp.zeros(d + len(q.root.free_entries[0])))
    np.testing.assert_allclose(gradient, 0.0, atol=1e-3)


def test_draws_have_exact_moments_and_the_curvature_of_a_quadratic_is_exact(rng):
    z = np.asarray(matched(jnp.asarray(3), 24, 4, jnp.float64))
    np.testing.assert_allclose(z.mean(0), 0.0, atol=1e-14)
    np.testing.assert_allclose(z.T @ z / 24, np.eye(4), atol=1e-13)
    few = np.asarray(matched(jnp.asarray(3), 6, 4, jnp.float64))
    np.testing.assert_allclose((few**2).mean(0), 1.0, atol=1e-14)
    curvature = rng.normal(size=(4, 4))
    curvature = curvature @ curvature.T
    gradients = -(z + 1.5) @ curvature  # of a quadratic, at every draw
    np.testing.assert_allclose(-gradients.T @ z / 24, curvature, rtol=1e-12)  # Stein is Price


def test_starts_agree_and_one_start_of_many_is_that_start_alone():
    model = schools(centred_prior, centred_likelihood)
    key = jax.random.key(0)
    many = vx.fit(model, SCHOOLS, key=key, num_restarts=4)
    assert (many.statuses == vx.Status.CONVERGED).all()
    assert np.ptp(many.elbos) < 0.1
    alone = vx.fit(model, SCHOOLS)
    np.testing.assert_allclose(many.elbos[0], alone.elbo, rtol=1e-6)
    assert many.elbo == many.elbos.max()
    np.testing.assert_allclose(many.elbo_se, alone.elbo_se, rtol=0.5)


def test_the_bound_of_eight_schools_is_below_its_evidence():
    """Given mean and spread the rows are normal, so that log p(y) is a sum over a grid of both."""
    mean, log_spread = np.linspace(-25.0, 25.0, 401), np.linspace(-12.0, 8.0, 801)
    mu, tau = mean[:, None, None], np.exp(log_spread)[None, :, None]
    rows = scipy.stats.norm.logpdf(Y, mu, np.hypot(SE, tau)).sum(-1)
    prior = scipy.stats.norm.logpdf(mu, scale=5.0) + scipy.stats.halfcauchy.logpdf(tau, scale=5.0)
    joint = rows + (prior + np.log(tau))[..., 0]
    log_z = scipy.special.logsumexp(joint) + np.log((mean[1] - mean[0]) * (20.0 / 800))
    result = vx.fit(schools(), SCHOOLS, method=vx.GaussianVI(num_draws=256)).check()
    gap = log_z - float(result.elbo)  # KL(q || p), 0.26 by the design's tables
    assert 0.26 - 0.1 < gap < 0.26 + 0.1
    weights = np.exp(joint - joint.max())
    exact = np.sum(weights * mu[..., 0]) / weights.sum()
    np.testing.assert_allclose(result.q.mean["mean"], exact, atol=0.3)


def test_the_error_of_the_returned_bound():
    """A normal over log scale against a gamma density: the bound is known in closed form."""

    def density(params):
        return stats.gamma.logpdf(params["scale"], 3.0, scale=0.5)

    positive = {"scale": vx.constraints.Positive()}
    model = vx.LogDensity(density, like={"scale": 1.0}, constraints=positive)
    fits = [vx.fit(model, method=vx.GaussianVI(seed=seed)) for seed in range(8)]
    for fit in fits:
        m, s = fit.q.location[0], fit.q.root.sd[0]
        # E[log Gamma(3, 1/2) density of e^u] + E[u] + entropy
        exact = 3.0 * m - 2.0 * jnp.exp(m + 0.5 * s**2) + 3.0 * np.log(2.0) - np.log(2.0)
        exact = exact + jnp.log(s) + 0.5 * (1.0 + np.log(2.0 * np.pi))
        assert 0.0 < fit.elbo_se < 0.01  # few draws are enough
        assert abs(fit.elbo - exact) < 5.0 * fit.elbo_se


# -- rows and data sets ---------------------------------------------------------------------------


def test_weights_are_repetitions_and_rows_of_weight_0_are_absent(rng):
    rows = logistic_rows(rng)
    weight = rng.integers(0, 3, size=40)
    repeated = {name: np.repeat(a, weight, 0) for name, a in rows.items()}
    expected = vx.fit(LOGISTIC, repeated)
    holes = {name: a.copy() for name, a in rows.items()}
    holes["x"][weight == 0] = np.nan
    found = vx.fit(LOGISTIC, vx.Batch.of(holes, weight))
    np.testing.assert_allclose(found.elbo, expected.elbo, rtol=1e-10)
    leaves_close(found.q, expected.q, rtol=1e-6)


def test_many_data_sets_are_fitted_as_one_by_one(rng):
    sets = [logistic_rows(rng, n) for n in (20, 40, 40)]
    many = vx.fit_many(LOGISTIC, sets)
    alone = [vx.fit(LOGISTIC, rows) for rows in sets]
    np.testing.assert_allclose(many.elbo, [fit.elbo for fit in alone], rtol=1e-9)
    np.testing.assert_allclose(many.elbo_se, [fit.elbo_se for fit in alone], rtol=1e-6)
    one = many[1]
    assert one.summary() == alone[1].summary()
    with pytest.raises(ValueError, match="datasets: of different size"):
        vx.fit_many(schools(), [SCHOOLS, {name: a[:5] for name, a in SCHOOLS.items()}])


def test_a_model_with_as_many_numbers_as_data_sets_is_one_model(rng):
    def prior(params, sd):
        return stats.norm.logpdf(params["slope"], scale=sd).sum()

    traced = Partial(prior, sd=np.array([1.0, 2.0, 3.0]))
    model = vx.LogDensity(traced, logistic_likelihood, like={"slope": np.zeros(3)})
    sets = [logistic_rows(rng, 20) for _ in range(3)]
    many = vx.fit_many(model, sets)
    np.testing.assert_allclose(many.elbo, [vx.fit(model, rows).elbo for rows in sets], rtol=1e-9)


def test_what_varies_can_be_traced():
    """vmap over a scale, and the gradient of the bound by it at a fixed q."""

    def prior(params, sd):
        return stats.norm.logpdf(params["a"], scale=sd)

    def sd_of(sd):
        return vx.fit(vx.LogDensity(Partial(prior, sd=sd), like={"a": 0.0})).q.sd["a"]

    scales = jnp.array([0.5, 2.0, 300.0])
    np.testing.assert_allclose(jax.jit(jax.vmap(sd_of))(scales), scales, rtol=1e-9)
    np.testing.assert_allclose(sd_of(2.0), 2.0, rtol=1e-9)  # a number of Python


# -- how it ends ----------------------------------------------------------------------------------


def broken(params):
    return jnp.nan * params["a"]


def cut_off(params):
    """Half a normal, whose density ends where it is highest."""
    return jnp.where(params["a"] > 0.0, -0.5 * params["a"] ** 2, -jnp.inf)


def without_gradient(params):
    return jax.lax.stop_gradient(-(params["a"] ** 2))


def improper(params):
    return -(params["a"] ** 2) + 0.0 * params["b"]


@pytest.mark.parametrize(
    ("density", "statuses"),
    [
        (broken, {vx.Status.NON_FINITE}),
        (cut_off, {vx.Status.NON_FINITE}),
        (without_gradient, {vx.Status.STALLED}),
        (improper, {vx.Status.STALLED, vx.Status.NON_FINITE, vx.Status.MAX_ITER}),
    ],
)
def test_what_cannot_be_fitted_says_so(density, statuses):
    like = {"a": 0.0, "b": 0.0} if density is improper else {"a": 0.0}
    result = vx.fit(vx.LogDensity(density, like=like))
    assert vx.Status(int(result.status)) in statuses
    with pytest.raises(vx.FitError):
        result.check()


def test_a_bad_start_does_not_touch_its_neighbours(rng):
    rows = logistic_rows(rng)
    bad = {name: np.stack([a, a, a]) for name, a in rows.items()}
    bad["y"][1, 0] = 1e300  # overflows
    many = vx.fit_many(LOGISTIC, bad)
    alone = vx.fit(LOGISTIC, rows)
    np.testing.assert_allclose(np.asarray(many.elbo)[[0, 2]], alone.elbo, rtol=1e-10)
    assert many.status[1] != vx.Status.CONVERGED
