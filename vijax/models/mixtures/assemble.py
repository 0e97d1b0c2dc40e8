"""Mixtures put together from components and a prior on their weights."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp

from ..._pytree import replace
from ...data.batch import Batch
from ...data.chunks import Chunks
from ...data.host import column_names, common_dtype, to_device
from ...data.types import ArrayLike, Data
from ...families.emission import Emission
from ...families.weights.base import Weights
from ..mixture import Mixture
from ..priors import weights as weights_prior
from ..priors.arguments import check_size

_M = TypeVar("_M", bound=Mixture)


def from_data(
    cls: type[_M],
    x: Data | Chunks,
    components: Emission,
    num_components: int,
    conc: ArrayLike | None,
    weights: Weights | None,
    k_max: int | None,
) -> _M:
    """Build a mixture as `with_prior` does, with conc 1 / num_components if there is no other.

    It knows the names of the columns of `x`, if they have any.
    """
    conc = weights_prior.default_conc(conc, weights, num_components)
    model = with_prior(cls, components, num_components, conc, weights, k_max)
    names = x.names if isinstance(x, Batch | Chunks) else column_names(x)
    return model if names is None else replace(model, names=names)


def with_prior(
    cls: type[_M],
    components: Emission,
    num_components: int,
    conc: ArrayLike | None,
    weights: Weights | None,
    k_max: int | None,
) -> _M:
    """Build a mixture from its components and a prior on their weights, all of one float type."""
    size, background = check_size(num_components, k_max), components.num_background
    dtype = common_dtype(*jax.tree.leaves(components), conc)
    prior = weights_prior.from_conc_or_given(conc, weights, num_components, size, dtype, background)
    components = jax.tree.map(lambda a: to_device(a, dtype), components)
    return cls(prior, components, weights_prior.switched_on(num_components, size, background))


def flat(cls: type[_M], components: Emission, num_components: int, k_max: int | None) -> _M:
    """Build a mixture without a prior from components that have none either."""
    size = check_size(num_components, k_max)
    prior = weights_prior.flat(size, jnp.result_type(float))
    on = weights_prior.switched_on(num_components, size)
    return cls(prior, components, on, improper=True)
