"""Laws of exponential families: the algebra, divergences, draws, digits.

Each takes the facts of one family, and a generator of NumPy for arbitrary members.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..exponential_family import ExponentialFamily, coordinates
from .compare import Law, close, holds, leaves_close, within
from .members import (
    FamilyFacts,
    about,
    add,
    bregman,
    cross_entropy,
    dot,
    draw,
    entropy,
    expectation,
    expected_log_prob,
    kernel_gap,
    kl,
    log_kernel,
    log_normalizer,
    log_prob,
    log_ratio,
    mode,
    moved,
    point,
    read,
    scaled,
    terms,
)

_DRAWS = 20_000


def _key() -> Any:
    return jax.random.key(0)


def _as_it_is(moments: Any) -> Any:
    return moments


def standard_parameters_round_trip(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """What `from_standard` is given is read back."""
    q = facts.make(rng)
    known = facts.standard or {}
    given = {name: get(q) for name, get in known.items()}
    again = (facts.from_standard or type(q).from_standard)(**given)
    for name, get in known.items():
        close(get(again), given[name], rtol=1e-12, of=name)


def expectation_is_gradient_of_log_normalizer(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """E[T] = grad A."""
    q = moved(facts.make(rng))
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(p.log_normalizer())))(q)
    expected, got = coordinates(gradient), coordinates(expectation(q))
    for name in expected:
        close(got[name], expected[name], rtol=1e-9, atol=1e-10, of=name)


def kl_is_the_bregman_divergence_of_the_log_normalizer(
    facts: FamilyFacts, rng: np.random.Generator
) -> None:
    """KL(q || p) = A(p) - A(q) - <E_q[T], p - q>."""
    q, p = moved(facts.make(rng)), facts.make(rng)
    close(jnp.sum(kl(q, p)), bregman(q, p), rtol=1e-9)


def kl_is_never_negative_and_zero_at_itself(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """KL(q || p) >= 0, and 0 to 1e-12 nats at p = q and next to it."""
    for _ in range(5):
        q, p = facts.make(rng), facts.make(rng)
        holds(kl(q, p) >= 0, "KL(q || p) >= 0", kl(q, p))
        close(kl(q, q), 0.0, atol=1e-12)
        nearby = kl(add(q, scaled(q, 1e-8)), q)
        holds((nearby > -1e-14) & (nearby < 1e-12), "KL of two neighbours is about 0", nearby)


def terms_add_up_to_the_divergence(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """The sum of `kl_terms` is `kl`, of one prior and of two."""
    q, first, second = (facts.make(rng) for _ in range(3))
    expected = [bregman(q, p) for p in (first, second)]
    rows, each = terms(q, first, second)
    close(rows, expected, rtol=1e-9)
    assert each.shape == kl(q, first).shape, f"shape {each.shape}, but kl has another"
    close(jnp.sum(each), expected[0], rtol=1e-9)


def log_ratio_is_the_difference_of_log_normalizers(
    facts: FamilyFacts, rng: np.random.Generator
) -> None:
    """q.log_ratio(p) = A(q) - A(p)."""
    q, p = moved(facts.make(rng)), about(facts.make(rng), moved(facts.make(rng)))
    p = about(p, q)
    difference = jnp.sum(log_normalizer(q) - log_normalizer(p))
    close(log_ratio(q, p), difference, rtol=1e-9, atol=1e-9)


def gauge_changes_nothing(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """A member about another origin is the same distribution."""
    q, p = facts.make(rng), facts.make(rng)
    r = moved(q)
    value = draw(q, _key())
    value_of = facts.point or _as_it_is
    pairs = {
        "kl": (kl(q, p), kl(r, p)),
        "kl of the other": (kl(p, q), kl(p, r)),
        "entropy": (entropy(q), entropy(r)),
        "log_prob": (log_prob(q, value), log_prob(r, value)),
        "mode": (mode(q), mode(r)),
        "point": (value_of(point(q)), value_of(point(r))) if facts.point else (0.0, 0.0),
        "kl of sums": (kl(add(q, p), p), kl(add(p, r), p)),
        "dot": (dot(q, p), dot(q, moved(p))),
        "cross entropy": (cross_entropy(q, p), cross_entropy(r, p)),
    }
    for name, (a, b) in pairs.items():
        leaves_close({name: a}, {name: b}, rtol=1e-9, atol=1e-11)
    for name, get in (facts.standard or {}).items():
        close(get(r), get(q), rtol=1e-9, atol=1e-11, of=name)


def log_prob_is_that_of_another_library(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """`log_prob` at a draw equals the fact `log_prob`, constants included."""
    assert facts.log_prob is not None
    q = facts.make(rng)
    value = draw(q, _key())
    exact = [facts.log_prob(value, i, q) for i in range(3)]
    close(log_prob(q, value), np.sum(exact) if facts.total else exact, rtol=1e-9)


def log_kernel_is_log_prob_without_the_base_measure(
    facts: FamilyFacts, rng: np.random.Generator
) -> None:
    """At a point, expected_log_prob is log_prob, and log_kernel that without log h."""
    assert facts.point is not None
    assert facts.log_base is not None
    q = facts.make(rng)
    moments = point(q)
    value, at_point = facts.point(moments), expected_log_prob(q, moments)
    difference = at_point - log_kernel(q, moments)
    close(difference, facts.log_base(value), rtol=1e-9, atol=1e-12)
    close(at_point, log_prob(q, value), rtol=1e-9)


def kernel_gap_is_how_far_a_point_lies_below_the_maximum(
    facts: FamilyFacts, rng: np.random.Generator
) -> None:
    """kernel_gap(m) = log_kernel(point()) - log_kernel(m)."""
    q, p = facts.make(rng), moved(facts.make(rng))
    gap = log_kernel(q, point(q)) - log_kernel(q, point(p))
    close(kernel_gap(q, point(p)), gap, rtol=1e-9)
    close(kernel_gap(q, point(q)), 0.0, atol=1e-12)


def draws_have_the_expected_statistics(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """The score of draws has mean zero, which ties draws, density and normaliser together."""
    q = facts.make(rng)
    draws = draw(q, _key(), (_DRAWS,))

    def density(p: ExponentialFamily, value: Any) -> Any:
        return jnp.sum(p.log_prob(value))

    scores = jax.jit(jax.vmap(jax.grad(density), in_axes=(None, 0)))(q, draws)
    for name, score in coordinates(scores).items():
        within(score.mean(0), score.std(0) / np.sqrt(_DRAWS), name)


def entropy_is_minus_expected_log_prob(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """entropy = -E_q[log q], from its own moments and from draws."""
    q = facts.make(rng)
    close(entropy(q), cross_entropy(q, q), rtol=1e-9)
    log_p = log_prob(q, draw(q, _key(), (_DRAWS,)))
    within(entropy(q) + log_p.mean(0), log_p.std(0) / np.sqrt(_DRAWS), "entropy", least=0.0)


def means_and_spreads_are_those_of_draws(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """The facts `summaries` are means of draws, and `spreads` their standard deviations."""
    q = facts.make(rng)
    draws = draw(q, _key(), (_DRAWS,))
    for path, fn in facts.summaries.items():
        value = fn(draws)
        within(read(q, path) - value.mean(0), value.std(0) / np.sqrt(_DRAWS), path)
    for path, fn in facts.spreads.items():
        close(read(q, path), fn(draws).std(0), rtol=0.1, of=path)


def mode_and_point_are_stationary(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """The gradient of log_prob is 0 at `mode`, and that of log_prob - log h at `point`."""
    q = facts.make(rng)
    if facts.on_simplex is True:
        q = q.map(lambda a: a + 1.0)  # every conc above 1

    def tangent(gradient: Any, value: Any, on_simplex: bool) -> Any:
        if on_simplex:  # moves that keep the sum, in logits
            return value * (gradient - jnp.sum(value * gradient, -1, keepdims=True))
        return gradient

    slope = jax.jit(jax.grad(lambda value: jnp.sum(q.log_prob(value))))
    at_mode = mode(q)
    found = [(at_mode, slope(at_mode))]
    if facts.point is not None and facts.log_base is not None:
        log_base, at_point = facts.log_base, facts.point(point(q))
        base_slope = jax.jit(jax.grad(lambda value: jnp.sum(log_base(value))))
        of_kernel = jax.tree.map(jnp.subtract, slope(at_point), base_slope(at_point))
        found.append((at_point, of_kernel))
    for value, gradient in found:
        trees = gradient, value, jax.tree.broadcast(facts.on_simplex, value)
        for leaves in zip(*map(jax.tree.leaves, trees), strict=True):
            close(tangent(*leaves), 0.0, atol=1e-9)


def point_has_the_mean_for_its_value(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """`point` stands for the mean of theta."""
    assert facts.point is not None
    q = facts.make(rng)
    value = facts.point(point(q))
    for path, fn in facts.summaries.items():
        if path.rpartition(".")[2] in ("mean", "precision"):
            close(fn(value), read(q, path), rtol=1e-9, of=path)


def vector_space(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """Sums, differences, multiples and `lerp` of members obey the laws of a vector space."""
    p, q, r = facts.make(rng), facts.make(rng), facts.make(rng)

    def same(a: Any, b: Any, rtol: float = 1e-9, atol: float = 1e-9) -> None:
        leaves_close(coordinates(a), coordinates(b), rtol=rtol, atol=atol)

    same((p + q) - q.about(p), p)
    same((p + q) + r, (p + (q + r)).about(p))
    same(p.lerp(q, 0.0), p, 1e-12, 0.0)
    same(p.lerp(q, 1.0).about(q), q)
    same(p + p, p * 2.0, 1e-12, 0.0)
    stack = jax.tree.map(lambda *a: jnp.stack(a), p, q.about(p), r.about(p))
    same(stack.sum(), functools.reduce(lambda a, b: a + b, (p, q, r)))


def psum_adds_like_sum(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """A sum over a mapped axis is the sum."""
    p = facts.make(rng)
    q = facts.make(rng).about(p)
    stack = jax.tree.map(lambda *a: jnp.stack(a), p, q)
    summed = jax.vmap(lambda a: a.psum("i"), axis_name="i")(stack)
    first = jax.tree.map(lambda a: a[0], coordinates(summed))
    leaves_close(first, coordinates(p + q), rtol=1e-12)


def _values(q: ExponentialFamily, p: ExponentialFamily) -> tuple[Any, ...]:
    return q.kl(p), q.entropy(), q.log_normalizer(), cross_entropy(q, p)


def batch_axes_are_free(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """vmap over members is the batch, so no axis is confused with another."""
    q, p = facts.make(rng), facts.make(rng)
    each = jax.jit(jax.vmap(_values))(q, p)
    together = [kl(q, p), entropy(q), log_normalizer(q), cross_entropy(q, p)]
    for one, all_at_once in zip(each, together, strict=True):
        leaves_close(jnp.sum(one) if facts.total else one, all_at_once, rtol=1e-12)


def gradients_are_finite(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """Gradients of KL, entropy and normaliser are finite, also of KL(q || q)."""
    q, p = facts.make(rng), facts.make(rng)
    slope = jax.jit(jax.grad(lambda q, p: sum(jnp.sum(v) for v in _values(q, p)), (0, 1)))
    for gradient in slope(q, p), slope(q, q):
        for leaf in jax.tree.leaves(gradient):
            holds(jnp.isfinite(leaf), "a finite gradient", leaf)


@jax.jit
def _ratio_and_slope(q: ExponentialFamily, p: ExponentialFamily) -> tuple[Any, Any]:
    """A(q) - A(p), and its gradient in q."""
    return jax.value_and_grad(lambda q: q.log_ratio(p))(q)


def _low_and_high(*members: Any) -> tuple[Any, Any]:
    """Members rounded to float32, and the same numbers in float64."""
    low = jax.tree.map(lambda a: a.astype(jnp.float32), members)
    return low, jax.tree.map(lambda a: a.astype(jnp.float64), low)


def float32_keeps_kl_and_log_ratio_at_large_counts(
    facts: FamilyFacts, rng: np.random.Generator
) -> None:
    """In float32 they are those of float64, on the same numbers, of a posterior of many rows."""
    for factor in (1.0, 1e3, 1e6):
        _keeps_digits(facts, rng, factor)


def _keeps_digits(facts: FamilyFacts, rng: np.random.Generator, factor: float) -> None:
    prior = facts.make(rng)
    post = add(scaled(facts.make(rng), factor), prior)
    low, high = _low_and_high(post, prior)
    for fn in (kl, lambda q, p: entropy(q)):
        exact, got = jnp.sum(fn(*high)), jnp.sum(fn(*low))
        assert got.dtype == jnp.float32, f"float32 became {got.dtype}"
        close(got, exact, rtol=1e-5, atol=1e-3)
    # as exact as its arguments are: the ratio may cancel, their rounding does not
    exact, slope = _ratio_and_slope(*high)
    leaves = zip(jax.tree.leaves(high[0]), jax.tree.leaves(slope), strict=True)
    size = sum(float(jnp.sum(jnp.abs(a * b))) for a, b in leaves)
    tolerance = 10 * float(np.finfo(np.float32).eps) * size
    close(float(log_ratio(*low)), float(exact), rtol=0.0, atol=tolerance)


def float32_evidence_of_few_rows_on_many(facts: FamilyFacts, rng: np.random.Generator) -> None:
    """A(q + s) - A(q) for small s at counts of 1e6, where float32 gammaln is off by 0.4."""
    q = scaled(facts.make(rng), 1e6)
    step = about(facts.make(rng), q)
    low, high = _low_and_high(add(q, step), q)
    close(log_ratio(*low), log_ratio(*high), rtol=1e-5, atol=1e-4)


# each law with the facts that it needs
LAWS: dict[Law, tuple[str, ...]] = {
    standard_parameters_round_trip: ("standard",),
    expectation_is_gradient_of_log_normalizer: (),
    kl_is_the_bregman_divergence_of_the_log_normalizer: (),
    kl_is_never_negative_and_zero_at_itself: (),
    terms_add_up_to_the_divergence: (),
    log_ratio_is_the_difference_of_log_normalizers: (),
    gauge_changes_nothing: (),
    log_prob_is_that_of_another_library: ("log_prob",),
    log_kernel_is_log_prob_without_the_base_measure: ("point", "log_base"),
    kernel_gap_is_how_far_a_point_lies_below_the_maximum: (),
    draws_have_the_expected_statistics: (),
    entropy_is_minus_expected_log_prob: (),
    means_and_spreads_are_those_of_draws: (),
    mode_and_point_are_stationary: (),
    point_has_the_mean_for_its_value: ("point",),
    vector_space: (),
    psum_adds_like_sum: (),
    batch_axes_are_free: (),
    gradients_are_finite: (),
    float32_keeps_kl_and_log_ratio_at_large_counts: (),
    float32_evidence_of_few_rows_on_many: (),
}
