"""Priors of Student-t components: those of Gaussian ones, and degrees of freedom."""

from __future__ import annotations

from ...data.host import as_floats, check_bound, to_device
from ...data.types import ArrayLike
from ...families.compound.noise import WithNoise
from ...families.compound.student_t import StudentT, student_t
from ...families.gaussian.base import Gaussian
from .arguments import check_size, per_component

_START = 10.0  # degrees of freedom: tails that can still go either way


def over(
    gaussian: Gaussian | WithNoise,
    num_components: int,
    *,
    dof: ArrayLike | None = None,
    k_max: int | None = None,
) -> StudentT:
    """Build Student-t components over Gaussian ones, which may be without a prior.

    `dof` > 0 is a scalar or (k,), and fixed; None has it maximised over. Raises ValueError by name.
    """
    if isinstance(gaussian, WithNoise):
        raise ValueError("noise: heavy tails take its place; use GaussianMixture for it")
    size = check_size(num_components, k_max)
    value = as_floats("dof", _START if dof is None else dof)
    check_bound("dof", value, above=0.0)
    value = per_component("dof", value, (), num_components, size)
    return student_t(gaussian, to_device(value.astype(gaussian.origin.dtype)), learn=dof is None)
