"""The kernel of features: the same E-step, taken only where it keeps its digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax._pytree import replace
from vijax.families.compound.columns import Columns
from vijax.families.compound.noise import WithNoise
from vijax.families.compound.student_t import student_t
from vijax.families.emission import Emission
from vijax.families.independent.gamma_poisson import GammaPoisson

from .data import clusters
from .test_precision import close, in_double, two_clusters

ROWS = 2100  # features need many
KINDS = ["full", "tied", "diag", "spherical"]


def both(model, q, moments, batch):
    """Bound of the rows and update, by differences and by features."""
    found, _ = model.kernels(moments, batch)
    steps = [model.local(m, batch) for m in (moments, found.moments)]
    rows = [jnp.sum(batch.weight * e.log_z) for e in steps]
    return found, rows, [model.update(q, e.stats) for e in steps]


def same(a, b, rtol):
    """Means and covariances in standard deviations, counts relative to themselves."""
    one, two = a.components, b.components
    one, two = (getattr(q, "others", q) for q in (one, two))
    sd = np.sqrt(np.diagonal(np.asarray(one.covariance), axis1=1, axis2=2))
    assert (np.abs(two.mean - one.mean) < rtol * sd).all()
    close(np.asarray(two.covariance), np.asarray(one.covariance), rtol)
    np.testing.assert_allclose(two.kappa, one.kappa, rtol=rtol)
    np.testing.assert_allclose(b.weights.mean, a.weights.mean, rtol=rtol)


@pytest.mark.float32
@pytest.mark.parametrize(
    ("kind", "form"),
    [(k, form) for form in ("plain", "weights", "labels", "noise", "point") for k in KINDS]
    # what a matrix is left of differs from row to row: no feature says it
    + [(kind, "missing") for kind in ("diag", "spherical")],
)
def test_features_are_the_same_local_step(rng, kind, form):
    x, labels = clusters(rng, n=ROWS, d=3, k=4)
    weight = mask = known = None
    if form == "labels":
        known = np.where(rng.random(ROWS) < 0.3, labels, -1)
    if form == "weights":
        weight = rng.gamma(1.0, size=ROWS) * (rng.random(ROWS) < 0.9)
    if form == "missing":
        mask = rng.random(x.shape) < 0.8
    batch = vx.Batch.of(x, weight=weight, mask=mask, label=known)
    model = vx.GaussianMixture.from_data(batch, 4, covariance=kind)
    q = vx.fit(model, batch, init=labels, stop=vx.Stop(max_iter=3)).q
    if form == "noise":
        low, high = jnp.min(batch.x, 0), jnp.max(batch.x, 0)
        model = replace(
            model,
            weights=vx.Dirichlet(jnp.ones(5, batch.x.dtype)),
            components=WithNoise(model.components, low, high),
        )
        q = replace(
            q,
            weights=vx.Dirichlet(jnp.arange(10.0, 15.0, dtype=batch.x.dtype)),
            components=WithNoise(q.components, low, high),
        )
    moments = q.point() if form == "point" else q.moments()
    found, rows, updates = both(model, q, moments, batch)
    double = batch.x.dtype == jnp.float64
    assert bool(found.reliable)
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-12 if double else 1e-6)
    same(*updates, 1e-10 if double else 1e-4)


def around(rng, kind, form, missing):
    """Rows of clusters, some of weight 0 and some with holes, and a family around Gaussians."""
    x, labels = clusters(rng, n=ROWS, d=3, k=4)
    weight = rng.gamma(1.0, size=ROWS) * (rng.random(ROWS) < 0.9)
    mask = rng.random(x.shape) < 0.8 if missing else None
    rows = vx.Batch.of(x, weight=weight, mask=mask)
    model = vx.GaussianMixture.from_data(rows, 4, covariance=kind)
    hot = np.eye(4, dtype=rows.x.dtype)[labels]
    gaussian = jax.jit(lambda m, b, r: m.update(m.prior, m.assign(m.prior, b, r)))(
        model, rows, hot
    ).components
    dtype = rows.x.dtype
    if form == "student":
        return rows, student_t(gaussian, jnp.asarray([2.0, 3.0, 5.0, 8.0], dtype), learn=True)
    if form == "noise":
        return rows, WithNoise(gaussian, jnp.full(3, -9.0, dtype), jnp.full(3, 9.0, dtype))
    counts = jnp.asarray(rng.gamma(2.0, size=(2, 4, 1)), dtype)
    holes = np.where(np.ones_like(x) if mask is None else mask, x, np.nan)
    table = {"size": holes, "visits": rng.poisson(3.0, ROWS).astype(dtype)}
    parts = {"size": gaussian, "visits": GammaPoisson.from_standard(*counts)}
    return vx.Batch.of(table, weight=weight, missing=missing), Columns(parts)


@pytest.mark.float32
@pytest.mark.parametrize("form", ["student", "noise", "columns"])
@pytest.mark.parametrize(
    ("kind", "missing"),
    [("full", False), ("tied", False), ("diag", False), ("diag", True), ("spherical", True)],
)
def test_families_around_gaussians_take_features(rng, kind, missing, form):
    """The same statistics as row by row, for rows of weight 0 among others and with holes.

    Clusters have unit variance, so that rounding is to be measured by the number of rows.
    """
    rows, components = around(rng, kind, form, missing)
    k = 5 if form == "noise" else 4
    log_p = jnp.log(jnp.arange(1.0, k + 1.0, dtype=rows.weight.dtype) / (k * (k + 1) / 2))

    @jax.jit
    def steps(components, rows):
        moments = components.moments()
        fast, last = components.kernels(rows, moments)
        exact = Emission.e_step(components, rows, moments, log_p)
        return (
            fast.reliable,
            exact,
            [components.e_step(rows, kernel.moments, log_p) for kernel in (fast, last)],
        )

    reliable, (stats, count, log_z), others = steps(components, rows)
    assert bool(reliable)
    tol = 1e-11 if rows.weight.dtype == jnp.float64 else 5e-5
    present = np.asarray(rows.weight) > 0
    for got, own, rest in others:
        np.testing.assert_allclose(rest[present], log_z[present], rtol=tol, atol=tol)
        np.testing.assert_allclose(own, count, rtol=tol)
        size = float(jnp.max(count))
        for a, b in zip(*map(jax.tree.leaves, (got.about(stats), stats)), strict=True):
            np.testing.assert_allclose(a, b, rtol=tol, atol=tol * size)


@pytest.mark.parametrize("kind", KINDS)
def test_absent_rows_may_hold_anything_inside_of_a_program(rng, kind):
    """Where nothing was looked at on the host."""
    x, labels = clusters(rng, n=ROWS, d=3, k=4)
    model = vx.GaussianMixture.from_data(x, 4, covariance=kind)
    q = vx.fit(model, x, init=labels, stop=vx.Stop(max_iter=3)).q
    weight = np.r_[np.zeros(7), np.ones(ROWS - 7)]
    bad = np.where(weight[:, None] > 0, x, np.nan)

    @jax.jit
    def step(x, weight):
        batch = vx.Batch(x, weight)
        found, _ = model.kernels(q.moments(), batch)
        return found.reliable, model.update(q, model.local(found.moments, batch).stats)

    good, got = step(bad, weight)
    _, exact = step(np.asarray(x), weight)
    assert bool(good)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_have_no_features(rng, kind):
    few = vx.Batch.of(rng.normal(size=(100, 2)))
    model = vx.GaussianMixture.from_data(few, 2, covariance=kind)
    assert len(model.kernels(model.prior.moments(), few)) == 1
    many = np.repeat(np.asarray(few.x), 25, 0)
    missing = vx.Batch.of(np.where(rng.random(many.shape) < 0.1, np.nan, many), missing=True)
    found = model.kernels(model.prior.moments(), missing)
    assert (len(found) == 1) == (kind in ("full", "tied"))
    for form in ("student", "noise", "columns"):
        rows, components = around(rng, kind, form, missing=True)
        found = components.kernels(rows, components.moments())
        assert (len(found) == 1) == (kind in ("full", "tied"))
    table = vx.PoissonMixture.from_data(rng.poisson(3.0, size=(ROWS, 2)), 2)
    rows = table.as_batch(np.ones((ROWS, 2)))
    assert len(table.kernels(table.prior.moments(), rows)) == 1


def after_five_steps(rows, labels):
    """The model of these rows, and a short fit."""
    model = vx.GaussianMixture.from_data(rows, 2)
    return model, vx.fit(model, rows, init=labels, stop=vx.Stop(max_iter=5))


@pytest.mark.float32
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("separation", [20.0, 1e3, 1e4])
def test_float32_keeps_its_digits_wherever_features_end(rng, separation, offset):
    """Within 1e-3 of float64 on the same numbers: certain labels have a closed form."""
    x, labels = two_clusters(rng, separation, n=ROWS)
    low = (x + offset).astype(np.float32)
    model, fit = after_five_steps(low, labels)
    assert fit.q.components.covariance.dtype == jnp.float32
    got = np.asarray(fit.q.components.covariance, float)
    close(got, in_double(low.astype(float), labels))
    reliable = bool(model.kernels(fit.q.moments(), vx.Batch.of(low))[0].reliable)
    assert reliable == (separation < 30)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_float32_keeps_its_digits_where_clusters_overlap(rng, offset):
    """Within 1e-3 of the float64 fit to the same numbers, by features."""
    x, labels = two_clusters(rng, 3.0, n=ROWS)
    low = (x + offset).astype(np.float32)
    model, fit = after_five_steps(low, labels)
    _, exact = after_five_steps(low.astype(np.float64), labels)
    got, wide = (np.asarray(f.q.components.covariance, float) for f in (fit, exact))
    close(got, wide)
    assert bool(model.kernels(fit.q.moments(), vx.Batch.of(low))[0].reliable)


def test_where_features_end_they_err_by_less_than_a_part_in_a_thousand(rng):
    """Their limit, measured: at its edge the covariance is off by eps |m|^2."""
    worst = []
    for separation in (20.0, 25.0, 30.0, 35.0):
        x, labels = two_clusters(rng, separation, n=ROWS)
        low = x.astype(np.float32)
        model = vx.GaussianMixture.from_data(low, 2)
        batch = vx.Batch.of(low)
        q = vx.fit(model, low, init=labels, stop=vx.Stop(max_iter=3)).q
        found, _, updates = both(model, q, q.moments(), batch)
        exact = in_double(low.astype(float), labels)
        sd = np.sqrt(np.diagonal(exact, axis1=1, axis2=2))
        error = np.abs(np.asarray(updates[1].components.covariance) - exact)
        worst.append((bool(found.reliable), float((error / (sd[:, :, None] * sd[:, None])).max())))
    assert {reliable for reliable, _ in worst} == {True, False}
    assert max(error for reliable, error in worst if reliable) < 3e-4


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_memory_beyond_the_data_does_not_grow_with_rows(kind):
    """At most 32 MB of temporaries, for a hundred thousand rows or a million (D = 8, K = 16)."""
    rng = np.random.default_rng(0)
    model = vx.GaussianMixture.from_data(
        rng.normal(size=(100, 8)).astype(np.float32), 16, covariance=kind
    )
    sizes = []
    for n in (100_000, 1_000_000):

        @jax.jit
        def run(q, x, weight):
            return vx.iterate(vx.CAVI(), model, vx.Batch(x, weight), q)

        shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((n, 8), (n,))]
        program = run.lower(model.prior, *shapes).compile().memory_analysis()
        sizes.append(program.temp_size_in_bytes)
    assert max(sizes) < 32e6
    assert sizes[1] < 1.05 * sizes[0]
