"""Results and models on disk: an .npz file of plain arrays, and a JSON text that describes them."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import secrets
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._pytree import REGISTRY, full_name, registered
from .._version import __version__
from .absent import with_nan, without_nan
from .host import fetched, is_concrete, to_device

FORMAT = 1
_HEADER = "__vijax__"
_PLAIN = (bool, int, float, str, type(None))
_RESERVED = {"", "file", "allow_pickle", _HEADER}  # arguments of numpy.savez, and the header


def save(path: str | os.PathLike[str], tree: Any) -> None:
    """Write a Result, a model, a q, a Batch or any other vijax container to the file `path`.

    It is an .npz file that NumPy alone can read. It holds every array under its dotted path, such
    as `q.weights.conc`, and in `__vijax__` a JSON text with the classes and all values that are not
    arrays. Containers may be nested in dicts with string keys, tuples and lists. No suffix is added
    to the name. A new file is written completely before it takes the place of `path`.

    Raises TypeError naming the field for what cannot be stored: random keys, tracers, strings and
    objects in place of arrays, classes not decorated with `@pytree`, static values other than
    numbers, strings, None and tuples of these.

    Args:
        path: Where to write, in a folder that exists.
        tree: What to write.

    Example:
        model = vx.PoissonMixture.with_prior(2, shape=1.0, rate=0.5, conc=1.0)
        vx.save("model.npz", {"model": model, "units": np.ones(1)})
    """
    arrays: dict[str, np.ndarray] = {}
    node = _pack(tree, (), arrays)
    header = {"format": FORMAT, "vijax": __version__, "tree": node}
    arrays[_HEADER] = np.asarray(json.dumps(header, allow_nan=False))
    _write(os.fsdecode(path), arrays)


def load(path: str | os.PathLike[str], dtype: Any = None) -> Any:
    """Read what `save` wrote: the same classes and structure, the same bits, as JAX arrays.

    No code is run from the file: classes must be defined already, as those of vijax are, so import
    your own first. Fields that a class has gained since take their default.

    Raises OSError if the file cannot be opened, and ValueError naming it and the reason if it is
    not a vijax file, damaged, of a newer format, of an unknown class, or holds float64 where JAX
    has it disabled.

    Args:
        path: What to read.
        dtype: float32 or float64 converts every float array; by default arrays keep their dtype.
            Where JAX has 64 bits disabled, it converts 64-bit integers to 32 bits as well.

    Example:
        vx.save("prior.npz", vx.PoissonMixture.with_prior(2, shape=1.0, rate=0.5, conc=1.0))
        model = vx.load("prior.npz")
    """
    kind = None if dtype is None else _float_of(dtype)
    name = os.fsdecode(path)
    header, arrays = _read(name)
    written = header.get("format") if isinstance(header, dict) else None
    if not isinstance(written, int) or written < 1:
        raise ValueError(f"{name}: damaged: its header has no format number")
    if written > FORMAT:
        raise ValueError(
            f"{name}: written in format {written} by vijax {header.get('vijax')}; this "
            f"version reads formats up to {FORMAT}, so upgrade vijax"
        )
    return _Unpacker(name, arrays, kind).node(header.get("tree"), ())


# -- writing --------------------------------------------------------------------------------------


def _pack(value: Any, path: tuple[str, ...], arrays: dict[str, np.ndarray]) -> Any:
    """The JSON node that describes `value`; its arrays are added to `arrays`."""

    def inside(name: Any, child: Any) -> Any:
        return _pack(child, (*path, str(name)), arrays)

    if value is None or type(value) in (bool, int, float):
        return {"value": _pack_plain(value, path)}
    if type(value) in (tuple, list):
        return {type(value).__name__: [inside(i, child) for i, child in enumerate(value)]}
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                raise TypeError(f"{_where(path)}: keys of a dict must be strings, got {key!r:.80}")
        return {"dict": {key: inside(key, child) for key, child in value.items()}}
    if type(value) is np.ndarray or isinstance(value, np.generic | jax.Array):
        array = _host_array(value, path)
        name = _array_name(path, arrays)
        arrays[name] = array
        return {"array": name, "dtype": array.dtype.name}
    kind = full_name(type(value))
    if REGISTRY.get(kind) is not type(value):
        later = " (another class of that name was defined later)" if kind in REGISTRY else ""
        raise TypeError(
            f"{_where(path)}: cannot be stored: a {kind}{later}; expected a class decorated with "
            "vijax.pytree, a dict, tuple, list, array, number or None"
        )
    fields = {}
    for field in dataclasses.fields(value):
        name, child = _name_in_file(field), getattr(value, field.name)
        if isinstance(child, jax.Array) and name != field.name and is_concrete(child):
            child = with_nan(child)
        if field.metadata.get("static"):
            fields[name] = {"static": _pack_plain(child, (*path, name))}
        else:
            fields[name] = inside(name, child)
    return {"type": kind, "fields": fields}


def _name_in_file(field: dataclasses.Field) -> str:
    return field.metadata.get("shown", field.name)


def _pack_plain(value: Any, path: tuple[str, ...]) -> Any:
    """A number, a string, None or a tuple of these, as strict JSON."""
    if type(value) is tuple:
        return {"tuple": [_pack_plain(v, (*path, str(i))) for i, v in enumerate(value)]}
    kind = full_name(type(value))
    if REGISTRY.get(kind) is type(value) and not jax.tree.leaves(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        packed = {name: _pack_plain(v, (*path, name)) for name, v in fields.items()}
        return {"constant": kind, "fields": packed}
    if type(value) not in _PLAIN:
        raise TypeError(
            f"{_where(path)}: cannot be stored: a {full_name(type(value))}; static values must be "
            "numbers of Python, strings, None, tuples of these, or constants of a vijax.pytree"
        )
    if type(value) is float and not np.isfinite(value):
        return {"float": repr(value)}  # JSON has no inf and nan
    return value


def _host_array(value: Any, path: tuple[str, ...]) -> np.ndarray:
    if not is_concrete(value):
        raise TypeError(f"{_where(path)}: a tracer has no values to store; save outside of jit")
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise TypeError(f"{_where(path)}: random keys are not stored; keep the seed instead")
    host = fetched(value)
    if host.dtype.kind not in "biuf" or host.dtype.itemsize > 8:
        raise TypeError(f"{_where(path)}: arrays of dtype {value.dtype} cannot be stored")
    return host.astype(host.dtype.newbyteorder("="))


def _array_name(path: tuple[str, ...], arrays: dict[str, np.ndarray]) -> str:
    """The dotted path, changed only if it is taken or not a valid name in the archive."""
    name = re.sub(r"[^\w.+\- ]", "_", ".".join(path) or "array")
    while name in _RESERVED or name in arrays or name.endswith(".npy"):
        name += "_"
    return name


def _where(path: tuple[str, ...]) -> str:
    return ".".join(path) or "tree"


def _write(path: str, arrays: dict[str, np.ndarray]) -> None:
    """Write a new file in the same folder, which then takes the place of `path`."""
    target = os.path.realpath(path)  # a link stays a link
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "there is no folder for it", path)
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, "is a folder", path)
    new = os.path.join(folder, f".vijax-{secrets.token_hex(8)}.tmp")
    try:
        with open(new, "xb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise


# -- reading --------------------------------------------------------------------------------------


def _read(name: str) -> tuple[Any, dict[str, np.ndarray]]:
    """The JSON header and the arrays of a file."""
    with open(name, "rb") as file:
        try:
            archive = np.load(file, allow_pickle=False)
            members = archive.files if isinstance(archive, np.lib.npyio.NpzFile) else []
        except Exception as error:
            raise ValueError(f"{name}: not a vijax file: no .npz archive ({error})") from None
        if _HEADER not in members:
            raise ValueError(
                f"{name}: not a vijax file: it has no {_HEADER}, which vijax.save writes"
            )
        try:
            arrays = {member: archive[member] for member in members}
            header = json.loads(str(arrays.pop(_HEADER)))
        except Exception as error:  # zipfile, zlib, NumPy and json raise different types
            raise ValueError(f"{name}: damaged: {type(error).__name__}: {error}") from None
    return header, arrays


class _Unpacker:
    """Makes values of JSON nodes; `kind` is the dtype for floats, None to keep their own."""

    def __init__(self, name: str, arrays: dict[str, np.ndarray], kind: Any):
        self.name, self.arrays, self.kind = name, arrays, kind

    def fail(self, path: tuple[str, ...], reason: str) -> ValueError:
        return ValueError(f"{self.name}: {_where(path)}: {reason}")

    def node(self, node: Any, path: tuple[str, ...]) -> Any:
        kind = next(iter(node), None) if isinstance(node, dict) else None
        if kind == "value":
            return self.plain(node["value"], path)
        if kind == "array":
            return self.array(node, path)
        if kind == "type":
            return self.instance(node, path)
        if kind in ("tuple", "list") and isinstance(node[kind], list):
            items = [self.node(child, (*path, str(i))) for i, child in enumerate(node[kind])]
            return items if kind == "list" else tuple(items)
        if kind == "dict" and isinstance(node["dict"], dict):
            return {key: self.node(child, (*path, key)) for key, child in node["dict"].items()}
        raise self.fail(path, f"damaged: {node!r:.80} describes nothing")

    def plain(self, value: Any, path: tuple[str, ...]) -> Any:
        if type(value) in _PLAIN:
            return value
        if isinstance(value, dict) and isinstance(value.get("tuple"), list):
            return tuple(self.plain(child, path) for child in value["tuple"])
        if isinstance(value, dict) and isinstance(value.get("constant"), str):
            return self.constant(value, path)
        if isinstance(value, dict) and value.get("float") in ("nan", "inf", "-inf"):
            return float(value["float"])
        raise self.fail(path, f"damaged: {value!r:.80} is no plain value")

    def constant(self, node: dict[str, Any], path: tuple[str, ...]) -> Any:
        """An object without arrays, such as a constraint, of plain fields."""
        cls, given = registered(node["constant"]), node.get("fields")
        if cls is None or not isinstance(given, dict):
            raise self.fail(path, f"is a {node['constant']}, which is not known here; import it")
        known = {field.name for field in dataclasses.fields(cls)}
        if given.keys() != known:
            raise self.fail(path, f"damaged: {node['constant']} has the fields {sorted(known)}")
        new = object.__new__(cls)
        for name, value in given.items():
            object.__setattr__(new, name, self.plain(value, (*path, name)))
        return new

    def array(self, node: dict[str, Any], path: tuple[str, ...]) -> jax.Array:
        name = node["array"]
        if not isinstance(name, str) or name not in self.arrays:
            raise self.fail(path, f"damaged: there is no array {name!r:.80}")
        host = self.arrays[name]
        if host.dtype.name != node.get("dtype") or host.dtype.kind not in "biuf":
            raise self.fail(path, f"damaged: {host.dtype}, but announced as {node.get('dtype')!r}")
        if self.kind is not None and host.dtype.kind == "f":
            host = self.converted(host, self.kind, path)
        stored = jax.dtypes.canonicalize_dtype(host.dtype)
        if stored != host.dtype:
            if self.kind is None or host.dtype.kind == "f":
                raise self.fail(
                    path,
                    f"is {host.dtype}, and JAX has 64 bits disabled: enable jax_enable_x64, or "
                    'convert with load(path, dtype="float32")',
                )
            host = self.converted(host, stored, path)
        return to_device(host)

    def converted(self, host: np.ndarray, dtype: Any, path: tuple[str, ...]) -> np.ndarray:
        with np.errstate(over="ignore"):
            new = host.astype(dtype)
        fits = np.isfinite(new) | ~np.isfinite(host) if host.dtype.kind == "f" else new == host
        if not fits.all():
            raise self.fail(path, f"has values too large for {np.dtype(dtype).name}")
        return new

    def instance(self, node: dict[str, Any], path: tuple[str, ...]) -> Any:
        kind, given = node["type"], node.get("fields")
        if not isinstance(kind, str) or not isinstance(given, dict):
            raise self.fail(path, f"damaged: {node!r:.80} describes nothing")
        cls = registered(kind)
        if cls is None:
            raise self.fail(path, f"is a {kind}, a class not known here; import its module first")
        fields = {_name_in_file(field): field for field in dataclasses.fields(cls)}
        unknown = sorted(given.keys() - fields.keys())
        if unknown:
            raise self.fail(path, f"has a field {unknown[0]!r}, which {kind} has not")
        new = object.__new__(cls)  # without `__init__`, as JAX rebuilds it
        for name, field in fields.items():
            value = self.field(field, given.get(name), (*path, name))
            if isinstance(value, jax.Array) and name != field.name:
                value = to_device(without_nan(np.asarray(value)))
            object.__setattr__(new, field.name, value)
        return new

    def field(self, field: dataclasses.Field, node: Any, path: tuple[str, ...]) -> Any:
        if node is None:
            if field.default is dataclasses.MISSING:
                raise self.fail(path, "is not in the file")
            return field.default
        static = isinstance(node, dict) and "static" in node
        if static != bool(field.metadata.get("static")):
            raise self.fail(path, "is static either in the file or in its class, but not in both")
        return self.plain(node["static"], path) if static else self.node(node, path)


def _float_of(dtype: Any) -> np.dtype:
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind.name not in ("float32", "float64"):
        raise ValueError(f"dtype: expected float32 or float64, got {dtype!r}")
    if kind != jax.dtypes.canonicalize_dtype(kind):
        raise ValueError("dtype: float64 needs jax_enable_x64")
    return kind
