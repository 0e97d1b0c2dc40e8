"""Forms of moments that one E-step can read, and what each costs and loses."""

from __future__ import annotations

from typing import Any

from jaxtyping import Array, Bool, Float

from ._pytree import pytree, static


@pytree
class Kernel:
    """Moments in a form that `local` of a model, or `e_step` of components, can read.

    `reliable` says whether the form keeps enough digits for these rows, `error` is about the
    relative rounding error of its statistics, and `row_size` the number of floats that a step
    holds per row.
    """

    moments: Any
    row_size: int = static()
    reliable: Bool[Array, ""] | bool = True
    error: Float[Array, ""] | float = 0.0
