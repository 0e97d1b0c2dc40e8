"""Priors of the weights of rows: a Dirichlet of given concentration, or of a learned one."""

from __future__ import annotations

import numpy as np

from ...data.host import as_floats, check_bound, namespace
from ...data.types import ArrayLike
from ...families.labels.admixture import Admixture
from .arguments import check_size, per_component


def from_conc(
    conc: ArrayLike | None,
    num_components: int,
    k_max: int | None = None,
    *,
    learn: bool,
    inner: int,
    tol: ArrayLike,
    start: str,
) -> Admixture:
    """Build an admixture with `conc` > 0, a scalar or (num_components,); None is 1 / their number.

    Components beyond `num_components` are switched off. Raises ValueError naming the argument.
    """
    size = check_size(num_components, k_max)
    value = as_floats("conc", 1.0 / num_components if conc is None else conc)
    value = per_component("conc", value, (), num_components, size)
    check_bound("conc", value, above=0.0)
    value = namespace(value).where(np.arange(size) < num_components, value, 0.0)
    return Admixture.from_standard(value, learn=learn, inner=inner, tol=tol, start=start)
