"""`Batch`: rows with weights, masks, noise and labels, the form in which data reach a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Float, Int

from .._pytree import map_fields, pytree, replace, static
from ..numerics import linalg
from . import weighted_means as averages
from .host import as_floats, column_names, common_dtype, fetched, is_concrete, namespace, to_device
from .shards import on_auto_mesh, place_for_jit, platform_of, sharding_of_rows, to_auto

if TYPE_CHECKING:
    _Rows = Array
else:
    _Rows = Array | np.ndarray  # `for_jit` leaves arrays on the host

_ROWS_PER_PATTERN = 2  # with fewer, grouping rows by their missing entries saves nothing


@pytree
class Batch:
    """Rows `x` with a weight >= 0 each, and optionally masks, measurement noise and labels.

    An integer weight counts repetitions. Weight 0 is absence: such a row changes no result,
    whatever it holds, so ragged data sets, chunks and shards can be padded.

    - `x`: (n, d) or (n,), or a dict of such columns.
    - `mask`: of the form of `x`, True where an entry was observed.
    - `noise`: (n, d, d), the covariance of each row's measurement error in data units squared.
    - `label`: (n,), the row's component, -1 where unknown.
    - `patterns` and `group`: the distinct rows of `mask`, padded to a power of two, and the index
      of each row's; only where that saves work. Other missing entries may change their shape, and
      then compile another program.
    - `names`: names of columns, which drivers remove before anything is compiled.
    - `sharding`: how rows are spread over devices.
    - `platform`: where they are ("cpu", "gpu", ...; None is JAX's default), which decides on chunk
      sizes and layouts.
    """

    x: Any
    weight: Float[_Rows, "*b n"]
    mask: Any = None
    noise: Float[_Rows, "*b n d d"] | None = None
    label: Int[_Rows, "*b n"] | None = None
    group: Int[_Rows, "*b n"] | None = None
    patterns: Bool[_Rows, "*b p d"] | None = None
    names: tuple[str, ...] | None = static(default=None)
    sharding: NamedSharding | None = static(default=None)
    platform: str | None = static(default=None)

    @classmethod
    @on_auto_mesh
    def of(
        cls,
        data: Any,
        weight: Any = None,
        *,
        missing: bool = False,
        mask: Any = None,
        noise: Any = None,
        label: Any = None,
    ) -> Batch:
        """Batch of anything array-like with rows first; float64 is kept where JAX has it enabled.

        `data` may be an array of any library, a list, a data frame (whose column names are kept),
        a dict of columns, or a Batch, whose arrays stay where they are. Entries are missing where
        `mask` (of the form of `data`) is False, or with `missing=True` where they are NaN; a row
        without any entry gets weight 0. `noise` is (n, d, d), or (n, d) for independent errors, in
        data units squared. `label` holds integers, -1 where the component is unknown. If an array
        is spread over devices by rows, all others are spread likewise.

        Concrete values are checked here, tracers are not. Raises TypeError for data that are not
        numbers; ValueError for no rows, NaN or infinite entries, negative or missing weights, and
        noise that is no covariance. Warns when float64 data lose their resolution in float32.
        """
        batch = cls._read(data, weight, missing, mask, noise, label)
        return batch if isinstance(data, Batch) else jax.tree.map(to_device, batch)

    @classmethod
    def for_jit(cls, data: Any) -> Batch:
        """As `of`, but host arrays stay on the host until a jitted program takes them."""
        return cls._read(data, None, False, None, None, None)

    @classmethod
    def _read(
        cls, data: Any, weight: Any, missing: bool, mask: Any, noise: Any, label: Any
    ) -> Batch:
        if isinstance(data, Batch):
            given = (weight, mask, noise, label)
            if missing or any(v is not None for v in given):
                raise ValueError("data: a Batch; give weight, mask, noise and label to Batch.of")
            given = {field: to_auto(getattr(data, field)) for field in _PARTS}
            sharding, platform = data.sharding, data.platform
            if is_concrete(*jax.tree.leaves(given)):
                sharding, platform = sharding_of_rows(given), platform_of(given)
            parts = _checked(sharding, **given)
            return cls(**parts, names=data.names, sharding=sharding, platform=platform)
        data, weight, mask, noise, label = to_auto((data, weight, mask, noise, label))
        sharding = sharding_of_rows((data, weight, mask, noise, label))
        names = column_names(data)
        if isinstance(data, Mapping):
            x = {name: _column(f"x[{name!r}]", value) for name, value in data.items()}
            if mask is not None and set(mask) != set(x):
                raise ValueError(f"mask: expected the columns {sorted(x)}, got {sorted(mask)}")
            mask = {name: None if mask is None else mask[name] for name in x}
            names = None
        else:
            x = as_floats("x", data)
        n = _num_rows(x)
        dtype = common_dtype(*jax.tree.leaves(x))
        x = jax.tree.map(lambda a: a.astype(dtype), x)
        w = np.ones(n, dtype) if weight is None else as_floats("weight", weight).astype(dtype)
        seen = _mask_of(x, mask, missing)
        if seen is not None:
            w = _without_empty_rows(w, seen)
        noise, label = _noise_of(noise, x, dtype), _label_of(label, n)
        parts = _checked(sharding, x, w, seen, noise, label)
        return cls(**parts, names=names, sharding=sharding, platform=platform_of(parts))

    def column(self, name: str) -> Batch:
        """One column of a dict as a Batch of its own, with x (n, d)."""
        mask = None if self.mask is None else self.mask[name]
        x = self.x[name]
        if x.ndim == 1:
            x, mask = x[:, None], None if mask is None else mask[:, None]
        return Batch(x, self.weight, mask, **self._place)

    def by_name(self) -> Batch:
        """The columns of a data frame as a dict by name; any other batch as it is.

        Raises ValueError for names that are not unique, and for measurement noise.
        """
        if self.names is None or isinstance(self.x, dict):
            return self
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"x: columns of the same name: {', '.join(self.names)}")
        if self.noise is not None:
            raise ValueError("noise: a table of columns takes none")
        index = {name: (slice(None), j) for j, name in enumerate(self.names)}
        x = {name: self.x[i] for name, i in index.items()}
        mask = None if self.mask is None else {name: self.mask[i] for name, i in index.items()}
        return Batch(x, self.weight, mask, **self._place)

    @property
    def _place(self) -> dict[str, Any]:
        """The fields that every column of a table shares."""
        return {"label": self.label, "sharding": self.sharding, "platform": self.platform}

    def cut(self, first: Any, size: int) -> Batch:
        """`size` rows from row `first` on, which may be traced."""
        return self._rows(lambda a: jax.lax.dynamic_slice_in_dim(a, first, size))

    def take(self, rows: Int[Array, "m"]) -> Batch:
        """The rows of these indices."""
        return self._rows(lambda a: a[rows])

    def labelled(self, k: int) -> Bool[Array, "k"]:
        """Which of k components have a row of known label and positive weight."""
        if self.label is None:
            return jnp.zeros(k, bool)
        label = jnp.where(self.weight > 0, self.label, -1)
        return jnp.any(label[:, None] == jnp.arange(k, dtype=label.dtype), 0)

    def _rows(self, select: Callable[[Any], Any]) -> Batch:
        """The batch with `select` applied to every array that has one entry per row."""

        def leaf(field: Any, value: Any) -> Any:
            return value if field.name == "patterns" else jax.tree.map(select, value)

        return replace(map_fields(self, leaf), sharding=None)


_PARTS = ("x", "weight", "mask", "noise", "label", "group", "patterns")


def _checked(
    sharding: NamedSharding | None,
    x: Any,
    weight: Any,
    mask: Any,
    noise: Any,
    label: Any,
    group: Any = None,
    patterns: Any = None,
) -> dict[str, Any]:
    """The fields of a Batch: concrete values checked, absent rows filled, arrays placed."""
    w, n = weight, _num_rows(x)
    if w.shape != (n,):
        raise ValueError(f"weight: expected one per row, shape ({n},), got {w.shape}")
    known = fetched(w) if is_concrete(w) else None
    if known is not None and not bool(namespace(known).isfinite(known).all()):
        raise ValueError("weight: must be finite")
    if known is not None and not (bool((known >= 0).all()) and float(known.max()) > 0):
        raise ValueError("weight: must be >= 0, and positive for at least one row")
    named = x if isinstance(x, dict) else {"": x}
    masks = mask if isinstance(x, dict) and mask is not None else {"": mask}
    filled = {}
    for name, column in named.items():
        shown, seen = f"x[{name!r}]" if name else "x", masks.get(name)
        if is_concrete(column, w) and (seen is None or is_concrete(seen)):
            _check_finite(shown, column, w, seen)
        filled[name] = place_for_jit(_fill_absent(_fill_missing(column, w, seen), w), sharding)
    if group is None:
        group, patterns = _patterns_of(mask, noise)
    return {
        "x": filled if isinstance(x, dict) else filled[""],
        "weight": place_for_jit(w, sharding),
        "mask": None if mask is None else jax.tree.map(lambda a: place_for_jit(a, sharding), mask),
        "noise": None if noise is None else place_for_jit(_fill_absent(noise, w), sharding),
        "label": None if label is None else place_for_jit(label, sharding, jnp.int32),
        "group": None if group is None else place_for_jit(group, sharding, jnp.int32),
        "patterns": patterns,
    }


def _column(name: str, value: Any) -> Any:
    x = as_floats(name, value)
    if x.ndim not in (1, 2):
        raise ValueError(f"{name}: expected one or two axes, (n,) or (n, d), got shape {x.shape}")
    return x


def _num_rows(x: Any) -> int:
    columns = x if isinstance(x, dict) else {"": x}
    if not columns:
        raise ValueError("x: a dict without columns")
    sizes = {}
    for name, a in columns.items():
        if a.ndim == 0 or a.size == 0:
            label = f"x[{name!r}]" if name else "x"
            raise ValueError(f"{label}: need at least one row and one column, got shape {a.shape}")
        sizes[name] = a.shape[0]
    if len(set(sizes.values())) > 1:
        raise ValueError(f"x: columns of different length: {sizes}")
    return next(iter(sizes.values()))


# -- missing entries ------------------------------------------------------------------------------


def _mask_of(x: Any, mask: Any, missing: bool) -> Any:
    """True where observed; None where nothing was declared missing."""
    if isinstance(x, dict):
        seen = {name: _mask_of(a, (mask or {}).get(name), missing) for name, a in x.items()}
        return None if all(v is None for v in seen.values()) else _complete_masks(x, seen)
    if mask is not None:
        host = mask if isinstance(mask, jax.Array) else np.asarray(mask)
        if host.dtype != bool or host.shape != x.shape:
            raise ValueError(
                f"mask: expected booleans of shape {x.shape}, True where observed, got "
                f"{host.dtype} of shape {host.shape}"
            )
        return host & ~namespace(x).isnan(x) if missing else host
    return ~namespace(x).isnan(x) if missing else None


def _complete_masks(x: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    return {name: np.ones(x[name].shape, bool) if v is None else v for name, v in seen.items()}


def _without_empty_rows(weight: Any, seen: Any) -> Any:
    """The weights, with 0 for rows without any observed entry."""
    n = weight.shape[0]
    some = [a.reshape(n, -1).any(-1) for a in jax.tree.leaves(seen)]
    xp = namespace(weight, *some)
    return xp.where(xp.stack(some).any(0), weight, 0.0).astype(weight.dtype)


def _fill_missing(x: Any, weight: Any, seen: Any) -> Any:
    """Put the column's mean in place of missing entries, so that no NaN enters a computation."""
    if seen is None:
        return x
    xp = namespace(x, weight, seen)
    # rows of weight 0 may hold anything
    known = seen & (weight > 0).reshape(-1, *[1] * (x.ndim - 1))
    mean = averages.means(x, averages.shares(x, weight, known), known)
    return xp.where(seen, x, mean).astype(x.dtype)


def _patterns_of(mask: Any, noise: Any) -> tuple[Any, Any]:
    """`group` and `patterns` of a concrete mask; (None, None) where they would save no work."""
    if mask is None or noise is not None or isinstance(mask, dict) or mask.ndim != 2:
        return None, None
    rows = fetched(mask) if is_concrete(mask) else mask
    if not isinstance(rows, np.ndarray):
        return None, None
    found, group = np.unique(rows, axis=0, return_inverse=True)
    if len(found) * _ROWS_PER_PATTERN > len(rows):
        return None, None
    size = 1 << (len(found) - 1).bit_length()  # a power of two, for fewer programs
    table = np.ones((size, rows.shape[1]), bool)
    table[: len(found)] = found
    return group.reshape(-1), to_device(table)


# -- noise and labels -----------------------------------------------------------------------------


def _noise_of(noise: Any, x: Any, dtype: Any) -> Any:
    if noise is None:
        return None
    if isinstance(x, dict) or x.ndim != 2:
        raise ValueError("noise: needs rows x of shape (n, d)")
    s, (n, d) = as_floats("noise", noise).astype(dtype), x.shape
    if s.shape == (n, d):
        s = s[:, :, None] * namespace(s).eye(d, dtype=dtype)
    if s.shape != (n, d, d):
        raise ValueError(f"noise: expected shape {(n, d, d)} or {(n, d)}, got {s.shape}")
    bad = _no_covariance(fetched(s)) if is_concrete(s) else None
    if bad is not None and bool(bad.any()):
        raise ValueError(
            f"noise: must be finite, symmetric and have no negative eigenvalue; row "
            f"{int(bad.argmax())} is not"
        )
    return s


def _no_covariance(s: Any) -> Any:
    """True for matrices that are not finite, not symmetric, or have a negative eigenvalue."""
    xp = namespace(s)
    s = s.astype(np.float64) if xp is np else s
    eye = np.eye(s.shape[-1], dtype=s.dtype)
    size = xp.where(xp.isfinite(s).all(), abs(s).max(), xp.nan)
    bad = ~xp.isfinite(s).all((1, 2)) | (abs(s - s.mT).max((1, 2)) > 1e-4 * size)
    safe = xp.where(bad[:, None, None], eye, s)
    if xp is np:
        return bad | (np.linalg.eigvalsh(safe).min(1) < -(1e-5 * size))
    # a Cholesky factor is computed where the rows are; NumPy would fetch them
    root = linalg.chol(safe + (1e-5 * size) * eye)
    return bad | ~xp.isfinite(root).all((1, 2))


def _label_of(label: Any, n: int) -> Any:
    if label is None:
        return None
    array = label if isinstance(label, jax.Array) else np.asarray(label)
    if array.shape != (n,) or not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(
            f"label: expected one integer per row, shape ({n},), -1 where unknown, got "
            f"{array.dtype} of shape {array.shape}"
        )
    if is_concrete(array) and int(array.min()) < -1:
        raise ValueError(f"label: must be a component, or -1 where unknown, got {array.min()}")
    return array


# -- finiteness -----------------------------------------------------------------------------------


def _check_finite(name: str, x: Any, weight: Any, seen: Any) -> None:
    if bool(namespace(x).isfinite(x).all()):
        return
    values = fetched(x).reshape(x.shape[0], -1)
    xp = namespace(values)
    bad = ~xp.isfinite(values) & (fetched(weight) > 0)[:, None]
    if seen is not None:
        bad &= fetched(seen).reshape(values.shape)
    if bool(bad.any()):
        row = int(bad.any(1).argmax())
        hint = "" if seen is not None else ", or declare NaN missing with Batch.of(x, missing=True)"
        raise ValueError(
            f"{name}: {int((xp.isnan(values) & bad).sum())} NaN and "
            f"{int((xp.isinf(values) & bad).sum())} infinite entries, the first in row {row}, "
            f"column {int(bad[row].argmax())}; remove these rows or give them weight 0{hint}"
        )


def _fill_absent(x: Any, weight: Any) -> Any:
    """Put a present row in place of rows of weight 0, so that no NaN enters a computation."""
    xp = namespace(x, weight)
    present = weight > 0
    if is_concrete(weight) and bool(present.all()):
        return x
    keep = present.reshape(-1, *[1] * (x.ndim - 1))
    return xp.where(keep, x, xp.asarray(x)[xp.argmax(present)])  # the index may be traced
