"""Mixed membership over any component family: every row has its own shares of the components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic

import jax
from jaxtyping import Array, Bool

from .._pytree import pytree, replace, static
from ..data.host import common_dtype, to_device
from ..data.types import ArrayLike, Data
from ..families.labels.admixture import Admixture
from .memberships import MembershipPrediction
from .mixture_params import C_co
from .priors import admixtures, emissions
from .sequence_model import SequenceModel, sequences_of
from .structured_params import StructuredParams


@pytree
class MixedMembership(
    MembershipPrediction,
    SequenceModel[StructuredParams[Admixture, C_co]],
    Generic[C_co],
):
    """theta_n ~ Dirichlet(conc), z_nt ~ Categorical(theta_n), x_nt is drawn from component z_nt.

    Rows are individuals, documents or sites with several steps each, whose order does not matter
    (Blei, Ng & Jordan 2003; Erosheva et al. 2004). The bound is ELBO = sum_n w_n log Z_n
    - KL(q || p), where log Z_n is the exact bound on row n at its q(theta_n), with q(z_n) at its
    optimum; see `Admixture`.

    `labels` is an `Admixture`, and `components` any component family with k members. `switch` says
    which components are on (None: all). `names` are those of the columns. Data are what
    `Batch.sequences` takes.
    """

    labels: Admixture
    components: C_co
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

        Raises ValueError or TypeError that name the argument.

        Args:
            x: Rows of steps, as `Batch.sequences` takes them.
            num_components: Number of components, k.
            emission: What a step is drawn from, given its component, as in `HMM.from_data`.
            conc: Pseudo-counts of steps of each component in a row, > 0: a scalar or (k,); 1 / k by
                default. The smaller, the fewer components has a row.
            learn_conc: Whether `conc` is only where it starts, and becomes that of the highest
                bound, one for each component.
            inner, tol, start: How q(theta_n) of each row is iterated, see `Admixture`.
            k_max: Number of components to make room for, as in `HMM.from_data`.
            options: Arguments of the components' prior.

        Example:
            rng = np.random.default_rng(0)
            share = rng.dirichlet([0.3, 0.3], size=50)  # of two groups, in each of 50 rows
            x = [rng.normal(8.0 * (rng.random(30) < own[0]))[:, None] for own in share]
            model = vx.MixedMembership.from_data(x, 2)
            fit = vx.fit(model, x, key=jax.random.key(0)).check()
            print(model.memberships(fit, x))
        """
        batch = sequences_of(x)
        steps = batch.flat()
        components = emissions.from_data(steps, num_components, emission, k_max=k_max, **options)
        settings = {"inner": inner, "tol": tol, "start": start, "learn": learn_conc}
        labels = admixtures.from_conc(num_components, conc, k_max, **settings)
        dtype = common_dtype(*jax.tree.leaves(components))
        labels, components = jax.tree.map(lambda a: to_device(a, dtype), (labels, components))
        model = cls(labels, components)
        return model if batch.names is None else replace(model, names=batch.names)
