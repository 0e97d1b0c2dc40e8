"""Rows with an exposure: counts and waiting times whose rates are per unit of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import digamma, gammaln

import vijax as vx

MIXTURES = [vx.PoissonMixture, vx.ExponentialMixture]
KEY = jax.random.key(0)


@pytest.fixture(params=MIXTURES, ids=["poisson", "exponential"])
def mixture(request):
    return request.param


def rows_of(rng, mixture, n=60, columns=2):
    """Rows of two far clusters, with exposures that differ by a factor of 100, and labels."""
    label = np.arange(n) % 2
    rate = np.array([[0.5, 8.0], [6.0, 1.0]])[label][:, :columns]
    e = np.exp(rng.uniform(np.log(0.5), np.log(50.0), (n, columns)))
    if mixture is vx.PoissonMixture:
        return rng.poisson(e * rate).astype(float), e, label
    return rng.exponential(1.0 / (e * rate)), e, label


def close(a, b, rtol=1e-9):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-11), a, b)


def log_evidence(mixture, prior, x, e, seen):
    """log p(x) in nats for one component with independent columns, in closed form."""
    total = 0.0
    a0, b0 = np.asarray(prior.each.shape)[0], np.asarray(prior.each.rate)[0]
    for j in range(x.shape[1]):
        at = seen[:, j]
        y, f = x[at, j], e[at, j]
        if mixture is vx.PoissonMixture:
            a, b = a0[j] + y.sum(), b0[j] + f.sum()
            total += np.sum(y * np.log(f) - gammaln(y + 1.0))
        else:
            a, b = a0[j] + len(y), b0[j] + (f * y).sum()
            total += np.sum(np.log(f))
        total += gammaln(a) - gammaln(a0[j]) + a0[j] * np.log(b0[j]) - a * np.log(b)
    return total


# -- exact results ---------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [False, True], ids=["whole", "missing"])
@pytest.mark.parametrize("by_row", [False, True], ids=["(n, d)", "(n,)"])
def test_evidence_of_one_component(rng, mixture, lost, by_row):
    x, e, _ = rows_of(rng, mixture)
    if by_row:
        e = e[:, 0]
    full = np.broadcast_to(e[:, None] if by_row else e, x.shape)
    seen = rng.random(x.shape) > 0.3 if lost else np.ones(x.shape, bool)
    batch = vx.Batch.of(np.where(seen, x, np.nan), missing=lost, exposure=e)
    model = mixture.from_data(batch, 1)
    got = vx.fit(model, batch, init=np.zeros(len(x), int)).elbo
    exact = log_evidence(mixture, model.components, x, full, seen)
    np.testing.assert_allclose(got, exact, rtol=1e-10)
    # the predictive density is the ratio of two evidences
    q = vx.fit(model, batch, init=np.zeros(len(x), int)).q
    row = np.array([[3.0, 2.0]]), np.array([[0.7, 11.0]])
    both = [np.concatenate([a, b]) for a, b in zip((x, full), row, strict=True)]
    also = np.concatenate([seen, np.ones((1, 2), bool)])
    ratio = log_evidence(mixture, model.components, *both, also) - exact
    predicted = model.log_predictive(q, vx.Batch.of(row[0], exposure=row[1]))
    np.testing.assert_allclose(predicted, [ratio], rtol=1e-8)


@pytest.mark.parametrize("precise", [True, False], ids=["float64", "float32"])
def test_log_joint_is_the_expectation_of_log_density(rng, mixture, precise):
    kind = np.float64 if precise else np.float32
    x, e, label = (a.astype(kind) for a in rows_of(rng, mixture))
    batch = vx.Batch.of(x, exposure=e)
    model = mixture.from_data(batch, 2)
    q = vx.fit(model, batch, init=label.astype(int)).q
    a, b = (np.asarray(v, float)[None] for v in (q.components.each.shape, q.components.each.rate))
    wide, f = x[:, None].astype(float), e[:, None].astype(float)
    e_log, mean = np.log(f) + digamma(a) - np.log(b), f * a / b
    if mixture is vx.PoissonMixture:
        each = wide * e_log - mean - gammaln(wide + 1.0)
    else:
        each = e_log - mean * wide
    conc = np.asarray(q.weights.conc, float)
    exact = each.sum(-1) + digamma(conc) - digamma(conc.sum())
    got = model.log_joint(q.moments(), batch)
    np.testing.assert_allclose(got, exact, rtol=1e-10 if precise else 2e-5)


def test_densities_are_those_of_scipy(rng, mixture):
    x, e, label = rows_of(rng, mixture)
    batch = vx.Batch.of(x, exposure=e)
    model = mixture.from_data(batch, 2)
    fit = vx.fit(model, batch, init=label)
    each, weight = fit.q.components.each, np.asarray(fit.q.weights.mean)
    a, b = (np.asarray(v)[None] for v in (each.shape, each.rate))
    wide, f = x[:, None], e[:, None]
    if mixture is vx.PoissonMixture:
        known = stats.poisson.logpmf(wide, f * a / b)
        predicted = stats.nbinom.logpmf(wide, a, b / (b + f))
    else:
        known = stats.expon.logpdf(wide, scale=b / (a * f))
        predicted = stats.lomax.logpdf(wide, a, scale=b / f)
    for got, terms in [
        (model.log_likelihood(fit, batch), known),
        (model.log_predictive(fit, batch), predicted),
    ]:
        exact = np.log(np.exp(terms.sum(-1)) @ weight)
        np.testing.assert_allclose(got, exact, rtol=1e-9)


def test_predictive_sums_to_one(rng):
    x, e, label = rows_of(rng, vx.PoissonMixture, columns=1)
    fit = vx.fit(
        model := vx.PoissonMixture.from_data(batch := vx.Batch.of(x, exposure=e), 2),
        batch,
        init=label,
    )
    counts = np.arange(2000.0)[:, None]
    for exposure in (0.01, 1.0, 30.0):
        at = vx.Batch.of(counts, exposure=np.full(2000, exposure))
        np.testing.assert_allclose(np.exp(model.log_predictive(fit, at)).sum(), 1.0, rtol=1e-8)


def test_imputed_counts_have_exposure_times_the_rate(rng, mixture):
    x, e, label = rows_of(rng, mixture)
    seen = np.ones(x.shape, bool)
    seen[:2, 1] = False
    batch = vx.Batch.of(np.where(seen, x, np.nan), missing=True, exposure=e, label=label)
    model = mixture.from_data(batch, 2)
    fit = vx.fit(model, batch, init=label)
    mean, sd = model.impute(fit, batch)
    rate = np.asarray(fit.q.components.mean)
    resp = np.asarray(model.responsibilities(fit, batch))[:2]
    expected = e[:2, 1, None] * rate[None, :, 1]
    if mixture is vx.PoissonMixture:
        centre, variance = expected, expected
    else:
        centre, variance = 1.0 / expected, expected**-2
    first = (resp * centre).sum(1)
    second = (resp * (variance + centre**2)).sum(1)
    np.testing.assert_allclose(mean[:2, 1], first, rtol=1e-6)
    np.testing.assert_allclose(sd[:2, 1], np.sqrt(second - first**2), rtol=1e-5)
    np.testing.assert_allclose(mean[2:], x[2:])


def test_draws_have_the_exposure(rng, mixture):
    x, e, label = rows_of(rng, mixture)
    batch = vx.Batch.of(x, exposure=e)
    model = mixture.from_data(batch, 2)
    fit = vx.fit(model, batch, init=label)
    exposure = np.tile([[2.0, 40.0]], (40_000, 1))
    drawn, own = model.sample(fit, KEY, 40_000, exposure=exposure)
    each = fit.q.components.each
    a, b = np.asarray(each.shape), np.asarray(each.rate)
    for k in (0, 1):
        mean = exposure[0] * (a / b)[k]
        mean = mean if mixture is vx.PoissonMixture else b[k] / ((a[k] - 1.0) * exposure[0])
        np.testing.assert_allclose(drawn[own == k].mean(0), mean, rtol=0.04)


# -- laws ------------------------------------------------------------------------------------------


def test_exposure_1_is_none(rng, mixture):
    x, _, _ = rows_of(rng, mixture)
    plain = vx.Batch.of(x)
    ones = vx.Batch.of(x, exposure=np.ones(len(x)))
    models = [mixture.from_data(batch, 3) for batch in (plain, ones)]
    close(*models)
    fits = [
        vx.fit(m, b, key=KEY, num_restarts=2) for m, b in zip(models, (plain, ones), strict=True)
    ]
    close(fits[0].q, fits[1].q, rtol=1e-7)
    np.testing.assert_allclose(fits[0].elbo, fits[1].elbo, rtol=1e-10)


def test_a_row_of_exposure_e_is_e_rows(rng):
    counts = rng.poisson(3.0, (30, 2)).astype(float)
    group = np.repeat(np.arange(6), 5)
    sums = np.stack([counts[group == g].sum(0) for g in range(6)])
    together = vx.Batch.of(sums, exposure=np.full(6, 5))
    model = vx.PoissonMixture.from_data(counts, 1)
    close(model.components, vx.PoissonMixture.from_data(together, 1).components)
    apart, joint = (
        vx.fit(model, b, init=np.zeros(len(b.weight), int)) for b in (vx.Batch.of(counts), together)
    )
    close(apart.q.components, joint.q.components)
    constant = np.sum(sums * np.log(5.0) - gammaln(sums + 1.0)) + np.sum(gammaln(counts + 1.0))
    np.testing.assert_allclose(joint.elbo - apart.elbo, constant, rtol=1e-9)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_of_exposure(rng, mixture, unit):
    x, e, _ = rows_of(rng, mixture)
    mask = rng.random(x.shape) > 0.1
    batches = [vx.Batch.of(x, mask=mask, exposure=f) for f in (e, unit * e)]
    fits = [vx.fit(mixture.from_data(b, 3), b, key=KEY) for b in batches]
    here, there = (f.q.components for f in fits)
    np.testing.assert_allclose(here.rate, unit * np.asarray(there.rate), rtol=1e-6)
    # the density of a wait x is of x, whose unit has not changed
    np.testing.assert_allclose(fits[0].elbo, fits[1].elbo, rtol=1e-9)


def test_a_short_and_a_long_look_are_told_apart_by_rates(rng):
    """Counts that follow from the exposure say nothing; rates do, and starts find them."""
    x, e, label = rows_of(rng, vx.PoissonMixture, n=120)
    batch = vx.Batch.of(x, exposure=e)
    model = vx.PoissonMixture.from_data(batch, 6)
    fit = vx.fit(model, batch, key=KEY).check()
    assert (np.asarray(fit.q.weights.mean) > 0.05).sum() == 2
    found = np.asarray(model.predict(fit, batch))
    table = pd.crosstab(found, label).to_numpy()
    assert table.max(0).sum() >= 118


def test_terms_add_up_to_the_bound(rng, mixture):
    x, e, label = rows_of(rng, mixture)
    batch = vx.Batch.of(x, exposure=e)
    model = mixture.from_data(batch, 2)
    fit = vx.fit(model, batch, init=label)
    terms = vx.elbo_terms(model, fit.q, batch)
    np.testing.assert_allclose(sum(terms.values()), fit.elbo, rtol=1e-9)
    resp = model.responsibilities(fit, batch)
    np.testing.assert_allclose(model.elbo(fit, batch, resp), fit.elbo, rtol=1e-9)


def test_every_method_ends_at_the_same_bound(rng):
    x, e, label = rows_of(rng, vx.PoissonMixture)
    batch = vx.Batch.of(x, exposure=e)
    model = vx.PoissonMixture.from_data(batch, 2)
    best = vx.fit(model, batch, init=label).elbo
    for method in (vx.Memoized(num_blocks=4), vx.Accelerated(vx.CAVI())):
        got = vx.fit(model, batch, init=label, method=method, key=KEY).elbo
        np.testing.assert_allclose(got, best, rtol=1e-7)


def test_maximum_likelihood_is_the_ratio_of_sums(rng, mixture):
    x, e, label = rows_of(rng, mixture)
    batch = vx.Batch.of(x, exposure=e, label=label)
    fit = vx.fit(mixture.flat(2, 2), batch, method=vx.EM(), init=label)
    for k in (0, 1):
        own = label == k
        if mixture is vx.PoissonMixture:
            rate = x[own].sum(0) / e[own].sum(0)
        else:
            rate = own.sum() / (e * x)[own].sum(0)
        np.testing.assert_allclose(fit.q.components.rate[k], rate, rtol=1e-9)


# -- the ways of rows ------------------------------------------------------------------------------


def test_many_fits_are_a_loop(rng, mixture):
    sets = [rows_of(rng, mixture, n)[:2] for n in (20, 33, 20)]
    batches = [vx.Batch.of(x, exposure=e) for x, e in sets]

    def build(batch):
        return mixture.from_data(batch, 2)

    labels = [np.arange(len(x)) % 2 for x, _ in sets]
    many = vx.fit_many(build, batches, init=labels)
    answers = many.log_predictive(batches)
    for i, (batch, label) in enumerate(zip(batches, labels, strict=True)):
        alone = vx.fit(build(batch), batch, init=label)
        np.testing.assert_allclose(many.elbo[i], alone.elbo, rtol=1e-9)
        expected = build(batch).log_predictive(alone, batch)
        np.testing.assert_allclose(answers[i], expected, rtol=1e-7)
    pair = [batches[0], batches[2]]
    stacked = jax.tree.map(
        lambda *a: jnp.stack(a), *[vx.Batch(b.x, b.weight, exposure=b.exposure) for b in pair]
    )
    both = vx.fit_many(build, stacked, init=np.stack([labels[0], labels[2]]))
    np.testing.assert_allclose(both.elbo, np.asarray(many.elbo)[[0, 2]], rtol=1e-9)
    with pytest.raises(ValueError, match="all need the same parts .*exposure"):
        vx.fit_many(build, [batches[0], vx.Batch.of(sets[1][0])], init=labels[:2])


def test_chunks_are_rows_in_memory(rng, mixture):
    x, e, _ = rows_of(rng, mixture)
    x[5, 1] = e[5, 1] = np.nan
    batch = vx.Batch.of(x, missing=True, exposure=e)
    model = mixture.from_data(batch, 2)

    def blocks():
        for first in range(0, 60, 25):
            part = slice(first, first + 25)
            yield vx.Batch.of(x[part], missing=True, exposure=e[part])

    chunks = vx.Chunks.of(blocks, chunk=16)
    close(mixture.from_data(chunks.sample(), 2), model)
    whole = vx.fit(model, batch, key=KEY)
    np.testing.assert_allclose(vx.fit(model, chunks, key=KEY).elbo, whole.elbo, rtol=1e-9)


def test_rows_of_weight_0_change_nothing(rng, mixture):
    x, e, label = rows_of(rng, mixture)
    batch = vx.Batch.of(x, exposure=e)
    model = mixture.from_data(batch, 2)
    more = vx.Batch.of(
        np.concatenate([x, np.full((5, 2), np.nan)]),
        np.repeat([1.0, 0.0], [60, 5]),
        exposure=np.concatenate([e, [[np.nan, 1.0], [0.0, 1.0], [-1.0, 1.0], [np.inf, 1], [1, 1]]]),
    )
    close(mixture.from_data(more, 2), model)
    known = np.concatenate([label, np.zeros(5, int)])
    fits = [vx.fit(model, batch, init=label), vx.fit(model, more, init=known)]
    np.testing.assert_allclose(fits[0].elbo, fits[1].elbo, rtol=1e-10)
    predicted = [model.log_predictive(fits[0], b)[:60] for b in (batch, more)]
    np.testing.assert_allclose(*predicted, rtol=1e-10)
    # a row of weight 0 is read with its own exposure
    unweighted = vx.Batch.of(x, np.arange(60) > 0, exposure=e)
    np.testing.assert_allclose(model.log_predictive(fits[0], unweighted), predicted[0], rtol=1e-10)


def test_weights_count_repetitions(rng, mixture):
    x, e, label = rows_of(rng, mixture)
    times = 1 + np.arange(60) % 3
    weighted = vx.Batch.of(x, times, exposure=e)
    repeated = vx.Batch.of(np.repeat(x, times, 0), exposure=np.repeat(e, times, 0))
    models = [mixture.from_data(b, 2, rate=np.ones(2)) for b in (weighted, repeated)]
    starts = label, np.repeat(label, times)
    a, b = (
        vx.fit(m, rows, init=start).elbo
        for m, rows, start in zip(models, (weighted, repeated), starts, strict=True)
    )
    np.testing.assert_allclose(a, b, rtol=1e-9)


def table_of(rng):
    x, e, label = rows_of(rng, vx.PoissonMixture)
    waits, f, _ = rows_of(rng, vx.ExponentialMixture)
    size = rng.normal(4.0 * label, 1.0)
    frame = pd.DataFrame({"visits": x[:, 0], "size": size, "wait": waits[:, 1]})
    kinds = {"visits": "poisson", "size": "gaussian", "wait": "exponential"}
    return frame, {"visits": e[:, 0], "wait": f[:, 1]}, kinds, label


def test_tables_have_exposures_by_name(rng):
    frame, exposure, kinds, label = table_of(rng)
    columns = vx.Batch.of({name: frame[name] for name in frame}, exposure=exposure)
    model = vx.MixedMixture.from_data(columns, 2, kinds)
    fit = vx.fit(model, columns, init=label)
    named = vx.Batch.of(frame, exposure=exposure)
    by_frame = vx.Batch.of(frame, exposure=pd.DataFrame(exposure)[["wait", "visits"]])
    for batch in (named, by_frame):
        close(vx.MixedMixture.from_data(batch, 2, kinds), model)
        np.testing.assert_allclose(vx.fit(model, batch, init=label).elbo, fit.elbo, rtol=1e-10)
    chunks = vx.Chunks.of([named.take(jnp.arange(0, 25)), named.take(jnp.arange(25, 60))], chunk=20)
    got = vx.fit(model, chunks, init=fit)
    np.testing.assert_allclose(got.elbo, fit.elbo, rtol=1e-8)
    many = vx.fit_many(model, [named, named], init=[label, label])
    np.testing.assert_allclose(many.elbo, [fit.elbo] * 2, rtol=1e-8)
    plain = {name: frame[name].to_numpy() * exposure.get(name, 1.0) for name in ["wait"]}
    wait = model.components.parts["wait"].log_predictive(columns.column("wait"))
    without = model.components.parts["wait"].log_predictive(vx.Batch.of(plain["wait"][:, None]))
    np.testing.assert_allclose(
        wait, np.asarray(without) + np.log(exposure["wait"])[:, None], rtol=1e-9
    )


def test_columns_of_frames_keep_their_exposure(rng):
    x, e, label = rows_of(rng, vx.PoissonMixture)
    frame = pd.DataFrame(x, columns=["a", "b"])
    model = vx.PoissonMixture.from_data(vx.Batch.of(frame, exposure=e), 2)
    fit = vx.fit(model, vx.Batch.of(frame, exposure=e), init=label)
    turned = vx.Batch.of(frame[["b", "a"]], exposure=e[:, ::-1])
    named = vx.Batch.of(frame[["b", "a"]], exposure={"a": e[:, 0], "b": e[:, 1]})
    for batch in (turned, named):
        np.testing.assert_allclose(
            model.log_predictive(fit, batch),
            model.log_predictive(fit, vx.Batch.of(frame, exposure=e)),
        )
        np.testing.assert_allclose(vx.fit(model, batch, init=label).elbo, fit.elbo, rtol=1e-10)
    one = vx.Batch.of(frame, exposure={"b": e[:, 1]})
    both = vx.Batch.of(x, exposure=np.stack([np.ones(60), e[:, 1]], 1))
    got = [vx.fit(vx.PoissonMixture.from_data(b, 2), b, init=label).elbo for b in (one, both)]
    np.testing.assert_allclose(*got, rtol=1e-10)
    assert one.by_name().column("a").exposure is None
    np.testing.assert_allclose(turned.by_name().column("b").exposure[:, 0], e[:, 1])


def test_rows_are_cut_and_kept_with_their_exposure(rng, tmp_path):
    x, e, _ = rows_of(rng, vx.PoissonMixture)
    batch = vx.Batch.of(x, exposure=e)
    np.testing.assert_array_equal(batch.take(jnp.array([3, 1])).exposure, e[[3, 1]])
    np.testing.assert_array_equal(batch.cut(4, 7).exposure, e[4:11])
    np.testing.assert_array_equal(vx.Batch.of(batch).exposure, e)
    vx.save(tmp_path / "rows", batch)
    np.testing.assert_array_equal(vx.load(tmp_path / "rows").exposure, e)
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()[:1]), ("rows",))
    spread = vx.shard_rows(x, mesh, exposure=e)
    np.testing.assert_array_equal(spread.exposure, e)
    assert vx.Batch.of(x, exposure=e[:, 0]).exposure.shape == (60, 1)
    # traced rows are not checked
    model = vx.PoissonMixture.from_data(batch, 2)
    alone = jax.jit(lambda x, e: model.components.embed(vx.Batch.of(x, exposure=e)))(x, e)
    np.testing.assert_allclose(alone, model.components.embed(batch), rtol=1e-9)


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, 0.0, -2.0, np.inf, 1e-320])
def test_bad_exposure_is_named(bad):
    x, e = np.ones((4, 2)), np.ones((4, 2))
    e[2, 1] = bad
    with pytest.raises(
        ValueError, match=r"^exposure: must be finite and > 0, got .* in row 2, .*1"
    ):
        vx.Batch.of(x, exposure=e)
    with pytest.raises(
        ValueError, match=r"^exposure\['a'\]: must be finite and > 0, got .* row 2;"
    ):
        vx.Batch.of({"a": x[:, 0], "b": x[:, 1]}, exposure={"a": e[:, 1]})
    # a missing entry, a row without any, and one of weight 0 need none
    mask = np.ones((4, 2), bool)
    mask[2, 1] = False
    assert vx.Batch.of(x, mask=mask, exposure=e).exposure[2, 1] == 1.0
    mask[2, 0] = False
    assert bool((vx.Batch.of(x, mask=mask, exposure=e[:, 1]).exposure == 1.0).all())
    assert bool((vx.Batch.of(x, [1, 1, 0, 1], exposure=e).exposure == 1.0).all())
    row = vx.Batch.of(x, mask=mask | (np.arange(2) == 0), exposure=np.ones(4))
    assert row.exposure.shape == (4, 1)


@pytest.mark.parametrize(
    ("data", "exposure", "message"),
    [
        (np.ones((4, 2)), np.ones(3), r"exposure: expected shape \(4,\) or \(4, 2\), got \(3,\)"),
        (np.ones((4, 2)), np.ones((4, 3)), "exposure: expected shape"),
        (np.ones((4, 2)), 2.0, "exposure: expected shape"),
        (np.ones((4, 2)), {"a": np.ones(4)}, "exposure: a dict needs columns with names"),
        ({"a": np.ones(4)}, np.ones(4), "exposure: x is a dict of columns; give a dict"),
        ({"a": np.ones(4)}, {"b": np.ones(4)}, "exposure: 'b' is not one of the columns a"),
        ({"a": np.ones(4)}, {"a": np.ones(5)}, r"exposure\['a'\]: expected shape \(4,\), got"),
    ],
)
def test_exposure_of_another_form_is_named(data, exposure, message):
    with pytest.raises(ValueError, match=message):
        vx.Batch.of(data, exposure=exposure)


def test_a_batch_has_its_exposure(rng):
    with pytest.raises(ValueError, match="give weight, mask, noise, label and exposure"):
        vx.Batch.of(vx.Batch.of(np.ones((3, 1))), exposure=np.ones(3))


X = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
OTHERS = [
    vx.GaussianMixture.from_data(X, 1),
    vx.GaussianMixture.from_data(X, 1, covariance="diag"),
    vx.GaussianMixture.from_data(X, 1, noise=True),
    vx.StudentTMixture.from_data(X, 1),
    vx.BernoulliMixture.from_data(X, 1),
    vx.GeometricMixture.from_data(X, 1),
    vx.CategoricalMixture.from_data(X, 1),
    vx.MultinomialMixture.from_data(X, 1),
]


@pytest.mark.parametrize("model", OTHERS, ids=lambda m: type(m.components).__name__)
def test_others_refuse_it(model):
    batch = vx.Batch.of(X, exposure=np.full(4, 2.0))
    says = "exposure: a .* takes none; Poisson counts and exponential waiting times do"
    with pytest.raises(ValueError, match=says):
        vx.fit(model, batch, init=np.arange(4) % model.num_components)
    with pytest.raises(ValueError, match=says):
        model.predict(model.prior, batch)
    with pytest.raises(ValueError, match=says):
        vx.fit_many(model, [batch, batch], init=[np.zeros(4, int)] * 2)
    with pytest.raises(ValueError, match=says):
        vx.fit(model, vx.Chunks.of([batch]), key=KEY)
    with pytest.raises(ValueError, match="exposure: this prior takes none"):
        type(model).from_data(batch, 1)


def test_others_refuse_it_elsewhere(rng):
    batch = vx.Batch.of(X, exposure=np.full(4, 2.0))
    gaussian = vx.GaussianMixture.from_data(X, 1)
    with pytest.raises(ValueError, match="exposure: a density of Gaussian components takes none"):
        gaussian.density(gaussian.prior).log_prob(batch)
    single = vx.NormalGammaExact.with_prior(mean=0.0, kappa=1.0, shape=1.0, rate=1.0)
    with pytest.raises(ValueError, match="exposure: a NormalGammaExact takes none"):
        vx.fit(single, vx.Batch.of(X[:, 0], exposure=np.ones(4)))
    frame, exposure, kinds, label = table_of(rng)
    model = vx.MixedMixture.from_data(frame, 2, kinds)
    for given in ({"size": np.ones(60)}, np.ones(60)):
        with pytest.raises(ValueError, match="column 'size': exposure: a .* takes none; Poisson"):
            vx.fit(model, vx.Batch.of(frame, exposure=given), init=label)
