"""Priors of probabilities: Beta for flags, Dirichlet for codes and for counts of categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import jax.numpy as jnp
import numpy as np

from ...data.host import as_floats
from ...data.types import AnyArray, ArrayLike, Data
from ...families.independent.base import Independent, check_values, whole
from ...families.independent.dirichlet_categorical import DirichletCategorical, number_of_codes
from ...families.independent.dirichlet_multinomial import DirichletMultinomial
from . import columns
from .arguments import as_matrix, check_count, check_size, per_component

_F = TypeVar("_F", bound=Independent)
Sizes: TypeAlias = int | np.integer | Sequence[int] | np.ndarray  # one, or one for each column


def beta_from_data(
    family: type[_F],
    x: Data,
    num_components: int,
    *,
    a: ArrayLike = 1.0,
    b: ArrayLike = 1.0,
    k_max: int | None = None,
) -> _F:
    """Build components of `family` with the prior Beta(a, b) in every column, uniform by default.

    `x` is array-like (n, d) or a Batch, and may be traced.
    """
    check_size(num_components, k_max)
    rows, successes = as_matrix(x).x, as_floats("a", a)
    if successes.ndim == 0:
        successes = successes.astype(rows.dtype) * np.ones(rows.shape[1], rows.dtype)
    return columns.with_prior(family, num_components, k_max=k_max, a=successes, b=b)


def categorical_from_data(
    x: Data,
    num_components: int,
    *,
    num_categories: Sizes | None = None,
    category_conc: ArrayLike = 1.0,
    k_max: int | None = None,
) -> DirichletCategorical:
    """Build components of codes 0, 1, ... with uniform priors, unless `category_conc` is given.

    `x` is array-like (n, d) or a Batch; other arguments as in `CategoricalMixture.from_data`.
    """
    check_size(num_components, k_max)
    batch = as_matrix(x)
    check_values(batch, whole, "codes 0, 1, 2, ...")
    conc, dtype, d = as_floats("category_conc", category_conc), batch.x.dtype, batch.x.shape[1]
    if conc.ndim == 0:
        sizes = number_of_codes(batch) if num_categories is None else _sizes(num_categories, d)
        own = np.arange(max(sizes)) < np.asarray(sizes)[:, None]
        conc = conc.astype(dtype) * own.astype(dtype)
    elif num_categories is not None:
        raise ValueError("num_categories: not with an array `category_conc`, which says it")
    return categorical_with_prior(num_components, category_conc=conc, k_max=k_max)


def categorical_with_prior(
    num_components: int, *, category_conc: ArrayLike, k_max: int | None = None
) -> DirichletCategorical:
    """Build components of codes with pseudo-counts `category_conc`, (d, c) or (k, d, c).

    They are > 0 for a column's own categories and 0 beyond. Raises ValueError by name.
    """
    conc = _per_component(category_conc, 2, num_components, k_max)
    return DirichletCategorical.from_standard(conc)


def categorical_flat(
    num_components: int, num_features: int, num_categories: Sizes, *, k_max: int | None = None
) -> DirichletCategorical:
    """Build components of codes without a prior, for maximum likelihood."""
    sizes = _sizes(num_categories, check_count("num_features", num_features))
    size = check_size(num_components, k_max)
    return DirichletCategorical.flat(size, sizes, jnp.result_type(float))


def multinomial_from_data(
    x: Data, num_components: int, *, category_conc: ArrayLike = 1.0, k_max: int | None = None
) -> DirichletMultinomial:
    """Build components of counts with a uniform prior, unless `category_conc` is given.

    `x` is array-like (n, c) or a Batch, and may be traced.
    """
    check_size(num_components, k_max)
    rows, conc = as_matrix(x).x, as_floats("category_conc", category_conc)
    if conc.ndim == 0:
        conc = conc.astype(rows.dtype) * np.ones(rows.shape[1], rows.dtype)
    return multinomial_with_prior(num_components, category_conc=conc, k_max=k_max)


def multinomial_with_prior(
    num_components: int, *, category_conc: ArrayLike, k_max: int | None = None
) -> DirichletMultinomial:
    """Build components of counts with pseudo-counts `category_conc` > 0, (c,) or (k, c)."""
    conc = _per_component(category_conc, 1, num_components, k_max)
    return DirichletMultinomial.from_standard(conc)


def _per_component(
    category_conc: ArrayLike, axes: int, num_components: int, k_max: int | None
) -> AnyArray:
    """Pseudo-counts of one component, with so many axes, or of each, as those of each."""
    size, value = check_size(num_components, k_max), as_floats("category_conc", category_conc)
    if value.ndim not in (axes, axes + 1):
        one = "(d, c)" if axes == 2 else "(c,)"
        raise ValueError(
            f"category_conc: expected shape {one}, or one such array per component, "
            f"got shape {value.shape}"
        )
    event = value.shape[value.ndim - axes :]
    return per_component("category_conc", value, event, num_components, size)


def _sizes(num_categories: Sizes, d: int) -> tuple[int, ...]:
    """One number of categories for each of d columns."""
    given = np.asarray(num_categories)
    if given.dtype.kind not in "iu" or given.shape not in ((), (d,)):
        raise ValueError(
            f"num_categories: expected an integer, or one for each of {d} columns, "
            f"got {num_categories!r}"
        )
    return tuple(check_count("num_categories", size) for size in np.broadcast_to(given, (d,)))
