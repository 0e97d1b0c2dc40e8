"""Text and category columns: codes of levels, which keep their names wherever a fit is read."""

import jax
import numpy as np
import pandas as pd
import polars as pl
import pytest

import vijax as vx

N = 60
KEY = jax.random.key(0)
rng = np.random.default_rng(4)
SIDE = rng.integers(0, 2, N)
COLOURS = np.where(rng.random(N) < 0.8, np.array(["red", "blue"])[SIDE], "green")
GRADE = np.array([[1, 5], [5, 9]])[SIDE, rng.integers(0, 2, N)]
SIZE = rng.normal(4.0 * SIDE, 1.0)
FRAME = pd.DataFrame({"colour": COLOURS, "grade": GRADE})
TABLE = FRAME.assign(size=SIZE)
KINDS = {"colour": "categorical", "grade": "categorical", "size": "gaussian"}
CODES = np.stack([np.unique(COLOURS, return_inverse=True)[1], GRADE // 4], 1)
START = SIDE.astype(int)


def categorical(x=FRAME, **options):
    return vx.CategoricalMixture.from_data(x, 2, **options)


def mixed(x=TABLE):
    return vx.MixedMixture.from_data(x, 2, KINDS)


def by_hand(model):
    return vx.fit(model, CODES, init=START)


@pytest.mark.parametrize(
    "form",
    [
        pd.DataFrame,
        pl.DataFrame,
        lambda t: pd.DataFrame(t).astype({"colour": "category"}),
        lambda t: pd.DataFrame(t).astype({"colour": "string"}),
        lambda t: pl.DataFrame(t, schema_overrides={"colour": pl.Categorical}),
        lambda t: pl.DataFrame(t, schema_overrides={"colour": pl.Enum(["blue", "green", "red"])}),
    ],
    ids=["object", "polars", "category", "string", "polars categorical", "polars enum"],
)
def test_text_is_fitted_as_its_codes_would_be(form):
    x = form({"colour": COLOURS, "grade": GRADE})
    model = categorical(x)
    assert model.components.levels == (("blue", "green", "red"), (1, 5, 9))
    fit, codes = vx.fit(model, x, init=START), by_hand(categorical(CODES))
    np.testing.assert_allclose(fit.elbo, codes.elbo, rtol=1e-12)
    np.testing.assert_allclose(
        model.responsibilities(fit, x), categorical(CODES).responsibilities(codes, CODES)
    )


@pytest.mark.parametrize("column", [COLOURS, list(COLOURS), COLOURS.astype(object)[:, None]])
def test_columns_of_a_dict_too(column):
    x = {"colour": column, "grade": GRADE, "size": SIZE}
    fit, frame = vx.fit(mixed(x), x, init=START), vx.fit(mixed(), TABLE, init=START)
    np.testing.assert_allclose(fit.elbo, frame.elbo, rtol=1e-12)


def test_a_category_column_keeps_order_and_unused_levels():
    kind = pd.CategoricalDtype(["red", "mauve", "green", "blue"], ordered=True)
    x = FRAME.astype({"colour": kind})
    model = categorical(x)
    assert model.components.levels[0] == ("red", "mauve", "green", "blue")
    coded = np.stack([x.colour.cat.codes, GRADE // 4], 1)
    expected = categorical(coded, num_categories=[4, 3])
    np.testing.assert_allclose(
        vx.fit(model, x, init=START).elbo, vx.fit(expected, coded, init=START).elbo, rtol=1e-12
    )


def test_the_table_of_a_fit_names_the_levels():
    fit = vx.fit(categorical(), FRAME, init=START)
    table = fit.q.table(list(fit.names))
    for side, colour in enumerate(["red", "blue"]):
        assert table[f"p colour={colour}"][side] > 0.6
    assert "p grade=9" in fit.summary()
    assert "p grade=2" not in fit.summary()
    assert "p colour=green" in vx.fit(mixed(), TABLE, init=START).summary()
    assert "p colour=green" in fit.q.point().summary(names=["colour", "grade"])


def test_rows_are_matched_by_level_whatever_else_they_hold():
    model = categorical()
    fit = vx.fit(model, FRAME, init=START)
    expected = np.asarray(model.predict(fit, FRAME))
    one = FRAME.iloc[[int(np.flatnonzero(COLOURS == "red")[0])]]  # its own code would be 0
    other = FRAME.astype({"colour": pd.CategoricalDtype(["red", "green", "blue", "mauve"])})
    assert model.predict(fit, one) == expected[one.index[0]]
    np.testing.assert_array_equal(model.predict(fit, other), expected)
    np.testing.assert_array_equal(model.predict(fit, FRAME[["grade", "colour"]]), expected)


READ = {
    "fit": lambda model, fit, x: vx.fit(model, x, init=fit),
    "elbo": lambda model, fit, x: vx.elbo(model, fit, x),
    "predict": lambda model, fit, x: model.predict(fit, x),
    "log_predictive": lambda model, fit, x: model.log_predictive(fit, x),
    "impute": lambda model, fit, x: model.impute(fit, x),
    "many": lambda model, fit, x: vx.fit_many(model, [x, x], key=KEY),
    "chunks": lambda model, fit, x: vx.fit(model, vx.Chunks.of(x), init=fit),
}


@pytest.mark.parametrize("read", READ.values(), ids=READ)
def test_unknown_levels_are_named(read):
    model = categorical()
    fit = vx.fit(model, FRAME, init=START)
    teal = FRAME.copy()
    teal.loc[7, "colour"] = "teal"
    with pytest.raises(ValueError, match=r"column 'colour' has the level 'teal' in row 7; .* blue"):
        read(model, fit, teal)
    with pytest.raises(ValueError, match=r"column 'grade' has the level 4 in row 0; .* 1, 5, 9"):
        read(model, fit, FRAME.assign(grade=4))
    with pytest.raises(ValueError, match=r"column 'colour' takes blue, green, red, got numbers"):
        read(model, fit, FRAME.assign(colour=1))


def test_a_row_of_weight_0_may_have_any_level():
    teal = FRAME.copy()
    teal.loc[7, "colour"] = "teal"
    weight = np.where(np.arange(N) == 7, 0.0, 1.0)
    model = categorical()
    fit = vx.fit(model, vx.Batch.of(teal, weight), init=START)
    without = vx.fit(model, FRAME.drop(index=7), init=np.delete(START, 7))
    np.testing.assert_allclose(fit.elbo, without.elbo, rtol=1e-12)
    assert np.isfinite(model.responsibilities(fit, vx.Batch.of(teal, weight))).all()


@pytest.mark.parametrize("hole", [None, np.nan, pd.NA], ids=str)
def test_missing_text_is_imputed_by_the_probabilities_of_levels(hole):
    holes = FRAME.copy()
    holes.loc[[3, 8], "colour"] = hole
    holes["grade"] = holes["grade"].astype(float)
    holes.loc[8, "grade"] = np.nan
    with pytest.raises(ValueError, match="column 'colour'.*missing=True"):
        vx.Batch.of(holes)
    rows = vx.Batch.of(holes, missing=True)
    model = vx.CategoricalMixture.from_data(rows, 1, category_conc=0.5)
    fit = vx.fit(model, rows, init=np.zeros(N, int))
    value, p = model.impute(fit, rows)
    seen = holes["colour"].dropna()
    count = np.array([(seen == level).sum() for level in ("blue", "green", "red")])
    np.testing.assert_allclose(p[3, 0], (count + 0.5) / (count.sum() + 1.5))
    assert value[3, 0] == ("blue", "green", "red")[count.argmax()]
    assert value[0, 0] == COLOURS[0]
    assert p[0, 0].tolist() == [float(COLOURS[0] == own) for own in ("blue", "green", "red")]
    assert value[8, 1] in (1, 5, 9)
    assert value[0, 1] == GRADE[0]
    np.testing.assert_allclose(np.sum(p, -1), 1.0)


def test_imputed_tables_have_levels_in_their_columns():
    holes = TABLE.copy()
    holes.loc[3, "colour"] = None
    holes.loc[4, "size"] = np.nan
    rows = vx.Batch.of(holes, missing=True)
    fit = vx.fit(mixed(), TABLE, init=START)
    value, spread = mixed().impute(fit, rows)
    resp = np.asarray(mixed().responsibilities(fit.q.point(), rows))
    p = np.asarray(fit.q.point().components.parts["colour"].p)[:, 0]
    np.testing.assert_allclose(spread["colour"][3], resp[3] @ p)
    assert value["colour"].tolist()[:3] == COLOURS[:3].tolist()
    assert spread["size"][4] > 0
    assert spread["size"][5] == 0
    np.testing.assert_array_equal(value["grade"], GRADE)


def test_draws_have_levels_and_can_be_read():
    fit = vx.fit(mixed(), TABLE, init=START)
    rows, label = mixed().sample(fit, KEY, 50)
    assert set(rows["colour"][:, 0]) <= {"blue", "green", "red"}
    assert set(np.asarray(rows["grade"])[:, 0]) <= {1.0, 5.0, 9.0}
    assert (np.asarray(mixed().predict(fit, rows)) == np.asarray(label)).mean() > 0.8
    array, _ = categorical().sample(vx.fit(categorical(), FRAME, init=START), KEY, 50)
    assert set(array[:, 1]) <= {1, 5, 9}


def test_inside_of_jit_integers_are_levels_and_texts_are_codes():
    model = categorical(GRADE[:, None])
    fit = vx.fit(model, GRADE[:, None], init=START)
    expected = model.predict(fit, GRADE[:, None])
    inside = jax.jit(lambda x: model.predict(fit, x))(GRADE[:, None].astype(float))
    np.testing.assert_array_equal(inside, expected)
    inside = jax.jit(lambda x: vx.fit(model, x, init=START).elbo)(GRADE[:, None].astype(float))
    np.testing.assert_allclose(inside, fit.elbo, rtol=1e-12)
    model = categorical(FRAME[["colour"]])
    fit = vx.fit(model, FRAME[["colour"]], init=START)
    inside = jax.jit(lambda x: model.predict(fit, x))(CODES[:, :1].astype(float))
    np.testing.assert_array_equal(inside, model.predict(fit, FRAME[["colour"]]))


def test_many_data_sets_have_the_levels_of_all():
    parts = [TABLE.iloc[:20], TABLE.iloc[20:40], TABLE.iloc[40:]]  # one stack
    starts = [START[:20], START[20:40], START[40:]]
    parts[1] = parts[1].assign(colour="green")
    fits = vx.fit_many(mixed(), parts, init=starts)
    for i, (part, start) in enumerate(zip(parts, starts, strict=True)):
        alone = vx.fit(mixed(), part, init=start)
        np.testing.assert_allclose(fits.elbo[i], alone.elbo, rtol=1e-10)
        np.testing.assert_array_equal(fits.predict(parts)[i], mixed().predict(alone, part))
    holes = [vx.Batch.of(part.assign(size=np.nan), missing=True) for part in parts]
    value, _ = fits.impute(holes)[0]
    assert value["colour"].tolist() == parts[0]["colour"].tolist()
    np.testing.assert_array_equal(value["grade"], parts[0]["grade"])

    only = [frame[["colour"]] for frame in parts]
    built = vx.fit_many(categorical, only, init=starts)
    assert built[1].q.components.levels == (("blue", "green", "red"),)
    model = categorical(FRAME[["colour"]])
    np.testing.assert_allclose(
        built.elbo[1], vx.fit(model, only[1], init=starts[1]).elbo, rtol=1e-10
    )


def test_chunks_of_text():
    blocks = [TABLE.iloc[40:], TABLE.iloc[:15].assign(colour="green"), TABLE.iloc[15:40]]
    chunks = vx.Chunks.of(lambda: iter(blocks), chunk=16)
    whole = pd.concat(blocks)
    assert chunks.levels == (("blue", "green", "red"), None, None)
    model = mixed(whole)
    start = vx.fit(model, whole, init=np.r_[START[40:], START[:40]])
    np.testing.assert_allclose(vx.fit(model, chunks, init=start).elbo, start.elbo, rtol=1e-10)
    with pytest.raises(ValueError, match="rows 15 to 29: x: column 'colour' has the level 'green'"):
        vx.fit(mixed(TABLE[COLOURS != "green"]), vx.Chunks.of(whole, chunk=16), key=KEY)


REFUSED = {
    "counts": lambda: vx.fit(
        vx.PoissonMixture.from_data(CODES, 2), FRAME[["grade", "colour"]], init=START
    ),
    "waits": lambda: vx.fit(
        vx.ExponentialMixture.from_data(CODES + 1, 2), FRAME[["grade", "colour"]], init=START
    ),
    "flags": lambda: vx.fit(
        vx.BernoulliMixture.from_data(CODES > 0, 2), FRAME[["grade", "colour"]], init=START
    ),
    "Student-t": lambda: vx.fit(
        vx.StudentTMixture.from_data(CODES, 2), FRAME[["grade", "colour"]], init=START
    ),
    "Gaussian": lambda: vx.GaussianMixture.from_data(TABLE, 2),
    "Poisson": lambda: vx.PoissonMixture.from_data(FRAME, 2),
    "kind": lambda: vx.MixedMixture.from_data(TABLE, 2, KINDS | {"colour": "gaussian"}),
    "rows": lambda: vx.fit(
        vx.GaussianMixture.from_data(CODES, 2), FRAME[["grade", "colour"]], init=START
    ),
    "chunks": lambda: vx.fit(vx.GaussianMixture.from_data(CODES, 2), vx.Chunks.of(FRAME), key=KEY),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_only_categories_have_levels(make):
    with pytest.raises(TypeError, match="got text in column 'colour'; .*categorical"):
        make()


def test_sizes_that_levels_contradict():
    with pytest.raises(ValueError, match="num_categories: 2 for column 0, which has 3 levels"):
        categorical(FRAME, num_categories=2)
    with pytest.raises(ValueError, match="category_conc: of 2 categories for a column of 3"):
        categorical(FRAME[["colour"]], category_conc=np.ones((1, 2)))
    assert categorical(FRAME[["grade"]], num_categories=10).components.levels == (tuple(range(10)),)


def test_text_beside_numbers_is_refused():
    with pytest.raises(TypeError, match="x: need real numbers.*column 'colour'"):
        vx.Batch.of(FRAME.assign(colour=["a", 1.0] * (N // 2)))


def test_levels_are_saved(tmp_path):
    fit = vx.fit(mixed(), TABLE, init=START)
    vx.save(tmp_path / "fit.npz", fit)
    vx.save(tmp_path / "model.npz", mixed())
    model, again = vx.load(tmp_path / "model.npz"), vx.load(tmp_path / "fit.npz")
    assert again.summary() == fit.summary()
    np.testing.assert_array_equal(model.predict(again, TABLE), mixed().predict(fit, TABLE))


def test_numbers_of_components_of_text():
    build = vx.CategoricalMixture.from_data
    chosen = vx.select_num_components(FRAME, [1, 2], key=KEY, num_restarts=1, build=build)
    assert chosen.best == 2
    assert categorical().predict(chosen.result(), FRAME).shape == (N,)


def test_held_out_rows_may_have_a_level_of_their_own():
    teal = FRAME.copy()
    teal.loc[7, "colour"] = "teal"
    held_out = vx.cross_validate(
        vx.CategoricalMixture, teal, 2, key=KEY, folds=np.arange(N) % 2, num_restarts=1
    )
    assert held_out.results.q.components.levels[0] == ("blue", "green", "red", "teal")
    assert np.isfinite(held_out.total)
