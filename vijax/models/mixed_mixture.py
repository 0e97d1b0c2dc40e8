"""Mixtures over tables of mixed type: measurements, counts, flags and categories together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._host import to_device
from .._pytree import pytree
from ..batch import Batch
from ..families.columns import Columns
from .bernoulli_mixture import BernoulliMixture
from .categorical_mixture import CategoricalMixture
from .exponential_mixture import ExponentialMixture
from .gaussian_mixture import GaussianMixture
from .mixture import Mixture
from .multinomial_mixture import MultinomialMixture
from .poisson_mixture import PoissonMixture
from .sizes import check_size, shared_conc, weights_prior

KINDS = {
    "gaussian": GaussianMixture,
    "poisson": PoissonMixture,
    "exponential": ExponentialMixture,
    "bernoulli": BernoulliMixture,
    "categorical": CategoricalMixture,
    "multinomial": MultinomialMixture,
}


@pytree
class MixedMixture(Mixture):
    """Rows are dicts of columns; given its component, a row's columns are independent, each from

    its own family (latent class and latent profile analysis in one). Build it with `from_data`,
    or from parts with `Mixture(weights, Columns({...}))`.
    """

    @classmethod
    def from_data(
        cls,
        x: Any,
        num_components: int,
        kinds: Mapping[str, str],
        *,
        conc: Any = None,
        weights: Any = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        k_max: int | None = None,
    ) -> MixedMixture:
        """The default prior of every column's own mixture; weights as in `GaussianMixture`.

        `x` is a dict of columns (n,) or (n, d), a data frame, or a Batch of either; `kinds` says
        for each column what it is: "gaussian", "poisson" (counts), "exponential" (waiting times),
        "bernoulli" (0 or 1), "categorical" (codes 0, 1, ...) or "multinomial" (counts of
        categories). Gaussian columns of an (n, d) array are correlated. `options` are further
        arguments of a column's `from_data`, such as {"size": {"covariance": "diag"}}.

        Raises ValueError for unknown kinds, and columns without one.
        """
        size = check_size(num_components, k_max)
        batch = Batch.of(x).by_name()
        if not isinstance(batch.x, dict) or set(batch.x) != set(kinds):
            given = ", ".join(batch.x) if isinstance(batch.x, dict) else "an array"
            raise ValueError(f"kinds: give one for each column; x has {given}, kinds {[*kinds]}")
        parts = {}
        for name, kind in kinds.items():
            if kind not in KINDS:
                known = ", ".join(KINDS)
                raise ValueError(f"kinds: {name!r} is {kind!r}; expected one of {known}")
            extra = dict((options or {}).get(name, {}))
            own = KINDS[kind].from_data(batch.column(name), num_components, k_max=k_max, **extra)
            if own.components.extra:
                raise ValueError(f"options: noise in {name!r}: not for one column of a table")
            parts[name] = own.components
        conc = shared_conc(conc, weights, num_components)
        prior = weights_prior(conc, weights, num_components, size, batch.weight.dtype, False)
        return cls(prior, Columns(parts), to_device(np.arange(size) < num_components))
