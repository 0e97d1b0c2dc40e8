"""The bound of hidden Markov models: all paths added up, calculus, and what must change nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax.models.structured import Structured

from .oracles import hmm
from .rows import gammas
from .table import leaves_close
from .tables.emissions import CATEGORICAL, DIAG, FULL, MIXED, POISSON, STUDENT, take

D, K, LENGTHS = 2, 2, (4, 1, 3)


@functools.partial(jax.jit, static_argnames="vary")
def sweep(model, q, batch, vary=()):
    """An E-step and an update, the bound at q and what it is made of."""
    found = model.local(q.moments(), batch)
    terms = model.elbo_terms(q, batch)
    return terms["log_z"] + terms["kl"], model.update(q, found.stats), found.log_z, found.stats


@jax.jit
def begin(model, batch, resp):
    """The q of these responsibilities."""
    return model.update(model.template, model.assign(model.prior, batch, resp))


def settled(model, q, batch, times=100):
    """The q after some sweeps, none of which may lower the bound, and the bound."""
    bounds = []
    for _ in range(times):
        bound, q, *_ = sweep(model, q, batch)
        bounds.append(float(bound))
    assert (np.diff(bounds) >= -1e-9 * np.abs(bounds[1:])).all()
    return q, bounds[-1]


def arbitrary_q(rng, model, batch):
    """A q that has nothing to do with the data but what is impossible."""

    def scale(a):
        return a * jnp.asarray(rng.uniform(0.5, 2.0, size=a.shape))

    stats = sweep(model, model.prior, batch)[1]
    return model.params(jax.tree.map(scale, stats.labels), stats.components)


def concs(model):
    return (np.asarray(d.conc) for d in (model.labels.initial, model.labels.transitions))


def evidence(model, xs, emission):
    """log p(x), all paths added up; steps of NaN are missing."""
    x = np.concatenate(xs)
    seen = ~np.isnan(x).all(-1)

    def of_path(z):
        return emission.evidence(x[seen], z[seen], model.components)

    return hmm.log_evidence([len(own) for own in xs], *concs(model), of_path)


def sequences_of(rng, emission, lengths=LENGTHS):
    return [emission.rows(rng, t) for t in lengths]


def poisson_sequences(rng, lengths=LENGTHS):
    """Sequences of which the second step of the first is missing."""
    xs = sequences_of(rng, POISSON, lengths)
    xs[0][1] = np.nan
    return xs, vx.Batch.sequences(xs, missing=True)


def left_right(k, conc=1.0):
    return vx.Chain.from_standard(np.r_[conc, np.zeros(k - 1)], conc * np.triu(np.ones((k, k))))


def poisson_hmm(rng, k=K, chain=None):
    chain = chain or vx.Chain.from_standard(gammas(rng, k), gammas(rng, k, k))
    return vx.HMM(chain, POISSON.prior(rng, k))


# -- the bound ------------------------------------------------------------------------------------


@pytest.mark.parametrize("emission", [POISSON, CATEGORICAL, FULL], ids=lambda e: e.name)
def test_bound_is_below_the_evidence_and_with_one_state_equal_to_it(rng, emission):
    """Ragged sequences with a missing step; the one state is the only one switched on."""
    xs = sequences_of(rng, emission)
    xs[0][1] = np.nan
    batch = vx.Batch.sequences(xs, missing=True)
    for chain in (vx.Chain.from_standard(gammas(rng, K), gammas(rng, K, K)), left_right(K)):
        model = vx.HMM(chain, emission.prior(rng, K))
        exact = evidence(model, xs, emission)
        for _ in range(3):
            q = arbitrary_q(rng, model, batch)
            assert sweep(model, q, batch)[0] <= exact + 1e-9
        bound = settled(model, q, batch)[1]
        assert bound <= exact + 1e-9
        # nor is it trivially loose: mean field pays for k^n labellings at most
        assert bound > exact - sum(LENGTHS) * np.log(K) - 10.0
    only = vx.HMM(vx.Chain.from_standard([1.5, 0.0], np.diag([0.7, 0.0])), model.components)
    bound = settled(only, only.prior, batch, 3)[1]
    np.testing.assert_allclose(bound, evidence(only, xs, emission), rtol=1e-9)


def test_three_states_on_one_long_sequence(rng):
    x = sequences_of(rng, POISSON, (6,))
    model, batch = poisson_hmm(rng, 3), vx.Batch.sequences(x)
    exact = evidence(model, x, POISSON)
    bound = settled(model, arbitrary_q(rng, model, batch), batch)[1]
    assert exact - 6 * np.log(3) - 10.0 < bound <= exact + 1e-9


def test_bound_at_any_q_is_its_definition(rng):
    """Expected logs and entropy path by path, and draws of theta and of paths."""
    xs, batch = poisson_sequences(rng)
    weight = np.array([1.0, 2.0, 0.5])
    batch = vx.Batch.sequences(xs, weight, missing=True)
    model = poisson_hmm(rng)
    q = arbitrary_q(rng, model, batch)

    def shown(p):
        initial, transitions = (
            np.asarray(v.conc) for v in (p.labels.initial, p.labels.transitions)
        )
        each = p.components.each
        parts = {"shape": np.asarray(each.shape), "rate": np.asarray(each.rate)}
        return parts | {"initial": initial, "transitions": transitions}

    got = sweep(model, q, batch)[0]
    np.testing.assert_allclose(
        got, hmm.poisson_elbo(xs, weight, shown(q), shown(model.prior)), rtol=1e-10
    )
    mean, error = hmm.poisson_elbo_by_draws(rng, xs, weight, shown(q), shown(model.prior), 20_000)
    assert error < 0.2
    assert abs(got - mean) < 5 * error
    np.testing.assert_allclose(vx.elbo(model, q, batch), got, rtol=1e-12)
    rows = np.exp(np.asarray(q.moments().labels.transitions.log_p)).sum(-1)
    assert (rows < 1).all()


def test_a_settled_q_is_stationary(rng):
    """By automatic differentiation in all parameters of q; and a q that is none is not."""
    _, batch = poisson_sequences(rng)
    model = poisson_hmm(rng)

    @jax.jit
    def slope(q):
        return jax.grad(lambda q: sum(model.elbo_terms(q, batch).values()))(q)

    start = arbitrary_q(rng, model, batch)
    q = settled(model, start, batch, 400)[0]
    for leaf, before in zip(jax.tree.leaves(slope(q)), jax.tree.leaves(slope(start)), strict=True):
        np.testing.assert_allclose(leaf, 0.0, atol=1e-7)
        assert np.abs(before).max() > 1e-3


# -- labels x components --------------------------------------------------------------------------


@vx.pytree
class Independent(Structured):
    """The least that a model of independent labels needs."""

    labels: vx.Weights
    components: vx.Emission
    switch = None
    improper = False
    names = None
    params = vx.HMM.params

    def as_batch(self, data):
        return data


@jax.jit
def e_steps(models, moments, batches):
    return [m.local(q, b) for m, q, b in zip(models, moments, batches, strict=True)]


@pytest.mark.parametrize("emission", [DIAG, STUDENT, MIXED], ids=lambda e: e.name)
def test_independent_labels_are_a_mixture(rng, emission):
    """Also a chain with sequences of one step, and steps of sequences, which are all rows."""
    x, n, k = emission.rows(rng, 12), 12, 3
    weight = rng.uniform(0.5, 2.0, size=n)
    prior = vx.Dirichlet.from_standard(gammas(rng, k))
    own = emission.prior(rng, k)
    mixture, alone = vx.Mixture(prior, own), Independent(prior, own)
    chain = vx.HMM(vx.Chain.from_standard(prior.conc, gammas(rng, k, k)), own)
    rows = vx.Batch.of(x, weight)
    ones = vx.Batch.sequences([take(x, slice(i, i + 1)) for i in range(n)], weight)
    steps = vx.Batch.sequences(x)
    one = jnp.ones_like(rows.weight)
    models = (mixture, alone, chain, alone, mixture)
    data = (rows, rows, ones, steps, vx.Batch.of(x, one))
    moments = [m.start_moments(m.prior) for m in models]
    first, second, third, whole, plain = e_steps(models, moments, data)
    for found in (second, third):
        np.testing.assert_allclose(found.log_z, first.log_z, rtol=1e-12)
        leaves_close(
            found.stats.components.about(first.stats.components), first.stats.components, 1e-9, 1e-9
        )
    np.testing.assert_allclose(second.stats.labels.conc, first.stats.weights.conc, rtol=1e-12)
    np.testing.assert_allclose(
        third.stats.labels.initial.conc, first.stats.weights.conc, rtol=1e-12
    )
    np.testing.assert_array_equal(third.stats.labels.transitions.conc, 0.0)
    np.testing.assert_allclose(whole.log_z, [plain.log_z.sum()], rtol=1e-12)
    leaves_close(
        whole.stats.components.about(plain.stats.components), plain.stats.components, 1e-9, 1e-9
    )


# -- what must change nothing ---------------------------------------------------------------------


def same(a, b, rtol=1e-11):
    """Equal bounds, updates and statistics; log_z of the sequences that both have."""
    np.testing.assert_allclose(a[0], b[0], rtol=rtol)
    leaves_close(a[1], b[1], rtol, 1e-11)
    n = min(len(a[2]), len(b[2]))
    np.testing.assert_allclose(a[2][:n], b[2][:n], rtol=rtol)


def padded(x, weight, steps, **more):
    """A Batch of these arrays, whatever steps that do not exist hold."""
    batch = vx.Batch(jnp.asarray(x), jnp.asarray(weight), steps=jnp.asarray(steps), **more)
    return vx.Batch.of(batch)


def test_padding_and_absence(rng):
    """Steps and sequences of weight 0: no bit whatever they hold, and rounding in other shapes."""
    xs, batch = poisson_sequences(rng, (5, 2, 3))
    model = poisson_hmm(rng)
    q = arbitrary_q(rng, model, batch)
    plain = sweep(model, q, batch)
    n, t = batch.steps.shape
    x, steps = np.asarray(batch.x), np.asarray(batch.steps)
    mask = np.asarray(batch.mask)

    def more(junk, label=None):
        held = np.full((n + 2, t + 3, D), junk)
        held[:n, :t] = np.where(steps[..., None] > 0, x, junk)
        seen = np.zeros((n + 2, t + 3, D), bool)
        seen[:n, :t] = mask
        seen[:, t:] = True
        counts = np.zeros((n + 2, t + 3))
        counts[:n, :t] = steps
        counts[n:, :2] = 1.0
        weight = np.r_[np.ones(n), 0.0, 0.0]
        return sweep(model, q, padded(held, weight, counts, mask=jnp.asarray(seen)))

    first = more(0.0)
    same(first, plain)
    for junk in (7.0, 1e300, np.nan, np.inf):
        for a, b in zip(jax.tree.leaves(more(junk)), jax.tree.leaves(first), strict=True):
            np.testing.assert_array_equal(a, b)
    # a last step without an observed entry does not exist
    longer = [np.concatenate([own, np.full((1 + (i == 0), D), np.nan)]) for i, own in enumerate(xs)]
    ends = vx.Batch.sequences(longer, missing=True)
    assert ends.steps.shape == (n, t + 2)
    same(sweep(model, q, ends), plain)


def test_a_missing_step_is_the_sum_over_what_it_could_be(rng):
    """Of a flag at a point: both its values, added up."""
    k, t = 2, 4
    x = rng.integers(2, size=(t, 1)).astype(float)
    chain = vx.Chain.from_standard(gammas(rng, k), gammas(rng, k, k))
    model = vx.HMM(chain, vx.BetaBernoulli.from_standard(gammas(rng, k, 1), gammas(rng, k, 1)))
    each = []
    for value in (0.0, 1.0, np.nan):
        y = x.copy()
        y[2] = value
        batch = vx.Batch.sequences([y, y], missing=True)
        batch = batch if batch.mask is not None else batch
        each.append(float(model.log_likelihood(model.prior, batch)[0]))
    np.testing.assert_allclose(np.logaddexp(*each[:2]), each[2], rtol=1e-12)


def test_known_labels_are_conditions(rng):
    """The sum over the paths that have them; and forbidden transitions stay so for ever."""
    x = sequences_of(rng, POISSON, (5,))[0]
    k = 3
    model = poisson_hmm(rng, k, left_right(k))
    label = np.array([-1, -1, 1, -1, 2])
    free, known = vx.Batch.sequences([x]), vx.Batch.sequences([x], label=[label])
    q = arbitrary_q(rng, model, free)
    moments = q.moments()
    log_lik = np.asarray(moments.components.likelihood(free.flat())[0])
    told = np.where((label >= 0)[:, None] & (label[:, None] != np.arange(k)), -np.inf, log_lik)
    logs = (np.asarray(m.log_p) for m in (moments.labels.initial, moments.labels.transitions))
    log_z, resp, _, pairs = hmm.smoothed(*logs, told)
    _, new, got, stats = sweep(model, q, known)
    np.testing.assert_allclose(got, [log_z], rtol=1e-11)
    np.testing.assert_allclose(stats.labels.transitions.conc, pairs, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(stats.components.each.rate[:, 0], resp.sum(0), rtol=1e-10)
    new, _ = settled(model, q, known, 20)
    for p in (new, model.update(q, model.assign(q, free, jnp.full((1, 5, k), 1 / k)))):
        off = np.tril(np.ones((k, k)), -1) > 0
        assert (np.asarray(p.labels.transitions.conc)[off] == 0).all()
        assert (np.asarray(p.labels.initial.conc)[1:] == 0).all()
        assert (np.asarray(p.labels.transitions.mean)[off] == 0).all()


def test_switched_off_states_change_nothing(rng):
    xs, batch = poisson_sequences(rng)
    two = vx.HMM.from_data(batch, 2, emission="poisson", stay=2.0)
    three = vx.HMM.from_data(batch, 2, emission="poisson", stay=2.0, k_max=3)
    assert three.num_components == 3
    np.testing.assert_array_equal(three.active, [True, True, False])
    resp = rng.dirichlet(np.ones(2), size=batch.steps.shape)
    more = np.concatenate([resp, np.zeros_like(resp[..., :1])], -1)
    q, wide = (
        m.update(m.prior, m.assign(m.prior, batch, jnp.asarray(r)))
        for m, r in ((two, resp), (three, more))
    )
    for _ in range(3):
        bound, q, log_z, _ = sweep(two, q, batch)
        other, wide, own, _ = sweep(three, wide, batch)
        np.testing.assert_allclose(other, bound, rtol=1e-12)
        np.testing.assert_allclose(own, log_z, rtol=1e-12)
    np.testing.assert_array_equal(wide.labels.transitions.conc[2], 0.0)
    np.testing.assert_array_equal(wide.labels.transitions.conc[:, 2], 0.0)
    np.testing.assert_allclose(three.labels.mean, [0.5, 0.5, 0.0], rtol=1e-12)


def test_a_step_that_counts_twice_is_two_rows_of_one_state(rng):
    """`steps` of 2: the likelihood of the step is squared, as the statistics count it twice."""
    x = sequences_of(rng, POISSON, (3,))[0]
    steps = np.array([[1.0, 2.0, 1.0]])
    model = poisson_hmm(rng)
    batch = padded(x[None], np.ones(1), steps)
    q = arbitrary_q(rng, model, batch)
    moments = q.moments()
    log_lik = np.asarray(moments.components.likelihood(batch.flat())[0]) * steps.T
    logs = (np.asarray(m.log_p) for m in (moments.labels.initial, moments.labels.transitions))
    np.testing.assert_allclose(sweep(model, q, batch)[2], [hmm.smoothed(*logs, log_lik)[0]])
    settled(model, q, batch, 30)


def test_shares_are_of_steps(rng):
    """The expected share of each state among all steps of sequences as long as those seen."""
    k, n, t = 3, 4000, 6
    model = poisson_hmm(rng, k)
    states = np.asarray(model.labels.simulate(model.labels.point(), jax.random.key(1), (n, t)))
    first = np.bincount(states[:, 0], minlength=k).astype(float)
    pairs = np.zeros((k, k))
    np.add.at(pairs, (states[:, :-1], states[:, 1:]), 1.0)
    seen = vx.Chain.from_standard(first, pairs)
    share = np.bincount(states.ravel(), minlength=k) / states.size
    np.testing.assert_allclose(seen.mean, share, atol=0.01)


@pytest.mark.float32
def test_long_sequences_in_either_precision():
    """Far from zero; the bound never falls, and is that of NumPy in float64 at the same point."""
    rng = np.random.default_rng(8)
    t, d = 3000, 2
    states = np.cumsum(rng.random(t) < 0.05) % 2
    x = 1e3 + 3.0 * states[:, None] + rng.normal(size=(t, d))
    model = vx.HMM.from_data(x, K, covariance="diag", stay=10.0)
    start = np.where(rng.random(t) < 0.3, 1 - states, states)
    fit = vx.fit(model, x, init=start, stop=vx.Stop(tol=1e-5)).check()
    point = fit.q.point()
    mean, variance = (
        np.asarray(a, np.float64) for a in (fit.q.components.mean, point.components.covariance)
    )
    variance = np.diagonal(variance, axis1=-2, axis2=-1) if variance.ndim == 3 else variance
    z = (x[:, None] - mean) ** 2 / variance
    log_lik = -0.5 * (z + np.log(2 * np.pi * variance)).sum(-1)
    logs = (
        np.asarray(m.log_p, np.float64) for m in (point.labels.initial, point.labels.transitions)
    )
    exact = hmm.forward(*logs, log_lik)
    error = 1e-9 if jax.config.jax_enable_x64 else 5e-6
    np.testing.assert_allclose(model.log_likelihood(fit, x), [exact], rtol=error)
    assert (np.asarray(model.path(fit, x)) == states).mean() > 0.95
    assert fit.elbo < exact
