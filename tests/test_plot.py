"""Figures show what they say, and leave the caller's state alone."""

import jax
import matplotlib
import numpy as np
import pandas as pd
import pytest

import vijax as vx
from vijax.extras import plot

from .data import clusters

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture
def fitted(rng):
    x = clusters(rng, n=100, d=3, k=2)[0] * [1.0, 100.0, 1e-3] + [0.0, 1e4, 0.0]
    model = vx.GaussianMixture.from_data(x, 5)
    return x, vx.fit(model, x, key=jax.random.key(0), num_restarts=3)


def distance(points, mean, covariance):
    move = points - mean
    return np.sqrt(np.einsum("ni,ij,nj->n", move, np.linalg.inv(covariance), move))


@pytest.mark.parametrize("columns", [(0, 1), (2, 0)])
def test_drawn_contours_have_the_stated_distance(fitted, columns):
    x, fit = fitted
    ax = plot.plot_mixture(fit.q, x, columns=columns, sigmas=(1.0, 2.5), names=["a", "b", "c"])
    curves = [line.get_xydata() for line in ax.lines if len(line.get_xydata()) > 1]
    shown = np.flatnonzero(np.asarray(fit.q.weights.mean) >= 0.01)
    assert len(curves) == 2 * len(shown)
    means = np.asarray(fit.q.components.mean)[:, columns]
    covariances = np.asarray(fit.q.components.covariance)[:, columns][:, :, columns]
    found = []
    for curve in curves:
        center = curve[:-1].mean(0)
        k = shown[np.argmin([distance(center[None], means[k], covariances[k])[0] for k in shown])]
        far = distance(curve, means[k], covariances[k])
        np.testing.assert_allclose(far, far[0], rtol=1e-6)
        found.append(round(float(far[0]), 6))
    assert sorted(found) == [1.0] * len(shown) + [2.5] * len(shown)
    assert [ax.get_xlabel(), ax.get_ylabel()] == [["a", "b", "c"][j] for j in columns]


def test_one_column_is_a_histogram_with_densities(rng):
    x = np.concatenate([rng.normal(-5, 1, 200), rng.normal(5, 2, 300)])[:, None]
    fit = vx.fit(vx.GaussianMixture.from_data(x, 2), x, init=(x[:, 0] > 0).astype(int))
    ax = plot.plot_mixture(fit.q, x, names=["width"])
    total = sum(np.trapezoid(*line.get_data()[::-1]) for line in ax.lines)
    assert abs(total - 1.0) < 0.02
    assert ax.get_xlabel() == "width"


def test_every_restart_is_drawn(fitted):
    _, fit = fitted
    ax = plot.plot_elbo(fit)
    assert len(ax.lines) == 4
    np.testing.assert_array_equal(ax.lines[-1].get_ydata(), fit.elbo_trace)
    top = ax.get_ylim()[1]
    assert top > np.nanmax(fit.runs.elbo_trace)


def test_every_weight_is_drawn(fitted):
    _, fit = fitted
    ax = plot.plot_weights(fit.q)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], fit.q.weights.mean)


def test_colours_are_distinct_and_the_same_everywhere():
    assert len({plot.colour(k) for k in range(8)}) == 8
    assert plot.colour(3) == plot.colour(3 + 8)


def test_a_given_axes_is_used_and_returned(fitted):
    x, fit = fitted
    _, axes = plt.subplots(1, 3)
    figures = plt.get_fignums()
    assert plot.plot_mixture(fit.q, x, ax=axes[0]) is axes[0]
    assert plot.plot_elbo(fit, ax=axes[1]) is axes[1]
    assert plot.plot_weights(fit.q, ax=axes[2]) is axes[2]
    assert plt.get_fignums() == figures


def test_frames_holes_and_noise_are_drawn(rng):
    x = np.concatenate([rng.normal(size=(80, 2)), rng.uniform(-9, 9, size=(20, 2))])
    x[:5, 0] = np.nan
    rows = vx.Batch.of(pd.DataFrame(x, columns=["width", "height"]), missing=True)
    model = vx.GaussianMixture.from_data(rows, 2, noise=True)
    fit = vx.fit(model, rows, key=jax.random.key(0))
    ax = plot.plot_mixture(fit.q, rows)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("width", "height")
    drawn = np.asarray(ax.collections[0].get_offsets())
    assert np.isfinite(drawn).all(1).sum() == 95
    assert len(plot.plot_weights(fit.q).patches) == 3
