"""The bulk of columns, and the scatter inside of clusters, against the planted ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vijax.data.batch import Batch
from vijax.models.priors.scale import scale_of
from vijax.numerics.bulk import bulk_of

from .data import clusters_apart


def clusters(seed, k, d, per):
    return clusters_apart(np.random.default_rng(seed), d, k, per, apart=8.0)[0]


def size(matrix):
    """The geometric mean of the variances along the axes."""
    return np.exp(np.linalg.slogdet(np.asarray(matrix))[1] / len(matrix))


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("k", [1, 2, 3, 6, 10])
def test_scatter_within_is_that_of_the_clusters(k, d):
    sizes = [size(scale_of(Batch.of(clusters(seed, k, d, 60))).within) for seed in range(5)]
    assert min(sizes) > 0.3
    assert max(sizes) < (2.0 if k <= 6 else 10.0)  # 16 cells part ten clusters on a line in part


def test_bulk_is_the_shortest_interval(rng):
    x = np.concatenate([rng.normal(size=85), rng.uniform(50, 99, 15)])[:, None]
    order = np.sort(x[:, 0])
    lengths = [order[i + 79] - order[i] for i in range(21)]
    i = int(np.argmin(lengths))
    for xp in (np, jnp):
        bulk = bulk_of(xp, xp.asarray(x), xp.ones(x.shape, bool))
        np.testing.assert_allclose([bulk.low[0], bulk.high[0]], order[[i, i + 79]], rtol=1e-6)
        np.testing.assert_allclose(bulk.gap[0], np.diff(order).min(), rtol=1e-2)


@pytest.mark.parametrize("far", [1e2, 1e4, 1e8, -999.0])
@pytest.mark.parametrize("share", [0.005, 0.1, 0.18])
def test_a_fifth_of_bad_rows_changes_little(share, far):
    x = clusters(0, 3, 2, 100)
    bad = np.full((int(300 * share / (1 - share)), 2), far)
    clean, dirty = (scale_of(Batch.of(rows)) for rows in (x, np.concatenate([x, bad])))
    assert 0.3 < size(dirty.within) / size(clean.within) < 3.0
    assert (np.abs(dirty.mean - clean.mean) < 2.0 * np.sqrt(np.diag(clean.total))).all()


def test_host_and_traced_agree(rng):
    x = clusters(1, 4, 3, 50)
    x[rng.random(x.shape) < 0.1] = np.nan
    batch = Batch.of(x, missing=True)
    traced = jax.jit(scale_of)(jax.tree.map(jnp.asarray, batch))
    for a, b in zip(scale_of(batch), traced, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3 * np.abs(a).max())


def test_units_offsets_and_order_do_not_matter(rng):
    x = clusters(2, 3, 2, 60)
    unit, offset = np.array([1e-3, 1e4]), np.array([5.0, -3e5])
    scale, other = scale_of(Batch.of(x)), scale_of(Batch.of(rng.permutation(x) * unit + offset))
    factor = unit[:, None] * unit
    sd = unit * np.sqrt(np.diag(scale.total))
    np.testing.assert_allclose(other.mean - offset, scale.mean * unit, atol=0.05 * sd.min())
    for name in ("total", "within"):
        old, new = getattr(scale, name) * factor, getattr(other, name)
        np.testing.assert_allclose(new / factor, old / factor, atol=0.05)


@pytest.mark.parametrize(
    "x",
    [
        np.ones((1, 2)),
        np.ones((30, 2)),
        np.repeat([[0.0, 1.0], [5.0, 1.0]], 20, 0),
        np.random.default_rng(0).normal(size=(5, 20)),
        np.random.default_rng(0).integers(0, 2, (50, 3)) * 1.0,
    ],
    ids=["one row", "constant", "two values", "wide", "flags"],
)
def test_odd_rows_have_a_positive_definite_scatter(x):
    scale = scale_of(Batch.of(x, missing=True))
    for matrix in (scale.total, scale.within):
        assert np.isfinite(matrix).all()
        assert np.linalg.eigvalsh(np.asarray(matrix, np.float64)).min() > 0
