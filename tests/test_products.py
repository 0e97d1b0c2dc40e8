"""The shortcut by products: the same local step, taken only where it keeps its digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax._pytree import replace
from vijax.families.compound.noise import WithNoise

from .data import clusters
from .test_precision import close, in_double, two_clusters

ROWS = 2100  # the shortcut needs many
KINDS = ["full", "tied", "diag", "spherical"]


def both(model, moments, batch):
    """Bound of the rows and update, by differences and by products."""
    found = model.shortcut(moments, batch)
    steps = [model.local(m, batch) for m in (moments, found.moments)]
    rows = [jnp.sum(batch.weight * e.log_z) for e in steps]
    return found, rows, [model.update(moments, e.stats) for e in steps]


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
    # what a matrix is left of differs from row to row: no product says it
    + [(kind, "missing") for kind in ("diag", "spherical")],
)
def test_products_are_the_same_local_step(rng, kind, form):
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
    found, rows, updates = both(model, moments, batch)
    double = batch.x.dtype == jnp.float64
    assert bool(found.good)
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-12 if double else 1e-6)
    same(*updates, 1e-10 if double else 1e-4)


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
        found = model.shortcut(q.moments(), batch)
        return found.good, model.update(q, model.local(found.moments, batch).stats)

    good, got = step(bad, weight)
    _, exact = step(np.asarray(x), weight)
    assert bool(good)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_have_no_products(rng, kind):
    few = vx.Batch.of(rng.normal(size=(100, 2)))
    model = vx.GaussianMixture.from_data(few, 2, covariance=kind)
    assert model.shortcut(model.prior.moments(), few) is None
    many = np.repeat(np.asarray(few.x), 25, 0)
    missing = vx.Batch.of(np.where(rng.random(many.shape) < 0.1, np.nan, many), missing=True)
    found = model.shortcut(model.prior.moments(), missing)
    assert (found is None) == (kind in ("full", "tied"))
    table = vx.PoissonMixture.from_data(rng.poisson(3.0, size=(ROWS, 2)), 2)
    assert table.shortcut(table.prior.moments(), table.read(np.ones((ROWS, 2)))) is None


def after_five_steps(rows, labels):
    """The model of these rows, and a short fit."""
    model = vx.GaussianMixture.from_data(rows, 2)
    return model, vx.fit(model, rows, init=labels, stop=vx.Stop(max_iter=5))


@pytest.mark.float32
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("separation", [20.0, 1e3, 1e4])
def test_float32_keeps_its_digits_wherever_products_end(rng, separation, offset):
    """Within 1e-3 of float64 on the same numbers: certain labels have a closed form."""
    x, labels = two_clusters(rng, separation, n=ROWS)
    low = (x + offset).astype(np.float32)
    model, fit = after_five_steps(low, labels)
    assert fit.q.components.covariance.dtype == jnp.float32
    got = np.asarray(fit.q.components.covariance, float)
    close(got, in_double(low.astype(float), labels))
    good = bool(model.shortcut(fit.q.moments(), vx.Batch.of(low)).good)
    assert good == (separation < 30)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_float32_keeps_its_digits_where_clusters_overlap(rng, offset):
    """Within 1e-3 of the float64 fit to the same numbers, by products."""
    x, labels = two_clusters(rng, 3.0, n=ROWS)
    low = (x + offset).astype(np.float32)
    model, fit = after_five_steps(low, labels)
    _, exact = after_five_steps(low.astype(np.float64), labels)
    got, wide = (np.asarray(f.q.components.covariance, float) for f in (fit, exact))
    close(got, wide)
    assert bool(model.shortcut(fit.q.moments(), vx.Batch.of(low)).good)


def test_where_products_end_they_err_by_less_than_a_part_in_a_thousand(rng):
    """The limit of the shortcut, measured: at its edge the covariance is off by eps |m|^2."""
    worst = []
    for separation in (20.0, 25.0, 30.0, 35.0):
        x, labels = two_clusters(rng, separation, n=ROWS)
        low = x.astype(np.float32)
        model = vx.GaussianMixture.from_data(low, 2)
        batch = vx.Batch.of(low)
        q = vx.fit(model, low, init=labels, stop=vx.Stop(max_iter=3)).q
        found, _, updates = both(model, q.moments(), batch)
        exact = in_double(low.astype(float), labels)
        sd = np.sqrt(np.diagonal(exact, axis1=1, axis2=2))
        error = np.abs(np.asarray(updates[1].components.covariance) - exact)
        worst.append((bool(found.good), float((error / (sd[:, :, None] * sd[:, None])).max())))
    assert {good for good, _ in worst} == {True, False}
    assert max(error for good, error in worst if good) < 3e-4


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
