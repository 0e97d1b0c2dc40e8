"""Mixtures of independent Poisson columns: counts."""

from __future__ import annotations

from typing import Any, ClassVar

from .._pytree import pytree
from ..families.gamma_poisson import GammaPoisson
from .rate_mixture import RateMixture


@pytree
class PoissonMixture(RateMixture):
    """x_nd | z_n = k ~ Poisson(rate_kd), rate_kd ~ Gamma(shape, rate).

    Weights ~ Dirichlet(conc) or a stick-breaking process. Build it with `from_data`, `with_prior`
    or `flat`; fields as in `Mixture`.
    """

    family: ClassVar[Any] = GammaPoisson
    power: ClassVar[int] = 1
