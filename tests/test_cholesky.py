"""The factors of `numerics/cholesky.py`, beside NumPy's, and where a pivot is lost in rounding."""

import jax.numpy as jnp
import numpy as np
import pytest

from vijax.numerics.cholesky import chol


@pytest.mark.parametrize("d", [1, 2, 4, 5, 9])
def test_factor_is_that_of_numpy(rng, d):
    root = rng.normal(size=(3, d, d))
    a = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(d)
    np.testing.assert_allclose(chol(jnp.asarray(a)), np.linalg.cholesky(a), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("d", [2, 4, 5, 9])
@pytest.mark.parametrize("far", [1e5, 1e8, 1e12])
def test_a_matrix_beside_a_far_row_is_factored_up_to_its_rounding(rng, d, far):
    """float32 adds a row `far` standard deviations off to a covariance, and loses all else."""
    row = rng.normal(size=d)
    a = (np.eye(d) + far**2 * np.outer(row, row)).astype(np.float32)
    low = np.asarray(chol(jnp.asarray(a)), np.float64)
    assert (np.diagonal(low) > 0).all()
    sd = np.sqrt(np.diagonal(a).astype(np.float64))
    error = np.abs(low @ low.T - a) / np.outer(sd, sd)
    assert error.max() < 10 * d * np.finfo(np.float32).eps


@pytest.mark.parametrize("d", [2, 4, 5, 9])
def test_what_is_not_positive_definite_has_nan_on_the_diagonal(d):
    for a in (-np.eye(d), np.ones((d, d)) - 0.5 * np.eye(d), np.zeros((d, d))):
        low = np.asarray(chol(jnp.asarray(a)))
        assert not (np.diagonal(low) > 0).all()
