"""Clusters of whole sequences: enumeration, what must change nothing, and every reader."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import vijax as vx

from .oracles import clusters
from .rows import gammas
from .table import leaves_close
from .tables.emissions import FULL, MIXED, POISSON, take
from .test_hmm import begin, e_steps, padded, same, settled, sweep

KEY = jax.random.key(0)
K, LENGTHS = 2, (3, 1, 2, 4)


def sequences_of(rng, emission):
    """Sequences of which the second step of the first is missing."""
    xs = [emission.rows(rng, t) for t in LENGTHS]
    xs[0][1] = np.nan
    return xs, vx.Batch.sequences(xs, missing=True)


def model_of(rng, emission, conc=None):
    conc = gammas(rng, K) if conc is None else conc
    prior = vx.Shared(vx.Dirichlet.from_standard(conc))
    return vx.SequenceMixture(prior, emission.prior(rng, K))


def arbitrary_q(rng, model, batch):
    resp = rng.dirichlet(np.ones(K), size=batch.steps.shape)
    return begin(model, batch, jnp.asarray(resp))


@pytest.mark.parametrize("emission", [POISSON, FULL], ids=lambda e: e.name)
def test_bound_is_below_the_evidence_and_with_one_cluster_equal_to_it(rng, emission):
    xs, batch = sequences_of(rng, emission)
    x = np.concatenate(xs)
    seen = ~np.isnan(x).all(-1)
    model = model_of(rng, emission)

    def exact(model):
        def evidence(z):
            return emission.evidence(x[seen], z[seen], model.components)

        return clusters.log_evidence(LENGTHS, np.asarray(model.labels.weights.conc), evidence)

    evidence = exact(model)
    q = arbitrary_q(rng, model, batch)
    assert sweep(model, q, batch)[0] <= evidence + 1e-9
    bound = settled(model, q, batch, 60)[1]
    # mean field pays for k^n labellings at most, and for what two clusters share
    assert evidence - len(LENGTHS) * np.log(K) - 10.0 < bound <= evidence + 1e-9
    only = vx.SequenceMixture(vx.Shared(vx.Dirichlet.from_standard([1.5, 0.0])), model.components)
    bound = settled(only, only.prior, batch, 3)[1]
    np.testing.assert_allclose(bound, exact(only), rtol=1e-9)


def test_readers_are_sums_over_steps(rng):
    """At a q, from expected logs; labels of a step are those of its sequence."""
    xs, batch = sequences_of(rng, POISSON)
    model = model_of(rng, POISSON)
    q = arbitrary_q(rng, model, batch)

    @jax.jit
    def read(q, batch):
        steps, moments, point = batch.flat(), q.moments(), q.point()
        names = ("responsibilities", "predict", "row_bound", "log_likelihood")
        said = {name: getattr(model, name)(q, batch) for name in names}
        known = moments.components.likelihood(steps)[0], point.components.likelihood(steps)[0]
        return said, known, (moments.labels.weights.log_p, point.labels.weights.log_p)

    said, known, log_p = jax.tree.map(np.asarray, read(q, batch))
    steps = np.asarray(batch.steps) > 0
    for log_lik, log_weight, name in zip(
        known, log_p, ("row_bound", "log_likelihood"), strict=True
    ):
        own = [a[b] for a, b in zip(log_lik.reshape(*steps.shape, K), steps, strict=True)]
        resp, log_z = clusters.by_rows(log_weight, own)
        np.testing.assert_allclose(said[name], log_z, rtol=1e-12)
        if name == "row_bound":
            np.testing.assert_allclose(said["responsibilities"], resp, rtol=1e-10)
            np.testing.assert_array_equal(said["predict"], resp.argmax(1))
    np.testing.assert_allclose(sweep(model, q, batch)[2], said["row_bound"], rtol=1e-12)
    label = [np.full(t, -1) for t in LENGTHS]
    label[3][2] = 1
    told = model.responsibilities(q, vx.Batch.sequences(xs, missing=True, label=label))
    np.testing.assert_allclose(told[:3], said["responsibilities"][:3], rtol=1e-10)
    np.testing.assert_array_equal(told[3], [0.0, 1.0])


@pytest.mark.parametrize("emission", [FULL, MIXED], ids=lambda e: e.name)
def test_sequences_of_one_step_are_rows_of_a_mixture(rng, emission):
    n, k = 12, 3
    x, weight = emission.rows(rng, n), rng.uniform(0.5, 2.0, size=n)
    prior, own = vx.Dirichlet.from_standard(gammas(rng, k)), emission.prior(rng, k)
    models = vx.Mixture(prior, own), vx.SequenceMixture(vx.Shared(prior), own)
    ones = vx.Batch.sequences([take(x, slice(i, i + 1)) for i in range(n)], weight)
    data = vx.Batch.of(x, weight), ones
    first, second = e_steps(models, [m.prior.moments() for m in models], data)
    np.testing.assert_allclose(second.log_z, first.log_z, rtol=1e-12)
    np.testing.assert_allclose(
        second.stats.labels.weights.conc, first.stats.weights.conc, rtol=1e-12
    )
    leaves_close(
        second.stats.components.about(first.stats.components), first.stats.components, 1e-9, 1e-9
    )


def test_what_changes_nothing(rng):
    """Weights as duplicates, an empty cluster, and padding, whatever it holds."""
    xs, batch = sequences_of(rng, POISSON)
    model = model_of(rng, POISSON)
    q = arbitrary_q(rng, model, batch)
    plain = sweep(model, q, batch)
    more = [*xs, xs[0], xs[3]]
    twice = sweep(model, q, vx.Batch.sequences(xs, [2.0, 1.0, 1.0, 2.0], missing=True))
    same(sweep(model, q, vx.Batch.sequences(more, missing=True)), twice)
    n, t = batch.steps.shape

    def junk(value):
        held, seen = np.full((n + 1, t + 2, 2), value), np.ones((n + 1, t + 2, 2), bool)
        held[:n, :t] = np.where(np.asarray(batch.steps)[..., None] > 0, batch.x, value)
        seen[:n, :t] = batch.mask
        steps = np.zeros((n + 1, t + 2))
        steps[:n, :t], steps[n, :2] = batch.steps, 1.0
        weight = np.r_[np.ones(n), 0.0]
        return sweep(model, q, padded(held, weight, steps, mask=jnp.asarray(seen)))

    first = junk(0.0)
    same(first, plain)
    for value in (1e300, np.nan):
        for a, b in zip(jax.tree.leaves(junk(value)), jax.tree.leaves(first), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_missing_step_is_the_sum_over_what_it_could_be(rng):
    x = rng.integers(2, size=(4, 1)).astype(float)
    own = vx.BetaBernoulli.from_standard(gammas(rng, K, 1), gammas(rng, K, 1))
    model = vx.SequenceMixture.with_prior(K, components=own, conc=gammas(rng, K))
    each = []
    for value in (0.0, 1.0, np.nan):
        y = x.copy()
        y[2] = value
        batch = vx.Batch.sequences([y, y], missing=True)
        each.append(float(model.log_likelihood(model.prior, batch)[0]))
    np.testing.assert_allclose(np.logaddexp(*each[:2]), each[2], rtol=1e-12)


# -- fits -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted():
    """Sequences of three clusters whose steps overlap, two of them in spread alone."""
    rng = np.random.default_rng(7)
    label = rng.integers(3, size=24)
    mean, sd = np.array([0.0, 1.5, 1.5]), np.array([1.0, 1.0, 2.5])
    lengths = rng.integers(30, 40, size=24)
    xs = [rng.normal(mean[c], sd[c], size=(t, 2)) for c, t in zip(label, lengths, strict=True)]
    return xs, label


@pytest.fixture(scope="module")
def model(planted):
    return vx.SequenceMixture.from_data(planted[0], 5, conc=1.0)


@pytest.fixture(scope="module")
def found(planted):
    """The fits of each number of clusters."""
    options = {"build": vx.SequenceMixture, "num_restarts": 2}
    return vx.select_num_components(planted[0], [2, 3, 5], key=KEY, **options)


@pytest.fixture(scope="module")
def fit(found):
    return found.result(5).check()


def agree(found, label):
    """Whether two labellings are the same partition."""
    pairs = set(zip(np.asarray(found).tolist(), label.tolist(), strict=True))
    return len(pairs) == len(set(label.tolist())) == len({a for a, _ in pairs})


def test_clusters_are_found(planted, model, found, fit):
    """Where no single step tells them apart; clusters to spare end empty."""
    xs, label = planted
    assert found.best == 3
    predicted = model.predict(fit, xs)
    assert predicted.shape == (24,)
    assert agree(predicted, label)
    steps = np.concatenate(xs)
    density = [
        stats.norm(m, s).logpdf(steps).sum(1) for m, s in ((0.0, 1.0), (1.5, 1.0), (1.5, 2.5))
    ]
    own = np.repeat(label, [len(x) for x in xs])
    assert np.mean(np.argmax(density, 0) == own) < 0.85
    resp = model.responsibilities(fit, xs)
    assert resp.shape == (24, 5)
    np.testing.assert_allclose(resp.sum(1), 1.0, rtol=1e-12)
    terms = vx.elbo_terms(model, fit, xs)
    np.testing.assert_allclose(np.sum(model.row_bound(fit, xs)), terms["log_z"], rtol=1e-12)
    np.testing.assert_allclose(sum(terms.values()), fit.elbo, rtol=1e-12)
    assert "3 of 5 clusters have share >= 0.05" in fit.q.summary(0.05)
    x, drawn = model.sample(fit, KEY, 300, length=6)
    assert x.shape == (300, 6, 2)
    share = np.bincount(drawn, minlength=5) / 300
    np.testing.assert_allclose(share, fit.q.labels.mean, atol=0.1)
    assert model.predict(fit, xs[0]).shape == (1,)
    order = np.asarray(vx.relabel(fit).q.labels.mean)
    assert (np.diff(order) <= 0).all()
    assert vx.prune(fit, 0.05).q.labels.size == 3


def test_starts_are_of_sequences(planted, model, fit):
    """Labels, responsibilities, and random ones; of many data sets."""
    xs, label = planted
    stop = vx.Stop(tol=1e-10)
    again = vx.fit(model, xs, init=model.predict(fit, xs), stop=stop).check()
    np.testing.assert_allclose(again.elbo, fit.elbo, rtol=1e-7)
    drawn = vx.fit(model, xs, key=KEY, init="random", num_restarts=2)
    assert drawn.elbo <= fit.elbo + 1e-6
    assert np.isclose(np.sum(drawn.q.labels.counts(drawn.q.labels)), 24 + 5)
    sets, starts = [xs[:10], xs[10:]], [label[:10], label[10:]]
    many = vx.fit_many(model, sets, init=starts, stop=stop)
    for found, own in zip(many.predict(sets), starts, strict=True):
        np.testing.assert_array_equal(found, own)
    with pytest.raises(ValueError, match=re.escape("init[1]: expected one for each of 14")):
        vx.fit_many(model, sets, init=starts[:1] * 2)
    with pytest.raises(ValueError, match="init: expected one label per row"):
        vx.fit(model, xs, init=np.zeros(7, int))
    known = vx.Batch.sequences(xs, label=[np.r_[4, np.full(len(x) - 1, -1)] for x in xs])
    np.testing.assert_array_equal(model.predict(fit, known), 4)


def test_other_drivers(planted, model, fit, tmp_path):
    xs, label = planted
    start = model.responsibilities(fit, xs)
    other = vx.fit(model, xs, init=start, method=vx.Memoized(num_blocks=3)).check()
    np.testing.assert_allclose(other.elbo, fit.elbo, rtol=1e-6)
    mode = vx.fit(model, xs, init=start, method=vx.EM()).check()
    # clusters to spare are no reason for EM to end
    pairs = set(zip(np.asarray(model.predict(mode, xs)).tolist(), label.tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs})
    vx.save(tmp_path / "fit.npz", (model, fit))
    loaded, again = vx.load(tmp_path / "fit.npz")
    np.testing.assert_array_equal(loaded.predict(again, xs), model.predict(fit, xs))


def test_weights_may_be_of_a_dirichlet_process(planted):
    xs, label = planted
    weights = vx.DirichletProcess.with_prior(1.0, 1.0, 5, ordered=False)
    model = vx.SequenceMixture.from_data(xs, 5, weights=weights)
    fit = vx.fit(model, xs, init=label).check()
    assert agree(model.predict(fit, xs), label)
    assert (np.diff(fit.elbo_trace[: int(fit.n_iter)]) >= -1e-9 * abs(fit.elbo)).all()
    ordered = vx.SequenceMixture.from_data(
        xs, 5, weights=vx.StickBreaking.dirichlet_process(1.0, 5)
    )
    with pytest.raises(ValueError, match="weights: stick-breaking weights put"):
        vx.fit(ordered, xs, key=KEY)
    with pytest.raises(ValueError, match=re.escape("method: EM() does not fit a concentration")):
        vx.fit(model, xs, key=KEY, method=vx.EM())
    with pytest.raises(ValueError, match="x: rows, but SequenceMixture"):
        vx.fit(model, vx.Batch.of(xs[0]), key=KEY)
