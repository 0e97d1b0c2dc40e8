"""Topic models: all assignments added up, calculus, scikit-learn, and every driver."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import LatentDirichletAllocation

import vijax as vx

from .oracles import lda
from .rows import gammas
from .table import leaves_close

K, V = 2, 4
KEY = jax.random.key(0)
TIGHT = {"inner": 2000, "tol": 1e-12}


def settings(**more):
    return {"learn": False, **TIGHT, **more}


def model_of(rng, k=K, v=V, **more):
    """A topic model with a prior of no symmetry."""
    labels = vx.Admixture.from_standard(gammas(rng, k), **settings(**more))
    return vx.LDA(labels, vx.DirichletMultinomial.from_standard(gammas(rng, k, v)))


def counts_of(rng, n=3, v=V, words=2):
    return rng.multinomial(words, np.ones(v) / v, size=n).astype(float)


def q_of(rng, model):
    """A q of the topics that has nothing to do with any data."""
    k, v = model.components.each.conc.shape
    topics = vx.DirichletMultinomial.from_standard(gammas(rng, k, v, least=0.3))
    return model.params(model.labels.template, topics)


def conc_of(model):
    return np.asarray(model.labels.conc), np.asarray(model.components.each.conc)


@jax.jit
def sweep(model, q, batch, rows=None):
    """The bound of an E-step at q, its update, and the E-step itself."""
    found = model.local_from(q.moments(), batch, rows)
    bound = jnp.sum(batch.weight * found.log_z) - model.kl(q)
    return bound, model.update(q, found.stats), found


def both_forms(counts, weight=None):
    return [vx.Batch.documents(counts, weight, dense=dense) for dense in (True, False)]


# -- the bound ------------------------------------------------------------------------------------


def test_bound_is_below_the_evidence_and_with_one_topic_equal_to_it(rng):
    """All k^tokens assignments, memberships and topics integrated out."""
    counts = counts_of(rng)
    batch = vx.Batch.documents(counts, dense=False)
    model = model_of(rng)
    exact = lda.log_evidence(lda.documents_of(counts), *conc_of(model))
    q, bounds = q_of(rng, model), []
    for _ in range(60):
        bound, q, _ = sweep(model, q, batch)
        bounds.append(float(bound))
    assert (np.diff(bounds) >= -1e-9).all()
    assert max(bounds) <= exact + 1e-9
    # nor is it trivially loose: mean field pays for k^tokens assignments at most
    assert bounds[-1] > exact - counts.sum() * np.log(K) - 10.0
    one = model_of(rng, 1)
    q = sweep(one, one.prior, batch)[1]
    exact = lda.log_evidence(lda.documents_of(counts), *conc_of(one))
    np.testing.assert_allclose(sweep(one, q, batch)[0], exact, rtol=1e-12)


def test_bound_at_any_q_is_its_definition(rng):
    """Token by token, at any gamma and topics; and draws of all unknowns."""
    counts = counts_of(rng, words=4)
    weight = np.array([1.0, 2.0, 0.5])
    documents = lda.documents_of(counts)
    model = model_of(rng, inner=1, tol=0.0, start="warm")
    q = q_of(rng, model)
    topics = np.asarray(q.components.each.conc)
    gamma = gammas(rng, len(counts), K)
    # one update from gamma is what the oracle does
    topic_conc, word_conc = conc_of(model)
    phis = [lda.phi_of(d, g, topics)[0].sum(0) for d, g in zip(documents, gamma, strict=True)]
    after = topic_conc + np.array(phis)
    for batch in both_forms(counts, weight):
        bound, _, found = sweep(model, q, batch, jnp.asarray(gamma))
        np.testing.assert_allclose(
            bound, lda.elbo(documents, weight, after, topic_conc, topics, word_conc), rtol=1e-11
        )
        np.testing.assert_allclose(
            found.stats.components.each.conc,
            lda.statistics(documents, weight, after, topics),
            rtol=1e-10,
        )
    ones = np.ones(len(counts))
    own = lda.elbo(documents, ones, after, topic_conc, topics, word_conc)
    mean, error = lda.elbo_by_draws(rng, documents, after, topic_conc, topics, word_conc, 20_000)
    assert error < 0.2
    assert abs(own - mean) < 5 * error


def test_settled_rows_and_topics_are_stationary(rng):
    """The oracle's fixed point; by automatic differentiation in gamma, and in q of the topics."""
    counts = counts_of(rng, n=4, words=7)
    documents = lda.documents_of(counts)
    model = model_of(rng)
    q = q_of(rng, model)
    topic_conc, _ = conc_of(model)
    gamma = lda.settled(documents, topic_conc, np.asarray(q.components.each.conc))
    dense, lists = both_forms(counts)
    for batch in (dense, lists):
        np.testing.assert_allclose(sweep(model, q, batch)[2].rows, gamma, rtol=1e-9)
    for _ in range(300):
        q = sweep(model, q, dense)[1]

    @jax.jit
    def slopes(q, batch):
        return jax.grad(lambda q: sum(model.elbo_terms(q, batch).values()))(q)

    np.testing.assert_allclose(slopes(q, lists).components.each.conc, 0.0, atol=1e-6)
    other = q_of(rng, model)
    slope = slopes(other, lists).components.each.conc
    step = 1e-6 * jnp.asarray(rng.normal(size=slope.shape))
    near = [sweep(model, replaced(other, sign * step), lists)[0] for sign in (1, -1)]
    np.testing.assert_allclose(jnp.sum(slope * step), (near[0] - near[1]) / 2, rtol=1e-5)


def replaced(q, step):
    each = dataclasses.replace(q.components.each, conc=q.components.each.conc + step)
    return dataclasses.replace(q, components=vx.DirichletMultinomial(each))


@pytest.mark.parametrize(("inner", "start", "dense"), [(1, "warm", True), (3, "both", False)])
def test_the_bound_never_falls(rng, inner, start, dense):
    """Nor does it where rows are given few updates; and the model says when it may."""
    model, counts = planted(rng)
    model = tuned(model, inner=inner, start=start)
    batch = vx.Batch.documents(counts, dense=dense)
    bounds = np.asarray(vx.trajectory(model, batch, num_iters=30, key=KEY).elbo)
    assert (np.diff(bounds) >= -1e-9 * np.abs(bounds[1:])).all()
    assert model.ascends(kept=True)
    assert not model.ascends(kept=False)
    assert not tuned(model, start="cold").ascends(kept=True)


def planted(rng, n=30, v=12, k=3, words=40, **more):
    topics = rng.dirichlet(np.full(v, 0.2), k)
    share = rng.dirichlet(np.full(k, 0.3), n)
    counts = np.stack([rng.multinomial(words, own @ topics) for own in share]).astype(float)
    return vx.LDA.from_data(counts, k, topic_conc=0.2, word_conc=0.3, **more), counts


def tuned(model, **more):
    return dataclasses.replace(model, labels=dataclasses.replace(model.labels, **more))


def test_both_starts_are_at_least_as_good_as_each(rng):
    model, counts = planted(rng)
    batch = vx.Batch.documents(counts, dense=True)
    q = q_of(rng, model)
    warm_rows = jnp.asarray(gammas(rng, len(counts), 3, least=0.3)) * 10
    found = {
        start: sweep(tuned(model, start=start), q, batch, warm_rows)[2].log_z
        for start in ("warm", "cold", "both")
    }
    np.testing.assert_array_equal(found["both"], np.maximum(found["warm"], found["cold"]))


def test_lists_are_tables_and_a_mixed_membership_of_categories(rng):
    """To rounding; with weights; and each token a step of its own."""
    model, counts = planted(rng, n=10)
    weight = rng.uniform(0.5, 2.0, size=len(counts))
    dense, lists = both_forms(counts, weight)
    q = q_of(rng, model)
    one, two = sweep(model, q, dense), sweep(model, q, lists)
    np.testing.assert_allclose(one[0], two[0], rtol=1e-11)
    leaves_close(one[1], two[1], 1e-9)
    np.testing.assert_allclose(one[2].log_z, two[2].log_z, rtol=1e-11)
    v = counts.shape[1]

    def codes(p):
        conc = p.components.each.conc[:, None]
        return vx.DirichletCategorical.from_standard(conc)

    mixed = vx.MixedMembership(model.labels, codes(model.prior))
    steps = [d[:, None].astype(float) for d in lda.documents_of(counts)]
    batch = mixed.as_batch(vx.Batch.sequences(steps, weight))
    three = sweep(mixed, mixed.params(q.labels, codes(q)), batch)
    np.testing.assert_allclose(three[2].log_z, one[2].log_z, rtol=1e-11)
    np.testing.assert_allclose(
        three[1].components.each.conc[:, 0], one[1].components.each.conc, rtol=1e-9
    )
    np.testing.assert_allclose(three[0], one[0], rtol=1e-11)
    assert v == three[1].components.each.conc.shape[-1]


# -- scikit-learn ---------------------------------------------------------------------------------


class ColdStart(LatentDirichletAllocation):
    """Whose documents begin at equal shares in every pass, not at random ones."""

    def _e_step(self, X, cal_sstats, random_init, parallel=None):
        return super()._e_step(X, cal_sstats, random_init=False, parallel=parallel)


def test_batch_passes_are_scikit_learns(rng):
    """Topics after 1, 2 and 10 passes from the same start, and documents' shares."""
    model, counts = planted(rng)
    model = tuned(model, start="cold")
    k = model.num_components
    start = model.params(
        model.labels.template,
        vx.DirichletMultinomial.from_standard(gammas(rng, k, counts.shape[1])),
    )
    batch = vx.Batch.documents(counts, dense=True)
    states = vx.trajectory(model, batch, init=start, num_iters=11)
    for passes in (1, 2, 10):
        peer = ColdStart(
            k, doc_topic_prior=0.2, topic_word_prior=0.3, max_iter=passes, evaluate_every=0
        )
        fitted = from_start(peer, start, counts)
        ours = np.asarray(states.q.components.each.conc[passes])
        np.testing.assert_allclose(ours, fitted.components_, rtol=1e-6)
    q = jax.tree.map(lambda a: a[10], states.q)
    # what is read of a fit is settled further than the last pass, in both
    settled = tuned(model, inner=1000, tol=jnp.asarray(1e-10))
    fitted.mean_change_tol, fitted.max_doc_update_iter = 1e-10, 1000
    np.testing.assert_allclose(settled.memberships(q, batch), fitted.transform(counts), rtol=1e-6)
    np.testing.assert_allclose(fitted.score(counts), vx.elbo(settled, q, batch), rtol=1e-8)


def from_start(peer, start, counts):
    """The peer after its passes over the counts, from these topics."""
    from scipy.special import psi

    original = peer._init_latent_vars

    def begin(n_features, dtype=np.float64):
        original(n_features, dtype)
        peer.components_ = np.asarray(start.components.each.conc).copy()
        total = peer.components_.sum(1, keepdims=True)
        peer.exp_dirichlet_component_ = np.exp(psi(peer.components_) - psi(total))

    peer._init_latent_vars = begin
    return peer.fit(counts)


@pytest.mark.parametrize("conc", [0.1, 1e-3, 1e-8])
def test_sparse_memberships_in_float32(rng, conc):
    """exp(E[log theta]) of an unused topic is 0 in float32, but no bound is lost or NaN."""
    v, k, n = 20, 4, 12
    topics = rng.dirichlet(np.full(v, 0.05), k)
    counts = np.stack([rng.multinomial(30, topics[i % k]) for i in range(n)]).astype(float)
    own = vx.DirichletMultinomial.from_standard(1e-3 + 40.0 * topics)
    labels = vx.Admixture.from_standard(np.full(k, conc), inner=300, tol=1e-6)
    model = vx.LDA(labels, vx.DirichletMultinomial.from_standard(np.full((k, v), 1e-3)))
    q = model.params(model.labels.template, own)

    def half(tree):
        return jax.tree.map(lambda a: a.astype(np.float32) if a.dtype == np.float64 else a, tree)

    for dense in (True, False):
        batch = vx.Batch.documents(counts, dense=dense)
        found = sweep(model, q, batch)[2]
        small = sweep(half(model), half(q), half(batch))[2]
        np.testing.assert_allclose(small.log_z, found.log_z, rtol=2e-6)
        np.testing.assert_allclose(small.stats.components.each.conc.sum(), 30.0 * n, rtol=1e-5)
