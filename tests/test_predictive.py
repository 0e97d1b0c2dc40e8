"""What a fit predicts: proper densities, their pieces, and draws from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import vijax as vx
from vijax.models.density import MixtureDensity
from vijax.models.mixture import Mixture

from .data import clusters
from .tables.emissions import EMISSIONS, TIED, take

STRUCTURES = ["full", "tied", "diag", "spherical"]


@pytest.fixture
def fitted(rng):
    """One model per covariance structure, few rows, so that tails are heavy."""

    def make(structure, d=2):
        x = clusters(rng, n=40, d=d, k=2)[0]
        model = vx.GaussianMixture.from_data(x, 2, covariance=structure)
        return model, vx.fit(model, x, init=np.arange(40) % 2).q, x

    return make


@pytest.mark.parametrize("structure", STRUCTURES)
def test_density_integrates_to_one_in_one_dimension(fitted, structure):
    model, q, x = fitted(structure, d=1)
    # x = centre + sinh(t): a grid that reaches far out
    t = np.linspace(-14, 14, 20001)
    at, width = x.mean() + np.sinh(t), np.cosh(t) * (t[1] - t[0])
    total = np.sum(np.exp(model.log_predictive(q, at[:, None])) * width)
    np.testing.assert_allclose(total, 1.0, atol=1e-6)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_density_integrates_to_one_in_two_dimensions(fitted, structure):
    model, q, x = fitted(structure)
    t = np.linspace(-8, 8, 401)
    axis, width = np.sinh(t), np.cosh(t) * (t[1] - t[0])
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2) + x.mean(0)
    density = np.exp(model.log_predictive(q, grid)).reshape(401, 401)
    np.testing.assert_allclose(width @ density @ width, 1.0, atol=2e-4)


def test_student_mixture_integrates_to_one(rng):
    x = clusters(rng, n=40, d=1, k=2)[0]
    model = vx.StudentTMixture.from_data(x, 2, dof=3.0)
    q = vx.fit(model, x, init=np.arange(40) % 2).q
    t = np.linspace(-14, 14, 20001)
    at, width = x.mean() + np.sinh(t), np.cosh(t) * (t[1] - t[0])
    total = np.sum(np.exp(model.log_predictive(q, at[:, None])) * width)
    np.testing.assert_allclose(total, 1.0, atol=1e-5)


@pytest.mark.parametrize(
    "emission", [e for e in EMISSIONS if e.evidence and e.name != "noise"], ids=lambda e: e.name
)
def test_one_component_predicts_the_ratio_of_evidences(emission, rng):
    model = Mixture(vx.Dirichlet.from_standard([1.0]), emission.prior(rng, 1))
    x = emission.rows(rng, 21)
    first = take(x, np.arange(20))
    q = vx.fit(model, first, init=np.zeros(20, int)).q
    got = model.log_predictive(q, take(x, np.arange(20, 21)))
    zero = np.zeros(21, int)
    exact = emission.evidence(x, zero, model.components)
    exact -= emission.evidence(first, zero[:20], model.components)
    np.testing.assert_allclose(got, exact, rtol=1e-9)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_missing_entries_give_the_marginal(fitted, structure):
    model, q, _ = fitted(structure)
    row = np.array([[0.7, np.nan]])
    got = model.log_predictive(q, vx.Batch.of(row, missing=True))
    t = np.linspace(-14, 14, 8001)
    other, width = np.sinh(t), np.cosh(t) * (t[1] - t[0])
    joint = model.log_predictive(q, np.stack([np.full_like(other, 0.7), other], -1))
    np.testing.assert_allclose(np.exp(got[0]), np.exp(joint) @ width, rtol=1e-6)
    np.testing.assert_allclose(model.density(q).marginal([0]).log_prob(row[:, :1]), got, rtol=1e-9)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_marginal_times_conditional_is_the_joint(fitted, structure):
    model, q, x = fitted(structure, d=3)
    for form in (model.density(q), model.density(q.point())):
        rest, given = [0, 2], [1]
        for row in x[:4]:
            apart = form.marginal(given).log_prob(row[None, given])
            apart += form.conditional(given, row[given]).log_prob(row[None, rest])
            np.testing.assert_allclose(apart, form.log_prob(row[None]), rtol=1e-9)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_log_predictive_is_the_density_objects(fitted, structure):
    model, q, x = fitted(structure)
    np.testing.assert_allclose(model.density(q).log_prob(x), model.log_predictive(q, x), rtol=1e-9)
    at_means = model.density(q.point()).log_prob(x)
    np.testing.assert_allclose(at_means, model.log_likelihood(q, x), rtol=1e-9)
    by_hand = [
        stats.multivariate_normal.logpdf(x, m, c)
        for m, c in zip(q.point().components.mean, q.point().components.covariance, strict=True)
    ]
    by_hand = jax.scipy.special.logsumexp(jnp.stack(by_hand), 0, b=q.weights.mean[:, None])
    np.testing.assert_allclose(at_means, by_hand, rtol=1e-9)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_draws_have_the_moments_of_the_density(rng, structure):
    x = clusters(rng, n=300, k=2)[0]
    model = vx.GaussianMixture.from_data(x, 2, covariance=structure)
    q = vx.fit(model, x, init=np.arange(300) % 2).q
    form = model.density(q)
    for draws in (
        model.sample(q, jax.random.key(0), 40000)[0],
        form.sample(jax.random.key(1), 40000),
    ):
        sd = np.sqrt(np.diag(form.covariance))
        np.testing.assert_allclose((draws.mean(0) - form.mean) / sd, 0.0, atol=0.03)
        np.testing.assert_allclose(
            np.cov(draws.T), form.covariance, rtol=0.1, atol=0.05 * sd.max() ** 2
        )


@pytest.mark.parametrize("structure", STRUCTURES)
def test_parameters_are_drawn_from_q(rng, structure):
    x = clusters(rng, n=100)[0]
    model = vx.GaussianMixture.from_data(x, 3, covariance=structure)
    q = vx.fit(model, x, key=jax.random.key(0)).q
    draws = model.sample_parameters(q, jax.random.key(1), (4000,))
    np.testing.assert_allclose(draws["weights"].mean(0), q.weights.mean, atol=0.01)
    np.testing.assert_allclose(draws["weights"].std(0), q.weights.sd, rtol=0.1)
    assert draws["means"].shape == (4000, 3, 2)
    assert draws["covariances"].shape == (4000, 3, 2, 2)
    used = np.asarray(q.weights.mean) > 0.05
    error = (draws["means"].mean(0) - q.components.mean) / q.components.mean_sd
    assert np.abs(error)[used].max() < 0.1
    expected = np.asarray(q.components.covariance)[used]
    np.testing.assert_allclose(
        draws["covariances"].mean(0)[used], expected, atol=0.05 * expected.max()
    )


def test_columns_are_checked(fitted):
    model, q, _ = fitted("full")
    form = model.density(q)
    with pytest.raises(ValueError, match="columns: expected different numbers from 0 to 1"):
        form.marginal([2])
    with pytest.raises(ValueError, match="columns: expected column numbers"):
        form.marginal([])
    with pytest.raises(ValueError, match="columns: at least one must be left"):
        form.conditional([0, 1], [0.0, 0.0])
    with pytest.raises(ValueError, match=r"values: expected shape \(1,\)"):
        form.conditional([0], [0.0, 1.0])
    with pytest.raises(ValueError, match="x: has 3 columns"):
        form.log_prob(np.ones((2, 3)))


# -- what else is in the density ------------------------------------------------------------------


def test_noise_is_part_of_a_proper_density(rng):
    x = clusters(rng, n=40, d=1, k=2)[0]
    x[0] = 40.0
    model = vx.GaussianMixture.from_data(x, 2, noise=True)
    q = vx.fit(model, x, init=np.append(np.arange(39) % 2, 2)).q
    low, high = (float(side[0]) for side in (model.components.low, model.components.high))
    inner = np.linspace(low, high, 200001)
    total = np.trapezoid(np.exp(model.log_predictive(q, inner[:, None])), inner)
    out = np.geomspace(1e-9, 1e12, 40001)
    for side in (high + out, low - out):
        values = np.exp(model.log_predictive(q, side[:, None]))
        total += np.trapezoid(values, out)
    np.testing.assert_allclose(total, 1.0, atol=1e-4)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_infinite_model_has_room_for_new_components(rng, structure):
    """The weight beyond the truncation is at the prior: in density, draws and density object."""
    x = clusters(rng, n=12, d=1, k=2)[0]
    weights = vx.StickBreaking.dirichlet_process(5.0, 2, truncated=False)
    model = vx.GaussianMixture.from_data(x, 2, weights=weights, covariance=structure)
    q = vx.fit(model, x, init=np.arange(12) % 2).q
    rest = 1.0 - float(jnp.sum(q.weights.mean))
    assert rest > 0.02
    np.testing.assert_allclose(q.weights.rest, rest, rtol=1e-10)
    t = np.linspace(-18, 18, 40001)
    at, width = x.mean() + np.sinh(t), np.cosh(t) * (t[1] - t[0])
    log_density = model.log_predictive(q, at[:, None])
    np.testing.assert_allclose(np.sum(np.exp(log_density) * width), 1.0, atol=1e-5)
    np.testing.assert_allclose(model.density(q).log_prob(at[:, None]), log_density, rtol=1e-9)
    if structure != "tied":  # alone, the new component is the prior's own predictive
        alone = model.components.log_predictive(vx.Batch.of(at[:, None]))[:, 0]
        each = q.components.log_predictive(vx.Batch.of(at[:, None]))
        both = np.exp(each) @ np.asarray(q.weights.mean) + rest * np.exp(alone)
        np.testing.assert_allclose(log_density, np.log(both), rtol=1e-9)
    rows, label = model.sample(q, jax.random.key(0), 20000)
    np.testing.assert_allclose(np.mean(np.asarray(label) == 2), rest, atol=0.01)
    middle = np.median(np.asarray(rows)[np.asarray(label) == 2])
    np.testing.assert_allclose(middle, float(model.components.mean[0, 0]), atol=0.3 * x.std())


def test_components_to_come_have_the_dtype_of_the_fit(rng):
    x = clusters(rng, n=12, d=1, k=2)[0]
    weights = vx.StickBreaking.dirichlet_process(5.0, 2, truncated=False)
    model = vx.GaussianMixture.from_data(x, 2, weights=weights)
    fit = vx.fit(model, x.astype(np.float32), init=np.arange(12) % 2)
    assert model.log_predictive(fit.q, x.astype(np.float32)).dtype == np.float32
    assert model.sample(fit.q, jax.random.key(0), 5)[0].dtype == np.float32
    with pytest.raises(ValueError, match="frozen: the infinite model needs its prior"):
        model.freeze(fit, np.array([True, False]))


def test_tied_components_to_come_share_the_covariance(rng):
    q, prior = (e.prior(rng, 3) for e in (TIED, TIED))
    new = q.unseen(prior)
    np.testing.assert_allclose(new.scatter, q.scatter, rtol=1e-12)
    np.testing.assert_allclose(new.mean, prior.mean[:1], rtol=1e-12)
    np.testing.assert_allclose(new.df, q.df)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_maximum_likelihood_predicts_at_its_estimate(rng, structure):
    x = clusters(rng, n=60, k=2, separation=5.0)[0]
    model = vx.GaussianMixture.flat(2, 2, covariance=structure)
    fit = vx.fit(model, x, key=jax.random.key(0), method=vx.EM(), num_restarts=2)
    point = fit.q.point()
    exact = np.logaddexp.reduce(
        [
            np.log(w) + stats.multivariate_normal(m, c).logpdf(x)
            for w, m, c in zip(
                point.weights.mean, point.components.mean, point.components.covariance, strict=True
            )
        ]
    )
    np.testing.assert_allclose(model.log_predictive(fit.q, x), exact, rtol=1e-9)
    np.testing.assert_allclose(model.density(fit.q).log_prob(x), exact, rtol=1e-9)
    rows, label = model.sample(fit.q, jax.random.key(1), 20000)
    for k in range(2):
        own = np.asarray(rows)[np.asarray(label) == k]
        np.testing.assert_allclose(np.cov(own.T), point.components.covariance[k], atol=0.1)
        np.testing.assert_allclose(own.mean(0), point.components.mean[k], atol=0.1)


def test_points_have_no_predictive_density(fitted):
    model, q, x = fitted("full")
    with pytest.raises(TypeError, match="q: expected a posterior, such as `fit.q`, got Mixture"):
        model.log_predictive(q.point(), x)
    with pytest.raises(TypeError, match="q: expected a posterior"):
        model.sample(q.point(), jax.random.key(0), 3)


def test_learned_concentration_is_drawn_beside_the_weights(rng):
    x = clusters(rng, n=20)[0]
    model = vx.GaussianMixture.from_data(x, 3, weights=vx.DirichletProcess.with_prior(1.0, 1.0, 3))
    fit = vx.fit(model, x, key=jax.random.key(0))
    draws = model.sample_parameters(fit.q, jax.random.key(1), (5,))
    assert draws["weights"].shape == (5, 3)
    assert draws["concentration"].shape == (5,)
    assert draws["covariances"].shape == (5, 3, 2, 2)


# -- rows with measurement noise ------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["full", "tied"])
def test_noise_is_convolved_with_the_density(fitted, structure):
    """The density without noise, summed over a fine grid of what the row may have been."""
    model, q, x = fitted(structure)
    noise = np.array([[0.5, 0.1], [0.1, 0.3]])
    rows = np.array([x[0], x[1] + 3.0, x.mean(0) + 20.0])
    side, step = np.linspace(-6, 6, 401, retstep=True)
    moves = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    chance = stats.multivariate_normal(np.zeros(2), noise).pdf(moves) * step**2
    right = [
        np.log(chance @ np.exp(np.asarray(model.log_predictive(q, row - moves)))) for row in rows
    ]
    batch = vx.Batch.of(rows, noise=np.broadcast_to(noise, (3, 2, 2)))
    np.testing.assert_allclose(model.log_predictive(q, batch), right, rtol=1e-6)


@pytest.mark.parametrize("structure", ["full", "tied"])
def test_limits_of_noise(fitted, structure):
    """None is as without, and endless noise of a column is as if it were missing."""
    model, q, x = fitted(structure)
    none = vx.Batch.of(x, noise=np.zeros_like(x))
    np.testing.assert_allclose(model.log_predictive(q, none), model.log_predictive(q, x), rtol=1e-6)
    holes = np.where([False, True], np.nan, x)
    errors = np.array([0.3, 1.0]) * np.ones_like(x)
    missing = vx.Batch.of(holes, missing=True, noise=errors)
    large = vx.Batch.of(np.nan_to_num(holes), noise=np.where(np.isnan(holes), 1e10, errors))
    found = model.log_predictive(q, large) + 0.5 * np.log(2 * np.pi * 1e10)
    np.testing.assert_allclose(model.log_predictive(q, missing), found, rtol=1e-5)


def test_noisy_density_with_the_noise_component_and_in_the_infinite_model(rng):
    """As many draws of rows and of their errors say."""
    x = clusters(rng, n=40, d=1, k=2)[0]
    weights = vx.StickBreaking.dirichlet_process(1.0, 2)
    model = vx.GaussianMixture.from_data(x, 2, weights=weights)
    q = vx.fit(model, x, init=np.arange(40) % 2).q
    draws = np.asarray(model.sample(q, jax.random.key(0), 200_000)[0])
    draws = draws + 0.7 * rng.normal(size=draws.shape)
    at = np.array([[x.min()], [x.mean()], [x.max()]])
    batch = vx.Batch.of(at, noise=np.full_like(at, 0.49))
    density = np.exp(model.log_predictive(q, batch))
    for row, value in zip(at[:, 0], density, strict=True):
        share = np.mean(np.abs(draws - row) < 0.1)
        error = 5.0 * (share / len(draws)) ** 0.5
        assert abs(share - 0.2 * value) < error + 0.02 * share


def noisy_density(density, row, noise):
    """log density in nats of a row with independent errors, by sums over a dense grid of log u."""
    log_u, step = np.linspace(-60.0, 12.0, 40001, retstep=True)
    total = 0.0
    for k, weight in enumerate(np.asarray(density.weight, float)):
        variance = np.diag(np.asarray(density.scale[k], float))
        z, dof = row - np.asarray(density.location[k], float), np.asarray(density.dof[k], float)
        seen = np.flatnonzero(np.isfinite(row))
        sd = np.sqrt(variance[seen] * np.exp(-log_u[:, None]) + noise[seen])
        errors = stats.norm.pdf(z[seen], 0.0, sd)
        half = 0.5 * (dof[seen] if dof.ndim else dof)
        prior = np.exp(stats.loggamma.logpdf(log_u[:, None], half, -np.log(half)))
        if dof.ndim:  # each column has a precision of its own
            total += weight * np.prod((prior * errors).sum(0) * step)
        else:
            total += weight * (prior[:, 0] * errors.prod(1)).sum() * step
    return np.log(total)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("structure", "unit"), [("diag", 1e-9), ("diag", 1.0), ("diag", 1e9), ("spherical", 1.0)]
)
def test_noisy_density_without_correlations(rng, kind, structure, unit):
    x = clusters(rng, n=40, d=2, k=2)[0] * [1.0, unit]
    model = vx.GaussianMixture.from_data(x.astype(kind), 2, covariance=structure)
    density = model.density(vx.fit(model, x.astype(kind), init=np.arange(40) % 2))
    rows = np.array([x[0], x[1], x[2], x.mean(0) + [20.0, -30.0 * unit]]).astype(kind)
    rows[1, 0] = np.nan
    noise = (np.array([[0.3, 2.0], [1.0, 0.01], [1e-6, 1e4], [0.5, 3.0]]) * [1.0, unit**2]).astype(
        kind
    )
    got = density.log_prob(vx.Batch.of(rows, missing=True, noise=noise))
    assert got.dtype == kind
    right = [noisy_density(density, *pair) for pair in zip(rows.astype(float), noise, strict=True)]
    np.testing.assert_allclose(got, right, rtol=1e-7 if kind is np.float64 else 1e-5, atol=1e-5)


def test_limits_of_noise_in_independent_columns(fitted):
    model, q, x = fitted("diag")
    density = model.density(q)
    none = vx.Batch.of(x, noise=np.zeros_like(x))
    np.testing.assert_allclose(density.log_prob(none), density.log_prob(x), rtol=1e-7)
    far = vx.Batch.of(x + 1e6, noise=np.zeros_like(x))
    np.testing.assert_allclose(density.log_prob(far), density.log_prob(x + 1e6), rtol=1e-7)
    # with much noise the row is its error alone
    large = density.log_prob(vx.Batch.of(x, noise=np.full_like(x, 1e12)))
    errors = stats.norm.logpdf(x - np.asarray(density.location).mean(0), 0, 1e6).sum(-1)
    np.testing.assert_allclose(large, errors, rtol=1e-7)
    # one column is whole rows and independent columns at once
    model, q, x = fitted("diag", d=1)
    noisy = vx.Batch.of(x, noise=np.geomspace(1e-3, 1e3, 40)[:, None])
    one = model.density(q)
    whole = MixtureDensity(one.weight, one.location, one.scale, one.dof[:, 0])
    np.testing.assert_allclose(one.log_prob(noisy), whole.log_prob(noisy), rtol=1e-7)


def test_errors_in_common_are_refused_by_independent_columns(fitted):
    model, q, x = fitted("diag")
    noise = np.broadcast_to(np.array([[1.0, 0.2], [0.2, 1.0]]), (40, 2, 2))
    with pytest.raises(ValueError, match="noise: row 0 has errors that columns have in common"):
        model.density(q).log_prob(vx.Batch.of(x, noise=noise))
    assert np.isfinite(model.density(q.point()).log_prob(vx.Batch.of(x, noise=noise))).all()
