"""Held-out densities against a loop of separate fits, and criteria against scikit-learn."""

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.stats import nbinom, poisson
from sklearn.mixture import GaussianMixture

import vijax as vx

from .data import clusters
from .programs import programs

KEY = jax.random.key(0)
START = dict(num_restarts=2)


def loop(build, x, sizes, fold, **batch):
    """Every fit by itself, on the other rows alone, read by the public method."""
    out = np.zeros((len(sizes), len(x)))
    for i, k in enumerate(sizes):
        for j in range(fold.max() + 1):
            inside, rest = fold == j, fold != j
            parts = {name: value[rest] for name, value in batch.items()}
            rows = vx.Batch.of(x[rest], **parts)
            model = build(rows, k)
            fit = vx.fit(model, rows, key=KEY, num_restarts=4)
            given = {n: v[inside] for n, v in batch.items() if n in ("mask", "noise")}
            out[i, inside] = model.log_predictive(fit, vx.Batch.of(x[inside], **given))
    return out


@pytest.fixture(scope="module")
def rows():
    x, labels = clusters(np.random.default_rng(3), n=60, k=2, separation=6.0)
    return x, labels


@pytest.fixture(scope="module")
def found(rows):
    with programs("_fit") as made:
        found = vx.cross_validate(vx.GaussianMixture, rows[0], [1, 2], key=KEY, folds=3, **START)
    assert sum(event.endswith("module_duration") for event in made) == 1
    return found


def diagonal(rows, k):
    return vx.GaussianMixture.from_data(rows, k, conc=1.0)


@pytest.mark.long
def test_a_loop_over_folds_gives_the_same(rows, found):
    fold = np.asarray(found.fold)
    assert sorted(np.bincount(fold)) == [20, 20, 20]
    slow = loop(diagonal, rows[0], [1, 2], fold)
    np.testing.assert_allclose(found.log_density, slow, atol=2e-3)
    np.testing.assert_allclose(found.total, slow.sum(1), atol=2e-2)
    folded = [[each[fold == j].sum() for j in range(3)] for each in np.asarray(found.log_density)]
    np.testing.assert_allclose(found.fold_totals, folded)
    assert found.best == 2
    gap = np.asarray(found.log_density[1] - found.log_density[0])
    np.testing.assert_allclose(found.mean_difference, [gap.mean(), 0.0])
    np.testing.assert_allclose(found.standard_error, [gap.std(ddof=1) / np.sqrt(60), 0.0])
    assert found.results.elbo.shape == (2, 3)
    assert "best: 2 components" in found.summary()


def test_weights_are_repetitions_and_absent_rows_change_nothing(rows):
    """The prior has no data in it, so that only the rows of a fold matter."""
    x, fold = rows[0][:40], np.arange(40) % 2
    weight = np.array([1.0, 1.0, 2.0, 0.0] * 10)
    bad = x.copy()
    bad[3] = np.nan
    given = dict(mean=0.0, kappa=0.01, df=4.0, scatter=np.eye(2))
    model = vx.GaussianMixture.with_prior(2, **given, conc=1.0)
    batch = vx.Batch.of(bad, weight)
    found = vx.cross_validate(model, batch, key=KEY, folds=fold, **START)
    times = weight.astype(int)
    again = vx.cross_validate(
        model, np.repeat(x, times, 0), key=KEY, folds=np.repeat(fold, times), **START
    )
    assert found.log_density.shape == (40,)
    np.testing.assert_allclose(found.total, again.total, rtol=1e-6)
    np.testing.assert_allclose(
        np.repeat(np.asarray(found.log_density), times), again.log_density, atol=1e-3
    )
    np.testing.assert_allclose(found.standard_error, again.standard_error, atol=1e-9)
    assert np.isfinite(np.asarray(found.log_density)[7])  # weight 0, but there


def test_labels_and_missing_entries(rows):
    """Labels teach the other folds, and do not enter the density of their own row."""
    x, labels = rows[0][:40], rows[1][:40]
    mask = np.ones(x.shape, bool)
    mask[::5, 1] = False
    fold = np.arange(40) % 2
    batch = vx.Batch.of(x, mask=mask, label=labels)
    found = vx.cross_validate(vx.GaussianMixture, batch, 2, key=KEY, folds=fold, **START)
    slow = loop(diagonal, x, [2], fold, mask=mask, label=labels)
    np.testing.assert_allclose(found.log_density, slow[0], atol=2e-3)


def test_maximum_likelihood_is_read_at_the_estimate(rows):
    x, fold = rows[0], np.arange(60) % 3
    found = vx.cross_validate(
        vx.GaussianMixture, x, [1, 2], key=KEY, folds=fold, method=vx.EM(), num_restarts=8
    )
    for i, k in enumerate([1, 2]):
        peer = GaussianMixture(k, n_init=8, random_state=0, tol=1e-9, max_iter=3000, reg_covar=0)
        total = sum(peer.fit(x[fold != j]).score_samples(x[fold == j]).sum() for j in range(3))
        np.testing.assert_allclose(found.total[i], total, rtol=1e-4)


def test_a_single_poisson_is_negative_binomial(rng):
    """One component and one column: the posterior predictive in closed form."""
    x, fold = rng.poisson(4.0, (12, 1)).astype(float), np.arange(12) % 3
    found = vx.cross_validate(
        vx.PoissonMixture, x, 1, key=KEY, folds=fold, shape=2.0, rate=0.5, num_restarts=1
    )
    for j in range(3):
        shape, rate = 2.0 + x[fold != j].sum(), 0.5 + (fold != j).sum()
        expected = nbinom.logpmf(x[fold == j, 0], shape, rate / (rate + 1.0))
        np.testing.assert_allclose(np.asarray(found.log_density)[fold == j], expected, rtol=1e-6)


def test_codes_that_only_one_fold_has(rng):
    codes = rng.integers(0, 2, (30, 2)) * 1.0
    codes[0, 0] = 3.0
    found = vx.cross_validate(vx.CategoricalMixture, codes, [1, 2], key=KEY, folds=3, **START)
    assert np.isfinite(found.log_density).all()
    frame = pd.DataFrame({"code": codes[:, 0], "count": rng.poisson(3.0, 30)})
    kinds = {"code": "categorical", "count": "poisson"}
    chosen = vx.select_num_components(
        frame, [1, 2], key=KEY, build=vx.MixedMixture, kinds=kinds, criterion="cv", folds=3, **START
    )
    assert np.isfinite(chosen.score).all()
    assert "held-out log density" in chosen.summary()


def test_a_failed_fit_loses(rows):
    """Components without a prior collapse onto a few rows that are equal."""
    x = np.concatenate([np.zeros((6, 2)), rows[0][:20]])
    found = vx.cross_validate(
        vx.GaussianMixture, x, [1, 3], key=KEY, folds=2, method=vx.EM(), num_restarts=1
    )
    failed = ~np.asarray(found.results.usable)[1]
    assert failed.any()
    assert found.best == 1
    assert found.total[1] == -np.inf
    assert "COLLAPSED" in found.summary()


def test_criteria(rows):
    x = rows[0]
    cv = vx.select_num_components(x, [1, 2], key=KEY, criterion="cv", folds=3, **START)
    assert cv.best == 2
    assert cv.criterion == "cv"
    assert cv.validation is not None
    np.testing.assert_allclose(cv.score, cv.validation.total)
    assert cv.result().check().q.weights.conc.shape == (2,)
    bic = vx.select_num_components(x, [1, 2], key=KEY, criterion="bic", **START)
    for i, k in enumerate([1, 2]):
        model = diagonal(x, k)
        fit = vx.fit(model, x, key=KEY, num_restarts=4)
        log_lik = np.asarray(model.log_likelihood(fit, x)).sum()
        np.testing.assert_allclose(
            bic.score[i], log_lik - 0.5 * (6 * k - 1) * np.log(60), rtol=1e-5
        )
    assert "-BIC / 2" in bic.summary()
    assert "ICL" in bic.summary()


def test_classes_have_an_exchangeable_prior(rng):
    x = rng.poisson([[2.0, 9.0]] * 20 + [[12.0, 1.0]] * 20).astype(float)
    by_class = vx.select_num_components(x, [1, 2], key=KEY, build=vx.PoissonMixture, **START)
    by_hand = vx.select_num_components(
        x, [1, 2], key=KEY, build=vx.PoissonMixture.from_data, conc=1.0, **START
    )
    np.testing.assert_allclose(by_class.score, by_hand.score)
    flat = vx.select_num_components(
        x, [1], key=KEY, build=vx.PoissonMixture, method=vx.EM(), num_restarts=1
    )
    log_lik = poisson.logpmf(x, x.mean(0)).sum()
    np.testing.assert_allclose(flat.score[0], log_lik - 0.5 * 2 * np.log(40), rtol=1e-6)


def test_bad_arguments_are_named(rows, unchecked):
    x, model = rows[0], vx.GaussianMixture.from_data(rows[0], 2)

    def refused(match, *args, error=ValueError, **options):
        with pytest.raises(error, match=match):
            vx.cross_validate(*args, **{"key": KEY, **options})

    refused("folds: need at least 2, got 1", model, x, folds=1)
    refused("folds: 61 of 60 rows", model, x, folds=61)
    refused("folds: expected an integer", model, x, folds=2.5, error=TypeError)
    refused("folds: expected an integer, or the fold of each", model, x, folds=np.arange(5))
    refused("folds: need at least 2, but all rows", model, x, folds=np.zeros(60, int))
    empty = vx.Batch.of(x, np.arange(60) > 0)
    refused("folds: fold 7 has no row", model, empty, folds=np.where(np.arange(60) > 0, 3, 7))
    refused("num_components: is for a class", model, x, 2)
    refused("conc: is for a class", model, x, conc=1.0)
    refused("num_components: give one or several", vx.GaussianMixture, x)
    refused("build: expected a mixture class", 3, x, 2, error=TypeError)
    refused("build: Mixture has no `from_data`", vx.Mixture, x, 2)
    refused("key: this start is drawn", model, x, key=None)

    def select(match, **options):
        with pytest.raises(ValueError, match=match):
            vx.select_num_components(x, [1, 2], key=KEY, **options)

    select("criterion: EM has no bound", criterion="elbo", method=vx.EM())
    select("criterion: expected one of elbo, bic, cv", criterion="aic")
    kinds = {"a": "gaussian"}
    with pytest.raises(ValueError, match="build: MixedMixture has no maximum likelihood"):
        vx.select_num_components(
            {"a": x}, [1], key=KEY, build=vx.MixedMixture, kinds=kinds, method=vx.EM()
        )
