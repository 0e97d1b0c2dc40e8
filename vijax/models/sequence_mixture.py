"""Clusters of whole sequences, over any component family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from .._pytree import pytree, replace, static
from ..data.batch import Batch
from ..data.host import common_dtype, to_device
from ..data.types import ArrayLike, Data
from ..families.emission import Emission
from ..families.labels.shared import Shared
from ..families.weights.base import Weights
from ..latent_class import MergeModel
from .mixture_params import C_co, Fitted
from .priors import emissions
from .priors import weights as weights_prior
from .priors.arguments import check_size
from .sequence_model import SequenceModel, sequences_of
from .sequences import WholeRows
from .steps import Known, moments_of
from .structured import Structured
from .structured_params import StructuredParams


@pytree
class SequenceMixture(
    WholeRows,
    SequenceModel[StructuredParams[Shared, C_co]],
    MergeModel[StructuredParams[Shared, C_co]],
    Generic[C_co],
):
    """z_n ~ Categorical(weights), and all steps of sequence n are drawn from component z_n.

    Rows are sequences, or sets, of steps that are independent given their cluster; their order does
    not matter. The bound is ELBO = sum_n w_n log Z_n - KL(q || p), with
    Z_n = sum_k exp(E[log weight_k] + sum_t E[log p(x_nt | theta_k)]). A sequence of one step is a
    row of a mixture.

    `labels` is a `Shared`, the prior of the weights, and `components` any component family with k
    members, the clusters. Other fields, and data, are as in `HMM`. A cluster belongs to a whole
    sequence: `predict` is (n,) and `responsibilities` are (n, k), and `fit` takes both as `init`.
    A known label of one step is that of the sequence. Build it with `from_data`, `with_prior` or
    `flat`.
    """

    labels: Shared
    components: C_co
    switch: Bool[Array, "*b k"] | None = None
    improper: bool = static(default=False)
    names: tuple[str, ...] | None = static(default=None)

    params: ClassVar[Any] = StructuredParams
    one_class_per_row: ClassVar[bool] = True

    @classmethod
    def from_data(
        cls,
        x: Data,
        num_components: int,
        *,
        emission: str | Mapping[Any, str] = "gaussian",
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        k_max: int | None = None,
        **options: Any,
    ) -> SequenceMixture:
        """Build a mixture of sequences with a weak default prior from the data.

        Raises ValueError that names the argument.

        Args:
            x: Sequences, as `Batch.sequences` takes them.
            num_components: Number of clusters, k.
            emission, options: As in `HMM.from_data`.
            conc: Pseudo-counts of sequences in each cluster, > 0: a scalar or (k,); by default
                1 / k.
            weights: A prior on the weights in place of `conc`, such as
                `vx.StickBreaking.dirichlet_process(1.0, k, ordered=False)`.
            k_max: Number of clusters to make room for, as in `HMM.from_data`.

        Example:
            sequences, _ = vx.datasets.switching(6, 40)
            model = vx.SequenceMixture.from_data(sequences, 3)
            fit = vx.fit(model, sequences, key=jax.random.key(0), num_restarts=4).check()
            print(fit.summary(), model.predict(fit, sequences))
        """
        batch = sequences_of(x)
        components = emissions.from_data(
            batch.flat(), num_components, emission, k_max=k_max, **options
        )
        conc = weights_prior.default_conc(conc, weights, num_components)
        model = cls._of(components, num_components, conc, weights, k_max)
        return model if batch.names is None else replace(model, names=batch.names)

    @classmethod
    def with_prior(
        cls,
        num_components: int,
        *,
        components: Emission,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
    ) -> SequenceMixture:
        """Build a mixture of sequences from its components, and `conc` or another prior.

        Raises ValueError that names the argument.

        Args:
            num_components: Number of clusters, k.
            components: A component family with k members, such as `NormalWishart`.
            conc, weights: As in `from_data`.

        Example:
            kinds = vx.PoissonMixture.with_prior(3, shape=1.0, rate=0.2, conc=1.0).components
            model = vx.SequenceMixture.with_prior(3, components=kinds, conc=1.0)
        """
        return cls._of(components, num_components, conc, weights, None)

    @classmethod
    def flat(
        cls,
        num_components: int,
        num_features: int,
        *,
        emission: str = "gaussian",
        k_max: int | None = None,
        **options: Any,
    ) -> SequenceMixture:
        """Build a mixture of sequences without a prior, for maximum likelihood with `EM`.

        The objective is the log-likelihood in nats. Raises ValueError that names the argument.

        Args:
            num_components: Number of clusters, k.
            num_features, emission, k_max, options: As in `HMM.flat`.

        Example:
            model = vx.SequenceMixture.flat(3, 2, covariance="diag")
        """
        components: Any = emissions.flat(
            num_components, num_features, emission, k_max=k_max, **options
        )
        size = check_size(num_components, k_max)
        prior = Shared(weights_prior.flat(size, common_dtype(*jax.tree.leaves(components))))
        on = weights_prior.switched_on(num_components, size)
        return cls(prior, components, on, improper=True)

    @classmethod
    def _of(
        cls,
        components: Emission,
        num_components: int,
        conc: ArrayLike | None,
        weights: Weights | None,
        k_max: int | None,
    ) -> SequenceMixture:
        size, background = check_size(num_components, k_max), components.num_background
        dtype = common_dtype(*jax.tree.leaves(components), conc)
        prior = weights_prior.from_conc_or_given(
            conc, weights, num_components, size, dtype, background
        )
        moved: Any = jax.tree.map(lambda a: to_device(a, dtype), components)
        on = weights_prior.switched_on(num_components, size, background)
        return cls(Shared(prior), moved, on)

    def check(self, batch: Batch, point: bool) -> None:
        if self.labels.weights.ordered:
            raise ValueError(
                "weights: stick-breaking weights put the components in order of size, which only "
                "mixtures of rows do; take ordered=False"
            )
        super().check(batch, point)

    def responsibilities(self, q: Known | Fitted, x: Data) -> Float[Array, "n k"]:
        """Posterior probability of each cluster for each sequence, given all of its steps."""
        return self._by_row(_clusters, q, x)[0]

    def predict(self, q: Known | Fitted, x: Data) -> Int[Array, "n"]:
        """The most probable cluster of each sequence."""
        return self._by_row(_most_probable, q, x)[0]

    def sample(
        self, q: Known | Fitted, key: Key[Array, ""], n: int, *, length: int, **options: Any
    ) -> tuple[Any, Int[Array, "n"]]:
        """n new sequences of `length` steps, and the cluster of each; otherwise as for an HMM."""
        x, labels = super().sample(q, key, n, length=length, **options)
        return x, labels[:, 0]


def _clusters(model: Structured, q: Known, batch: Batch) -> Float[Array, "n k"]:
    moments = moments_of(model, q)
    return model.labels.of_rows(moments.labels, model.step_odds(moments, batch), batch)[0]


def _most_probable(model: Structured, q: Known, batch: Batch) -> Int[Array, "n"]:
    return jnp.argmax(_clusters(model, q, batch), -1).astype(jnp.int32)
