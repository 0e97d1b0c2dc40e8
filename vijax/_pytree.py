"""The one place where vijax touches JAX's pytree registry."""

import dataclasses
import operator
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np

_T = TypeVar("_T")

replace = dataclasses.replace

REGISTRY: dict[str, type] = {}  # every decorated class, by its full name: what a file may name


def static(**options: Any) -> Any:
    """Declare a field that is part of the program: hashable; a new value compiles anew."""
    return dataclasses.field(metadata={"static": True}, **options)


def gauge(**options: Any) -> Any:
    """Declare a leaf that fixes how the others are written; vector operations leave it alone."""
    return dataclasses.field(metadata={"gauge": True}, **options)


@dataclass_transform(
    frozen_default=True, eq_default=False, field_specifiers=(static, gauge, dataclasses.field)
)
def pytree(cls: type[_T]) -> type[_T]:
    """Make a class a frozen dataclass whose non-static fields JAX sees as children.

    JAX rebuilds the object with tracers and batched leaves, without calling `__init__`; nothing
    is validated there or in `__post_init__`: factories such as `from_standard` do that.

    Not `jax.tree_util.register_dataclass`: since jaxlib 0.10 it takes two classes with
    equal static values for the same structure, so that `jit` now and then runs the program of
    another class.
    """
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    fixed = tuple(f.name for f in fields if f.metadata.get("static"))
    names = tuple(f.name for f in fields if f.name not in fixed)
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in names)

    children, values = _getter(names), _getter(fixed)

    def flatten(obj: Any) -> tuple[Any, Any]:
        return children(obj), values(obj)

    def flatten_with_keys(obj: Any) -> tuple[Any, Any]:
        return tuple(zip(keys, children(obj), strict=True)), values(obj)

    def unflatten(values: Any, children: Any) -> Any:
        obj = object.__new__(cls)
        for name, value in zip(names + fixed, (*children, *values), strict=True):
            object.__setattr__(obj, name, value)
        return obj

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    REGISTRY[full_name(cls)] = cls
    return cls


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """A function of an object that gives its fields of these names."""
    if len(names) > 1:
        return operator.attrgetter(*names)  # one call, where a loop would be one for each field
    if not names:
        return lambda obj: ()
    return lambda obj: (getattr(obj, names[0]),)


def full_name(cls: type) -> str:
    """`vijax.Result`, wherever in vijax it is; module and qualified name of other classes.

    A saved file names classes so, and must be readable when they have moved.
    """
    package = cls.__module__.partition(".")[0]
    module = package if package == __name__.partition(".")[0] else cls.__module__
    return f"{module}.{cls.__qualname__}"


def map_fields(obj: _T, leaf: Callable[[dataclasses.Field, Any], Any]) -> _T:
    """Rebuild a dataclass from `leaf(field, value)`, static fields untouched."""
    new = {}
    for field in dataclasses.fields(obj):  # type: ignore[arg-type]
        value = getattr(obj, field.name)
        new[field.name] = value if field.metadata.get("static") else leaf(field, value)
    return type(obj)(**new)


def arrays_by_path(tree: Any) -> dict[str, Any]:
    """Every array of a pytree on the host, under its dotted path such as `q.weights.conc`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
        for path, leaf in leaves
    }
