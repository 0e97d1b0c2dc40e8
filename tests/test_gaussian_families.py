"""Tied, diagonal and spherical Gaussian components against NumPy and against each other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vijax import Batch, Dirichlet, NormalGamma, NormalWishart
from vijax.families.gaussian.diagonal_normal_gamma import DiagonalNormalGamma
from vijax.families.gaussian.spherical_normal_gamma import SphericalNormalGamma
from vijax.families.gaussian.tied_normal_wishart import TiedNormalWishart
from vijax.models.mixture_params import MixtureParams

from .oracles import gaussian_mixture as gmm
from .oracles import gaussian_structures as oracle
from .oracles import normal_gamma as ng

K, D, N = 3, 2, 30
KAPPA = np.array([0.4, 0.7, 1.1])
DF = np.array([3.5, 4.5, 6.0])


def rows_of(rng, missing=False):
    x = 5.0 + rng.normal(size=(N, D)) * [1.0, 3.0]
    mask = rng.random((N, D)) < 0.7
    mask[:, 0] |= ~mask.any(1)
    return Batch.of(x, rng.gamma(2.0, size=N), mask=mask if missing else None)


def mass_of(rng, rows):
    resp = rng.dirichlet(np.ones(K), size=N)
    return jnp.asarray(resp * np.asarray(rows.weight)[:, None])


def make(structure, rng):
    mean, root = rng.normal(size=(K, D)), rng.normal(size=(D, D + 2))
    if structure == "full":
        return NormalWishart.from_standard(mean, KAPPA, DF, root @ root.T)
    if structure == "tied":
        return TiedNormalWishart.from_standard(mean, KAPPA, 4.5, root @ root.T)
    if structure == "diag":
        return DiagonalNormalGamma.from_standard(mean, KAPPA, DF, rng.gamma(2.0, size=(K, D)))
    return SphericalNormalGamma.from_standard(mean, KAPPA, DF, rng.gamma(2.0, size=K))


STRUCTURES = ["full", "tied", "diag", "spherical"]
every_structure = pytest.mark.parametrize("structure", STRUCTURES)


def posterior(prior, rows, mass):
    at = prior.moments()
    _, row_posterior = at.likelihood(rows)
    return prior.observe(rows, mass, at, row_posterior) + prior


def evidence(prior, rows, mass):
    """log_ratio with the base measure of the likelihood."""
    entries = np.ones((N, D)) if rows.mask is None else np.asarray(rows.mask)
    return posterior(prior, rows, mass).log_ratio(prior) - 0.5 * np.log(2 * np.pi) * np.sum(
        np.asarray(mass).T @ entries
    )


# -- posteriors ------------------------------------------------------------------------------------


def test_tied_posterior_is_the_textbooks(rng):
    rows, prior = rows_of(rng), make("tied", rng)
    mass = mass_of(rng, rows)
    post = posterior(prior, rows, mass)
    given = {name: np.asarray(getattr(prior, name)) for name in ("mean", "kappa", "df", "scatter")}
    expected = oracle.tied_posterior(np.asarray(rows.x), np.asarray(mass), **given)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(post, name), value, rtol=1e-10, err_msg=name)
    ratio = oracle.tied_log_normalizer(**expected) - oracle.tied_log_normalizer(**given)
    np.testing.assert_allclose(post.log_ratio(prior), ratio, rtol=1e-10)
    np.testing.assert_allclose(prior.log_normalizer(), oracle.tied_log_normalizer(**given))
    assert (post.precision == post.precision[:1]).all()


def test_diagonal_posterior_is_that_of_each_column(rng):
    rows, prior = rows_of(rng), make("diag", rng)
    which = rng.integers(K, size=N)
    mass = jnp.asarray(np.eye(K)[which])
    post = posterior(prior, rows, mass)
    total = 0.0
    for k in range(K):
        for j in range(D):
            x = np.asarray(rows.x)[which == k, j]
            given = (prior.mean[k, j], KAPPA[k], DF[k] / 2, prior.scatter[k, j] / 2)
            mean, kappa, shape, rate = ng.posterior(x, *given)
            got = (post.mean, post.kappa, post.df / 2, post.scatter / 2)
            got = [a[k, j] for a in got]
            np.testing.assert_allclose(got, (mean, kappa, shape, rate), rtol=1e-10)
            total += ng.log_evidence(x, *given)
    np.testing.assert_allclose(evidence(prior, rows, mass), total, rtol=1e-10)


def test_spherical_posterior_is_the_textbooks(rng):
    rows, prior = rows_of(rng), make("spherical", rng)
    mass = mass_of(rng, rows)
    post = posterior(prior, rows, mass)
    kappa, mean, added = oracle.pooled_means(
        np.asarray(rows.x), np.asarray(mass), np.asarray(prior.mean), KAPPA
    )
    np.testing.assert_allclose(post.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(post.kappa, np.repeat(kappa[:, None], D, 1), rtol=1e-12)
    np.testing.assert_allclose(post.df, DF + D * np.sum(mass, 0), rtol=1e-12)
    scatter = np.asarray(prior.scatter) + np.trace(added, axis1=1, axis2=2)
    np.testing.assert_allclose(post.scatter, scatter, rtol=1e-10)
    args = zip(post.kappa, post.df, post.scatter, strict=True)
    after = [oracle.gamma_log_normalizer(*map(np.asarray, each)) for each in args]
    np.testing.assert_allclose(post.log_normalizer(), after, rtol=1e-10)


def test_structures_agree_in_one_dimension(rng):
    """Wishart(1 / scatter, df) is Gamma(df / 2, scatter / 2)."""
    x = Batch.of(rng.normal(2.0, 3.0, size=(N, 1)), rng.gamma(2.0, size=N))
    mass = x.weight[:, None]
    mean, kappa, df, scatter = np.array([0.4]), 0.7, 2.5, 1.7
    priors = [
        NormalWishart.from_standard(mean[None], [kappa], [df], [[[scatter]]]),
        TiedNormalWishart.from_standard(mean[None], [kappa], df, [[scatter]]),
        DiagonalNormalGamma.from_standard(mean[None], [kappa], [df], [[scatter]]),
        SphericalNormalGamma.from_standard(mean[None], [kappa], [df], [scatter]),
    ]
    posts = [posterior(p, x, mass) for p in priors]
    moments = [p.moments() for p in posts]

    def spread(get):
        values = [np.ravel(get(q, p, m)) for q, p, m in zip(posts, priors, moments, strict=True)]
        for value in values[1:]:
            np.testing.assert_allclose(value, values[0], rtol=1e-9)

    spread(lambda q, p, m: q.log_ratio(p))
    spread(lambda q, p, m: q.kl(p))
    spread(lambda q, p, m: m.likelihood(x)[0])
    spread(lambda q, p, m: q.point().likelihood(x)[0])
    spread(lambda q, p, m: q.log_predictive(x))
    for name in ("mean", "mean_sd", "covariance", "covariance_sd", "precision", "precision_sd"):
        spread(lambda q, p, m, name=name: getattr(q, name))
    spread(lambda q, p, m: q.mode().precision)
    one = NormalGamma.from_standard(mean[0], kappa, df / 2, scatter / 2)
    np.testing.assert_allclose(posts[0].mean[0, 0], posterior_mean(one, x), rtol=1e-10)


def posterior_mean(prior, rows):
    return (NormalGamma.observe(rows.x[:, 0], rows.weight, prior.origin) + prior).mean


# -- missing entries -------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["diag", "spherical"])
def test_missing_entries_are_dropped(rng, structure):
    """Every column by itself, of the rows that have it."""
    rows, prior = rows_of(rng, missing=True), make(structure, rng)
    mass = mass_of(rng, rows)
    stats_all = prior.observe(rows, mass, prior.moments(), None)
    x, mask = np.asarray(rows.x), np.asarray(rows.mask)
    shape, square = 0.0, 0.0
    for j in range(D):
        kept = mask[:, j]
        z = x[kept, j, None] - np.asarray(prior.mean)[:, j]
        own = np.asarray(mass)[kept]
        part = getattr(stats_all, "columns", stats_all)
        np.testing.assert_allclose(part.kappa[:, j], own.sum(0), rtol=1e-12)
        np.testing.assert_allclose(part.shift[:, j], (own * z).sum(0), rtol=1e-10)
        each = own.sum(0) / 2, (own * z**2).sum(0) / 2
        if structure == "diag":
            np.testing.assert_allclose(part.shape[:, j], each[0], rtol=1e-12)
            np.testing.assert_allclose(part.square[:, j], each[1], rtol=1e-10)
        shape, square = shape + each[0], square + each[1]
    if structure == "spherical":
        np.testing.assert_allclose(stats_all.shape, shape, rtol=1e-12)
        np.testing.assert_allclose(stats_all.square, square, rtol=1e-10)


@pytest.mark.parametrize("structure", ["diag", "spherical"])
def test_what_stands_in_a_missing_entry_is_never_looked_at(rng, structure):
    rows, prior = rows_of(rng, missing=True), make(structure, rng)
    other = dataclasses.replace(rows, x=jnp.where(rows.mask, rows.x, -77.0))
    mass, q = mass_of(rng, rows), prior.moments()
    for fn in (
        lambda r: q.likelihood(r)[0],
        prior.log_predictive,
        lambda r: jax.tree.leaves(prior.observe(r, mass, q, None)),
    ):
        for a, b in zip(jax.tree.leaves(fn(rows)), jax.tree.leaves(fn(other)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@every_structure
def test_a_mask_without_gaps_changes_nothing(rng, structure):
    rows, prior = rows_of(rng), make(structure, rng)
    whole = Batch.of(np.asarray(rows.x), np.asarray(rows.weight), mask=np.ones((N, D), bool))
    mass = mass_of(rng, rows)
    for q in (prior.moments(), prior.point()):
        np.testing.assert_allclose(q.likelihood(whole)[0], q.likelihood(rows)[0], rtol=1e-10)
    np.testing.assert_allclose(prior.log_predictive(whole), prior.log_predictive(rows), rtol=1e-10)
    pairs = zip(*(jax.tree.leaves(posterior(prior, r, mass)) for r in (rows, whole)), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@every_structure
def test_imputed_entries_are_conditional_normals(rng, structure):
    rows, q = rows_of(rng, missing=True), make(structure, rng).point()
    mean, variance = q.impute(rows)
    assert mean.shape == variance.shape == (N, K, D)
    covariance, centre = np.asarray(q.covariance), np.asarray(q.mean)
    x, mask = np.asarray(rows.x), np.asarray(rows.mask)
    for n in range(N):
        o, m = mask[n], ~mask[n]
        for k in range(K):
            s = covariance[k]
            gain = s[np.ix_(m, o)] @ np.linalg.inv(s[np.ix_(o, o)])
            expected = centre[k, m] + gain @ (x[n, o] - centre[k, o])
            left = np.diag(s[np.ix_(m, m)] - gain @ s[np.ix_(o, m)])
            np.testing.assert_allclose(mean[n, k, m], expected, rtol=1e-9)
            np.testing.assert_allclose(variance[n, k, m], left, rtol=1e-9)


@pytest.mark.parametrize("structure", ["diag", "spherical"])
def test_measurement_noise_is_refused(rng, structure):
    rows = Batch.of(rng.normal(size=(N, D)), noise=np.ones((N, D)))
    with pytest.raises(ValueError, match="noise"):
        make(structure, rng).check(rows)


# -- the predictive density ------------------------------------------------------------------------


def one_of(q, structure, k):
    """Component k by itself, as a family with one component."""
    if structure == "tied":
        return q.take(jnp.array([k]))
    return jax.tree.map(lambda a: a[k : k + 1], q)


@pytest.mark.parametrize(
    ("structure", "missing"),
    # with part of a row missing, the posterior of a precision matrix is not in the family
    [(name, False) for name in STRUCTURES] + [("diag", True), ("spherical", True)],
)
def test_predictive_is_the_ratio_of_evidences(rng, structure, missing):
    rows, prior = rows_of(rng, missing=missing), make(structure, rng)
    got = prior.log_predictive(rows)
    for k in range(K):
        one = one_of(prior, structure, k)
        for n in range(3):
            row = rows.take(jnp.array([n]))
            seen = D if row.mask is None else int(row.mask.sum())
            post = posterior(one, row, jnp.ones((1, 1)))
            ratio = post.log_ratio(one) - 0.5 * seen * np.log(2 * np.pi)
            np.testing.assert_allclose(got[n, k], ratio, rtol=1e-9)


@every_structure
def test_predictive_of_rows_with_a_precision_of_their_own(rng, structure):
    """As a mean over the parameters, of N(x | mu, (u Lambda)^-1)."""
    rows, q = rows_of(rng), make(structure, rng)
    u = jnp.asarray(rng.gamma(2.0, size=(len(rows.x), K)))
    got = q.log_predictive(rows, jnp.log(u))
    np.testing.assert_allclose(
        q.log_predictive(rows, jnp.zeros_like(u)), q.log_predictive(rows), rtol=1e-9
    )
    for n, k in np.ndindex(2, K):
        one = one_of(q, structure, k)
        row = rows.take(jnp.array([n]))
        at = one.moments()
        post = one.observe(row, jnp.ones((1, 1)), at, None, u[n, k].reshape(1, 1)) + one
        ratio = post.log_ratio(one) + 0.5 * D * np.log(u[n, k] / (2 * np.pi))
        np.testing.assert_allclose(got[n, k], ratio, rtol=1e-9)


def test_predictive_densities_are_scipys(rng):
    rows = rows_of(rng)
    x = np.asarray(rows.x)
    tied, diag, ball = (make(name, rng) for name in ("tied", "diag", "spherical"))
    for k in range(K):
        inflate = 1 + 1 / KAPPA[k]
        dof = float(tied.df) - D + 1
        shape = np.asarray(tied.scatter) * inflate / dof
        expected = stats.multivariate_t.logpdf(x, np.asarray(tied.mean)[k], shape, dof)
        np.testing.assert_allclose(tied.log_predictive(rows)[:, k], expected, rtol=1e-9)
        scale = np.sqrt(np.asarray(diag.scatter)[k] / DF[k] * inflate)
        expected = stats.t.logpdf(x, DF[k], np.asarray(diag.mean)[k], scale).sum(1)
        np.testing.assert_allclose(diag.log_predictive(rows)[:, k], expected, rtol=1e-9)
        shape = np.eye(D) * float(ball.scatter[k]) / DF[k] * inflate
        expected = stats.multivariate_t.logpdf(x, np.asarray(ball.mean)[k], shape, DF[k])
        np.testing.assert_allclose(ball.log_predictive(rows)[:, k], expected, rtol=1e-9)
    np.testing.assert_allclose(
        ball.predictive().log_prob(rows), ball.log_predictive(rows), rtol=1e-9
    )


@every_structure
def test_draws_have_the_mean_and_covariance_of_the_predictive(rng, key, structure):
    n = 100_000
    q = make(structure, rng)
    q = q + posterior(q, rows_of(rng), jnp.ones((N, K)))  # many degrees of freedom
    for k in range(K):
        x = np.asarray(q.draw(key, jnp.full(n, k)))
        kappa = np.ravel(q.kappa[k])[0]
        covariance = np.asarray(q.covariance[k]) * (1 + 1 / kappa)
        error = np.sqrt(np.diag(covariance) / n)
        assert (np.abs(x.mean(0) - np.asarray(q.mean[k])) < 5 * error).all()
        size = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
        np.testing.assert_allclose(np.cov(x.T) / size, covariance / size, atol=0.05)


# -- what only the tied family has -----------------------------------------------------------------


def test_switched_off_means_have_no_term(rng, key):
    """One with k = 3 of which the last is off is the one with k = 2."""
    three, prior = make("tied", rng), make("tied", rng)
    off = jnp.array([True, True, False])

    def without(q):
        return TiedNormalWishart(jnp.where(off, q.kappa, 0.0), q.shift, q.square, q.df, q.origin)

    a, b = without(three), without(prior)
    two, b_two = (q.take(jnp.array([0, 1])) for q in (a, b))
    for fn in (
        lambda q, p: q.kl(p),
        lambda q, p: q.entropy(),
        lambda q, p: q.log_normalizer(),
        lambda q, p: q.log_kernel(p.moments()),
        lambda q, p: q.kernel_gap(p.point()),
        lambda q, p: q.expected_log_prob(p.moments()),
        lambda q, p: q.log_ratio(p),
        lambda q, p: q.mode().precision,
    ):
        np.testing.assert_allclose(fn(a, b), fn(two, b_two), rtol=1e-10)
    moments = a.moments()
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((moments, a.point())))
    assert moments.spread[2] == 0
    value = a.sample(key)
    np.testing.assert_allclose(value.mean[2], a.mean[2])
    np.testing.assert_allclose(
        a.log_prob(value),
        two.log_prob(type(value)(value.mean[:2], value.precision)),
        rtol=1e-10,
    )


def test_taking_components_keeps_the_shared_precision(rng):
    q = posterior(make("tied", rng), rows_of(rng), jnp.ones((N, K)))
    some = q.take(jnp.array([2, 0]))
    for name in ("scatter", "df"):
        np.testing.assert_allclose(getattr(some, name), getattr(q, name), rtol=1e-12)
    for name in ("mean", "kappa", "covariance", "mean_sd"):
        np.testing.assert_allclose(getattr(some, name), getattr(q, name)[jnp.array([2, 0])])


def test_exchangeable_are_components_with_equal_parameters(rng):
    same = TiedNormalWishart.from_standard(np.zeros((3, 2)), [0.5, 0.5, 0.0], 4.0, np.eye(2))
    assert same.exchangeable()
    assert not make("tied", rng).exchangeable()


@every_structure
def test_merge_gain_is_the_difference_of_evidences(rng, structure):
    """Rows of component k counted in j instead; components have the same prior."""
    prior = make(structure, rng)
    prior = (
        prior.take(jnp.zeros(K, int))
        if structure != "tied"
        else TiedNormalWishart(
            jnp.full(K, 0.4), jnp.zeros((K, D)), prior.square, prior.df, jnp.ones((K, D))
        )
    )
    rows = rows_of(rng)
    mass = mass_of(rng, rows)
    before = posterior(prior, rows, mass)
    gain = before.merge_gain(prior)
    for j, k in ((0, 1), (1, 0), (0, 2), (2, 1)):
        moved = mass.at[:, j].add(mass[:, k]).at[:, k].set(0.0)
        difference = posterior(prior, rows, moved).log_ratio(prior) - before.log_ratio(prior)
        np.testing.assert_allclose(gain[j, k], difference, rtol=1e-8, atol=1e-8)


# -- the flat prior, and extremes ------------------------------------------------------------------


def flat(structure):
    def zeros(*shape):
        return jnp.zeros(shape)

    k, kd = zeros(K), zeros(K, D)
    return {
        "full": lambda: NormalWishart(k, kd, zeros(K, D, D), k, kd),
        "tied": lambda: TiedNormalWishart(k, kd, zeros(D, D), zeros(), kd),
        "diag": lambda: DiagonalNormalGamma(NormalGamma(kd, kd, kd, kd, kd)),
        "spherical": lambda: SphericalNormalGamma(kd, kd, k, k, kd),
    }[structure]()


@pytest.mark.parametrize("structure", ["tied", "diag", "spherical"])
def test_nothing_observed_under_a_flat_prior_stays_finite(rng, structure):
    rows, prior = rows_of(rng), flat(structure)
    mass = mass_of(rng, rows).at[:, 1].set(0.0)
    post = prior.observe(rows, mass, prior.point(), None) + prior
    for q in (prior, post):
        for moments in (q.moments(), q.point()):
            assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(moments))
            assert jnp.isfinite(moments.likelihood(rows)[0]).all()
        assert jnp.isfinite(q.mean).all()

    def objective(q):
        return jnp.sum(q.point().likelihood(rows)[0])

    gradient = jax.grad(objective)(post)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@every_structure
def test_flat_point_is_the_maximum_likelihood_estimate(rng, structure):
    rows, prior = rows_of(rng), flat(structure)
    x, mass = np.asarray(rows.x), mass_of(rng, rows)
    q = (prior.observe(rows, mass, prior.point(), None) + prior).point()
    total, inner = np.zeros((D, D)), []
    for k in range(K):
        share = np.asarray(mass)[:, k]
        centre = share @ x / share.sum()
        np.testing.assert_allclose(q.mean[k], centre, rtol=1e-10)
        inner.append((share[:, None] * (x - centre)).T @ (x - centre))
        total += inner[-1]
    for k in range(K):
        one = inner[k] / np.asarray(mass)[:, k].sum()
        expected = {
            "full": one,
            "tied": total / np.sum(mass),
            "diag": np.diag(np.diag(one)),
            "spherical": np.eye(D) * np.trace(one) / D,
        }[structure]
        np.testing.assert_allclose(q.covariance[k], expected, rtol=1e-9, atol=1e-9)


@every_structure
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_collapse_is_seen_whatever_the_units(rng, structure, scale):
    x = rng.normal(size=(N, D)) * scale
    prior = flat(structure)
    resp = np.zeros((N, K))
    resp[:10, 0] = resp[10:, 1] = 1.0
    resp[0], resp[0, 2] = 0.0, 1.0  # one row alone
    rows, mass = Batch.of(x), jnp.asarray(resp)
    got = settled(prior, rows, mass).collapsed(jnp.sum(mass, 0))
    assert got.tolist() == ([False] * 3 if structure == "tied" else [False, False, True])
    same = Batch.of(np.repeat(x[:K], 10, 0))
    mass = jnp.asarray(np.repeat(np.eye(K), 10, 0))
    assert settled(prior, same, mass).collapsed(jnp.sum(mass, 0)).all()


@pytest.mark.float32
@pytest.mark.parametrize("structure", ["full", "tied"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_rows_in_a_plane_are_a_collapse(rng, structure, scale):
    """No sd is small, but that across the plane is lost in the rounding of the others."""
    plane = rng.normal(size=(N, D - 1)) @ rng.normal(size=(D - 1, D)) + 3.0
    whole = rng.normal(size=(N, D))
    rows = Batch.of(np.concatenate([plane, whole]) * scale)
    mass = jnp.zeros((2 * N, K)).at[:N, 0].set(1.0).at[N : N + N // 2, 1].set(1.0)
    mass = mass.at[N + N // 2 :, 2].set(1.0)
    got = settled(flat(structure), rows, mass).collapsed(jnp.sum(mass, 0))
    assert got.tolist() == [structure == "full", False, False]
    rows = Batch.of(np.concatenate([plane, plane]) * scale)
    assert settled(flat(structure), rows, mass).collapsed(jnp.sum(mass, 0)).all()


def settled(prior, rows, mass):
    """Statistics about their own means, as after a few sweeps."""
    q = prior
    for _ in range(2):
        q = prior.observe(rows, mass, q.point(), None) + prior
    return q


@pytest.mark.float32
@pytest.mark.parametrize("structure", ["tied", "diag", "spherical"])
def test_float32_far_from_the_origin(rng, structure):
    """Statistics about the current means keep their digits."""
    x = (rng.normal(size=(N, D)) + 1e4).astype(np.float32)
    resp = rng.dirichlet(np.ones(K), size=N).astype(np.float32)

    def fit(dtype):
        rows = Batch.of(x.astype(dtype))
        prior = jax.tree.map(lambda a: a.astype(dtype), flat(structure))
        q = prior.seed(rows, jnp.arange(K), jnp.full(K, N / K, dtype)) + prior
        for _ in range(2):
            q = prior.observe(rows, jnp.asarray(resp, dtype), q.point(), None) + prior
        return q.point(), q.point().likelihood(rows)[0]

    point, log_lik = fit(np.float32)
    exact = np.asarray(x, np.float64)
    share = resp.astype(np.float64) / resp.sum(0)
    centre = share.T @ exact
    np.testing.assert_allclose(point.mean, centre, rtol=2e-7)
    variance = np.stack([share[:, k] @ (exact - centre[k]) ** 2 for k in range(K)])
    if structure == "spherical":
        variance = np.repeat(variance.mean(1, keepdims=True), D, 1)
    if structure == "tied":
        variance = np.repeat((resp.sum(0) @ variance)[None] / N, K, 0)
    got = np.diagonal(point.covariance, axis1=1, axis2=2)
    np.testing.assert_allclose(got, variance, rtol=2e-3)
    assert log_lik.dtype == jnp.float32


def test_full_covariance_posterior_has_not_moved(rng):
    rows, prior = rows_of(rng), make("full", rng)
    mass = mass_of(rng, rows)
    post = posterior(prior, rows, mass)
    given = {name: np.asarray(getattr(prior, name)) for name in ("mean", "kappa", "df", "scatter")}
    expected = gmm.update(np.asarray(rows.x), np.asarray(mass), given | {"conc": np.ones(K)})
    for name in given:
        np.testing.assert_allclose(getattr(post, name), expected[name], rtol=1e-10)


# -- in products -----------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_a_product_takes_statistics_about_any_origin(rng, structure, offset):
    """<E[T], stats> is the sum over the factors, and against the log-densities of the rows."""
    rows, prior = rows_of(rng), make(structure, rng)
    rows = dataclasses.replace(rows, x=rows.x + offset)
    mass = mass_of(rng, rows)
    weights = Dirichlet.from_standard(rng.gamma(2.0, size=K))
    count = jnp.sum(mass, 0)
    q = MixtureParams(weights + weights.observe(count), posterior(prior, rows, mass))
    moments = q.components.moments()
    log_lik, _ = moments.likelihood(rows)
    exact = jnp.sum(mass * (log_lik + q.weights.moments().log_p))
    exact = exact + 0.5 * jnp.sum(mass) * D * jnp.log(2 * jnp.pi)
    near = prior.observe(rows, mass, moments, None)
    assert np.abs(near.origin - prior.origin).max() > 1
    for components in (near, near.about(prior), near.about(q.components)):
        stats = MixtureParams(weights.observe(count), components)
        parts = q.weights.dot(stats.weights) + q.components.dot(stats.components)
        np.testing.assert_allclose(q.dot(stats), parts, rtol=1e-12)
        np.testing.assert_allclose(q.dot(stats), exact, rtol=1e-9)
