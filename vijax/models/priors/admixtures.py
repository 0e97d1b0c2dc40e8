"""Priors of the memberships of rows: pseudo-counts of steps in each class."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...data.host import as_floats, check_bound, namespace, to_device
from ...data.types import ArrayLike
from ...families.labels.admixture import Admixture
from .arguments import check_size, per_component


def from_conc(
    num_classes: int, conc: ArrayLike | None, k_max: int | None, name: str = "conc", **settings: Any
) -> Admixture:
    """Build an admixture from `conc` > 0, a scalar or one for each class; 1 / k by default.

    Classes beyond `num_classes` are switched off. `settings` are those of
    `Admixture.from_standard`. Raises ValueError naming the argument, `conc` by `name`.
    """
    size = check_size(num_classes, k_max)
    value = as_floats(name, 1.0 / num_classes if conc is None else conc)
    value = per_component(name, value, (), num_classes, size)
    check_bound(name, value, above=0.0)
    on = np.arange(size) < num_classes
    return Admixture.from_standard(to_device(namespace(value).where(on, value, 0.0)), **settings)
