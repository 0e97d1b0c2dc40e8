"""Student-t mixtures: quadrature over the rows' precisions, learned tails, outliers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, stats
from scipy.special import logsumexp, multigammaln

import vijax as vx
from vijax.numerics import roots, special

from .data import clusters
from .oracles import weights as weights_oracle

DOF = 3.0


def weighted_evidence(x, u, prior):
    """log p(x | u) of one component, rows with precisions multiplied by u:

    the Normal-Wishart evidence of rows counted u times, with df counted once each.
    """
    if not len(x):
        return 0.0
    d = x.shape[1]
    names = ("mean", "kappa", "df", "scatter")
    mean, kappa, df, scatter = (np.asarray(prior[name][0]) for name in names)
    total = u.sum()
    centre = u @ x / total
    within = (u[:, None] * (x - centre)).T @ (x - centre)
    move = centre - mean
    after = scatter + within + kappa * total / (kappa + total) * np.outer(move, move)

    def log_normalizer(kappa, df, scatter):
        wishart = multigammaln(0.5 * df, d) - 0.5 * df * np.linalg.slogdet(scatter)[1]
        return wishart + 0.5 * df * d * np.log(2) - 0.5 * d * np.log(kappa)

    change = log_normalizer(kappa + total, df + len(x), after) - log_normalizer(kappa, df, scatter)
    return change - 0.5 * x.size * np.log(2 * np.pi) + 0.5 * d * np.log(u).sum()


def evidence_of_two_rows(x, prior, conc):
    """log p(x) of two rows: both precisions by quadrature, assignments by enumeration."""
    node, weight = np.polynomial.legendre.leggauss(80)
    # u = exp(t), t over all that Gamma(dof / 2, dof / 2) reaches
    t, weight = 10.0 * node - 6.0, 10.0 * weight
    log_w = np.log(weight) + t + stats.gamma.logpdf(np.exp(t), DOF / 2, scale=2 / DOF)
    total = []
    for z in itertools.product(range(len(conc)), repeat=2):
        z = np.array(z)
        term = weights_oracle.log_prob_dirichlet(np.bincount(z, minlength=len(conc)), conc)
        each = []
        for i, j in itertools.product(range(80), repeat=2):
            u = np.exp(np.array([t[i], t[j]]))
            own = [
                weighted_evidence(x[z == k], u[z == k], {n: v[k : k + 1] for n, v in prior.items()})
                for k in range(len(conc))
            ]
            each.append(log_w[i] + log_w[j] + sum(own))
        total.append(term + logsumexp(each))
    return logsumexp(total)


def test_bound_against_quadrature(rng):
    x = rng.normal(size=(2, 1))
    conc = np.array([0.8, 1.5])
    prior = {
        "mean": rng.normal(size=(2, 1)),
        "kappa": np.array([0.5, 1.0]),
        "df": np.array([2.0, 3.0]),
        "scatter": np.array([[[1.0]], [[2.0]]]),
    }
    model = vx.StudentTMixture.with_prior(2, dof=DOF, conc=conc, **prior)
    evidence = evidence_of_two_rows(x, prior, conc)
    fit = vx.fit(model, x, key=jax.random.key(0), num_restarts=8)
    assert (fit.elbos <= evidence + 1e-6).all()
    assert fit.elbo > evidence - 3.0


def test_one_row_at_a_point_is_scipys_density(rng):
    """With parameters known, the row's part of the bound is the Student-t density."""
    x = rng.normal(size=(10, 2)) * 3
    model = vx.StudentTMixture.flat(1, 2, dof=DOF)
    own = vx.NormalWishart.from_standard(np.zeros((1, 2)), [1.0], [5.0], [[[2.0, 0.3], [0.3, 1.0]]])
    q = vx.StudentTMixture.with_prior(
        1, dof=DOF, conc=1.0, mean=own.mean, kappa=1.0, df=5.0, scatter=own.scatter
    ).prior
    got = q.components.point().likelihood(vx.Batch.of(x))[0][:, 0]
    shape = np.asarray(own.scatter[0]) / 5.0
    expected = stats.multivariate_t.logpdf(x, np.zeros(2), shape, df=DOF)
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    assert model.improper


@pytest.mark.parametrize("structure", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("method", [vx.CAVI(), vx.EM()], ids=["CAVI", "EM"])
def test_never_falls_while_it_learns_the_tails(rng, structure, method):
    x, _ = clusters(rng, n=150, k=2)
    x[:10] += rng.normal(size=(10, 2)) * 15
    model = vx.StudentTMixture.from_data(x, 3, covariance=structure)
    states = vx.trajectory(model, x, key=jax.random.key(0), num_iters=80, method=method)
    elbo = np.asarray(states.elbo)
    assert (np.diff(elbo) >= -1e-9 * np.abs(elbo[1:])).all()


def test_degrees_of_freedom_are_scipys_maximum(rng):
    x = stats.t.rvs(3.5, loc=2.0, scale=1.5, size=(1500, 1), random_state=rng)
    model = vx.StudentTMixture.flat(1, 1)
    fit = vx.fit(
        model, x, init=np.zeros(1500, int), method=vx.EM(), stop=vx.Stop(tol=1e-7, max_iter=5000)
    ).check()
    dof, location, scale = stats.t.fit(x[:, 0])
    components = fit.q.components
    np.testing.assert_allclose(components.dof, dof, rtol=1e-3)
    np.testing.assert_allclose(components.mean[0, 0], location, rtol=1e-3)
    np.testing.assert_allclose(components.point().gaussian.covariance[0, 0, 0], scale**2, rtol=1e-3)
    direct = stats.t.logpdf(x[:, 0], dof, location, scale).sum()
    np.testing.assert_allclose(fit.elbo, direct, rtol=1e-7)


@pytest.mark.parametrize("dof", [0.1, 0.3, 1.0, 5.0, 30.0, 100.0, 200.0])
def test_far_rows_have_scipys_tails(dof):
    """With theta known all but exactly, the predictive density is the Student-t itself."""
    prior = {"mean": np.zeros(1), "kappa": 1e9, "df": 1e9, "scatter": 1e9 * np.eye(1), "conc": 1.0}
    model = vx.StudentTMixture.with_prior(1, dof=dof, **prior)
    x = np.array([0.0, 0.1, 1.0, 3.0, 20.0, 40.0, 100.0, 1e3])
    got = model.log_predictive(model.prior, x[:, None])
    np.testing.assert_allclose(got, stats.t.logpdf(x, dof), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("d", [2, 50, 200])
def test_central_rows_of_many_columns_have_scipys_density(d):
    prior = {"mean": np.zeros(d), "kappa": 1e9, "df": 1e9, "scatter": 1e9 * np.eye(d), "conc": 1.0}
    for dof in (1.0, 3.0, 50.0):
        model = vx.StudentTMixture.with_prior(1, dof=dof, **prior)
        x = np.zeros((2, d))
        x[1, 0] = 5.0
        exact = stats.multivariate_t.logpdf(x, np.zeros(d), np.eye(d), df=dof)
        np.testing.assert_allclose(model.log_predictive(model.prior, x), exact, rtol=1e-6)


@pytest.mark.parametrize("structure", ["full", "tied", "diag", "spherical"])
def test_predictive_against_quadrature_over_the_rows_precision(structure):
    scatter = 2.0 * np.eye(1) if structure in ("full", "tied") else 2.0 * np.ones(1)
    scatter = 2.0 if structure == "spherical" else scatter
    prior = {"mean": np.zeros(1), "kappa": 0.5, "df": 2.5, "scatter": scatter, "conc": 1.0}
    model = vx.StudentTMixture.with_prior(1, dof=3.0, covariance=structure, **prior)
    for x in (0.0, 2.0, 30.0, 1e4):

        def density(t, x=x):
            u = np.exp(t)
            row = stats.t.pdf(x, 2.5, scale=np.sqrt((1 / u + 2.0) * 2.0 / 2.5))
            return stats.gamma.pdf(u, 1.5, scale=1 / 1.5) * u * row

        exact = integrate.quad(
            density, -60, 4, limit=2000, epsabs=0, epsrel=1e-11, points=[-20, -10, -5, 0]
        )[0]
        got = model.log_predictive(model.prior, np.array([[x]]))[0]
        np.testing.assert_allclose(got, np.log(exact), rtol=1e-8)


def test_many_degrees_of_freedom_are_the_normal(rng):
    x, _ = clusters(rng, n=80)
    labels = rng.integers(3, size=80)
    normal = vx.fit(vx.GaussianMixture.from_data(x, 3), x, init=labels)
    student = vx.fit(vx.StudentTMixture.from_data(x, 3, dof=1e8), x, init=labels)
    np.testing.assert_allclose(student.elbo, normal.elbo, rtol=1e-6)


@pytest.mark.long
def test_outliers_do_not_make_components(rng):
    x, labels = clusters(rng, n=300, k=2, separation=6.0)
    x[:15] += stats.t.rvs(1.0, size=(15, 2), random_state=rng) * 20
    key = jax.random.key(0)
    heavy = vx.StudentTMixture.from_data(x, 6)
    light = vx.GaussianMixture.from_data(x, 6)
    fit = vx.fit(heavy, x, key=key, num_restarts=8, stop=vx.Stop(max_iter=4000))
    usual = vx.fit(light, x, key=key, num_restarts=8)
    assert (fit.q.weights.mean > 0.1).sum() == 2
    assert fit.elbo > usual.elbo
    found = np.asarray(heavy.predict(fit.q, x))
    # which components they are is a draw: the matching with the most rows
    table = np.histogram2d(labels[15:], found[15:], bins=(2, 6), range=[(0, 2), (0, 6)])[0]
    assert table[optimize.linear_sum_assignment(-table)].sum() > 0.97 * 285


def test_root_of_digamma():
    a = jnp.asarray([0.05, 0.1, 0.7, 3.0, 50.0, 100.0])
    gap = special.digamma_gap(a)
    np.testing.assert_allclose(roots.inverse_digamma_gap(gap, 0.05, 100.0), a, rtol=1e-10)
    beyond = roots.inverse_digamma_gap(jnp.asarray([-1.0, 0.0, 1e9]), 0.05, 100.0)
    np.testing.assert_allclose(beyond, [100.0, 100.0, 0.05])


def test_bad_degrees_of_freedom():
    x = np.ones((5, 2)) * np.arange(5)[:, None]
    with pytest.raises(ValueError, match="dof: must be finite and > 0, got -1"):
        vx.StudentTMixture.from_data(x, 2, dof=-1.0)
    with pytest.raises(ValueError, match="noise: the Student-t mixture takes none"):
        vx.fit(vx.StudentTMixture.from_data(x, 2), vx.Batch.of(x, noise=x), key=jax.random.key(0))


FAR_ROWS = {
    "one": [[3e4]],
    "on both sides": [[900.0], [-1000.0], [1100.0], [-950.0]],
    "a sentinel": [[-999.0]] * 6,
}


@pytest.mark.parametrize("name", FAR_ROWS)
def test_starts_beside_far_rows_find_both_clusters(name):
    rng = np.random.default_rng(3)
    near = np.concatenate([rng.normal(size=(150, 1)), 8.0 + rng.normal(size=(150, 1))])
    x = np.concatenate([near, FAR_ROWS[name]])
    labels = (x[:, 0] > 4.0).astype(int)
    model = vx.StudentTMixture.from_data(x, 2)
    known = vx.fit(model, x, init=labels)
    found = vx.fit(model, x, key=jax.random.key(0), num_restarts=4)
    assert found.elbo > known.elbo - 0.1
    np.testing.assert_allclose(np.sort(found.q.components.mean[:, 0]), [0.0, 8.0], atol=0.5)
