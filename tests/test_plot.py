"""Figures show what they say, and leave the caller's state alone."""

import dataclasses
import sys

import jax
import matplotlib
import numpy as np
import pandas as pd
import plotly.graph_objects
import pytest
from scipy import stats

import vijax as vx
from vijax.extras import plot
from vijax.extras.plot import style

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
        centre = curve[:-1].mean(0)
        k = shown[np.argmin([distance(centre[None], means[k], covariances[k])[0] for k in shown])]
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


def test_thirty_components_look_different():
    """Colour and line, colour and filling: no two of thirty are alike, in either backend."""
    for kind in (style.line, style.dash, style.filling):
        assert len({(style.colour(k), kind(k)) for k in range(30)}) == 30


def as_light(colour):
    return np.array(matplotlib.colors.to_rgb(colour)) ** 2.2


# sRGB in linear light to the cones of a dichromat (Vienot, Brettel & Mollon 1999)
DICHROMATS = {
    "protan": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
    "deutan": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
}


@pytest.mark.parametrize("kind", DICHROMATS)
def test_colours_are_told_apart_without_red_or_green(kind):
    seen = np.array([DICHROMATS[kind] @ as_light(plot.colour(k)) for k in range(8)])
    shown = np.clip(seen, 0.0, 1.0) ** (1 / 2.2)
    apart = np.linalg.norm(shown[:, None] - shown[None], axis=-1)
    assert apart[np.triu_indices(8, 1)].min() > 0.1


def test_mixed_colours_are_those_of_the_components():
    sure = plot.blend(np.eye(10))
    expected = [matplotlib.colors.to_rgb(plot.colour(k)) for k in range(10)]
    np.testing.assert_allclose(sure, expected, atol=1e-12)
    half = plot.blend([[0.5, 0.5]])[0]
    np.testing.assert_allclose(half**2.2, (as_light(plot.colour(0)) + as_light(plot.colour(1))) / 2)


def test_a_given_axes_is_used_and_returned(fitted):
    x, fit = fitted
    _, axes = plt.subplots(1, 3)
    figures = plt.get_fignums()
    assert plot.plot_mixture(fit.q, x, ax=axes[0]) is axes[0]
    assert plot.plot_elbo(fit, ax=axes[1]) is axes[1]
    assert plot.plot_weights(fit.q, ax=axes[2]) is axes[2]
    assert plot.plot_restarts(fit, ax=axes[1]) is axes[1]
    resp = vx.GaussianMixture.from_data(x, 5).responsibilities(fit.q, x)
    assert plot.plot_responsibilities(resp, ax=axes[2]) is axes[2]
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


def test_rows_have_the_colours_of_their_components(fitted):
    x, fit = fitted
    resp = vx.GaussianMixture.from_data(x, 5).responsibilities(fit.q, x)
    ax = plot.plot_mixture(fit.q, x, responsibilities=resp)
    np.testing.assert_allclose(ax.collections[0].get_facecolors()[:, :3], plot.blend(resp))
    with pytest.raises(ValueError, match="responsibilities: expected one row for each of 100"):
        plot.plot_mixture(fit.q, x, responsibilities=resp[:10])


def test_responsibilities_are_shares_of_every_row(rng):
    resp = rng.dirichlet(0.3 * np.ones(12), size=40)
    ax = plot.plot_responsibilities(resp)
    order = np.lexsort((-resp.max(1), resp.argmax(1)))
    used = np.flatnonzero(resp.mean(0) >= 0.01)
    shares = [patch.get_data().values - patch.get_data().baseline for patch in ax.patches]
    np.testing.assert_allclose(np.stack(shares[:-1], 1), resp[order][:, used], atol=1e-12)
    np.testing.assert_allclose(np.sum(shares, 0), 1.0)
    with pytest.raises(ValueError, match="resp: expected responsibilities"):
        plot.plot_responsibilities(resp[0])


def test_pairs_show_every_pair_and_column(fitted):
    x, fit = fitted
    axes = plot.plot_pairs(fit.q, x, names=["a", "b", "c"])
    assert axes.shape == (3, 3)
    assert [[ax.axison for ax in row] for row in axes] == np.tri(3, dtype=bool).tolist()
    assert [ax.get_xlabel() for ax in axes[-1]] == ["a", "b", "c"]
    points = np.asarray(axes[2, 1].collections[0].get_offsets())
    np.testing.assert_allclose(points, x[:, [1, 2]])
    shown = np.flatnonzero(np.asarray(fit.q.weights.mean) >= 0.01)
    assert len(axes[1, 1].lines) == len(shown)
    some = plot.plot_pairs(fit.q, x, columns=[2, 0])
    assert [ax.get_xlabel() for ax in some[-1]] == ["x2", "x0"]
    with pytest.raises(ValueError, match="columns: expected 2 to 8"):
        plot.plot_pairs(fit.q, x, columns=[1])
    with pytest.raises(ValueError, match="ax: expected an array of axes"):
        plot.plot_pairs(fit.q, x, ax=axes[:2])


def test_every_restart_has_its_status_and_bound(rng):
    x = clusters(rng, n=60, k=2)[0]
    fit = vx.fit(
        vx.GaussianMixture.flat(10, 2), x, key=jax.random.key(2), num_restarts=12, method=vx.EM()
    )
    ax = plot.plot_restarts(fit)
    statuses = np.asarray(fit.statuses)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    counts = {f"{(statuses == s).sum()} {vx.Status(s).name}" for s in np.unique(statuses)}
    assert counts | {"returned"} == set(names)
    assert len(counts) > 1
    drawn = sum(len(line.get_xdata()) for line in ax.lines)
    assert drawn == 12 + 1
    assert ax.lines[-1].get_ydata()[0] == float(fit.elbo)


def test_restarts_without_a_bound_stand_at_the_edge():
    def run(x):
        model = vx.GaussianMixture.flat(2, 2)
        return vx.fit(model, x, key=jax.random.key(0), num_restarts=3, method=vx.EM())

    fit = jax.jit(run)(np.full((10, 2), np.nan))
    ax = plot.plot_restarts(fit)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["3 NON_FINITE"]


def test_every_number_of_components_is_drawn(rng):
    x = clusters(rng, n=150, k=3)[0]
    found = vx.select_num_components(x, [4, 1, 2, 3], key=jax.random.key(0), num_restarts=4)
    ax = plot.plot_num_components(found)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [1, 2, 3, 4])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.asarray(found.score)[[1, 2, 3, 0]])
    assert ax.lines[1].get_xdata()[0] == found.best
    assert "relabellings" in ax.get_ylabel()


def test_contours_of_the_exact_posterior_hold_the_stated_mass():
    x = vx.datasets.normal_draws(20)
    prior = {"mean": 0.0, "kappa": 0.01, "shape": 0.01, "rate": 0.01}
    exact = vx.NormalGammaExact.with_prior(**prior).posterior(x)
    model = vx.FactorisedGaussian.with_prior(**prior)
    path = vx.trajectory(model, x, num_iters=4)
    ax = plot.plot_q_vs_exact(path.q, exact, masses=(0.8,))
    contours = [c for c in ax.collections if isinstance(c, matplotlib.contour.QuadContourSet)]
    assert len(contours) == 2 + 4  # the exact one filled and drawn, four iterates
    draws = exact.sample(jax.random.key(0), (20_000,))
    points = np.stack([draws.mean, draws.precision], 1)
    inside = sum(path.contains_points(points).sum() for path in contours[1].get_paths())
    assert abs(inside / 20_000 - 0.8) < 0.01
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("mean", "precision")
    last = jax.tree.map(lambda a: a[-1], path.q)
    assert plot.plot_q_vs_exact(last, exact, ax=ax) is ax


def test_a_contour_that_reaches_beyond_the_axes_keeps_its_mass():
    """The level is that of all of q, not of the part that is shown."""
    x = vx.datasets.normal_draws(20)
    prior = {"mean": 0.0, "kappa": 0.01, "shape": 0.01, "rate": 0.01}
    exact = vx.NormalGammaExact.with_prior(**prior).posterior(x)
    wide = vx.FactorisedGaussian.with_prior(**prior).template
    mu = vx.Normal.from_standard(exact.mean, 1.0 / (3.0 * exact.mean_sd) ** 2)
    q = dataclasses.replace(wide, mu=mu, tau=exact.tau)
    ax = plot.plot_q_vs_exact(q, exact, masses=(0.5,), width=3.0)
    contours = [c for c in ax.collections if isinstance(c, matplotlib.contour.QuadContourSet)]
    level = contours[-1].levels[0]
    mean, precision = (
        mu.sample(jax.random.key(0), (20_000,)),
        exact.tau.sample(jax.random.key(1), (20_000,)),
    )
    density = np.exp(mu.log_prob(mean) + exact.tau.log_prob(precision))
    assert abs(np.mean(density > level) - 0.5) < 0.015


@pytest.mark.parametrize("responsible", [False, True])
def test_plotly_draws_the_same_mixture(fitted, responsible):
    x, fit = fitted
    resp = vx.GaussianMixture.from_data(x, 5).responsibilities(fit.q, x) if responsible else None
    figure = plot.plot_mixture(
        fit.q, x, columns=(2, 0), sigmas=(2.0,), responsibilities=resp, backend="plotly"
    )
    rows = figure.data[0]
    np.testing.assert_allclose(np.stack([rows.x, rows.y], 1), x[:, [2, 0]])
    curves = [trace for trace in figure.data if trace.mode == "lines"]
    shown = np.argsort(-np.asarray(fit.q.weights.mean), kind="stable")
    for k, curve in zip(map(int, shown), curves, strict=False):
        pick = np.ix_([2, 0], [2, 0])
        covariance = np.asarray(fit.q.components.covariance)[k][pick]
        points = np.stack([curve.x, curve.y], 1)[:-1]
        mean = np.asarray(fit.q.components.mean)[k, [2, 0]]
        np.testing.assert_allclose(distance(points, mean, covariance), 2.0, rtol=1e-5)
        assert curve.line.color == plot.colour(k)
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("x2", "x0")
    if responsible:
        first = ", ".join(rows.marker.color[:2])
        expected = (255 * plot.blend(resp[:2])).round().astype(int)
        assert first == ", ".join(f"rgb({r},{g},{b})" for r, g, b in expected)


def test_plotly_draws_every_restart_and_weight(fitted):
    _, fit = fitted
    figure = plot.plot_elbo(fit, backend="plotly")
    assert len(figure.data) == 4
    best = np.asarray(fit.elbo_trace)
    last = int(np.isfinite(np.asarray(fit.runs.elbo_trace)).sum(1).max())
    np.testing.assert_array_equal(figure.data[-1].y, best[:last])
    assert [trace.name for trace in figure.data[:3]] == [
        f"restart {i}, {vx.Status(int(s)).name}" for i, s in enumerate(fit.statuses)
    ]
    bars = plot.plot_weights(fit.q, backend="plotly").data[0]
    np.testing.assert_allclose(bars.y, fit.q.weights.mean)
    np.testing.assert_allclose(bars.error_y.array, fit.q.weights.sd)


def test_plotly_draws_into_a_given_figure(fitted):
    x, fit = fitted
    figure = plotly.graph_objects.Figure()
    assert plot.plot_weights(fit.q, ax=figure, backend="plotly") is figure
    line = x[:, :1]
    alone = vx.fit(
        vx.GaussianMixture.from_data(line, 1), line, init="random", key=jax.random.key(0)
    )
    with pytest.raises(ValueError, match="backend: data with one column"):
        plot.plot_mixture(alone.q, line, backend="plotly")
    with pytest.raises(ValueError, match='backend: expected "matplotlib" or "plotly"'):
        plot.plot_elbo(fit, backend="bokeh")


def test_a_library_that_is_not_there_is_named(fitted, monkeypatch):
    _, fit = fitted
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ImportError, match="pip install"):
        plot.plot_elbo(fit, backend="plotly")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="pip install"):
        plot.plot_elbo(fit)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_every_covariance_and_the_point_of_em_are_drawn(rng, covariance):
    x = clusters(rng, n=60, d=3, k=2)[0]
    model = vx.GaussianMixture.flat(2, 3, covariance=covariance)
    fit = vx.fit(model, x, key=jax.random.key(0), method=vx.EM())
    point = fit.q.point()
    assert len(plot.plot_mixture(point, x).lines) == 6
    assert plot.plot_pairs(point, x).shape == (3, 3)
    assert plot.plot_weights(point).get_ylabel() == "weight"


@pytest.mark.parametrize("method", [vx.CAVI(), vx.EM()], ids=["q", "point"])
def test_student_components_have_their_own_density(rng, method):
    x = np.concatenate([rng.standard_t(3, 200) - 8, rng.standard_t(3, 200) + 8])[:, None]
    model = vx.StudentTMixture.from_data(x, 2)
    fit = vx.fit(model, x, init=(x[:, 0] > 0).astype(int), method=method)
    q = fit.q.point() if method.point else fit.q
    ax = plot.plot_mixture(q, x)
    dof = np.asarray(q.components.dof)
    for k, line in zip(
        np.argsort(-np.asarray(q.weights.mean), kind="stable"), ax.lines, strict=True
    ):
        at, drawn = line.get_data()
        scale = np.sqrt(float(q.components.gaussian.covariance[k, 0, 0]))
        expected = stats.t.pdf(at, dof[k], float(q.components.gaussian.mean[k, 0]), scale)
        np.testing.assert_allclose(drawn, float(q.weights.mean[k]) * expected, rtol=1e-5)
    wide = np.column_stack([x, x])
    both = vx.fit(vx.StudentTMixture.from_data(wide, 2), wide, key=jax.random.key(0))
    assert len(plot.plot_mixture(both.q, wide).lines) > 2


def test_components_without_a_covariance_have_a_cross_only(rng):
    x = clusters(rng, n=40, k=1)[0]
    model = vx.GaussianMixture.with_prior(
        3, mean=[0.0, 0.0], kappa=1.0, df=2.0, scatter=1.0, conc=1.0
    )
    fit = vx.fit(model, x, init=np.zeros(40, int))
    assert np.isnan(fit.q.components.covariance[1:]).any()
    lines = [len(line.get_xdata()) for line in plot.plot_mixture(fit.q, x, min_weight=0.0).lines]
    assert sorted(lines) == [1, 1, 1, 200, 200]
    assert len(plot.plot_pairs(fit.q, x, min_weight=0.0)[1, 0].lines) == 5
    traces = plot.plot_mixture(fit.q, x, min_weight=0.0, backend="plotly").data
    assert [len(trace.x) for trace in traces if trace.mode == "lines"] == [402, 1, 1]


def test_thirty_components_are_drawn_and_numbered(rng):
    means = np.stack(np.meshgrid(np.arange(6), np.arange(5)), -1).reshape(30, 2) * 30.0
    labels = np.repeat(np.arange(30), 20)
    x = means[labels] + rng.normal(size=(600, 2))
    model = vx.GaussianMixture.flat(30, 2)
    point = vx.fit(model, x, init=labels, method=vx.EM()).q.point()
    ax = plot.plot_mixture(point, x)
    assert {text.get_text() for text in ax.texts} == {str(k) for k in range(30)}
    looks = {
        (line.get_color(), line.get_linestyle()) for line in ax.lines if len(line.get_xdata()) > 1
    }
    assert len(looks) == 30
    bars = plot.plot_weights(point).patches
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in bars}) == 30
    assert len(plot.plot_responsibilities(np.eye(30)[labels]).texts) == 30


def test_absent_rows_and_empty_columns_are_not_drawn(rng):
    x = clusters(rng, n=50, k=2)[0]
    model = vx.GaussianMixture.from_data(x, 2)
    fit = vx.fit(model, x, key=jax.random.key(0))
    padded = vx.Batch.of(np.concatenate([x, np.full((9, 2), 1e6)]), np.r_[np.ones(50), np.zeros(9)])
    offsets = np.asarray(plot.plot_mixture(fit.q, padded).collections[0].get_offsets())
    assert np.isfinite(offsets).all(1).sum() == 50
    assert not plot.plot_pairs(fit.q, np.full((4, 2), np.nan))[0, 0].patches
    far = np.concatenate([x[:, :1], [[1e9]]])
    line = vx.fit(vx.GaussianMixture.from_data(far, 1), far, init=np.zeros(51, int))
    assert len(plot.plot_mixture(line.q, far).patches) <= 100


def test_rows_of_which_nothing_is_known_are_grey():
    np.testing.assert_allclose(plot.blend([[0.0, 0.0], [np.nan, 1.0]]), 0.6)


def test_names_may_be_those_of_a_frame(fitted):
    x, fit = fitted
    names = pd.DataFrame(x, columns=["a", "b", "c"]).columns
    assert plot.plot_mixture(fit.q, x, names=names).get_ylabel() == "b"


def test_short_and_empty_traces_are_drawn(rng):
    x = clusters(rng, n=50, k=2)[0]
    model = vx.GaussianMixture.from_data(x, 2)
    short = vx.fit(model, x, key=jax.random.key(0), stop=vx.Stop(trace=1))
    assert plot.plot_elbo(short).lines[-1].get_ydata().tolist() == short.elbo_trace.tolist()
    run = jax.jit(lambda x: vx.fit(model, x, key=jax.random.key(0)))
    assert not np.isfinite(
        plot.plot_elbo(run(np.full((50, 2), np.nan))).lines[-1].get_ydata()
    ).any()


def test_a_batch_of_fits_and_other_components_are_refused_by_name(rng):
    x = clusters(rng, n=50, k=2)[0]
    many = vx.fit_many(lambda x: vx.GaussianMixture.from_data(x, 2), x[None], key=jax.random.key(0))
    for draw in (plot.plot_weights, lambda q: plot.plot_mixture(q, x)):
        with pytest.raises(ValueError, match="q: expected one fit, got a batch"):
            draw(many.q)
    for draw in (plot.plot_elbo, plot.plot_restarts):
        with pytest.raises(ValueError, match="result: expected one fit, got a batch"):
            draw(many)
    counts = rng.poisson(3.0, (50, 2)).astype(float)
    fit = vx.fit(vx.PoissonMixture.from_data(counts, 2), counts, key=jax.random.key(0))
    with pytest.raises(ValueError, match="q: no contours for components that are"):
        plot.plot_mixture(fit.q, counts)


def test_states_are_coloured_in_their_place(rng):
    resp = np.repeat(np.eye(2), [3, 2], axis=0)
    x = rng.normal(size=5)
    for time in (None, np.arange("2020-01-01", "2020-01-06", dtype="datetime64[D]")):
        ax = plot.plot_states(resp, x, time=time)
        mesh = ax.collections[0]
        shown = mesh.get_array().reshape(5, 3)
        assert (shown[:3] == shown[0]).all()
        assert (shown[3:] == shown[4]).all()
        assert not np.allclose(shown[0], shown[4])
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), x)
    edges = mesh.get_coordinates()[0, :, 0]
    np.testing.assert_allclose(np.diff(edges), 1.0)
    with pytest.raises(ValueError, match=r"resp: expected responsibilities \(t, k\)"):
        plot.plot_states(x)
    with pytest.raises(ValueError, match=r"time: expected shape \(5,\), got \(4,\)"):
        plot.plot_states(resp, x, time=np.arange(4))


def test_transitions_are_those_of_states_in_use(rng):
    transitions = np.array([[0.0, 9.0, 1.0], [5.0, 0.0, 5.0], [1.0, 1.0, 8.0]])
    x = rng.normal(size=(30, 1))
    model = vx.HMM.from_data(x, 3)
    q = vx.HMM.with_prior(3, transitions=transitions, components=model.components).prior
    ax = plot.plot_transitions(q, min_weight=0.0)
    share = np.asarray(q.labels.mean)
    order = np.argsort(-share)
    assert [label.get_text() for label in ax.get_xticklabels()] == [str(k) for k in order]
    mean = transitions / transitions.sum(1, keepdims=True)
    np.testing.assert_allclose(ax.images[0].get_array(), mean[np.ix_(order, order)])
    assert len(plot.plot_transitions(q, min_weight=float(share.max())).texts) == 1


def test_words_of_a_topic_have_their_errors():
    conc = np.array([[8.0, 1.0, 3.0], [1.0, 1.0, 1.0]])
    model = vx.LDA.with_prior(2, word_conc=conc, topic_conc=1.0)
    ax = plot.plot_topic(model.prior, 0, num_words=2, names=["a", "b", "c"])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "c"]
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], [8 / 12, 3 / 12])
    exact = stats.dirichlet(conc[0])
    _, _, (lines,) = ax.containers[0]
    halves = [0.5 * (end[1, 0] - end[0, 0]) for end in lines.get_segments()]
    np.testing.assert_allclose(halves, np.sqrt(exact.var())[[0, 2]], rtol=1e-6)
    with pytest.raises(ValueError, match="topic: expected one of 0 to 1, got 2"):
        plot.plot_topic(model.prior, 2)
