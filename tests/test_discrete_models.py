"""Mixtures of counts, flags, categories and waiting times: building, refusing, tracing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax.models.mixture import Mixture
from vijax.models.mixtures.columns import (
    BernoulliMixture,
    CategoricalMixture,
    ExponentialMixture,
    MultinomialMixture,
    PoissonMixture,
)

from .discrete_kinds import KINDS, SIZES, rows_of


@pytest.fixture(params=KINDS, ids=[kind.name for kind in KINDS])
def kind(request):
    return request.param


def test_bad_values_are_named(kind, rng):
    x, _ = rows_of(kind, rng, 10)
    model = kind.model.with_prior(2, **kind.prior(rng, 2), conc=1.0)
    for value in kind.bad:
        wrong = x.copy()
        wrong[4, 1] = value
        with pytest.raises(ValueError, match=rf"x: column 1 takes .*, got {value:g} in row 4"):
            vx.fit(model, wrong, init="random", key=jax.random.key(0))
        fine = vx.Batch.of(wrong, np.arange(10) != 4)
        vx.fit(model, fine, init="random", key=jax.random.key(0)).check()
        if kind.missing:
            fine = vx.Batch.of(wrong, mask=wrong == x)
            vx.fit(model, fine, init="random", key=jax.random.key(0)).check()
    with pytest.raises(ValueError, match="columns, but the model's prior is for"):
        vx.fit(model, np.hstack([x, x]), init="random", key=jax.random.key(0))
    noisy = vx.Batch.of(x, noise=np.ones_like(x))
    with pytest.raises(ValueError, match="noise: a component family of .* takes none"):
        vx.fit(model, noisy, init="random", key=jax.random.key(0))


def test_multinomial_refuses_missing_counts(rng):
    x = KINDS[-1].draw(rng, 5, 0)
    mask = np.ones(x.shape, bool)
    mask[3, 2] = False
    model = MultinomialMixture.from_data(x, 2)
    with pytest.raises(ValueError, match="x: column 2 is missing in row 3; a missing count"):
        vx.fit(model, vx.Batch.of(x, mask=mask), init="random", key=jax.random.key(0))


def test_names_of_columns_are_in_the_message(rng):
    class Frame:
        columns = ("calls", "visits")

        def to_numpy(self):
            return np.array([[1.0, 2.0], [3.0, -4.0]])

    model = PoissonMixture.with_prior(1, shape=np.ones(2), rate=1.0, conc=1.0)
    with pytest.raises(ValueError, match=r"x: column 1 \(visits\) takes counts .* got -4 in row 1"):
        vx.fit(model, Frame(), init=np.zeros(2, int))


def test_default_priors(rng):
    x = np.array([[2.0, 0.0], [4.0, 0.0]])
    each = PoissonMixture.from_data(x, 2).components.each
    np.testing.assert_allclose(each.shape, 1.0)
    np.testing.assert_allclose(each.rate, 1 / 3)
    each = ExponentialMixture.from_data(x, 2).components.each
    np.testing.assert_allclose(each.shape, 0.5)
    np.testing.assert_allclose(each.rate, [[0.5 * 2.0, 0.5 * 0.2 * 3.0]] * 2)
    each = PoissonMixture.from_data(vx.Batch.of(x, mask=x < 4), 2, rate=None).components.each
    np.testing.assert_allclose(each.rate, 1 / 2)
    np.testing.assert_allclose(PoissonMixture.from_data(0 * x, 2).components.each.rate, 1.0)
    each = vx.GeometricMixture.from_data(x, 2).components.each
    np.testing.assert_allclose(each.conc, [[[1.0, np.sqrt(3.0 * 5.0) - 1.0]] * 2] * 2)
    model = CategoricalMixture.from_data(x, 3, k_max=4)
    assert model.components.levels == ((2, 4), (0,))
    assert model.components.num_parameters() == (1, 0)
    np.testing.assert_array_equal(model.components.each.conc[:, 1], [[0.5, 0]] * 4)
    model = CategoricalMixture.from_data(x, 3, num_categories=(5, 3))
    assert model.components.sizes == (5, 3)
    np.testing.assert_allclose(model.weights.conc, 1 / 3)
    low = BernoulliMixture.from_data((x > 2).astype(np.float32), 2)
    assert low.components.each.conc.dtype == np.float32
    assert low.weights.conc.dtype == np.float32


def test_constructors_refuse_by_name(rng):
    with pytest.raises(ValueError, match=r"shape: expected \(2,\) or \(3, 2\)"):
        PoissonMixture.with_prior(3, shape=np.ones((2, 2)), rate=1.0, conc=1.0)
    with pytest.raises(ValueError, match="rate: must be finite and > 0"):
        ExponentialMixture.with_prior(3, shape=np.ones(2), rate=0.0, conc=1.0)
    with pytest.raises(ValueError, match="a: must be finite and > 0"):
        BernoulliMixture.with_prior(3, a=0.0, b=1.0, conc=1.0)
    with pytest.raises(ValueError, match="category_conc: expected shape"):
        MultinomialMixture.with_prior(3, category_conc=1.0, conc=1.0)
    with pytest.raises(ValueError, match="conc: must be > 0 for the first categories"):
        CategoricalMixture.with_prior(2, category_conc=np.array([[1.0, 0.0, 1.0]]), conc=1.0)
    with pytest.raises(ValueError, match="num_categories: expected an integer"):
        CategoricalMixture.flat(2, 3, (2, 2))
    with pytest.raises(ValueError, match="num_categories: must be at least 1"):
        CategoricalMixture.flat(2, 3, 0)
    with pytest.raises(ValueError, match="num_features: must be at least 1"):
        PoissonMixture.flat(2, 0)
    with pytest.raises(ValueError, match="x: column 0 takes codes"):
        CategoricalMixture.from_data(np.array([[0.5], [1.0]]), 2)
    x = jnp.zeros((4, 1))
    with pytest.raises(ValueError, match="num_categories: must be given where x is traced"):
        jax.jit(lambda x: CategoricalMixture.from_data(x, 2).components)(x)
    with pytest.raises(ValueError, match="method: a flat prior has no evidence"):
        vx.fit(BernoulliMixture.flat(2, 1), x, init="random", key=jax.random.key(0))


def test_whole_fits_can_be_traced(kind, rng, key):
    x = np.stack([rows_of(kind, rng, 30)[0] for _ in range(2)])
    extra = {"num_categories": SIZES} if kind.name == "categorical" else {}

    def bound(x):
        return vx.fit(kind.model.from_data(x, 2, **extra), x, key=key, num_restarts=2).elbo

    together = jax.vmap(bound)(jnp.asarray(x))
    np.testing.assert_allclose(together, [bound(rows) for rows in x], rtol=1e-6)


def test_many_tables_of_one_column_are_the_fits_of_that_column(kind, rng, key):
    x = [rows_of(kind, rng, 30)[0] for _ in range(2)]
    tables = [{"a": rows} for rows in x]
    models = [vx.MixedMixture.from_data(table, 2, {"a": kind.name}) for table in tables]
    many = vx.fit_many(models, tables, key=key)
    for i, rows in enumerate(x):
        alone = vx.fit(kind.model.from_data(rows, 2), rows, key=jax.random.fold_in(key, i))
        np.testing.assert_allclose(many.elbo[i], alone.elbo, rtol=1e-9)


def test_gradients_are_finite(kind, rng):
    x, label = rows_of(kind, rng, 20)
    model = kind.model.from_data(x, 2, k_max=3)
    resp = jnp.asarray(np.eye(3)[label])

    def bound(model, weight):
        batch = vx.Batch(jnp.asarray(x), weight)
        q = model.update(model.prior, model.assign(model.prior, batch, resp))
        e = model.local(q.moments(), batch)
        new = model.update(q, e.stats)
        return jnp.sum(weight * e.log_z) - model.kl(q) + jnp.sum(new.kl(q))

    slopes = jax.jit(jax.grad(bound, allow_int=True))(model, jnp.ones(20))
    for leaf in jax.tree.leaves(slopes):
        assert leaf.dtype == jax.dtypes.float0 or np.isfinite(np.asarray(leaf)).all()


def test_any_weights_go_with_them():
    """The parts are those of a plain `Mixture`."""
    x = np.array([[0.0], [1.0], [5.0], [6.0]])
    parts = PoissonMixture.from_data(x, 2)
    model = Mixture(parts.weights, parts.components)
    a = vx.fit(parts, x, init=np.array([0, 0, 1, 1])).elbo
    np.testing.assert_allclose(vx.fit(model, x, init=np.array([0, 0, 1, 1])).elbo, a, rtol=1e-12)
