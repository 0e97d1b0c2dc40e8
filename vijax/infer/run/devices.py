"""Rows over the devices of a mesh, in any number of processes; fits over the devices of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ..._pytree import replace
from ...data import shards
from ...data.batch import Batch

_AXIS = "fits"


@shards.on_auto_mesh
def shard_rows(
    data: Any, mesh: Mesh, axis: str | tuple[str, ...] | None = None, **parts: Any
) -> Batch:
    """A Batch with its rows spread evenly over the devices of `mesh`.

    Rows of weight 0 are added until all devices hold equally many. They change no result, but the
    same key may draw other rows as a start. If the mesh spans several processes, all of them call
    this with rows of their own, any number of them, and with the same parts; the Batch holds all
    rows in the order of the devices.

    Raises ValueError for an axis that the mesh does not have, and, in all processes, for rows that
    `Batch.of` refuses.

    Args:
        data: Rows, array-like (n, d), a dict of columns, or a Batch.
        mesh: The devices.
        axis: Name, or names, of the mesh axis to spread rows along; by default the first.
        parts: Arguments of `Batch.of`: weight, missing, mask, noise, label, exposure.

    Example:
        x, _ = vx.datasets.three_clusters()
        rows = vx.shard_rows(x, jax.make_mesh((len(jax.devices()),), ("rows",)))
        fit = vx.fit(vx.GaussianMixture.from_data(x, 4), rows, key=jax.random.key(0))
    """
    names = (mesh.axis_names[0],) if axis is None else (axis,) if isinstance(axis, str) else axis
    for name in names:
        if name not in mesh.axis_names:
            raise ValueError(f"axis: {name!r} is none of the mesh's, {mesh.axis_names}")
    sharding = shards.auto_sharding(mesh, names[0] if len(names) == 1 else names)
    num_shards = shards.num_shards(sharding)
    local_shards = _num_local_shards(sharding, num_shards)
    with jax.default_device(_host_device()):
        try:
            batch = Batch.of(data, **parts)
            if batch.levels and not (isinstance(data, Batch) or sharding.is_fully_addressable):
                raise ValueError(
                    "data: text, whose levels may differ between processes; give the Batch that "
                    "`model.as_batch(data)` returns"
                )
        except (TypeError, ValueError):
            _sizes(sharding, -1)  # the other processes then raise too
            raise
    n = batch.weight.shape[0]
    sizes = _sizes(sharding, -(-n // local_shards))
    if min(sizes) < 0:
        raise ValueError(f"data: what process {np.argmin(sizes)} gave was refused there")
    index = np.arange(max(sizes) * local_shards)
    with jax.default_device(_host_device()):
        # padding repeats the last row, with weight 0
        batch = batch.take(jnp.asarray(np.minimum(index, n - 1)))
        batch = replace(batch, weight=jnp.where(index < n, batch.weight, 0.0))
    if not sharding.is_fully_addressable:
        # other processes may have other patterns of missing entries
        batch = replace(batch, group=None, patterns=None)

    def place(leaf: Any, spec: PartitionSpec) -> jax.Array:
        host = np.asarray(leaf)
        if spec != sharding.spec:
            return jax.device_put(host, NamedSharding(sharding.mesh, spec))
        shape = (max(sizes) * num_shards, *host.shape[1:])
        return jax.make_array_from_process_local_data(sharding, host, shape)

    specs = shards.row_specs(batch, sharding, whole="patterns")
    return replace(jax.tree.map(place, batch, specs), sharding=sharding)


def over_devices(fn: Callable[..., Any], devices: Any = None) -> Callable[..., Any]:
    """`fn` with the leading axis of its arguments and results divided among devices.

    Each device calls `fn` once, with its part of every argument, and waits for no other before all
    are done: use it as `jax.jit(over_devices(jax.vmap(fit_one)))`. Arguments are pytrees of arrays
    with one common leading axis of any length; the last entry is repeated until devices have
    equally many, and the repetitions are cut off again. With fewer entries than devices, all stay
    on one. Raises ValueError inside of jit for arrays that are spread over `Explicit` axes.

    Args:
        fn: A traceable function; every device has all that it closes over.
        devices: A sequence of devices, by default all of this process.

    Example:
        def fit_one(x):
            return vx.NormalGammaExact.with_prior(mean=0, kappa=1, shape=1, rate=1).log_evidence(x)

        evidence = jax.jit(vx.over_devices(jax.vmap(fit_one)))(jnp.ones((6, 10)))
    """

    def run(*args: Any) -> Any:
        n = jax.tree.leaves(args)[0].shape[0]
        mesh = mesh_of(devices, n)
        if mesh is None:
            return fn(*args)
        args = shards.to_auto(args)
        shards.refuse_explicit(jax.tree.leaves(args))
        size = -(-n // mesh.size) * mesh.size
        index = np.minimum(np.arange(size), n - 1)
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            if size > n:
                args = jax.tree.map(lambda a: jnp.asarray(a)[index], args)
            results = on_mesh(fn, mesh, args, (True,) * len(args))
            return jax.tree.map(lambda a: a[:n], results)

    return run


def mesh_of(devices: Sequence[Any] | None, count: int) -> Mesh | None:
    """A mesh of the devices, by default all local ones; None for one device or too few fits."""
    chosen = jax.local_devices() if devices is None else list(devices)
    if not 1 < len(chosen) <= count:
        return None
    return Mesh(np.asarray(chosen), (_AXIS,), axis_types=(AxisType.Auto,))


class Deal(NamedTuple):
    """`count` members, dealt out to several shares in turn and padded.

    `members` (shares * size,) has the member in each slot, with member 0 in padding slots; `live`
    (shares,) the number of members of each share; `slots` (count,) the slot of each member.
    """

    members: np.ndarray
    live: np.ndarray
    slots: np.ndarray


def deal(count: int, shares: int, pad: bool = True) -> Deal:
    """Deal out members to shares; with `pad` a share has a power of two of slots.

    Other counts then often find a program that is compiled already.
    """
    most = -(-count // shares)
    size = 1 << (most - 1).bit_length() if pad else most
    number = np.arange(size)[None] * shares + np.arange(shares)[:, None]
    present = number < count
    member = np.arange(count)
    slots = member % shares * size + member // shares
    return Deal(np.where(present, number, 0).reshape(-1), present.sum(1).astype(np.int32), slots)


def on_mesh(
    fn: Callable[..., Any], mesh: Mesh | None, args: tuple[Any, ...], split: tuple[bool, ...]
) -> Any:
    """`fn(*args)` on every device; `split` says which arguments are divided among the devices."""
    if mesh is None:
        return fn(*args)
    specs = tuple(PartitionSpec(_AXIS) if is_split else PartitionSpec() for is_split in split)
    out = PartitionSpec(_AXIS)
    return jax.shard_map(fn, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)(*args)


def _host_device() -> Any:
    """The host as a device of JAX, None if JAX has none; rows need not fit on one accelerator."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def _num_local_shards(sharding: NamedSharding, num_shards: int) -> int:
    """The number of shards of the rows that this process holds."""
    indices = sharding.addressable_devices_indices_map((num_shards,)).values()
    return len({index[0].start for index in indices if index is not None})


def _sizes(sharding: NamedSharding, size: int) -> list[int]:
    """The size in each process, in their order."""
    if sharding.is_fully_addressable:
        return [size]
    from jax.experimental import multihost_utils

    return np.ravel(multihost_utils.process_allgather(np.asarray(size, np.int32))).tolist()
