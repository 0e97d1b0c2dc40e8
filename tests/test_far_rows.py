"""Rows at any distance: densities and responsibilities are those of SciPy, in both precisions.

Squares of 1e30 are beyond float32, and so are log-densities of normal rows; what is asked for is
not.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp, softmax

import vijax as vx
from vijax.families.compound.columns import Columns
from vijax.families.compound.noise import WithNoise
from vijax.families.compound.student_t import student_t
from vijax.families.gaussian.diagonal_normal_gamma import DiagonalNormalGamma
from vijax.families.gaussian.spherical_normal_gamma import SphericalNormalGamma
from vijax.families.gaussian.tied_normal_wishart import TiedNormalWishart

DTYPES = ["float32", "float64"] if jax.config.jax_enable_x64 else ["float32"]
WEIGHTS = np.array([2.0, 3.0, 1.0])
MEAN = np.array([[0.0, 0.0], [6.0, 6.0], [-4.0, 5.0]])
KAPPA, DF = np.array([2.0, 3.0, 4.0]), np.array([5.0, 7.0, 6.0])
SCATTER = np.array([[[4.0, 1.0], [1.0, 3.0]], [[9.0, -2.0], [-2.0, 8.0]], [[2.0, 0.0], [0.0, 9.0]]])
DOF = np.array([1.5, 3.0, 1.0])
ROWS = np.array(
    [[1e20, 0.0], [-3e25, 6.0], [1e18, 2e18], [1e30, -1e30], [2.0, 1e30], [7e9, 1e10], [1.0, 4.0]]
)
NAN = np.nan
HOLES = np.array([[1e20, NAN], [NAN, -1e30], [3e27, 1e15], [NAN, NAN], [2.0, NAN]])

FAMILIES = {
    "full": lambda: vx.NormalWishart.from_standard(MEAN, KAPPA, DF, SCATTER),
    "tied": lambda: TiedNormalWishart.from_standard(MEAN, KAPPA, 7.0, SCATTER[0]),
    "diag": lambda: DiagonalNormalGamma.from_standard(
        MEAN, KAPPA, DF, np.diagonal(SCATTER, axis1=1, axis2=2)
    ),
    "spherical": lambda: SphericalNormalGamma.from_standard(MEAN, KAPPA, DF, SCATTER[:, 0, 0]),
}


def mixture(components, dtype, weights=WEIGHTS):
    model = vx.Mixture(vx.Dirichlet.from_standard(weights), components)
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), model)


def parts_of(gaussian):
    """Means and covariances at the point, in float64."""
    point = gaussian.point()
    return np.asarray(point.mean, float), np.asarray(point.covariance, float)


def log_densities(rows, mean, covariance, density):
    """(n, k) of the observed entries, 0 for a row that has none."""
    out = np.zeros((len(rows), len(mean)))
    for n, row in enumerate(rows):
        seen = np.flatnonzero(~np.isnan(row))
        for k in range(len(mean)):
            if len(seen):
                block = covariance[k][np.ix_(seen, seen)]
                out[n, k] = density(k, row[seen], mean[k, seen], block)
    return out


def normal(k, x, mean, covariance):
    return stats.multivariate_normal.logpdf(x, mean, covariance)


def student(dof):
    return lambda k, x, mean, scale: stats.multivariate_t.logpdf(x, mean, scale, dof[k])


def assert_close(found, expected, dtype):
    tol = 1e-4 if dtype == "float32" else 1e-8
    np.testing.assert_allclose(np.asarray(found, float), expected, rtol=tol, atol=tol)


def batch_of(rows, dtype):
    return vx.Batch.of(rows.astype(dtype), missing=bool(np.isnan(rows).any()))


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [ROWS, HOLES], ids=["whole", "missing"])
@pytest.mark.parametrize("name", ["full", "diag", "spherical"])
def test_normal_rows_belong_to_the_component_of_the_least_square(name, rows, dtype):
    model = mixture(FAMILIES[name](), dtype)
    mean, covariance = parts_of(model.components)
    joint = log_densities(rows, mean, covariance, normal) + np.log(WEIGHTS / WEIGHTS.sum())
    batch = batch_of(rows, dtype)
    resp = model.responsibilities(model.prior.point(), batch)
    assert_close(resp, softmax(joint, -1), dtype)
    np.testing.assert_array_equal(model.predict(model.prior.point(), batch), joint.argmax(-1))
    found = np.asarray(model.log_likelihood(model.prior, batch), float)
    expected = logsumexp(joint, -1)
    known = expected > np.finfo(dtype).min
    np.testing.assert_allclose(found[known], expected[known], rtol=1e-5)
    assert np.isneginf(found[~known]).all()


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_as_far_from_all_have_the_odds_of_something(dtype):
    """Under one covariance differences may be rounding; rows still sum to one."""
    model = mixture(FAMILIES["tied"](), dtype)
    for rows in (ROWS, HOLES):
        resp = np.asarray(model.responsibilities(model.prior, batch_of(rows, dtype)))
        np.testing.assert_allclose(resp.sum(-1), 1.0, rtol=1e-5)
    noisy = vx.Batch.of(ROWS.astype(dtype), noise=np.full_like(ROWS, 0.1, dtype))
    for name in ("full", "tied"):
        model = mixture(FAMILIES[name](), dtype)
        resp = np.asarray(model.responsibilities(model.prior, noisy))
        np.testing.assert_allclose(resp.sum(-1), 1.0, rtol=1e-5)


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [ROWS, HOLES], ids=["whole", "missing"])
@pytest.mark.parametrize("name", ["full", "tied", "diag", "spherical"])
def test_student_rows(name, rows, dtype):
    """Log-densities fall with the logarithm, so that nothing is lost at any distance."""
    gaussian = FAMILIES[name]()
    model = mixture(student_t(gaussian, jnp.asarray(DOF), learn=False), dtype)
    mean, scale = parts_of(gaussian)
    joint = log_densities(rows, mean, scale, student(DOF)) + np.log(WEIGHTS / WEIGHTS.sum())
    batch, point = batch_of(rows, dtype), model.prior.point()
    assert_close(model.responsibilities(point, batch), softmax(joint, -1), dtype)
    assert_close(model.log_likelihood(point, batch), logsumexp(joint, -1), dtype)


def predictive(name):
    """What integrates theta out: location, scale matrices and degrees of freedom (Bishop 10.82)."""
    if name == "full":
        dof = DF - 1.0
        return SCATTER * ((1.0 + 1.0 / KAPPA) / dof)[:, None, None], dof
    dof = np.full(3, 7.0 - 1.0)
    return SCATTER[:1] * ((1.0 + 1.0 / KAPPA) / dof)[:, None, None], dof


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [ROWS, HOLES], ids=["whole", "missing"])
@pytest.mark.parametrize("name", ["full", "tied", "diag", "spherical"])
def test_predictive_densities(name, rows, dtype):
    model = mixture(FAMILIES[name](), dtype)
    wide = (1.0 + 1.0 / KAPPA) / DF
    if name in ("full", "tied"):
        scale, dof = predictive(name)
        each = log_densities(rows, MEAN, scale, student(dof))
    elif name == "spherical":
        scale = np.eye(2) * (wide * SCATTER[:, 0, 0])[:, None, None]
        each = log_densities(rows, MEAN, scale, student(DF))
    else:
        sd = np.sqrt(wide[:, None] * np.diagonal(SCATTER, axis1=1, axis2=2))
        each = stats.t.logpdf(rows[:, None], DF[:, None], MEAN, sd)
        each = np.where(np.isnan(rows)[:, None], 0.0, each).sum(-1)
    expected = logsumexp(each + np.log(WEIGHTS / WEIGHTS.sum()), -1)
    assert_close(model.log_predictive(model.prior, batch_of(rows, dtype)), expected, dtype)


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["full", "diag"])
def test_predictive_densities_of_student_rows(name, dtype):
    """By a fine sum over the log of the row's precision u, with theta integrated out."""
    model = mixture(student_t(FAMILIES[name](), jnp.asarray(DOF), learn=False), dtype)
    log_u = np.linspace(-170.0, 8.0, 20_001)
    prior = stats.gamma.logpdf(np.exp(log_u), DOF[:, None] / 2, scale=2 / DOF[:, None]) + log_u
    inflate = np.logaddexp(-log_u, -np.log(KAPPA)[:, None])
    joint = np.zeros((len(ROWS), 3))
    for k in range(3):
        z = ROWS - MEAN[k]
        if name == "full":
            scale, dof = SCATTER[k] / (DF[k] - 1.0), DF[k] - 1.0
            unit = stats.multivariate_t(np.zeros(2), np.eye(2), dof)
            log_square = np.log(np.einsum("ni,ij,nj->n", z, np.linalg.inv(scale), z))
            tail = np.logaddexp(0.0, log_square[:, None] - inflate[k] - np.log(dof))
            each = unit.logpdf(np.zeros(2)) - 0.5 * np.linalg.slogdet(scale)[1] - inflate[k]
            each = each - 0.5 * (dof + 2.0) * tail
        else:
            variance = np.diagonal(SCATTER[k]) / DF[k]
            log_square = np.log(np.maximum(z**2 / variance, 1e-300))
            tail = np.logaddexp(0.0, log_square[:, :, None] - inflate[k] - np.log(DF[k]))
            each = stats.t.logpdf(0.0, DF[k]) - 0.5 * np.log(variance)[:, None] - 0.5 * inflate[k]
            each = (each - 0.5 * (DF[k] + 1.0) * tail).sum(1)
        joint[:, k] = logsumexp(each + prior[k], -1) + np.log(log_u[1] - log_u[0])
    expected = logsumexp(joint + np.log(WEIGHTS / WEIGHTS.sum()), -1)
    found = model.log_predictive(model.prior, batch_of(ROWS, dtype))
    np.testing.assert_allclose(np.asarray(found, float), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("dtype", DTYPES)
def test_far_rows_beside_noise_and_other_columns(dtype):
    box = np.array([[-15.0, -12.0], [15.0, 20.0]])
    noisy = mixture(
        WithNoise(FAMILIES["full"](), *map(jnp.asarray, box)), dtype, [2.0, 3.0, 1.0, 4]
    )
    resp = np.asarray(noisy.responsibilities(noisy.prior, ROWS.astype(dtype)))
    np.testing.assert_allclose(resp.sum(-1), 1.0, rtol=1e-5)
    assert (resp[:-1, 3] == 0).all()  # no row off the box is noise
    # two columns of different kinds: the farther one decides, however far the other is
    table = Columns({"a": FAMILIES["full"](), "b": FAMILIES["diag"]()})
    model = mixture(table, dtype)
    near = np.array([[1.0, 1.0], [1.0, 1.0], [1e20, 1e20]])
    far = np.array([[3e24, 0.0], [0.0, 3e24], [0.0, 1e27]])
    resp = model.responsibilities(
        model.prior.point(), {"a": near.astype(dtype), "b": far.astype(dtype)}
    )
    _, covariance = parts_of(table.parts["b"])
    least = np.stack([c.argmax() for c in np.diagonal(covariance, axis1=1, axis2=2).T])
    np.testing.assert_allclose(resp, np.eye(3)[least[[0, 1, 1]]], atol=1e-6)


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cluster_of_far_rows_keeps_its_own(dtype):
    """Rows near a wide, far component are not shrunk because another is tight."""
    mean = np.array([[0.0], [1e20], [1e20]])
    scatter = (DF * np.array([1e-2, 1e36, 4e36]))[:, None, None]
    gaussian = vx.NormalWishart.from_standard(mean, KAPPA, DF, scatter)
    model = mixture(gaussian, dtype)
    rows = np.array([[1e20], [1.02e20], [0.9e20]])
    means, covariance = parts_of(model.components)
    joint = log_densities(rows, means, covariance, normal) + np.log(WEIGHTS / WEIGHTS.sum())
    resp = model.responsibilities(model.prior.point(), rows.astype(dtype))
    np.testing.assert_allclose(resp, softmax(joint, -1), rtol=1e-3)


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("dtype", DTYPES)
def test_counts_and_waits(dtype):
    """Log-densities fall linearly: the larger rate wins, up to 1e30, and nothing is NaN."""
    rows = np.array([[1e8, 0.0], [1e20, 3.0], [1e30, 1e30]], dtype)
    high = np.array([[2.0, 3.0], [20.0, 30.0]])
    for cls in (vx.PoissonMixture, vx.ExponentialMixture):
        up = cls is vx.PoissonMixture
        model = cls.with_prior(2, shape=high * 10, rate=np.full((2, 2), 10.0), conc=1.0)
        model = jax.tree.map(lambda a: a.astype(dtype) if a.dtype.kind == "f" else a, model)
        resp = model.responsibilities(model.prior, rows)
        np.testing.assert_array_equal(resp, [[0.0, 1.0] if up else [1.0, 0.0]] * 3)
    model = vx.GeometricMixture.with_prior(2, a=np.array([[9.0] * 2, [1.0] * 2]), b=9.0, conc=1.0)
    model = jax.tree.map(lambda a: a.astype(dtype) if a.dtype.kind == "f" else a, model)
    np.testing.assert_array_equal(model.responsibilities(model.prior, rows), [[0.0, 1.0]] * 3)


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("family", ["bernoulli", "poisson", "mixed"])
def test_an_impossible_row_has_the_odds_of_the_weights(family):
    """After maximum likelihood a value that no component has seen is impossible under all."""
    seen, impossible = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 0.0]])
    if family == "bernoulli":
        model = vx.BernoulliMixture.flat(2, 2)
    elif family == "poisson":
        model = vx.PoissonMixture.flat(2, 2)
        seen, impossible = seen * [1.0, 0.0], np.array([[1.0, 4.0]])
    else:
        model = vx.Mixture(
            vx.PoissonMixture.flat(2, 2).weights,
            Columns({"f": vx.BernoulliMixture.flat(2, 2).components}),
            improper=True,
        )
        seen, impossible = {"f": seen}, {"f": impossible}
    batch = vx.Batch.of(seen)
    resp = jnp.asarray([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], batch.weight.dtype)
    q = model.update(model.prior, model.assign(model.prior, batch, resp))
    assert np.isneginf(model.log_likelihood(q, impossible)).all()
    np.testing.assert_allclose(model.responsibilities(q, impossible), [[2 / 3, 1 / 3]], rtol=1e-5)
    assert model.predict(q, impossible) == 0
