"""Whether the two parts of a model, weights or other labels and components, go together."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from ..families.emission import Emission
from ..families.labels.base import Labels
from ..families.weights.base import Weights


def check_parts(
    labels: Any,
    components: Any,
    name: str = "weights",
    kind: type[Labels] = Weights,
    like: str = "Dirichlet",
) -> None:
    """Raise TypeError unless they are Weights and an Emission, ValueError if sizes differ.

    For labels other than weights, `name`, `kind` and `like` are those of the argument. Sizes of a
    stack of models are not looked at.
    """
    if not isinstance(labels, kind):
        raise TypeError(f"{name}: expected a prior such as {like}, got {labels!r:.80}")
    if not isinstance(components, Emission):
        raise TypeError(
            f"components: expected a component family such as NormalWishart, got {components!r:.80}"
        )
    leaves, structure = jax.tree.flatten(components)
    k = _members(structure, tuple((jnp.shape(a), jnp.result_type(a)) for a in leaves))
    if k and k[0] != labels.size and jnp.ndim(labels.on) == 1:
        raise ValueError(f"components: {k[0]} of them, but {name} for {labels.size}")


@lru_cache(maxsize=1024)
def _members(structure: Any, leaves: tuple[Any, ...]) -> tuple[int, ...]:
    """The batch axes of a family with arrays of these shapes, kept since tracing takes a while."""
    arrays = [jax.ShapeDtypeStruct(*leaf) for leaf in leaves]
    return jax.eval_shape(lambda a: jax.tree.unflatten(structure, a).log_normalizer(), arrays).shape
