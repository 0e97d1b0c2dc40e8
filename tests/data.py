"""Data and small conversions shared by the tests."""

import jax
import jax.numpy as jnp
import numpy as np

import vijax as vx


def cast(tree, dtype):
    """The same tree with its floating-point numbers of this dtype."""
    return jax.tree.map(
        lambda a: jnp.asarray(a, dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree
    )


def clusters(rng, n=200, d=2, k=3, separation=4.0):
    """Rows from k unit-variance clusters, and their labels."""
    means = rng.normal(size=(k, d)) * separation
    labels = rng.integers(k, size=n)
    return means[labels] + rng.normal(size=(n, d)), labels


def clusters_apart(rng, d=2, k=4, per=60, apart=7.0):
    """Rows from k unit-variance clusters whose nearest centres are `apart`, and their labels."""
    centres = rng.normal(size=(k, d))
    gaps = np.linalg.norm(centres[:, None] - centres, axis=-1) + np.diag(np.full(k, np.inf))
    labels = np.repeat(np.arange(k), per)
    return (centres * apart / gaps.min())[labels] + rng.normal(size=(k * per, d)), labels


def random_prior(rng, k=2, d=2):
    """An arbitrary proper prior, as the oracles take it."""
    root = rng.normal(size=(k, d, d + 2))
    return {
        "conc": rng.gamma(2.0, size=k) + 0.3,
        "mean": rng.normal(size=(k, d)),
        "kappa": rng.gamma(2.0, size=k) + 0.2,
        "df": d + rng.gamma(2.0, size=k) + 0.1,
        "scatter": root @ np.swapaxes(root, -1, -2),
    }


def mixture_of(prior, dtype=np.float64):
    """The model with a prior in the oracles' form."""
    arrays = {name: np.asarray(value, dtype) for name, value in prior.items()}
    return vx.GaussianMixture.with_prior(len(prior["conc"]), **arrays)


def params_of(q):
    """A q of the library in the oracles' form."""
    c = q.components
    parts = {"mean": c.mean, "kappa": c.kappa, "df": c.df, "scatter": c.scatter}
    parts["conc"] = q.weights.conc
    return {name: np.asarray(value, np.float64) for name, value in parts.items()}


def q_of(prior, dtype=jnp.float64):
    """A q of the library from the oracles' form."""
    return mixture_of(prior, dtype).prior
