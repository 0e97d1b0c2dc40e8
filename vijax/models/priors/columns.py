"""Priors of independent columns: of any family with as many parameters in every column."""

from __future__ import annotations

from typing import TypeVar

import jax.numpy as jnp

from ...data.host import as_floats, common_dtype, namespace
from ...data.types import ArrayLike
from ...families.independent.base import Independent
from .arguments import check_count, check_size, per_component

_F = TypeVar("_F", bound=Independent)  # with the class methods `from_standard` and `flat`


def with_prior(
    family: type[_F], num_components: int, *, k_max: int | None = None, **given: ArrayLike
) -> _F:
    """Build components with hyper-parameters `given`, those of `family.from_standard`.

    Each is a scalar, (d,) or (k, d). Raises ValueError by name.
    """
    size = check_size(num_components, k_max)
    arrays = {name: as_floats(name, value) for name, value in given.items()}
    d = max((a.shape[-1] for a in arrays.values() if a.ndim), default=1)
    dtype = common_dtype(*given.values())
    for name, value in arrays.items():
        wide = value if value.ndim else namespace(value).broadcast_to(value, (d,))
        arrays[name] = per_component(name, wide, (d,), num_components, size).astype(dtype)
    return family.from_standard(**arrays)  # type: ignore[attr-defined]


def flat(
    family: type[_F], num_components: int, num_features: int, *, k_max: int | None = None
) -> _F:
    """Build components without a prior, every natural parameter zero, for maximum likelihood."""
    d, size = check_count("num_features", num_features), check_size(num_components, k_max)
    return family.flat(size, d, jnp.result_type(float))  # type: ignore[attr-defined]
