"""Fits over devices: each takes its share, padded, and runs a program of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

_AXIS = "fits"


def mesh_of(devices: Sequence[Any] | None, count: int) -> Mesh | None:
    """The devices to use, all local ones by default; None for a single one or too few fits."""
    found = jax.local_devices() if devices is None else list(devices)
    if not 1 < len(found) <= count:
        return None
    return Mesh(np.asarray(found), (_AXIS,), axis_types=(AxisType.Auto,))


def places(count: int, shares: int, pad: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which member each place of an array holds, how many each share has, and where each member is.

    Members are dealt out in turn, so that shares are alike; each share is padded to a power of
    two, with member 0, so that other counts find a program that is compiled.
    """
    each = -(-count // shares)
    size = 1 << (each - 1).bit_length() if pad else each
    number = np.arange(size)[None] * shares + np.arange(shares)[:, None]
    known = number < count
    member = np.arange(count)
    where = member % shares * size + member // shares
    return np.where(known, number, 0).reshape(-1), known.sum(1).astype(np.int32), where


def spread(
    fn: Callable[..., Any], mesh: Mesh | None, args: tuple[Any, ...], split: tuple[bool, ...]
) -> Any:
    """`fn(*args)`, where `split` says which arguments each device has only its own part of."""
    if mesh is None:
        return fn(*args)
    specs = tuple(PartitionSpec(_AXIS) if own else PartitionSpec() for own in split)
    out = PartitionSpec(_AXIS)
    return jax.shard_map(fn, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)(*args)
