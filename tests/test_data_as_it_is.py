"""Frames, tensors, known labels, fixed components, noise: data in the form they come in."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score

import vijax as vx

from .data import clusters
from .programs import programs

# -- containers -----------------------------------------------------------------------------------


class Tensor:
    """Another library's array: DLPack and nothing else."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x.tolist(),
        lambda x: pd.DataFrame(x, columns=["width", "height"]),
        lambda x: pl.DataFrame({"width": x[:, 0], "height": x[:, 1]}),
        Tensor,
        jnp.asarray,
    ],
    ids=["list", "pandas", "polars", "dlpack", "jax"],
)
def test_any_container_gives_the_same_fit(rng, wrap):
    x, _ = clusters(rng, n=60)
    labels = rng.integers(3, size=60)
    expected = vx.fit(vx.GaussianMixture.from_data(x, 3), x, init=labels)
    got = vx.fit(vx.GaussianMixture.from_data(wrap(x), 3), wrap(x), init=labels)
    np.testing.assert_array_equal(got.elbo, expected.elbo)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_column_names_reach_the_summary(rng, frame):
    x, _ = clusters(rng, n=60)
    data = frame({"width": x[:, 0], "height": x[:, 1]})
    fit = vx.fit(vx.GaussianMixture.from_data(data, 3), data, init=rng.integers(3, size=60))
    assert fit.names == ("width", "height")
    assert "mean width" in fit.summary()
    assert "sd height" in fit.summary()
    again = vx.fit(vx.GaussianMixture.from_data(x, 3), vx.Batch.of(data), init=fit)
    assert again.names == ("width", "height")


def test_missing_marks_of_pandas_are_missing():
    data = pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64"), "b": [1.0, 2.0, np.nan]})
    batch = vx.Batch.of(data, missing=True)
    np.testing.assert_array_equal(batch.mask, [[True, True], [False, True], [True, False]])
    np.testing.assert_array_equal(np.asarray(batch.x)[[0, 2], 0], [1.0, 3.0])


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("empty", [np.zeros((0, 2)), []])
def test_no_rows_are_refused_by_name(empty):
    with pytest.raises(ValueError, match="x: need at least one row"):
        vx.Batch.of(empty)


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("unit", [1e-22, 1e22])
@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_units_beyond_float32_are_named(rng, unit, covariance):
    x = (clusters(rng, n=30)[0] * unit).astype(np.float32)
    with pytest.raises(ValueError, match="x: the squares of column 0 leave the range of float32"):
        vx.GaussianMixture.from_data(x, 2, covariance=covariance)


def test_a_flag_is_no_number_of_components(rng):
    with pytest.raises(TypeError, match="num_components: expected an integer, got True"):
        vx.GaussianMixture.from_data(clusters(rng, n=9)[0], True)


def test_a_frame_with_text_is_refused(rng):
    data = pd.DataFrame({"width": [1.0, 2.0], "kind": ["a", "b"]})
    with pytest.raises(TypeError, match="x: need real numbers, got text in column 'kind'"):
        vx.GaussianMixture.from_data(data, 1)


def test_names_are_no_part_of_the_program(rng):
    x, _ = clusters(rng, n=61, d=3)  # a shape of its own
    model = vx.GaussianMixture.from_data(x, 3)
    with programs("_fit") as made:
        vx.fit(model, pd.DataFrame(x, columns=["a", "b", "c"]), key=jax.random.key(0))
        assert made
        made.clear()
        vx.fit(model, pd.DataFrame(x, columns=["d", "e", "f"]), key=jax.random.key(0))
    assert not made


# -- known labels and fixed components ------------------------------------------------------------


def test_known_labels_are_kept(rng):
    x, truth = clusters(rng, n=120, k=3, separation=1.0)
    known = np.where(rng.random(120) < 0.5, truth, -1)
    batch = vx.Batch.of(x, label=known)
    model = vx.GaussianMixture.from_data(x, 3)
    fit = vx.fit(model, batch, key=jax.random.key(0)).check()
    resp = model.responsibilities(fit.q, batch)
    np.testing.assert_allclose(resp[known >= 0], np.eye(3)[known[known >= 0]], atol=1e-12)
    free = vx.fit(model, x, key=jax.random.key(0), num_restarts=8)
    supervised = adjusted_rand_score(truth, model.predict(fit.q, x))
    assert supervised >= adjusted_rand_score(truth, model.predict(free.q, x)) - 0.02


@pytest.mark.parametrize("seed", range(6))
def test_components_start_at_their_labelled_rows(rng, seed):
    """Two known rows name the classes: no start may end with the names swapped."""
    x, truth = clusters(rng, n=80, k=2, separation=6.0)
    known = np.full(80, -1)
    known[[np.argmax(truth == 0), np.argmax(truth == 1)]] = 3, 4  # not the first to be seeded
    batch = vx.Batch.of(x, label=known)
    model = vx.GaussianMixture.from_data(x, 5)
    fit = vx.fit(model, batch, key=jax.random.key(seed), num_restarts=3).check()
    assert np.mean(np.asarray(model.predict(fit.q, x)) == truth + 3) > 0.95
    starts = jax.vmap(lambda i: model.init(jax.random.key(seed), batch, i))(np.arange(3))
    assert (np.asarray(starts.weights.conc)[:, 3:] > 1.0).all()


def test_labels_must_be_components_that_are_on(rng):
    x, _ = clusters(rng, n=20)
    masked = vx.GaussianMixture.from_data(x, 2, k_max=4)
    model = vx.GaussianMixture.from_data(x, 2)
    fit = vx.fit(model, x, key=jax.random.key(0))
    wrong = np.full(20, -1)
    wrong[7] = 3
    with pytest.raises(ValueError, match="label: 3 in row 7, but the components are 0, 1"):
        vx.fit(masked, vx.Batch.of(x, label=wrong), key=jax.random.key(0))
    with pytest.raises(ValueError, match="label: 3 in row 7"):
        model.responsibilities(fit.q, vx.Batch.of(x, label=wrong))
    absent = np.ones(20)
    absent[7] = 0.0
    end = vx.Stop(tol=1e-9)
    same = vx.fit(model, vx.Batch.of(x, absent, label=wrong), key=jax.random.key(0), stop=end)
    again = vx.fit(model, vx.Batch.of(x, absent), init=same, stop=end)
    np.testing.assert_allclose(same.elbo, again.elbo, rtol=1e-9)


def test_all_labels_known_is_the_exact_joint(rng):
    from .data import params_of
    from .oracles import gaussian_mixture as oracle

    x, truth = clusters(rng, n=40, k=3)
    model = vx.GaussianMixture.from_data(x, 3)
    fit = vx.fit(model, vx.Batch.of(x, label=truth), key=jax.random.key(0)).check()
    exact = oracle.log_joint_of_assignment(x, truth, params_of(model.prior))
    np.testing.assert_allclose(fit.elbo, exact, rtol=1e-9)


def test_labels_need_components_that_stay_in_place(rng):
    x, truth = clusters(rng, n=40)
    sticks = vx.StickBreaking.dirichlet_process(1.0, 3)
    model = vx.GaussianMixture.from_data(x, 3, weights=sticks)
    with pytest.raises(ValueError, match="label: stick-breaking weights put the components in"):
        vx.fit(model, vx.Batch.of(x, label=truth), key=jax.random.key(0))
    still = vx.StickBreaking.dirichlet_process(1.0, 3, ordered=False)
    model = vx.GaussianMixture.from_data(x, 3, weights=still)
    fit = vx.fit(model, vx.Batch.of(x, label=truth), key=jax.random.key(0)).check()
    np.testing.assert_array_equal(model.predict(fit.q, vx.Batch.of(x, label=truth)), truth)


def test_bad_labels_are_named(rng):
    x, _ = clusters(rng, n=10)
    with pytest.raises(ValueError, match="label: expected one integer per row"):
        vx.Batch.of(x, label=np.zeros(9, int))
    with pytest.raises(ValueError, match="label: must be a component, or -1"):
        vx.Batch.of(x, label=np.full(10, -2))
    with pytest.raises(ValueError, match="label: 3 in row 0, but the components are 0, 1, 2"):
        vx.fit(
            vx.GaussianMixture.from_data(x, 3), vx.Batch.of(x, label=np.full(10, 3)),
            key=jax.random.key(0),
        )  # fmt: skip


@pytest.mark.parametrize("method", [vx.CAVI(), vx.EM()], ids=["CAVI", "EM"])
def test_frozen_components_stay(rng, method):
    x, truth = clusters(rng, n=200, k=3, separation=5.0)
    model = vx.GaussianMixture.from_data(x, 3)
    known = vx.fit(model, x, init=truth, method=method).check()
    which = np.array([True, False, True])
    frozen = model.freeze(known, which)
    other, _ = clusters(rng, n=150, k=1)
    both = np.concatenate([x, other + 30.0])
    fit = vx.fit(frozen, both, key=jax.random.key(0), num_restarts=4, method=method)
    for name in ("mean", "kappa", "df", "scatter"):
        got, was = getattr(fit.q.components, name), getattr(known.q.components, name)
        np.testing.assert_allclose(got[which], was[which], rtol=1e-9)
    trace = np.asarray(fit.elbo_trace)
    trace = trace[np.isfinite(trace)]
    assert (np.diff(trace) >= -1e-9 * np.abs(trace[1:])).all()


def test_frozen_maximum_likelihood(rng):
    x, truth = clusters(rng, n=200, k=2, separation=5.0)
    model = vx.GaussianMixture.flat(2, 2)
    known = vx.fit(model, x, init=truth, method=vx.EM()).check()
    frozen = model.freeze(known, [True, False])
    fit = vx.fit(frozen, x + 0.3, init=truth, method=vx.EM()).check()
    np.testing.assert_allclose(fit.q.components.mean[0], known.q.components.mean[0], rtol=1e-9)
    assert np.abs(fit.q.components.mean[1] - known.q.components.mean[1]).max() > 0.1


@pytest.mark.long
def test_frozen_beside_noise_and_in_tables(rng):
    x, truth = clusters(rng, n=150, k=2, separation=5.0)
    model = vx.GaussianMixture.from_data(x, 2, noise=True)
    fit = vx.fit(model, x, init=truth)
    which = np.array([True, False, False])
    again = vx.fit(model.freeze(fit, which), x + 1.0, init=truth)
    was, got = fit.q.components.others.mean, again.q.components.others.mean
    np.testing.assert_allclose(got[0], was[0], rtol=1e-9)
    assert np.abs(got[1] - was[1]).max() > 0.5
    table, _ = vx.datasets.mixed_table(80, missing=0.0)
    mixed = vx.MixedMixture.from_data(table, 2, KINDS)
    fit = vx.fit(mixed, table, key=jax.random.key(0))
    moved = {**table, "width": table["width"] + 1.0}
    again = vx.fit(mixed.freeze(fit, which[:2]), moved, key=jax.random.key(0))
    was, got = (r.q.components.parts["width"].mean for r in (fit, again))
    np.testing.assert_allclose(got[0], was[0], rtol=1e-9)
    assert np.abs(got[1] - was[1]).max() > 1e-3


def test_what_cannot_be_frozen_is_named(rng):
    x, _ = clusters(rng, n=50)
    tied = vx.GaussianMixture.from_data(x, 3, covariance="tied")
    with pytest.raises(ValueError, match="frozen: components that share parameters"):
        tied.freeze(tied.prior, [True, False, False])
    full = vx.GaussianMixture.from_data(x, 3)
    with pytest.raises(ValueError, match=r"which: expected booleans of shape \(3,\)"):
        full.freeze(full.prior, [True, False])
    with pytest.raises(ValueError, match="params: must be a q of this model"):
        full.freeze(vx.GaussianMixture.from_data(x, 2).prior, [True, False, False])


# -- rows that belong nowhere ---------------------------------------------------------------------


def test_noise_takes_the_rows_that_belong_nowhere(rng):
    x, truth = clusters(rng, n=300, k=2, separation=4.0)
    junk = rng.uniform(-25, 25, size=(60, 2))
    both = np.concatenate([x, junk])
    model = vx.GaussianMixture.from_data(both, 4, noise=True)
    assert model.num_components == 5
    fit = vx.fit(model, both, key=jax.random.key(0), num_restarts=8).check()
    label = np.asarray(model.predict(fit.q, both))
    assert np.mean(label[300:] == 4) > 0.85
    assert np.mean(label[:300] != 4) > 0.95
    plain = vx.GaussianMixture.from_data(both, 4)
    assert fit.elbo > vx.fit(plain, both, key=jax.random.key(0), num_restarts=8).elbo
    assert abs(fit.q.weights.mean[4] - 60 / 360) < 4 * fit.q.weights.sd[4]


def test_noise_is_uniform_between_two_corners():
    prior = {"conc": 1.0, "mean": np.zeros(2), "kappa": 1.0, "df": 4.0, "scatter": np.eye(2)}
    low, high = np.array([-1.0, 1.0]), np.array([1.0, 6.0])
    model = vx.GaussianMixture.with_prior(2, **prior, noise_box=(low, high))
    x = np.array([[0.0, 2.0], [-1.0, 6.0], [0.0, 0.0], [np.nan, 2.0], [5.0, np.nan]])
    log_lik, _ = model.components.moments().likelihood(vx.Batch.of(x, missing=True))
    exact = [-np.log(10.0), -np.log(10.0), -np.inf, -np.log(5.0), -np.inf]
    np.testing.assert_allclose(log_lik[:, -1], exact, rtol=1e-6)
    rows, label = model.sample(model.prior, jax.random.key(0), 3000)
    inside = np.asarray(rows)[np.asarray(label) == 2]
    width = high - low
    np.testing.assert_allclose(inside.mean(0), low + width / 2, atol=0.06 * width.max())
    np.testing.assert_allclose(inside.std(0), width / np.sqrt(12), rtol=0.1)
    assert (inside >= low).all()
    assert (inside <= high).all()
    with pytest.raises(ValueError, match=r"noise_box: expected low and high of shape \(2,\)"):
        vx.GaussianMixture.with_prior(2, **prior, noise_box=([2.0], high))
    with pytest.raises(ValueError, match="noise_box: expected a pair"):
        vx.GaussianMixture.with_prior(2, **prior, noise_box=3.0)
    outside = vx.Batch.of(np.array([[0.0, 2.0], [9.0, 2.0]]), label=[-1, 2])
    with pytest.raises(ValueError, match="label: row 1 is known noise, but off its box"):
        vx.fit(model, outside, key=jax.random.key(0))
    with pytest.raises(ValueError, match="noise_box: low must be below high"):
        vx.GaussianMixture.with_prior(2, **prior, noise_box=(low, low))


def test_noise_beside_a_constant_column_follows_the_units(rng):
    x, _ = clusters(rng, n=60, k=2, separation=6.0)
    rows = np.c_[x, np.full(60, 2.0)]
    rows[0, :2] = [30.0, -30.0]
    weights, bounds = [], []
    for unit in (1.0, 1e4):
        model = vx.GaussianMixture.from_data(rows * unit, 2, noise=True)
        fit = vx.fit(model, rows * unit, key=jax.random.key(0), num_restarts=2)
        weights.append(np.asarray(fit.q.weights.mean))
        bounds.append(float(fit.elbo) + rows.size * np.log(unit))
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-6)
    np.testing.assert_allclose(bounds[0], bounds[1], rtol=1e-9)
    assert weights[0][-1] < 0.1


def test_holes_in_noise_do_not_depend_on_the_order(rng):
    x, _ = clusters(rng, n=60, k=2, separation=6.0)
    x[0], x[1, 0] = [500.0, np.nan], np.nan
    batch = vx.Batch.of(x, missing=True)
    model = vx.GaussianMixture.from_data(batch, 2, noise=True)
    fit = vx.fit(model, batch, key=jax.random.key(0), num_restarts=2)
    other = vx.relabel(fit, by=np.array([1.0, 0.0, 2.0]))
    for a, b in zip(model.impute(fit.q, batch), model.impute(other.q, batch), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    low, high = (np.asarray(side)[1] for side in (model.components.low, model.components.high))
    mean, sd = model.impute(fit.q, batch)
    np.testing.assert_allclose(mean[0, 1], (low + high) / 2, rtol=1e-3)
    np.testing.assert_allclose(sd[0, 1], (high - low) / np.sqrt(12), rtol=1e-2)


# -- tables of mixed type -------------------------------------------------------------------------


KINDS = {"width": "gaussian", "length": "gaussian", "visits": "poisson", "kind": "categorical"}


@pytest.mark.parametrize("container", [dict, pd.DataFrame], ids=["dict", "pandas"])
def test_mixed_table_with_holes_recovers_its_clusters(rng, container):
    table, truth = vx.datasets.mixed_table(seed=int(rng.integers(100)))
    data = container(table)
    rows = vx.Batch.of({name: data[name] for name in KINDS}, missing=True)
    model = vx.MixedMixture.from_data(rows, 8, KINDS)
    fit = vx.fit(model, rows, key=jax.random.key(0), num_restarts=16).check()
    assert int((fit.q.weights.mean > 0.03).sum()) == 3
    assert adjusted_rand_score(truth, model.predict(fit.q, rows)) > 0.7
    assert "rate visits" in fit.summary()
    mean, sd = model.impute(fit.q, rows)
    hole = ~np.asarray(rows.mask["width"])
    assert np.isfinite(mean["width"]).all()
    assert (np.asarray(sd["width"])[hole] > 0).all()


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_mixed_frames_are_tables(frame):
    table, _ = vx.datasets.mixed_table(80)
    holes = {name: np.isnan(v) for name, v in table.items()}
    rows = {
        "dict": vx.Batch.of(table, missing=True),
        "frame": vx.Batch.of(frame(table), missing=True),
    }
    models = {name: vx.MixedMixture.from_data(batch, 3, KINDS) for name, batch in rows.items()}
    fits = {n: vx.fit(models[n], rows[n], key=jax.random.key(0), num_restarts=2) for n in rows}
    np.testing.assert_allclose(fits["frame"].elbo, fits["dict"].elbo, rtol=1e-9)
    mean, sd = models["frame"].impute(fits["frame"].q, rows["frame"])
    assert set(mean) == set(table)
    assert all((np.asarray(sd[name]) > 0)[holes[name]].all() for name in table)
    with pytest.raises(ValueError, match="noise: a table of columns takes none"):
        vx.MixedMixture.from_data(
            vx.Batch.of(frame({"a": [1.0, 2.0]}), noise=np.ones((2, 1))), 2, {"a": "gaussian"}
        )
    full, _ = vx.datasets.mixed_table(80, missing=0.0)
    model = vx.MixedMixture.from_data(frame(full), 3, KINDS)
    fit = vx.fit(model, frame(full), key=jax.random.key(0))
    np.testing.assert_array_equal(model.predict(fit.q, frame(full)), model.predict(fit.q, full))


def test_mixed_tables_are_checked():
    one = {"width": np.arange(9.0)}
    with pytest.raises(ValueError, match="options: noise in 'width'"):
        vx.MixedMixture.from_data(one, 2, {"width": "gaussian"}, options={"width": {"noise": True}})
    with pytest.raises(ValueError, match="kinds: give one for each column"):
        vx.MixedMixture.from_data({**one, "more": one["width"]}, 2, {"width": "gaussian"})
    table, _ = vx.datasets.mixed_table(20, missing=0.0)
    with pytest.raises(ValueError, match="kinds: 'kind' is 'colour'; expected one of gaussian"):
        vx.MixedMixture.from_data(table, 2, {**KINDS, "kind": "colour"})
    model = vx.MixedMixture.from_data(table, 2, KINDS)
    with pytest.raises(ValueError, match="x: expected the columns kind, length, visits, width"):
        vx.fit(model, {"width": table["width"]}, key=jax.random.key(0))
    with pytest.raises(ValueError, match="x: expected a dict of the columns"):
        vx.fit(model, np.ones((5, 4)), key=jax.random.key(0))
    bad = {**table, "visits": -table["visits"] - 1.0}
    with pytest.raises(ValueError, match="column 'visits'"):
        vx.fit(model, bad, key=jax.random.key(0))
    short = {**table, "kind": table["kind"][:5]}
    with pytest.raises(ValueError, match="x: columns of different length"):
        vx.Batch.of(short)


def test_mixed_draws_come_back_as_a_table():
    table, _ = vx.datasets.mixed_table(100, missing=0.0)
    model = vx.MixedMixture.from_data(table, 3, KINDS)
    fit = vx.fit(model, table, key=jax.random.key(0))
    draws, label = model.sample(fit.q, jax.random.key(1), 50)
    assert set(draws) == set(KINDS)
    assert label.shape == (50,)
    assert jnp.isfinite(model.log_predictive(fit.q, {n: v[:, 0] for n, v in draws.items()})).all()


def test_a_density_takes_columns_by_name(rng):
    """As the model does: the density of a frame is that of its rows in the model's order."""
    x, _ = clusters(rng, n=60)
    x = x * [1.0, 30.0]
    frame = pd.DataFrame(x, columns=["width", "height"])
    other = frame[["height", "width"]]
    model = vx.GaussianMixture.from_data(frame, 3)
    fit = vx.fit(model, frame, init=rng.integers(3, size=60))
    for known in (fit, fit.q.point()):
        density = model.density(known)
        right = density.log_prob(x)
        np.testing.assert_allclose(density.log_prob(frame), right, rtol=1e-6)
        np.testing.assert_allclose(density.log_prob(other), right, rtol=1e-6)
        tall = density.marginal([1])
        np.testing.assert_array_equal(tall.log_prob(frame[["height"]]), tall.log_prob(x[:, 1:]))
        given = density.conditional([1], [2.0])
        np.testing.assert_array_equal(given.log_prob(frame[["width"]]), given.log_prob(x[:, :1]))
        for part in (tall, given):
            with pytest.raises(ValueError, match="no column 'height'|no column 'width'"):
                part.log_prob(frame.rename(columns=str.upper)[["WIDTH"]])


def test_masked_responsibilities_are_not_read_through_their_mask(rng):
    x, _ = clusters(rng, n=12)
    model = vx.GaussianMixture.from_data(x, 2)
    resp = np.ma.masked_array(np.full((12, 2), 0.5), mask=np.eye(12, 2, dtype=bool))
    with pytest.raises(TypeError, match="resp: a masked array"):
        model.elbo(model.prior, x, resp)
    with pytest.raises(TypeError, match="weight: a masked array"):
        vx.Batch.of(x, np.ma.masked_array(np.ones(12), mask=np.arange(12) == 3))
    with pytest.raises(TypeError, match="conc: a masked array"):
        vx.Dirichlet.from_standard(np.ma.masked_array([1.0, 2.0], mask=[False, True]))
