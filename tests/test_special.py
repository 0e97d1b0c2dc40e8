"""Numerical pieces against SciPy and NumPy in float64, and against identities."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, gammaln, xlogy, zeta

from vijax.numerics import compensated, linalg, seeding, special

GRID = np.concatenate([np.geomspace(1e-3, 1e7, 60), [0.5, 1.0, 2.0, 7.999, 8.0, 8.001]])


def dtypes():
    return [np.float32] + ([np.float64] if jax.config.jax_enable_x64 else [])


@pytest.mark.float32
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stirling_error_and_digamma_gap(dtype):
    if dtype not in dtypes():
        dtype = np.float32
    a = jnp.asarray(GRID.astype(dtype))
    wide = np.asarray(a, float)
    main = (wide - 0.5) * np.log(wide) - wide + 0.5 * np.log(2 * np.pi)
    # SciPy's own difference loses digits above 1e3, where the series is 1 / (12 a)
    exact = np.where(wide < 1e3, gammaln(wide) - main, 1 / (12 * wide) - 1 / (360 * wide**3))
    rtol, atol = (1e-5, 3e-7) if dtype == np.float32 else (1e-9, 1e-12)
    np.testing.assert_allclose(special.stirling_error(a), exact, rtol=rtol, atol=atol)
    gap = np.where(wide < 1e3, np.log(wide) - digamma(wide), 0.5 / wide + 1 / (12 * wide**2))
    np.testing.assert_allclose(special.digamma_gap(a), gap, rtol=rtol, atol=atol)


@pytest.mark.float32
def test_excess_has_full_relative_accuracy():
    u = np.float32([1e-6, 0.3, 0.5, 0.79, 0.81, 0.999, 1 + 1e-6, 1.001, 1.19, 1.21, 3.0, 1e6])
    wide = u.astype(float)
    exact = (wide - 1) - np.log1p(wide - 1)
    near = np.abs(wide - 1) < 1e-4
    v = wide - 1
    exact[near] = (v**2 / 2 - v**3 / 3 + v**4 / 4)[near]
    np.testing.assert_allclose(special.excess(jnp.asarray(u)), exact, rtol=2e-6)
    assert special.excess(jnp.ones(())) == 0


@pytest.mark.float32
def test_log_ratio_has_full_relative_accuracy():
    a0 = np.float32([2.0, 2.0, 1e6, 3.0, 1e-3])
    a = np.float32([np.nextafter(np.float32(2), np.float32(3)), 5.0, 1e6 + 1, 1e-6, 1e3])
    exact = np.log1p((a.astype(float) - a0) / a0)
    np.testing.assert_allclose(special.log_ratio(jnp.asarray(a), jnp.asarray(a0)), exact, rtol=1e-6)


@pytest.mark.float32
@pytest.mark.parametrize("count", [1.0, 1e3, 1e6])
def test_shape_gap_is_what_is_left_of_a_gamma_divergence(count):
    a, a0 = np.float32(0.7 + count), np.float32(0.7)
    wide, wide0 = float(a), float(a0)
    exact = gammaln(wide0) - gammaln(wide) - digamma(wide) * (wide0 - wide)
    exact -= wide0 * (wide / wide0 - 1 - np.log(wide / wide0))
    got = special.shape_gap(jnp.asarray(a), jnp.asarray(a0))
    np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-5)
    assert special.shape_gap(jnp.asarray(a), jnp.asarray(a)) == 0


@pytest.mark.float32
def test_trigamma_gap():
    dtype = dtypes()[-1]
    a = jnp.asarray(GRID.astype(dtype))
    wide = np.asarray(a, float)
    exact = np.where(wide < 1e3, zeta(2.0, wide) - 1 / wide, 0.5 / wide**2 + 1 / (6 * wide**3))
    rtol = 1e-5 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(special.trigamma_gap(a), exact, rtol=rtol)


@pytest.mark.float32
@pytest.mark.parametrize("small", [1e-6, 1e-4, 0.003])
def test_shape_gap_of_close_shapes_keeps_its_digits(small):
    """By its integral in float64; the difference of functions would be noise, of either sign."""
    dtype = dtypes()[-1]
    a = jnp.asarray(GRID.astype(dtype))
    a0 = a * (1.0 + small)
    wide, wide0 = np.asarray(a, float), np.asarray(a0, float)
    t, weight = np.polynomial.legendre.leggauss(9)
    at = wide + 0.5 * (t[:, None] + 1.0) * (wide0 - wide)
    second = np.where(at < 1e3, zeta(2.0, at) - 1 / at, 0.5 / at**2 + 1 / (6 * at**3))
    exact = (wide0 - wide) ** 2 * ((0.25 * weight * (1.0 - t)) @ second)
    got = special.shape_gap(a, a0)
    np.testing.assert_allclose(got, exact, rtol=2e-5 if dtype == np.float32 else 1e-8)


def test_log_gamma_normalizer(rng):
    shape, rate = rng.gamma(2.0, size=20) * 10, rng.gamma(2.0, size=20)
    got = special.log_gamma_normalizer(jnp.asarray(shape), jnp.asarray(rate))
    np.testing.assert_allclose(got, gammaln(shape) - shape * np.log(rate), rtol=1e-10, atol=1e-10)


def test_normalize(rng):
    log_p = rng.normal(size=(50, 4)) * 100
    log_p[3] = -np.inf
    log_p[4, 1] = -np.inf
    p, log_z = special.normalize(jnp.asarray(log_p))
    top = log_p.max(1)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(log_z, safe + np.log(np.exp(log_p - safe[:, None]).sum(1)))
    sums_ = np.asarray(p.sum(1))
    np.testing.assert_allclose(np.delete(sums_, 3), 1.0)
    assert log_z[3] == -np.inf
    assert sums_[3] == 0
    slope = jax.grad(lambda a: jnp.sum(jnp.where(jnp.isfinite(a), special.normalize(a)[0], 0.0)))
    assert jnp.isfinite(slope(jnp.asarray(np.delete(log_p, 3, 0)))).all()


def test_xlogy(rng):
    x = jnp.asarray([0.0, 0.0, 2.0])
    log_y = jnp.asarray([-jnp.inf, 3.0, -1.0])
    np.testing.assert_allclose(special.xlogy(x, log_y), xlogy(x, np.exp(log_y)))
    for slope in jax.grad(lambda a, b: special.xlogy(a, b).sum(), (0, 1))(x, log_y):
        assert jnp.isfinite(slope).all()


@pytest.mark.parametrize("d", [1, 2, 4, 8, 9, 16, 21])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_linear_algebra_is_numpys(rng, batch, d):
    root = rng.normal(size=(*batch, d, 2 * d))
    a = root @ np.swapaxes(root, -1, -2)
    low = linalg.chol(jnp.asarray(a))
    np.testing.assert_allclose(low, np.linalg.cholesky(a), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(linalg.from_chol(low), a, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(linalg.logdet(low), np.linalg.slogdet(a)[1], rtol=1e-9)
    inverse = np.linalg.inv(a)
    np.testing.assert_allclose(linalg.precision_from_chol(low), inverse, rtol=1e-6, atol=1e-9)
    v = rng.normal(size=(*batch, d))
    half = np.einsum("...ij,...j->...i", np.linalg.inv(np.linalg.cholesky(a)), v)
    np.testing.assert_allclose(linalg.tri_solve_vector(low, jnp.asarray(v)), half, rtol=1e-7)
    np.testing.assert_allclose(
        linalg.outer(jnp.asarray(v), jnp.asarray(v)).mT, v[..., None] * v[..., None, :]
    )
    trace = np.trace(a, axis1=-2, axis2=-1) - d - np.linalg.slogdet(a)[1]
    np.testing.assert_allclose(linalg.stein_loss(low), trace, rtol=1e-9)


@pytest.mark.float32
@pytest.mark.parametrize("d", [2, 8, 13, 40])
def test_cholesky_of_an_indefinite_matrix_is_nan(rng, d):
    root = rng.normal(size=(d, 2 * d))
    good = root @ root.T
    bad = good - 2 * np.linalg.eigvalsh(good)[0] * np.eye(d)
    factors = linalg.chol(jnp.asarray(np.stack([good, bad])))
    assert jnp.isfinite(factors[0]).all()
    assert jnp.isnan(linalg.logdet(factors))[1]


@pytest.mark.parametrize("d", [3, 11])
def test_gradients_of_the_factor_are_jaxs(rng, d):
    root = rng.normal(size=(2, d, 2 * d))
    a = jnp.asarray(root @ np.swapaxes(root, -1, -2))
    probe = jnp.asarray(rng.normal(size=(2, d, d)))

    def ours(a):
        return jnp.sum(probe * linalg.tri_inverse(linalg.chol(a)))

    def jaxs(a):
        return jnp.sum(probe * jnp.linalg.inv(jnp.linalg.cholesky(a)))

    np.testing.assert_allclose(jax.grad(ours)(a), jax.grad(jaxs)(a), rtol=1e-8, atol=1e-12)


def test_two_factors_in_one_program_never_wait_for_each_other():
    """LAPACK's batched kernel did, for ever, on two cores; hence a process with a time limit."""
    script = """
import jax, jax.numpy as jnp, numpy as np
from vijax.numerics import linalg
a = np.random.default_rng(0).normal(size=(2, 16, 64, 66))
a = jnp.asarray(a @ a.mT)

@jax.jit
def both(x, y):
    def step(_, c):
        return c + 1e-20 * (linalg.chol(x + c).sum() + linalg.tri_inverse(y + c).sum())
    return jax.lax.fori_loop(0, 100, step, jnp.zeros(()))

print(float(both(*a)) < 1)
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=120, check=True
    )
    assert run.stdout.strip() == b"True"


@pytest.mark.float32
def test_rounding_error_makes_an_addition_exact(rng):
    a, b = (rng.normal(size=100) * 10.0 ** rng.integers(-6, 6, 100) for _ in range(2))
    a, b = a.astype(np.float32), b.astype(np.float32)
    lost = jax.jit(compensated.rounding_error)(a, b)
    exact = a.astype(float) + b.astype(float)
    np.testing.assert_array_equal((a + b).astype(float) + np.asarray(lost, float), exact)


def test_rows_are_chosen_in_proportion_to_their_mass(rng):
    mass = np.array([0.0, 1.0, 0.0, 3.0, 6.0, 0.0, 0.0])
    uniform = jnp.asarray(rng.random((20_000, 2)))
    chosen = jax.vmap(lambda u: seeding.choose_row(u, jnp.asarray(mass)))(uniform)
    share = np.bincount(chosen, minlength=7) / 20_000
    np.testing.assert_allclose(share, mass / 10, atol=5 * 0.5 / np.sqrt(20_000))
    assert (share[mass == 0] == 0).all()


@pytest.mark.float32
def test_the_largest_uniform_number_never_leaves_the_rows():
    mass = jnp.asarray(np.r_[np.ones(5), np.zeros(4)], jnp.float32)
    top = jnp.full((2,), np.nextafter(np.float32(1), np.float32(0)))
    assert seeding.choose_row(top, mass) == 4
    assert seeding.choose_row(jnp.zeros(2, jnp.float32), mass[::-1]) == 4


def test_seeds_are_far_apart_and_never_rows_of_weight_zero(rng):
    x = np.concatenate([rng.normal(size=(50, 2)) + c for c in ([0, 0], [100, 0], [0, 100])])
    far = np.concatenate([x, np.full((5, 2), 1e6)])
    weight = np.r_[np.ones(150), np.zeros(5)]
    for i in range(20):
        key = jax.random.key(i)
        seeds = seeding.kmeans_plus_plus(key, jnp.asarray(far), jnp.asarray(weight), 3)
        groups = {tuple(np.round(far[s] / 100).astype(int)) for s in np.asarray(seeds)}
        assert groups == {(0, 0), (1, 0), (0, 1)}


def test_seeds_that_are_given_stay(rng):
    x, given = jnp.asarray(rng.normal(size=(200, 3))), jnp.asarray([-1, 7, -1, 9, -1, -1, -1, -1])
    for key in jax.random.split(jax.random.key(0), 30):
        seeds = np.asarray(seeding.kmeans_plus_plus(key, x, jnp.ones(200), 8, given))
        assert (seeds[[1, 3]] == [7, 9]).all()
        assert len(set(seeds)) == 8


def test_labelled_rows_are_drawn_among_those_that_count(rng):
    label, weight = jnp.asarray([0, 2, 2, -1, 0, 2]), jnp.asarray([0.0, 1.0, 1.0, 1.0, 2.0, 0.0])
    keys = jax.random.split(jax.random.key(0), 50)
    rows = np.asarray(jax.vmap(lambda key: seeding.labelled_rows(key, label, weight, 4))(keys))
    assert (rows[:, 0] == 4).all()
    assert set(rows[:, 2]) == {1, 2}
    assert (rows[:, [1, 3]] == -1).all()


def test_more_seeds_than_distinct_rows():
    x = jnp.asarray([[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]])
    seeds = seeding.kmeans_plus_plus(jax.random.key(0), x, jnp.ones(3), 5)
    assert seeds.shape == (5,)
    assert len(np.unique(x[seeds], axis=0)) == 2
