"""Hidden Markov models over any component family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic

import jax
from jaxtyping import Array, Bool

from .._pytree import pytree, replace, static
from ..data.host import common_dtype, to_device
from ..data.types import ArrayLike, Data
from ..families.emission import Emission
from ..families.labels.chain import Chain
from ..latent_class import MergeModel
from .mixture_params import C_co
from .priors import chains, emissions
from .priors.arguments import check_count, check_size
from .priors.weights import switched_on
from .sequence_model import SequenceModel, sequences_of
from .sequences import SequencePrediction
from .structured_params import StructuredParams


@pytree
class HMM(
    SequencePrediction,
    SequenceModel[StructuredParams[Chain, C_co]],
    MergeModel[StructuredParams[Chain, C_co]],
    Generic[C_co],
):
    """z_1 ~ initial, z_t | z_{t-1} = i ~ transitions_i, and step x_t is drawn from state z_t.

    Rows are sequences, independent given theta (Rabiner 1989; Beal 2003, chapter 3). The bound is
    ELBO = sum_n w_n log Z_n - KL(q || p), with Z_n the sum over all paths of
    exp(E[log p(x_n, z_n)]), by forward-backward. Under `EM` it is Baum-Welch.

    `labels` is a `Chain`, the prior of the first state and of the transitions, and `components` any
    component family with k members, the states. `switch` says which states are on (None: all).
    `improper` marks the flat prior of maximum likelihood, which is for EM only. `names` are those
    of the columns. Build it with `from_data`, `with_prior` or `flat`.

    Data are what `Batch.sequences` takes: a list of sequences (t_n, d), an array (n, t, d), or one
    sequence (t, d).
    """

    labels: Chain
    components: C_co
    switch: Bool[Array, "*b k"] | None = None
    improper: bool = static(default=False)
    names: tuple[str, ...] | None = static(default=None)

    params: ClassVar[Any] = StructuredParams

    @classmethod
    def from_data(
        cls,
        x: Data,
        num_states: int,
        *,
        emission: str | Mapping[Any, str] = "gaussian",
        chain: str = "full",
        skips: int = 0,
        conc: ArrayLike | None = None,
        stay: ArrayLike = 0.0,
        initial: ArrayLike = 1.0,
        k_max: int | None = None,
        **options: Any,
    ) -> HMM:
        """Build a hidden Markov model with a weak default prior from the data.

        Raises ValueError that names the argument.

        Args:
            x: Sequences, as `Batch.sequences` takes them.
            num_states: Number of states, k.
            emission: What a step is drawn from, given its state: "gaussian", "student_t",
                "poisson", "exponential", "bernoulli", "geometric", "categorical" or "multinomial";
                or, for a table, a dict from each column to one of these.
            chain: "full", where every transition is possible, "left_right": a sequence begins in
                state 0, and stays in its state or goes on to the next one, or "hdp": the
                pseudo-counts of going to each state, which all states share, are learned, from
                `conc` on, so that states to spare are hardly gone to (`WeakLimit`).
            skips: How many states a left-to-right chain may pass over in one step.
            conc: Pseudo-counts of every transition, > 0: a scalar, (k,) or (k, k), whose row i is
                of the steps that follow state i; 1 / k by default.
            stay: Pseudo-counts that staying in a state has in addition, >= 0: a scalar or (k,).
            initial: Pseudo-counts of the first state of a sequence, > 0: a scalar or (k,).
            k_max: Number of states to make room for. The first `num_states` are switched on, so
                that models of different size share one program.
            options: Arguments of the components' prior, such as `covariance="diag"`, as in the
                `from_data` of the mixture of this family.

        Example:
            x, states = vx.datasets.switching(2, 100)
            model = vx.HMM.from_data(x, 2)
            fit = vx.fit(model, x, key=jax.random.key(0), num_restarts=4).check()
            print(fit.summary(), model.path(fit, x))
        """
        batch = sequences_of(x)
        steps = batch.flat()
        components = emissions.from_data(steps, num_states, emission, k_max=k_max, **options)
        own = 1.0 / check_count("num_states", num_states) if conc is None else conc
        prior = chains.named(chain, num_states, own, stay, initial, k_max, skips)
        model = cls._of(prior, components, num_states, k_max)
        return model if batch.names is None else replace(model, names=batch.names)

    @classmethod
    def with_prior(
        cls,
        num_states: int,
        *,
        components: Emission,
        chain: str = "full",
        skips: int = 0,
        transitions: ArrayLike = 1.0,
        stay: ArrayLike = 0.0,
        initial: ArrayLike = 1.0,
    ) -> HMM:
        """Build a hidden Markov model from its states and the pseudo-counts of their transitions.

        Raises ValueError that names the argument.

        Args:
            num_states: Number of states, k.
            components: A component family with k members, such as `NormalWishart`.
            chain, skips: As in `from_data`.
            transitions: Pseudo-counts, >= 0: a scalar, (k,) or (k, k); 0 is impossible.
            stay: Pseudo-counts that staying in a state has in addition, >= 0: a scalar or (k,).
            initial: Pseudo-counts of the first state, >= 0: a scalar or (k,); 0 is impossible.

        Example:
            states = vx.PoissonMixture.with_prior(2, shape=1.0, rate=0.2, conc=1.0).components
            model = vx.HMM.with_prior(2, components=states, transitions=[[9, 1], [0, 9]])
        """
        own = (num_states, transitions, stay, initial, None, skips, "transitions")
        prior = chains.named(chain, *own)
        return cls._of(prior, components, num_states, None)

    @classmethod
    def flat(
        cls,
        num_states: int,
        num_features: int,
        *,
        emission: str = "gaussian",
        k_max: int | None = None,
        **options: Any,
    ) -> HMM:
        """Build a hidden Markov model without a prior, for maximum likelihood with `EM`.

        The objective is the log-likelihood in nats. Raises ValueError that names the argument.

        Args:
            num_states: Number of states, k.
            num_features: Number of columns, d.
            emission: As in `from_data`, for one family.
            k_max, options: As in `from_data`.

        Example:
            x, _ = vx.datasets.switching(2, 100)
            model = vx.HMM.flat(2, 2, covariance="diag")
            fit = vx.fit(model, x, method=vx.EM(), key=jax.random.key(0))
        """
        components: Any = emissions.flat(num_states, num_features, emission, k_max=k_max, **options)
        size = check_size(num_states, k_max)
        return cls(chains.flat(size), components, switched_on(num_states, size), improper=True)

    @classmethod
    def _of(cls, chain: Chain, components: Any, num_states: int, k_max: int | None) -> HMM:
        dtype = common_dtype(*jax.tree.leaves(components))
        chain, components = jax.tree.map(lambda a: to_device(a, dtype), (chain, components))
        return cls(chain, components, switched_on(num_states, check_size(num_states, k_max)))
