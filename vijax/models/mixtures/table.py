"""Mixtures over tables of mixed type: measurements, counts, flags and categories together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._pytree import pytree
from ...data.batch import Batch
from ...data.types import ArrayLike, Data
from ...families.weights.base import Weights
from ..mixture import Mixture
from ..priors import table
from ..priors.arguments import check_size
from ..priors.weights import default_conc, from_conc_or_given, switched_on


@pytree
class MixedMixture(Mixture):
    """z_n ~ Categorical(weights), and each column of row n is drawn from its own family given z_n.

    Rows are dicts of columns, independent of each other given the component (latent class and
    latent profile analysis in one). Build it with `from_data`, or from parts with
    `Mixture(weights, Columns({...}))`.
    """

    @classmethod
    def from_data(
        cls,
        x: Data,
        num_components: int,
        kinds: Mapping[str, str],
        *,
        conc: ArrayLike | None = None,
        weights: Weights | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        k_max: int | None = None,
    ) -> MixedMixture:
        """Build a mixture with the default prior of every column's own mixture.

        Raises ValueError for unknown kinds, and columns without one.

        Args:
            x: A dict of columns (n,) or (n, d), a data frame, or a Batch of either.
            num_components: Number of components, k.
            kinds: What each column is: "gaussian", "poisson" (counts), "exponential" (waiting
                times), "bernoulli" (0 or 1), "categorical" (codes 0, 1, ...) or "multinomial"
                (counts of categories). Gaussian columns of an (n, d) array are correlated.
            conc: Concentration of the weights, by default 1 / num_components each.
            weights: A prior on the weights in place of `conc`, as in `GaussianMixture`.
            options: Further arguments of a column's `from_data`, such as
                {"size": {"covariance": "diag"}}.
            k_max: Number of components to make room for.
        """
        size = check_size(num_components, k_max)
        batch = Batch.of(x).by_name()
        components = table.from_data(batch, num_components, kinds, options=options, k_max=k_max)
        conc = default_conc(conc, weights, num_components)
        prior = from_conc_or_given(conc, weights, num_components, size, batch.weight.dtype)
        return cls(prior, components, switched_on(num_components, size))
