"""Topic models under every driver, and what is read off a fit."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

import vijax as vx

from .oracles import lda
from .table import leaves_close
from .test_lda import planted, tuned

K, KEY = 2, jax.random.key(0)
TIGHT = vx.Stop(tol=1e-6, max_iter=400)
WORDS = tuple("bcdfgh")


@pytest.fixture(scope="module")
def corpus():
    """Counts of documents with two topics each in shares of its own."""
    return planted(np.random.default_rng(8), n=24, v=len(WORDS), k=K, words=30)[1]


@pytest.fixture(scope="module")
def lists(corpus):
    return vx.Batch.documents(corpus, vocabulary=WORDS, dense=False)


@pytest.fixture(scope="module")
def model(lists):
    return vx.LDA.from_data(lists, K, topic_conc=0.3, word_conc=0.4, inner=20)


@pytest.fixture(scope="module")
def settled(lists, model):
    return vx.fit(model, lists, key=KEY, stop=TIGHT).check()


METHODS = {
    "memoized": vx.Memoized(num_blocks=3),
    "chunked": vx.CAVI(chunk=7),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_end_at_the_same_bound(lists, model, settled, name):
    fit = vx.fit(model, lists, init=settled, method=METHODS[name], stop=TIGHT).check()
    trace = np.asarray(fit.elbo_trace)[: int(fit.n_iter)]
    assert (np.diff(trace) >= -1e-9 * np.abs(trace[1:])).all()
    assert abs(fit.elbo - settled.elbo) < 0.05


def test_stochastic_inference_comes_near(lists, model, settled):
    """Hoffman's algorithm; one minibatch of rate 1 is a pass over all rows, afresh."""
    method = vx.SVI(batch_size=8, rate=vx.RobbinsMonro(64.0, 0.7))
    fit = vx.fit(model, lists, key=KEY, init=settled, method=method, stop=vx.Stop(max_iter=60))
    assert settled.elbo - 1.0 < fit.elbo < settled.elbo + 0.5


def test_chunks_and_data_sets(corpus, lists, model, settled):
    """From a file rows begin afresh, so that the bound may fall and no fit ends by that."""
    parts = [vx.Batch.documents(corpus[i : i + 12], vocabulary=WORDS) for i in (0, 12)]
    fit = vx.fit(model, vx.Chunks.of(parts), init=settled, stop=vx.Stop(max_iter=3))
    assert abs(fit.elbo - settled.elbo) < 0.5
    sets = [corpus[:10], corpus[10:]]
    fits = vx.fit_many(model, sets, key=KEY, stop=vx.Stop(max_iter=3))
    again = vx.elbo(model, fits[0], vx.Batch.documents(sets[0], vocabulary=WORDS))
    np.testing.assert_allclose(fits[0].elbo, again, rtol=1e-3)
    shares = fits.predict(sets)
    np.testing.assert_array_equal(shares[0], model.predict(fits[0], sets[0]))


def test_learned_concentrations(corpus, model, settled):
    """The bound rises, and no other concentration has a higher one."""
    learn = tuned(model, learn=True, inner=500, tol=jnp.asarray(1e-9))
    batch = vx.Batch.documents(corpus, dense=True)
    fit = vx.fit(learn, batch, init=settled, method=vx.Accelerated(vx.CAVI()), stop=TIGHT).check()
    trace = np.asarray(fit.elbo_trace)[: int(fit.n_iter)]
    assert (np.diff(trace) >= -1e-9 * np.abs(trace[1:])).all()
    assert fit.elbo > settled.elbo + 0.1
    topics = np.asarray(fit.q.components.each.conc)
    conc, documents = np.asarray(fit.q.labels.conc), lda.documents_of(corpus)

    def bound(conc):
        gamma = lda.settled(documents, conc, topics, 200)
        return lda.row_bounds(documents, gamma, conc, topics).sum()

    best = bound(conc)
    for factor in ([1.1, 1.0], [0.9, 1.0], [1.0, 1.1], [1.0, 0.9]):
        assert bound(conc * np.array(factor)) < best
    np.testing.assert_allclose(fit.q.labels.count.sum(), corpus.sum(), rtol=1e-6)


def test_reading(corpus, lists, model, settled, tmp_path):
    share = np.asarray(model.memberships(settled, lists))
    np.testing.assert_allclose(share.sum(1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(model.memberships(settled, sp.csr_matrix(corpus)), share, rtol=1e-9)
    np.testing.assert_array_equal(model.predict(settled, lists), share.argmax(1))
    topics = np.asarray(model.topics(settled))
    np.testing.assert_allclose(topics.sum(1), 1.0, rtol=1e-12)
    (word, p), *_ = model.top_words(settled, 3)[0]
    assert (word, p) == (WORDS[topics[0].argmax()], topics[0].max())
    np.testing.assert_allclose(
        model.row_bound(settled, lists).sum(),
        vx.elbo_terms(model, settled, lists)["log_z"],
        rtol=1e-10,
    )
    # by the rule of Bayes, from the oracle's gamma
    documents = lda.documents_of(corpus)
    q, conc = np.asarray(settled.q.components.each.conc), np.full(K, 0.3)
    gamma = lda.settled(documents, conc, q, 300)
    resp = model.responsibilities(settled, vx.Batch.documents(corpus, dense=True))
    for n in (0, 5):
        phi = lda.phi_of(np.arange(len(WORDS)), gamma[n], q)[0]
        np.testing.assert_allclose(resp[n], phi, atol=1e-3)
    text = settled.summary(num_words=2)
    assert "2 of 2 topics have share >= 0.01" in text
    assert WORDS[topics[0].argmax()] in text
    assert repr(model) == "LDA(2 topics, 6 words)"
    vx.save(tmp_path / "fit.npz", (model, settled))
    again, fit = vx.load(tmp_path / "fit.npz")
    np.testing.assert_array_equal(again.memberships(fit, lists), share)


def test_held_out_words(corpus, lists, model, settled):
    """Scores by their definition; true topics tell more than equal ones."""
    half = np.floor(corpus / 2)
    rest = corpus - half
    share = np.asarray(model.memberships(settled, half))
    p = share @ np.asarray(model.topics(settled))
    found = model.document_completion(settled, half, rest)
    np.testing.assert_allclose(found.log_score, (rest * np.log(p)).sum(1), rtol=1e-9)
    np.testing.assert_array_equal(found.num_words, rest.sum(1))
    expected = np.exp(-(rest * np.log(p)).sum() / rest.sum())
    np.testing.assert_allclose(found.perplexity, expected, rtol=1e-9)
    dealt = model.document_completion(settled, lists, key=KEY)
    assert 0.3 < dealt.num_words.sum() / corpus.sum() < 0.7
    assert dealt.perplexity < len(WORDS) - 1
    with pytest.raises(ValueError, match="key: words are dealt at random"):
        model.document_completion(settled, lists)
    with pytest.raises(ValueError, match="rest: 3 documents, but `x` has 24"):
        model.document_completion(settled, half, rest[:3])
    counts, share = model.sample(settled, KEY, 5, length=40)
    np.testing.assert_array_equal(counts.sum(1), 40.0)
    np.testing.assert_allclose(share.sum(1), 1.0, rtol=1e-12)


def test_topics_to_spare_are_pruned(corpus, model, settled):
    wide = vx.LDA.from_data(corpus, K, topic_conc=0.3, word_conc=0.4, inner=20, k_max=4)
    more = vx.fit(wide, corpus, key=KEY, stop=TIGHT).check()
    np.testing.assert_allclose(more.elbo, settled.elbo, rtol=1e-4)
    small = vx.prune(more)
    assert small.q.labels.size == K
    whole = wide.memberships(more, corpus)
    np.testing.assert_array_equal(whole[:, K:], 0.0)
    np.testing.assert_allclose(wide.memberships(small, corpus), whole[:, :K], rtol=1e-6)
    turned = vx.relabel(more, lambda q: -q.weights.mean)
    assert (np.diff(turned.q.weights.mean) <= 0).all()
    leaves_close(vx.align(turned, more).q, more.q, 0.0)


def test_numbers_of_topics_compare(corpus):
    """One program for all; the score of held-out documents is the bound on each."""
    settings = {"topic_conc": 0.3, "word_conc": 0.4, "inner": 20}
    held_out = vx.cross_validate(
        vx.LDA, corpus, [1, 2], key=KEY, folds=2, num_restarts=1, **settings
    )
    assert held_out.best == 2
    assert held_out.mean_difference.max() > 1.0


def test_errors_name_the_argument(corpus, lists, model, settled):
    with pytest.raises(ValueError, match=r"method: EM\(\) needs the exact posterior"):
        vx.fit(model, lists, key=KEY, method=vx.EM())
    for reader in (model.log_predictive, model.log_likelihood):
        with pytest.raises(TypeError, match="LDA has no closed form for it; take `row_bound`"):
            reader(settled, lists)
    with pytest.raises(TypeError, match="impute: documents have no missing entries"):
        model.impute(settled, lists)
    with pytest.raises(ValueError, match="x: has 5 columns, but the model knows 6 words"):
        vx.fit(vx.LDA.from_data(corpus, K), corpus[:, :5], key=KEY)
    with pytest.raises(ValueError, match=re.escape("word 7, but the model knows 6 words")):
        vx.fit(
            vx.LDA.from_data(corpus, K), vx.Batch.documents([[0, 7], [1, 2]], dense=False), key=KEY
        )
    with pytest.raises(ValueError, match="x: the word 'z' is unknown"):
        vx.fit(model, vx.Batch.documents([[0]], vocabulary=["z"], dense=False), key=KEY)
    bad = corpus.copy()
    bad[2, 1] = -1.0
    with pytest.raises(ValueError, match="x: counts must be >= 0, got one of word 1 in row 2"):
        vx.fit(vx.LDA.from_data(corpus, K), vx.Batch.of(bad), key=KEY)
    for name in ("topic_conc", "word_conc"):
        with pytest.raises(ValueError, match=name):
            vx.LDA.from_data(corpus, K, **{name: 0.0})
    with pytest.raises(ValueError, match="word_conc: expected a scalar"):
        vx.LDA.from_data(corpus, K, word_conc=np.ones(3))
    with pytest.raises(ValueError, match="start: expected one of"):
        vx.LDA.from_data(corpus, K, start="hot")
    with pytest.raises(ValueError, match="inner"):
        vx.LDA.from_data(corpus, K, inner=0)
    with pytest.raises(ValueError, match="mask: a topic model takes none"):
        vx.fit(model, vx.Batch.of(corpus, mask=corpus > 0), key=KEY)
