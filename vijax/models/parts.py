"""Whether the two parts of a mixture, weights and components, go together."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from ..families.emission import Emission
from ..families.weights.base import Weights


def check_parts(weights: Any, components: Any) -> None:
    """Raise TypeError unless they are Weights and an Emission, ValueError if sizes differ.

    Sizes of a stack of models are not looked at.
    """
    if not isinstance(weights, Weights):
        raise TypeError(f"weights: expected a prior such as Dirichlet, got {weights!r:.80}")
    if not isinstance(components, Emission):
        raise TypeError(
            f"components: expected a component family such as NormalWishart, got {components!r:.80}"
        )
    leaves, structure = jax.tree.flatten(components)
    k = _members(structure, tuple((jnp.shape(a), jnp.result_type(a)) for a in leaves))
    if k and k[0] != weights.size and jnp.ndim(weights.on) == 1:
        raise ValueError(f"components: {k[0]} of them, but weights for {weights.size}")


@lru_cache(maxsize=1024)
def _members(structure: Any, leaves: tuple[Any, ...]) -> tuple[int, ...]:
    """The batch axes of a family with arrays of these shapes, kept since tracing takes a while."""
    arrays = [jax.ShapeDtypeStruct(*leaf) for leaf in leaves]
    return jax.eval_shape(lambda a: jax.tree.unflatten(structure, a).log_normalizer(), arrays).shape
