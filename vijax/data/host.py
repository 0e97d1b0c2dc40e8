"""The host boundary: user input becomes arrays of floats, or an error that names the argument.

Concrete values are handled in NumPy, which needs no compilation. Tracers, and arrays that are too
large or too distributed to fetch, stay in JAX.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .reader import (
    check_device_kind,
    columns_of,
    is_uniform,
    label,
    read_numbers,
)
from .reader import column_names as column_names

_LARGEST_FETCH = 2**26  # elements
_FEW_COLUMNS = 32


def is_concrete(*values: Any) -> bool:
    """Whether no value is a tracer, so that all can be inspected."""
    for value in values:  # noqa: SIM110 (a generator would be a call of Python for each)
        if isinstance(value, Tracer):
            return False
    return True


def readable(tree: Any) -> bool:
    """Whether all leaves are arrays whose values can be looked at."""
    leaves = jax.tree.leaves(tree)
    return is_concrete(*leaves) and all(isinstance(a, jax.Array | np.ndarray) for a in leaves)


def fetched(value: Any) -> Any:
    """The value in NumPy, or as it is if other processes hold rows of it.

    A reduction of such an array is a number in every process: `bool(a.any())`.
    """
    if value is None or not _addressable(value):
        return value
    if not isinstance(value, jax.Array):
        return np.asarray(value)
    # explicit, so that `jax.transfer_guard("disallow")` lets it pass
    return np.asarray(jax.device_get(value))


def can_fetch(value: Any) -> bool:
    """Whether a concrete array is here, or small enough to be copied here."""
    return not isinstance(value, jax.Array) or (
        _addressable(value) and value.size <= _LARGEST_FETCH
    )


def namespace(*arrays: Any) -> Any:
    """`jax.numpy` if any of the arrays is a JAX array, else `numpy`."""
    for array in arrays:
        if isinstance(array, jax.Array):
            return jnp
    return np


def as_floats(name: str, value: Any, *, missing: bool = False, dtype: Any = None) -> Any:
    """Array-like numbers as floats: a NumPy array if values can be fetched, else a JAX array.

    float32 and float64 keep their dtype, but float64 becomes float32 where JAX has it disabled.
    Narrower floats become float32, integers and booleans JAX's default float. `dtype` overrides
    that. Warns where that loses the variation of a column. Marks of missing entries become NaN,
    and masked entries too where `missing` is declared. Raises TypeError naming the argument, and
    the column of a frame, for anything else.
    """
    if isinstance(value, jax.Array):
        check_device_kind(name, value.dtype)
        wanted = np.dtype(dtype or _float_dtype(value.dtype))
        if not (is_concrete(value) and can_fetch(value)):
            _warn_if_coarse(name, value, wanted)
            return value if value.dtype == wanted else value.astype(wanted)
        return _cast(name, jax.device_get(value), wanted)
    columns = None if is_uniform(value) else columns_of(value)
    if not columns:
        host = read_numbers(name, value, missing=missing)
        return _cast(name, host, dtype or _float_dtype(host.dtype), column_names(value))
    return columns_as_floats(name, columns, missing=missing, dtype=dtype)


def columns_as_floats(
    name: str, columns: list[tuple[str, Any]], *, missing: bool = False, dtype: Any = None
) -> np.ndarray:
    """Columns (n,) with their names as one array (n, d), each read as `as_floats` would."""
    read = {
        j: read_numbers(name, column, missing=missing, column=own)
        for j, (own, column) in enumerate(columns)
    }
    shapes = {a.shape for a in read.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        given = ", ".join(f"{own!r}: {read[j].shape}" for j, (own, _) in enumerate(columns))
        raise ValueError(f"{name}: expected one number per row in each column, got shapes {given}")
    wanted = dtype or common_dtype(*read.values())
    host = np.empty((len(read[0]), len(read)), wanted)
    for j, (own, _) in enumerate(columns):
        host[:, j] = _cast(name, read[j], wanted, (own,))
    return host


def as_weights(name: str, value: Any, dtype: Any) -> Any:
    """Weights (n,) in this dtype; ValueError for a weight that is positive, but 0 there."""
    if isinstance(value, jax.Array):
        given, weight = value, as_floats(name, value, dtype=dtype)
    else:
        given = as_floats(name, value) if columns_of(value) else read_numbers(name, value)
        weight = _cast(name, given, dtype)
    if is_concrete(given, weight):
        check_normal(name, given, weight)
    return weight


def check_normal(name: str, given: Any, weight: Any) -> None:
    """Raise ValueError if a positive number of `given` is 0 or subnormal in `weight`.

    XLA takes subnormal numbers for 0.
    """
    tiny = jnp.finfo(weight.dtype).tiny
    small = (given > 0) & (weight < tiny)
    if weight.ndim == 1 and bool(small.any()):
        row = int(small.argmax())
        raise ValueError(
            f"{name}: {float(given[row]):g} in row {row} is too small for {weight.dtype}, whose "
            f"smallest number is {float(tiny):.3g}; multiply all weights by a number, give weight "
            f"0 to rows that shall not count{_wider(weight.dtype)}"
        )


def check_total(name: str, total: float, dtype: Any) -> None:
    """Raise ValueError if a sum of weights is infinite in this dtype."""
    if not total <= float(jnp.finfo(dtype).max):
        raise ValueError(
            f"{name}: the sum {total:g} is too large for {np.dtype(dtype).name}; divide all "
            f"weights by a number{_wider(dtype)}"
        )


def _cast(
    name: str, host: np.ndarray, dtype: Any, names: tuple[str, ...] | None = None
) -> np.ndarray:
    """The numbers as floats; what is too large becomes infinite, which is found where it counts."""
    _warn_if_coarse(name, host, dtype, names)
    with np.errstate(over="ignore"):
        return host.astype(dtype)


def host_mask(mask: Any, *arrays: Any) -> Any:
    """`mask` in NumPy if `arrays` are in NumPy, otherwise as it is."""
    host = mask is not None and namespace(*arrays) is np and is_concrete(mask)
    return fetched(mask) if host else mask


def to_device(value: Any, dtype: Any = None) -> jax.Array:
    """The value as a JAX array of strong type; host values are moved without compiling anything."""
    if isinstance(value, jax.Array):
        same = dtype is None or value.dtype == dtype
        # with a weak type, as of jnp.asarray(0.1), jit would compile another program
        return value if same and not value.weak_type else value.astype(dtype or value.dtype)
    return jax.device_put(np.asarray(value, dtype))


def guarded() -> bool:
    """Whether `jax.transfer_guard` watches transfers to the device that nobody asked for."""
    guard = jax.config.jax_transfer_guard_host_to_device  # type: ignore[attr-defined]
    return guard not in (None, "allow")


@contextlib.contextmanager
def unguarded() -> Iterator[None]:
    """A context for what people read, whatever debugging settings are on.

    It moves a few numbers, and what a component has not, such as the mean of noise or the log of a
    weight of 0, is NaN or infinite there.
    """
    with jax.transfer_guard("allow"), jax.debug_nans(False), jax.debug_infs(False):
        yield


def sent(tree: Any) -> Any:
    """The tree, with host arrays on the device if a guard would not let `jit` move them there."""
    if not guarded():
        return tree
    return jax.tree.map(lambda a: a if isinstance(a, jax.Array) else to_device(a), tree)


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
        stays = not isinstance(leaf, jax.Array) and not guarded()
        return np.asarray(leaf, kind) if stays else to_device(leaf, kind)

    return jax.tree.map(strong_leaf, tree)


def check_integer(name: str, value: Any) -> None:
    """Raise TypeError naming the argument unless value is an integer of Python or NumPy."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected an integer, got {value!r}")


def check_whole(name: str, value: Any) -> None:
    """Raise TypeError naming the argument unless it is an integer, of an array too."""
    if not isinstance(value, int) and not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        raise TypeError(f"{name}: expected an integer, got {described(value)}")


def described(value: Any) -> str:
    """What a value is, in a few words: a number, or the type and the shape of an array."""
    if isinstance(value, bool | int | float | str | None):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    shape = getattr(value, "shape", None)
    size = f" of shape {shape}" if isinstance(shape, tuple) and shape else ""
    return f"{type(value).__name__}{size}"


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


def _float_dtype(dtype: Any) -> Any:
    if not jnp.issubdtype(dtype, jnp.floating):
        return jnp.result_type(float)
    wide = jnp.float32 if dtype.itemsize <= 4 else jnp.float64  # of any byte order
    return jax.dtypes.canonicalize_dtype(wide)


def common_dtype(*values: Any) -> Any:
    """The widest float dtype among arrays; Python numbers do not count."""
    dtypes = [_float_dtype(v.dtype) for v in values if hasattr(v, "dtype")]
    return max(dtypes, key=lambda d: d.itemsize, default=jnp.result_type(float))


def _warn_if_coarse(name: str, x: Any, dtype: Any, names: tuple[str, ...] | None = None) -> None:
    """Warn if numbers of a column that differ are hardly told apart in this narrower dtype.

    Looks at integers and at wider floats, on the device too if they are not fetched.
    """
    whole = jnp.issubdtype(x.dtype, jnp.integer)
    if not x.size or not is_concrete(x) or not (whole or x.dtype.itemsize > dtype.itemsize):
        return
    eps, tiny = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).tiny)
    columns = x.reshape(x.shape[0] if x.ndim else 1, -1)

    def step_of(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        top = np.maximum(np.abs(low), np.abs(high))
        step = np.where(top < tiny, tiny, top * eps)  # subnormal numbers are 0 to XLA
        return np.where(top <= 2.0 / eps, 0.0, step) if whole else step

    with np.errstate(invalid="ignore", over="ignore"):
        low, high = _ends(columns)
        # no standard deviation is less than this, so that most columns need no second look
        least = (high - low) / np.sqrt(2.0 * columns.shape[0])
    suspect = np.flatnonzero(~(step_of(low, high) <= 1e-2 * least) & (low != high))
    if not suspect.size:
        return
    spread_of = _spread_of_integers if whole else _spread_of_floats
    low, high, spread = spread_of(columns[:, suspect])
    step = step_of(low, high)
    coarse = np.flatnonzero((step > 1e-2 * spread) & (high > low))
    if coarse.size:
        i, j = int(coarse[0]), int(suspect[coarse[0]])
        names = names if names is not None and len(names) == columns.shape[1] else None
        warnings.warn(
            f"{name}: {label(j, names)} steps by {step[i]:.3g} in {np.dtype(dtype).name} but "
            f"varies only by {spread[i]:.3g}; subtract an offset first, or take another "
            f"unit{_wider(dtype)}",
            stacklevel=5,
        )


def _wider(dtype: Any) -> str:
    """The remedy of more digits, where there is one."""
    if dtype != np.float32:
        return ""
    enabled = jnp.result_type(float) == np.float64
    return ", or give all numbers in float64" if enabled else ", or enable jax_enable_x64"


def _ends(columns: Any) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest entry of each column in float64, NaN if one is NaN."""
    if isinstance(columns, np.ndarray) and columns.shape[1] <= _FEW_COLUMNS:
        # NumPy reduces a long axis faster by itself than next to a short one
        low, high = ([fn(column) for column in columns.T] for fn in (np.min, np.max))
        return np.array(low, float), np.array(high, float)
    return np.asarray(columns.min(0)).astype(float), np.asarray(columns.max(0)).astype(float)


def _spread_of_floats(columns: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least, largest and standard deviation of each column, over its finite entries."""
    finite = np.isfinite(columns)
    first = np.take_along_axis(columns, finite.argmax(0)[None], 0)[0]
    first = np.where(np.isfinite(first), first, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        move = np.where(finite, columns - first, 0.0)
        count = np.maximum(finite.sum(0), 1)
        mean = move.sum(0) / count
        spread = np.sqrt(np.where(finite, (move - mean) ** 2, 0.0).sum(0) / count)
        return first + move.min(0), first + move.max(0), spread


def _spread_of_integers(columns: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same for integers, whose differences are exact and fit into unsigned ones."""
    low, high = _ends(columns)
    unsigned = np.dtype(f"u{columns.dtype.itemsize}")
    move = columns.astype(unsigned) - columns.min(0).astype(unsigned)
    if isinstance(move, np.ndarray):
        return low, high, move.std(0, dtype=np.float64)
    return low, high, np.asarray(move.astype(jnp.result_type(float)).std(0)).astype(float)
