"""Arguments that priors have in common: sizes, rows, and values for one or all components."""

from __future__ import annotations

from ...data.batch import Batch, check_entries
from ...data.host import check_integer, namespace
from ...data.types import AnyArray, Data
from ...families.column_scale import check_matrix, refuse_exposure


def check_count(name: str, value: int) -> int:
    """Return an integer that is at least 1; raise TypeError or ValueError by name."""
    check_integer(name, value)
    if value < 1:
        raise ValueError(f"{name}: must be at least 1, got {value}")
    return int(value)


def check_size(num_components: int, k_max: int | None) -> int:
    """Return the number of components to make room for; raise TypeError or ValueError by name."""
    num_components = check_count("num_components", num_components)
    if k_max is None:
        return num_components
    check_integer("k_max", k_max)
    if k_max < num_components:
        raise ValueError(f"k_max: must be at least num_components = {num_components}, got {k_max}")
    return int(k_max)


def as_matrix(x: Data, *, exposure: bool = False, text: bool = False) -> Batch:
    """Read rows and columns, (n, d); raise ValueError for anything else.

    Rows may have an exposure, or columns of text, if the prior takes these.
    """
    batch = Batch.of(x).by_position()
    batch = batch if text else batch.numeric()
    check_matrix(batch)
    if not exposure:
        refuse_exposure(batch, "this prior")
    check_entries(batch)
    return batch


def per_component(
    name: str, value: AnyArray, event: tuple[int, ...], num_components: int, size: int
) -> AnyArray:
    """Broadcast a value of shape `event`, or pad one of shape (num_components, *event).

    The result is (size, *event). Raises ValueError for all other shapes, broadcastable or not.
    """
    xp = namespace(value)
    if value.shape == event:
        return xp.broadcast_to(value, (size, *event))
    if value.shape != (num_components, *event):
        shared = "a scalar" if event == () else f"{event}"
        raise ValueError(
            f"{name}: expected {shared} or {(num_components, *event)} "
            f"for {num_components} components, got shape {value.shape}"
        )
    padding = xp.broadcast_to(value[-1], (size - num_components, *event))
    return xp.concatenate([value, padding])
