"""Mixtures of hidden Markov models: clusters of sequences by how they go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._pytree import pytree, replace, static
from ..data.batch import Batch
from ..data.host import common_dtype, fetched, is_concrete, to_device
from ..data.types import ArrayLike, Data
from ..exponential_family import Q
from ..families.emission import Emission
from ..families.labels.chain_mixture import ChainMixture
from ..latent_class import MergeModel
from .mixture_params import Fitted
from .priors import chains, emissions
from .priors.arguments import check_count, check_size
from .priors.weights import switched_on
from .sequence_model import SequenceModel, sequences_of
from .sequences import SequencePrediction
from .steps import Known, known_of, moments_of, point_of
from .structured_params import StructuredParams


@pytree
class HMMMixture(SequencePrediction, SequenceModel, MergeModel):
    """Sequence n is drawn from hidden Markov model c_n ~ Categorical(weights), of m of them.

    Each cluster c has k states of its own, with their initial distribution, transitions and
    components. The bound is ELBO = sum_n w_n log Z_n - KL(q || p), with Z_n the sum over clusters
    and paths. As an HMM it has m k states, of which state s of cluster c has the number c k + s:
    that is what `responsibilities` (n, t, m k), `filtered`, `sample`, `summary` and `init` are of.
    A step costs an E-step (m k)^2 operations.

    `labels` is a `ChainMixture`, and `components` any component family with m k members. Other
    fields, and data, are as in `HMM`. Build it with `from_data`.
    """

    labels: ChainMixture
    components: Emission
    switch: Bool[Array, "*b k"] | None = None
    improper: bool = static(default=False)
    names: tuple[str, ...] | None = static(default=None)

    params: ClassVar[Any] = StructuredParams

    @classmethod
    def from_data(
        cls,
        x: Data,
        num_clusters: int,
        num_states: int,
        *,
        emission: str | Mapping[Any, str] = "gaussian",
        conc: ArrayLike | None = None,
        stay: ArrayLike = 0.0,
        initial: ArrayLike | None = None,
        k_max: int | None = None,
        **options: Any,
    ) -> HMMMixture:
        """Build a mixture of hidden Markov models with a weak default prior from the data.

        Raises ValueError that names the argument.

        Args:
            x: Sequences, as `Batch.sequences` takes them.
            num_clusters: Number of clusters, m.
            num_states: Number of states of each cluster, k.
            emission, options: As in `HMM.from_data`.
            conc, stay: As in `HMM.from_data`, for the chain of every cluster.
            initial: Pseudo-counts of sequences of a cluster that begin in each state, > 0: a scalar
                or (k,); by default 1 / k. Added up they are those of the cluster.
            k_max: Number of clusters to make room for.

        Example:
            x, _ = vx.datasets.switching(4, 50)
            model = vx.HMMMixture.from_data(x, num_clusters=2, num_states=2, covariance="diag")
            fit = vx.fit(model, x, key=jax.random.key(0))
            print(model.predict(fit, x))  # (4,), the cluster of each sequence
        """
        m, k = check_count("num_clusters", num_clusters), check_count("num_states", num_states)
        size = check_size(m, k_max)
        batch = sequences_of(x)
        components = emissions.from_data(batch.flat(), m * k, emission, k_max=size * k, **options)
        initial = 1.0 / k if initial is None else initial
        conc = 1.0 / k if conc is None else conc
        chain = chains.mixture(m, k, conc, stay, initial, size)
        dtype = common_dtype(*jax.tree.leaves(components))
        chain, components = jax.tree.map(lambda a: to_device(a, dtype), (chain, components))
        model = cls(chain, components, switched_on(m * k, size * k))
        return model if batch.names is None else replace(model, names=batch.names)

    @property
    def num_clusters(self) -> int:
        """The number of clusters, m, switched-off ones included."""
        return self.labels.size // self.labels.num_states

    def merge_gain(self, q: Q) -> Float[Array, "k k"]:
        """As for any model, for states of one cluster; -inf for others, which are never one."""
        cluster = np.arange(self.labels.size) // self.labels.num_states
        return jnp.where(cluster[:, None] == cluster, super().merge_gain(q), -jnp.inf)

    def clusters(self, q: Known | Fitted, x: Data) -> Float[Array, "n m"]:
        """Posterior probability of each cluster for each sequence, given all of its steps."""
        return self._by_row(_clusters, self._apart(q), x)[0]

    def predict(self, q: Known | Fitted, x: Data) -> Int[Array, "n"]:
        """The most probable cluster of each sequence."""
        return self._by_row(_most_probable, self._apart(q), x)[0]

    def path(self, q: Known | Fitted, x: Data) -> Any:
        """The most probable path of states 0 .. k - 1 of the cluster that `predict` says.

        It is that at the means of q, in the form of the sequences; -1 where nothing exists.
        """
        return self._by_step(_path, self._apart(q), x)

    def _apart(self, q: Known | Fitted) -> Known:
        """The q; raises ValueError if its states are not, in order, those of the clusters."""
        known = known_of(q)
        on = known.labels.transitions
        rows = on.mean
        if known.labels.initial.mean.shape[-1] != self.labels.size:
            raise ValueError("q: pruned, so that it does not say what state is of what cluster")
        if is_concrete(rows):
            cluster = np.arange(self.labels.size) // self.labels.num_states
            if (fetched(rows)[..., cluster[:, None] != cluster] > 0).any():
                raise ValueError("q: in another order than that of the clusters; take the fit's")
        return known


# each is compiled as one program, and not operation by operation


def _clusters(model: HMMMixture, q: Known, batch: Batch) -> Float[Array, "n m"]:
    moments = moments_of(model, q)
    found = model.labels.infer(moments.labels, model.step_odds(moments, batch), batch)
    # a sequence of which nothing exists is yet to begin
    begin = jax.nn.softmax(moments.labels.initial.log_p)
    first = jnp.where(jnp.any(batch.exists, 1)[:, None], found.resp[:, 0], begin)
    return jnp.sum(first.reshape(-1, model.num_clusters, model.labels.num_states), -1)


def _most_probable(model: HMMMixture, q: Known, batch: Batch) -> Int[Array, "n"]:
    return jnp.argmax(_clusters(model, q, batch), -1).astype(jnp.int32)


def _path(model: HMMMixture, q: Known, batch: Batch) -> Int[Array, "n t"]:
    point, k = point_of(q), model.labels.num_states
    cluster = _most_probable(model, q, batch)
    own = (jnp.arange(model.labels.size, dtype=cluster.dtype) // k)[None] == cluster[:, None]
    odds = jnp.where(own[:, None], model.step_odds(point, batch), -jnp.inf)
    path = model.labels.path(point.labels, odds, batch)
    return jnp.where(path >= 0, path % k, -1)
