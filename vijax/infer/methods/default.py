"""The method that a fit takes where none is given."""

from __future__ import annotations

from typing import Any

from ...guides.roots import DiagonalRoot, LowRankRoot
from ...model import DensityModel, Model
from ..method import Method
from .black_box import root_of
from .cavi import CAVI
from .gaussian_vi import GaussianVI
from .lbfgs import LBFGS

_LARGEST = 512  # parameters of a diagonal covariance, up to which GaussianVI uses all curvature


def method_for(model: Model, method: Method[Any] | None) -> Method[Any]:
    """The method itself, or the one that suits the model: CAVI, GaussianVI, or LBFGS.

    LBFGS is for a covariance of low rank, and for a diagonal one of more than 512 parameters.
    """
    if method is not None:
        return method
    if not isinstance(model, DensityModel):
        return CAVI()
    root = root_of(model)
    large = isinstance(root, DiagonalRoot) and root.noise_size > _LARGEST
    return LBFGS() if large or isinstance(root, LowRankRoot) else GaussianVI()
