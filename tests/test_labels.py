"""Components after a fit: fewer of them, another order, the order of another fit."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax.infer.labels import align, prune, relabel

from .data import clusters

MEANS = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
WEIGHTS = np.array([0.4, 0.3, 0.2, 0.1])


def rows_of(rng, n=300, means=MEANS):
    labels = np.repeat(np.arange(len(means)), np.round(WEIGHTS[: len(means)] * n).astype(int))
    return means[labels] + rng.normal(size=(len(labels), 2)), labels


def fit_of(x, labels, k, **options):
    model = vx.GaussianMixture.from_data(x, k)
    return model, vx.fit(model, x, init=labels, **options).check()


@pytest.fixture
def fitted(rng):
    """Four components in use of six, in no particular order."""
    x, labels = rows_of(rng)
    model, result = fit_of(x, np.array([4, 0, 5, 2])[labels], 6)
    return model, x, result


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def shuffled(result, order):
    return dataclasses.replace(result, q=result.q.take(jnp.asarray(order)))


# -- prune ----------------------------------------------------------------------------------------


@pytest.mark.float32(hasty=True)
def test_prune(fitted):
    model, x, result = fitted
    small = prune(result)
    weight = np.asarray(result.q.weights.mean)
    keep = np.flatnonzero(weight >= 0.01)
    assert keep.tolist() == [0, 2, 4, 5]
    rescaled = weight[keep] / weight[keep].sum()
    np.testing.assert_allclose(small.q.weights.mean, rescaled, rtol=1e-5)
    np.testing.assert_array_equal(small.q.components.mean, result.q.components.mean[keep])
    np.testing.assert_array_equal(keep[model.predict(small.q, x)], model.predict(result.q, x))
    resp = model.responsibilities(small.q, x)
    np.testing.assert_allclose(resp.sum(1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(resp, model.responsibilities(result.q, x)[:, keep], atol=1e-3)
    same(dataclasses.replace(small, q=result.q), result)
    same(prune(result.q), small.q)
    same(prune(small), small)
    assert "4 of 4 components" in small.summary()


def test_prune_to_given_weight(fitted):
    _, _, result = fitted
    for least, left in ((0.15, 3), (0.25, 2), (0.0, 6)):
        q = prune(result.q, least)
        assert q.weights.mean.shape == (left,)
        assert (q.weights.mean >= least).all()
    with pytest.raises(ValueError, match=r"min_weight: no component has weight >= 0\.9; the heav"):
        prune(result, 0.9)
    for bad in (np.nan, -0.1):
        with pytest.raises(ValueError, match="min_weight"):
            prune(result, bad)


def test_prune_leaves_out_what_is_off(rng):
    x, labels = rows_of(rng)
    model = vx.GaussianMixture.from_data(x, 4, k_max=7)
    result = prune(vx.fit(model, x, init=labels))
    assert result.q.weights.conc.shape == (4,)


# -- relabel --------------------------------------------------------------------------------------


@pytest.mark.float32(hasty=True)
def test_relabel_by_weight(fitted):
    model, x, result = fitted
    new = relabel(result)
    assert (jnp.diff(new.q.weights.mean) <= 0).all()
    order = np.argsort(-np.asarray(result.q.weights.mean), kind="stable")
    np.testing.assert_array_equal(order[model.predict(new.q, x)], model.predict(result.q, x))
    np.testing.assert_array_equal(new.q.components.kappa, result.q.components.kappa[order])
    same(relabel(new), new)
    same(dataclasses.replace(new, q=result.q), result)
    same(relabel(result.q), new.q)
    # it is the same fit: it continues from there, at the same bound
    np.testing.assert_allclose(vx.elbo(model, new, x), vx.elbo(model, result, x), rtol=1e-5)


def test_relabel_by_numbers(fitted):
    _, _, result = fitted
    value = np.asarray(result.q.components.mean[:, 1])
    same(relabel(result, value), relabel(result, lambda q: q.components.mean[:, 1]))
    same(relabel(result, value.tolist()), relabel(result, jnp.asarray(value)))
    assert (np.diff(relabel(result, value).q.components.mean[:, 1]) >= 0).all()
    there = np.array([3, 1, 5, 0, 2, 4])
    back = relabel(relabel(result, np.argsort(there)), there)
    same(back, result)
    same(relabel(result, np.zeros(6)), result)
    off = result.q.take(jnp.arange(6))
    same(relabel(off, -off.weights.mean), relabel(off))


def test_relabel_refuses(fitted):
    _, _, result = fitted
    with pytest.raises(ValueError, match="by: expected 'weight'"):
        relabel(result, "mean")
    with pytest.raises(ValueError, match=r"by: expected one number per component, shape \(6,\)"):
        relabel(result, lambda q: q.components.mean)
    with pytest.raises(ValueError, match="by: component 2 has NaN"):
        relabel(result, [0, 1, np.nan, 3, 4, 5])


def many(rng, size=3):
    x = jnp.asarray(np.stack([clusters(rng, n=60, k=2)[0] for _ in range(size)]))
    model = vx.GaussianMixture.from_data(np.asarray(x).reshape(-1, 2), 3)
    keys = jax.random.split(jax.random.key(0), size)
    return jax.vmap(lambda x, key: vx.fit(model, x, key=key, num_restarts=2))(x, keys)


def test_batches_of_fits(rng):
    results = many(rng)
    new = jax.vmap(relabel)(results)
    assert (jnp.diff(new.q.weights.mean) <= 0).all()

    def lane(tree, i):
        return jax.tree.map(lambda leaf: leaf[i], tree)

    for i in range(3):
        same(lane(new, i), relabel(lane(results, i)))
    for verb in (prune, relabel, lambda r: align(r, r), lambda r: align(lane(r, 0), r)):
        with pytest.raises(ValueError, match=r"(result|reference): many fits, batch axes \(3,\)"):
            verb(results)
    for verb in (prune, lambda r: align(r, r)):
        with pytest.raises(ValueError, match="result: its values are looked at"):
            jax.vmap(verb)(results)


@pytest.mark.parametrize("verb", [prune, relabel, lambda r: align(r, r)])
def test_there_must_be_components(verb):
    model = vx.FactorisedGaussian.with_prior(mean=0.0, kappa=1.0, shape=1.0, rate=1.0)
    result = vx.fit(model, np.arange(4.0))
    for given in (result, result.q, None):
        with pytest.raises(TypeError, match="result: expected the Result or the q of a mixture"):
            verb(given)


# -- align ----------------------------------------------------------------------------------------


@pytest.mark.float32(hasty=True)
def test_align_undoes_a_permutation(fitted):
    model, x, result = fitted
    for order in ([5, 0, 3, 1, 4, 2], [1, 2, 3, 4, 5, 0]):
        other = shuffled(result, order)
        again = align(other, result)
        np.testing.assert_array_equal(again.q.weights.mean, result.q.weights.mean)
        used = np.flatnonzero(np.asarray(result.q.weights.mean) > 0.01)
        np.testing.assert_array_equal(again.q.components.mean[used], result.q.components.mean[used])
        np.testing.assert_array_equal(model.predict(again.q, x), model.predict(result.q, x))
        same(align(other.q, result.q), again.q)
        same(align(other, result.q), again)


@pytest.mark.parametrize("covariance_scale", [1.0, 1e-9, 1e9])
def test_align_two_samples(rng, covariance_scale):
    """Other rows of the same clusters, with different components left empty, in any unit."""
    (x, labels), (y, _) = rows_of(rng), rows_of(rng)
    x, y = x * covariance_scale, y * covariance_scale
    _, one = fit_of(x, np.array([4, 0, 5, 2])[labels], 6)
    model, two = fit_of(y, np.array([1, 2, 3, 4])[labels], 6)
    two = align(two, one)
    np.testing.assert_array_equal(model.predict(two.q, y), np.array([4, 0, 5, 2])[labels])


def test_align_with_empty_components(rng):
    """An empty one lies at its wide prior: it must not push a match of others aside."""
    x, labels = rows_of(rng)
    _, one = fit_of(x, labels, 4)
    for gone in range(4):
        keep = labels != gone
        start = np.array([1, 2, 3, 0])[labels[keep]]
        model, two = fit_of(x[keep], start, 4)
        found = model.predict(align(two, one).q, x[keep])
        np.testing.assert_array_equal(found, labels[keep])


def test_align_different_numbers(rng):
    x, labels = rows_of(rng)
    model, four = fit_of(x, labels, 4)
    keep = labels < 3
    less, three = fit_of(x[keep], np.array([2, 0, 1])[labels[keep]], 3)
    down = align(three, four)
    np.testing.assert_array_equal(less.predict(down.q, x[keep]), labels[keep])
    order = [3, 1, 2, 0]  # the reference in another order than that of size
    up = align(shuffled(four, [2, 3, 1, 0]), shuffled(down, [1, 2, 0]))
    np.testing.assert_array_equal(model.predict(up.q, x), np.array([2, 0, 1, 3])[labels])
    pair = shuffled(four, [3, 1])
    rest = align(shuffled(four, order), pair)  # what has no match: the heaviest first
    np.testing.assert_array_equal(rest.q.weights.conc, four.q.weights.conc[jnp.array([3, 1, 0, 2])])


def test_align_keeps_the_place_of_what_is_off(rng):
    x, labels = rows_of(rng, means=MEANS[:3])
    model = vx.GaussianMixture.from_data(x, 3, k_max=5)
    one = shuffled(vx.fit(model, x, init=labels), [3, 1, 0, 4, 2])
    two = vx.fit(model, x, init=np.array([1, 2, 0])[labels])
    new = align(two, one)
    np.testing.assert_array_equal(new.q.weights.mean > 0, one.q.weights.mean > 0)
    np.testing.assert_allclose(new.q.components.mean, one.q.components.mean, atol=0.05)


def test_align_where_divergences_do_not_exist(rng):
    """Maximum likelihood: statistics alone, not always proper."""
    x, labels = rows_of(rng)
    model = vx.GaussianMixture.flat(4, 2)
    result = vx.fit(model, x, init=labels, method=vx.EM())
    for order in itertools.permutations(range(4)):
        same(align(shuffled(result, order), result), result)
    q = result.q
    broken = dataclasses.replace(q.components, kappa=q.components.kappa.at[1].set(jnp.nan))
    nan = dataclasses.replace(q, components=broken)
    new = align(nan.take(jnp.array([1, 3, 0, 2])), q)
    np.testing.assert_array_equal(new.weights.conc, q.weights.conc)


def test_align_across_dtypes(fitted):
    _, _, result = fitted
    half = jax.tree.map(lambda a: a.astype("float32") if a.dtype == "float64" else a, result)
    assert align(result, half).q.weights.conc.dtype == jnp.float64
    assert align(half, result).q.weights.conc.dtype == jnp.float32
    same(align(shuffled(result, [5, 4, 3, 2, 1, 0]), half).q.weights, result.q.weights)


@pytest.mark.parametrize("covariance", ["tied", "diag", "spherical"])
def test_align_other_structures(rng, covariance):
    """Parameters that all components share must not decide which belong together."""
    (x, labels), (y, _) = rows_of(rng), rows_of(rng)
    y = 1.2 * y
    models = [vx.GaussianMixture.from_data(a, 6, covariance=covariance) for a in (x, y)]
    one = vx.fit(models[0], x, init=np.array([4, 0, 5, 2])[labels])
    two = vx.fit(models[1], y, init=np.array([1, 2, 3, 4])[labels])
    found = models[1].predict(align(two, one).q, y)
    np.testing.assert_array_equal(found, np.array([4, 0, 5, 2])[labels])
    same(relabel(align(shuffled(one, [5, 4, 3, 2, 1, 0]), one)), relabel(one))


def test_align_refuses_other_families(rng, fitted):
    _, x, result = fitted
    wide = np.hstack([x, x[:, :1] + rng.normal(size=(len(x), 1))])
    _, other = fit_of(wide, np.zeros(len(x), int), 2)
    with pytest.raises(ValueError, match="reference: its NormalWishart components do not compare"):
        align(result, other)


# -- components that are not like the others ------------------------------------------------------


def with_noise(rng):
    x, labels = rows_of(rng)
    far = rng.uniform(-30, 30, size=(10, 2))
    x, labels = np.vstack([x, far]), np.append(labels, np.full(10, 4))
    model = vx.GaussianMixture.from_data(x, 4, noise=True)
    return model, x, vx.fit(model, x, init=np.array([2, 0, 3, 1, 4])[labels])


def test_noise_stays_last(rng):
    model, x, result = with_noise(rng)
    clean = model.predict(result.q, x) < 4
    for new in (relabel(result), prune(result, 0.02)):
        assert new.q.weights.mean.shape == (5,)
        np.testing.assert_array_equal(model.predict(new.q, x) < 4, clean)
    same(align(relabel(result), result), result)
    assert (jnp.diff(relabel(result).q.weights.mean[:-1]) <= 0).all()
    small = prune(result, 0.15)
    assert small.q.weights.mean.shape == (4,)
    assert model.responsibilities(small.q, x).shape == (len(x), 4)
    same(relabel(result, [3, 2, 1, 0]), relabel(result, [3, 2, 1, 0, -1]))
