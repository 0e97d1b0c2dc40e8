"""Mixtures of independent Poisson columns: counts."""

from __future__ import annotations

from typing import Any, TypeVar

import jax.numpy as jnp

from .._pytree import pytree
from ..families.gamma_poisson import GammaPoisson
from . import column_prior as prior
from .mixture import Mixture
from .sizes import check_size

_M = TypeVar("_M", bound="PoissonMixture")


@pytree
class PoissonMixture(Mixture):
    """x_nd | z_n = k ~ Poisson(rate_kd), rate_kd ~ Gamma(shape, rate).

    Weights ~ Dirichlet(conc) or a stick-breaking process. Build it with `from_data`, `with_prior`
    or `flat`; fields as in `Mixture`.
    """

    @classmethod
    def from_data(
        cls: type[_M],
        x: Any,
        num_components: int,
        *,
        shape: Any = 1.0,
        rate: Any = None,
        conc: Any = None,
        weights: Any = None,
        k_max: int | None = None,
    ) -> _M:
        """A weak default prior at the scale of the data; any part can be given.

        Weights: conc = 1 / num_components each. Rates: shape = 1 and rate = 1 / column mean, an
        exponential prior whose mean is the column's own mean. A column of zeros takes
        the mean of the others, or 1. `x` is array-like (n, d) or a Batch, and may be traced;
        missing entries are left out.
        """
        check_size(num_components, k_max)
        batch = prior.checked(x)
        if rate is None:
            rate = 1.0 / prior.column_means(batch)
        conc = prior.shared_conc(conc, weights, num_components)
        return cls.with_prior(
            num_components, shape=shape, rate=rate, conc=conc, weights=weights, k_max=k_max
        )

    @classmethod
    def with_prior(
        cls: type[_M],
        num_components: int,
        *,
        shape: Any,
        rate: Any,
        conc: Any = None,
        weights: Any = None,
        k_max: int | None = None,
    ) -> _M:
        """An explicit prior: `shape` > 0 (counts) and `rate` > 0 (rows).

        Each is a scalar, (d,) or (k, d); `conc` is a scalar or (k,), or `weights` takes its place.
        With `k_max` there is room for that many components. Raises ValueError by name.
        """
        size = check_size(num_components, k_max)
        given = prior.by_column({"shape": shape, "rate": rate}, num_components, size)
        components = GammaPoisson.from_standard(*given)
        return prior.proper(cls, components, num_components, size, conc, weights)

    @classmethod
    def flat(
        cls: type[_M], num_components: int, num_features: int, *, k_max: int | None = None
    ) -> _M:
        """No prior at all, for maximum likelihood with `EM`; as `GaussianMixture.flat`."""
        size = check_size(num_components, k_max)
        d = prior.check_count("num_features", num_features)
        components = GammaPoisson.flat(size, d, jnp.result_type(float))
        return prior.improper(cls, components, num_components, size)
