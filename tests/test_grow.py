"""Fits of fewer components as starts: the bound never falls, and missing clusters are found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx

from .data import clusters_apart

KEY = jax.random.key(0)
FEW = vx.Stop(max_iter=60)


def rows(seed, **options):
    return clusters_apart(np.random.default_rng(seed), **options)


@pytest.mark.parametrize("share", ["equal", "unequal"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_fit_of_six_grows_into_eight_planted_clusters(seed, share):
    x, labels = rows(seed, k=8, per=40, apart=6.0)
    if share == "unequal":  # the pairs that share a component are not the largest
        keep = np.arange(320) % 40 < np.repeat([40, 40, 40, 12, 12, 12, 12, 12], 40)
        x, labels = x[keep], labels[keep]
    small = vx.fit(vx.GaussianMixture.from_data(x, 6), x, key=KEY, num_restarts=4)
    model = vx.GaussianMixture.from_data(x, 8)
    grown, known = vx.fit(model, x, init=small), vx.fit(model, x, init=labels)
    assert float(grown.elbo) > float(known.elbo) - 1e-3
    assert int((grown.q.weights.mean > 0.01).sum()) == 8


@pytest.mark.parametrize("start", [2, 6])
def test_maximum_likelihood_fills_all_components(start):
    x, labels = rows(3, k=8, per=40, apart=6.0)
    keep = np.arange(320) % 40 < np.repeat([40, 40, 40, 12, 12, 12, 12, 12], 40)
    x, labels = x[keep], labels[keep]
    method = vx.EM()
    flat = vx.GaussianMixture.flat
    small = vx.fit(flat(start, 2), x, key=KEY, num_restarts=2, method=method)
    grown = vx.fit(flat(8, 2), x, init=small, method=method).check()
    known = vx.fit(flat(8, 2), x, init=labels, method=method)
    assert float(grown.elbo) > float(known.elbo) - 1e-3


def filled_up(q, prior):
    """The q beside empty components, leaf by leaf in NumPy; only for Dirichlet weights."""
    return jax.tree.map(lambda a, b: jnp.asarray(np.concatenate([a, b[len(a) :]])), q, prior)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical", "poisson", "categorical"])
def test_the_bound_is_at_least_that_of_the_small_fit(rng, kind):
    x, _ = clusters_apart(rng, k=5, per=40, apart=4.0)
    if kind == "poisson":
        x = rng.poisson(np.exp(1.0 + 0.3 * x)).astype(float)
    if kind == "categorical":
        x = (x > 0) + (x > 3.0) * 1.0

    def make(k):
        if kind == "poisson":
            return vx.PoissonMixture.from_data(x, k)
        if kind == "categorical":
            return vx.CategoricalMixture.from_data(x, k)
        return vx.GaussianMixture.from_data(x, k, covariance=kind)

    small = vx.fit(make(3), x, key=KEY, stop=FEW)
    model = make(6)
    apart = filled_up(small.q, model.prior)
    least = float(vx.elbo(model, apart, x))
    np.testing.assert_allclose(vx.elbo(model, small, x), least, rtol=1e-9)
    grown = vx.fit(model, x, init=small, stop=FEW)
    assert float(grown.elbo) >= least - 1e-9 * abs(least)
    first = vx.trajectory(model, x, init=small, num_iters=1).elbo[0]
    assert float(first) >= least - 1e-9 * abs(least)


def sticks(k):
    return vx.StickBreaking.dirichlet_process(1.0, k)


def table_of(x):
    counts = np.round(5.0 * (x - x.min(0)))
    return {"a": counts[:, 0], "b": counts[:, 1:]}


MODELS = {
    "truncated": lambda x, k: vx.GaussianMixture.from_data(x, k, weights=sticks(k)),
    "infinite": lambda x, k: vx.GaussianMixture.from_data(
        x, k, weights=vx.StickBreaking.dirichlet_process(1.0, k, truncated=False)
    ),
    "learned": lambda x, k: vx.GaussianMixture.from_data(
        x, k, weights=vx.DirichletProcess.with_prior(1.0, 1.0, k)
    ),
    "noise": lambda x, k: vx.GaussianMixture.from_data(x, k, noise=True),
    "tied": lambda x, k: vx.GaussianMixture.from_data(x, k, covariance="tied"),
    "student": lambda x, k: vx.StudentTMixture.from_data(x, k),
    "table": lambda x, k: vx.MixedMixture.from_data(
        table_of(x), k, {"a": "poisson", "b": "poisson"}
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_grows(name):
    """The weights and components of the small fit come back, and its clusters are divided."""
    x, _ = rows(5, k=4, per=30, apart=9.0)
    data = table_of(x) if name == "table" else x
    small = vx.fit(MODELS[name](x, 2), data, key=KEY, stop=FEW)
    model = MODELS[name](x, 4)
    least = vx.elbo(model, small, data)
    inside = model.grow(small.q, jnp.asarray(120.0))
    own, more = np.asarray(small.q.weights.mean), np.asarray(inside.weights.mean)
    np.testing.assert_allclose(more[:2], own[:2], atol=0.03)
    if name == "noise":
        np.testing.assert_allclose(more[-1], own[-1], atol=0.03)
    where = model.responsibilities(inside, data)
    before = MODELS[name](x, 2).responsibilities(small, data)
    np.testing.assert_allclose(where[:, :2], before[:, :2], atol=0.1)
    grown = jax.jit(lambda q: vx.fit(model, data, init=q, stop=FEW))(small.q)
    assert float(grown.elbo) > float(least) + 10.0
    used = np.asarray(grown.q.weights.mean)[: 4 if name != "noise" else -1]
    assert (used > 0.1).sum() == 4


def test_what_cannot_grow_is_refused(rng):
    x, _ = clusters_apart(rng, k=2, per=20)
    small, large = (vx.GaussianMixture.from_data(x, k) for k in (2, 4))
    fit = vx.fit(small, x, key=KEY, stop=FEW)
    with pytest.raises(ValueError, match="init: a q of 4 components for a model of 2"):
        vx.fit(small, x, init=large.prior)
    counts = vx.PoissonMixture.from_data(np.round(np.abs(x)), 2)
    with pytest.raises(TypeError, match="init: GaussianMixture is fitted by a MixtureParams"):
        vx.fit(large, x, init=counts.prior)
    wide = vx.GaussianMixture.from_data(np.hstack([x, x[::-1]]), 2)
    with pytest.raises(ValueError, match="of as many columns, and of at most as many components"):
        vx.fit(large, x, init=wide.prior)
    with pytest.raises(ValueError, match="init: a q of 2 components, but the model has some"):
        vx.fit(vx.GaussianMixture.from_data(x, 1, k_max=4), x, init=fit)
    frozen = large.freeze(large.prior, np.arange(4) == 0)
    with pytest.raises(ValueError, match="init: frozen components"):
        vx.fit(frozen, x, init=fit)
    with pytest.raises(ValueError, match="num_restarts: this start is deterministic"):
        vx.fit(large, x, init=fit, key=KEY, num_restarts=2)
