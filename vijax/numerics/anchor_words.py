"""Topics from the words that go together: a start of topic models that is near their optimum.

If each topic has an anchor, a word that no other topic has, the words that go with any word are a
mixture of those that go with the anchors, in the shares of the topics that gave the word. Anchors
are the corners of all these distributions, found one by one as the farthest from the span of those
before; the shares are the best convex combination (Arora et al. 2013, A practical algorithm for
topic modeling with provable guarantees).
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .linalg import matmul

_STEPS = 300  # of exponentiated gradient
_RATE = 2.0  # of a step, over the largest curvature; the limit of what is stable


def topics_of(
    count: Float[Array, "n v"], weight: Float[Array, "n"], on: Bool[Array, "k"]
) -> tuple[Float[Array, "k v"], Float[Array, "k"]]:
    """p(word | topic) of the k topics that are `on`, and the share of each among all words.

    Topics that are off, or for which no word is left, have the words of all.
    """
    together = cooccurrence(count, weight)
    often = jnp.sum(together, 1)
    total = jnp.sum(often)
    share = often / jnp.where(total > 0, total, 1.0)
    given_word = together / jnp.where(often > 0, often, 1.0)[:, None]
    # rows of rare words are mostly noise, which is far from everything
    common = (share > 0) & (share * share.shape[0] >= 1.0)
    anchors = anchor_words(given_word, common, on)
    by_word = shares_of_corners(given_word, given_word[anchors], on)
    joint = by_word.T * share
    size = jnp.sum(joint, 1)
    some = (size > 0)[:, None]
    return jnp.where(some, joint / jnp.where(some, size[:, None], 1.0), share), size


def cooccurrence(count: Float[Array, "n v"], weight: Float[Array, "n"]) -> Float[Array, "v v"]:
    """How often two words of a document, drawn without replacement, are these; by weight.

    A word makes no pair with itself, so that what is expected is sum_n weight_n p_n p_n' of
    documents with word probabilities p_n. Documents of one word have no pairs.
    """
    number = jnp.sum(count, 1)
    pairs = number * (number - 1.0)
    some = (pairs > 0) & (weight > 0)
    each = jnp.where(some, weight / jnp.where(some, pairs, 1.0), 0.0)[:, None]
    rows = jnp.where(some[:, None], count, 0.0)
    same = jnp.arange(count.shape[1])
    found = matmul((each * rows).T, rows).at[same, same].add(-jnp.sum(each * rows, 0))
    return jnp.maximum(found, 0.0)


def anchor_words(
    given_word: Float[Array, "v m"], common: Bool[Array, "v"], on: Bool[Array, "k"]
) -> Int[Array, "k"]:
    """A word for each topic that is on: the farthest row from the span of those before.

    The first is the longest row, and distances are from it, for corners of a simplex are
    independent only so. Words that are not `common` are left out.
    """

    def find(j: Array | int, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        rows, found, begun = carry
        size = jnp.sum(rows**2, 1)
        i = jnp.argmax(size).astype(jnp.int32)
        along = matmul(rows, rows[i][:, None])[:, 0] / jnp.where(size[i] > 0, size[i], 1.0)
        # the first becomes the origin, and is not projected out
        along = jnp.where(begun, along, jnp.where(common, 1.0, 0.0))
        rows = jnp.where(on[j], rows - along[:, None] * rows[i], rows)
        return rows, found.at[j].set(jnp.where(on[j], i, 0)), begun | on[j]

    begin = jnp.where(common[:, None], given_word, 0.0)
    none = jnp.zeros(on.shape, jnp.int32)
    return lax.fori_loop(0, on.shape[0], find, (begin, none, jnp.asarray(False)))[1]


def shares_of_corners(
    rows: Float[Array, "v m"], corners: Float[Array, "k m"], on: Bool[Array, "k"]
) -> Float[Array, "v k"]:
    """The convex combination of the corners that are on, next to each row by squared distance.

    By exponentiated gradient (Kivinen & Warmuth 1997), nearly.
    """
    number = jnp.maximum(jnp.sum(on, dtype=corners.dtype), 1.0)
    # about their centre: what all have in common would make steps short
    centre = jnp.sum(jnp.where(on[:, None], corners, 0.0), 0) / number
    corners = jnp.where(on[:, None], corners - centre, 0.0)
    gram, toward = matmul(corners, corners.T), matmul(rows - centre, corners.T)
    top = jnp.max(jnp.abs(gram))
    rate = _RATE / jnp.where(top > 0, top, 1.0)

    def step(_: Array | int, share: Array) -> Array:
        slope = jnp.where(on, matmul(share, gram) - toward, jnp.inf)
        new = share * jnp.exp(rate * (jnp.min(slope, 1, keepdims=True) - slope))
        return new / jnp.sum(new, 1, keepdims=True)

    begin = jnp.broadcast_to(jnp.where(on, 1.0 / number, 0.0), toward.shape)
    return lax.fori_loop(0, _STEPS, step, begin)
