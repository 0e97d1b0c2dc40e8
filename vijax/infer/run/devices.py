"""Rows over the devices of a mesh, in any number of processes; fits over the devices of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..._pytree import replace
from ...data.batch import Batch
from ...data.shards import (
    auto_sharding,
    num_shards,
    on_auto_mesh,
    refuse_explicit,
    row_specs,
    to_auto,
)
from .device_shards import mesh_of, spread


@on_auto_mesh
def shard_rows(
    data: Any, mesh: Mesh, axis: str | tuple[str, ...] | None = None, **parts: Any
) -> Batch:
    """Rows spread evenly over the devices of `mesh` along `axis` (its first one).

    `data` is array-like with rows first, and `parts` are those of `Batch.of` (weight, missing,
    mask, noise, label), or it is a Batch. Rows of weight 0 are added until all devices hold
    equally many: they change no result, but which rows a key draws as a start. Where `mesh` spans
    several processes, all call this, each with rows of its own, as many or few as it has, and with
    the same parts; the Batch holds all of them, in the order of the devices.

    Raises ValueError for an axis that the mesh has not, and as `Batch.of` does; then in all
    processes.
    """
    names = (mesh.axis_names[0],) if axis is None else (axis,) if isinstance(axis, str) else axis
    for name in names:
        if name not in mesh.axis_names:
            raise ValueError(f"axis: {name!r} is none of the mesh's, {mesh.axis_names}")
    sharding = auto_sharding(mesh, names[0] if len(names) == 1 else names)
    shards = num_shards(sharding)
    own = _own_shards(sharding, shards)
    with jax.default_device(_host_device()):
        try:
            batch = Batch.of(data, **parts)
        except (TypeError, ValueError):
            _sizes(sharding, -1)
            raise
    n = batch.weight.shape[0]
    sizes = _sizes(sharding, -(-n // own))
    if min(sizes) < 0:
        raise ValueError(f"data: what process {np.argmin(sizes)} gave was refused there")
    place = np.arange(max(sizes) * own)
    with jax.default_device(_host_device()):
        # the last row is as good as any in the place of those that are none
        batch = batch.take(jnp.asarray(np.minimum(place, n - 1)))
        batch = replace(batch, weight=jnp.where(place < n, batch.weight, 0.0))
    if not sharding.is_fully_addressable:
        # other processes may have other patterns of missing entries
        batch = replace(batch, group=None, patterns=None)

    def place_on(leaf: Any, spec: PartitionSpec) -> jax.Array:
        host = np.asarray(leaf)
        if spec != sharding.spec:
            return jax.device_put(host, NamedSharding(sharding.mesh, spec))
        shape = (max(sizes) * shards, *host.shape[1:])
        return jax.make_array_from_process_local_data(sharding, host, shape)

    placed = jax.tree.map(place_on, batch, row_specs(batch, sharding, whole="patterns"))
    return replace(placed, sharding=sharding)


def over_devices(fn: Callable[..., Any], devices: Any = None) -> Callable[..., Any]:
    """`fn` with the leading axis of its arguments and results shared out over `devices`.

    `fn` is called once on each device (default: all of this process), with its part of every
    argument: vmap inside of it, as in `jax.jit(over_devices(jax.vmap(fit_one)))`. Fewer entries
    than devices stay on one. No device waits for another before all are done. Arguments are
    pytrees of arrays with one common leading axis, of any length: the last entry is repeated until
    devices have equally many, and the repetitions are cut off again. What `fn` closes over is on
    every device. Traceable: jit it. Raises ValueError inside of jit for arrays that are spread
    over `Explicit` axes.
    """

    def run(*args: Any) -> Any:
        n = jax.tree.leaves(args)[0].shape[0]
        mesh = mesh_of(devices, n)
        if mesh is None:
            return fn(*args)
        args = to_auto(args)
        refuse_explicit(jax.tree.leaves(args))
        size = -(-n // mesh.size) * mesh.size
        index = np.minimum(np.arange(size), n - 1)
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            if size > n:
                args = jax.tree.map(lambda a: jnp.asarray(a)[index], args)
            found = spread(fn, mesh, args, (True,) * len(args))
            return jax.tree.map(lambda a: a[:n], found)

    return run


def _host_device() -> Any:
    """The memory of the host, if JAX may use it: rows need not fit on one device."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def _own_shards(sharding: NamedSharding, shards: int) -> int:
    """How many parts of the rows this process holds."""
    indices = sharding.addressable_devices_indices_map((shards,)).values()
    return len({index[0].start for index in indices if index is not None})


def _sizes(sharding: NamedSharding, own: int) -> list[int]:
    """The numbers that all processes have, in their order."""
    if sharding.is_fully_addressable:
        return [own]
    from jax.experimental import multihost_utils

    return np.ravel(multihost_utils.process_allgather(np.asarray(own, np.int32))).tolist()
