"""Rows that are spread over devices or processes: where they lie, and putting others beside them.

vijax leaves the communication to the compiler, but for one thing: a pass over the rows is done by
each device over its own. For that it must know at trace time how rows are spread, which an
array on an `Auto` mesh does not tell; so it is read here, at the host boundary. On an `Explicit`
mesh most operations ask where their result should lie; arrays are viewed on its `Auto` twin.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ._host import is_concrete, to_device


def to_auto(tree: Any) -> Any:
    """Concrete arrays on an `Explicit` mesh as they are, on the `Auto` mesh of the same devices."""

    def one(leaf: Any) -> Any:
        sharding = _named(leaf)
        if sharding is None or set(sharding.mesh.axis_types) == {AxisType.Auto}:
            return leaf
        return jax.device_put(leaf, auto_sharding(sharding.mesh, *sharding.spec))

    return jax.tree.map(one, tree)


def sharding_of_rows(tree: Any) -> NamedSharding | None:
    """How the leading axis of the first array that is spread by rows is spread; None if none is."""
    for leaf in jax.tree.leaves(tree):
        sharding = _named(leaf)
        if sharding is not None and len(sharding.spec) and sharding.spec[0] is not None:
            return auto_sharding(sharding.mesh, sharding.spec[0])
    return None


def axis_of(sharding: NamedSharding) -> Any:
    """The mesh axis, or axes, that rows are spread over."""
    return sharding.spec[0]


def num_shards(sharding: NamedSharding) -> int:
    """Into how many parts rows are divided."""
    axes = axis_of(sharding)
    return math.prod(
        sharding.mesh.shape[name] for name in ((axes,) if isinstance(axes, str) else axes)
    )


def place(value: Any, sharding: NamedSharding | None, dtype: Any = None) -> jax.Array:
    """As `to_device`, with rows where `sharding` says; every process must give the same values."""
    if sharding is None:
        return to_device(value, dtype)
    if isinstance(value, jax.Array):
        array = to_device(value, dtype)
        return jax.device_put(array, sharding) if is_concrete(array) else array
    host = np.asarray(value, dtype)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def replicate(tree: Any, sharding: NamedSharding | None) -> Any:
    """Arrays inside a program, whole on every device that holds rows."""
    if sharding is None:
        return tree
    everywhere = NamedSharding(sharding.mesh, PartitionSpec())
    return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, everywhere), tree)


def row_specs(tree: Any, sharding: NamedSharding, whole: str) -> Any:
    """A PartitionSpec for each array: rows are spread, fields named `whole` are everywhere."""

    def one(path: Any, _: Any) -> PartitionSpec:
        here = getattr(path[-1], "name", None) if path else None
        return PartitionSpec() if here == whole else sharding.spec

    return jax.tree_util.tree_map_with_path(one, tree)


def _named(leaf: Any) -> NamedSharding | None:
    if not isinstance(leaf, jax.Array) or isinstance(leaf, jax.core.Tracer):
        return None
    return leaf.sharding if isinstance(leaf.sharding, NamedSharding) else None


def auto_sharding(mesh: Any, *spec: Any) -> NamedSharding:
    """On the `Auto` mesh of the same devices."""
    assert isinstance(mesh, Mesh)  # and no abstract one, as of a tracer
    kinds = (AxisType.Auto,) * len(mesh.axis_names)
    twin = Mesh(mesh.devices, mesh.axis_names, axis_types=kinds)
    return NamedSharding(twin, PartitionSpec(*spec))
