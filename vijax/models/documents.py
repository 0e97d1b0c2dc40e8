"""What is read off a fit of a topic model: topics, memberships, scores of held-out words."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from .._pytree import pytree, replace
from ..data.batch import Batch
from ..data.host import check_bound, check_integer, fetched, to_device
from ..data.padding import compiled
from ..data.types import Data
from ..exponential_family import Q
from ..families.dirichlet import Dirichlet
from ..numerics import linalg, sampling, special
from .memberships import MembershipPrediction
from .mixture_params import Fitted
from .steps import Known, moments_of, posterior_of
from .structured import Structured
from .topic_params import most_probable


@pytree
class Completion:
    """Scores of words that were left out of n documents, given the others.

    `log_score` is the sum of log p(word) over them in nats, and `num_words` their number.
    """

    log_score: Float[Array, "n"]
    num_words: Float[Array, "n"]

    @property
    def perplexity(self) -> float:
        """exp(-log_score per word), over all documents; a uniform guess among v words has v."""
        score, number = (np.asarray(fetched(a), float) for a in (self.log_score, self.num_words))
        return float(np.exp(-np.sum(score) / np.sum(number)))


class DocumentPrediction(MembershipPrediction):
    """The methods of a topic model that take a q, and documents; for `q` also a Result.

    What is said of words has the form of `Batch.documents`: of all v words, (n, v, k), for a table,
    and otherwise of the words of each list, (n, l, k).
    """

    def responsibilities(self, q: Known | Fitted, x: Data) -> Float[Array, "n m k"]:
        """Posterior probability of each topic for each word of each document, as above."""
        return self._by_row(_responsibilities, q, x)[0]

    def predict(self, q: Known | Fitted, x: Data) -> Int[Array, "n"]:
        """The topic with the largest share in each document."""
        return jnp.argmax(self.memberships(q, x), -1).astype(jnp.int32)

    def impute(self, q: Known | Fitted, x: Data) -> Any:
        """Raise TypeError: no count of a document is missing."""
        raise TypeError("impute: documents have no missing entries; see `document_completion`")

    def topics(self, q: Known | Fitted) -> Float[Array, "k v"]:
        """Expected probability of each word in each topic; rows sum to one."""
        return posterior_of(q).components.p

    def top_words(self, q: Known | Fitted, num_words: int = 10) -> list[list[tuple[str, float]]]:
        """The most probable words of each topic, with their probabilities, as (word, p)."""
        check_integer("num_words", num_words)
        p = fetched(self.topics(q))
        given = q.names if isinstance(q, Fitted) else None
        names = self.names or given or [str(j) for j in range(p.shape[1])]
        return [[(names[j], float(row[j])) for j in most_probable(row, num_words)] for row in p]

    def document_completion(
        self: Any,
        q: Known | Fitted,
        x: Data,
        rest: Data | None = None,
        *,
        key: Key[Array, ""] | None = None,
    ) -> Completion:
        """How well some words of each document tell its others (Wallach et al. 2009, section 5).

        q(theta_n) is found from the words `x`; those of `rest`, of the same documents, are scored
        by the probabilities sum_k E[theta_nk] E[topic_k]. Without `rest` each word of `x` is dealt
        to one of two halves at random, by `key`; counts must be whole for that.
        """
        if rest is None:
            if key is None:
                raise ValueError(
                    "key: words are dealt at random; pass key=jax.random.key(0), or give `rest`"
                )
            return self._by_row(_completed, q, x, key)[0]
        share = self.memberships(q, x)
        other, own = self.as_batch(rest).unfilled, posterior_of(q)
        self.check_steps(other)
        if other.weight.shape[0] != share.shape[0]:
            raise ValueError(
                f"rest: {other.weight.shape[0]} documents, but `x` has {share.shape[0]}"
            )
        plain = replace(other, weight=jnp.ones_like(other.weight), names=None, as_given=None)
        return compiled(_scored)(own, share, jax.tree.map(to_device, plain))

    def sample(
        self: Any, q: Known | Fitted, key: Key[Array, ""], n: int, *, length: int, **options: Any
    ) -> tuple[Float[Array, "n v"], Float[Array, "n k"]]:
        """Counts of n new documents of `length` words, and their memberships.

        Topics are at the means of their q.
        """
        for name, value, least in (("n", n, 0.0), ("length", length, 1.0)):
            check_integer(name, value)
            check_bound(name, value, least=least)
        total = to_device(np.full(n, length, np.float32))
        return compiled(_sample)(posterior_of(q), key, total)


# each is compiled as one program, and not operation by operation


def _responsibilities(model: Structured, q: Known, batch: Batch) -> Float[Array, "n m k"]:
    moments = moments_of(model, q)
    gamma = model.local(moments, batch).rows
    log_p = model.step_log_lik(moments, batch)
    joint = Dirichlet(gamma).moments().log_p[:, None] + log_p
    return special.normalize(joint.reshape(-1, joint.shape[-1]))[0].reshape(joint.shape)


def _completed(model: Structured, q: Known, key: Key[Array, ""], batch: Batch) -> Completion:
    count = batch.x if batch.steps is None else batch.steps
    half = sampling.binomial(key, count, jnp.full_like(count, 0.5))
    field = "x" if batch.steps is None else "steps"
    seen, rest = replace(batch, **{field: half}), replace(batch, **{field: count - half})
    moments = moments_of(model, q)
    gamma = model.local(moments, seen).rows
    return _scored(q, gamma / jnp.sum(gamma, -1, keepdims=True), rest)


def _scored(q: Q, share: Float[Array, "n k"], rest: Batch) -> Completion:
    p = q.components.p.astype(share.dtype)
    if rest.steps is None:
        count, each = rest.x, linalg.matmul(share, p)
    else:
        count = rest.steps
        each = jnp.einsum("nk,nlk->nl", share, p.T[rest.x], precision="highest")
    log_p = jnp.where(count > 0, jnp.log(jnp.where(count > 0, each, 1.0)), 0.0)
    return Completion(jnp.sum(count * log_p, -1), jnp.sum(count, -1))


def _sample(
    q: Q, key: Key[Array, ""], total: Float[Array, "n"]
) -> tuple[Float[Array, "n v"], Float[Array, "n k"]]:
    k_share, k_words = jax.random.split(key)
    share = q.labels.draw(q.labels.moments(), k_share, total.shape[0])
    p = linalg.matmul(share, q.components.p)
    return sampling.multinomial(k_words, total.astype(p.dtype), p), share
