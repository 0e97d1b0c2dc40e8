"""Rows spread over devices or processes: reading their sharding, and placing arrays like them.

vijax leaves communication to the compiler, with one exception: in a pass over the rows, each device
sums over its own. That needs the sharding at trace time, where an array on an `Auto` mesh does not
have it; so it is read here, at the host boundary. On an `Explicit` mesh, where most operations ask
for the sharding of their result, arrays are viewed on the `Auto` mesh of the same devices.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from .host import guarded, is_concrete, to_device

_F = TypeVar("_F", bound=Callable[..., Any])


def to_auto(tree: Any) -> Any:
    """The tree with concrete arrays on an `Explicit` mesh viewed on its `Auto` twin."""

    def view(leaf: Any) -> Any:
        sharding = _named(leaf)
        if sharding is None or set(sharding.mesh.axis_types) == {AxisType.Auto}:
            return leaf
        return jax.device_put(leaf, auto_sharding(sharding.mesh, *sharding.spec))

    return jax.tree.map(view, tree)


def on_auto_mesh(fn: _F) -> _F:
    """Run `fn` as if `Explicit` axes of the mesh that `jax.set_mesh` has set were `Auto`.

    Results are on the mesh that was set. Raises ValueError inside of a trace for arrays that are
    spread over `Explicit` axes.
    """

    @functools.wraps(fn)
    def run(*args: Any, **options: Any) -> Any:
        leaves = jax.tree.leaves((args, options))
        if not is_concrete(*leaves):
            refuse_explicit(leaves)
            return fn(*args, **options)
        outside = jax.sharding.get_abstract_mesh()
        if AxisType.Explicit not in outside.axis_types:
            return fn(*args, **options)
        auto = outside.update_axis_types(dict.fromkeys(outside.axis_names, AxisType.Auto))

        def back(leaf: Any) -> Any:
            sharding = _named(leaf)
            if sharding is None or sharding.mesh.axis_names != outside.axis_names:
                return leaf
            mesh = _mesh_like(sharding.mesh, outside.axis_types)
            return jax.device_put(leaf, NamedSharding(mesh, sharding.spec))

        args, options = to_auto((args, options))
        with jax.sharding.use_abstract_mesh(auto):
            return jax.tree.map(back, fn(*args, **options))

    return cast(_F, run)


def refuse_explicit(leaves: Any) -> None:
    """Raise ValueError for a traced array that is spread over `Explicit` axes."""
    for leaf in leaves:
        if isinstance(leaf, jax.Array) and not is_concrete(leaf):
            sharding = jax.typeof(leaf).sharding
            kinds = dict(zip(sharding.mesh.axis_names, sharding.mesh.axis_types, strict=True))
            for name in jax.tree.leaves(tuple(sharding.spec)):
                if kinds.get(name) == AxisType.Explicit:
                    raise ValueError(
                        f"data: inside of jit, an array is spread over the Explicit axis {name!r}; "
                        "call this outside of jit, or make the mesh with AxisType.Auto"
                    )


def sharding_of_rows(tree: Any) -> NamedSharding | None:
    """The sharding by rows of the first array that has one; None if no array is spread by rows."""
    for leaf in jax.tree.leaves(tree):
        sharding = _named(leaf)
        if sharding is not None and len(sharding.spec) and sharding.spec[0] is not None:
            return auto_sharding(sharding.mesh, sharding.spec[0])
    return None


def platform_of(tree: Any) -> str | None:
    """The platform, such as "cpu" or "gpu", of the first array on a device; None if traced.

    Without such an array it is that of JAX's default device, where host arrays will go.
    """
    leaves = jax.tree.leaves(tree)
    if not is_concrete(*leaves):
        return None
    for leaf in leaves:
        if isinstance(leaf, jax.Array):
            return next(iter(leaf.sharding.device_set)).platform
    return default_platform()


def on_cpu(platform: str | None) -> bool:
    """Whether this platform, or JAX's default one where it is None, is a CPU."""
    return (default_platform() if platform is None else platform) == "cpu"


def default_platform() -> str:
    """The platform of JAX's default device."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


def axis_of(sharding: NamedSharding) -> Any:
    """The mesh axis, or axes, that rows are spread over."""
    return sharding.spec[0]


def num_shards(sharding: NamedSharding) -> int:
    """The number of parts that rows are divided into."""
    axes = axis_of(sharding)
    return math.prod(
        sharding.mesh.shape[name] for name in ((axes,) if isinstance(axes, str) else axes)
    )


def place(value: Any, sharding: NamedSharding | None, dtype: Any = None) -> jax.Array:
    """As `to_device`, with rows placed by `sharding`; every process must give the same values."""
    if sharding is None:
        return to_device(value, dtype)
    if isinstance(value, jax.Array):
        array = to_device(value, dtype)
        return jax.device_put(array, sharding) if is_concrete(array) else array
    host = np.asarray(value, dtype)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def place_for_jit(value: Any, sharding: NamedSharding | None, dtype: Any = None) -> Any:
    """As `place`, but host arrays without a sharding stay on the host.

    `jit` transfers a NumPy array faster than a separate `device_put` does.
    """
    if sharding is None and isinstance(value, np.ndarray) and not guarded():
        return np.asarray(value, dtype)
    return place(value, sharding, dtype)


def replicate(tree: Any, sharding: NamedSharding | None) -> Any:
    """Traced arrays, constrained to be whole on every device that holds rows."""
    if sharding is None:
        return tree
    everywhere = NamedSharding(sharding.mesh, PartitionSpec())
    return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, everywhere), tree)


def row_specs(tree: Any, sharding: NamedSharding, whole: str) -> Any:
    """A PartitionSpec for each array: spread by rows, or replicated if its field is `whole`."""

    def spec(path: Any, _: Any) -> PartitionSpec:
        field = getattr(path[-1], "name", None) if path else None
        return PartitionSpec() if field == whole else sharding.spec

    return jax.tree_util.tree_map_with_path(spec, tree)


def _named(leaf: Any) -> NamedSharding | None:
    """The sharding of a concrete array on a mesh; None for anything else."""
    if not isinstance(leaf, jax.Array) or not is_concrete(leaf):
        return None
    return leaf.sharding if isinstance(leaf.sharding, NamedSharding) else None


def auto_sharding(mesh: Any, *spec: Any) -> NamedSharding:
    """A sharding on the `Auto` mesh of the same devices."""
    kinds = (AxisType.Auto,) * len(mesh.axis_names)
    return NamedSharding(_mesh_like(mesh, kinds), PartitionSpec(*spec))


def _mesh_like(mesh: Any, axis_types: Any) -> Mesh:
    assert isinstance(mesh, Mesh)  # a tracer has an abstract one
    return Mesh(mesh.devices, mesh.axis_names, axis_types=axis_types)
