"""The method that a fit takes where none is given."""

from __future__ import annotations

from typing import Any

from ...model import DensityModel, Model
from ..method import Method
from .cavi import CAVI
from .gaussian_vi import GaussianVI


def method_for(model: Model, method: Method[Any] | None) -> Method[Any]:
    """The method itself, or the one that suits the model: GaussianVI or CAVI."""
    if method is not None:
        return method
    return GaussianVI() if isinstance(model, DensityModel) else CAVI()
