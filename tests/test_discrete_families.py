"""Counts, flags, categories and waiting times: against evidence in closed form."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

import vijax as vx
from vijax.models.bernoulli_mixture import BernoulliMixture
from vijax.models.categorical_mixture import CategoricalMixture
from vijax.models.exponential_mixture import ExponentialMixture
from vijax.models.mixture import Mixture
from vijax.models.multinomial_mixture import MultinomialMixture
from vijax.models.poisson_mixture import PoissonMixture

from .oracles import discrete as oracle

SIZES = (3, 2)  # categories of the categorical columns
TOTAL = 7
TIGHT = vx.Stop(tol=1e-20)


@dataclasses.dataclass(frozen=True)
class Kind:
    """One family: how to draw rows and priors, and its evidence.

    `draw(rng, n, level)` gives rows of a cluster; `level` 0 and 1 are far apart. `prior(rng, k)`
    is what `with_prior` takes. `support` lists all rows, or those that matter.
    """

    name: str
    model: Any
    draw: Callable[[np.random.Generator, int, int], Any]
    prior: Callable[[np.random.Generator, int], dict[str, Any]]
    evidence: Callable[..., float]
    flat: tuple[Any, ...]
    estimate: Callable[[Any, Any], Any]
    support: Any
    bad: tuple[float, ...]
    missing: bool = True


def _gammas(rng, *shape):
    return rng.gamma(2.0, size=shape) + 0.3


def _rates(rng, k):
    return {"shape": _gammas(rng, k, 2), "rate": _gammas(rng, k, 2)}


def _category_conc(rng, k):
    return {"category_conc": _gammas(rng, k, 2, 3) * [[1, 1, 1], [1, 1, 0]]}


def _codes(rng, n, level):
    first = rng.choice(3, n, p=[[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]][level])
    return np.stack([first, rng.choice(2, n, p=[[0.9, 0.1], [0.1, 0.9]][level])], 1).astype(float)


def _frequencies(x, weight):
    share = weight / weight.sum()
    return [[share @ (x[:, j] == c) for c in range(3)] for j in range(2)]


def _mean(x, weight):
    return weight @ x / weight.sum()


def _grid(*values):
    return np.array(list(itertools.product(*values)), float)


KINDS = [
    Kind(
        "poisson",
        PoissonMixture,
        lambda rng, n, level: rng.poisson([[2.0, 9.0], [12.0, 1.0]][level], (n, 2)).astype(float),
        _rates,
        oracle.poisson,
        (2,),
        lambda x, w: (_mean(x, w), lambda q: q.point().mean),
        _grid(range(400), [3]),
        (-1.0, 0.5),
    ),
    Kind(
        "exponential",
        ExponentialMixture,
        lambda rng, n, level: rng.exponential([[0.1, 8.0], [9.0, 0.2]][level], (n, 2)),
        _rates,
        oracle.exponential,
        (2,),
        lambda x, w: (1 / _mean(x, w), lambda q: q.point().mean),
        None,
        (-0.1,),
    ),
    Kind(
        "bernoulli",
        BernoulliMixture,
        lambda rng, n, level: (rng.random((n, 5)) < [0.1, 0.9][level]).astype(float),
        lambda rng, k: {"a": _gammas(rng, k, 5), "b": _gammas(rng, k, 5)},
        oracle.bernoulli,
        (5,),
        lambda x, w: (_mean(x, w), lambda q: q.point().mean),
        _grid(*[[0, 1]] * 5),
        (2.0, 0.5, -1.0),
    ),
    Kind(
        "categorical",
        CategoricalMixture,
        lambda rng, n, level: _codes(rng, n, level),
        _category_conc,
        oracle.categorical,
        (2, SIZES),
        lambda x, w: (_frequencies(x, w), lambda q: q.point().p),
        _grid(range(3), range(2)),
        (3.0, 0.5, -1.0),
    ),
    Kind(
        "multinomial",
        MultinomialMixture,
        lambda rng, n, level: rng.multinomial(
            TOTAL, [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]][level], n
        ).astype(float),
        lambda rng, k: {"category_conc": _gammas(rng, k, 3)},
        oracle.multinomial,
        (3,),
        lambda x, w: (w @ x / (w @ x).sum(), lambda q: q.point().mean),
        np.array([row for row in itertools.product(range(TOTAL + 1), repeat=3) if sum(row) == 7]),
        (-1.0, 0.5),
        missing=False,
    ),
]


@pytest.fixture(params=KINDS, ids=[kind.name for kind in KINDS])
def kind(request):
    return request.param


def rows_of(kind, rng, n, levels=2):
    """Rows of both clusters, shuffled, and their labels."""
    label = rng.integers(levels, size=n)
    both = np.stack([kind.draw(rng, n, level) for level in range(2)])
    return both[label, np.arange(n)], label


def one(prior):
    return {name: value[0] for name, value in prior.items()}


def holes(rng, x, share=0.3):
    """Rows with NaN in some entries, never in all of a row."""
    lost = rng.random(x.shape) < share
    lost[np.arange(len(x)), rng.integers(x.shape[1], size=len(x))] = False
    return np.where(lost, np.nan, x)


def fit_of_one(model, x):
    return vx.fit(model, x, init=np.zeros(len(getattr(x, "x", x)), int)).check()


# -- one component: everything is exact -----------------------------------------------------------


@pytest.mark.parametrize("n", [1, 5, 20, 80])
def test_bound_of_one_component_is_the_log_evidence(kind, rng, n):
    x, _ = rows_of(kind, rng, n)
    prior = kind.prior(rng, 1)
    fit = fit_of_one(kind.model.with_prior(1, **prior, conc=0.7), x)
    expected = kind.evidence(x, np.ones(n), **one(prior))
    np.testing.assert_allclose(fit.elbo, expected, rtol=1e-9)


def test_missing_entries_are_left_out(kind, rng):
    if not kind.missing:
        return
    x = holes(rng, rows_of(kind, rng, 40)[0])
    prior = kind.prior(rng, 1)
    batch = vx.Batch.of(x, missing=True)
    fit = fit_of_one(kind.model.with_prior(1, **prior, conc=0.7), batch)
    expected = kind.evidence(x, np.ones(40), **one(prior))
    np.testing.assert_allclose(fit.elbo, expected, rtol=1e-9)


def test_integer_weights_are_repetitions(kind, rng):
    x, _ = rows_of(kind, rng, 12)
    weight = rng.integers(0, 4, size=12)
    prior = kind.prior(rng, 3)
    components = kind.model.with_prior(3, **prior, conc=0.7).components
    resp = rng.dirichlet(np.ones(3), 12)
    weighted = components.observe(vx.Batch.of(x), jnp.asarray(resp * weight[:, None]))
    again = components.observe(
        vx.Batch.of(np.repeat(x, weight, 0)), jnp.asarray(np.repeat(resp, weight, 0))
    )
    for a, b in zip(jax.tree.leaves(weighted), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    weight[0] += 1
    fit = fit_of_one(kind.model.with_prior(1, **one_each(prior), conc=0.7), vx.Batch.of(x, weight))
    np.testing.assert_allclose(fit.elbo, kind.evidence(x, weight, **one(prior)), rtol=1e-9)


def one_each(prior):
    return {name: value[:1] for name, value in prior.items()}


def test_predictive_is_a_ratio_of_evidences(kind, rng):
    x, _ = rows_of(kind, rng, 30)
    prior = kind.prior(rng, 1)
    model = kind.model.with_prior(1, **prior, conc=0.7)
    q = fit_of_one(model, x).q
    new, _ = rows_of(kind, rng, 6)
    given = kind.evidence(x, np.ones(30), **one(prior))
    both = [kind.evidence(np.vstack([x, row]), np.ones(31), **one(prior)) for row in new]
    np.testing.assert_allclose(model.log_predictive(q, new), np.array(both) - given, rtol=1e-9)
    if kind.missing:
        new = holes(rng, new, 0.8)
        both = [kind.evidence(np.vstack([x, row]), np.ones(31), **one(prior)) for row in new]
        got = model.log_predictive(q, vx.Batch.of(new, missing=True))
        np.testing.assert_allclose(got, np.array(both) - given, rtol=1e-9)


def test_predictive_sums_to_one(kind, rng):
    x, _ = rows_of(kind, rng, 30)
    if kind.support is not None:
        model = kind.model.with_prior(2, **kind.prior(rng, 2), conc=0.7)
        q = vx.fit(model, x, init=rng.dirichlet(np.ones(2), 30)).q
        support = kind.support.astype(float)
        batch = vx.Batch.of(support)
        if kind.name == "poisson":
            # one column at a time: the other is missing
            batch = vx.Batch.of(support, mask=np.broadcast_to([True, False], support.shape))
        total = np.exp(model.log_predictive(q, batch)).sum()
        np.testing.assert_allclose(total, 1.0, rtol=1e-9)
        return
    model = ExponentialMixture.with_prior(2, shape=1.5, rate=2.0)
    q = vx.fit(model, x[:, :1], init=rng.dirichlet(np.ones(2), 30)).q
    density = jax.jit(lambda v: jnp.exp(model.log_predictive(q, v.reshape(1, 1)))[0])
    total, _ = integrate.quad(lambda v: float(density(jnp.asarray(v))), 0, np.inf, limit=200)
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)


def test_draws_follow_the_predictive(kind, rng, key):
    """Means of draws and of their log density under it, against those of rows from the start."""
    x, _ = rows_of(kind, rng, 40)
    model = kind.model.from_data(x, 2)
    q = vx.fit(model, x, init=rng.dirichlet(np.ones(2), 40)).q
    options = {"total": TOTAL} if kind.name == "multinomial" else {}
    rows, label = model.sample(key, q, 4000, **options)
    assert rows.shape == (4000, x.shape[1])
    assert rows.dtype == x.dtype
    assert label.shape == (4000,)
    model.components.check(vx.Batch.of(rows))
    values, index = np.unique(np.asarray(rows), axis=0, return_index=True)
    density = np.exp(np.asarray(model.log_predictive(q, rows)))[index]
    if kind.name == "exponential":
        # E[1 / (1 + x)] under the density, one column
        column = vx.Batch.of(rows, mask=np.broadcast_to([True, False], rows.shape))
        near = np.exp(np.asarray(model.log_predictive(q, column)))
        inside = float(np.mean(np.asarray(rows[:, 0]) < 1.0))
        grid = np.linspace(0, 1, 2001)[:, None]
        both = np.concatenate([grid, np.ones_like(grid)], 1)
        line = vx.Batch.of(both, mask=np.broadcast_to([True, False], both.shape))
        mass = np.trapezoid(np.exp(np.asarray(model.log_predictive(q, line))), grid[:, 0])
        assert np.isfinite(near).all()
        assert abs(inside - mass) < 5 * np.sqrt(0.25 / 4000)
        return
    counts = np.array([(np.asarray(rows) == v).all(1).mean() for v in values])
    assert (np.abs(counts - density) < 5 * np.sqrt(density / 4000) + 1e-3).all()


# -- several components ---------------------------------------------------------------------------


def test_bound_is_below_the_exact_evidence(kind, rng):
    x, _ = rows_of(kind, rng, 6)
    prior, conc = kind.prior(rng, 2), _gammas(rng, 2)
    model = kind.model.with_prior(2, **prior, conc=conc)
    evidence = oracle.log_evidence(kind.evidence, x, conc, prior)
    for resp in (*rng.dirichlet(np.ones(2), (3, 6)), np.eye(2)[[0, 0, 0, 1, 1, 1]]):
        fit = vx.fit(model, x, init=resp, stop=TIGHT).check()
        assert fit.elbo <= evidence + 1e-9
        np.testing.assert_allclose(
            model.elbo(fit.q, x, model.responsibilities(fit.q, x)), fit.elbo, rtol=1e-9
        )
    assert evidence - fit.elbo < 5.0


def test_two_planted_clusters_are_found(kind, rng, key):
    x, label = rows_of(kind, rng, 300)
    model = kind.model.from_data(x, 4, k_max=5)
    fit = vx.fit(model, x, key=key, num_restarts=4).check()
    found = np.asarray(model.predict(fit.q, x))
    big = np.argsort(-np.asarray(fit.q.weights.mean))[:2]
    assert np.asarray(fit.q.weights.mean)[big].sum() > 0.9
    right = max(np.mean(found == big[label]), np.mean(found == big[1 - label]))
    assert right > 0.85
    names = [f"c{j}" for j in range(x.shape[1])]
    text = fit.summary(names=names)
    assert "c0" in text
    assert "c1" in text


def test_maximum_likelihood_of_one_component_is_the_mean(kind, rng):
    x, _ = rows_of(kind, rng, 30)
    weight = rng.gamma(2.0, size=30)
    model = kind.model.flat(1, *kind.flat)
    fit = vx.fit(model, vx.Batch.of(x, weight), method=vx.EM(), init=np.zeros(30, int)).check()
    expected, read = kind.estimate(x, weight)
    np.testing.assert_allclose(read(fit.q.components)[0], expected, rtol=1e-9)
    log_lik = model.log_likelihood(fit.q, x)
    np.testing.assert_allclose(fit.elbo, weight @ np.asarray(log_lik), rtol=1e-9)


def test_maximum_likelihood_copes_with_what_was_never_seen(kind, rng, key):
    """Counts of zero, components that are off, columns that a component never saw."""
    x, label = rows_of(kind, rng, 60)
    if kind.name != "exponential":
        x = np.where((label == 0)[:, None] & (np.arange(x.shape[1]) == 0), 0.0, x)
    if kind.name == "multinomial":
        x[:, 1] += 1
    model = kind.model.flat(2, *kind.flat, k_max=3)
    fit = vx.fit(model, x, method=vx.EM(), init=label).check()
    assert np.isfinite(fit.elbo)
    trace = np.asarray(fit.elbo_trace)[: int(fit.n_iter)]
    assert (np.diff(trace) > -1e-9 * np.abs(trace[1:])).all()
    resp = np.asarray(model.responsibilities(fit.q, x))
    assert np.isfinite(resp).all()
    np.testing.assert_allclose(resp.sum(1), 1.0)
    if kind.missing:
        mask = ~((label == 0)[:, None] & (np.arange(x.shape[1]) == 1))
        batch = vx.Batch.of(x, mask=mask)
        fit = vx.fit(model, batch, method=vx.EM(), init=label)
        assert np.isfinite(fit.elbo)
        assert np.isfinite(np.asarray(model.responsibilities(fit.q, batch))).all()


def test_maximum_a_posteriori_is_monotone(kind, rng):
    x, label = rows_of(kind, rng, 50)
    model = kind.model.from_data(x, 3)
    fit = vx.fit(model, x, method=vx.EM(), init=rng.dirichlet(np.ones(3), 50)).check()
    trace = np.asarray(fit.elbo_trace)[: int(fit.n_iter)]
    assert (np.diff(trace) > -1e-9 * np.abs(trace[1:])).all()


def test_nothing_flows_to_the_statistics_of_an_empty_component(kind, rng):
    x, _ = rows_of(kind, rng, 20)
    model = kind.model.from_data(x, 2)
    q = model.update(model.prior, model.prior * 0.0)
    for moments in (q.moments(), q.point()):
        found = model.local(moments, vx.Batch.of(x))
        assert np.isfinite(np.asarray(found.log_z)).all()
        assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(found))


def test_imputed_entries_lie_within_the_components(kind, rng):
    if not kind.missing:
        return
    x, label = rows_of(kind, rng, 80)
    batch = vx.Batch.of(holes(rng, x), missing=True)
    model = kind.model.from_data(x, 2)
    fit = vx.fit(model, batch, init=label).check()
    mean, sd = model.impute(fit.q, batch)
    mask = np.asarray(batch.mask)
    np.testing.assert_array_equal(np.asarray(mean)[mask], x[mask])
    np.testing.assert_array_equal(np.asarray(sd)[mask], 0.0)
    assert (np.asarray(sd)[~mask] > 0).all()
    assert (np.asarray(mean)[~mask] >= x.min()).all()
    assert (np.asarray(mean)[~mask] <= x.max()).all()


# -- building and refusing ------------------------------------------------------------------------


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
    np.testing.assert_allclose(each.rate, 3.0)
    each = PoissonMixture.from_data(vx.Batch.of(x, mask=x < 4), 2, rate=None).components.each
    np.testing.assert_allclose(each.rate, 1 / 2)
    np.testing.assert_allclose(PoissonMixture.from_data(0 * x, 2).components.each.rate, 1.0)
    model = CategoricalMixture.from_data(x, 3, k_max=4)
    assert model.components.sizes == (5, 1)
    assert model.components.num_parameters() == (4, 0)
    np.testing.assert_array_equal(model.components.each.conc[:, 1], [[1, 0, 0, 0, 0]] * 4)
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


def test_gradients_are_finite(kind, rng):
    x, label = rows_of(kind, rng, 20)
    model = kind.model.from_data(x, 2, k_max=3)
    resp = jnp.asarray(np.eye(3)[label])

    def bound(model, weight):
        batch = vx.Batch(jnp.asarray(x), weight)
        q = model.update(model.prior, model.assign(model.prior, batch, resp))
        e = model.local(q.moments(), batch)
        new = model.update(q, e.stats)
        return jnp.sum(weight * e.log_z) - model.penalty(q) + jnp.sum(new.kl(q))

    for leaf in jax.tree.leaves(jax.grad(bound, allow_int=True)(model, jnp.ones(20))):
        assert leaf.dtype == jax.dtypes.float0 or np.isfinite(np.asarray(leaf)).all()


# -- float32 --------------------------------------------------------------------------------------


def _low_and_high(q, x):
    """The same numbers, rounded to float32, in both precisions."""
    x = jnp.asarray(x, jnp.float32)
    low = jax.tree.map(lambda a: a.astype(jnp.float32), q)
    cast = jax.tree.map(lambda a: a.astype(jnp.float64), (low, x))
    return (low, x), cast


@pytest.mark.parametrize("size", [1e3, 1e6])
def test_float32_keeps_log_densities_of_large_counts(rng, size):
    rate = size * np.array([[1.0, 2.0], [1.003, 2.0], [1.2, 1.9]])
    q = PoissonMixture.with_prior(3, shape=20 * rate, rate=20.0, conc=1.0).components
    x = rng.poisson(rate[rng.integers(3, size=20)])
    _compare(q, x)
    shape = {"category_conc": rate * 20}
    q = MultinomialMixture.with_prior(3, **shape, conc=1.0).components
    _compare(q, x)


def _compare(q, x):
    (low, x32), (high, x64) = _low_and_high(q, x)
    for fn in (
        lambda q, x: q.moments().log_lik(x),
        lambda q, x: q.point().log_lik(x),
        lambda q, x: q.log_predictive(vx.Batch(x, jnp.ones_like(x[:, 0]))),
    ):
        exact = fn(high, x64)
        np.testing.assert_allclose(fn(low, x32), exact, rtol=2e-4, atol=2e-3)


def test_log_likelihoods_are_scipys(kind, rng):
    """At a point, every entry's density from its definition."""
    from scipy import stats

    x, _ = rows_of(kind, rng, 15)
    q = kind.model.with_prior(3, **kind.prior(rng, 3), conc=1.0).components
    value = np.asarray(q.point().each.mean)
    if kind.name == "poisson":
        expected = stats.poisson.logpmf(x[:, None], value).sum(-1)
    elif kind.name == "exponential":
        expected = stats.expon.logpdf(x[:, None], scale=1 / value).sum(-1)
    elif kind.name == "bernoulli":
        expected = stats.bernoulli.logpmf(x[:, None].astype(int), value[..., 0]).sum(-1)
    elif kind.name == "categorical":
        index = np.arange(2)[None, None], x[:, None].astype(int)
        expected = np.log(value[np.arange(3)[None, :, None], *index]).sum(-1)
    else:
        expected = np.stack([stats.multinomial(TOTAL, p).logpmf(x) for p in value], 1)
    np.testing.assert_allclose(q.point().log_lik(jnp.asarray(x)), expected, rtol=1e-9)


def test_any_weights_go_with_them():
    """The parts are those of a plain `Mixture`."""
    x = np.array([[0.0], [1.0], [5.0], [6.0]])
    parts = PoissonMixture.from_data(x, 2)
    model = Mixture(parts.weights, parts.components)
    a = vx.fit(parts, x, init=np.array([0, 0, 1, 1])).elbo
    np.testing.assert_allclose(vx.fit(model, x, init=np.array([0, 0, 1, 1])).elbo, a, rtol=1e-12)
