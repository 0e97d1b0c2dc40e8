"""Latent Dirichlet allocation: topics of documents."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from .._pytree import pytree, replace, static
from .._text import count, short
from ..data.batch import Batch, check_entries
from ..data.documents import lists_words, word_counts
from ..data.host import (
    as_floats,
    check_bound,
    column_names,
    common_dtype,
    fetched,
    is_concrete,
    namespace,
    to_device,
)
from ..data.types import AnyArray, ArrayLike, Data
from ..families.column_scale import refuse_exposure, refuse_noise
from ..families.dirichlet import CategoricalMoments, Dirichlet
from ..families.independent.dirichlet_multinomial import DirichletMultinomial
from ..families.labels.admixture import Admixture
from ..families.labels.base import Labels, present
from ..kernel import Kernel
from ..model import EStep, weighted_sum
from ..numerics import linalg
from ..numerics.admixture import Tokens, equal_shares
from ..numerics.lanes import take
from ..numerics.short_runs import best_start
from .documents import DocumentPrediction
from .parts import check_parts
from .priors import admixtures
from .priors.arguments import check_count, check_size
from .sequence_model import SequenceModel
from .topic_params import TopicParams
from .topic_starts import first_topics, some_rows

_SOME, _PASSES, _INNER = 500, 3, 50  # documents, passes, and updates in one, to compare starts


@pytree
class LDA(DocumentPrediction, SequenceModel[TopicParams]):
    """theta_n ~ Dirichlet(topic_conc), a topic z_nt ~ Categorical(theta_n), and a word from it.

    Topics are probabilities of v words, drawn from Dirichlet(word_conc) (Blei, Ng & Jordan 2003;
    Hoffman, Blei & Bach 2010). Rows are documents, in any form that `Batch.documents` takes: a
    table of counts (n, v), a sparse matrix, lists of words.

    The bound is ELBO = sum_n w_n log Z_n - KL(q || p). log Z_n is the exact bound on document n at
    its q(theta_n) = Dirichlet(gamma_n), with q(z_n) at its optimum. It is one on the probability of
    the words in their order, without the multinomial coefficient that a multinomial mixture's has.
    gamma_n is iterated in every pass, see `Admixture`. A fit goes on from the last gamma, and its
    bound never falls; `elbo`, `row_bound` and the like begin afresh, and may end lower by a little.

    `labels` is an `Admixture`, the prior of the memberships, and `components` a
    `DirichletMultinomial` (k, v), that of the topics. `names` are the words.
    """

    labels: Admixture
    components: DirichletMultinomial
    switch: Bool[Array, "*b k"] | None = None
    improper: bool = static(default=False)
    names: tuple[str, ...] | None = static(default=None)

    params: ClassVar[Any] = TopicParams
    row_data: ClassVar[bool] = True

    @classmethod
    def from_data(
        cls,
        counts: Data,
        num_topics: int,
        *,
        topic_conc: ArrayLike | None = None,
        word_conc: ArrayLike | None = None,
        learn_topic_conc: bool = False,
        inner: int = 100,
        tol: ArrayLike = 1e-3,
        start: str = "both",
        k_max: int | None = None,
    ) -> LDA:
        """Build a topic model with a weak default prior; of the data only the words are used.

        Raises ValueError or TypeError that name the argument.

        Args:
            counts: Documents, as `Batch.documents` takes them.
            num_topics: Number of topics, k.
            topic_conc: Pseudo-counts of words of each topic in a document, > 0: a scalar or (k,);
                1 / k by default. The smaller, the fewer topics has a document.
            word_conc: Pseudo-counts of each word in a topic, > 0: a scalar, (v,) or (k, v); 1 / k
                by default.
            learn_topic_conc: Whether `topic_conc` is only where it starts, and becomes that of the
                highest bound, one number for each topic (Wallach et al. 2009). Topics without words
                fade slowly then; `Accelerated(CAVI())` needs far fewer passes.
            inner: Most updates of gamma_n in a pass.
            tol: A document is settled when an update moves gamma_n by at most so many words in the
                mean over topics.
            start: Where gamma_n begins in a pass: "warm", at its last value; "cold", afresh; or
                "both", of which the better is kept for each document. "warm" is fastest but ends in
                worse optima, and with "cold" the bound may fall.
            k_max: Number of topics to make room for. The first `num_topics` are switched on, so
                that models of different size share one program.

        Example:
            rng = np.random.default_rng(0)
            topics, share = rng.dirichlet(np.full(30, 0.1), 3), rng.dirichlet(np.full(3, 0.3), 40)
            counts = np.stack([rng.multinomial(50, own @ topics) for own in share])
            model = vx.LDA.from_data(counts, 3)
            shares = model.memberships(vx.fit(model, counts, key=jax.random.key(0)), counts)
        """
        batch = counts if isinstance(counts, Batch) else Batch.documents(counts)
        check_entries(batch)
        own = word_conc if word_conc is not None else 1.0 / check_count("num_topics", num_topics)
        settings = {
            "inner": inner,
            "tol": tol,
            "start": start,
            "learn_topic_conc": learn_topic_conc,
        }
        return cls._of(
            num_topics,
            num_words_of(batch),
            topic_conc,
            own,
            batch.names,
            batch.weight.dtype,
            k_max,
            **settings,
        )

    @classmethod
    def with_prior(
        cls,
        num_topics: int,
        *,
        word_conc: ArrayLike,
        topic_conc: ArrayLike,
        vocabulary: Any = None,
        learn_topic_conc: bool = False,
        inner: int = 100,
        tol: ArrayLike = 1e-3,
        start: str = "both",
    ) -> LDA:
        """Build a topic model from `word_conc` > 0, pseudo-counts (v,) or (k, v) of topics' words.

        `vocabulary` are the v words, if they have names; `num_topics`, `topic_conc`, `inner`,
        `learn_topic_conc`, `tol`, `start` are as in `from_data`; ValueError names the argument.
        Example: `model = vx.LDA.with_prior(3, word_conc=np.full(30, 0.1), topic_conc=0.3)`
        """
        value = as_floats("word_conc", word_conc)
        if value.ndim not in (1, 2):
            raise ValueError(f"word_conc: expected shape (v,) or (k, v), got {value.shape}")
        names = None if vocabulary is None else tuple(map(str, vocabulary))
        v = value.shape[-1]
        if names is not None and len(names) != v:
            raise ValueError(f"vocabulary: expected {v} words, got {len(names)}")
        settings = {
            "inner": inner,
            "tol": tol,
            "start": start,
            "learn_topic_conc": learn_topic_conc,
        }
        dtype = common_dtype(value)
        return cls._of(num_topics, v, topic_conc, value, names, dtype, None, **settings)

    @classmethod
    def _of(
        cls,
        num_topics: int,
        num_words: int,
        topic_conc: ArrayLike | None,
        word_conc: ArrayLike,
        names: tuple[str, ...] | None,
        dtype: Any,
        k_max: int | None,
        *,
        learn_topic_conc: bool,
        **settings: Any,
    ) -> LDA:
        labels = admixtures.from_conc(
            num_topics, topic_conc, k_max, "topic_conc", learn=learn_topic_conc, **settings
        )
        size = check_size(num_topics, k_max)
        each = _word_conc(word_conc, num_topics, size, num_words)
        parts = labels, DirichletMultinomial(Dirichlet(to_device(each)))
        parts = jax.tree.map(lambda a: to_device(a, dtype), parts)
        return cls(*parts, names=names)

    def __repr__(self) -> str:
        try:
            words = [count(self.num_components, "topic"), count(self.num_words, "word")]
        except Exception:  # a pytree may hold anything while JAX looks at its structure
            return short(self)
        return f"{type(self).__name__}({', '.join(words)})"

    # -- data -------------------------------------------------------------------------------------

    @property
    def num_words(self) -> int:
        """Number of words in the vocabulary, v."""
        return self.components.num_columns

    def read(self, data: Data) -> Batch:
        if isinstance(data, Batch):
            return data
        named = column_names(data) is not None
        return Batch.documents(data, vocabulary=None if named else self.names)

    def as_batch(self, data: Data) -> Batch:
        """Documents with the words in the order of the model.

        Raises TypeError or ValueError if the two priors do not go together, and ValueError for
        words that the model does not know.
        """
        check_parts(self.labels, self.components, "labels", Labels, "Admixture")
        return self.read(data).in_order(self.names).numeric()

    def check(self, batch: Batch, point: bool) -> None:
        self.check_steps(batch)
        self.check_method(point)

    def check_steps(self, batch: Batch) -> None:
        """Raise ValueError unless rows are counts of the words of the model."""
        refuse_noise(batch, "a topic model", "counts have none")
        refuse_exposure(batch, "a topic model")
        for name in ("mask", "label"):
            if getattr(batch, name) is not None:
                raise ValueError(f"{name}: a topic model takes none; leave words out")
        v, x = self.num_words, batch.x
        if lists_words(batch):
            if is_concrete(x, batch.steps, batch.weight):
                here = (fetched(batch.steps) > 0) & (fetched(batch.weight) > 0)[:, None]
                used = fetched(x)[here]
                if used.size and not 0 <= used.min() <= used.max() < v:
                    raise ValueError(f"x: word {used.max()}, but the model knows {v} words")
            return
        if isinstance(x, dict) or x.ndim != 2 or batch.steps is not None:
            raise ValueError("x: expected documents; see Batch.documents")
        if x.shape[1] != v:
            raise ValueError(f"x: has {x.shape[1]} columns, but the model knows {v} words")
        if is_concrete(x, batch.weight):
            bad = ~(fetched(x) >= 0) & (fetched(batch.weight) > 0)[:, None]
            if bad.any():
                n, word = np.argwhere(bad)[0]
                raise ValueError(f"x: counts must be >= 0, got one of word {word} in row {n}")

    def row_size(self, batch: Batch) -> int:
        k = self.num_components
        return 3 * self.num_words + 4 * k if batch.steps is None else _listed(batch) * (2 * k + 4)

    def kernels(self, moments: Any, batch: Batch) -> tuple[Kernel, ...]:
        return (Kernel(moments, self.row_size(batch)),)

    # -- E-step -----------------------------------------------------------------------------------

    def rows(self, batch: Batch) -> Float[Array, "n k"]:
        return equal_shares(jnp.sum(word_counts(batch), -1), self.labels.conc)

    def local_from(self, moments: Any, batch: Batch, rows: Any) -> EStep:
        if batch.steps is not None:
            log_lik = self.step_log_lik(moments, batch)
            found = self.labels.infer(moments.labels, log_lik, batch, rows)
            stats = self._observe(moments, batch, found.resp)
            return EStep(self.params(found.stats, stats), found.log_z, found.rows)
        tokens = self._tokens(moments, batch)
        found = self.labels.settled(moments.labels, tokens, rows)
        weight = jnp.where(batch.weight > 0, batch.weight, 0.0)
        topics = DirichletMultinomial(Dirichlet(tokens.totals(weight, found.theta, found.norm)))
        labels = self.labels.observe(batch, found.gamma, moments.labels)
        return EStep(self.params(labels, topics), found.log_z, found.gamma)

    def _tokens(self, moments: Any, batch: Batch) -> Tokens:
        on = moments.labels.conc > 0
        return Tokens.of_table(word_counts(batch), moments.components.each.log_p, on)

    def step_log_lik(self, moments: Any, batch: Batch) -> Float[Array, "..."]:
        """E[log p(word | topic)] in nats of the words of lists, (n, l, k), or of all, (v, k)."""
        log_p = moments.components.each.log_p.T
        return log_p if batch.steps is None else log_p[batch.x]

    def step_odds(self, moments: Any, batch: Batch) -> Float[Array, "..."]:
        return self.step_log_lik(moments, batch)

    def _observe(self, moments: Any, batch: Batch, resp: Float[Array, "..."]) -> Any:
        """Topics that gave the words of each list with these probabilities, or whole documents."""
        if batch.steps is None:
            weight = jnp.where(batch.weight > 0, batch.weight, 0.0)[:, None]
            number = linalg.matmul((weight * resp).T, word_counts(batch))
        else:
            weight = batch.weight[:, None] * batch.steps
            own = present(weight, resp).reshape(-1, resp.shape[-1])
            number = jnp.zeros((self.num_words, own.shape[1]), own.dtype)
            number = number.at[batch.x.reshape(-1)].add(own).T
        return DirichletMultinomial(Dirichlet(number))

    def tempered(self, moments: Any, batch: Batch, power: Float[Array, ""]) -> Any:
        each = CategoricalMoments(power * moments.components.each.log_p)
        moments = replace(moments, components=replace(moments.components, each=each))
        return self.local(moments, batch).stats

    # -- starts -----------------------------------------------------------------------------------

    def init(
        self, key: Key[Array, ""] | None, batch: Batch, restart: Int[Array, ""] | int = 0
    ) -> TopicParams:
        """The better of two ways to begin (`first_topics`), by the bound after three short passes.

        Passes are over some of the documents. Starts but the first weigh them at random.
        """
        assert key is not None  # `draws` says that there is one
        k_topics, k_rows = jax.random.split(key)
        k, v = self.components.each.conc.shape
        number = first_topics(k_topics, batch, (k, v), self.active, restart)
        starts = jax.vmap(self._beginning)(number)
        short = replace(self.labels, start="cold", inner=min(self.labels.inner, _INNER))
        model, some = replace(self, labels=short), some_rows(k_rows, batch, _SOME)

        def step(q: TopicParams) -> tuple[TopicParams, Array]:
            found = model.local_from(q.moments(), some, None)
            return model.update(q, found.stats), weighted_sum(some, found.log_z) - model.kl(q)

        return take(starts, best_start(step, starts, _PASSES))

    def _beginning(self, number: Float[Array, "k v"]) -> TopicParams:
        """The q of topics with so many of each word."""
        labels = self.labels.update(self.labels, self.labels.begin(jnp.sum(number, 1)))
        topics = Dirichlet(self.components.each.conc + number)
        return TopicParams(labels, DirichletMultinomial(topics))

    def assign(self, q: TopicParams, batch: Batch, resp: Float[Array, "..."]) -> Any:
        stats = self._observe(None, batch, resp)
        if batch.steps is not None:
            return self.params(self.labels.assign(resp, batch), stats)
        number = present(jnp.sum(word_counts(batch), -1), resp)
        return self.params(self.labels.of_numbers(batch, number), stats)


def _listed(batch: Batch) -> int:
    assert batch.steps is not None
    return batch.steps.shape[1]


def num_words_of(batch: Batch) -> int:
    """The size of the vocabulary of documents; ValueError if it is not known."""
    if batch.steps is None:
        if isinstance(batch.x, dict) or batch.x.ndim != 2:
            raise ValueError("counts: expected documents; see Batch.documents")
        return batch.x.shape[1]
    if not lists_words(batch) or batch.names is None:
        raise ValueError(
            "counts: lists of words without a vocabulary; make them by Batch.documents(counts, "
            "vocabulary=...)"
        )
    return len(batch.names)


def _word_conc(value: ArrayLike, k: int, size: int, v: int) -> AnyArray:
    """Pseudo-counts of words (size, v), > 0, from a scalar, (v,) or (k, v)."""
    array = as_floats("word_conc", value)
    check_bound("word_conc", array, above=0.0)
    if array.shape not in ((), (v,), (k, v)):
        raise ValueError(
            f"word_conc: expected a scalar, ({v},) or ({k}, {v}), got shape {array.shape}"
        )
    xp = namespace(array)
    array = xp.broadcast_to(array, (k, v))
    return xp.concatenate([array, xp.broadcast_to(array[:1], (size - k, v))])
