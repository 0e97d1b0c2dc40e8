"""Counts drawn at any size have the distribution that SciPy says, in both precisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import vijax as vx
from vijax.numerics import sampling

N = 20_000
FLOATS = ["float32", "float64"] if jax.config.jax_enable_x64 else ["float32"]


def assert_moments(draws, exact, step):
    """Mean and variance within 4.5 standard errors, `step` being what floats of this size round."""
    draws = np.asarray(draws, float)
    mean, variance, skew, kurtosis = (float(v) for v in exact.stats("mvsk"))
    sd = max(variance**0.5, 1e-9)
    assert abs(draws.mean() - mean) < 4.5 * sd / N**0.5 + step
    if sd > 10 * step:
        assert abs(draws.var() / sd**2 - 1.0) < 4.5 * ((kurtosis + 2.0) / N) ** 0.5 + 1e-3
        third = ((draws - mean) ** 3).mean() / sd**3
        assert abs(third - skew) < 4.5 * (15.0 / N) ** 0.5
    np.testing.assert_array_equal(draws, draws.round())


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("dtype", FLOATS)
def test_poisson(key, dtype):
    rates = np.array([0.3, 40.0, 4095.0, 4097.0, 1e5, 1e8, 5e9, 1e12], dtype)
    draw = jax.jit(lambda key, rate: sampling.poisson(key, jnp.broadcast_to(rate, (N,))))
    for i, rate in enumerate(rates):
        draws = draw(jax.random.fold_in(key, i), jnp.asarray(rate))
        assert draws.dtype == dtype
        step = float(np.spacing(rate))
        assert_moments(draws, stats.poisson(float(rate)), step)


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("dtype", FLOATS)
def test_binomial(key, dtype):
    cases = [(0, 0.4), (5, 0.3), (5, 1.0), (7, 0.0), (100, 0.97), (2e4, 0.3), (1e7, 1e-4)]
    cases += [(2e8, 1e-5), (1e10, 1e-8), (1e10, 0.7), (1e12, 0.2)]
    full = (N,)
    draw = jax.jit(
        lambda key, n, p: sampling.binomial(key, jnp.broadcast_to(n, full), jnp.full(full, p))
    )
    for i, (n, p) in enumerate(cases):
        n, p = np.asarray(n, dtype), np.asarray(p, dtype)
        draws = np.asarray(draw(jax.random.fold_in(key, i), n, p))
        assert ((draws >= 0) & (draws <= n)).all()
        exact = float(p) if p <= 0.5 else 1.0 - float(np.asarray(1.0 - p, dtype))
        if 0 < exact < 1 and n > 0:
            assert_moments(draws, stats.binom(int(n), exact), 2 * float(np.spacing(n)))
        else:
            np.testing.assert_array_equal(draws, n * p)


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("total", [9.0, 1e6, 5e9, 1e12])
def test_multinomial(key, total):
    p = np.array([0.2, 0.0, 0.5, 0.3], np.float32)
    rows = jnp.broadcast_to(jnp.asarray(p), (N, 4))
    draws = jax.jit(sampling.multinomial)(key, jnp.full((N,), total, np.float32), rows)
    draws, step = np.asarray(draws, float), 4 * float(np.spacing(np.float32(total)))
    assert (abs(draws.sum(1) - total) <= step).all()
    assert (draws[:, 1] == 0).all()
    for j in (0, 2, 3):
        assert_moments(draws[:, j], stats.binom(int(total), float(p[j])), step)


@pytest.mark.parametrize("size", [30.0, 1e9, 5e9, 1e12])
def test_mixtures_draw_counts_of_any_size(key, size):
    """Every family of counts: Poisson, geometric and multinomial, by their mean and spread."""
    n = 2000
    poisson = vx.PoissonMixture.with_prior(1, shape=np.array([1e4]), rate=1e4 / size, conc=1.0)
    x = np.asarray(poisson.sample(poisson.prior, key, n)[0], float)
    exact = stats.nbinom(1e4, 1e4 / (1e4 + size))
    assert abs(x.mean() - exact.mean()) < 4.5 * exact.std() / n**0.5
    assert abs(x.std() / exact.std() - 1.0) < 0.1
    a = 1e6
    geometric = vx.GeometricMixture.with_prior(1, a=np.array([a]), b=a * size, conc=1.0)
    x = np.asarray(geometric.sample(geometric.prior, key, n)[0], float)
    mean = a * size / (a - 1.0)
    assert abs(x.mean() / mean - 1.0) < 4.5 * (1.0 + 1.0 / size) ** 0.5 / n**0.5
    conc = np.array([[2e6, 5e6, 3e6]])
    counts = vx.MultinomialMixture.with_prior(1, category_conc=conc, conc=1.0)
    x = np.asarray(counts.sample(counts.prior, key, n, total=size)[0], float)
    p = conc[0] / conc.sum()
    variance = size * p * (1.0 - p) * (size + conc.sum()) / (1.0 + conc.sum())
    assert (abs(x.mean(0) - size * p) < 4.5 * (variance / n) ** 0.5).all()
    assert (abs(x.std(0) / variance**0.5 - 1.0) < 0.1).all()
