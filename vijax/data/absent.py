"""Numbers that were never computed: the lowest one of float32 in programs, NaN for whoever reads.

A NaN that fills up an array would look like an error to `jax.debug_nans`. The number is the same in
float64, so that it may be converted.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .host import fetched, is_concrete

_LOWEST = float(np.finfo(np.float32).min)


def absent(shape: tuple[int, ...], dtype: Any) -> Float[Array, "..."]:
    """An array of numbers that are not there yet."""
    return jnp.full(shape, _LOWEST, dtype)


def is_absent(a: Any) -> Bool[Any, "..."]:
    """True for the entries of a NumPy or JAX array that were never computed."""
    return a == np.asarray(_LOWEST, a.dtype)


def with_nan(a: Any) -> Any:
    """The array with NaN in place of absent entries, put together on the host if that is possible.

    It waits for the device.
    """
    host = fetched(a) if is_concrete(a) else a
    if isinstance(host, jax.Array):
        return jnp.where(is_absent(host), jnp.nan, host)
    known = np.where(is_absent(host), np.asarray(np.nan, host.dtype), host)
    placed = isinstance(a, jax.Array) and a.committed
    return jax.device_put(known, a.sharding if placed else None)


def without_nan(a: Any) -> Any:
    """The NumPy array that `with_nan` makes this one of."""
    return np.where(np.isnan(a), np.asarray(_LOWEST, a.dtype), a)
