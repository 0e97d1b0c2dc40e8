"""Forms of the same moments that an E-step can read, with their cost and their accuracy."""

from __future__ import annotations

from typing import Any

from jaxtyping import Array, Bool, Float

from ._pytree import pytree, static


@pytree
class Kernel:
    """Moments in a form that `ConditionalModel.local` and `Emission.e_step` can read.

    `kernels` of a model or of components lists several, the fastest first and the exact one last.
    `row_size` is the number of floats that an E-step with them holds per row, `reliable` whether
    they keep enough digits for the present rows, and `error` roughly the relative rounding error
    of the statistics.
    """

    moments: Any
    row_size: int = static()
    reliable: Bool[Array, ""] | bool = True
    error: Float[Array, ""] | float = 0.0
