"""Laws of every family: one row in `table.FAMILIES` buys all of them.

What several laws ask of a member is one program (`program`), compiled once for a family and not
operation by operation.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vijax as vx
from vijax._pytree import map_fields
from vijax.exponential_family import divergences

from ..table import FAMILIES, SPREADS, leaves_close, names

NUM_DRAWS = 20_000


def program(method):
    """`q.method(*args)` in one program, of members of any family."""
    return jax.jit(lambda q, *args: getattr(q, method)(*args))


about, add, scaled, dot = map(program, ("about", "__add__", "__mul__", "dot"))
kl, entropy, log_ratio, log_prob = map(program, ("kl", "entropy", "log_ratio", "log_prob"))
point, mode, kernel_gap, log_kernel = map(program, ("point", "mode", "kernel_gap", "log_kernel"))
log_normalizer, expectation = map(program, ("log_normalizer", "expectation"))
expected_log_prob = program("expected_log_prob")


@jax.jit
def cross_entropy(q, p):
    """-E_p[log q], from the moments of p."""
    return -q.expected_log_prob(p.moments())


@functools.partial(jax.jit, static_argnums=2)
def draw(q, key, shape=()):
    return q.sample(key, shape)


@jax.jit
def terms(q, p, r):
    """The sums of the terms of KL(q || p) and of KL(q || r); and those of the former by member."""
    return divergences(q, p, r).total_by_product(), q.kl_terms(p).total()


@pytest.fixture(params=FAMILIES, ids=names(FAMILIES))
def family(request):
    return request.param


def accessor(q, path):
    """`q.mean` or `q.expectation().conc` by name."""
    for part in path.split("."):
        q = getattr(q, part[:-2])() if part.endswith("()") else getattr(q, part)
    return q


def coordinates(tree):
    """Coordinates without gauges, as a dict."""
    out = {}

    def leaf(field, value):
        if isinstance(value, vx.ExponentialFamily):
            out.update({f"{field.name}.{name}": v for name, v in coordinates(value).items()})
        elif not field.metadata.get("gauge"):
            out[field.name] = value
        return value

    map_fields(tree, leaf)
    return out


def inner(a, b):
    a, b = coordinates(a), coordinates(b)
    return sum(jnp.sum(a[name] * b[name]) for name in a)


@jax.jit
def bregman(q, p):
    """A(p) - A(q) - <E_q[T], p - q>."""
    p = p.about(q)
    return jnp.sum(p.log_normalizer() - q.log_normalizer()) - inner(q.expectation(), p - q)


@jax.jit
def moved(q):
    """The same member in another gauge, where it has one."""

    def away(field, value):
        if isinstance(value, vx.ExponentialFamily):
            return map_fields(value, away)
        return value + 3.7 if field.name == "origin" else value

    return q.about(map_fields(q, away))


def test_standard_parameters_round_trip(family, rng):
    q = family.make(rng)
    read = {name: get(q) for name, get in family.standard.items()}
    again = (family.from_standard or type(q).from_standard)(**read)
    for name, get in family.standard.items():
        np.testing.assert_allclose(get(again), read[name], rtol=1e-12)


def test_expectation_is_gradient_of_log_normalizer(family, rng):
    q = moved(family.make(rng))
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(p.log_normalizer())))(q)
    expected, got = coordinates(gradient), coordinates(expectation(q))
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-9, atol=1e-10)


def test_kl_is_the_bregman_divergence_of_the_log_normalizer(family, rng):
    q, p = moved(family.make(rng)), family.make(rng)
    np.testing.assert_allclose(jnp.sum(kl(q, p)), bregman(q, p), rtol=1e-9)


def test_kl_is_never_negative_and_zero_at_itself(family, rng):
    for _ in range(5):
        q, p = family.make(rng), family.make(rng)
        assert (kl(q, p) >= 0).all()
        np.testing.assert_allclose(kl(q, q), 0.0, atol=1e-12)
        nearby = kl(add(q, scaled(q, 1e-8)), q)
        assert (nearby > -1e-14).all()
        assert (nearby < 1e-12).all()


def test_terms_add_up_to_the_divergence(family, rng):
    q, first, second = (family.make(rng) for _ in range(3))
    expected = [bregman(q, p) for p in (first, second)]
    rows, each = terms(q, first, second)
    np.testing.assert_allclose(rows, expected, rtol=1e-9)
    assert each.shape == kl(q, first).shape
    np.testing.assert_allclose(jnp.sum(each), expected[0], rtol=1e-9)


def test_log_ratio_is_the_difference_of_log_normalizers(family, rng):
    q, p = moved(family.make(rng)), about(family.make(rng), moved(family.make(rng)))
    p = about(p, q)
    difference = jnp.sum(log_normalizer(q) - log_normalizer(p))
    np.testing.assert_allclose(log_ratio(q, p), difference, rtol=1e-9, atol=1e-9)


def test_gauge_changes_nothing(family, rng, key):
    q, p = family.make(rng), family.make(rng)
    r = moved(q)
    value = draw(q, key)
    pairs = [
        (kl(q, p), kl(r, p)),
        (kl(p, q), kl(p, r)),
        (entropy(q), entropy(r)),
        (log_prob(q, value), log_prob(r, value)),
        (mode(q), mode(r)),
        (family.point(point(q)), family.point(point(r))),
        (kl(add(q, p), p), kl(add(p, r), p)),
        (dot(q, p), dot(q, moved(p))),
        (cross_entropy(q, p), cross_entropy(r, p)),
    ]
    for a, b in pairs:
        leaves_close(a, b, rtol=1e-9, atol=1e-11)
    for name, get in family.standard.items():
        np.testing.assert_allclose(get(r), get(q), rtol=1e-9, atol=1e-11, err_msg=name)


def test_log_prob_is_scipys(family, rng, key):
    q = family.make(rng)
    value = draw(q, key)
    exact = [family.log_prob(value, i, q) for i in range(3)]
    exact = sum(exact) if family.total else exact
    np.testing.assert_allclose(log_prob(q, value), exact, rtol=1e-9)


def test_log_kernel_is_log_prob_without_the_base_measure(family, rng, key):
    q = family.make(rng)
    moments = point(q)
    value, at_point = family.point(moments), expected_log_prob(q, moments)
    difference = at_point - log_kernel(q, moments)
    np.testing.assert_allclose(difference, family.log_base(value), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(at_point, log_prob(q, value), rtol=1e-9)


def test_kernel_gap_is_how_far_a_point_lies_below_the_maximum(family, rng):
    q, p = family.make(rng), moved(family.make(rng))
    gap = log_kernel(q, point(q)) - log_kernel(q, point(p))
    np.testing.assert_allclose(kernel_gap(q, point(p)), gap, rtol=1e-9)
    np.testing.assert_allclose(kernel_gap(q, point(q)), 0.0, atol=1e-12)


def test_draws_have_the_expected_statistics(family, rng, key):
    """The score has mean zero, which ties draws, density and normaliser together."""
    q = family.make(rng)
    draws = draw(q, key, (NUM_DRAWS,))

    def density(p, value):
        return jnp.sum(p.log_prob(value))

    scores = jax.jit(jax.vmap(jax.grad(density), in_axes=(None, 0)))(q, draws)
    for name, score in coordinates(scores).items():
        error = score.std(0) / np.sqrt(NUM_DRAWS)
        assert (np.abs(score.mean(0)) <= 5 * error + 1e-12).all(), name


def test_entropy_is_minus_expected_log_prob(family, rng, key):
    q = family.make(rng)
    np.testing.assert_allclose(entropy(q), cross_entropy(q, q), rtol=1e-9)
    log_p = log_prob(q, draw(q, key, (NUM_DRAWS,)))
    error = log_p.std(0) / np.sqrt(NUM_DRAWS)
    assert (np.abs(entropy(q) + log_p.mean(0)) < 5 * error).all()


def test_means_and_spreads_are_those_of_draws(family, rng, key):
    q = family.make(rng)
    draws = draw(q, key, (NUM_DRAWS,))
    for path, read in family.summaries.items():
        value = read(draws)
        error = value.std(0) / np.sqrt(NUM_DRAWS)
        assert (np.abs(accessor(q, path) - value.mean(0)) < 5 * error + 1e-12).all(), path
    for path, read in SPREADS[family.name].items():
        spread = read(draws).std(0)
        np.testing.assert_allclose(accessor(q, path), spread, rtol=0.1, err_msg=path)


def test_mode_and_point_are_stationary(family, rng):
    q = family.make(rng)
    if family.on_simplex is True:
        q = q.map(lambda a: a + 1.0)  # every conc above 1

    def tangent(gradient, value, on_simplex):
        if on_simplex:  # moves that keep the sum, in logits
            return value * (gradient - jnp.sum(value * gradient, -1, keepdims=True))
        return gradient

    slope = jax.jit(jax.grad(lambda value: jnp.sum(q.log_prob(value))))
    base_slope = jax.jit(jax.grad(lambda value: jnp.sum(family.log_base(value))))
    at_mode, at_point = mode(q), family.point(point(q))
    of_kernel = jax.tree.map(jnp.subtract, slope(at_point), base_slope(at_point))
    for value, gradient in (at_mode, slope(at_mode)), (at_point, of_kernel):
        trees = gradient, value, jax.tree.broadcast(family.on_simplex, value)
        for leaves in zip(*map(jax.tree.leaves, trees), strict=True):
            np.testing.assert_allclose(tangent(*leaves), 0.0, atol=1e-9)


def test_point_has_the_mean_for_its_value(family, rng):
    q = family.make(rng)
    value = family.point(point(q))
    for path, read in family.summaries.items():
        if path.rpartition(".")[2] in ("mean", "precision"):
            np.testing.assert_allclose(read(value), accessor(q, path), rtol=1e-9)


def test_vector_space(family, rng):
    p, q, r = family.make(rng), family.make(rng), family.make(rng)
    leaves_close(coordinates((p + q) - q.about(p)), coordinates(p), rtol=1e-9, atol=1e-9)
    leaves_close(
        coordinates((p + q) + r), coordinates((p + (q + r)).about(p)), rtol=1e-9, atol=1e-9
    )
    leaves_close(coordinates(p.lerp(q, 0.0)), coordinates(p), rtol=1e-12)
    leaves_close(coordinates(p.lerp(q, 1.0).about(q)), coordinates(q), rtol=1e-9, atol=1e-9)
    leaves_close(coordinates(p + p), coordinates(p * 2.0), rtol=1e-12)
    stack = jax.tree.map(lambda *a: jnp.stack(a), p, q.about(p), r.about(p))
    total = functools.reduce(lambda a, b: a + b, (p, q, r))
    leaves_close(coordinates(stack.sum()), coordinates(total), rtol=1e-9, atol=1e-9)


def test_psum_adds_like_sum(family, rng):
    p = family.make(rng)
    q = family.make(rng).about(p)
    stack = jax.tree.map(lambda *a: jnp.stack(a), p, q)
    summed = jax.vmap(lambda a: a.psum("i"), axis_name="i")(stack)
    leaves_close(jax.tree.map(lambda a: a[0], coordinates(summed)), coordinates(p + q), rtol=1e-12)


def test_batch_axes_are_free(family, rng):
    """vmap over members is the batch, so no axis is confused with another."""
    q, p = family.make(rng), family.make(rng)
    each = jax.jit(jax.vmap(values))(q, p)
    together = [kl(q, p), entropy(q), log_normalizer(q), cross_entropy(q, p)]
    for one, all_at_once in zip(each, together, strict=True):
        leaves_close(jnp.sum(one) if family.total else one, all_at_once, rtol=1e-12)


def values(q, p):
    return q.kl(p), q.entropy(), q.log_normalizer(), cross_entropy(q, p)


def test_gradients_are_finite(family, rng):
    q, p = family.make(rng), family.make(rng)
    slope = jax.jit(jax.grad(lambda q, p: sum(jnp.sum(v) for v in values(q, p)), (0, 1)))
    for gradient in slope(q, p), slope(q, q):
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@jax.jit
def ratio_and_slope(q, p):
    """A(q) - A(p), and its gradient in q."""
    return jax.value_and_grad(lambda q: q.log_ratio(p))(q)


@pytest.mark.parametrize("factor", [1.0, 1e3, 1e6])
def test_float32_keeps_kl_and_log_ratio_at_large_counts(family, rng, factor):
    """Against the same function in float64, on the same float32-rounded numbers."""
    prior = family.make(rng)
    post = add(scaled(family.make(rng), factor), prior)
    low = jax.tree.map(lambda a: a.astype(jnp.float32), (post, prior))
    high = jax.tree.map(lambda a: a.astype(jnp.float64), low)
    for fn in (kl, lambda q, p: entropy(q)):
        exact, got = jnp.sum(fn(*high)), jnp.sum(fn(*low))
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-3)
    # as exact as its arguments are: the ratio may cancel, their rounding does not
    exact, slope = ratio_and_slope(*high)
    leaves = zip(jax.tree.leaves(high[0]), jax.tree.leaves(slope), strict=True)
    size = sum(float(jnp.sum(jnp.abs(a * b))) for a, b in leaves)
    tolerance = 10 * float(np.finfo(np.float32).eps) * size
    assert abs(float(log_ratio(*low)) - float(exact)) <= tolerance


def test_float32_evidence_of_few_rows_on_many(family, rng):
    """A(q + s) - A(q) for small s: plain float32 gammaln is off by 0.4 at 1e6."""
    q = scaled(family.make(rng), 1e6)
    step = about(family.make(rng), q)
    low = jax.tree.map(lambda a: a.astype(jnp.float32), (add(q, step), q))
    high = jax.tree.map(lambda a: a.astype(jnp.float64), low)
    np.testing.assert_allclose(log_ratio(*low), log_ratio(*high), rtol=1e-5, atol=1e-4)
