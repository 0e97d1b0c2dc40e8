"""Counts, flags, categories and waiting times: against evidence in closed form."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import vijax as vx
from vijax.models.mixtures.columns import ExponentialMixture, MultinomialMixture, PoissonMixture

from .discrete_kinds import KINDS, TOTAL, gammas, holes, one, rows_of
from .oracles import discrete as oracle

TIGHT = vx.Stop(tol=1e-20)


@pytest.fixture(params=KINDS, ids=[kind.name for kind in KINDS])
def kind(request):
    return request.param


@functools.partial(jax.jit, static_argnames="name")
def call(model, name, *args):
    """A method as one program: op by op, every new shape would compile every operation."""
    return getattr(model, name)(*args)


def fit_of_one(model, x):
    batch = vx.Batch.of(x)
    return vx.fit(model, batch, init=np.zeros(len(batch.weight), int)).check()


# -- one component: everything is exact -----------------------------------------------------------


@pytest.mark.parametrize("n", [1, 5, 20, 80])
def test_bound_of_one_component_is_the_log_evidence(kind, rng, n):
    x, _ = rows_of(kind, rng, 80)
    prior = kind.prior(rng, 1)
    weight = 1.0 * (np.arange(80) < n)  # rows of weight 0 are not there
    fit = fit_of_one(kind.model.with_prior(1, **prior, conc=0.7), vx.Batch.of(x, weight))
    expected = kind.evidence(x[:n], np.ones(n), **one(prior))
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
    x, _ = rows_of(kind, rng, 80)
    weight = rng.integers(0, 4, size=80)
    repeated = vx.Batch.of(np.repeat(x, weight, 0))
    components = kind.model.with_prior(3, **kind.prior(rng, 3), conc=0.7).components
    resp = rng.dirichlet(np.ones(3), 80)
    weighted = components.observe(vx.Batch.of(x), jnp.asarray(resp * weight[:, None]))
    again = components.observe(repeated, jnp.asarray(np.repeat(resp, weight, 0)))
    for a, b in zip(jax.tree.leaves(weighted), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    prior = kind.prior(rng, 1)
    fit = fit_of_one(kind.model.with_prior(1, **prior, conc=0.7), vx.Batch.of(x, weight))
    np.testing.assert_allclose(fit.elbo, kind.evidence(x, weight, **one(prior)), rtol=1e-9)


def test_predictive_is_a_ratio_of_evidences(kind, rng):
    x, _ = rows_of(kind, rng, 80)
    prior = kind.prior(rng, 1)
    model = kind.model.with_prior(1, **prior, conc=0.7)
    q = fit_of_one(model, x).q
    new, _ = rows_of(kind, rng, 6)
    given = kind.evidence(x, np.ones(80), **one(prior))
    both = [kind.evidence(np.vstack([x, row]), np.ones(81), **one(prior)) for row in new]
    np.testing.assert_allclose(
        call(model, "log_predictive", q, new), np.array(both) - given, rtol=1e-9
    )
    if kind.missing:
        new = holes(rng, new, 0.8)
        both = [kind.evidence(np.vstack([x, row]), np.ones(81), **one(prior)) for row in new]
        got = call(model, "log_predictive", q, vx.Batch.of(new, missing=True))
        np.testing.assert_allclose(got, np.array(both) - given, rtol=1e-9)


def test_predictive_sums_to_one(kind, rng):
    x, _ = rows_of(kind, rng, 30)
    if kind.support is not None:
        model = kind.model.with_prior(2, **kind.prior(rng, 2), conc=0.7)
        q = vx.fit(model, x, init=rng.dirichlet(np.ones(2), 30)).q
        support = kind.support.astype(float)
        batch = vx.Batch.of(support)
        if kind.name in ("poisson", "geometric"):
            # one column at a time: the other is missing
            batch = vx.Batch.of(support, mask=np.broadcast_to([True, False], support.shape))
        total = np.exp(call(model, "log_predictive", q, batch)).sum()
        np.testing.assert_allclose(total, 1.0, rtol=1e-9)
        return
    model = ExponentialMixture.with_prior(2, shape=1.5, rate=2.0, conc=1.0)
    q = vx.fit(model, x[:, :1], init=rng.dirichlet(np.ones(2), 30)).q

    def density(v):
        return float(jnp.exp(call(model, "log_predictive", q, jnp.full((1, 1), v)))[0])

    total, _ = integrate.quad(density, 0, np.inf, limit=200)
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)


def test_draws_follow_the_predictive(kind, rng, key):
    """Frequencies of draws against their density."""
    x, _ = rows_of(kind, rng, 40)
    model = kind.model.from_data(x, 2)
    q = vx.fit(model, x, init=rng.dirichlet(np.ones(2), 40)).q
    options = {"total": TOTAL} if kind.name == "multinomial" else {}
    rows, label = model.sample(q, key, 4000, **options)
    assert rows.shape == (4000, x.shape[1])
    assert rows.dtype == x.dtype
    assert label.shape == (4000,)
    model.components.check(vx.Batch.of(rows))
    if kind.name == "exponential":  # how many waits of the first column are below 1
        grid = np.stack([np.linspace(0, 1, 2001), np.ones(2001)], 1)
        line = vx.Batch.of(grid, mask=np.broadcast_to([True, False], grid.shape))
        density = np.exp(np.asarray(call(model, "log_predictive", q, line)))
        below = np.trapezoid(density, grid[:, 0])
        assert abs(np.mean(np.asarray(rows[:, 0]) < 1.0) - below) < 5 * np.sqrt(0.25 / 4000)
        return
    values, index = np.unique(np.asarray(rows), axis=0, return_index=True)
    density = np.exp(np.asarray(call(model, "log_predictive", q, rows)))[index]
    counts = np.array([(np.asarray(rows) == v).all(1).mean() for v in values])
    assert (np.abs(counts - density) < 5 * np.sqrt(density / 4000) + 1e-3).all()


# -- several components ---------------------------------------------------------------------------


def test_bound_is_below_the_exact_evidence(kind, rng):
    x, _ = rows_of(kind, rng, 6)
    prior, conc = kind.prior(rng, 2), gammas(rng, 2)
    model = kind.model.with_prior(2, **prior, conc=conc)
    evidence = oracle.log_evidence(kind.evidence, x, conc, prior)
    for resp in (*rng.dirichlet(np.ones(2), (3, 6)), np.eye(2)[[0, 0, 0, 1, 1, 1]]):
        fit = vx.fit(model, x, init=resp, stop=TIGHT).check()
        assert fit.elbo <= evidence + 1e-9
        np.testing.assert_allclose(
            call(model, "elbo", fit.q, x, call(model, "responsibilities", fit.q, x)),
            fit.elbo,
            rtol=1e-9,
        )
    assert evidence - fit.elbo < 5.0


def test_two_planted_clusters_are_found(kind, rng, key):
    x, label = rows_of(kind, rng, 300)
    model = kind.model.from_data(x, 4, k_max=5)
    fit = vx.fit(model, x, key=key, num_restarts=4).check()
    found = np.asarray(call(model, "predict", fit.q, x))
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
    log_lik = call(model, "log_likelihood", fit.q, x)
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
    resp = np.asarray(call(model, "responsibilities", fit.q, x))
    assert np.isfinite(resp).all()
    np.testing.assert_allclose(resp.sum(1), 1.0)
    if kind.missing:
        mask = ~((label == 0)[:, None] & (np.arange(x.shape[1]) == 1))
        batch = vx.Batch.of(x, mask=mask)
        fit = vx.fit(model, batch, method=vx.EM(), init=label)
        assert np.isfinite(fit.elbo)
        assert np.isfinite(np.asarray(call(model, "responsibilities", fit.q, batch))).all()


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
        found = call(model, "local", moments, vx.Batch.of(x))
        assert np.isfinite(np.asarray(found.log_z)).all()
        assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(found))


def test_imputed_entries_lie_within_the_components(kind, rng):
    if not kind.missing:
        return
    x, label = rows_of(kind, rng, 80)
    batch = vx.Batch.of(holes(rng, x), missing=True)
    model = kind.model.from_data(x, 2)
    fit = vx.fit(model, batch, init=label).check()
    mean, sd = call(model, "impute", fit.q, batch)
    mask = np.asarray(batch.mask)
    np.testing.assert_array_equal(np.asarray(mean)[mask], x[mask])
    if np.ndim(sd) == 3:  # levels, with their probabilities
        np.testing.assert_array_equal(np.argmax(sd, -1), mean)
        np.testing.assert_allclose(np.sum(sd, -1), 1.0)
        return
    np.testing.assert_array_equal(np.asarray(sd)[mask], 0.0)
    assert (np.asarray(sd)[~mask] > 0).all()
    assert (np.asarray(mean)[~mask] >= x.min()).all()
    assert (np.asarray(mean)[~mask] <= x.max()).all()


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
    q = vx.GeometricMixture.with_prior(3, a=20.0, b=20 * rate, conc=1.0).components
    _compare(q, rng.geometric(1 / rate[rng.integers(3, size=20)]) - 1)
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
        exact, got = jax.jit(fn)(high, x64), jax.jit(fn)(low, x32)
        assert got.dtype == jnp.float32
        # a plain sum of its terms is off by 1 at counts of 1e6
        np.testing.assert_allclose(got, exact, rtol=2e-4, atol=1e-2)


def test_log_likelihoods_are_scipys(kind, rng):
    """At a point, every entry's density from its definition."""
    x, _ = rows_of(kind, rng, 15)
    q = kind.model.with_prior(3, **kind.prior(rng, 3), conc=1.0).components
    value = np.asarray(q.point().each.mean)
    if kind.name == "poisson":
        expected = stats.poisson.logpmf(x[:, None], value).sum(-1)
    elif kind.name == "exponential":
        expected = stats.expon.logpdf(x[:, None], scale=1 / value).sum(-1)
    elif kind.name == "bernoulli":
        expected = stats.bernoulli.logpmf(x[:, None].astype(int), value[..., 0]).sum(-1)
    elif kind.name == "geometric":
        expected = stats.geom.logpmf(x[:, None].astype(int) + 1, value[..., 0]).sum(-1)
    elif kind.name == "categorical":
        index = np.arange(2)[None, None], x[:, None].astype(int)
        expected = np.log(value[np.arange(3)[None, :, None], *index]).sum(-1)
    else:
        expected = np.stack([stats.multinomial(TOTAL, p).logpmf(x) for p in value], 1)
    np.testing.assert_allclose(q.point().log_lik(jnp.asarray(x)), expected, rtol=1e-9)
