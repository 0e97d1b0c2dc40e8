"""The host boundary: user input becomes arrays of floats, or an error that names the argument.

Concrete values are handled in NumPy, which needs no compilation. Tracers, and arrays that are too
large or too distributed to fetch, stay in JAX.
"""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_LARGEST_FETCH = 2**26  # elements


def is_concrete(*values: Any) -> bool:
    """Whether no value is a tracer, so that all can be inspected."""
    for value in values:  # noqa: SIM110 (a generator would be a call of Python for each)
        if isinstance(value, Tracer):
            return False
    return True


def fetched(value: Any) -> Any:
    """The value in NumPy, or as it is if other processes hold rows of it.

    A reduction of such an array is a number in every process: `bool(a.any())`.
    """
    return np.asarray(value) if value is not None and _addressable(value) else value


def namespace(*arrays: Any) -> Any:
    """`jax.numpy` if any of the arrays is a JAX array, else `numpy`."""
    for array in arrays:
        if isinstance(array, jax.Array):
            return jnp
    return np


def as_floats(name: str, value: Any) -> Any:
    """Array-like numbers as floats: a NumPy array if values can be fetched, else a JAX array.

    float32 and float64 keep their dtype, but float64 becomes float32 where JAX has it disabled,
    with a warning if that loses the variation of a column. Narrower floats become float32,
    integers and booleans JAX's default float. Raises TypeError naming the argument otherwise.
    """
    if isinstance(value, jax.Array):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            raise TypeError(f"{name}: need real numbers, got a key")
        _check_kind(name, value.dtype)
        dtype = _float_dtype(value.dtype)
        value = value if value.dtype == dtype else value.astype(dtype)
        small = value.size <= _LARGEST_FETCH
        return np.asarray(value) if is_concrete(value) and _addressable(value) and small else value
    if np.ma.is_masked(value):
        raise TypeError(
            f"{name}: a masked array; give its data, and mask=~x.mask to Batch.of, or fill it"
        )
    try:
        host = _to_numpy(value)
    except ValueError as error:
        raise ValueError(f"{name}: rows of different length, or no numbers: {error}") from None
    _check_kind(name, host.dtype)
    dtype = _float_dtype(host.dtype)
    if host.dtype == np.float64 and dtype == np.float32:
        _warn_if_coarse(name, host)
    return host.astype(dtype)


def _to_numpy(value: Any) -> np.ndarray:
    """A frame, a tensor of another library or a sequence as a NumPy array."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "to_numpy"):
        return _of_frame(value)
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    return np.asarray(value)


def _of_frame(value: Any) -> np.ndarray:
    """A frame or one of its columns as a NumPy array, with NaN for entries marked as missing."""
    host = np.asarray(value.to_numpy())
    if host.dtype != object:
        return host
    try:  # pandas columns that can hold NA
        return value.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        return host  # text, which `_check_kind` refuses


def host_mask(mask: Any, *arrays: Any) -> Any:
    """`mask` in NumPy if `arrays` are in NumPy, otherwise as it is."""
    host = mask is not None and namespace(*arrays) is np and is_concrete(mask)
    return fetched(mask) if host else mask


def column_names(value: Any) -> tuple[str, ...] | None:
    """The names of a data frame's columns; None for anything else."""
    columns = getattr(value, "columns", None)
    return None if columns is None else tuple(str(name) for name in columns)


def to_device(value: Any, dtype: Any = None) -> jax.Array:
    """The value as a JAX array of strong type; host values are moved without compiling anything."""
    if isinstance(value, jax.Array):
        same = dtype is None or value.dtype == dtype
        # with a weak type, as of jnp.asarray(0.1), jit would compile another program
        return value if same and not value.weak_type else value.astype(dtype or value.dtype)
    return jax.device_put(np.asarray(value, dtype))


def strong(tree: Any, dtype: Any) -> Any:
    """Floats as `dtype` and integers as int32, all of strong types, so that `jit` compiles once.

    Host values stay on the host: `jit` transfers them faster than one `device_put` each would.
    """

    def strong_leaf(leaf: Any) -> Any:
        leaf = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        kind = leaf.dtype
        if jnp.issubdtype(kind, jnp.floating):
            kind = dtype
        elif jnp.issubdtype(kind, jnp.integer):
            kind = np.int32
        return to_device(leaf, kind) if isinstance(leaf, jax.Array) else np.asarray(leaf, kind)

    return jax.tree.map(strong_leaf, tree)


def check_integer(name: str, value: Any) -> None:
    """Raise TypeError naming the argument unless value is an integer of Python or NumPy."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected an integer, got {value!r}")


def check_bound(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    note: str = "",
) -> None:
    """Raise ValueError naming the argument unless it is finite and within its bounds.

    A tracer is not checked.
    """
    if not is_concrete(value):
        return
    if isinstance(value, float | int) and _plain(value):  # the common case, without an array
        low = (above is None or value > above) and (least is None or value >= least)
        if low and (most is None or value <= most):
            return
    found = np.ravel(as_floats(name, value))
    bad = ~np.isfinite(found)
    bad |= found <= above if above is not None else False
    bad |= found < least if least is not None else False
    bad |= found > most if most is not None else False
    if bad.any():
        bound = "" if above is None else f" and > {above:g}"
        bound += "" if least is None else f" and >= {least:g}"
        bound += "" if most is None else f" and <= {most:g}"
        raise ValueError(f"{name}: must be finite{bound}{note}, got {found[bad][0]:g}")


def _plain(value: float | int) -> bool:
    """Whether a Python number is well within the range of every precision of JAX."""
    return bool(value == 0 or 2.0**-100 < abs(value) < 2.0**62)


def standard(**given: tuple[Any, int]) -> tuple[jax.Array, ...]:
    """Arrays of one dtype from `name=(value, number of event axes)`, batch axes broadcast.

    Raises ValueError naming the argument if it has fewer axes than that.
    """
    dtype = common_dtype(*(value for value, _ in given.values()))
    arrays = {name: as_floats(name, value) for name, (value, _) in given.items()}
    for name, (_, axes) in given.items():
        if arrays[name].ndim < axes:
            raise ValueError(f"{name}: needs at least {axes} axes, got shape {arrays[name].shape}")
    split = {name: arrays[name].ndim - axes for name, (_, axes) in given.items()}
    batch = np.broadcast_shapes(*(a.shape[: split[name]] for name, a in arrays.items()))
    full = {
        name: namespace(a).broadcast_to(a, batch + a.shape[split[name] :])
        for name, a in arrays.items()
    }
    return tuple(to_device(a, dtype) for a in full.values())


def _addressable(value: Any) -> bool:
    if not isinstance(value, jax.Array):
        return True
    return value.is_fully_addressable or value.is_fully_replicated


def _check_kind(name: str, dtype: Any) -> None:
    # bfloat16 and the like have the NumPy kind "V"
    if dtype.kind not in "fiub" and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"{name}: need real numbers, got dtype {dtype}; "
            "select or convert the numeric columns first"
        )


def _float_dtype(dtype: Any) -> Any:
    if not jnp.issubdtype(dtype, jnp.floating):
        return jnp.result_type(float)
    return jax.dtypes.canonicalize_dtype(jnp.float32 if dtype.itemsize < 4 else dtype)


def common_dtype(*values: Any) -> Any:
    """The widest float dtype among arrays; Python numbers do not count."""
    dtypes = [_float_dtype(v.dtype) for v in values if hasattr(v, "dtype")]
    return max(dtypes, key=lambda d: d.itemsize, default=jnp.result_type(float))


def _warn_if_coarse(name: str, x: np.ndarray) -> None:
    if not x.size:
        return
    columns = np.where(np.isfinite(x), x, 0.0).reshape(x.shape[0] if x.ndim else 1, -1)
    spread = columns.std(0)
    step = np.abs(columns).max(0) * np.finfo(np.float32).eps
    coarse = np.flatnonzero((step > 1e-2 * spread) & (columns.max(0) > columns.min(0)))
    if coarse.size:
        j = int(coarse[0])
        warnings.warn(
            f"{name}: column {j} steps by {step[j]:.3g} in float32 but varies only by "
            f"{spread[j]:.3g}; subtract an offset first, or enable jax_enable_x64",
            stacklevel=4,
        )
