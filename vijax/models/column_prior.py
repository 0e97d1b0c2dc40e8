"""Hyper-parameters of independent columns, as arrays."""

from __future__ import annotations

from typing import Any

from .._host import as_floats, check_integer, common_dtype, host_mask, namespace
from ..batch import Batch
from ..families.standardize import check_matrix
from ..numerics import averages
from .sizes import per_component


def checked(x: Any) -> Batch:
    """Rows and columns; ValueError for anything else."""
    batch = Batch.of(x)
    check_matrix(batch)
    return batch


def by_column(given: dict[str, Any], num_components: int, size: int) -> tuple[Any, ...]:
    """Hyper-parameters by name, each a scalar, (d,) or (k, d), as arrays (size, d)."""
    arrays = {name: as_floats(name, value) for name, value in given.items()}
    d = max((a.shape[-1] for a in arrays.values() if a.ndim), default=1)
    dtype = common_dtype(*given.values())
    full = []
    for name, value in arrays.items():
        wide = value if value.ndim else namespace(value).broadcast_to(value, (d,))
        full.append(per_component(name, wide, (d,), num_components, size).astype(dtype))
    return tuple(full)


def by_category(value: Any, events: int, num_components: int, size: int) -> Any:
    """`category_conc` of one component (`events` axes) or of each, as an array (size, ...)."""
    array = as_floats("category_conc", value)
    if array.ndim not in (events, events + 1):
        one = "(d, c)" if events == 2 else "(c,)"
        raise ValueError(
            f"category_conc: expected shape {one}, or one such array per component, "
            f"got shape {array.shape}"
        )
    return per_component(
        "category_conc", array, array.shape[array.ndim - events :], num_components, size
    )


def column_means(batch: Batch) -> Any:
    """Weighted means of the observed entries of non-negative columns, all positive.

    A column of zeros takes the mean of the others, or 1 if there is none. On the host, or traced.
    """
    x, weight, mask = as_floats("x", batch.x), as_floats("weight", batch.weight), batch.mask
    xp = namespace(x, weight)
    mask = host_mask(mask, x, weight)
    mean = (averages.shares(x, weight, mask) * x).sum(0)
    some = mean > 0
    number = xp.maximum(some.sum(), 1).astype(x.dtype)
    others = xp.where(some, mean, 0.0).sum() / number
    return xp.where(some, mean, xp.where(others > 0, others, 1.0)).astype(x.dtype)


def check_count(name: str, value: Any) -> int:
    """A number of columns or categories; TypeError or ValueError by name."""
    check_integer(name, value)
    if value < 1:
        raise ValueError(f"{name}: must be at least 1, got {value}")
    return int(value)
