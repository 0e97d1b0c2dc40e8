"""The one place where vijax touches JAX's pytree registry."""

import contextlib
import dataclasses
import json
import operator
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.export
import numpy as np

from ._names import import_all
from ._text import short

_T = TypeVar("_T")

_PACKAGE = __name__.partition(".")[0]

replace = dataclasses.replace

REGISTRY: dict[str, type] = {}  # every decorated class by its full name, for reading files


def static(**options: Any) -> Any:
    """Declare a hashable field that is part of the program: a new value compiles a new one."""
    return dataclasses.field(metadata={"static": True}, **options)


def gauge(**options: Any) -> Any:
    """Declare a field, such as an origin, that other fields refer to; the algebra never adds it."""
    return dataclasses.field(metadata={"gauge": True}, **options)


def shown_as(name: str) -> Any:
    """Declare a field of floats that users and files know as the property `name`.

    Some may be absent (`data/absent.py`); the property and the files have NaN there.
    """
    return dataclasses.field(metadata={"shown": name})


@dataclass_transform(
    frozen_default=True,
    eq_default=False,
    field_specifiers=(static, gauge, shown_as, dataclasses.field),
)
def pytree(cls: type[_T]) -> type[_T]:
    """Make a class a frozen dataclass whose non-static fields are children of a pytree.

    JAX rebuilds the object with tracers and batched leaves, without calling `__init__`. Nothing is
    therefore validated there or in `__post_init__`; factories such as `from_standard` do that.

    `jax.tree_util.register_dataclass` is not used: since jaxlib 0.10 it treats two classes with
    equal static values as one structure, so that `jit` sometimes runs the program of another class.
    """
    cls = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
    if cls.__repr__ is object.__repr__:
        cls.__repr__ = short  # type: ignore[method-assign]
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    fixed = tuple(f.name for f in fields if f.metadata.get("static"))
    names = tuple(f.name for f in fields if f.name not in fixed)
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in names)

    children, values = _getter(names), _getter(fixed)

    def flatten(obj: Any) -> tuple[Any, Any]:
        return children(obj), values(obj) if fixed else ()

    def flatten_with_keys(obj: Any) -> tuple[Any, Any]:
        return tuple(zip(keys, children(obj), strict=True)), values(obj) if fixed else ()

    def unflatten(values: Any, children: Any) -> Any:
        obj = object.__new__(cls)
        for name, value in zip(names + fixed, (*children, *values), strict=True):
            object.__setattr__(obj, name, value)
        return obj

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    REGISTRY[full_name(cls)] = cls
    # of a class that is defined anew, as in a notebook, the first one can be exported
    with contextlib.suppress(ValueError):
        jax.export.register_pytree_node_serialization(
            cls,
            serialized_name=full_name(cls),
            serialize_auxdata=_as_bytes,
            deserialize_auxdata=_from_bytes,
        )
    return cls


def _as_bytes(values: tuple[Any, ...]) -> bytes:
    """Static values for a file of `jax.export`; ValueError for what such a file cannot hold."""

    def plain(value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, tuple):
            return {"tuple": [plain(v) for v in value]}
        name = full_name(type(value))
        if REGISTRY.get(name) is type(value):
            own = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return {"class": name, "fields": own}
        raise ValueError(f"export: no file holds a {type(value).__name__} that is static")

    return json.dumps(plain(values)).encode()


def _from_bytes(data: bytes | bytearray) -> tuple[Any, ...]:
    def value_of(found: Any) -> Any:
        if not isinstance(found, dict):
            return found
        if "tuple" in found:
            return tuple(map(value_of, found["tuple"]))
        cls = registered(found["class"])
        if cls is None:
            raise ValueError(f"export: the file needs the class {found['class']}; import it first")
        return cls(**{name: value_of(value) for name, value in found["fields"].items()})

    return value_of(json.loads(data.decode()))


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """A function from an object to the tuple of its fields `names`.

    JAX flattens trees so often that one Python call per field would be most of all calls.
    """
    if len(names) > 1:
        return operator.attrgetter(*names)
    if not names:
        return lambda obj: ()
    return lambda obj: (getattr(obj, names[0]),)


def full_name(cls: type) -> str:
    """`vijax.Result` for a class of vijax, module and qualified name for any other class.

    Saved files name classes in this way, so that a class of vijax may move between modules.
    """
    package = cls.__module__.partition(".")[0]
    module = package if package == _PACKAGE else cls.__module__
    return f"{module}.{cls.__qualname__}"


def registered(name: str) -> type | None:
    """The decorated class of this full name, None if it is not known.

    All of vijax is imported before one of its classes is missed: a file may be read before any of
    them was used.
    """
    if name not in REGISTRY and name.startswith(f"{_PACKAGE}."):
        import_all()
    return REGISTRY.get(name)


def map_fields(obj: _T, leaf: Callable[[dataclasses.Field, Any], Any]) -> _T:
    """The dataclass with `leaf(field, value)` in place of every field that is not static."""
    new = {}
    for field in dataclasses.fields(obj):  # type: ignore[arg-type]
        value = getattr(obj, field.name)
        new[field.name] = value if field.metadata.get("static") else leaf(field, value)
    return type(obj)(**new)


def form_of(tree: Any) -> Any:
    """The structure, shapes and dtypes of a pytree of arrays and numbers, hashable."""
    leaves, structure = jax.tree.flatten(tree)
    leaves = [a if hasattr(a, "dtype") else np.asarray(a) for a in leaves]
    forms = ((tuple(a.shape), jax.dtypes.canonicalize_dtype(a.dtype)) for a in leaves)
    return structure, tuple(forms)


def abstract(form: Any) -> Any:
    """The pytree of this form with `jax.ShapeDtypeStruct` in place of arrays."""
    structure, leaves = form
    return jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves])


def arrays_by_path(tree: Any) -> dict[str, Any]:
    """Every array of a pytree, in NumPy, under its dotted path such as `q.weights.conc`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
        for path, leaf in leaves
    }
