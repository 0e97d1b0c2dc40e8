"""Exponential families as vector spaces of natural coordinates.

A member is p(theta) = h(theta) exp(<eta, T(theta)> - A(eta)), stored as its natural coordinates
eta. The base measure h is chosen so that sufficient statistics have the type of the prior and the
conjugate update is plain addition: posterior = statistics + prior.

The gauge. A family with a location mu is written about a point c, its `origin`: mu - c takes the
place of mu in T. The origin is no parameter: `about` moves it and leaves the density as it is, and
an operation on two members first moves the second to the origin of the first.

It exists for digits. About c = 0, a scatter is the difference of two numbers of size n |mu|^2; in
float32 it has no correct digit where |mu| is some thousand standard deviations. Next to the mean
nothing large is subtracted.

A prior is written about its mean. Statistics are written where the moments of the E-step say, and
the posterior with them. With full or tied covariance that is `GaussianMoments.centre`: the old
origin while the mean is next to it, otherwise the mean. A mean that moves at rounding level would
perturb the statistics in every iteration, and a float32 fit would never converge. With diagonal or
spherical covariance it is always the mean (`DiagonalMoments.sums`).
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from ._pytree import map_fields
from ._text import Overview, estimates, table_of_estimates
from .data.host import readable, unguarded
from .numerics.broadcasting import broadcasts
from .numerics.kl_terms import KLTerms

if TYPE_CHECKING:  # a default lets `Result` stand for `Result[Any]`
    from typing_extensions import TypeVar

    Q_co = TypeVar("Q_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    Q_co = TypeVar("Q_co", covariant=True)

Q = Any  # the type of a q: any pytree; in conjugate models an ExponentialFamily

_N = TypeVar("_N", bound="ExponentialFamily")
_C = TypeVar("_C", bound="Compound")
_L = TypeVar("_L", bound="Lifted")
_P = TypeVar("_P", bound="Product")


class ExponentialFamily(abc.ABC):
    """A batch of members of one exponential family: immutable, a vector space, a pytree.

    A new family writes the abstract methods below and inherits the algebra. Every coordinate has
    the batch axes `*b` first, and every scalar result has shape `*b`.
    """

    @abc.abstractmethod
    def log_normalizer(self) -> Float[Array, "*b"]:
        """A(eta) in nats, for T written about the present origin."""

    @abc.abstractmethod
    def expectation(self: _N) -> _N:
        """E[T(theta)] = grad A(eta), coordinate by coordinate, in a container of the same type."""

    @abc.abstractmethod
    def moments(self) -> Any:
        """The expectations under q that a likelihood needs."""

    @abc.abstractmethod
    def point(self) -> Any:
        """The same container as `moments`, for theta fixed at the maximiser of <eta, T(theta)>.

        That is the mode of the density with respect to h. It exists for every proper member, does
        not depend on how theta is parametrised, and its value is the mean of theta. EM is CAVI
        with `point` in place of `moments`.
        """

    @abc.abstractmethod
    def mode(self) -> Any:
        """The textbook mode, of the density in theta itself; NaN where there is none."""

    @abc.abstractmethod
    def log_kernel(self, moments: Any) -> Float[Array, "*b"]:
        """<eta, E[T]> - A(eta) in nats with E[T] from `moments`: the expected log of p / h."""

    @abc.abstractmethod
    def kernel_gap(self, moments: Any) -> Float[Array, "*b"]:
        """log_kernel(point()) - log_kernel(moments) in nats, for `moments` at a point.

        Computed as a sum of non-negative terms, so that it keeps its digits at large counts.
        """

    @abc.abstractmethod
    def expected_log_prob(self, moments: Any) -> Float[Array, "*b"]:
        """E[log p(theta)] in nats under `moments`; log p(theta) if they are at a point."""

    @abc.abstractmethod
    def kl(self, prior: Any) -> Float[Array, "*b"]:
        """KL(self || prior) in nats: a sum of non-negative terms, accurate at large counts."""

    def kl_terms(self, prior: Any) -> KLTerms:
        """The terms of `kl` before they are summed, so that several families share one loop."""
        return KLTerms.known(self.kl(prior))

    @abc.abstractmethod
    def entropy(self) -> Float[Array, "*b"]:
        """-E[log p(theta)] in nats (differential where theta is continuous)."""

    @abc.abstractmethod
    def log_prob(self, value: Any) -> Float[Array, "..."]:
        """log p(value) in nats; the batch axes of `value` and of the family broadcast."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Any:
        """Independent draws with leading axes `shape`, in the form that `log_prob` takes."""

    def about(self: _N, like: Any) -> _N:
        """The same density, written about the origin of `like`."""
        return self

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """What a table shows: a dict from each label to one number per member of the batch."""
        return {}

    @property
    def _estimates(self) -> dict[str, tuple[Any, Any]]:
        """Mean and standard deviation of what a table shows, by name; nothing by default."""
        return {}

    def summary(self, *, point: bool = False, **options: Any) -> str:
        """A table of q with standard deviations, or of its `point`; empty by default."""
        with unguarded():
            found = self._estimates
            return estimates(**found) if found else ""

    def overview(self, *, point: bool = False, **options: Any) -> Overview:
        """What `summary` says, in the form of a table for notebooks."""
        with unguarded():
            if found := self._estimates:
                return table_of_estimates(**found)
        return Overview(self.summary(point=point, **options).splitlines())

    def _repr_html_(self) -> str:
        try:
            table = self.overview() if readable(self) else Overview()
        except TypeError:  # many members, of which there is no one summary
            table = Overview()
        return (table if table.lines or table.head else Overview([repr(self)])).html()

    # -- the algebra: inherited, never overridden ----------------------------------------------

    def map(
        self: _N,
        op: Callable[..., Any],
        *others: _N,
        gauge: Callable[[Array], Array] = lambda a: a,
    ) -> _N:
        """Apply `op` to matching coordinates, after moving `others` to the origin of `self`.

        `gauge` is applied to the origin, and to every other field declared with `gauge()`.
        """
        return self._zip(op, [other.about(self) for other in others], gauge)

    def _zip(
        self: _N, op: Callable[..., Any], others: Sequence[_N], gauge: Callable[[Array], Array]
    ) -> _N:
        """As `map`, for `others` that are about the origin of `self` already."""

        def leaf(field: dataclasses.Field[Any], value: Any) -> Any:
            values = [getattr(other, field.name) for other in others]
            if field.metadata.get("gauge"):
                return gauge(value)
            if isinstance(value, ExponentialFamily):
                return value._zip(op, values, gauge)
            if isinstance(value, dict):
                parts = {name: [v[name] for v in values] for name in value}
                return {name: v._zip(op, parts[name], gauge) for name, v in value.items()}
            return op(value, *values)

        return map_fields(self, leaf)

    def __add__(self: _N, other: _N) -> _N:
        return self.map(jnp.add, other)

    def __sub__(self: _N, other: _N) -> _N:
        return self.map(jnp.subtract, other)

    def __mul__(self: _N, factor: float | Float[Array, ""]) -> _N:
        return self.map(lambda a: factor * a)

    __rmul__ = __mul__

    def lerp(self: _N, other: _N, rate: float | Float[Array, ""]) -> _N:
        """Natural-gradient step of length `rate` towards `other`."""
        return self.map(lambda a, b: a + rate * (b - a), other)

    def sum(self: _N) -> _N:
        """Sum over a leading axis (chunks, blocks, shards) whose members share one origin."""
        return self.map(lambda a: jnp.sum(a, 0), gauge=lambda a: a[0])

    def psum(self: _N, axis: str | tuple[str, ...]) -> _N:
        """Sum over a mapped axis, or axes of a mesh, whose members share one origin."""
        return self.map(lambda a: lax.psum(a, axis))

    def dot(self, stats: Any) -> Float[Array, ""]:
        """<E[T(theta)], stats> in nats, summed over the batch.

        It is the expected log-likelihood of `stats` up to terms constant in theta.
        """
        own, other = coordinates(self.expectation()), coordinates(stats.about(self))
        pairs = zip(own.values(), other.values(), strict=True)
        return jnp.sum(jnp.stack([jnp.sum(a * b) for a, b in pairs]))

    def log_ratio(self, prior: Any) -> Float[Array, ""]:
        """A(self) - A(prior) in nats, summed over the batch, without subtracting large values.

        With self = prior + stats it is the log evidence of `stats` up to the likelihood's base
        measure. Computed as A(q) - A(p) = <E_q[T], q - p> - KL(q || p).
        """
        return self.dot(self - prior) - jnp.sum(self.kl(prior))


def natural_step(q: _N, target: _N, rate: ArrayLike) -> _N:
    """Natural-gradient step of length `rate` from `q` towards `target`; rate 1 gives `target`."""
    if isinstance(rate, float) and rate == 1.0:
        return target
    # written from the target, whose origin is next to the current means
    return target.lerp(q, 1.0 - jnp.asarray(rate))


def divergences(q: Q, *others: Q) -> KLTerms:
    """Terms of KL(q || other), summed over the batch, with one row for each of `others`.

    One vmap over `others`, which must have the structure of q, gives a smaller program than a
    call for each.
    """
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *others)
    return jax.vmap(lambda other: q.kl_terms(other).flat())(stacked)


def coordinates(tree: ExponentialFamily) -> dict[str, Array]:
    """The coordinates in order, by dotted name, without origins."""
    found: dict[str, Array] = {}

    def add(name: str, parts: dict[str, Array]) -> None:
        found.update({f"{name}.{inner}": a for inner, a in parts.items()})

    def leaf(field: Any, value: Any) -> Any:
        if isinstance(value, ExponentialFamily):
            add(field.name, coordinates(value))
        elif isinstance(value, dict):
            for name, part in value.items():
                add(f"{field.name}.{name}", coordinates(part))
        elif not field.metadata.get("gauge"):
            found[field.name] = value
        return value

    map_fields(tree, leaf)
    return found


class Compound(ExponentialFamily):
    """A family made of other families, its parts; scalar results are sums over the parts."""

    @abc.abstractmethod
    def _total(self, fn: Callable[..., Any], *others: Any) -> Float[Array, "..."]:
        """Sum over the parts of fn(part, *counterparts in `others`)."""

    @abc.abstractmethod
    def _map_parts(self: _C, fn: Callable[..., Any], *others: Any) -> _C:
        """The same family with fn(part, *counterparts in `others`) in place of every part."""

    def log_normalizer(self) -> Float[Array, "..."]:
        return self._total(lambda part: part.log_normalizer())

    def expectation(self: _C) -> _C:
        return self._map_parts(lambda part: part.expectation())

    def log_kernel(self, moments: Any) -> Float[Array, "..."]:
        return self._total(lambda part, m: part.log_kernel(m), moments)

    def kernel_gap(self, moments: Any) -> Float[Array, "..."]:
        return self._total(lambda part, m: part.kernel_gap(m), moments)

    def expected_log_prob(self, moments: Any) -> Float[Array, "..."]:
        return self._total(lambda part, m: part.expected_log_prob(m), moments)

    def kl(self, prior: Any) -> Float[Array, "..."]:
        return self._total(lambda part, p: part.kl(p), prior)

    def entropy(self) -> Float[Array, "..."]:
        return self._total(lambda part: part.entropy())

    def about(self: _C, like: Any) -> _C:
        return self._map_parts(lambda part, other: part.about(other), like)


class Lifted(Compound):
    """A family with a single part, the field that is named by `part`.

    `_reduce` turns scalar results of the part into those of this family; by default they are the
    same. Moments have a field of the same name, with the moments of the part.
    """

    part: ClassVar[str]

    def _reduce(self, values: Float[Array, "..."]) -> Float[Array, "..."]:
        return values

    def _total(self, fn: Callable[..., Any], *others: Any) -> Float[Array, "..."]:
        return self._reduce(fn(*[getattr(each, self.part) for each in (self, *others)]))

    def _map_parts(self: _L, fn: Callable[..., Any], *others: Any) -> _L:
        new = fn(*[getattr(each, self.part) for each in (self, *others)])
        return type(self)(**vars(self) | {self.part: new})

    def mode(self) -> Any:
        return getattr(self, self.part).mode()

    @broadcasts
    def log_prob(self, value: Any) -> Float[Array, "..."]:
        return self._reduce(getattr(self, self.part).log_prob(value))

    @broadcasts
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Any:
        return getattr(self, self.part).sample(key, shape)


class Product(Compound):
    """A product of independent factors, which are the fields of the subclass.

    `Moments` is the container of their moments, with fields of the same names. Scalar results are
    sums over the factors and their batches, and values are dicts by field name.
    """

    Moments: ClassVar[Callable[..., Any]]

    def _each(self, fn: Callable[..., Any], *others: Any) -> dict[str, Any]:
        """`fn` of every factor and of its counterparts in `others`, by field name."""
        fields = [f.name for f in dataclasses.fields(self) if not f.metadata.get("static")]  # type: ignore[arg-type]
        return {name: fn(*[getattr(each, name) for each in (self, *others)]) for name in fields}

    def _total(self, fn: Callable[..., Any], *others: Any) -> Float[Array, ""]:
        return jnp.sum(jnp.stack([jnp.sum(v) for v in self._each(fn, *others).values()]))

    def _map_parts(self: _P, fn: Callable[..., Any], *others: Any) -> _P:
        return type(self)(**vars(self) | self._each(fn, *others))

    def moments(self) -> Any:
        return self.Moments(**self._each(lambda f: f.moments()))

    def point(self) -> Any:
        return self.Moments(**self._each(lambda f: f.point()))

    def mode(self) -> dict[str, Any]:
        return self._each(lambda f: f.mode())

    def kl_terms(self, prior: Any) -> KLTerms:
        return KLTerms.join(*self._each(lambda f, p: f.kl_terms(p).flat(), prior).values())

    @broadcasts
    def log_prob(self, value: dict[str, Any]) -> Float[Array, "..."]:
        def factor_log_prob(field: str, factor: ExponentialFamily) -> Array:
            batch_axes = jax.eval_shape(factor.log_normalizer).ndim
            return jnp.sum(factor.log_prob(value[field]), tuple(range(-batch_axes, 0)))

        terms = [factor_log_prob(name, factor) for name, factor in self._each(lambda f: f).items()]
        return functools.reduce(jnp.add, terms)

    @broadcasts
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> dict[str, Any]:
        fields = self._each(lambda f: f)
        keys = jax.random.split(key, len(fields))
        return {name: f.sample(k, shape) for k, (name, f) in zip(keys, fields.items(), strict=True)}
