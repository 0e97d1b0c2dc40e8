"""Fits as data frames: one row for each component."""

from __future__ import annotations

import importlib
import importlib.util
from functools import partial
from typing import Any

import jax
import numpy as np

from ..data.host import fetched, sent, unguarded
from ..latent_class import ComponentParams
from ..model import Q


def frame_of_components(q: Q, names: tuple[str, ...] | None, point: bool, many: bool) -> Any:
    """A table with a row for each component: its number, weight and parameters.

    Of many fits, whose arrays have a leading axis m, it has a row for each component of each, and
    their number as `data_set`. It is a data frame of pandas or of polars, whichever is installed,
    else a dict of arrays. Raises TypeError for a q without components.
    """
    if not isinstance(q, ComponentParams):
        raise TypeError(f"to_frame: a {type(q).__name__} has no components")
    with unguarded():
        table = _table(names, point, many, sent(q))
    heads = sorted(table, key=lambda label: not label.startswith("weight"))
    columns = {label: fetched(table[label]) for label in heads}
    shape = next(iter(columns.values())).shape
    m, k = shape if many else (1, *shape)
    long = {"data_set": np.repeat(np.arange(m), k)} if many else {}
    long |= {"component": np.tile(np.arange(k), m)}
    long |= {label: values.reshape(-1) for label, values in columns.items()}
    for library in ("pandas", "polars"):
        if importlib.util.find_spec(library) is not None:
            return importlib.import_module(library).DataFrame(long)
    return long


@partial(jax.jit, static_argnums=(0, 1, 2))
def _table(
    names: tuple[str, ...] | None, point: bool, many: bool, q: ComponentParams
) -> dict[str, Any]:
    listed = None if names is None else list(names)

    def of_one(q: ComponentParams) -> dict[str, Any]:
        return q.table(listed, point=point)

    return jax.vmap(of_one)(q) if many else of_one(q)
