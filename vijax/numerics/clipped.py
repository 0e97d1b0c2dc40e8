"""exp, log and the ends of intervals, held to numbers that a dtype tells from 0 and from infinity.

XLA takes subnormal numbers for 0, so that the least number above 0 is the least normal one.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float


def clipped_exp(u: Float[Array, "..."], terms: int = 1) -> tuple[Float[Array, "..."], Array]:
    """exp(u), never 0 and so small that `terms` of them have a finite sum; and its log, u.

    Where the value is held at its upper end the log is too, so that no density rises there.
    """
    info = jnp.finfo(u.dtype)
    least = math.log(float(info.tiny)) + 1.0
    most = math.log(float(info.max)) - math.log(max(terms, 1)) - 1.0
    return jnp.exp(jnp.clip(u, least, most)), jnp.minimum(u, most)


def clipped_log(value: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(value), finite at 0, below it and at infinity."""
    info = jnp.finfo(value.dtype)
    return jnp.log(jnp.clip(value, float(info.tiny), float(info.max)))


class Ends:
    """The ends of intervals in one dtype.

    `low` and `high` are 0 where infinite, `one` is the lower end if it is finite, else the upper
    one, and `sign` the direction from there into the interval. `both` says where both are finite,
    and there `log_width` is the log of their distance. `least` and `most` are the numbers of the
    dtype next to the ends inside.

    Raises ValueError if an end overflows, or there is no number between them.
    """

    def __init__(self, low: ArrayLike | tuple, high: ArrayLike | tuple, dtype: Any):
        wide = np.asarray(low, np.float64), np.asarray(high, np.float64)
        has_low, has_high = map(np.isfinite, wide)
        info = jnp.finfo(dtype)
        tiny, most, infinity = float(info.tiny), float(info.max), np.asarray(np.inf, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            low, high = (end.astype(dtype) for end in wide)
            log_width = np.log(wide[1] / 2 - wide[0] / 2) + np.log(2.0)
        up, down = np.nextafter(low, infinity), np.nextafter(high, -infinity)
        up = np.where(np.abs(up) < tiny, np.where(low < 0, 0.0, tiny), up)
        down = np.where(np.abs(down) < tiny, np.where(high > 0, 0.0, -tiny), down)
        overflow = np.isinf(np.where(has_low, low, 0)) | np.isinf(np.where(has_high, high, 0))
        if overflow.any() or not (up <= down).all():
            raise ValueError(
                f"Interval({wide[0]}, {wide[1]}): its ends are too large, or too close to each "
                f"other, for {np.dtype(dtype)}; take another unit or subtract an offset"
            )
        self.both = has_low & has_high
        self.low = jnp.asarray(np.where(has_low, low, 0), dtype)
        self.high = jnp.asarray(np.where(has_high, high, 0), dtype)
        self.one = jnp.asarray(np.where(has_low, low, high), dtype)
        self.sign = jnp.asarray(np.where(has_low, 1, -1), dtype)
        self.least = jnp.asarray(np.maximum(up, -most), dtype)
        self.most = jnp.asarray(np.minimum(down, most), dtype)
        self.log_width = jnp.asarray(np.where(self.both, log_width, 0), dtype)
