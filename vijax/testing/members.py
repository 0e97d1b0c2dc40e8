"""What laws of families are told, and what they ask of members, each as one program."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._pytree import map_fields
from ..exponential_family import ExponentialFamily, coordinates, divergences


@dataclasses.dataclass(frozen=True)
class FamilyFacts:
    """What is known of a family; only `make` must be, and each further fact is one law more.

    Args:
        name: Its name.
        make: A function of a NumPy generator that builds an arbitrary member of batch shape (3,).
        standard: The arguments of `from_standard`, each with a function that reads it back.
        log_prob: (value, i, q) to the log density of member i of q in nats, by another library.
        log_base: log h of a value, in nats.
        summaries: Paths such as "mean" to functions of a draw whose mean they are.
        spreads: Paths such as "sd" to functions of a draw whose standard deviation they are.
        point: The moments at a point to the value that they stand for.
        on_simplex: Whether a value sums to 1, of a product for each of its factors: then the mode
            is stationary along the simplex only.
        from_standard: Where the class has none.
        total: Whether results are sums over the batch, as those of a `Product`.
    """

    name: str
    make: Callable[[np.random.Generator], Any]
    standard: Mapping[str, Callable[[Any], Any]] | None = None
    log_prob: Callable[[Any, int, Any], Any] | None = None
    log_base: Callable[[Any], Any] | None = None
    summaries: Mapping[str, Callable[[Any], Any]] = dataclasses.field(default_factory=dict)
    point: Callable[[Any], Any] | None = None
    on_simplex: bool | Mapping[str, bool] = False
    from_standard: Callable[..., Any] | None = None
    total: bool = False
    spreads: Mapping[str, Callable[[Any], Any]] = dataclasses.field(default_factory=dict)


def program(method: str) -> Callable[..., Any]:
    """`q.method(*args)` in one program, of members of any family."""
    return jax.jit(lambda q, *args: getattr(q, method)(*args))


about, add, scaled, dot = map(program, ("about", "__add__", "__mul__", "dot"))
kl, entropy, log_ratio, log_prob = map(program, ("kl", "entropy", "log_ratio", "log_prob"))
point, mode, kernel_gap, log_kernel = map(program, ("point", "mode", "kernel_gap", "log_kernel"))
log_normalizer, expectation = map(program, ("log_normalizer", "expectation"))
expected_log_prob = program("expected_log_prob")


@jax.jit
def cross_entropy(q: ExponentialFamily, p: ExponentialFamily) -> Any:
    """-E_p[log q] in nats, from the moments of p."""
    return -q.expected_log_prob(p.moments())


@functools.partial(jax.jit, static_argnums=2)
def draw(q: ExponentialFamily, key: Any, shape: tuple[int, ...] = ()) -> Any:
    """`q.sample(key, shape)` in one program."""
    return q.sample(key, shape)


@jax.jit
def terms(q: ExponentialFamily, p: Any, r: Any) -> tuple[Any, Any]:
    """The sums of the terms of KL(q || p) and of KL(q || r); and those of the former by member."""
    return divergences(q, p, r).total_by_product(), q.kl_terms(p).total()


@jax.jit
def bregman(q: ExponentialFamily, p: ExponentialFamily) -> Any:
    """A(p) - A(q) - <E_q[T], p - q> in nats, summed over the batch."""
    p = p.about(q)
    expected, step = coordinates(q.expectation()), coordinates(p - q)
    inner = sum(jnp.sum(expected[name] * step[name]) for name in expected)
    return jnp.sum(p.log_normalizer() - q.log_normalizer()) - inner


@jax.jit
def moved(q: ExponentialFamily) -> Any:
    """The same member about another origin, where it has one."""

    def away(field: Any, value: Any) -> Any:
        if isinstance(value, ExponentialFamily):
            return map_fields(value, away)
        return value + 3.7 if field.name == "origin" else value

    return q.about(map_fields(q, away))


def read(member: Any, path: str) -> Any:
    """`member.mean` or `member.expectation().conc` by name."""
    for part in path.split("."):
        member = getattr(member, part.removesuffix("()"))
        member = member() if part.endswith("()") else member
    return member
