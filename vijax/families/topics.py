"""Topics: components whose steps are words of a large vocabulary, by their numbers."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from .._pytree import pytree
from .._text import count
from ..data.batch import Batch
from ..data.host import fetched, is_concrete
from ..exponential_family import Lifted
from .column_scale import refuse_exposure, refuse_noise
from .dirichlet import CategoricalMoments, Dirichlet
from .emission import Emission, EmissionMoments


@pytree
class TopicsMoments(EmissionMoments):
    """E[log p] of every word in every topic, (k, v), or log p at a point."""

    each: CategoricalMoments

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], None]:
        return self.each.log_p.T[rows.x], None

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k d c"], None]:
        """The probability of every word; numbers of words have no mean."""
        p = self.each.mean[None, :, None]
        return jnp.broadcast_to(p, (rows.x.shape[0], *p.shape[1:])), None

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """exp of the entropy of each topic, about how many words it is made of."""
        return {"words": _effective(self.each.mean)}


@pytree
class Topics(Lifted, Emission):
    """A word is drawn from Categorical(p_k) with p_k ~ Dirichlet(conc), conc (k, v).

    Rows are numbers of words, (n,) integers from 0 to below v, so that no array has an entry for
    each word of each row. T and h are those of Dirichlet.
    """

    each: Dirichlet
    part: ClassVar[str] = "each"

    @property
    def num_words(self) -> int:
        """Number of words v of the vocabulary."""
        return self.each.size

    @property
    def p(self) -> Float[Array, "*b k v"]:
        """Expected probability of each word in each topic."""
        return self.each.mean

    def moments(self) -> TopicsMoments:
        return TopicsMoments(self.each.moments())

    def point(self) -> TopicsMoments:
        return TopicsMoments(self.each.point())

    def observe(
        self,
        rows: Batch,
        soft_counts: Float[Array, "n k"],
        moments: Any = None,
        row_posterior: Any = None,
    ) -> Topics:
        """conc = sum of the soft counts of the rows of each word."""
        return self.counted(rows.x, soft_counts)

    def counted(self, words: Int[Array, "n"], soft_counts: Float[Array, "n k"]) -> Topics:
        """Statistics of words that count so often in each topic."""
        none = jnp.zeros(self.each.conc.shape[::-1], soft_counts.dtype)
        return Topics(Dirichlet(none.at[words].add(soft_counts, mode="clip").T))

    def words(self) -> list[str]:
        return [count(self.num_words, "word")]

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """exp of the entropy of each expected topic, about how many words it is made of."""
        return {"words": _effective(self.p)}

    def check(self, rows: Batch) -> None:
        """Raise ValueError unless rows are numbers of words, each present and without noise."""
        refuse_noise(rows, "a topic")
        refuse_exposure(rows, "a topic")
        if isinstance(rows.x, dict) or rows.x.ndim != 1 or rows.mask is not None:
            raise ValueError("x: a topic takes numbers of words; see Batch.documents")
        if not is_concrete(rows.x, rows.weight):
            return
        known = fetched(rows.x)
        bad = (fetched(rows.weight) > 0) & ((known < 0) | (known >= self.num_words))
        if bool(bad.any()):
            raise ValueError(
                f"x: word {int(known[bad.argmax()])}, but the model knows {self.num_words} words, "
                "numbered from 0; give Batch.documents its vocabulary"
            )

    def embed(self, rows: Batch) -> Float[Array, "n f"]:
        """Raise ValueError: words are no points; a model of documents has starts of its own."""
        raise ValueError("init: words are no points; take LDA, whose starts are documents")

    def log_predictive(self, rows: Batch) -> Float[Array, "n k"]:
        """log E[p] of each word, in nats."""
        return self.point().likelihood(rows)[0]

    def draw(self, key: Key[Array, ""], index: Int[Array, "n"]) -> Int[Array, "n"]:
        """Numbers of words, drawn with the expected probabilities of these topics."""
        cumulative, last = jnp.cumsum(self.p, -1), self.num_words - 1
        level = jax.random.uniform(key, index.shape, cumulative.dtype) * cumulative[index, last]
        low, high = jnp.zeros_like(index), jnp.full_like(index, last)
        for _ in range(last.bit_length()):  # bisection; no array has rows times words
            middle = (low + high) // 2
            above = cumulative[index, middle] <= level
            low = jnp.where(above, jnp.minimum(middle + 1, high), low)
            high = jnp.where(above, high, middle)
        return low

    def num_parameters(self) -> tuple[int, int]:
        return self.num_words - 1, 0

    def row_size(self, rows: Batch) -> int:
        return 3 * self.each.conc.shape[0]


def _effective(p: Float[Array, "*b k v"]) -> Float[Array, "*b k"]:
    log_p = jnp.log(jnp.where(p > 0, p, 1.0))
    return jnp.exp(-jnp.sum(p * log_p, -1))
