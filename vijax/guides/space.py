"""The space of parameters: from a vector of real numbers to named, constrained arrays, and back."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._pytree import pytree, static
from ..constraints import Constraint, Real
from ..data.host import described, to_device


@pytree
class Parameter:
    """The shape of one array of parameters, and the constraint that its entries obey."""

    shape: tuple[int, ...] = static()
    constraint: Any = static(default=Real())

    @property
    def free_shape(self) -> tuple[int, ...]:
        """The shape of the real numbers that stand for it."""
        return self.constraint.free_shape(self.shape)


@pytree
class Space:
    """Named parameters theta as a function of a vector u (d,) of real numbers.

    `parameters` has a `Parameter` in place of each array, in dicts, lists, tuples or other pytrees;
    u holds their free numbers in the order of the leaves. A Space has no arrays: it is part of a
    program. `dtype` is that of theta, None where that is JAX's default.
    """

    parameters: Any
    dtype: str | None = static(default=None)

    @classmethod
    def of(cls, like: Any, constraints: Any = None) -> Space:
        """The space of parameters of the form of `like`, of which only shapes matter.

        `constraints` has the form of `like`; one for a subtree holds for all of it, and keys of a
        dict may be left out where parameters are any real numbers. Raises TypeError or ValueError
        naming the parameter.
        """
        paths, structure = jax.tree_util.tree_flatten_with_path(like)
        if not paths:
            raise ValueError("like: has no parameters; expected a pytree of arrays")
        names = [_name(path) for path, _ in paths]
        kinds = [_kind(name, leaf) for name, (_, leaf) in zip(names, paths, strict=True)]
        given = _spread(constraints, like, "constraints")
        parts = [
            _parameter(name, np.shape(leaf), constraint)
            for name, (_, leaf), constraint in zip(names, paths, given, strict=True)
        ]
        known = [kind for kind in kinds if kind is not None]
        dtype = np.result_type(*known).name if known else None
        return cls(jax.tree.unflatten(structure, parts), dtype)

    @property
    def size(self) -> int:
        """The number of free parameters, d."""
        return sum(math.prod(part.free_shape) for part in self.parts)

    @property
    def float_dtype(self) -> Any:
        """`dtype` as JAX has it: float32 where 64 bits are disabled."""
        return jax.dtypes.canonicalize_dtype(self.dtype or float)

    @property
    def parts(self) -> list[Parameter]:
        """The parameters in the order in which u has them."""
        return jax.tree.leaves(self.parameters, is_leaf=_is_parameter)

    @property
    def names(self) -> list[str]:
        """The name of each parameter, its path such as "slope" or "level.scale"."""
        found = jax.tree_util.tree_flatten_with_path(self.parameters, is_leaf=_is_parameter)[0]
        return [_name(path) for path, _ in found]

    def constrain(self, u: Float[Array, "d"]) -> tuple[Any, Float[Array, ""]]:
        """theta(u), and log |d theta / d u| in nats."""
        pieces = [p.constraint.forward(v) for p, v in zip(self.parts, self._split(u), strict=True)]
        log_det = sum((jnp.sum(log_det) for _, log_det in pieces), start=jnp.zeros((), u.dtype))
        return self._joined([value for value, _ in pieces]), log_det

    def unconstrain(self, params: Any, dtype: Any = None) -> Float[Array, "d"]:
        """The u of these parameters; ValueError naming one of another shape or form."""
        structure = jax.tree.structure(self.parameters, is_leaf=_is_parameter)
        if jax.tree.structure(params) != structure:
            found = [_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
            raise ValueError(
                f"expected the parameters {', '.join(self.names)} in the form of `like`, got "
                f"{', '.join(found) or described(params)}"
            )
        pieces = []
        leaves = jax.tree.leaves(params)
        for name, part, leaf in zip(self.names, self.parts, leaves, strict=True):
            if np.shape(leaf) != part.shape:
                raise ValueError(f"{name}: expected shape {part.shape}, got {np.shape(leaf)}")
            pieces.append(jnp.ravel(part.constraint.inverse(to_device(leaf, dtype))))
        return jnp.concatenate(pieces)

    def unravel(self, u: Float[Array, "*b d"]) -> Any:
        """Numbers for each coordinate of u, still unconstrained, in the form of theta."""
        return self._joined(self._split(u))

    def groups(self, blocks: Any) -> tuple[int, ...]:
        """The number of the block that each coordinate of u belongs to.

        `blocks` lists the names of the parameters of each block; None makes each a block of its
        own, as are those that are not listed. Raises ValueError naming one that is unknown.
        """
        own = {name: i for i, name in enumerate(self.names)}
        for block in blocks or ():
            members = (block,) if isinstance(block, str) else tuple(block)
            for name in members:
                if name not in own:
                    raise ValueError(
                        f"blocks: no parameter is named {name!r}; there are {', '.join(own)}"
                    )
                own[name] = own[members[0]]
        sizes = [math.prod(part.free_shape) for part in self.parts]
        return tuple(own[name] for name, n in zip(self.names, sizes, strict=True) for _ in range(n))

    @property
    def labels(self) -> list[str]:
        """A label for each entry of theta, such as "slope" or "level[2]"."""
        return [
            name + "".join(f"[{i}]" for i in index)
            for name, part in zip(self.names, self.parts, strict=True)
            for index in np.ndindex(part.shape)
        ]

    def _split(self, u: Float[Array, "*b d"]) -> list[Array]:
        pieces, first = [], 0
        for part in self.parts:
            shape = part.free_shape
            size = math.prod(shape)
            pieces.append(u[..., first : first + size].reshape(*u.shape[:-1], *shape))
            first += size
        return pieces

    def _joined(self, leaves: list[Any]) -> Any:
        structure = jax.tree.structure(self.parameters, is_leaf=_is_parameter)
        return jax.tree.unflatten(structure, leaves)


def _is_parameter(node: Any) -> bool:
    return isinstance(node, Parameter)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".") or "theta"


def _kind(name: str, leaf: Any) -> Any:
    """The dtype of a float array; None for other numbers."""
    if isinstance(leaf, bool | str) or leaf is None:
        raise TypeError(f"like: {name} is {described(leaf)}; expected numbers")
    try:
        kind = np.dtype(leaf.dtype) if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    except TypeError:
        raise TypeError(f"like: {name} is {described(leaf)}; expected numbers") from None
    if jnp.issubdtype(kind, jnp.complexfloating):
        raise TypeError(f"like: {name} is complex; give its real and imaginary parts")
    if not jnp.issubdtype(kind, jnp.number):
        raise TypeError(f"like: {name} has dtype {kind}; expected numbers")
    floats = hasattr(leaf, "shape") and jnp.issubdtype(kind, jnp.floating)
    return kind if floats and not getattr(leaf, "weak_type", False) else None


def _parameter(name: str, shape: tuple[int, ...], constraint: Any) -> Parameter:
    if not isinstance(constraint, Constraint):
        raise TypeError(
            f"constraints: {name} has {described(constraint)}; expected one of vijax.constraints, "
            "such as Positive(), or a Constraint of your own"
        )
    try:
        constraint.free_shape(shape)
    except ValueError as error:
        raise ValueError(f"constraints: {name}: {error}") from None
    return Parameter(tuple(shape), constraint)


def _spread(constraints: Any, like: Any, where: str) -> list[Any]:
    """A constraint for each leaf of `like`."""
    if constraints is None or isinstance(constraints, Constraint):
        one = Real() if constraints is None else constraints
        return [one] * len(jax.tree.leaves(like))
    if isinstance(constraints, dict) and isinstance(like, dict):
        unknown = [key for key in constraints if key not in like]
        if unknown:
            raise ValueError(f"{where}: {unknown[0]!r} is no parameter; there are {list(like)}")
        return [
            leaf
            for key in sorted(like)  # as JAX orders leaves
            for leaf in _spread(constraints.get(key), like[key], f"{where}[{key!r}]")
        ]
    if jax.tree_util.all_leaves([like]):
        return [constraints]  # `_parameter` says what is wrong with it
    own, of_like = (_children(tree) for tree in (constraints, like))
    if type(constraints) is not type(like) or len(own) != len(of_like):
        raise TypeError(
            f"{where}: expected constraints in the form of `like`, a {type(like).__name__}, got "
            f"{described(constraints)}"
        )
    pairs = zip(own, of_like, strict=True)
    return [leaf for a, b in pairs for leaf in _spread(a, b, where)]


def _children(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=lambda node: node is not tree)
