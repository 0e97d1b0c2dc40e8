"""Mixtures of independent Bernoulli columns: flags (latent class analysis)."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import numpy as np

from .._host import as_floats
from .._pytree import pytree
from ..families.beta_bernoulli import BetaBernoulli
from . import column_prior as prior
from .column_mixture import ColumnMixture
from .sizes import check_size, shared_conc

_M = TypeVar("_M", bound="BernoulliMixture")


@pytree
class BernoulliMixture(ColumnMixture):
    """x_nd | z_n = k ~ Bernoulli(p_kd), p_kd ~ Beta(a, b) (Bishop 2006, section 9.3.3).

    Weights ~ Dirichlet(conc) or a stick-breaking process. Build it with `from_data`, `with_prior`
    or `flat`; fields as in `Mixture`.
    """

    family: ClassVar[Any] = BetaBernoulli

    @classmethod
    def from_data(
        cls: type[_M],
        x: Any,
        num_components: int,
        *,
        a: Any = 1.0,
        b: Any = 1.0,
        conc: Any = None,
        weights: Any = None,
        k_max: int | None = None,
    ) -> _M:
        """Uniform priors on the probabilities, unless `a` and `b` are given.

        Weights: conc = 1 / num_components each. `x` is array-like (n, d) of 0 and 1 or a Batch,
        and may be traced.
        """
        check_size(num_components, k_max)
        x = prior.checked(x).x
        a = as_floats("a", a)
        if a.ndim == 0:
            a = a.astype(x.dtype) * np.ones(x.shape[1], x.dtype)
        conc = shared_conc(conc, weights, num_components)
        return cls.with_prior(num_components, a=a, b=b, conc=conc, weights=weights, k_max=k_max)

    @classmethod
    def with_prior(
        cls: type[_M],
        num_components: int,
        *,
        a: Any,
        b: Any,
        conc: Any = None,
        weights: Any = None,
        k_max: int | None = None,
    ) -> _M:
        """An explicit prior: `a` > 0 pseudo-counts of 1 and `b` > 0 of 0.

        Each is a scalar, (d,) or (k, d); `conc` is a scalar or (k,), or `weights` takes its place.
        With `k_max` there is room for that many components. Raises ValueError by name.
        """
        size = check_size(num_components, k_max)
        given = prior.by_column({"a": a, "b": b}, num_components, size)
        return cls._proper(num_components, k_max, conc, weights, *given)
