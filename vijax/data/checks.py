"""Checks of the parts of a `Batch`, on the host; errors name the argument, the row, the column."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar

import jax
import numpy as np

from .host import as_floats, check_normal, check_total, fetched, is_concrete, namespace
from .reader import label as column_label
from .reader import read_labels

_F = TypeVar("_F", bound=Callable[..., Any])


def at_once(check: _F) -> _F:
    """A function of concrete values that computes with them also while a program is traced.

    There, arrays that the program closes over would otherwise give tracers.
    """

    @wraps(check)
    def run(*args: Any, **options: Any) -> Any:
        with jax.ensure_compile_time_eval():
            return check(*args, **options)

    return run  # type: ignore[return-value]


@contextlib.contextmanager
def renamed(change: Callable[[str], str]) -> Iterator[None]:
    """A context in which the texts of errors are changed."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(change(str(error))) from None


def check_weight(w: Any, n: Any, positive: bool = True) -> None:
    """Raise ValueError unless there is a weight for each of n rows, of which one is positive.

    With `positive=False` all may be 0, as those of rows without entries are.
    """
    if w.shape != (n,):
        raise ValueError(f"weight: expected one per row, shape ({n},), got {w.shape}")
    if not is_concrete(w):
        return
    known = fetched(w)
    xp = namespace(known)
    for good, rule in ((xp.isfinite(known), "be finite"), (known >= 0, "be >= 0")):
        if not bool(good.all()):
            row = int(good.argmin())
            raise ValueError(f"weight: must {rule}, got {float(known[row]):g} in row {row}")
    check_normal("weight", known, known)
    if positive and not float(known.max()) > 0:
        raise ValueError("weight: must be >= 0, and positive for at least one row")
    total = float(known.sum(dtype=np.float64)) if xp is np else float(known.sum())
    check_total("weight", total, known.dtype)


def check_rows_alone(rows: Any, what: str) -> None:
    """Raise TypeError or ValueError naming what of a Batch is not rows of numbers, as a mask.

    `what` is a function of rows and weights, which cannot see anything else.
    """
    for name in ("mask", "noise", "label", "exposure"):
        if getattr(rows, name) is not None:
            remedy = "make it a column of the rows"
            raise ValueError(f"{name}: {what} sees rows and weights alone; {remedy}")
    if rows.levels is not None and isinstance(rows.x, dict):
        raise TypeError(f"x: column {rows.levels[0][0]!r} holds text, but {what} takes numbers")


def column_of(name: str, value: Any, missing: bool) -> Any:
    """A column of a dict as floats, (n,) or (n, d)."""
    shown = f"x[{name!r}]"
    x = as_floats(shown, value, missing=missing)
    if x.ndim not in (1, 2):
        raise ValueError(f"{shown}: expected one or two axes, (n,) or (n, d), got shape {x.shape}")
    return x


def num_rows(x: Any) -> Any:
    """The number of rows of an array or a dict of columns; ValueError if there is none."""
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


def label_of(label: Any, n: Any) -> Any:
    """Known labels as integers (n,); ValueError for anything else."""
    if label is None:
        return None
    array = read_labels("label", label)
    if array.shape != (n,) or array.dtype.kind not in "iu":
        raise ValueError(
            f"label: expected one integer per row, shape ({n},), -1 where unknown, got "
            f"{array.dtype} of shape {array.shape}"
        )
    if is_concrete(array):
        for value in (int(fetched(array.min())), int(fetched(array.max()))):
            if not -1 <= value <= np.iinfo(np.int32).max:
                raise ValueError(f"label: must be a component, or -1 where unknown, got {value}")
    return array


@at_once
def check_finite(name: str, x: Any, weight: Any, seen: Any, names: tuple[str, ...] | None) -> None:
    """Raise ValueError at the first entry of a present row that is NaN or infinite."""
    if bool(fetched(namespace(x).isfinite(x).all())):
        return
    values = fetched(x).reshape(x.shape[0], -1)
    xp = namespace(values)
    bad = ~xp.isfinite(values) & (fetched(weight) > 0)[:, None]
    if seen is not None:
        bad &= fetched(seen).reshape(values.shape)
    if bool(bad.any()):
        row = int(bad.any(1).argmax())
        hint = "" if seen is not None else ", or declare NaN missing with Batch.of(x, missing=True)"
        large = int((xp.isinf(values) & bad).sum())
        if large and values.dtype == np.float32:
            hint += "; to float32, what is above 3.4e38 is infinite"
        where = column_label(int(bad[row].argmax()), names)
        raise ValueError(
            f"{name}: {int((xp.isnan(values) & bad).sum())} NaN and {large} infinite entries, the "
            f"first in row {row}, {where}; remove these rows or give them weight 0{hint}"
        )
