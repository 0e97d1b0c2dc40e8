"""The fused E-step of few rows and columns, against NumPy in float64 and against row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax._pytree import replace
from vijax.families.compound.noise import WithNoise
from vijax.families.emission import Emission
from vijax.families.gaussian import fused
from vijax.families.gaussian.kernels import choose

from .data import clusters
from .test_precision import two_clusters

K = 3


def is_fused(rows):
    return "fused" in choose(rows, K, full=True)


def wide(tree):
    return jax.tree.map(lambda a: np.asarray(a, float), tree)


def in_numpy(moments, origin, x, weight):
    """log_z, and sums of 1, x - c and (x - c)(x - c)^T about `origin`, in float64."""
    at, log_p = wide(moments.components), wide(moments.weights).log_p
    x, d = np.asarray(x, float), x.shape[1]
    log_joint = np.empty((len(x), len(log_p)))
    for k in range(len(log_p)):
        z = np.linalg.solve(at.chol[k], (x - at.origin[k] - at.shift[k]).T)
        square = at.scale[k] * (z**2).sum(0) + at.spread[k]
        log_joint[:, k] = log_p[k] + 0.5 * (at.e_logdet[k] - square - d * np.log(2 * np.pi))
    top = log_joint.max(1)
    p = np.exp(log_joint - top[:, None])
    mass = (np.asarray(weight, float) / p.sum(1))[:, None] * p
    z = x[:, None] - np.asarray(origin, float)
    square = np.einsum("nk,nki,nkj->kij", mass, z, z)
    return top + np.log(p.sum(1)), mass.sum(0), np.einsum("nk,nki->ki", mass, z), square


@jax.jit
def assigned(model, batch, resp):
    return model.update(model.prior, model.assign(model.prior, batch, resp))


@jax.jit
def local(model, moments, batch):
    return model.local(moments, batch)


def start(x, kind="full", weight=None):
    """A model, its rows, and the q of sorted rows' thirds."""
    batch = vx.Batch.of(x, weight)
    model = vx.GaussianMixture.from_data(batch, K, covariance=kind)
    labels = np.argsort(np.argsort(np.asarray(batch.x)[:, 0])) * K // len(x)
    return model, batch, assigned(model, batch, np.eye(K, dtype=batch.x.dtype)[labels])


def data_of(rng, case):
    if case == "plain":
        return clusters(rng, n=90, d=3, k=K)[0]
    x = np.sort(two_clusters(rng, {"apart": 1e4, "far": 1e3}[case], n=90)[0], 0)
    return x + {"apart": 0.0, "far": 1e6}[case]


@pytest.mark.float32
@pytest.mark.parametrize(
    ("case", "point"), [("plain", True), ("plain", False), ("apart", False), ("far", False)]
)
def test_a_step_is_that_of_float64(rng, case, point):
    """At ordinary numbers, clusters 10 000 sd apart, and 1e6 from the origin."""
    x = data_of(rng, case)
    weight = rng.gamma(1.0, size=len(x)) * (rng.random(len(x)) < 0.9)
    dtype = np.float64 if jax.config.jax_enable_x64 else np.float32
    model, batch, q = start(x.astype(dtype), weight=weight.astype(dtype))
    moments = jax.jit(lambda q: q.point() if point else q.moments())(q)
    assert is_fused(batch)
    got = local(model, moments, batch)
    stats = got.stats.components
    log_z, count, shift, square = in_numpy(moments, stats.origin, batch.x, batch.weight)
    tol = 1e-11 if dtype == np.float64 else 3e-5
    present = np.asarray(batch.weight) > 0
    np.testing.assert_allclose(got.log_z[present], log_z[present], rtol=tol, atol=tol)
    np.testing.assert_allclose(got.stats.weights.conc, count, rtol=tol, atol=tol)
    sd = np.sqrt(np.diagonal(wide(q.components.covariance), axis1=1, axis2=2))
    size = np.maximum(count, 1.0)[:, None] * sd
    assert (np.abs(stats.shift - shift) < tol * size).all()
    assert (np.abs(stats.square - square) < tol * size[..., None] * sd[:, None]).all()


@pytest.mark.parametrize(
    ("kind", "d", "weights"), [("full", 4, "sticks"), ("full", 1, "plain"), ("tied", 2, "plain")]
)
def test_a_step_is_its_parts(rng, kind, d, weights):
    """Rows with an unknown label are the same rows, and take the way by responsibilities."""
    x, _ = clusters(rng, n=60, d=d, k=K)
    prior = {} if weights == "plain" else {"weights": vx.StickBreaking.dirichlet_process(1.0, K)}
    model, batch, q = start(x, kind)
    if prior:
        model = replace(model, **prior)
        q = replace(q, weights=prior["weights"].observe(jnp.asarray([20.0, 30.0, 10.0])))
    unknown = replace(batch, label=jnp.full(len(x), -1, jnp.int32))
    assert is_fused(batch)
    assert not is_fused(unknown)

    def value(x, batch):
        e = model.local(q.moments(), replace(batch, x=x))
        return jnp.sum(e.log_z) + jnp.sum(jnp.sin(e.stats.components.square)), e

    both = jax.jit(lambda: [jax.grad(value, has_aux=True)(batch.x, b) for b in (batch, unknown)])
    one, two = both()
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.float32
def test_rows_of_weight_zero_may_hold_anything(rng):
    x, _ = clusters(rng, n=60, d=2, k=K)
    model, batch, q = start(x.astype(np.float32))
    model = replace(model, weights=vx.Dirichlet(model.weights.conc.at[2].set(0.0)))
    off = replace(q, weights=vx.Dirichlet(q.weights.conc.at[2].set(0.0)))
    junk = jnp.full((4, 2), jnp.nan, batch.x.dtype).at[1].set(jnp.inf)
    none = jnp.zeros_like(junk[:, 0])
    more = vx.Batch(jnp.concatenate([batch.x, junk]), jnp.append(batch.weight, none))

    def bound(q, batch):
        e = model.local(q.moments(), batch)
        rows = jnp.where(batch.weight > 0, batch.weight * e.log_z, 0.0)
        return jnp.sum(rows) + e.stats.components.square.sum(), e.stats

    slopes = jax.jit(lambda q: [jax.grad(bound, has_aux=True)(q, b) for b in (batch, more)])
    (slope, stats), (again, same) = slopes(off)
    for a, b in zip(jax.tree.leaves(stats), jax.tree.leaves(same), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-4)
    for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(again), strict=True):
        assert jnp.isfinite(b).all()
        np.testing.assert_allclose(b, a, rtol=2e-3, atol=2e-3)
    assert stats.weights.conc[2] == 0
    assert (stats.components.square[2] == 0).all()


def test_lanes_are_as_if_alone(rng):
    x = np.stack([clusters(rng, n=60, d=2, k=K)[0] for _ in range(3)])
    model, _, q = start(x[0])

    @jax.jit
    def step(x):
        return model.local(q.moments(), vx.Batch(x, jnp.ones(len(x))))

    together = jax.jit(jax.vmap(step))(jnp.asarray(x))
    for i in range(3):
        alone, lane = step(jnp.asarray(x[i])), jax.tree.map(lambda a, i=i: a[i], together)
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(lane), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("n", "d"), [(60, 5), (2048, 2)])
def test_many_rows_or_columns_take_no_step(n, d):
    assert not is_fused(vx.Batch.of(np.zeros((n, d))))
    missing = vx.Batch.of(np.where(np.eye(3, 2) > 0, np.nan, 1.0), missing=True)
    assert not is_fused(missing)


@pytest.mark.parametrize(
    ("n", "d", "k", "whole", "labelled", "masked", "noisy", "diag"),
    [
        # rows, columns, components; then what serves correlated columns, with labels, with
        # missing entries, with measurement noise, and independent columns with missing entries
        (255, 4, 100, "fused", "", "", "", ""),
        (256, 4, 31, "fused", "", "", "", ""),
        (256, 4, 32, "features fused", "features", "", "", "features"),
        (256, 5, 32, "features", "features", "", "", "features"),
        (2047, 5, 4, "", "", "", "", ""),
        (2047, 1, 4, "fused", "", "", "", ""),
        (2048, 1, 1, "features", "features", "", "", "features"),
    ],
)
def test_rows_go_where_their_number_and_kind_send_them(
    n, d, k, whole, labelled, masked, noisy, diag
):
    x, one = np.zeros((n, d)), np.ones((n, d))
    missing = vx.Batch.of(x, mask=one > 0)
    forms = [
        (vx.Batch.of(x), True, whole),
        (vx.Batch.of(x, label=np.zeros(n, int)), True, labelled),
        (missing, True, masked),
        (vx.Batch.of(x, noise=one), True, noisy),
        (vx.Batch.of(x, noise=one), False, noisy),
        (missing, False, diag),
        # nothing of independent columns is fused
        (vx.Batch.of(x), False, diag),
    ]
    for rows, full, expected in forms:
        assert choose(rows, k, full=full) == (*expected.split(), "rows")


def noisy_start(rng, kind, dtype):
    """Gaussian components beside uniform noise, rows with weights, and a q."""
    x, _ = clusters(rng, n=90, d=3, k=K)
    x[:9] = 30.0 * rng.normal(size=(9, 3))  # a few are in the box, or off it, and nowhere else
    weight = rng.gamma(1.0, size=len(x)) * (rng.random(len(x)) < 0.9)
    _, batch, q = start(x.astype(dtype), kind, weight.astype(dtype))
    box = jnp.asarray([[-25.0] * 3, [25.0] * 3], dtype)
    conc = jnp.append(q.weights.conc, jnp.asarray(5.0, dtype))
    return batch, WithNoise(q.components, *box), vx.Dirichlet(conc)


@pytest.mark.float32
@pytest.mark.parametrize("kind", ["full", "tied"])
def test_noise_is_fused_and_the_same_as_row_by_row(rng, kind, monkeypatch):
    dtype = np.float64 if jax.config.jax_enable_x64 else np.float32
    rows, components, weights = noisy_start(rng, kind, dtype)
    log_p, calls = weights.moments().log_p, []

    def watched(*args, step=fused.e_step):
        calls.append(1)
        return step(*args)

    monkeypatch.setattr(fused, "e_step", watched)
    both = jax.jit(
        lambda: [
            step(components, rows, components.moments(), log_p)
            for step in (Emission.e_step, WithNoise.e_step)
        ]
    )
    (exact, count, log_z), (got, count_too, log_z_too) = both()
    assert calls == [1]
    assert (got.low == components.low).all()
    tol = 1e-11 if dtype == np.float64 else 3e-5
    present = np.asarray(rows.weight) > 0
    assert np.isneginf(log_z).sum() == 0 < count[K]
    np.testing.assert_allclose(log_z_too[present], log_z[present], rtol=tol, atol=tol)
    np.testing.assert_allclose(count_too, count, rtol=tol, atol=tol)
    size = float(jnp.max(count) * jnp.max(components.others.covariance))  # of the largest sums
    for a, b in zip(
        *map(jax.tree.leaves, (exact.others, got.others.about(exact.others))), strict=True
    ):
        np.testing.assert_allclose(b, a, rtol=tol, atol=tol * size)
