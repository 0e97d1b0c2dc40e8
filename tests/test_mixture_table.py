"""Component families x priors on the weights against exact results.

A mixture hands the components the expected log-weights, it hands the weights the counts, and it
puts the components in another order where the weights are `ordered`. There is no other place where
the two meet: the bound is a sum of terms of one or the other and of the rows' log-normalisers. So
a fault is one of the components alone, which any prior on the weights shows; one of the weights
alone, which any components show; or one of order. The exactness tests therefore take every
component family twice, with a Dirichlet prior, under which components stay where they are, and with
an ordered one, and deal the ordered ones out in turn: each meets three families or four, of
which one or two share parameters or are made of others. What all pairs must have in common, that a
sweep is one program whose state keeps its types, is checked for all pairs without compiling any.
"""

from __future__ import annotations

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, gammaln, logsumexp

import vijax as vx
from vijax.families.weights.dirichlet_process import DirichletProcess
from vijax.families.weights.stick_breaking import StickBreaking
from vijax.models.mixture import Mixture

from .data import cast
from .oracles import weights as weights_oracle
from .table import leaves_close
from .tables.emissions import EMISSIONS, take

K, N, FEW, KEYS = 3, 24, 5, 50
SHAPE, RATE = 2.0, 1.5


def _process(k, **options):
    return StickBreaking.dirichlet_process(1.3, k, **options)


# prior of k weights, and log p(z) from the counts
WEIGHTS = {
    "dirichlet": (
        lambda k: vx.Dirichlet.from_standard(np.linspace(0.3, 2.0, k)),
        lambda n, k: weights_oracle.log_prob_dirichlet(n, np.linspace(0.3, 2.0, k)),
    ),
    "process": (
        lambda k: _process(k),
        lambda n, k: weights_oracle.log_prob_sticks(
            n, *weights_oracle.process_sticks(1.3, 0.0, k - 1)
        ),
    ),
    "infinite process": (
        lambda k: _process(k, truncated=False),
        lambda n, k: weights_oracle.log_prob_sticks(n, *weights_oracle.process_sticks(1.3, 0.0, k)),
    ),
    "pitman-yor": (
        lambda k: StickBreaking.pitman_yor(0.7, 0.4, k),
        lambda n, k: weights_oracle.log_prob_sticks(
            n, *weights_oracle.process_sticks(0.7, 0.4, k - 1)
        ),
    ),
    "process with a learned concentration": (
        lambda k: DirichletProcess.with_prior(SHAPE, RATE, k),
        lambda n, k: weights_oracle.log_prob_process(n, SHAPE, RATE, k - 1),
    ),
}
ORDERED = [name for name, (make, _) in WEIGHTS.items() if make(K).ordered]
PAIRS = list(itertools.product(EMISSIONS, WEIGHTS))
CELLS = [
    *itertools.product(EMISSIONS, [name for name in WEIGHTS if name not in ORDERED]),
    *zip(EMISSIONS, itertools.cycle(ORDERED), strict=False),
]


def pairs(chosen):
    """Tests of these pairs; the programs of one component family one after the other."""
    chosen = sorted(chosen, key=PAIRS.index)
    ids = [f"{emission.name}-{name}" for emission, name in chosen]
    return pytest.mark.parametrize(("emission", "name"), chosen, ids=ids)


def mixture(rng, emission, name):
    return Mixture(WEIGHTS[name][0](K), emission.prior(rng, K))


def start(model, batch, resp):
    """q given responsibilities: statistics about the means, plus the prior; twice, to find them."""

    def once(_, q):
        return model.update(q, model.assign(q, batch, resp))

    return jax.lax.fori_loop(0, 2, once, model.prior)


def halves(model, batch, q, resp):
    """The bound after every half-step of 15 sweeps from these responsibilities."""

    def sweep(carry, _):
        q, resp = carry
        before = model.elbo(q, batch, resp)
        own = model.local(q.moments(), batch)
        after = jnp.sum(batch.weight * own.log_z) - model.kl(q)
        new = model.update(q, own.stats)
        return (new, model.responsibilities(q, batch)), jnp.stack([before, after])

    return jax.lax.scan(sweep, (q, resp), length=15)[1].reshape(-1)


def slopes(model, batch, q, logits):
    """The bound, and its gradients in all of q and in the responsibilities."""

    def bound(q, logits):
        return model.elbo(q, batch, jax.nn.softmax(logits, -1))

    return jax.value_and_grad(bound, (0, 1))(q, logits)


@jax.jit
def everything(model, batch, resp, hard, other):
    """What the tests of one pair need, in one program with few copies of the model."""
    n = batch.weight.shape[0]
    drawn = jax.random.dirichlet(jax.random.key(0), jnp.ones(K), (KEYS, n))
    starts = jnp.concatenate([resp[None], hard[None], drawn])
    qs = jax.vmap(lambda r: start(model, batch, r))(starts)
    settled, at_hard = (jax.tree.map(lambda a, i=i: a[i], qs) for i in range(2))
    own = jnp.log(jnp.maximum(model.responsibilities(settled, batch), 1e-30))
    given, sure = jnp.log(resp), 1e4 * (hard - 1.0)  # 0 and 1 after the softmax
    four = jax.tree.map(lambda *a: jnp.stack(a), settled, settled, other, at_hard)
    bound, slope = jax.vmap(lambda q, r: slopes(model, batch, q, r))(
        four, jnp.stack([given, own, given, sure])
    )
    pick = [jax.tree.map(lambda a, i=i: a[i], slope) for i in range(3)]
    return {
        "halves": jax.vmap(lambda q, r: halves(model, batch, q, r))(qs, starts),
        "at q": pick[0][0],
        "at r": pick[1][1],
        "elsewhere": pick[2],
        "hard": bound[3],
        "bound": bound[2],
    }


def single(tree):
    """Rounded to float32, in float64: the same numbers in both precisions."""
    return cast(cast(tree, np.float32), np.float64)


def arbitrary(rng, emission, model):
    """Rows, responsibilities, labels, and a q that has nothing to do with them."""
    x, resp = emission.rows(rng, N), jnp.asarray(rng.dirichlet(np.ones(K), size=N))
    apart = Mixture(model.weights, emission.prior(rng, K))
    other = start(apart, vx.Batch.of(x), jnp.asarray(rng.dirichlet(np.ones(K), size=N)))
    return jax.tree.map(np.asarray, single(x)), resp, rng.integers(K, size=N), single(other)


def counts_of(z):
    return np.bincount(z, minlength=K)


@pairs(CELLS)
def test_exactness(emission, name, rng):
    """Half-steps never lower the bound, for 50 keys; each ends where the gradient is zero; hard

    assignments give the exact joint; the bound at any point is the Monte Carlo estimate, and the
    same in float32; and it is never above the log evidence from all K^N assignments.
    """
    log_prob, model = WEIGHTS[name][1], mixture(rng, emission, name)
    model = Mixture(model.weights, single(model.components))
    x, resp, z, other = arbitrary(rng, emission, model)
    batch, hard = vx.Batch.of(x), jnp.asarray(np.eye(K)[z])
    got = everything(model, batch, resp, hard, other)

    traces = np.asarray(got["halves"])
    assert np.isfinite(traces).all()
    assert (np.diff(traces) >= -1e-9 * np.abs(traces[:, 1:])).all()
    assert (traces[:, -1] > traces[:, 0]).all()

    learned = "learned" in name
    student = emission.evidence is None
    steepest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(got["elsewhere"][0]))
    if not (learned or student):  # there q has another block, or rows a latent at its own optimum
        own = got["at q"].components
        own = getattr(own, "others", own)  # the box of the noise is not a parameter
        for leaf in jax.tree.leaves((got["at q"].weights, own)):
            np.testing.assert_allclose(leaf, 0.0, atol=1e-8 * max(steepest, 1.0))
    np.testing.assert_allclose(got["at r"], 0.0, atol=1e-8)
    assert steepest > 1e-3
    assert float(jnp.abs(got["elsewhere"][1]).max()) > 1e-3

    check_monte_carlo(emission, model, x, np.asarray(resp), other, got["bound"])
    low = bound_of(*cast((model, other, x, resp), np.float32))
    assert low.dtype == np.float32
    exact = float(got["bound"])
    assert abs(float(low) - exact) < 1e-6 * abs(exact) + 1e-3

    if student:
        return  # its evidence is in test_student_t.py
    if not learned:
        exact = emission.evidence(x, z, model.components)
        np.testing.assert_allclose(got["hard"], exact + log_prob(counts_of(z), K), rtol=1e-10)
    few = (np.arange(N) < FEW).astype(float)
    bounds = everything(model, vx.Batch.of(x, few), resp, hard, other)["halves"][:, -1]
    first, terms = take(x, np.arange(FEW)), []
    log_prob_of = functools.cache(lambda counts: log_prob(np.array(counts), K))
    for assignment in itertools.product(range(K), repeat=FEW):
        z = np.array(assignment)
        labels = log_prob_of(tuple(counts_of(z)))
        terms.append(emission.evidence(first, z, model.components) + labels)
    evidence = logsumexp(terms)
    assert (bounds <= evidence + 1e-9).all()
    assert bounds.max() > evidence - FEW * np.log(K) - 10.0


@pairs(PAIRS)
def test_a_sweep_keeps_its_types(emission, name, rng):
    """Of every pair, in one trace: the bound is a scalar of the rows' dtype, and q is a q again."""
    model, batch = mixture(rng, emission, name), vx.Batch.of(emission.rows(rng, N))

    def sweep(model, q, batch, resp):
        q = model.update(q, model.assign(q, batch, resp))
        own = model.local(q.moments(), batch)
        new = model.update(q, own.stats, 0.5)
        bounds = [model.elbo(q, batch, resp), jnp.sum(own.log_z) - model.kl(new)]
        return (
            new,
            model.responsibilities(new, batch),
            jnp.stack([*bounds, *model.kl_and_move(new, q)]),
        )

    resp = jnp.asarray(rng.dirichlet(np.ones(K), size=N))
    before = jax.eval_shape(lambda q, resp: (q, resp), model.prior, resp)
    *after, bounds = jax.eval_shape(sweep, model, model.prior, batch, resp)
    chex.assert_trees_all_equal_shapes_and_dtypes(tuple(after), before)
    assert (bounds.shape, bounds.dtype) == ((4,), np.float64)


@jax.jit
def updates(model, batch, resp, by_size):
    """From the prior: the model's own update, and plain addition of rows assigned by size."""
    stats = model.assign(model.prior, batch, resp)
    sized = model.assign(model.prior, batch, resp[:, by_size])
    return model.update(model.prior, stats), model.combine(model.prior, sized)


@pytest.mark.parametrize("emission", EMISSIONS, ids=lambda e: e.name)
def test_ordered_weights_put_equal_components_in_order_of_size(emission, rng):
    """Every family's parameters move with the counts; noise keeps its place, and so do others."""
    prior = emission.prior(rng, K)
    prior = prior.take(jnp.zeros(K, int)) if not prior.num_background else prior
    share = np.array([0.2, 0.3, 0.5])
    resp = rng.dirichlet(20.0 * share, size=N)
    by_size = np.arange(K) if prior.num_background else np.argsort(-resp.sum(0))
    assert prior.num_background or by_size.tolist() == [2, 1, 0]
    batch = vx.Batch.of(emission.rows(rng, N))
    got, exact = updates(Mixture(_process(K), prior), batch, jnp.asarray(resp), by_size)
    leaves_close(got, exact, rtol=1e-11, atol=1e-11)


@jax.jit
def drawn(prior, q):
    """Draws from q, and log p - log q there."""
    draws = q.sample(jax.random.key(1), (2000,))
    return draws, prior.log_prob(draws) - q.log_prob(draws)


def check_monte_carlo(emission, model, x, resp, q, bound):
    """E_q[log p(x, z, theta) - log q(z, theta)] within 5 standard errors; rows' latents optimal."""
    draws, ratio = drawn(model.components, q.components)
    log_lik = emission.log_lik(x, jax.tree.map(np.asarray, draws))
    if emission.evidence is None:
        log_lik = student_bound(x, draws, q.components)
    ratio = np.asarray(ratio).reshape(2000, -1).sum(-1)
    each = np.einsum("nk,snk->s", resp, np.broadcast_to(log_lik, (2000, *resp.shape))) + ratio
    log_p = np.asarray(q.weights.moments().log_p)
    rest = resp.sum(0) @ log_p - float(model.weights.kl_from(q.weights))
    rest -= (resp * np.log(resp)).sum()
    error = each.std() / np.sqrt(2000)
    assert abs(bound - (each.mean() + rest)) < 5 * error + 1e-9


def student_bound(x, draws, q):
    """E_q(u)[log p(x, u | theta) - log q(u)] with q(u) at its optimum, from draws of theta."""
    z = x[:, None] - np.asarray(draws.mean)[:, None]
    precision = np.asarray(draws.precision)
    square = np.einsum("snki,skij,snkj->snk", z, precision, z)
    dof, d = np.asarray(q.dof), x.shape[1]
    shape, rate = 0.5 * (dof + d), 0.5 * (dof + square.mean(0))
    mean, e_log = shape / rate, digamma(shape) - np.log(rate)
    log_det = np.linalg.slogdet(precision)[1][:, None]
    normal = 0.5 * (d * e_log + log_det - mean * square - d * np.log(2 * np.pi))
    half = 0.5 * dof
    prior = half * np.log(half) - gammaln(half) + (half - 1) * e_log - half * mean
    entropy = shape - np.log(rate) + gammaln(shape) + (1 - shape) * digamma(shape)
    return normal + prior + entropy


# not the Student-t, whose rows have latents too, nor the noise, which comes beside a component
@pytest.mark.parametrize(
    "emission", [e for e in EMISSIONS if e.evidence and e.name != "noise"], ids=lambda e: e.name
)
def test_one_component_is_the_exact_evidence(emission, rng):
    model = Mixture(vx.Dirichlet.from_standard([0.7]), emission.prior(rng, 1))
    x = emission.rows(rng, 320)
    run = jax.jit(lambda weight: vx.fit(model, vx.Batch(rows, weight), init=zero).elbo)
    rows, zero = jax.tree.map(jnp.asarray, x), np.zeros(320, int)
    for n in (1, 5, 20, 80, 320):
        first = np.arange(n)
        exact = emission.evidence(take(x, first), np.zeros(n, int), model.components)
        got = run(jnp.asarray((np.arange(320) < n).astype(float)))
        np.testing.assert_allclose(got, exact, rtol=1e-9)


@jax.jit
def bound_of(model, q, x, resp):
    return model.elbo(q, vx.Batch(x, jnp.ones(resp.shape[0], resp.dtype)), resp)


@pytest.mark.float32(hasty=True)
@pytest.mark.parametrize(
    "emission", [e for e in EMISSIONS if e.name != "noise"], ids=lambda e: e.name
)
def test_narrow_starts_know_one_row_each(emission, rng):
    """The tenth restart: every component has one row's worth of statistics, about its seed."""
    model = Mixture(vx.Dirichlet.from_standard([0.5] * 3), emission.prior(rng, 3))
    batch = vx.Batch.of(emission.rows(rng, 30))
    model = cast(model, batch.weight.dtype)
    q = jax.jit(model.init)(jax.random.key(0), batch, jnp.asarray(9))
    np.testing.assert_allclose(q.weights.conc, 1.5, rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(q))
    fit = vx.fit(model, batch, init=q)
    assert fit.status in (vx.Status.CONVERGED, vx.Status.MAX_ITER)
