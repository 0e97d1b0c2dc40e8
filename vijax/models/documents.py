"""What is read off a fit of a topic model: memberships, bounds, held-out words, top words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from .._pytree import replace
from ..data.batch import Batch
from ..data.chunked import automatic_chunk, map_rows
from ..data.host import check_bound, check_integer, fetched, to_device
from ..data.padding import compiled, read_rows
from ..data.types import Data
from ..model import unnamed
from .mixture_params import Fitted
from .steps import Known, known_of, posterior_of
from .structured import Structured
from .structured_params import StructuredMoments, StructuredParams
from .topic_params import top_words


class DocumentPrediction:
    """The methods of a topic model that take a q, and documents.

    In place of `q` all of them take a Result. q(theta_n) of each document is found afresh, given
    the q of the topics.
    """

    labels: Any
    components: Any
    names: Any
    as_batch: Any
    read: Any

    def memberships(self, q: Known | Fitted, x: Data) -> Float[Array, "n k"]:
        """E[theta_n], the expected shares of the topics in each document."""
        return self._by_row(_memberships, known_of(q), self._documents(q, x))

    def row_bound(self, q: Known | Fitted, x: Data) -> Float[Array, "n"]:
        """log Z_n of each document in nats, a lower bound on log E_q[p(its words, in order)]."""
        return self._by_row(_row_bound, known_of(q), self._documents(q, x))

    def perplexity(self, q: Known | Fitted, x: Data) -> Float[Array, ""]:
        """exp of minus the mean `row_bound` per word: an upper bound, to be taken of new documents.

        It is about how many words a word is drawn from; the topics are not charged for.
        """
        batch = self._documents(q, x)
        bound = self._by_row(_row_bound, known_of(q), batch)
        return compiled(_perplexity)(bound, batch)

    def complete(self, q: Known | Fitted, observed: Data, held_out: Data) -> Float[Array, ""]:
        """Mean log probability of the held-out words in nats per word, given those observed.

        Row n of both is the same document. A word has probability sum_k E[theta_nk] E[p_kw], with
        theta_n found from the observed words alone (Wallach et al. 2009, document completion).
        """
        known = known_of(q)
        seen, new = self._documents(q, observed), self._documents(q, held_out)
        if seen.weight.shape != new.weight.shape:
            raise ValueError(
                f"held_out: {new.weight.shape[0]} documents, but {seen.weight.shape[0]} observed"
            )
        memberships = self._by_row(_memberships, known, seen)
        return compiled(_completion)(unnamed(self), known, memberships, new)

    def top_words(self, q: Known | Fitted, num: int = 10, names: Any = None) -> list[list[str]]:
        """The `num` most probable words of each topic, by `names`, or those of the fit or model."""
        check_integer("num", num)
        check_bound("num", num, least=1.0)
        if names is None and isinstance(q, Fitted):
            names = q.names
        names = self.names if names is None else names
        return top_words(fetched(compiled(_topics)(known_of(q))), num, names)

    def topic_shares(self, q: Known | Fitted) -> Float[Array, "k"]:
        """Expected share of each topic among all words of the documents of the fit."""
        return posterior_of(q).labels.mean

    def sample(
        self: Any, q: Known | Fitted, key: Key[Array, ""], n: int, *, length: int
    ) -> tuple[Int[Array, "n t"], Int[Array, "n t"]]:
        """n new documents of `length` words: the numbers of the words, and the topic of each.

        Each document has weights of its own, and words have their expected probabilities.
        """
        for name, value, least in (("n", n, 0.0), ("length", length, 1.0)):
            check_integer(name, value)
            check_bound(name, value, least=least)
        like = to_device(np.zeros((n, length), np.float32))
        return compiled(_sample)(unnamed(self), posterior_of(q), key, like)

    def _documents(self: Any, q: Known | Fitted, x: Data) -> Batch:
        """The documents in the form of the model, whatever the weight of those that have words."""
        batch = self.as_batch(self.read(x))
        self.check(batch, point=False)
        dtype = jax.tree.leaves(known_of(q))[0].dtype
        counts = batch.x if batch.steps is None else batch.steps
        held = {"weight": batch.weight, "x" if batch.steps is None else "steps": counts}
        held = {name: a.astype(dtype) for name, a in held.items()}
        return replace(batch, **held, names=None, levels=None, as_given=None)

    def _by_row(self: Any, program: Callable[..., Any], known: Known, batch: Batch) -> Any:
        """What the program gives for every document, whatever its weight."""
        return read_rows(program, _present(batch), unnamed(self), known)


def counts_of(batch: Batch) -> Float[Array, "n t"]:
    """How often words occur in each document: all of them, or those of its list."""
    counts = batch.x if batch.steps is None else batch.steps
    return jnp.where((batch.weight > 0)[:, None] & (counts > 0), counts, 0.0)


def _present(batch: Batch) -> Batch:
    return replace(batch, weight=np.ones(batch.weight.shape, batch.weight.dtype))


# each is compiled as one program, and not operation by operation


def _memberships(model: Structured, q: Known, batch: Batch) -> Float[Array, "n k"]:
    gamma = model.local(_moments(q), batch).rows
    return gamma / jnp.sum(gamma, -1, keepdims=True)


def _row_bound(model: Structured, q: Known, batch: Batch) -> Float[Array, "n"]:
    return model.local(_moments(q), batch).log_z


def _perplexity(bound: Float[Array, "n"], batch: Batch) -> Float[Array, ""]:
    words = jnp.sum(batch.weight * jnp.sum(counts_of(batch), 1))
    total = jnp.sum(jnp.where(batch.weight > 0, batch.weight * bound, 0.0))
    return jnp.exp(-total / words)


def _completion(
    model: Structured, q: Known, memberships: Float[Array, "n k"], batch: Batch
) -> Float[Array, ""]:
    p = _topics(q)

    def score(rows: Any) -> tuple[Array, Array]:
        part, theta = rows
        count = counts_of(part)
        if part.steps is None:
            mean = jnp.matmul(theta, p, precision="highest")
        else:
            mean = jnp.einsum("nk,ntk->nt", theta, p.T[part.x], precision="highest")
        log_p = jnp.log(jnp.where(count > 0, mean, 1.0))
        return jnp.sum(count * log_p, 1), jnp.sum(count, 1)

    chunk = automatic_chunk(model.row_size(batch), batch)
    log_p, words = map_rows(score, (batch, memberships), chunk)
    return jnp.sum(batch.weight * log_p) / jnp.sum(batch.weight * words)


def _topics(q: Known) -> Float[Array, "k v"]:
    """E[p], or p at a point."""
    if isinstance(q, StructuredParams):
        return q.components.p
    return q.components.each.mean


def _sample(
    model: Structured, q: StructuredParams, key: Key[Array, ""], like: Float[Array, "n t"]
) -> tuple[Int[Array, "n t"], Int[Array, "n t"]]:
    k_labels, k_words = jax.random.split(key)
    labels = model.labels.simulate(q.labels.point(), k_labels, like.shape)
    return q.components.draw(k_words, labels.reshape(-1)).reshape(like.shape), labels


def _moments(q: Known) -> StructuredMoments:
    return q.moments() if isinstance(q, StructuredParams) else q
