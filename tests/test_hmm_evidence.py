"""What the bound of hidden Markov models says of order, and of chains that are hardly ever left."""

import jax
import numpy as np
import pytest

import vijax as vx


def test_the_bound_prefers_the_chain_only_where_there_is_order(rng):
    """Two states 2 sd apart, one after the other, and the same rows in any order."""
    z = np.arange(600) % 2
    x = 2.0 * z[:, None] + rng.normal(size=(z.size, 1))
    conc = np.ones(2)
    mixture = vx.GaussianMixture.from_data(x, 2, covariance="diag", conc=1.0)
    chain = vx.HMM(vx.Chain.from_standard(conc, np.ones((2, 2))), mixture.components)
    gains = []
    for order in (np.arange(z.size), *(rng.permutation(z.size) for _ in range(5))):
        bounds = [vx.fit(m, x[order], init=z[order]).check().elbo for m in (chain, mixture)]
        gains.append(float(bounds[0] - bounds[1]))
    assert gains[0] > 10.0
    assert np.mean(gains[1:]) < -0.5


@pytest.mark.float32
def test_a_chain_far_from_zero_that_is_hardly_ever_left():
    """The bound is that of the fit in float64 from the same labels, of which a tenth is wrong."""
    t, k = 5000, 2
    draws = np.random.default_rng(3)
    z = (np.arange(t) * 3 // t) % k
    x = (1e4 + 1e3 * z[:, None] + draws.normal(size=(t, 2))).astype(np.float32)
    start = np.where(draws.random(t) < 0.1, 1 - z, z)

    def fitted(dtype):
        model = vx.HMM.from_data(x.astype(dtype), k, stay=1e6)
        fit = vx.fit(model, x.astype(dtype), init=start).check()
        return float(fit.elbo), np.asarray(model.path(fit, x.astype(dtype)))

    bound, path = fitted(np.float64 if jax.config.jax_enable_x64 else np.float32)
    with jax.enable_x64(True):
        exact, _ = fitted(np.float64)
    assert abs(bound - exact) <= 1e-6 * abs(exact) + 1e-3
    np.testing.assert_array_equal(path, z)
