"""Topics to start from."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from ..data.batch import Batch
from ..data.documents import word_counts
from ..families.labels.base import present
from ..numerics.anchor_words import topics_of
from ..numerics.kmeans import kmeans
from ..numerics.linalg import matmul

_ALL = 0.02  # share of the words of all documents in a topic
_SHAPE = 100.0  # of the Gammas by which topics differ besides (Hoffman et al. 2010)
_WORDS = 2048  # the most frequent ones, that are looked at
_FLOATS, _PRODUCTS = 2**23, 2**33  # counts in a table of them, and products of two counts


def first_topics(
    key: Key[Array, ""],
    batch: Batch,
    shape: tuple[int, int],
    on: Bool[Array, "k"],
    restart: Int[Array, ""] | int = 0,
) -> Float[Array, "two k v"]:
    """How often each topic has each word at first, in two ways; a topic that is off has none.

    The first are words that go together (`numerics/anchor_words.py`), next to the best where words
    are many and documents short. The second are the documents of k clusters, by k-means of the
    roots of their shares, for words that are few and in all topics. Words that are not among the
    most frequent are shared by all topics, as a few of the others are, and topics differ at random
    besides, so that no two are equal. Starts other than 0 weigh the documents at random.
    """
    k_rows, k_weight, k_means, k_noise = jax.random.split(key, 4)
    number = _number(batch, shape[1])
    table, words = _table(batch, k_rows, number, shape[0])
    random = jax.random.exponential(k_weight, table.weight.shape, number.dtype)
    weight = table.weight * jnp.where(jnp.asarray(restart) == 0, 1.0, random)
    overall = _shares(number)
    among = _shares(overall[words])
    together, size = topics_of(table.x, weight, on)
    total = jnp.sum(table.x, 1, keepdims=True)
    roots = jnp.sqrt(table.x / jnp.where(total > 0, total, 1.0))
    own = matmul(kmeans(k_means, roots, jnp.where(total[:, 0] > 0, weight, 0.0), on), table.x)
    count = jnp.sum(own, 1, keepdims=True)
    alike = jnp.where(count > 0, own / jnp.where(count > 0, count, 1.0), among)
    noise = jax.random.gamma(k_noise, _SHAPE, shape, number.dtype) / _SHAPE

    def of_all(each: Array, size: Array) -> Array:
        share = jnp.broadcast_to(overall, shape)
        share = share.at[:, words].set(each * jnp.sum(overall[words]))
        share = (1.0 - _ALL) * share + _ALL * overall
        return jnp.sum(number) * size[:, None] * share * noise

    equal = jnp.where(on, 1.0, 0.0) / jnp.maximum(jnp.sum(on, dtype=noise.dtype), 1.0)
    size = jnp.where(jnp.sum(size) > 0, jnp.where(on, size, 0.0), equal)
    return jnp.stack([of_all(together, _shares(size)), of_all(alike, equal)])


def _number(batch: Batch, v: int) -> Float[Array, "v"]:
    """How often each word occurs in all documents, by weight."""
    count = present(batch.weight, word_counts(batch))
    if batch.steps is None:
        return jnp.sum(count, 0)
    return jnp.zeros(v, count.dtype).at[batch.x.reshape(-1)].add(count.reshape(-1))


def _table(
    batch: Batch, key: Key[Array, ""], number: Float[Array, "v"], k: int
) -> tuple[Batch, Int[Array, "m"]]:
    """Counts of the most frequent words in documents drawn at random, and which words they are."""
    v = number.shape[0]
    m = min(v, _WORDS)
    words = lax.top_k(number, m)[1] if m < v else jnp.arange(v, dtype=jnp.int32)
    size = max(2 * k, min(_FLOATS // m, _PRODUCTS // m**2))
    batch = some_rows(key, batch, size)
    count = word_counts(batch)
    if batch.steps is None:
        return Batch(count[:, words], batch.weight), words
    column = jnp.full(v, m, jnp.int32).at[words].set(jnp.arange(m, dtype=jnp.int32))
    rows = jnp.arange(count.shape[0])[:, None]
    table = jnp.zeros((count.shape[0], m), count.dtype)
    return Batch(table.at[rows, column[batch.x]].add(count, mode="drop"), batch.weight), words


def some_rows(key: Key[Array, ""], batch: Batch, size: int) -> Batch:
    """At most so many rows of positive weight, at random."""
    n = batch.weight.shape[0]
    if n <= size:
        return batch
    order = jnp.where(batch.weight > 0, jax.random.uniform(key, (n,)), -1.0)
    return batch.take(lax.top_k(order, size)[1])


def _shares(count: Float[Array, "m"]) -> Float[Array, "m"]:
    """Counts as shares of their sum; equal ones if all are 0."""
    total = jnp.sum(count)
    return jnp.where(total > 0, count / jnp.where(total > 0, total, 1.0), 1.0 / count.shape[0])
