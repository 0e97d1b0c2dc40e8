"""Mixtures of independent categorical columns: codes (latent class analysis)."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import numpy as np

from .._host import as_floats
from .._pytree import pytree
from ..families.dirichlet_categorical import DirichletCategorical, number_of_codes
from ..families.independent import check_values, whole
from . import column_prior as prior
from .column_mixture import ColumnMixture
from .sizes import check_size, shared_conc

_M = TypeVar("_M", bound="CategoricalMixture")


@pytree
class CategoricalMixture(ColumnMixture):
    """x_nd | z_n = k ~ Categorical(p_kd), p_kd ~ Dirichlet(category_conc): codes 0, 1, ...

    Weights ~ Dirichlet(conc) or a stick-breaking process. Build it with `from_data`, `with_prior`
    or `flat`; fields as in `Mixture`.
    """

    family: ClassVar[Any] = DirichletCategorical

    @classmethod
    def from_data(
        cls: type[_M],
        x: Any,
        num_components: int,
        *,
        num_categories: Any = None,
        category_conc: Any = 1.0,
        conc: Any = None,
        weights: Any = None,
        k_max: int | None = None,
    ) -> _M:
        """Uniform priors on the probabilities, unless `category_conc` is given.

        `num_categories` is one integer, or one per column; None takes each column's largest code
        plus one, which needs data that are not traced. `category_conc` > 0 is a number of
        pseudo-counts for each category, or an array as in `with_prior`. Weights: conc =
        1 / num_components each. `x` is array-like (n, d) of codes 0, 1, ..., or a Batch.
        """
        check_size(num_components, k_max)
        batch = prior.checked(x)
        check_values(batch, whole, "codes 0, 1, 2, ...")
        value = as_floats("category_conc", category_conc)
        if value.ndim == 0:
            if num_categories is None:
                sizes = number_of_codes(batch)
            else:
                sizes = _sizes(num_categories, batch.x.shape[1])
            own = np.arange(max(sizes)) < np.asarray(sizes)[:, None]
            value = value.astype(batch.x.dtype) * own.astype(batch.x.dtype)
        elif num_categories is not None:
            raise ValueError("num_categories: not with an array `category_conc`, which says it")
        return cls.with_prior(
            num_components,
            category_conc=value,
            conc=shared_conc(conc, weights, num_components),
            weights=weights,
            k_max=k_max,
        )

    @classmethod
    def with_prior(
        cls: type[_M],
        num_components: int,
        *,
        category_conc: Any,
        conc: Any = None,
        weights: Any = None,
        k_max: int | None = None,
    ) -> _M:
        """An explicit prior: pseudo-counts `category_conc`, (d, c) or (k, d, c).

        They are > 0 for the first categories of a column, and 0 beyond the column's number. `conc`
        is a scalar or (k,), or `weights` takes its place. With `k_max` there is room for that many
        components. Raises ValueError by name.
        """
        size = check_size(num_components, k_max)
        given = prior.by_category(category_conc, 2, num_components, size)
        return cls._proper(num_components, k_max, conc, weights, given)

    @classmethod
    def flat(  # type: ignore[override]
        cls: type[_M],
        num_components: int,
        num_features: int,
        num_categories: Any,
        *,
        k_max: int | None = None,
    ) -> _M:
        """No prior at all, for maximum likelihood with `EM`; as `GaussianMixture.flat`.

        `num_categories` is one integer, or one per column.
        """
        d = prior.check_count("num_features", num_features)
        return cls._improper(num_components, k_max, _sizes(num_categories, d))


def _sizes(num_categories: Any, d: int) -> tuple[int, ...]:
    """One number of categories for each of d columns."""
    given = np.asarray(num_categories)
    if given.dtype.kind not in "iu" or given.shape not in ((), (d,)):
        raise ValueError(
            f"num_categories: expected an integer, or one for each of {d} columns, "
            f"got {num_categories!r}"
        )
    sizes = np.broadcast_to(given, (d,))
    return tuple(prior.check_count("num_categories", size) for size in sizes)
