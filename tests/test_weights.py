"""Stick-breaking weights, a Dirichlet process with unknown concentration, and permuted ones."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp, xlogy

import vijax as vx
from vijax.families.weights.dirichlet_process import DirichletProcess
from vijax.families.weights.permuted import PermutedWeights
from vijax.families.weights.stick_breaking import StickBreaking

from . import data
from .oracles import weights as oracle
from .table import leaves_close

SHAPE, RATE = 2.0, 1.5
PRIORS = {
    "truncated": lambda k, **kw: StickBreaking.dirichlet_process(1.3, k, **kw),
    "infinite": lambda k, **kw: StickBreaking.dirichlet_process(1.3, k, truncated=False, **kw),
    "pitman_yor": lambda k, **kw: StickBreaking.pitman_yor(0.7, 0.3, k, truncated=False, **kw),
    "pitman_yor_truncated": lambda k, **kw: StickBreaking.pitman_yor(0.7, 0.3, k, **kw),
    "process": lambda k, **kw: DirichletProcess.with_prior(SHAPE, RATE, k, **kw),
    "process_infinite": lambda k, **kw: DirichletProcess.with_prior(
        SHAPE, RATE, k, truncated=False, **kw
    ),
}
STICKS = [name for name in PRIORS if not name.startswith("process")]
PROCESSES = [name for name in PRIORS if name.startswith("process")]


def sticks_of(prior):
    """a and b of the sticks that are on, for the oracle."""
    on = np.asarray(prior.drawn)
    return np.asarray(prior.a)[on], np.asarray(prior.b)[on]


def log_prob_of(prior):
    """log p(z) as a function of counts, exactly."""
    if isinstance(prior, DirichletProcess):
        num_sticks = int(prior.sticks.drawn.sum())
        return lambda counts: oracle.log_prob_process(counts, SHAPE, RATE, num_sticks)
    return lambda counts: oracle.log_prob_sticks(counts, *sticks_of(prior))


@jax.jit
def _posterior(prior, counts):
    return prior.update(prior, prior.observe(counts))


def posterior(prior, counts):
    """q after rows with known labels."""
    return _posterior(prior, jnp.asarray(counts))


@jax.jit
def log_ratio(q, prior):
    return q.log_ratio(prior)


def settled(prior, counts, sweeps=200):
    """The same for a process, q(v) and q(alpha) at their joint optimum."""
    stats_ = prior.observe(jnp.asarray(counts))
    return jax.lax.fori_loop(0, sweeps, lambda _, q: prior.update(q, stats_), prior)


# -- p(z) -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STICKS)
def test_evidence_of_counts_is_the_closed_form_and_that_of_draws(name, rng):
    prior, counts = PRIORS[name](4), np.array([2.0, 0.0, 3.0, 1.0])
    expected = oracle.log_prob_sticks(counts, *sticks_of(prior))
    np.testing.assert_allclose(log_ratio(posterior(prior, counts), prior), expected, rtol=1e-10)
    drawn, error = oracle.monte_carlo_log_prob(rng, counts, *sticks_of(prior), num_draws=200_000)
    assert abs(drawn - expected) < 5 * error


def test_evidence_of_counts_under_a_dirichlet():
    prior, counts = vx.Dirichlet.from_standard([0.5, 2.0, 1.0]), np.array([4.0, 0.0, 2.0])
    expected = oracle.log_prob_dirichlet(counts, np.array([0.5, 2.0, 1.0]))
    np.testing.assert_allclose(log_ratio(posterior(prior, counts), prior), expected, rtol=1e-10)


def test_two_truncated_sticks_are_beta_bernoulli():
    prior = StickBreaking.dirichlet_process(2.5, 2)
    q = posterior(prior, [7.0, 4.0])
    exact = stats.beta(8.0, 6.5)
    np.testing.assert_allclose(q.mean, [exact.mean(), 1 - exact.mean()], rtol=1e-12)
    np.testing.assert_allclose(q.sd, [exact.std(), exact.std()], rtol=1e-10)
    np.testing.assert_allclose(q.entropy(), exact.entropy(), rtol=1e-10)
    np.testing.assert_allclose(q.log_prob(jnp.array([0.3, 0.7])), exact.logpdf(0.3), rtol=1e-10)


def test_matching_sticks_are_a_dirichlet(rng, key):
    """b_t = sum_{j>t} a_j (Connor & Mosimann 1969): every result agrees."""
    conc = rng.gamma(2.0, size=5) + 1.5
    later = np.cumsum(conc[::-1])[::-1] - conc
    on = np.arange(5) < 4
    q = StickBreaking.from_standard(np.where(on, conc, 0.0), np.where(on, later, 0.0))
    p = vx.Dirichlet.from_standard(conc)
    value = p.sample(key, (3,))
    np.testing.assert_allclose(q.log_prob(value), p.log_prob(value), rtol=1e-9)
    for read in (
        lambda w: w.mean,
        lambda w: w.sd,
        lambda w: w.mode(),
        lambda w: w.entropy(),
        lambda w: w.moments().log_p,
        lambda w: w.point().log_p,
    ):
        np.testing.assert_allclose(read(q), read(p), rtol=1e-9)


def test_discount_zero_is_the_dirichlet_process():
    one = StickBreaking.pitman_yor(1.3, 0.0, 5, truncated=False)
    two = StickBreaking.dirichlet_process(1.3, 5, truncated=False)
    np.testing.assert_array_equal(one.a, two.a)
    np.testing.assert_array_equal(one.b, two.b)


@pytest.mark.parametrize("discount", [0.0, 0.2])
def test_infinite_evidence_grows_to_the_chinese_restaurant(discount):
    """p(partition) is the sum over all labels that give it; z <= T leaves out some."""
    sizes, alpha, totals = (2, 1), 0.6, []
    for size in (2, 8, 48):
        prior = StickBreaking.pitman_yor(alpha, discount, size, truncated=False)
        counts = np.zeros((size * (size - 1), size))
        for row, labels in enumerate(itertools.permutations(range(size), 2)):
            counts[row, list(labels)] = sizes
        each = jax.jit(jax.vmap(lambda c, p=prior: _posterior(p, c).log_ratio(p)))(counts)
        totals.append(logsumexp(np.asarray(each)))
    exact = oracle.log_prob_partition(sizes, alpha, discount)
    assert (np.diff(totals) > 0).all()
    assert totals[-1] < exact + 1e-12
    # what is left out has a power law where there is a discount
    assert exact - totals[-1] < (1e-9 if discount == 0 else 1e-2)


def test_probabilities_of_all_partitions_sum_to_one():
    partitions = {(4,): 1, (3, 1): 4, (2, 2): 3, (2, 1, 1): 6, (1, 1, 1, 1): 1}
    logs = [oracle.log_prob_partition(s, 0.6, 0.2) + np.log(n) for s, n in partitions.items()]
    np.testing.assert_allclose(logsumexp(logs), 0.0, atol=1e-12)


# -- what is on -----------------------------------------------------------------------------------


def test_which_components_are_on():
    truncated = StickBreaking.dirichlet_process(1.0, 3)
    infinite = StickBreaking.dirichlet_process(1.0, 3, truncated=False)
    np.testing.assert_array_equal(truncated.drawn, [True, True, False])
    for prior in (truncated, infinite):
        np.testing.assert_array_equal(prior.on, [True] * 3)
        padded = prior.pad(5)
        np.testing.assert_array_equal(padded.on, [True] * 3 + [False] * 2)
        np.testing.assert_array_equal(padded.moments().log_p[3:], [-jnp.inf] * 2)
        np.testing.assert_allclose(padded.mean, [*prior.mean, 0.0, 0.0], rtol=1e-12)
        np.testing.assert_allclose(padded.sd, [*prior.sd, 0.0, 0.0], rtol=1e-12)
        q = posterior(padded, [5.0, 2.0, 1.0, 0.0, 0.0])
        np.testing.assert_array_equal(q.drawn, padded.drawn)
        np.testing.assert_allclose(
            log_ratio(q, padded), log_ratio(posterior(prior, [5.0, 2.0, 1.0]), prior), rtol=1e-12
        )
    np.testing.assert_allclose(jnp.sum(truncated.mean), 1.0, rtol=1e-12)
    np.testing.assert_allclose(jnp.sum(infinite.mean), 1.0 - 0.5**3, rtol=1e-12)


def test_one_component_has_all_the_weight(key):
    prior = StickBreaking.dirichlet_process(1.0, 1)
    q = posterior(prior, [4.0])
    np.testing.assert_array_equal(q.mean, [1.0])
    np.testing.assert_array_equal(q.sd, [0.0])
    np.testing.assert_array_equal(q.sample(key, (2,)), [[1.0], [1.0]])
    assert float(q.kl(prior)) == 0.0
    assert float(q.log_ratio(prior)) == 0.0


@pytest.mark.parametrize("truncated", [True, False])
def test_gradients_are_finite_where_sticks_are_off(truncated, key):
    def everything(alpha):
        prior = StickBreaking.dirichlet_process(alpha, 3, truncated=truncated).pad(5)
        q = posterior(prior, [5.0, 2.0, 1.0, 0.0, 0.0])
        values = q.kl(prior), q.entropy(), q.mean, q.sd, q.sample(key), q.moments().mean
        values += q.point().mean, q.kernel_gap(prior.point()), q.log_prob(prior.mean)
        return sum(jnp.sum(v) for v in values)

    value, slope = jax.jit(jax.value_and_grad(everything))(jnp.asarray(1.3))
    assert np.isfinite(value)
    assert np.isfinite(slope)


@pytest.mark.float32
def test_float32_keeps_small_weights(key):
    prior = StickBreaking.dirichlet_process(jnp.float32(1.0), 40, truncated=False)
    q = posterior(prior, jnp.concatenate([jnp.full(1, 1e6), jnp.zeros(39)]).astype(jnp.float32))
    for found in (q.mean, q.sd, q.sample(key), jnp.exp(q.moments().log_p)):
        assert found.dtype == jnp.float32
        assert np.isfinite(found).all()
        assert (np.asarray(found)[:20] > 0).all()
    exact = 1e-6 * 0.5 ** np.arange(1, 20)
    np.testing.assert_allclose(q.mean[1:20], exact, rtol=1e-4)


# -- order ----------------------------------------------------------------------------------------


def both_bounds(prior, counts):
    """What sweeps of CAVI and of EM make of counts in this order."""
    q = posterior(prior, counts)
    a, b = (np.asarray(v)[np.asarray(q.drawn)] for v in (q.a, q.b))
    return float(log_ratio(q, prior)), np.sum(xlogy(a, a / (a + b)) + xlogy(b, b / (a + b)))


@jax.jit
def _arranged(prior, counts):
    return prior.arrange(prior, prior.observe(counts))


def arranged(prior, counts):
    return np.asarray(_arranged(prior, jnp.asarray(counts)))


@pytest.mark.parametrize("name", STICKS)
def test_sorting_raises_both_bounds_of_a_process(name, rng):
    prior = PRIORS[name](5).pad(6)
    for _ in range(5):
        counts = np.append(rng.gamma(0.5, size=4) * 20, [0.0, 0.0])
        order = arranged(prior, counts)
        np.testing.assert_array_equal(order, np.argsort(-counts, kind="stable"))
        old, new = both_bounds(prior, counts), both_bounds(prior, counts[order])
        assert (np.array(new) >= np.array(old) - 1e-10).all()


def test_no_order_lowers_a_bound(rng):
    """Of any sticks: those sorted are the better ones in both senses, all others stay."""
    moved = 0
    for _ in range(40):
        a, b = rng.gamma(0.7, size=(2, 4)) + 0.05
        prior = StickBreaking.from_standard(a, b, truncated=False)
        counts = rng.gamma(0.5, size=4) * 10
        order = arranged(prior, counts)
        best = np.argsort(-counts, kind="stable")
        gain = np.array(both_bounds(prior, counts[best])) - np.array(both_bounds(prior, counts))
        expected = best if (gain > 1e-9).all() else np.arange(4)
        np.testing.assert_array_equal(order, expected)
        moved += (order != np.arange(4)).any()
    assert 0 < moved < 40


@pytest.mark.float32
def test_order_is_resolved_at_many_rows_and_ties_stay():
    prior = StickBreaking.dirichlet_process(jnp.float32(1.0), 4)

    def order(*counts):
        return arranged(prior, np.array(counts, np.float32)).tolist()

    assert order(5e6, 1e6, 1.2e6, 10.0) == [0, 2, 1, 3]
    assert order(1e6, 1e6, 1e6, 0.0) == [0, 1, 2, 3]
    assert order(1e6, 1e6 + 0.0625, 3.0, 0.0) == [0, 1, 2, 3]  # rounding


# -- the concentration ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROCESSES)
def test_process_kl_is_the_divergence_at_any_q(name, key):
    prior = PRIORS[name](4)
    q = settled(prior, [6.0, 3.0, 2.0, 0.0], sweeps=1)
    q = type(q)(q.sticks + q.sticks * 0.7, q.concentration * 1.3, q.ordered)
    draws = q.sample(key, (100_000,))
    pi, alpha = np.asarray(draws["sticks"]), np.asarray(draws["concentration"])
    left, log_p = np.ones(len(alpha)), stats.gamma.logpdf(alpha, SHAPE, scale=1 / RATE)
    for t in range(int(prior.sticks.drawn.sum())):
        log_p += stats.beta.logpdf(pi[:, t] / left, 1.0, alpha) - np.log(left)
        left = left - pi[:, t]
    gap = np.asarray(q.log_prob(draws)) - log_p
    assert abs(gap.mean() - float(prior.kl_from(q))) < 5 * gap.std() / np.sqrt(len(gap))


@pytest.mark.parametrize("name", PROCESSES)
def test_process_update_is_the_best_of_each_factor(name):
    """The bound of known labels, E[log p(z | v)] - KL, has no slope in either factor."""
    prior, counts = PRIORS[name](4), jnp.array([6.0, 3.0, 2.0, 1.0])
    start = settled(prior, counts[::-1], sweeps=1)
    q = prior.update(start, prior.observe(counts))

    def bound(sticks, concentration):
        q_ = type(q)(sticks, concentration, q.ordered)
        return counts @ q_.moments().log_p - prior.kl_from(q_)

    slope = jax.jit(jax.grad(lambda s: bound(s, start.concentration)))(q.sticks)
    for leaf in jax.tree.leaves(slope):
        np.testing.assert_allclose(leaf, 0.0, atol=1e-9)
    slope = jax.jit(jax.grad(lambda c: bound(q.sticks, c)))(q.concentration)
    for leaf in jax.tree.leaves(slope):
        np.testing.assert_allclose(leaf, 0.0, atol=1e-9)
    assert float(bound(q.sticks, q.concentration)) > float(bound(q.sticks, start.concentration))


@pytest.mark.parametrize("name", PROCESSES)
def test_process_bounds_the_evidence_of_counts(name):
    prior, counts = PRIORS[name](4), np.array([6.0, 3.0, 2.0, 0.0])
    q = settled(prior, counts)
    bound = jnp.asarray(counts) @ q.moments().log_p - prior.kl_from(q)
    exact = log_prob_of(prior)(counts)
    assert exact - 0.3 < float(bound) < exact


def test_certain_concentration_is_the_plain_process():
    sure = DirichletProcess.with_prior(1e8, 1e8 / 1.3, 4)
    plain = StickBreaking.dirichlet_process(1.3, 4)
    q, p = posterior(sure, [6.0, 3.0, 2.0, 0.0]), posterior(plain, [6.0, 3.0, 2.0, 0.0])
    np.testing.assert_allclose(q.mean, p.mean, rtol=1e-6)
    np.testing.assert_allclose(sure.kl_from(q), plain.kl_from(p), rtol=1e-5)


# -- permuted -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(PRIORS))
def test_permuted_reads_the_same_weights_elsewhere(name, key):
    q = posterior(PRIORS[name](4), [6.0, 3.0, 2.0, 1.0])
    order = np.array([2, 0])
    r = q.take([3, 2, 0]).take([1, 2])
    assert isinstance(r, PermutedWeights)
    assert r.size == 2
    sticks = getattr(q, "sticks", q)
    for read in (
        lambda w: w.mean,
        lambda w: w.sd,
        lambda w: w.on,
        lambda w: w.moments().log_p,
        lambda w: w.point().log_p,
        lambda w: w.sample(key, (5,)),
    ):
        np.testing.assert_allclose(read(r), read(sticks)[..., order], rtol=1e-12)


# -- whole fits -----------------------------------------------------------------------------------


@functools.cache
def fitted(name, **options):
    x, labels = three_clusters()
    model = vx.GaussianMixture.from_data(x, 6, weights=PRIORS[name](6))
    key = jax.random.key(0)
    return model, x, labels, vx.fit(model, x, key=key, num_restarts=4, **options)


def never_falls(result):
    """Over all iterations of all restarts; NaN after the last."""
    trace = np.asarray(result.runs.elbo_trace)
    return not (np.diff(trace) < -1e-9 * np.abs(trace[:, 1:])).any()


@functools.cache
def three_clusters():
    rng = np.random.default_rng(7)
    labels = np.repeat([0, 1, 2], [20, 60, 40])
    means = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    return means[labels] + rng.normal(size=(120, 2)), labels


@pytest.mark.parametrize("name", list(PRIORS))
def test_fit_finds_clusters_sorted_by_size(name):
    model, x, labels, result = fitted(name)
    assert result.check().converged
    mean = np.asarray(result.q.weights.mean)
    # the last component of a truncated process takes all the rest
    assert (np.diff(mean[: 5 if "infinite" not in name else 6]) < 1e-12).all()
    found = np.asarray(model.predict(result.q, x))
    np.testing.assert_array_equal(found, np.array([2, 0, 1])[labels])
    assert never_falls(result)
    # the bound of the result is that of its own responsibilities, up to tolerance
    resp = model.responsibilities(result.q, x)
    np.testing.assert_allclose(model.elbo(result.q, x, resp), result.elbo, rtol=1e-9)


def test_what_users_read_of_a_fit(key):
    model, x, _, result = fitted("process_infinite")
    for q in (result.q, result.q.take(jnp.array([1, 0, 2]))):
        assert "3 of" in q.summary()
        assert np.isfinite(model.log_predictive(q, x)).all()
        rows, label = model.sample(q, key, 50)
        assert np.isfinite(rows).all()
        assert set(np.unique(label)) <= {0, 1, 2, 3, 4, 5}
        np.testing.assert_array_equal(q.moments().weights.log_p.shape, q.weights.mean.shape)
        assert np.isfinite(model.log_likelihood(q, x)).all()
        drawn = model.sample_parameters(q, key, (3,))
        assert set(drawn) - {"concentration"} == {"weights", "means", "covariances"}
        assert ("concentration" in drawn) == (q is result.q)
    first, second = (
        np.asarray(model.predict(q, x)) for q in (result.q, result.q.take(jnp.array([1, 0, 2])))
    )
    np.testing.assert_array_equal(np.array([1, 0, 2])[first], second)


@pytest.mark.filterwarnings("ignore:only 1 of 3 restarts")
@pytest.mark.parametrize("name", ["truncated", "pitman_yor"])
def test_em_climbs(name, key):
    x, _ = three_clusters()
    model = vx.GaussianMixture.from_data(x, 5, weights=PRIORS[name](5))
    result = vx.fit(model, x, key=key, init="random", method=vx.EM(), num_restarts=3)
    assert result.check().converged
    assert never_falls(result)


def test_em_refuses_an_unknown_concentration(key):
    x, _ = three_clusters()
    model = vx.GaussianMixture.from_data(x, 5, weights=PRIORS["process"](5))
    with pytest.raises(ValueError, match="method"):
        vx.fit(model, x, key=key, method=vx.EM())


def test_unordered_leaves_components_where_they_are(key):
    x, labels = three_clusters()
    start = {"init": np.array([2, 1, 0])[labels], "key": key}
    found = {}
    for ordered in (True, False):
        prior = StickBreaking.dirichlet_process(1.0, 3, ordered=ordered)
        model = vx.GaussianMixture.from_data(x, 3, weights=prior)
        result = vx.fit(model, x, **start).check()
        found[ordered] = np.asarray(result.q.weights.mean), float(result.elbo)
    np.testing.assert_array_equal(np.argsort(-found[True][0]), [0, 1, 2])
    np.testing.assert_array_equal(np.argsort(-found[False][0]), [1, 0, 2])
    assert found[True][1] > found[False][1]


@jax.jit
def _steps(model, q, stats, rate):
    return model.update(q, stats), model.update(q, stats, rate), model.combine(q, stats, rate)


def _statistics(name):
    """Of three clusters, smallest first, in six components; a q about other means."""
    x, labels = three_clusters()
    model = vx.GaussianMixture.from_data(x, 6, weights=PRIORS[name](6))
    batch = vx.Batch.of(x)
    soft = jnp.asarray(0.7 * np.eye(6)[np.array([0, 2, 1])[labels]] + 0.05)

    @jax.jit
    def both(model, batch):
        q = model.combine(model.prior, model.assign(model.prior, batch, soft[:, ::-1]))
        return q, model.assign(q, batch, soft)

    return model, *both(model, batch)


def total_bound(model, q, stats):
    """E_q[log p(x, z, theta) / q(theta)] of rows with these statistics, up to a constant."""
    return model.expected_log_lik(q, stats) - model.kl(q)


@pytest.mark.parametrize("name", list(PRIORS))
def test_a_rate_leads_from_q_to_the_update(name):
    """One is the update, zero is q, and between the two the bound of the statistics rises."""
    model, q, stats = _statistics(name)
    whole, one, combined = _steps(model, q, stats, jnp.asarray(1.0))
    leaves_close(combined, model.combine(q, stats), rtol=1e-12)
    leaves_close(one, combined, rtol=0.0)
    leaves_close(model.update(q, stats, 1.0), whole, rtol=1e-12)
    # the smallest cluster comes first, and only the whole update sorts
    assert np.argmax(model.weights.counts(combined.weights)) == 2
    assert np.argmax(model.weights.counts(whole.weights)) == 0
    for none in _steps(model, q, stats, jnp.asarray(0.0))[1:]:
        leaves_close(none.about(q), q, rtol=1e-9, atol=1e-9)
    # of coupled blocks only a whole sweep, and a small step, must raise it
    rates = [0.0, 0.02, 0.05, 0.1] + ([] if name in PROCESSES else [0.3, 0.7, 1.0])
    steps = [_steps(model, q, stats, jnp.asarray(rate))[1] for rate in rates]
    assert (np.diff([total_bound(model, step, stats) for step in steps]) > 0).all()


def test_a_learned_concentration_by_minibatches(key):
    """Ten rows of a thousand at a time for 60 passes: within 0.1 nats of CAVI, q(alpha) too."""
    x, labels = data.clusters(np.random.default_rng(0), n=1000, k=3, separation=5.0)
    weights = PRIORS["process"](5, ordered=False)
    model = vx.GaussianMixture.from_data(x, 5, weights=weights)
    exact = vx.fit(model, x, init=labels, stop=vx.Stop(tol=1e-9)).check()
    method = vx.SVI(batch_size=10, rate=vx.RobbinsMonro(delay=10.0, forgetting=0.9))
    stop = vx.Stop(tol=0.0, max_iter=60)
    found = vx.fit(model, x, key=key, init=labels, method=method, stop=stop)
    assert 0.0 <= exact.elbo - found.elbo < 0.1
    own, other = (fit.q.weights.concentration.mean for fit in (exact, found))
    np.testing.assert_allclose(other, own, rtol=0.01)


def test_room_for_more_components_changes_nothing(key):
    x, labels = three_clusters()
    for build in (PRIORS["truncated"], PRIORS["process_infinite"]):
        one = vx.GaussianMixture.from_data(x, 3, weights=build(3))
        two = vx.GaussianMixture.from_data(x, 3, weights=build(3), k_max=5)
        np.testing.assert_array_equal(two.weights.on, two.active)
        a, b = (vx.fit(model, x, init=labels).check() for model in (one, two))
        np.testing.assert_allclose(b.elbo, a.elbo, rtol=1e-10)
        np.testing.assert_allclose(b.q.weights.mean[:3], a.q.weights.mean, rtol=1e-6)


@pytest.mark.parametrize("name", list(PRIORS))
def test_bound_is_below_the_exact_evidence(name, rng, key):
    """Sum over all assignments of 6 rows to 3 components."""
    x = data.clusters(rng, n=6, d=2, k=2)[0]
    one = data.random_prior(rng, k=1, d=2)
    same = {part: np.repeat(one[part], 3, 0) for part in ("mean", "kappa", "df", "scatter")}
    prior = PRIORS[name](3)
    model = vx.GaussianMixture.with_prior(3, weights=prior, **same)
    exact = oracle.log_evidence(x, same, log_prob_of(prior))
    result = vx.fit(model, x, key=key)
    assert result.check().elbo < exact
    assert exact - float(result.elbo) < 10.0


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: StickBreaking.dirichlet_process(0.0, 3), "concentration"),
        (lambda: StickBreaking.dirichlet_process(1.0, 0), "num_components"),
        (lambda: StickBreaking.pitman_yor(-0.3, 0.2, 3), "concentration"),
        (lambda: StickBreaking.pitman_yor(1.0, 1.0, 3), "discount"),
        (lambda: StickBreaking.pitman_yor(1.0, -0.1, 3), "discount"),
        (lambda: StickBreaking.from_standard([1.0, -1.0], [1.0, 1.0]), "a:"),
        (lambda: StickBreaking.from_standard([1.0, 1.0], [1.0, 0.0]), "b:"),
        (lambda: StickBreaking.from_standard([1.0, 0.0, 1.0], [1.0, 0.0, 1.0]), "a:"),
        (lambda: StickBreaking.from_standard([1.0, 1.0], [1.0, 1.0]), "truncated"),
        (lambda: DirichletProcess.with_prior(0.0, 1.0, 3), "shape"),
        (lambda: DirichletProcess.with_prior(1.0, np.nan, 3), "rate"),
    ],
)
def test_refusals_name_the_argument(build, match):
    with pytest.raises(ValueError, match=match):
        build()


def test_number_of_components_must_be_an_integer():
    with pytest.raises(TypeError, match="num_components"):
        StickBreaking.dirichlet_process(1.0, 3.0)


def test_labels_need_weights_without_order(key):
    x, labels = three_clusters()
    batch = vx.Batch.of(x, label=labels)
    model = vx.GaussianMixture.from_data(x, 3, weights=PRIORS["truncated"](3))
    with pytest.raises(ValueError, match="label"):
        vx.fit(model, batch, key=key)
    model = vx.GaussianMixture.from_data(x, 3, weights=PRIORS["truncated"](3, ordered=False))
    result = vx.fit(model, batch, key=key).check()
    np.testing.assert_array_equal(model.predict(result.q, x), labels)
