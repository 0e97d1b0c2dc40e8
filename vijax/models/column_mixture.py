"""What mixtures of independent columns have in common: priors as arrays, or none at all."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .._host import common_dtype, to_device
from .._pytree import pytree
from ..families.dirichlet import Dirichlet
from .column_prior import check_count
from .mixture import Mixture
from .sizes import check_size, weights_prior

_M = TypeVar("_M", bound="ColumnMixture")


@pytree
class ColumnMixture(Mixture):
    """A mixture whose components are one `family`, with as many parameters in every column."""

    family: ClassVar[Any]

    @classmethod
    def _proper(
        cls: type[_M], num_components: int, k_max: Any, conc: Any, weights: Any, *standard: Any
    ) -> _M:
        """From the family's standard parameters, the first `num_components` switched on."""
        size = check_size(num_components, k_max)
        components = cls.family.from_standard(*standard)
        dtype = common_dtype(*jax.tree.leaves(components), conc)
        prior = weights_prior(conc, weights, num_components, size, dtype, False)
        components = jax.tree.map(lambda a: to_device(a, dtype), components)
        return cls(prior, components, to_device(np.arange(size) < num_components))

    @classmethod
    def _improper(cls: type[_M], num_components: int, k_max: Any, shape: Any) -> _M:
        """The same without any prior, for maximum likelihood."""
        size = check_size(num_components, k_max)
        dtype = jnp.result_type(float)
        weights = Dirichlet(to_device(np.zeros(size), dtype))
        on = to_device(np.arange(size) < num_components)
        return cls(weights, cls.family.flat(size, shape, dtype), on, improper=True)

    @classmethod
    def flat(
        cls: type[_M], num_components: int, num_features: int, *, k_max: int | None = None
    ) -> _M:
        """No prior at all, for maximum likelihood with `EM`; as `GaussianMixture.flat`."""
        return cls._improper(num_components, k_max, check_count("num_features", num_features))
