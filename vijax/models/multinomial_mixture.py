"""Mixtures of multinomial rows: counts of categories, such as words."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import numpy as np

from .._host import as_floats
from .._pytree import pytree
from ..families.dirichlet_multinomial import DirichletMultinomial
from . import column_prior as prior
from .column_mixture import ColumnMixture
from .sizes import check_size, shared_conc

_M = TypeVar("_M", bound="MultinomialMixture")


@pytree
class MultinomialMixture(ColumnMixture):
    """x_n | z_n = k ~ Multinomial(total_n, p_k), p_k ~ Dirichlet(category_conc).

    Totals are given, not modelled: `sample(..., total=)` takes them, one number or (n,). Weights ~
    Dirichlet(conc) or a stick-breaking process. Build it with `from_data`, `with_prior` or `flat`;
    fields as in `Mixture`; `num_features` is the number of categories.
    """

    family: ClassVar[Any] = DirichletMultinomial

    @classmethod
    def from_data(
        cls: type[_M],
        x: Any,
        num_components: int,
        *,
        category_conc: Any = 1.0,
        conc: Any = None,
        weights: Any = None,
        k_max: int | None = None,
    ) -> _M:
        """Uniform priors on the probabilities, unless `category_conc` is given.

        `category_conc` > 0 is a number of pseudo-counts for each category, or an array as in
        `with_prior`. Weights: conc = 1 / num_components each. `x` is array-like (n, c) of counts
        or a Batch, and may be traced.
        """
        check_size(num_components, k_max)
        x = prior.checked(x).x
        value = as_floats("category_conc", category_conc)
        if value.ndim == 0:
            value = value.astype(x.dtype) * np.ones(x.shape[1], x.dtype)
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
        """An explicit prior: pseudo-counts `category_conc` > 0, (c,) or (k, c).

        `conc` is a scalar or (k,), or `weights` takes its place. With `k_max` there is room for
        that many components. Raises ValueError by name.
        """
        size = check_size(num_components, k_max)
        given = prior.by_category(category_conc, 1, num_components, size)
        return cls._proper(num_components, k_max, conc, weights, given)
