"""The best of several starts after a few updates of each (Biernacki, Celeux & Govaert 2003)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


def best_start(
    step: Callable[[Any], tuple[Any, Float[Array, ""]]], starts: Any, num_steps: int
) -> Int[Array, ""]:
    """The start that is best after `num_steps`; `step(q)` gives the next q, and how good q is.

    `starts` have a leading axis. One that ends as NaN is never best.
    """

    def run(start: Any) -> Float[Array, ""]:
        last = lax.fori_loop(0, num_steps, lambda _, now: step(now)[0], start)
        value = step(last)[1]
        return jnp.where(jnp.isnan(value), -jnp.inf, value)

    return jnp.argmax(lax.map(run, starts)).astype(jnp.int32)
