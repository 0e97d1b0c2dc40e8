"""Rows and models that are fitted whole and in parts."""

import jax.numpy as jnp
import numpy as np

import vijax as vx

from .data import clusters

CHUNK = 8  # so that a device with a quarter of the rows has several
KEY = 3


def rows():
    """128 rows of three clusters, in JAX's default dtype."""
    x, _ = clusters(np.random.default_rng(5), n=128, k=3)
    return x.astype(jnp.result_type(float))


def weights():
    """One positive weight per row, and a few that are 0."""
    rng = np.random.default_rng(6)
    weight = np.where(rng.uniform(size=128) < 0.1, 0.0, rng.uniform(0.5, 2.0, 128))
    return weight.astype(jnp.result_type(float))


def seen():
    """Which entries were observed."""
    return np.random.default_rng(7).uniform(size=(128, 2)) > 0.15


def full(data):
    """Full covariances, Dirichlet weights."""
    return vx.GaussianMixture.from_data(data, 4)


def diag(data):
    """Diagonal covariances."""
    return vx.GaussianMixture.from_data(data, 4, covariance="diag")


def sticks(data):
    """Spherical covariances, stick-breaking weights."""
    process = vx.StickBreaking.dirichlet_process(1.0, 4)
    return vx.GaussianMixture.from_data(data, 4, covariance="spherical", weights=process)
