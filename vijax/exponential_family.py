"""Exponential-family algebra: a vector space of natural coordinates.

A member of a family is written in its natural coordinates eta, up to the constant that makes the
conjugate update plain addition: p(theta) = h(theta) exp(<eta, T(theta)> - A(eta)). Sufficient
statistics then have the type of the prior, and posterior = statistics + prior.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from ._pytree import map_fields
from .numerics.kl_terms import KLTerms

Q = Any  # a q: a pytree of any type, of conjugate models an ExponentialFamily

_N = TypeVar("_N", bound="ExponentialFamily")
_P = TypeVar("_P", bound="Product")


class ExponentialFamily(abc.ABC):
    """A batch of members of one exponential family: immutable, a vector space, a pytree.

    A new family writes the abstract methods below; the algebra is inherited. Every coordinate
    has the batch axes `*b` in front, and every scalar result has shape `*b`.
    """

    @abc.abstractmethod
    def log_normalizer(self) -> Float[Array, "*b"]:
        """A(eta) in nats, for the statistics about this gauge."""

    @abc.abstractmethod
    def expectation(self: _N) -> _N:
        """E[T(theta)] = grad A(eta), coordinate by coordinate, in a container of the same type."""

    @abc.abstractmethod
    def moments(self) -> Any:
        """What a likelihood needs to know of theta, in expectation."""

    @abc.abstractmethod
    def point(self) -> Any:
        """The same container as `moments`, at the maximiser of <eta, T(theta)>.

        That is the mode with respect to the base measure h: it exists for every proper member,
        does not depend on how theta is parametrised, and has the mean of theta for its value.
        EM is CAVI with `point` in place of `moments`.
        """

    @abc.abstractmethod
    def mode(self) -> Any:
        """The textbook mode, of the density in theta itself; NaN where there is none."""

    @abc.abstractmethod
    def log_kernel(self, moments: Any) -> Float[Array, "*b"]:
        """<eta, E[T]> - A(eta) in nats: log density with respect to h, theta as in `moments`."""

    @abc.abstractmethod
    def kernel_gap(self, moments: Any) -> Float[Array, "*b"]:
        """log_kernel at `point()` minus at `moments`, a point, in nats: a non-negative form."""

    @abc.abstractmethod
    def expected_log_prob(self, moments: Any) -> Float[Array, "*b"]:
        """E[log p(theta)] in nats, theta as in `moments`; log p(theta) where they are a point."""

    @abc.abstractmethod
    def kl(self, prior: Any) -> Float[Array, "*b"]:
        """KL(self || prior) in nats, as a sum of non-negative terms: exact at large counts too."""

    def kl_terms(self, prior: Any) -> KLTerms:
        """`kl`, not added up where the family can say what it is the sum of."""
        return KLTerms.known(self.kl(prior))

    @abc.abstractmethod
    def entropy(self) -> Float[Array, "*b"]:
        """-E[log p(theta)] in nats (differential where theta is continuous)."""

    @abc.abstractmethod
    def log_prob(self, value: Any) -> Float[Array, "..."]:
        """log p(value) in nats; batch axes of `value` and of the family broadcast."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Any:
        """Independent draws with leading axes `shape`, in the form that `log_prob` takes."""

    def about(self: _N, like: Any) -> _N:
        """Write the same point in the gauge of `like`."""
        return self

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """What a table shows of each member: label to one number per member of the batch."""
        return {}

    def summary(self, *, point: bool = False, **options: Any) -> str:
        """A table of what q says, at its `point` or with standard deviations; empty by default."""
        return ""

    # -- the algebra: inherited, never overridden ----------------------------------------------

    def map(
        self: _N,
        op: Callable[..., Any],
        *others: _N,
        gauge: Callable[[Array], Array] = lambda a: a,
    ) -> _N:
        """Apply `op` to matching coordinates, all in the gauge of `self`; `gauge` to gauges."""
        return self._zip(op, [other.about(self) for other in others], gauge)

    def _zip(
        self: _N, op: Callable[..., Any], others: Sequence[_N], gauge: Callable[[Array], Array]
    ) -> _N:
        """`map` over others that are in the gauge of `self` already."""

        def leaf(field: dataclasses.Field[Any], value: Any) -> Any:
            rest = [getattr(other, field.name) for other in others]
            if field.metadata.get("gauge"):
                return gauge(value)
            if isinstance(value, ExponentialFamily):
                return value._zip(op, rest, gauge)
            if isinstance(value, dict):
                parts = {name: [r[name] for r in rest] for name in value}
                return {name: v._zip(op, parts[name], gauge) for name, v in value.items()}
            return op(value, *rest)

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
        """Sum over a leading axis whose members share one gauge (chunks, blocks, shards)."""
        return self.map(lambda a: jnp.sum(a, 0), gauge=lambda a: a[0])

    def psum(self: _N, axis: str | tuple[str, ...]) -> _N:
        """Sum over a mapped axis, or axes of a mesh, whose members share one gauge."""
        return self.map(lambda a: lax.psum(a, axis))

    def dot(self, stats: Any) -> Float[Array, ""]:
        """<E[T(theta)], stats>, summed over the batch: the expected log-likelihood of `stats`.

        Each coordinate is multiplied by its own expectation; constants of the likelihood that do
        not depend on theta are not in it.
        """
        pairs = zip(_coordinates(self.expectation()), _coordinates(stats.about(self)), strict=True)
        return jnp.sum(jnp.stack([jnp.sum(a * b) for a, b in pairs]))

    def log_ratio(self, prior: Any) -> Float[Array, ""]:
        """A(self) - A(prior) in nats, summed over the batch, without subtracting large values.

        With `self = prior + stats` it is the log evidence of `stats`, short of the likelihood's
        base measure. Uses A(q) - A(p) = <E_q[T], q - p> - KL(q || p).
        """
        return self.dot(self - prior) - jnp.sum(self.kl(prior))


def natural_step(q: _N, target: _N, rate: ArrayLike) -> _N:
    """The natural-gradient step of length `rate` from `q` towards `target`, its end for rate 1."""
    if isinstance(rate, float) and rate == 1.0:
        return target
    # from the target, whose gauge is next to the current means
    return target.lerp(q, 1.0 - jnp.asarray(rate))


def divergences(q: Q, *others: Q) -> KLTerms:
    """KL(q || other), summed over the batch: a row for each of `others`, of q's own form.

    All at once: a smaller program than one after another.
    """
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *others)
    return jax.vmap(lambda other: q.kl_terms(other).flat())(stacked)


def _coordinates(tree: ExponentialFamily) -> list[Array]:
    """The coordinates in order, gauges left out."""
    found: list[Array] = []

    def leaf(field: Any, value: Any) -> Any:
        if isinstance(value, ExponentialFamily):
            found.extend(_coordinates(value))
        elif isinstance(value, dict):
            for part in value.values():
                found.extend(_coordinates(part))
        elif not field.metadata.get("gauge"):
            found.append(value)
        return value

    map_fields(tree, leaf)
    return found


class Product(ExponentialFamily):
    """Independent factors: list them as fields and name the container of their moments."""

    Moments: ClassVar[Callable[..., Any]]

    def _each(self, fn: Callable[..., Any], *others: Any) -> dict[str, Any]:
        out: dict[str, Any] = {}

        def leaf(field: Any, value: Any) -> Any:
            out[field.name] = fn(value, *[getattr(other, field.name) for other in others])
            return value

        map_fields(self, leaf)
        return out

    def _total(self, fn: Callable[..., Any], *others: Any) -> Float[Array, ""]:
        return jnp.sum(jnp.stack([jnp.sum(v) for v in self._each(fn, *others).values()]))

    def log_normalizer(self) -> Float[Array, ""]:
        """Sum over the factors and their batches."""
        return self._total(lambda f: f.log_normalizer())

    def expectation(self: _P) -> _P:
        """Factor by factor."""
        return type(self)(**vars(self) | self._each(lambda f: f.expectation()))

    def moments(self) -> Any:
        """`Moments` of the factors' moments."""
        return self.Moments(**self._each(lambda f: f.moments()))

    def point(self) -> Any:
        """`Moments` of the factors' points."""
        return self.Moments(**self._each(lambda f: f.point()))

    def mode(self) -> dict[str, Any]:
        """Every factor's mode, by field name."""
        return self._each(lambda f: f.mode())

    def log_kernel(self, moments: Any) -> Float[Array, ""]:
        """Sum over the factors and their batches, in nats."""
        return self._total(lambda f, m: f.log_kernel(m), moments)

    def kernel_gap(self, moments: Any) -> Float[Array, ""]:
        """Sum over the factors and their batches, in nats."""
        return self._total(lambda f, m: f.kernel_gap(m), moments)

    def expected_log_prob(self, moments: Any) -> Float[Array, ""]:
        """Sum over the factors and their batches, in nats."""
        return self._total(lambda f, m: f.expected_log_prob(m), moments)

    def kl(self, prior: Any) -> Float[Array, ""]:
        """Sum over the factors and their batches, in nats."""
        return self._total(lambda f, p: f.kl(p), prior)

    def kl_terms(self, prior: Any) -> KLTerms:
        """Of all factors."""
        return KLTerms.join(*self._each(lambda f, p: f.kl_terms(p).flat(), prior).values())

    def about(self: _P, like: Any) -> _P:
        """Every factor in the gauge of its counterpart in `like`."""
        return type(self)(**vars(self) | self._each(lambda f, o: f.about(o), like))

    def entropy(self) -> Float[Array, ""]:
        """Sum over the factors and their batches, in nats."""
        return self._total(lambda f: f.entropy())

    def log_prob(self, value: dict[str, Any]) -> Float[Array, "..."]:
        """Sum over the factors and their batches, in nats; `value` maps field to value."""

        def one(field: str, factor: ExponentialFamily) -> Array:
            batch_axes = jax.eval_shape(factor.log_normalizer).ndim
            return jnp.sum(factor.log_prob(value[field]), tuple(range(-batch_axes, 0)))

        parts = [one(name, factor) for name, factor in self._each(lambda f: f).items()]
        return functools.reduce(jnp.add, parts)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> dict[str, Any]:
        """Draws of every factor, by field name."""
        fields = self._each(lambda f: f)
        keys = jax.random.split(key, len(fields))
        return {name: f.sample(k, shape) for k, (name, f) in zip(keys, fields.items(), strict=True)}
