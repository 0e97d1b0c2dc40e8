"""Mixed membership over any component family: every row has weights of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool

from .._pytree import pytree, replace, static
from ..data.batch import Batch
from ..data.host import common_dtype, to_device
from ..data.types import Data
from ..families.emission import Emission
from ..families.labels.admixture import Admixture
from .memberships import MembershipPrediction
from .priors import admixtures, emissions
from .priors.arguments import check_size
from .priors.weights import switched_on
from .sequence_model import SequenceModel
from .structured_params import StructuredParams


@pytree
class MixedMembership(MembershipPrediction, SequenceModel):
    """theta_n ~ Dirichlet(conc), z_nt ~ Categorical(theta_n), x_nt is drawn from component z_nt.

    Rows are sets of steps, whose order does not matter: the visits of a patient, the spikes of a
    session, the words of a document (Blei, Ng & Jordan 2003; Erosheva, Fienberg & Lafferty 2004).
    q is a product over theta_n, the labels z_n and the parameters of the components. The bound is
    ELBO = sum_n w_n log Z_n - KL(q || p), with log Z_n the bound on row n with its labels at their
    optimum, sum_t log sum_k exp(E[log theta_nk] + E[log p(x_nt | k)]) - KL(q(theta_n) || p).

    `labels` is an `Admixture`, whose q(theta_n) are the state of rows, and `components` any
    component family with k members. `switch` says which are on (None: all). `improper` marks the
    flat prior of maximum likelihood, which is for EM only. `names` are those of the columns. Build
    it with `from_data` or `with_prior`.

    Data are what `Batch.sequences` takes: a list of rows (t_n, d), or an array (n, t, d).
    """

    labels: Admixture
    components: Emission
    switch: Bool[Array, "*b k"] | None = None
    improper: bool = static(default=False)
    names: tuple[str, ...] | None = static(default=None)

    params: ClassVar[Any] = StructuredParams

    @classmethod
    def from_data(
        cls,
        x: Data,
        num_components: int,
        *,
        emission: str | Mapping[Any, str] = "gaussian",
        conc: ArrayLike | None = None,
        learn_conc: bool = False,
        inner: int = 100,
        tol: ArrayLike = 1e-3,
        start: str = "both",
        k_max: int | None = None,
        **options: Any,
    ) -> MixedMembership:
        """Build a mixed-membership model with a weak default prior from the data.

        Raises ValueError that names the argument.

        Args:
            x: Rows of steps, as `Batch.sequences` takes them.
            num_components: Number of components, k.
            emission: What a step is drawn from, given its component: "gaussian", "student_t",
                "poisson", "exponential", "bernoulli", "geometric", "categorical" or "multinomial";
                or, for a table, a dict from each column to one of these.
            conc: Pseudo-counts of the weights of rows, > 0: a scalar or (k,). None is 1 / k.
            learn_conc: Whether `conc` is a start, and the concentrations of highest bound are
                found, each by itself (a point estimate).
            inner, tol, start: How q(theta_n) is found in every pass; see `Admixture`.
            k_max: Number of components to make room for. The first `num_components` are switched
                on, so that models of different size share one program.
            options: Arguments of the components' prior, such as `covariance="diag"`, as in the
                `from_data` of the mixture of this family.

        Example:
            x, _ = vx.datasets.three_clusters()
            rows = x.reshape(-1, 10, x.shape[1])
            model = vx.MixedMembership.from_data(rows, 3, covariance="diag")
            fit = vx.fit(model, rows, key=jax.random.key(0)).check()
            print(fit.summary(), model.memberships(fit, rows))
        """
        batch = x if isinstance(x, Batch) else Batch.sequences(x)
        steps = batch.flat()
        components = emissions.from_data(steps, num_components, emission, k_max=k_max, **options)
        fixed = {"learn": learn_conc, "inner": inner, "tol": tol, "start": start}
        labels = admixtures.from_conc(conc, num_components, k_max, **fixed)
        model = cls._of(labels, components, num_components, k_max)
        return model if batch.names is None else replace(model, names=batch.names)

    @classmethod
    def with_prior(
        cls,
        num_components: int,
        *,
        components: Emission,
        conc: ArrayLike | None = None,
        learn_conc: bool = False,
        inner: int = 100,
        tol: ArrayLike = 1e-3,
        start: str = "both",
    ) -> MixedMembership:
        """Build a mixed-membership model from its components.

        Args:
            num_components: Number of components, k.
            components: A component family with k members, such as `NormalWishart`.
            conc, learn_conc, inner, tol, start: As in `from_data`.
        """
        fixed = {"learn": learn_conc, "inner": inner, "tol": tol, "start": start}
        labels = admixtures.from_conc(conc, num_components, **fixed)
        return cls._of(labels, components, num_components, None)

    @classmethod
    def _of(
        cls, labels: Admixture, components: Emission, num_components: int, k_max: int | None
    ) -> MixedMembership:
        dtype = common_dtype(*jax.tree.leaves(components))
        labels, components = jax.tree.map(lambda a: to_device(a, dtype), (labels, components))
        switch = switched_on(num_components, check_size(num_components, k_max))
        return cls(labels, components, switch)
