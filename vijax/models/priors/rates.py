"""Gamma priors of the rates of independent columns: of counts, and of waiting times."""

from __future__ import annotations

from typing import TypeVar

from ...data import weighted_means
from ...data.batch import Batch
from ...data.host import as_floats, host_mask, namespace
from ...data.types import AnyArray, ArrayLike, Data
from ...families.independent.base import Independent
from ...families.independent.gamma_exponential import GammaExponential
from .arguments import as_matrix, check_size
from .columns import flat as flat
from .columns import with_prior as with_prior

_F = TypeVar("_F", bound=Independent)


def from_data(
    family: type[_F],
    x: Data,
    num_components: int,
    *,
    shape: ArrayLike = 1.0,
    rate: ArrayLike | None = None,
    k_max: int | None = None,
) -> _F:
    """Build components of `family` with a weak prior Gamma(shape, rate) at the scale of the data.

    Without `rate` its mean, for shape = 1, is each column's own rate. `x` is array-like (n, d) or
    a Batch, and may be traced; missing entries are left out.
    """
    check_size(num_components, k_max)
    batch = as_matrix(x)
    if rate is None:
        means = _column_means(batch)
        rate = means if issubclass(family, GammaExponential) else 1.0 / means
    return with_prior(family, num_components, k_max=k_max, shape=shape, rate=rate)


def _column_means(batch: Batch) -> AnyArray:
    """Weighted means of the observed entries of non-negative columns, all positive.

    A column of zeros takes the mean of the others, or 1 if there is none. On the host, or traced.
    """
    x, weight = as_floats("x", batch.x), as_floats("weight", batch.weight)
    xp = namespace(x, weight)
    mask = host_mask(batch.mask, x, weight)
    mean = (weighted_means.shares(x, weight, mask) * x).sum(0)
    some = mean > 0
    number = xp.maximum(some.sum(), 1).astype(x.dtype)
    others = xp.where(some, mean, 0.0).sum() / number
    return xp.where(some, mean, xp.where(others > 0, others, 1.0)).astype(x.dtype)
