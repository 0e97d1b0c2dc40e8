"""Reading rows at many draws of the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from ..data.batch import Batch
from ..data.host import fetched, is_concrete, to_device
from ..data.padding import longer, read_rows
from ..model import Model

_FLOATS = 2**24  # of draws times rows times components that are read together
_MOST_ROWS = 2**16  # that `read_rows` reads together


def shape_of_draws(theta: Any, name: str, axes: int) -> tuple[int, ...]:
    """The leading axes of draws, of which `theta[name]` has `axes` others; TypeError if it has not.

    ValueError if other parameters do not have the same leading axes.
    """
    if not isinstance(theta, dict) or name not in theta:
        what = f"a dict of {', '.join(map(str, theta))}" if isinstance(theta, dict) else repr(theta)
        raise TypeError(f"theta: expected draws of `sample_parameters`, got {what:.80}")
    shape = tuple(np.shape(theta[name])[:-axes])
    for leaf in jax.tree.leaves(theta):
        if tuple(np.shape(leaf)[: len(shape)]) != shape:
            raise ValueError(f"theta: {name} has draws {shape}, but others have {np.shape(leaf)}")
    return shape


def by_draw(
    program: Callable[..., Any],
    batch: Batch,
    model: Model,
    theta: dict[str, Any],
    shape: tuple[int, ...],
    floats: int,
) -> Float[Array, "*s n"]:
    """`program(model, theta, batch)` (n, s) of all draws, with their axes `shape` in front.

    `floats` is how many it holds for a draw of one row. Draws are read in chunks of few sizes, in
    bounded memory, unless something is traced.
    """
    size = int(np.prod(shape))
    flat = jax.tree.map(lambda a: a.reshape(size, *a.shape[len(shape) :]), theta)
    if not is_concrete(*jax.tree.leaves((batch, model, theta))):
        found = read_rows(program, batch, model, flat)
        return found.T.reshape(*shape, -1)
    rows = min(batch.weight.shape[0], _MOST_ROWS)
    chunk = max(1, _FLOATS // max(1, rows * floats))
    chunk = min(1 << chunk.bit_length() - 1, 1 << max(size - 1, 0).bit_length())
    host = jax.tree.map(fetched, flat)
    parts = []
    for first in range(0, size, chunk):
        part = jax.tree.map(lambda a, i=first: to_device(longer(a[i : i + chunk], chunk)), host)
        parts.append(fetched(read_rows(program, batch, model, part)).T)
    return to_device(np.concatenate(parts)[:size].reshape(*shape, -1))
