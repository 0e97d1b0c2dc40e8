"""The gate for data: every dtype and container goes in by one reader, or is refused by name."""

import datetime
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest

import vijax as vx
from vijax.infer.run.stacks import stack_by_size

X = np.array([[1.0, 2.0], [3.0, 4.5], [0.0, -1.0]])
EPOCH = 1_700_000_000 + np.arange(0, 3600, 60)
SHORT = np.arange(60.0)

CONTAINERS = {
    "array": lambda t, v: np.c_[t, v.astype(t.dtype)],
    "list": lambda t, v: np.c_[t, v.astype(t.dtype)].tolist(),
    "objects": lambda t, v: np.c_[t.astype(object), v],
    "pandas": lambda t, v: pd.DataFrame({"t": t, "v": v}),
    "nullable": lambda t, v: pd.DataFrame({"t": t, "v": v}).convert_dtypes(),
    "polars": lambda t, v: pl.DataFrame({"t": t, "v": v}),
    "dict": lambda t, v: {"t": t, "v": v},
}


# -- resolution -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int32, np.float64, np.longdouble])
@pytest.mark.parametrize("container", CONTAINERS)
def test_what_float32_cannot_tell_apart_is_announced(container, dtype):
    if container in ("nullable", "polars") and dtype == np.longdouble:
        pytest.skip("these frames have no such numbers")
    data = CONTAINERS[container](EPOCH.astype(dtype), SHORT)
    named = {"array": "x: column 0", "list": "x: column 0", "objects": "x: column 0"}
    match = named.get(container, r"x\['t'\]: column 0" if container == "dict" else "x: column 't'")
    with jax.enable_x64(False), pytest.warns(UserWarning, match=f"{match} steps by 203 in float32"):
        vx.Batch.of(data)


def test_integers_on_a_device_in_chunks_and_with_holes_are_announced():
    t = EPOCH.astype(np.int32)[:, None]
    hole = EPOCH.astype(np.float64)[:, None]
    hole[3] = np.nan
    with jax.enable_x64(False):
        for read in (
            lambda: vx.Batch.of(jnp.asarray(t)),
            lambda: vx.Chunks.of(t).survey(),
            lambda: vx.Batch.of(hole, missing=True),
            lambda: vx.Batch.of(X, EPOCH[:3]),
            lambda: stack_by_size([t, t]),
            lambda: vx.Batch.of(SHORT[:, None] * 1e-42),
        ):
            with pytest.warns(UserWarning, match="steps by .* in float32"):
                read()


def test_integers_that_keep_their_resolution_go_in_silently():
    rng = np.random.default_rng(0)
    with jax.enable_x64(False):
        for x in (
            2**24 - np.arange(50),  # exact
            rng.integers(0, 2**62, size=50),  # coarse, but far apart
            rng.integers(-(2**31), 2**31 - 1, size=50).astype(np.int32),
            np.full(50, 2**40 + 1),  # constant
            np.array([-(2**63), 2**63 - 1]),
            np.zeros(50),
        ):
            found = np.asarray(vx.Batch.of(x[:, None]).x)[:, 0]
            np.testing.assert_allclose(found, x.astype(float), rtol=1e-7)


# -- byte order and narrow types ------------------------------------------------------------------


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("kind", [">i2", ">i4", ">i8", ">f2", ">f4", ">f8", "<f4", "longdouble"])
def test_numbers_of_any_byte_order_go_in(kind):
    x, positive = X.astype(kind), np.ones(X.shape).astype(kind)
    right = x.astype(float)
    for data in (x, pd.DataFrame(x, columns=["a", "b"]), {"x": x}, np.asfortranarray(x)):
        batch = vx.Batch.of(data, positive[:, 0])
        np.testing.assert_array_equal(batch.x["x"] if isinstance(data, dict) else batch.x, right)
        np.testing.assert_array_equal(batch.weight, 1.0)
    batch = vx.Batch.of(x, noise=positive, label=np.array([0, 1, -1], ">i4"))
    np.testing.assert_array_equal(batch.noise, np.broadcast_to(np.eye(2), (3, 2, 2)))
    np.testing.assert_array_equal(batch.label, [0, 1, -1])
    np.testing.assert_array_equal(vx.Chunks.of(x, positive[:, 0]).sample().x, right)
    np.testing.assert_array_equal(stack_by_size([x, x])[0][0].parts["x"][1], right)


def test_numbers_of_python_go_in():
    rows = [[True, Decimal("1.5")], [np.float32(2.0), 3], [np.bool_(False), 0.25]]
    for x in (rows, np.array(rows, object), pd.DataFrame(rows, dtype=object)):
        np.testing.assert_array_equal(vx.Batch.of(x).x, [[1.0, 1.5], [2.0, 3.0], [0.0, 0.25]])


# -- missing entries ------------------------------------------------------------------------------


HOLES = {
    "None": [1, None, 3],
    "objects": np.array([1, None, 3], object),
    "NA": np.array([1, pd.NA, 3], object),
    "masked": np.ma.array([1, 7, 3], mask=[False, True, False]),
    "Int64": pd.Series([1, None, 3], dtype="Int64"),
    "Int64 array": pd.array([1, None, 3], dtype="Int64"),
    "Float64 array": pd.array([1.0, None, 3.0], dtype="Float64"),
    "float": pd.Series([1, None, 3]),
    "object series": pd.Series([1, None, 3], dtype=object),
    "category": pd.Series([1, None, 3], dtype="category"),
    "polars": pl.Series([1, None, 3]),
}


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("kind", HOLES)
def test_marks_of_missing_entries_are_missing(kind):
    column, other = HOLES[kind], np.array([1.0, 2.0, 3.0])
    batch = vx.Batch.of({"n": column, "v": other}, missing=True)
    np.testing.assert_array_equal(batch.mask["n"], [True, False, True])
    np.testing.assert_array_equal(np.asarray(batch.x["n"])[[0, 2]], [1.0, 3.0])
    label = vx.Batch.of(X, label=column).label
    np.testing.assert_array_equal(label, [1, -1, 3])
    with pytest.raises((TypeError, ValueError), match=r"x\['n'\]: (1 NaN|a masked array)"):
        vx.Batch.of({"n": column, "v": other})
    with pytest.raises((TypeError, ValueError), match="weight: (must be finite|a masked array)"):
        vx.Batch.of(X, column)


def test_flags_with_holes_are_numbers():
    for column in (pd.array([True, None, False], dtype="boolean"), pl.Series([True, None, False])):
        batch = vx.Batch.of({"n": column, "v": [1.0, 2.0, 3.0]}, missing=True)
        np.testing.assert_array_equal(batch.mask["n"], [True, False, True])
        np.testing.assert_array_equal(np.asarray(batch.x["n"])[[0, 2]], [1.0, 0.0])


def test_what_lies_under_a_mask_is_not_read():
    x = np.ma.array(X, mask=[[False, True], [False, False], [True, False]])
    for data in (x, [*x], {"x": x}, pd.DataFrame(x.filled(np.nan))):
        batch = vx.Batch.of(data, missing=True)
        mask = batch.mask["x"] if isinstance(data, dict) else batch.mask
        np.testing.assert_array_equal(mask, ~x.mask)
    for refuse in (
        lambda: vx.Batch.of([*x]),
        lambda: vx.Batch.of(X, noise=x * 0.0 + 1.0),
        lambda: vx.Chunks.of(x),
        lambda: vx.Chunks.of([x]),
        lambda: vx.Chunks.of(X, x[:, 0]),
        lambda: stack_by_size([x, x]),
        lambda: vx.Batch.of(X, mask=np.ma.array(X > 0, mask=x.mask)),
    ):
        with pytest.raises(
            (TypeError, ValueError), match="masked array|noise: must|mask: expected"
        ):
            refuse()
    np.testing.assert_array_equal(
        np.asarray(vx.Chunks.of([x], missing=True).sample().mask), ~x.mask
    )


def test_masks_come_in_any_form():
    seen = X > 0
    frame = pd.DataFrame(seen, columns=["a", "b"])
    for mask in (seen, seen.tolist(), frame, frame.astype("boolean"), pl.DataFrame(seen)):
        np.testing.assert_array_equal(vx.Batch.of(X, mask=mask).mask, seen)
    named = {"b": seen[:, 1], "a": seen[:, 0]}
    rows = pd.DataFrame(X, columns=["a", "b"])
    np.testing.assert_array_equal(vx.Batch.of(rows, mask=named).mask, seen)
    for mask in (named, frame, pl.DataFrame(named)):
        batch = vx.Batch.of({"a": X[:, 0], "b": X[:, 1]}, mask=mask)
        np.testing.assert_array_equal(batch.mask["a"], seen[:, 0])
    with pytest.raises(ValueError, match=r"mask: expected booleans .* got object"):
        vx.Batch.of(X, mask=frame.astype("boolean").where(frame.a))
    with pytest.raises(ValueError, match=r"mask\['b'\]: expected booleans of shape \(3,\)"):
        vx.Batch.of(dict(rows), mask={"a": seen[:, 0], "b": X[:, 1]})
    with pytest.raises(TypeError, match="mask: expected a dict of the columns"):
        vx.Batch.of(dict(rows), mask=seen)


# -- what is no number ----------------------------------------------------------------------------

WHEN = pd.date_range("2020-01-01", periods=3, freq="h")
NO_NUMBERS = {
    "date": (WHEN, "relative to a start"),
    "zone": (WHEN.tz_localize("UTC"), "relative to a start"),
    "numpy date": (WHEN.to_numpy(), "relative to a start"),
    "python date": (np.array([datetime.date(2020, 1, 1)] * 3), "relative to a start"),
    "date with hole": (pd.Series(WHEN).where([True, False, True]), "relative to a start"),
    "duration": (WHEN - WHEN[0], "divide by a unit"),
    "numpy duration": ((WHEN - WHEN[0]).to_numpy(), "divide by a unit"),
    "python duration": (np.array([datetime.timedelta(1)] * 3, object), "divide by a unit"),
    "objects of durations": (np.array([np.timedelta64(1, "s"), 2, 3], object), "divide by a unit"),
    "period": (pd.period_range("2020", periods=3), "select or convert"),
    "text": (np.array(["a", "b", "c"]), "select or convert"),
    "text of numbers": (pd.Series(["1.5", "2", "3"]), "select or convert"),
    "objects of text": (np.array([1.0, "2", 3], object), "select or convert"),
    "complex": (np.array([1.0, 2.0, 3.0]) + 1j, "select or convert"),
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_is_no_number_is_refused_by_column(kind):
    column, remedy = NO_NUMBERS[kind]
    v = np.arange(3.0)
    frames = [pd.DataFrame({"no": column}), pd.DataFrame({"v": v, "no": column})]
    if kind in ("numpy date", "numpy duration", "python date", "text", "text of numbers"):
        frames.append(pl.DataFrame({"v": v, "no": np.asarray(column).tolist()}))
    reads, table = [vx.Batch.of, vx.Chunks.of], {"v": v, "no": column}
    if kind in ("text", "text of numbers"):  # levels, but not for all models
        reads = [lambda x: vx.GaussianMixture.from_data(x, 1)]
        reads.append(lambda x: vx.GaussianMixture.from_data(vx.Chunks.of(x), 1))
        kinds = dict.fromkeys(table, "gaussian")
        with pytest.raises(TypeError, match="x: need real numbers, got text in column 'no'"):
            vx.MixedMixture.from_data(table, 1, kinds)
    else:
        with pytest.raises(TypeError, match=rf"x\['no'\]: need real numbers, .*; .*{remedy}"):
            vx.Batch.of(table)
    for frame in frames:
        for read in reads:
            refused = f"x: need real numbers, .* in column 'no'; .*{remedy}"
            with pytest.raises(TypeError, match=refused):
                read(frame)
        with pytest.raises(TypeError, match=rf"datasets\[1\]: x: .* in column 'no'; .*{remedy}"):
            stack_by_size([pd.DataFrame({"no": v}), frame])
    with pytest.raises(TypeError, match="weight: need real numbers"):
        vx.Batch.of(X, column)
    with pytest.raises(TypeError, match="noise: need real numbers"):
        vx.Batch.of(X[:, :1], noise=np.asarray(column)[:, None])
    with pytest.raises(ValueError, match="label: expected one integer per row"):
        vx.Batch.of(X, label=column)


def test_a_date_in_a_row_of_a_list_is_refused_by_column():
    for row in ([1.0, datetime.datetime(2020, 1, 1)], [1.0, np.datetime64("2020", "s")]):
        with pytest.raises(TypeError, match="x: need real numbers, .* in column 1; .* to a start"):
            vx.Batch.of([row, row])


def test_fields_and_nested_columns_are_refused_by_name():
    fields = np.array([(1.0, 2.0)] * 3, [("a", "f4"), ("b", "f4")])
    with pytest.raises(TypeError, match="give a dict of its columns"):
        vx.Batch.of(fields)
    with pytest.raises(TypeError, match="got dtype object with list in column 'a'"):
        vx.Batch.of(pd.DataFrame({"a": [[1], [2]], "b": [1.0, 2.0]}))
    wide = pl.DataFrame({"a": np.ones((2, 3)), "b": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"one number per row in each column, .* 'a': \(2, 3\)"):
        vx.Batch.of(wide)
    with pytest.raises(TypeError, match="datasets: a dict of data frames; .* as a list"):
        stack_by_size({0: pd.DataFrame(X), 1: pd.DataFrame(X)})


def test_bad_entries_of_a_frame_are_named_by_column():
    frame = pd.DataFrame(X, columns=["a", "b"])
    frame.loc[1, "b"] = np.nan
    for read in (vx.Batch.of, lambda x: vx.Chunks.of(x).survey()):
        with pytest.raises(ValueError, match="row 1, column 'b'"):
            read(frame)
    with jax.enable_x64(False), pytest.raises(ValueError, match="what is above 3.4e38 is infinite"):
        vx.Batch.of(X * 1e39)


# -- labels, weights ------------------------------------------------------------------------------


def test_labels_are_integers_of_any_kind():
    right = [0, 1, -1]
    for label in (
        np.array(right, np.int8),
        pd.Series([0.0, 1.0, np.nan]),
        pd.array([0, 1, None], dtype="Int8"),
        np.ma.array([0, 1, 5], mask=[0, 0, 1]),
        np.ma.array([0, 1, 5], np.uint8, mask=[0, 0, 1]),
        [0, 1, None],
        jnp.asarray(right),
    ):
        np.testing.assert_array_equal(vx.Batch.of(X, label=label).label, right)
    for label in (
        [0.5, 1.0, 2.0],
        ["a", "b", "c"],
        [True, False, True],
        np.array([0.0, np.inf, 1]),
    ):
        with pytest.raises(ValueError, match="label: expected one integer per row"):
            vx.Batch.of(X, label=label)
    for label in (2**32, 2**63):  # not wrapped to 0
        with pytest.raises(ValueError, match=f"label: must be a component, .* got {label}"):
            vx.Batch.of(X, label=np.full(3, label, np.uint64))


@pytest.mark.parametrize("size", [1e-40, 1e-50, 1e-310])
@pytest.mark.parametrize("part", ["all", "one"])
def test_weights_next_to_zero_are_no_absence(size, part):
    weight = np.full(3, size) if part == "all" else np.array([1.0, 2.0, size])
    match = "weight: .* is too small for float32, .*; multiply all weights"
    with jax.enable_x64(False):
        for read in (
            lambda: vx.Batch.of(X, weight),
            lambda: vx.Batch.of(X, weight.tolist()),
            lambda: vx.Batch.of(X, pd.Series(weight)),
            lambda: vx.Chunks.of(X, weight),
            lambda: vx.Batch.of(vx.Batch(X.astype(np.float32), np.full(3, 1e-40, np.float32))),
        ):
            with pytest.raises(ValueError, match=match):
                read()
    if jax.config.jax_enable_x64:
        with pytest.raises(ValueError, match=match):
            vx.Batch.of(X.astype(np.float32), weight)


def test_weights_whose_sum_is_infinite_are_refused():
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match="weight: the sum 6e[+]38 is too large for float32"):
            vx.Batch.of(X, np.full(3, 2e38))
        for weight in (np.full(3, 1e-37), np.full(3, 1e38), np.array([1e-37, 1e37, 0.0])):
            np.testing.assert_allclose(vx.Batch.of(X, weight).weight, weight, rtol=1e-6)
        many = vx.Chunks.of(np.ones((4, 1), np.float32), np.full(4, 2e38), chunk=1)
        with pytest.raises(ValueError, match="weight: the sum 8e[+]38 is too large for float32"):
            many.survey()
    with pytest.raises(ValueError, match="weight: must be >= 0, got -1 in row 2"):
        vx.Batch.of(X, [1, 2, -1])


# -- noise ----------------------------------------------------------------------------------------


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("filler", [np.nan, np.inf, -999.0, 1e30])
def test_noise_of_what_was_not_observed_may_be_anything(filler):
    x = X.copy()
    x[0, 1] = x[2, 0] = np.nan
    hole = np.isnan(x)
    right = np.where(hole, 0.0, 0.1)
    full = np.where(hole[:, :, None] | hole[:, None, :], filler, 0.1 * np.eye(2))
    for noise in (
        np.where(hole, filler, 0.1),
        full,
        pd.DataFrame(np.where(hole, filler, 0.1)),
        np.ma.array(np.full((3, 2), 0.1), mask=hole),
        jnp.asarray(full),
    ):
        batch = vx.Batch.of(x, missing=True, noise=noise)
        np.testing.assert_allclose(batch.noise, right[:, :, None] * np.eye(2), rtol=1e-6)
    absent = vx.Batch.of(X, [1, 1, 0], noise=np.array([[1, 1], [1, 1], [filler, filler]]))
    assert np.isfinite(absent.noise).all()
    if filler != 1e30:
        with pytest.raises(ValueError, match="noise: must be finite, symmetric .* row 1 is not"):
            vx.Batch.of(X, noise=np.array([[1, 1], [1, filler], [1, 1]]))


SCALES = [1e-9, 1e-4, 1.0, 1e5, 1e9]


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("scale", SCALES)
def test_covariances_are_judged_in_units_of_each_column(scale):
    """D S D with positive D has the symmetry and the signs of eigenvalues of S."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 2))
    good = root.T @ root
    unit = np.array([1.0, scale])
    over = 1.1 * np.sqrt(good[0, 0] * good[1, 1])
    bad = {
        "indefinite": np.array([[good[0, 0], over], [over, good[1, 1]]]),
        "asymmetric": good + [[0.0, 0.01], [0.0, 0.0]],
        "negative": good * [[1.0, 0.0], [0.0, -1.0]],
    }

    def build(s):
        prior = {"mean": np.zeros(2), "kappa": 1.0, "df": 4.0, "conc": 1.0}
        return vx.GaussianMixture.with_prior(2, **prior, scatter=s * np.outer(unit, unit))

    def read(s, wrap):
        # next to a row of another size, which must not decide either
        both = np.stack([s, 1e6 * np.eye(2)]) * np.outer(unit, unit)
        return vx.Batch.of(X[:2] * unit, noise=wrap(both))

    build(good), read(good, np.asarray), read(good, jnp.asarray), read(0.0 * good, np.asarray)
    for kind, s in bad.items():
        rule = "symmetric" if kind == "asymmetric" else "positive definite"
        with pytest.raises(ValueError, match=f"scatter: must be {rule}"):
            build(s)
        for wrap in (np.asarray, jnp.asarray):
            with pytest.raises(ValueError, match="noise: must be .*row 0 is not"):
                read(s, wrap)
    with pytest.raises(ValueError, match="scatter: must be positive definite"):
        build(np.ones((2, 2)))  # singular


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
def test_default_priors_follow_the_unit_of_each_column(covariance):
    rng = np.random.default_rng(0)
    z = np.r_[rng.normal(size=(150, 4)), rng.normal(size=(150, 4)) + 8.0]
    scale = np.array([4e4, 1e9, 1e-9, 2.0])
    parts = [
        vx.GaussianMixture.from_data(x, 2, covariance=covariance).prior.components
        for x in (z, z * scale)
    ]
    np.testing.assert_allclose(parts[1].mean / scale, parts[0].mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(parts[1].kappa, parts[0].kappa, rtol=1e-4)
    ratio = np.asarray(parts[1].scatter) / np.asarray(parts[0].scatter)
    unit = scale**2 if covariance == "diag" else np.outer(scale, scale)
    off = np.abs(np.asarray(parts[0].scatter)) > 1e-3 * np.abs(parts[0].scatter).max()
    right = np.broadcast_to(unit, ratio.shape)
    np.testing.assert_allclose(ratio[off], right[off], rtol=2e-2)


# -- rows without entries -------------------------------------------------------------------------

PRIOR = {"mean": np.array([[0.0, 0.0], [6.0, 6.0]]), "kappa": 50.0, "df": 60.0, "conc": [1.0, 3.0]}


def test_rows_without_an_entry_are_read_and_not_fitted():
    hole = np.full((2, 2), np.nan)
    model = vx.GaussianMixture.with_prior(2, **PRIOR, scatter=50 * np.eye(2))
    rows = vx.Batch.of(hole, missing=True)
    np.testing.assert_allclose(
        model.responsibilities(model.prior.point(), rows), [[0.25, 0.75]] * 2, atol=1e-6
    )
    np.testing.assert_allclose(model.log_predictive(model.prior, rows), 0.0, atol=1e-6)
    np.testing.assert_allclose(model.impute(model.prior, rows)[0], 4.5, atol=1e-4)
    masked = np.ma.array(X, mask=True)
    for fit in (
        lambda: vx.fit(model, rows, key=jax.random.key(0)),
        lambda: vx.GaussianMixture.from_data(rows, 2),
        lambda: vx.GaussianMixture.from_data(vx.Batch.of(masked, missing=True), 2),
        lambda: vx.MixedMixture.from_data(
            vx.Batch.of({"a": hole[:, 0]}, missing=True), 2, {"a": "poisson"}
        ),
        lambda: vx.fit_many(model, [rows, vx.Batch.of(X, missing=True)], key=jax.random.key(0)),
        lambda: vx.Chunks.of(hole, missing=True).survey(),
        lambda: vx.fit(model, vx.Chunks.of(hole, missing=True), key=jax.random.key(0)),
    ):
        with pytest.raises(ValueError, match="no row of positive weight has an observed entry"):
            fit()
    with pytest.raises(ValueError, match="positive for at least one row"):
        vx.Batch.of(hole, [0, 0], missing=True)


# -- names ----------------------------------------------------------------------------------------


def test_names_of_columns_are_text_everywhere():
    """A frame with numbered columns and a dict with numbers for keys are one table."""
    a, b = X[:, 0], np.arange(3)
    kinds = {0: "gaussian", 1: "poisson"}
    tables = {
        "pandas": pd.DataFrame({0: a, 1: b}),
        "numpy numbers": pd.DataFrame({np.int64(0): a, np.int64(1): b}),
        "dict": {0: a, 1: b},
        "text": {"0": a, "1": b},
        "polars": pl.DataFrame({"0": a, "1": b}),
    }
    for data in tables.values():
        model = vx.MixedMixture.from_data(data, 2, kinds, options={0: {"covariance": "diag"}})
        assert set(model.components.parts) == {"0", "1"}
        for other in tables.values():
            model.check(model.as_batch(other), False)
    pairs = pd.DataFrame(X, columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)]))
    kinds = dict.fromkeys(pairs.columns, "gaussian")
    assert len(vx.MixedMixture.from_data(pairs, 2, kinds).components.parts) == 2
    with pytest.raises(ValueError, match="kinds: columns of the same name: 0, '0'"):
        vx.MixedMixture.from_data({0: a}, 2, {0: "gaussian", "0": "poisson"})
    with pytest.raises(ValueError, match="options: '2' is no column"):
        vx.MixedMixture.from_data({0: a}, 2, {0: "gaussian"}, options={2: {}})


def test_a_start_with_unknown_labels_is_refused():
    model = vx.GaussianMixture.with_prior(2, **PRIOR, scatter=50 * np.eye(2))
    for init in (
        np.ma.array([0, 1, 1], mask=[False, True, False]),
        pd.array([0, None, 1], dtype="Int64").to_numpy(dtype=object, na_value=None),
    ):
        with pytest.raises(ValueError, match="init: labels must be .* found -1"):
            vx.fit(model, X, init=init)
    with pytest.raises(TypeError, match="init: a masked array"):
        vx.fit(model, X, init=np.ma.array(np.full((3, 2), 0.5), mask=[[0, 0], [1, 1], [0, 0]]))
    with pytest.raises(ValueError, match="init: rows of different length"):
        vx.fit(model, X, init=[[0.5, 0.5], [1.0], [0.5, 0.5]])
