"""Priors of the components of any model, by the name of their family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ...data.batch import Batch
from ...data.types import ArrayLike
from ...families.emission import Emission
from ...families.independent.beta_bernoulli import BetaBernoulli
from ...families.independent.beta_geometric import BetaGeometric
from ...families.independent.dirichlet_multinomial import DirichletMultinomial
from ...families.independent.gamma_exponential import GammaExponential
from ...families.independent.gamma_poisson import GammaPoisson
from . import columns, gaussian, table

_FLAT: dict[str, Callable[..., Emission]] = {
    "gaussian": gaussian.flat,
    "poisson": partial(columns.flat, GammaPoisson),
    "exponential": partial(columns.flat, GammaExponential),
    "bernoulli": partial(columns.flat, BetaBernoulli),
    "geometric": partial(columns.flat, BetaGeometric),
    "multinomial": partial(columns.flat, DirichletMultinomial),
    "categorical": columns.flat_codes,
}


def from_data(
    x: Batch,
    num_components: int,
    emission: str | Mapping[Any, str],
    *,
    k_max: int | None = None,
    **options: Any,
) -> Emission:
    """Build components of this family with their default prior from rows.

    `emission` is a name, or a dict from each column of a table to one. `options` are those of the
    family's own `from_data`. Raises ValueError for an unknown name.
    """
    if not isinstance(emission, str):
        return table.from_data(x, num_components, emission, k_max=k_max, **options)
    if emission == "student_t":
        return _student_t(x, num_components, k_max=k_max, **options)
    _check(emission, [*table.KINDS, "student_t"])
    return table.KINDS[emission](x, num_components, k_max=k_max, **options)


def flat(
    num_components: int,
    num_features: int,
    emission: str,
    *,
    k_max: int | None = None,
    **options: Any,
) -> Emission:
    """Build components of this family without a prior, for maximum likelihood."""
    _check(emission, list(_FLAT))
    return _FLAT[emission](num_components, num_features, k_max=k_max, **options)


def _student_t(
    x: Batch,
    num_components: int,
    *,
    dof: ArrayLike | None = None,
    k_max: int | None = None,
    **options: Any,
) -> Emission:
    base = gaussian.from_data(x, num_components, k_max=k_max, **options)
    return gaussian.student_t(base, num_components, dof=dof, k_max=k_max)


def _check(emission: str, known: list[str]) -> None:
    if emission not in known:
        raise ValueError(f"emission: expected one of {', '.join(known)}, got {emission!r}")
