"""Mixtures of independent exponential columns: waiting times."""

from __future__ import annotations

from typing import Any, ClassVar

from .._pytree import pytree
from ..families.gamma_exponential import GammaExponential
from .rate_mixture import RateMixture


@pytree
class ExponentialMixture(RateMixture):
    """x_nd | z_n = k ~ Exponential(rate_kd), rate_kd ~ Gamma(shape, rate).

    Weights ~ Dirichlet(conc) or a stick-breaking process. Build it with `from_data`, `with_prior`
    or `flat`; fields as in `Mixture`.
    """

    family: ClassVar[Any] = GammaExponential
    power: ClassVar[int] = -1
