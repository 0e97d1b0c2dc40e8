"""Priors of tables of mixed type: one component family for each column or block of columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..._pytree import replace
from ...data.batch import Batch
from ...data.reader import by_text
from ...data.types import Data
from ...families.compound.columns import Columns
from ...families.emission import Emission
from ...families.independent.beta_bernoulli import BetaBernoulli
from ...families.independent.beta_geometric import BetaGeometric
from ...families.independent.gamma_exponential import GammaExponential
from ...families.independent.gamma_poisson import GammaPoisson
from . import columns, gaussian

KINDS: dict[str, Callable[..., Emission]] = {
    "gaussian": gaussian.from_data,
    "poisson": partial(columns.rates_from_data, GammaPoisson),
    "exponential": partial(columns.rates_from_data, GammaExponential),
    "bernoulli": partial(columns.probabilities_from_data, BetaBernoulli),
    "geometric": partial(columns.probabilities_from_data, BetaGeometric),
    "categorical": columns.codes_from_data,
    "multinomial": columns.counts_from_data,
}


def from_data(
    x: Data,
    num_components: int,
    kinds: Mapping[Any, str],
    *,
    options: Mapping[Any, Mapping[str, Any]] | None = None,
    k_max: int | None = None,
) -> Columns:
    """Build components with the default prior of every column.

    Arguments are those of `MixedMixture.from_data`. Raises ValueError for unknown kinds, and for
    columns without one. Names are text, as those of a Batch are.
    """
    batch, kinds = Batch.of(x).by_name(), by_text("kinds", kinds)
    options = by_text("options", options or {})
    if not isinstance(batch.x, dict) or set(batch.x) != set(kinds):
        given = ", ".join(batch.x) if isinstance(batch.x, dict) else "an array"
        raise ValueError(f"kinds: give one for each column; x has {given}, kinds {[*kinds]}")
    unknown = sorted(set(options) - set(kinds))
    if unknown:
        raise ValueError(f"options: {unknown[0]!r} is no column; expected some of {[*kinds]}")
    parts = {}
    for name, kind in kinds.items():
        if kind not in KINDS:
            known = ", ".join(KINDS)
            raise ValueError(f"kinds: {name!r} is {kind!r}; expected one of {known}")
        extra = options.get(name, {})
        column = batch.column(name)
        column = replace(column, names=(name,) * column.x.shape[1])
        parts[name] = KINDS[kind](column, num_components, k_max=k_max, **extra)
        if parts[name].num_background:
            raise ValueError(f"options: noise in {name!r}: not for one column of a table")
    return Columns(parts)
