"""The fields of rows: entries checked, absent ones filled, arrays placed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from .checks import check_finite
from .host import is_concrete
from .missing import fill_absent, fill_missing, patterns_of
from .shards import place_for_jit


def checked(
    sharding: NamedSharding | None,
    x: Any,
    weight: Any,
    mask: Any,
    noise: Any,
    label: Any,
    group: Any = None,
    patterns: Any = None,
    exposure: Any = None,
    names: tuple[str, ...] | None = None,
) -> dict[str, Any]:
    """The fields of a Batch: entries checked if concrete, absent ones filled, arrays placed."""
    w = weight
    named = x if isinstance(x, dict) else {"": x}
    masks = mask if isinstance(x, dict) and mask is not None else {"": mask}
    for name, column in named.items():
        shown, seen = f"x[{name!r}]" if name else "x", masks.get(name)
        if is_concrete(column, w) and (seen is None or is_concrete(seen)):
            check_finite(shown, column, w, seen, names)
    held = (without_holes(x, w, mask), noise, exposure)
    filled = jax.tree.map(lambda a: fill_absent(a, w), held)
    x, noise, exposure = placed(sharding, *filled)
    if group is None:
        group, patterns = patterns_of(mask, noise)
    return {
        "x": x,
        "weight": place_for_jit(w, sharding),
        "mask": None if mask is None else jax.tree.map(lambda a: place_for_jit(a, sharding), mask),
        "noise": noise,
        "label": None if label is None else place_for_jit(label, sharding, jnp.int32),
        "group": None if group is None else place_for_jit(group, sharding, jnp.int32),
        "patterns": patterns,
        "exposure": exposure,
    }


def without_holes(x: Any, weight: Any, mask: Any) -> Any:
    """The rows with a number in place of each missing entry."""
    if mask is None:
        return x
    return jax.tree.map(lambda a, seen: fill_missing(a, weight, seen), x, mask)


def placed(sharding: NamedSharding | None, *tree: Any) -> Any:
    """The arrays of a tree, placed as `place_for_jit` does."""
    return jax.tree.map(lambda a: place_for_jit(a, sharding), tree)
