"""Documents in a Batch: a table of counts, or lists of words, whatever they come as."""

import jax
import numpy as np
import pytest
import scipy.sparse as sp

import vijax as vx


@pytest.fixture
def counts(rng):
    table = rng.poisson(0.1, size=(7, 30)) * rng.integers(1, 4, size=(7, 30))
    table[:, 3] = np.arange(1, 8)  # no document is empty
    return table


def table_of(batch, v):
    """The counts (n, v) that lists of words mean."""
    table = np.zeros((len(batch.weight), v))
    rows = np.arange(len(table))[:, None]
    np.add.at(table, (rows, np.asarray(batch.x)), np.asarray(batch.steps))
    return table


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_every_form_means_the_same_counts(counts):
    n, v = counts.shape
    whole, lists = vx.Batch.documents(counts, dense=True), vx.Batch.documents(counts, dense=False)
    np.testing.assert_array_equal(whole.x, counts)
    assert whole.steps is None
    assert lists.x.dtype == np.int32
    assert lists.x.shape == lists.steps.shape == (n, (counts > 0).sum(1).max())
    np.testing.assert_array_equal(table_of(lists, v), counts)
    same(lists, vx.Batch.documents(sp.csr_matrix(counts), dense=False))
    words = [np.repeat(np.arange(v), row) for row in counts]
    same(lists, vx.Batch.documents([w[::-1] for w in words], vocabulary=v, dense=False))
    pairs = [(np.flatnonzero(row), row[row > 0]) for row in counts]
    same(lists, vx.Batch.documents(pairs, vocabulary=v, dense=False))
    twice = sp.coo_matrix(
        (np.full(2 * n, 0.5), (np.tile(np.arange(n), 2), np.full(2 * n, 3))), (n, v)
    )
    np.testing.assert_array_equal(table_of(vx.Batch.documents(twice), v)[:, 3], np.ones(n))
    same(vx.Batch.of(lists), lists)
    rows = lists.flat()
    np.testing.assert_array_equal(rows.weight, np.asarray(lists.steps).reshape(-1))


def test_few_words_make_lists(rng):
    """Fewer than 15 % of all words in a document."""
    for share, steps in ((0.1, True), (0.2, False)):
        table = np.zeros((10, 20))
        table[:, : int(20 * share)] = 1.0
        for given in (table, sp.csr_matrix(table), [np.flatnonzero(row) for row in table]):
            assert (vx.Batch.documents(given, vocabulary=20).steps is not None) == steps


def test_words_by_name(counts):
    """A model may know more words, and in another order."""
    v = counts.shape[1]
    words = tuple(f"w{j}" for j in range(v))
    more = ("other", *words[::-1])
    for dense in (True, False):
        batch = vx.Batch.documents(counts, np.arange(7.0), vocabulary=words, dense=dense)
        assert batch.names == words
    found = batch.in_order(more)
    assert found.names == more
    np.testing.assert_array_equal(table_of(found, v + 1)[1:, :0:-1], counts[1:])
    np.testing.assert_array_equal(table_of(found.unfilled, v + 1)[:, :0:-1], counts)
    with pytest.raises(ValueError, match="the word 'w0' is unknown"):
        batch.in_order(words[1:])
    with pytest.raises(ValueError, match="dense"):
        batch.by_name()


def test_empty_documents_have_weight_0(counts):
    counts[[2, 5]] = 0
    for dense in (True, False):
        with pytest.warns(UserWarning, match="2 of 7 documents"):
            batch = vx.Batch.documents(counts, dense=dense)
        np.testing.assert_array_equal(batch.weight, [1, 1, 0, 1, 1, 0, 1])
        read = batch.unfilled
        found = read.x if dense else table_of(read, counts.shape[1])
        np.testing.assert_array_equal(found, counts)
    with pytest.warns(UserWarning, match="2 of 7 documents"):
        batch = vx.Batch.documents(counts, 2 * np.arange(7.0))
    np.testing.assert_array_equal(batch.weight, [0, 2, 0, 6, 8, 0, 12])


def test_errors_name_document_and_word(counts):
    v = counts.shape[1]
    words = [f"w{j}" for j in range(v)]
    for bad in (-1.0, np.nan, np.inf):
        table = counts.astype(float)
        table[4, 7] = bad
        text = f"got {bad:g} in document 4, word"
        for given in (table, sp.csr_matrix(table)):
            with pytest.raises(ValueError, match=f"{text} 'w7'"):
                vx.Batch.documents(given, vocabulary=words)
    cases = [
        ("word 9 in document 1 is none of the 5", {"counts": [[0], [1, 9]], "vocabulary": 5}),
        ("word -1 in document 0", {"counts": [[0, -1]]}),
        ("expected 31 words|expected 30 words", {"counts": counts, "vocabulary": [*words, "x"]}),
        ("twice", {"counts": counts, "vocabulary": ["a"] * v}),
        ("2 words, but counts", {"counts": [([0, 1], [1.0])]}),
        ("expected shape", {"counts": np.ones(3)}),
        ("weight: .*document 1", {"counts": counts, "weight": [1.0, np.nan, *[1.0] * 5]}),
        ("no document has words", {"counts": 0 * counts}),
        ("an empty list", {"counts": []}),
    ]
    for text, given in cases:
        with pytest.raises(ValueError, match=text):
            vx.Batch.documents(**given)
    with pytest.raises(TypeError, match="numbers of words"):
        vx.Batch.documents([[0.5]])
