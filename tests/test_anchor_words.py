"""Starts of topic models: anchors and shares of exact moments, and topics that were planted."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

import vijax as vx
from vijax.models import topic_starts
from vijax.numerics.anchor_words import anchor_words, cooccurrence, shares_of_corners, topics_of
from vijax.numerics.kmeans import kmeans
from vijax.numerics.lanes import take
from vijax.numerics.short_runs import best_start

K, V = 4, 30


def separable(rng):
    """Topics of which each has a word that no other has: words 3, 7, 11, 15."""
    topics = rng.dirichlet(np.full(V, 0.5), K)
    anchors = 4 * np.arange(K) + 3
    topics[:, anchors] = 0.3 * np.eye(K)
    return topics / topics.sum(1, keepdims=True), anchors


def test_pairs_of_words_are_those_that_enumeration_counts():
    count = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 3.0, 1.0], [5.0, 1.0, 1.0]])
    weight = np.array([1.0, 2.0, 0.5, 0.0])
    expected = np.zeros((3, 3))
    for row, w in zip(count, weight, strict=True):
        words = np.repeat(np.arange(3), row.astype(int))
        pairs = list(itertools.permutations(words, 2))
        for i, j in pairs:
            expected[i, j] += w / len(pairs)
    np.testing.assert_allclose(
        cooccurrence(jnp.asarray(count), jnp.asarray(weight)), expected, rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("off", [None, 1])
def test_exact_moments_give_the_anchors_and_the_shares(off):
    rng = np.random.default_rng(0)
    topics, anchors = separable(rng)
    on = np.arange(K) != off
    share = rng.dirichlet(np.full(on.sum(), 5.0), 300)
    together = topics[on].T @ (share.T @ share / 300) @ topics[on]
    known = together.sum(1) > 0  # the anchor of a topic that is off has no pairs
    given = jnp.asarray(together / np.where(known, together.sum(1), 1.0)[:, None])
    found = np.asarray(anchor_words(given, jnp.asarray(known), jnp.asarray(on)))
    assert set(found[on]) == set(anchors[on])
    got = np.asarray(shares_of_corners(given, given[found], jnp.asarray(on)))
    np.testing.assert_allclose(got.sum(1), 1.0, rtol=1e-5)
    mean = share.mean(0)
    joint = topics[on] * mean[:, None]
    expected = (joint[:, known] / joint[:, known].sum(0)).T
    order = [list(anchors[on]).index(a) for a in found[on]]
    np.testing.assert_allclose(got[known][:, on], expected[:, order], atol=0.02)
    if off is not None:
        np.testing.assert_array_equal(got[:, off], 0.0)


def test_topics_of_many_documents_are_those_that_were_planted():
    rng = np.random.default_rng(1)
    topics, _ = separable(rng)
    shares = rng.dirichlet(np.full(K, 0.2), 3000)
    count = np.stack([rng.multinomial(60, own @ topics) for own in shares])
    found, size = topics_of(jnp.asarray(count, float), jnp.ones(3000), jnp.ones(K, bool))
    apart = np.abs(np.asarray(found)[:, None] - topics).sum(-1)
    assert sorted(apart.argmin(1)) == list(range(K))
    assert apart.min(1).max() < 0.15  # 2 is the farthest
    np.testing.assert_allclose(np.asarray(size)[apart.argmin(0)], shares.mean(0), rtol=0.2)


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(0)
    topics, theta = rng.dirichlet(np.full(60, 0.1), 5), rng.dirichlet(np.full(5, 0.2), 300)
    return topics, np.stack([rng.multinomial(60, own @ topics) for own in theta]).astype(float)


def test_a_start_ends_near_the_best(planted):
    topics, count = planted
    model = vx.LDA.from_data(count, 5, topic_conc=0.2, word_conc=0.1)
    stop = vx.Stop(max_iter=100)
    fit = vx.fit(model, count, key=jax.random.key(0), stop=stop)
    conc = model.components.each.conc + topics * count.sum() / 5
    q = model.template
    truth = vx.fit(
        model,
        count,
        init=type(q)(q.labels, vx.DirichletMultinomial(vx.Dirichlet(jnp.asarray(conc)))),
        stop=stop,
    )
    assert fit.elbo > truth.elbo - 10.0


def test_starts_differ_and_take_lists_tables_and_few_words(planted, monkeypatch):
    _, count = planted
    rows, dense = vx.Batch.documents(count, dense=False), vx.Batch.documents(count, dense=True)
    on, key = jnp.ones(5, bool), jax.random.key(1)
    first = topic_starts.first_topics(key, dense, (5, 60), on)
    np.testing.assert_allclose(first, topic_starts.first_topics(key, rows, (5, 60), on), rtol=1e-3)
    np.testing.assert_allclose(first.sum((1, 2)), count.sum(), rtol=0.05)
    other = topic_starts.first_topics(key, dense, (5, 60), on, 1)
    assert np.abs(other - first).max() > 1.0
    monkeypatch.setattr(topic_starts, "_WORDS", 40)
    monkeypatch.setattr(topic_starts, "_FLOATS", 40 * 100)
    some = topic_starts.first_topics(key, dense, (5, 60), on)
    same = topic_starts.first_topics(key, rows, (5, 60), on)
    np.testing.assert_allclose(some, same, rtol=1e-3)
    often = np.argsort(-count.sum(0))
    rare = np.asarray(some)[..., often[40:]] / np.asarray(some).sum(-1, keepdims=True)
    np.testing.assert_allclose(rare.mean((0, 1)), count.sum(0)[often[40:]] / count.sum(), rtol=0.2)


@pytest.mark.parametrize("count", [np.eye(3), np.zeros((2, 3)), np.ones((1, 3))])
def test_documents_without_pairs_still_start(count):
    key, on = jax.random.key(0), jnp.asarray([True, True, True, False])
    batch = vx.Batch(jnp.asarray(count), jnp.ones(len(count)))
    found = np.asarray(topic_starts.first_topics(key, batch, (4, 3), on))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[:, 3], 0.0)


@pytest.mark.parametrize("corpus", ["planted", "digits"])
def test_the_start_of_the_better_bound_is_taken(corpus, planted):
    """Anchors where words are many and documents short, k-means where words are in all topics."""
    count = planted[1] if corpus == "planted" else load_digits().data[:400]
    model = vx.LDA.from_data(count, 5 if corpus == "planted" else 10)
    batch, key = model.as_batch(count), jax.random.key(0)
    k, v = model.components.each.conc.shape
    first = topic_starts.first_topics(jax.random.split(key)[0], batch, (k, v), model.active)
    stop = vx.Stop(tol=0.0, patience=2**30, max_iter=20)
    ends = []
    for number in first:
        topics = vx.DirichletMultinomial(vx.Dirichlet(model.components.each.conc + number))
        init = type(model.template)(model.labels.template, topics)
        ends.append(float(vx.fit(model, count, init=init, stop=stop).elbo))
    taken = int(np.argmax(ends))
    assert taken == (corpus == "digits")
    conc = model.init(key, batch).components.each.conc
    np.testing.assert_allclose(conc, model.components.each.conc + first[taken], rtol=1e-3)


def test_kmeans_finds_planted_clusters():
    """Rows of weight 0 move no centre, and centres that are off have no rows."""
    rng = np.random.default_rng(0)
    z = np.repeat(np.arange(3), 20)
    x = np.concatenate([10.0 * np.eye(3)[z] + rng.normal(size=(60, 3)), 1e3 * np.ones((1, 3))])
    on, weight = jnp.asarray([True, False, True, True]), jnp.asarray([1.0] * 60 + [0.0])
    own = np.asarray(kmeans(jax.random.key(0), jnp.asarray(x), weight, on))
    np.testing.assert_array_equal(own.sum(0), 1.0)
    np.testing.assert_array_equal(own[1], 0.0)
    members = {tuple(np.flatnonzero(row[:60])) for row in own if row.any()}
    assert members == {tuple(np.flatnonzero(z == k)) for k in range(3)}


def test_the_best_start_is_judged_after_its_steps():
    """The last step counts, not the first, and NaN is never best."""
    starts = {"value": jnp.asarray([5.0, 1.0, 2.0]), "gain": jnp.asarray([0.0, 3.0, jnp.nan])}

    def step(q):
        return {"value": q["value"] + q["gain"], "gain": q["gain"]}, q["value"]

    assert [int(best_start(step, starts, n)) for n in (0, 1, 2)] == [0, 0, 1]
    np.testing.assert_array_equal(take(starts, jnp.asarray(1))["gain"], 3.0)
