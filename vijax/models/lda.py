"""Latent Dirichlet allocation: topics of documents, from counts of words."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from .._pytree import pytree, replace, static
from .._text import Overview, count, short
from ..data.batch import Batch
from ..data.host import (
    as_floats,
    check_bound,
    column_names,
    fetched,
    is_concrete,
    namespace,
    to_device,
)
from ..data.types import Data
from ..families.column_scale import refuse_exposure, refuse_noise
from ..families.dirichlet import Dirichlet
from ..families.labels.admixture import Admixture
from ..families.labels.base import present
from ..families.topics import Topics
from ..kernel import Kernel
from ..model import EStep
from ..numerics.admixture import Steps
from .documents import DocumentPrediction, counts_of
from .priors import admixtures
from .priors.arguments import check_count
from .structured import Structured
from .structured_params import StructuredParams
from .topic_params import TopicParams


@pytree
class LDA(DocumentPrediction, Structured):
    """theta_n ~ Dirichlet(topic_conc); each word of document n is of a topic z ~ theta_n.

    It is drawn from p_z ~ Dirichlet(word_conc) over a vocabulary (Blei, Ng & Jordan 2003; Hoffman,
    Blei, Wang & Paisley 2013). q is a product over theta_n, the topics of the words, and p_k. The
    bound is that on the probability of the words in their order, so without the multinomial
    coefficient of their counts; `MixedMembership` says what it is. Under `EM` topics are points.

    `labels` is an `Admixture`, whose q(theta_n) are the state of documents, `components` are
    `Topics`, and `names` the words. Build it with `from_data`.

    Data are what `Batch.documents` takes: counts (n, v), a sparse matrix of SciPy, or lists of
    words. Where few words occur in each document, each has a list of its own; otherwise sums over
    words are products of matrices. Both give the same.
    """

    labels: Admixture
    components: Topics
    names: tuple[str, ...] | None = static(default=None)

    params: ClassVar[Any] = TopicParams
    switch: ClassVar[None] = None
    improper: ClassVar[bool] = False

    @classmethod
    def from_data(
        cls,
        counts: Data,
        num_topics: int,
        *,
        topic_conc: ArrayLike | None = None,
        word_conc: ArrayLike | None = None,
        learn_conc: bool = False,
        inner: int = 100,
        tol: ArrayLike = 1e-3,
        start: str = "both",
        vocabulary: Any = None,
    ) -> LDA:
        """Build a topic model of the words in these documents.

        Raises TypeError or ValueError that name the argument.

        Args:
            counts: Documents, as `Batch.documents` takes them, such as the sparse matrix that
                `CountVectorizer` of scikit-learn makes of texts.
            num_topics: Number of topics, k.
            topic_conc: Pseudo-counts of the topics of a document, > 0: a scalar or (k,). None is
                1 / k.
            word_conc: Pseudo-counts of the words of a topic, > 0: a scalar, (v,) or (k, v). None is
                1 / k.
            learn_conc: Whether `topic_conc` is a start, and the concentrations of highest bound are
                found, each by itself (a point estimate).
            inner, tol, start: How q(theta_n) is found in every pass; see `Admixture`.
            vocabulary: The v words, or their number; by default those of a frame's columns.

        Example:
            counts = np.random.default_rng(0).poisson(0.3, (100, 30))
            model = vx.LDA.from_data(counts, 3)
            fit = vx.fit(model, counts, key=jax.random.key(0), num_restarts=4)
            print(fit.summary(), model.memberships(fit, counts), model.top_words(fit))
        """
        num_topics = check_count("num_topics", num_topics)
        if isinstance(counts, Batch):
            if vocabulary is not None:
                raise ValueError("vocabulary: goes to Batch.documents where counts are a Batch")
            batch = counts
        else:
            batch = Batch.documents(counts, vocabulary=vocabulary)
        v, names = _num_words(batch), batch.names
        conc = as_floats("word_conc", 1.0 / num_topics if word_conc is None else word_conc)
        check_bound("word_conc", conc, above=0.0)
        if conc.shape not in ((), (v,), (num_topics, v)):
            raise ValueError(
                f"word_conc: expected a scalar, {(v,)} or {(num_topics, v)}, got {conc.shape}"
            )
        conc = namespace(conc).broadcast_to(conc, (num_topics, v))
        fixed = {"learn": learn_conc, "inner": inner, "tol": tol, "start": start}
        try:
            labels = admixtures.from_conc(topic_conc, num_topics, **fixed)
        except ValueError as error:
            raise ValueError(f"topic_{error}" if str(error).startswith("conc") else error) from None
        dtype = batch.weight.dtype
        labels, topics = jax.tree.map(
            lambda a: to_device(a, dtype), (labels, Topics(Dirichlet(conc)))
        )
        return cls(labels, topics, names)

    # -- documents --------------------------------------------------------------------------------

    def read(self, data: Data) -> Batch:
        """Documents, whose words are those of the model."""
        if isinstance(data, Batch):
            return data
        known = self.names or self.components.num_words
        return Batch.documents(data, vocabulary=None if column_names(data) is not None else known)

    def as_batch(self, data: Data) -> Batch:
        """Documents with their words in the order of the model's."""
        batch = data if isinstance(data, Batch) else self.read(data)
        return batch.in_order(self.names)

    def check(self, batch: Batch, point: bool) -> None:
        v = self.components.num_words
        if batch.label is not None:
            raise ValueError("label: topics of words are not known; leave labels out")
        if batch.steps is not None:
            self.components.check_rows(batch.flat())
            return
        refuse_noise(batch, "a topic model")
        refuse_exposure(batch, "a topic model")
        if isinstance(batch.x, dict) or batch.x.ndim != 2 or batch.mask is not None:
            raise ValueError("x: documents are counts (n, v), complete; see Batch.documents")
        if batch.x.shape[1] != v:
            raise ValueError(f"x: counts of {batch.x.shape[1]} words, but the model knows {v}")
        if not is_concrete(batch.x, batch.weight):
            return
        bad = (fetched(batch.x) < 0) & (fetched(batch.weight) > 0)[:, None]
        if bool(bad.any()):
            row = int(bad.any(1).argmax())
            raise ValueError(f"x: counts must be >= 0; not so in document {row}")

    def row_size(self, batch: Batch) -> int:
        k, v = self.components.each.conc.shape
        if batch.steps is None:
            return 3 * v + 6 * k
        return batch.steps.shape[1] * (2 * k + 4) + 6 * k

    # -- E-step -----------------------------------------------------------------------------------

    def rows(self, batch: Batch) -> Float[Array, "n k"]:
        return self.labels.spread(self.labels.conc, jnp.sum(counts_of(batch), 1))

    def kernels(self, moments: Any, batch: Batch) -> tuple[Kernel, ...]:
        return (Kernel(moments, self.row_size(batch)),)

    def local_from(self, moments: Any, batch: Batch, rows: Any) -> EStep:
        return self._local(moments, batch, rows, None)

    def tempered(self, moments: Any, batch: Batch, power: Float[Array, ""]) -> Any:
        return self._local(moments, batch, None, power).stats

    def _local(
        self, moments: Any, batch: Batch, rows: Any, power: Float[Array, ""] | None
    ) -> EStep:
        log_p = moments.components.each.log_p
        log_p = log_p if power is None else power * log_p
        table = Steps.of(counts_of(batch), log_p)
        steps, words = table, batch.x
        if batch.steps is not None:
            lik = jax.vmap(lambda own: table.lik.at[:, own].get(mode="clip"))(words)
            steps = Steps(table.count, lik, table.top[words])

        def of_topic(k: Array) -> Array:
            own = log_p[k]
            return own if batch.steps is None else own[words]

        found = self.labels.memberships(moments.labels, steps, of_topic, batch.weight, rows, power)
        ratio = _weighted(batch.weight, steps.ratio(found.theta))
        # the likelihood of a word in a topic is the same everywhere, and multiplied at last
        topics = self._counted(words, ratio, found.theta, batch.steps is None)
        topics = Topics(Dirichlet(table.lik * topics))
        return EStep(self.params(found.stats, topics), found.log_z, found.gamma)

    def _counted(
        self, words: Array, counts: Float[Array, "n t"], theta: Float[Array, "n k"], dense: bool
    ) -> Float[Array, "k v"]:
        """sum over documents of counts (n, v), or of words (n, t), times theta_n."""
        if dense:
            return jnp.matmul(theta.T, counts, precision="highest")
        each = (counts[..., None] * theta[:, None]).reshape(-1, theta.shape[1])
        return self.components.counted(words.reshape(-1), each).each.conc

    # -- starts -----------------------------------------------------------------------------------

    def init(
        self, key: Key[Array, ""] | None, batch: Batch, restart: Int[Array, ""] | int = 0
    ) -> Any:
        """Topics that are nearly equal: each word has Gamma(100, 100) counts in each."""
        assert key is not None  # `draws` says that there is one
        conc = self.components.each.conc
        noise = jax.random.gamma(key, 100.0, conc.shape, conc.dtype) / 100.0
        labels = self.labels.update(self.labels, self.labels.begin(jnp.zeros_like(conc[:, 0])))
        return self.params(labels, Topics(Dirichlet(noise)))

    def assign(self, q: StructuredParams, batch: Batch, resp: Float[Array, "..."]) -> Any:
        """Statistics of words in these topics, (n, t, k) of lists, or of whole documents (n, k)."""
        count = counts_of(batch)
        if batch.steps is None:
            each = jnp.sum(count, 1, keepdims=True) * resp
            topics = jnp.matmul(present(batch.weight, resp).T, count, precision="highest")
        else:
            each = jnp.sum(count[..., None] * resp, 1)
            soft = present(batch.weight[:, None] * count, resp).reshape(-1, resp.shape[-1])
            topics = self.components.counted(batch.x.reshape(-1), soft).each.conc
        labels = self.labels.assign_counts(each, batch.weight)
        return self.params(labels, Topics(Dirichlet(topics)))

    def with_posterior_as_prior(self, q: StructuredParams) -> LDA:
        labels = self.labels.followed_by(q.labels)
        return replace(self, labels=labels, components=q.components)

    def __repr__(self) -> str:
        try:
            k, v = self.components.each.conc.shape[-2:]
        except Exception:  # a pytree may hold anything while JAX looks at its structure
            return short(self)
        return f"LDA({count(k, 'topic')}, {count(v, 'word')})"

    def _repr_html_(self) -> str:
        return Overview([repr(self)]).html()


def _num_words(batch: Batch) -> int:
    """Number of words of the vocabulary of documents."""
    if batch.steps is None:
        return batch.x.shape[-1]
    if batch.names is None:
        raise ValueError("counts: lists of words without a vocabulary; see Batch.documents")
    return len(batch.names)


def _weighted(weight: Float[Array, "n"], value: Float[Array, "n t"]) -> Float[Array, "n t"]:
    return jnp.where((weight > 0)[:, None], weight[:, None] * value, 0.0)
