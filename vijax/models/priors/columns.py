"""Priors of independent columns: Gamma for rates, Beta and Dirichlet for probabilities.

Rows `x` are array-like (n, d) or a Batch. Errors name the argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import jax.numpy as jnp
import numpy as np

from ..._pytree import replace
from ...data import weighted_means
from ...data.batch import Batch
from ...data.host import as_floats, common_dtype, host_mask, namespace
from ...data.levels import ArrayLevels, Levels, plain
from ...data.types import AnyArray, ArrayLike, Data
from ...families.independent.base import Independent, check_values, whole
from ...families.independent.beta_geometric import BetaGeometric
from ...families.independent.dirichlet_categorical import DirichletCategorical, levels_of
from ...families.independent.dirichlet_multinomial import DirichletMultinomial
from ...families.independent.gamma_exponential import GammaExponential
from ...numerics.bulk import evenly
from .arguments import as_matrix, check_count, check_size, per_component

_F = TypeVar("_F", bound=Independent)  # with the class methods `from_standard` and `flat`
_WAITS_SHAPE = 0.5  # rows that the prior of a rate of waiting times counts for
_MOST_ROWS = 4096  # evenly spread rows, which are enough for a quantile
Sizes: TypeAlias = int | np.integer | Sequence[int] | np.ndarray  # one for all columns, or each


def with_prior(
    family: type[_F], num_components: int, *, k_max: int | None = None, **given: ArrayLike
) -> _F:
    """Build components from the hyper-parameters of `family.from_standard`.

    Each is a scalar, (d,) or (k, d).
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


# -- rates and probabilities ----------------------------------------------------------------------


def rates_from_data(
    family: type[_F],
    x: Data,
    num_components: int,
    *,
    shape: ArrayLike | None = None,
    rate: ArrayLike | None = None,
    k_max: int | None = None,
) -> _F:
    """Build components of `family` with a weak prior Gamma(shape, rate) at the scale of the data.

    Defaults are those of `RateMixture.from_data`. `x` may be traced; missing entries are left out.
    """
    check_size(num_components, k_max)
    batch, waits = as_matrix(x, exposure=True), issubclass(family, GammaExponential)
    if shape is None:
        shape = _WAITS_SHAPE if waits else 1.0
    if rate is None:
        rate = _waits_rate(batch, shape) if waits else _mean_exposure(batch) / _means(batch)
    return with_prior(family, num_components, k_max=k_max, shape=shape, rate=rate)


def probabilities_from_data(
    family: type[_F],
    x: Data,
    num_components: int,
    *,
    a: ArrayLike = 1.0,
    b: ArrayLike | None = None,
    k_max: int | None = None,
) -> _F:
    """Build components of `family` with the prior Beta(a, b) in every column, uniform by default.

    For counts of failures the default b is their geometric mean: with a = 1, as if one row of so
    many had been seen, so that clusters of small counts keep their probability. `x` may be traced.
    """
    check_size(num_components, k_max)
    batch, successes = as_matrix(x), as_floats("a", a)
    if b is None:
        b = _geometric_means(batch) if issubclass(family, BetaGeometric) else 1.0
    if successes.ndim == 0:
        successes = _in_columns(successes, batch.x)
    return with_prior(family, num_components, k_max=k_max, a=successes, b=b)


def _in_columns(value: AnyArray, rows: AnyArray) -> AnyArray:
    """A scalar as one value for each column of the rows, in their dtype."""
    return value.astype(rows.dtype) * np.ones(rows.shape[1], rows.dtype)


def _waits_rate(batch: Batch, shape: ArrayLike) -> AnyArray:
    """The rate of the prior of waiting times: `shape` rows that are short for their column."""
    rows, d = as_floats("shape", shape), batch.x.shape[1]
    if batch.exposure is not None:  # exposure times the wait has the rate of exposure 1
        batch = replace(batch, x=batch.x * batch.exposure)
    if rows.ndim and rows.shape[-1] != d:
        raise ValueError(f"shape: expected a scalar, ({d},) or (k, {d}), got {rows.shape}")
    return (rows * _short_waits(batch)).astype(batch.x.dtype)


def _short_waits(batch: Batch) -> AnyArray:
    """The value (d,) that a fifth of the entries of each column are below, or 0.2 of its mean."""
    x, weight = as_floats("x", batch.x), as_floats("weight", batch.weight)
    part = evenly(x.shape[0], _MOST_ROWS)
    xp, mask = namespace(x, weight), host_mask(batch.mask, x, weight)
    used = xp.broadcast_to((weight > 0)[:, None], x.shape)
    used = (used if mask is None else used & mask)[part]
    order = xp.sort(xp.where(used, x[part], xp.inf), 0)
    short = xp.take_along_axis(order, (used.sum(0) // 5)[None], 0)[0]
    return xp.where((short > 0) & xp.isfinite(short), short, 0.2 * _means(batch)).astype(x.dtype)


def _geometric_means(batch: Batch) -> AnyArray:
    """exp(E[log(1 + x)]) - 1 (d,) of the observed entries; as `_means` for columns of zeros."""
    x = as_floats("x", batch.x)
    xp = namespace(x)
    return xp.expm1(_means(replace(batch, x=xp.log1p(x)))).astype(x.dtype)


def _means(batch: Batch) -> AnyArray:
    """Weighted means (d,) of the observed entries of non-negative columns, all positive.

    A column of zeros takes the mean of the others, or 1 if all are zeros.
    """
    x, weight = as_floats("x", batch.x), as_floats("weight", batch.weight)
    xp = namespace(x, weight)
    mask = host_mask(batch.mask, x, weight)
    mean = (weighted_means.shares(x, weight, mask) * x).sum(0)
    some = mean > 0
    number = xp.maximum(some.sum(), 1).astype(x.dtype)
    others = xp.where(some, mean, 0.0).sum() / number
    return xp.where(some, mean, xp.where(others > 0, others, 1.0)).astype(x.dtype)


def _mean_exposure(batch: Batch) -> AnyArray | float:
    """Weighted mean exposure (d,) of the observed entries of each column, 1 if there are none."""
    if batch.exposure is None:
        return 1.0
    x, weight = as_floats("x", batch.x), as_floats("weight", batch.weight)
    exposure = as_floats("exposure", batch.exposure)
    mask = host_mask(batch.mask, x, weight)
    mean = (weighted_means.shares(x, weight, mask) * exposure).sum(0)
    return namespace(mean).where(mean > 0, mean, 1.0).astype(x.dtype)


# -- categories -----------------------------------------------------------------------------------


def codes_from_data(
    x: Data,
    num_components: int,
    *,
    num_categories: Sizes | None = None,
    category_conc: ArrayLike = 0.5,
    k_max: int | None = None,
) -> DirichletCategorical:
    """Build components of codes 0, 1, ... with Jeffreys priors, unless `category_conc` is given.

    Arguments are those of `CategoricalMixture.from_data`.
    """
    check_size(num_components, k_max)
    batch = as_matrix(x, text=True)
    check_values(batch, whole, "codes 0, 1, 2, ...")
    conc, dtype, d = as_floats("category_conc", category_conc), batch.x.dtype, batch.x.shape[1]
    levels = None
    if conc.ndim == 0:
        if num_categories is None:
            levels = levels_of(batch)
        else:
            levels = _with_sizes(batch.levels, _sizes(num_categories, d))
        sizes = [len(own) for own in levels]
        present = np.arange(max(sizes)) < np.asarray(sizes)[:, None]
        conc = conc.astype(dtype) * present.astype(dtype)
    elif num_categories is not None:
        raise ValueError("num_categories: not with an array `category_conc`, which says it")
    components = with_category_conc(DirichletCategorical, num_components, conc, k_max)
    return components.with_levels(batch.levels if levels is None else levels)


def counts_from_data(
    x: Data, num_components: int, *, category_conc: ArrayLike = 1.0, k_max: int | None = None
) -> DirichletMultinomial:
    """Build components of counts (n, c) with a uniform prior, unless `category_conc` is given."""
    check_size(num_components, k_max)
    rows, conc = as_matrix(x).x, as_floats("category_conc", category_conc)
    if conc.ndim == 0:
        conc = _in_columns(conc, rows)
    return with_category_conc(DirichletMultinomial, num_components, conc, k_max)


def with_category_conc(
    family: type[_F], num_components: int, category_conc: ArrayLike, k_max: int | None
) -> _F:
    """Build components of codes or of counts with pseudo-counts `category_conc`.

    For codes they are (d, c) or (k, d, c), > 0 for a column's own categories and 0 beyond; for
    counts (c,) or (k, c) and > 0.
    """
    size, value = check_size(num_components, k_max), as_floats("category_conc", category_conc)
    axes, shape = (2, "(d, c)") if issubclass(family, DirichletCategorical) else (1, "(c,)")
    if value.ndim not in (axes, axes + 1):
        raise ValueError(
            f"category_conc: expected shape {shape}, or one such array per component, "
            f"got shape {value.shape}"
        )
    event = value.shape[value.ndim - axes :]
    conc = per_component("category_conc", value, event, num_components, size)
    return family.from_standard(conc)  # type: ignore[attr-defined]


def flat_codes(
    num_components: int, num_features: int, num_categories: Sizes, k_max: int | None
) -> DirichletCategorical:
    """Build components of codes without a prior, for maximum likelihood."""
    sizes = _sizes(num_categories, check_count("num_features", num_features))
    size = check_size(num_components, k_max)
    return DirichletCategorical.flat(size, sizes, jnp.result_type(float))


def _with_sizes(levels: ArrayLevels | None, sizes: tuple[int, ...]) -> tuple[Levels, ...]:
    """The levels 0, 1, ... of columns that bring none; ValueError for those with other sizes."""
    known = levels or (None,) * len(sizes)
    for j, (own, size) in enumerate(zip(known, sizes, strict=True)):
        if own is not None and len(own) != size:
            raise ValueError(f"num_categories: {size} for column {j}, which has {len(own)} levels")
    return tuple(own or codes for own, codes in zip(known, plain(sizes), strict=True))


def _sizes(num_categories: Sizes, d: int) -> tuple[int, ...]:
    """One number of categories for each of d columns."""
    given = np.asarray(num_categories)
    if given.dtype.kind not in "iu" or given.shape not in ((), (d,)):
        raise ValueError(
            f"num_categories: expected an integer, or one for each of {d} columns, "
            f"got {num_categories!r}"
        )
    sizes = np.broadcast_to(given, (d,)).tolist()
    return tuple(check_count("num_categories", size) for size in sizes)
