"""Starts that merge and halve components: gains are exact, and planted clusters are found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax.infer.split_merge import split_merge

from .data import clusters_apart

KEY = jax.random.key(0)


def models(rng):
    x, _ = clusters_apart(rng)
    counts = rng.poisson(np.repeat([[2.0, 9.0], [12.0, 1.0], [5.0, 30.0]], 50, 0)) * 1.0
    codes = rng.integers(0, 3, (120, 4))
    for covariance in ("full", "tied", "diag", "spherical"):
        yield covariance, vx.GaussianMixture.from_data(x, 5, covariance=covariance), x
    yield "poisson", vx.PoissonMixture.from_data(counts, 5), counts
    yield "categorical", vx.CategoricalMixture.from_data(codes, 5), codes


NAMES = ["full", "tied", "diag", "spherical", "poisson", "categorical"]


@pytest.mark.parametrize("name", NAMES)
def test_gain_is_the_change_of_the_bound(rng, name):
    model, x = next((m, x) for n, m, x in models(rng) if n == name)
    batch = model.as_batch(x)
    resp = jnp.asarray(rng.dirichlet(np.full(5, 0.5), len(x)))

    def posterior(resp):
        q = model.prior
        for _ in range(2):
            q = model.update(q, model.assign(q, batch, resp))
        return q

    q = posterior(resp)
    gain = model.merge_gain(q)
    for j, k in ((0, 1), (3, 2)):
        merged = resp.at[:, j].add(resp[:, k]).at[:, k].set(0.0)
        change = model.elbo(posterior(merged), batch, merged) - model.elbo(q, batch, resp)
        both, a, b = merged[:, j], resp[:, j], resp[:, k]
        lost = jnp.sum(both * jnp.log(both) - a * jnp.log(a) - b * jnp.log(b))
        np.testing.assert_allclose(gain[j, k] - lost, change, atol=1e-6 * abs(float(gain[j, k])))


@pytest.mark.float32
@pytest.mark.parametrize("covariance", ["full", "diag", "spherical"])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_every_start_finds_clusters_that_are_apart(rng, d, covariance):
    x, labels = clusters_apart(rng, d=d)
    model = vx.GaussianMixture.from_data(x, 12, covariance=covariance)
    known = vx.fit(model, x, init=labels)
    found = vx.fit(model, x, key=KEY, num_restarts=4)
    assert float(found.elbo) > float(known.elbo) - 0.1
    assert int((found.q.weights.mean > 0.01).sum()) == 4
    assert (np.asarray(found.elbos) > float(known.elbo) - 0.1).all()


@pytest.mark.parametrize(
    "weights",
    [
        vx.StickBreaking.dirichlet_process(1.0, 12),
        vx.DirichletProcess.with_prior(1.0, 1.0, 12),
        vx.StickBreaking.pitman_yor(1.0, 0.2, 12),
    ],
    ids=["sticks", "learned", "pitman-yor"],
)
def test_ordered_weights_too(rng, weights):
    x, labels = clusters_apart(rng)
    model = vx.GaussianMixture.from_data(x, 12, weights=weights)
    known, found = vx.fit(model, x, init=labels), vx.fit(model, x, key=KEY, num_restarts=4)
    assert float(found.elbo) > float(known.elbo) - 0.1


@vx.pytree
class Reversed(vx.Mixture):
    """Every update turns the order of the components round, which are all alike."""

    def order(self, q, stats):
        return jnp.arange(self.num_components)[::-1]


@pytest.mark.parametrize("restart", [0, 1, 3])
def test_an_update_that_reorders_components_changes_nothing_else(rng, restart):
    x, _ = clusters_apart(rng, k=5)
    model = vx.GaussianMixture.from_data(x, 12)
    turned = Reversed(model.weights, model.components)
    batch, q = model.as_batch(x), model.init(KEY, model.as_batch(x))
    run = jax.jit(split_merge)
    plain, other = (np.sort(run(m, batch, q, restart).weights.conc) for m in (model, turned))
    np.testing.assert_allclose(other, plain, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 3, 6])
@pytest.mark.parametrize("conc", [0.1, 1.0])  # of a row or more each, without any data
def test_the_start_from_one_component_is_halved_into_the_clusters(rng, k, conc):
    x, labels = clusters_apart(rng, d=3, k=k)
    x[:, 1] *= 100.0
    model = vx.GaussianMixture.from_data(x, 12, conc=conc)
    batch = model.as_batch(x)

    def fit_from(key):
        q = split_merge(model, batch, model.init(key, batch), 3)
        return vx.iterate(vx.CAVI(), model, batch, q)

    known = vx.fit(model, x, init=labels)
    found = jax.jit(jax.vmap(fit_from))(jax.random.split(KEY, 4))
    assert (found.elbo > known.elbo - 0.1).all()
    assert ((found.q.weights.conc > 10.0).sum(-1) == k).all()


def test_halves_of_a_merged_pair_part_again(rng):
    x, labels = clusters_apart(rng, k=5, apart=5.0)
    model = vx.GaussianMixture.from_data(x, 10)
    batch = model.as_batch(x)
    known = vx.fit(model, x, init=labels)
    merged = vx.fit(model, x, init=np.where(labels == 1, 0, labels))
    again = vx.fit(model, x, init=jax.jit(split_merge)(model, batch, merged.q))
    assert float(again.elbo) > float(known.elbo) - 0.1


def test_a_component_for_each_cluster_is_not_halved(rng):
    x, labels = clusters_apart(rng, k=4)
    model = vx.GaussianMixture.from_data(x, 4)  # none is empty
    batch, fit = model.as_batch(x), vx.fit(model, x, init=labels)
    q = jax.jit(split_merge)(model, batch, fit.q)
    np.testing.assert_allclose(q.weights.mean, fit.q.weights.mean, rtol=1e-3)


def test_outliers_take_no_more_components_than_they_are_groups(rng):
    x, _ = clusters_apart(rng, k=3)
    for far in (1e2, 1e5, 1e8):
        rows = np.concatenate([x, [[far, 0.0]]])
        fit = vx.fit(vx.GaussianMixture.from_data(rows, 8), rows, key=KEY, num_restarts=4)
        weight = np.asarray(fit.q.weights.mean)
        assert (weight > 0.1).sum() == 3
        assert (weight > 1e-3).sum() <= 4


def test_labelled_and_frozen_components_stay(rng):
    x, labels = clusters_apart(rng, k=2, apart=1.0)  # which the bound would merge
    known = np.full(len(x), -1)
    known[[0, 1, 60, 61]] = [0, 0, 3, 3]
    model = vx.GaussianMixture.from_data(x, 5)
    batch = model.as_batch(vx.Batch.of(x, label=known))
    q = jax.jit(split_merge)(model, batch, model.init(KEY, batch))
    used = np.asarray(q.weights.mean) > 0.005
    assert used[[0, 3]].all()
    frozen = model.freeze(vx.fit(model, x, init=labels), np.arange(5) < 2)
    q = jax.jit(split_merge)(frozen, model.as_batch(x), frozen.init(KEY, model.as_batch(x)))
    for name in ("mean", "scatter", "kappa"):
        new, old = getattr(q.components, name), getattr(frozen.components, name)
        np.testing.assert_allclose(new[:2], old[:2], rtol=1e-9, atol=1e-9)


@pytest.mark.long
def test_many_rows_are_merged_by_a_part_of_them(rng):
    x, labels = clusters_apart(rng, per=6000)
    model = vx.GaussianMixture.from_data(x, 10)
    known, found = vx.fit(model, x, init=labels), vx.fit(model, x, key=KEY)
    assert float(found.elbo) > float(known.elbo) - 0.1


def test_rows_of_weight_zero_change_nothing(rng):
    x, _ = clusters_apart(rng)
    model = vx.GaussianMixture.from_data(x, 8)
    padded = vx.Batch.of(
        np.concatenate([x, np.full((40, 2), 1e9)]), weight=np.r_[np.ones(len(x)), np.zeros(40)]
    )
    start = model.init(KEY, model.as_batch(x))
    run = jax.jit(split_merge)
    a, b = run(model, model.as_batch(x), start), run(model, model.as_batch(padded), start)
    np.testing.assert_allclose(a.weights.conc, b.weights.conc, atol=1e-6)
