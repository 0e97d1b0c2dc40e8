"""Laws of every family: one row in `table.FAMILIES` buys all of them."""

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
            out.update(coordinates(value))
        elif not field.metadata.get("gauge"):
            out[field.name] = value
        return value

    map_fields(tree, leaf)
    return out


def inner(a, b):
    a, b = coordinates(a), coordinates(b)
    return sum(jnp.sum(a[name] * b[name]) for name in a)


def bregman(q, p):
    """A(p) - A(q) - <E_q[T], p - q>."""
    p = p.about(q)
    return jnp.sum(p.log_normalizer() - q.log_normalizer()) - inner(q.expectation(), p - q)


def moved(q):
    """The same member in another gauge, where it has one."""
    if not hasattr(q, "origin"):
        return q
    like = vx.Normal(q.origin, q.origin, q.origin + 3.7)
    return q.about(like)


def test_standard_parameters_round_trip(family, rng):
    q = family.make(rng)
    read = {name: get(q) for name, get in family.standard.items()}
    again = type(q).from_standard(**read)
    for name, get in family.standard.items():
        np.testing.assert_allclose(get(again), read[name], rtol=1e-12)


def test_expectation_is_gradient_of_log_normalizer(family, rng):
    q = moved(family.make(rng))
    gradient = jax.grad(lambda p: jnp.sum(p.log_normalizer()))(q)
    expected, got = coordinates(gradient), coordinates(q.expectation())
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-9, atol=1e-10)


def test_kl_is_the_bregman_divergence_of_the_log_normalizer(family, rng):
    q, p = moved(family.make(rng)), family.make(rng)
    np.testing.assert_allclose(jnp.sum(q.kl(p)), bregman(q, p), rtol=1e-9)


def test_kl_is_never_negative_and_zero_at_itself(family, rng):
    for _ in range(5):
        q, p = family.make(rng), family.make(rng)
        assert (q.kl(p) >= 0).all()
        np.testing.assert_allclose(q.kl(q), 0.0, atol=1e-12)
        nearby = q + q * 1e-8
        assert (nearby.kl(q) > -1e-14).all()
        assert (nearby.kl(q) < 1e-12).all()


def test_terms_add_up_to_the_divergence(family, rng):
    q, first, second = (family.make(rng) for _ in range(3))
    expected = [bregman(q, p) for p in (first, second)]
    rows = divergences(q, first, second).total_by_product()
    np.testing.assert_allclose(rows, expected, rtol=1e-9)
    each = q.kl_terms(first).total()
    assert each.shape == q.kl(first).shape
    np.testing.assert_allclose(jnp.sum(each), expected[0], rtol=1e-9)


def test_log_ratio_is_the_difference_of_log_normalizers(family, rng):
    q, p = moved(family.make(rng)), family.make(rng).about(moved(family.make(rng)))
    p = p.about(q)
    difference = jnp.sum(q.log_normalizer() - p.log_normalizer())
    np.testing.assert_allclose(q.log_ratio(p), difference, rtol=1e-9, atol=1e-9)


def test_gauge_changes_nothing(family, rng, key):
    q, p = family.make(rng), family.make(rng)
    r = moved(q)
    value = q.sample(key)
    pairs = [
        (q.kl(p), r.kl(p)),
        (p.kl(q), p.kl(r)),
        (q.entropy(), r.entropy()),
        (q.log_prob(value), r.log_prob(value)),
        (q.mode(), r.mode()),
        (family.point(q.point()), family.point(r.point())),
        ((q + p).kl(p), (p + r).kl(p)),
        (q.expected_log_prob(p.moments()), r.expected_log_prob(p.moments())),
    ]
    for a, b in pairs:
        leaves_close(a, b, rtol=1e-9, atol=1e-11)
    for name, get in family.standard.items():
        np.testing.assert_allclose(get(r), get(q), rtol=1e-9, atol=1e-11, err_msg=name)


def test_log_prob_is_scipys(family, rng, key):
    q = family.make(rng)
    value = q.sample(key)
    got = q.log_prob(value)
    for i in range(3):
        np.testing.assert_allclose(got[i], family.log_prob(value, i, q), rtol=1e-9)


def test_log_kernel_is_log_prob_without_the_base_measure(family, rng, key):
    q = family.make(rng)
    moments = q.point()
    value = family.point(moments)
    difference = q.expected_log_prob(moments) - q.log_kernel(moments)
    np.testing.assert_allclose(difference, family.log_base(value), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(q.expected_log_prob(moments), q.log_prob(value), rtol=1e-9)


def test_kernel_gap_is_how_far_a_point_lies_below_the_maximum(family, rng):
    q, p = family.make(rng), moved(family.make(rng))
    point = p.point()
    gap = q.log_kernel(q.point()) - q.log_kernel(point)
    np.testing.assert_allclose(q.kernel_gap(point), gap, rtol=1e-9)
    np.testing.assert_allclose(q.kernel_gap(q.point()), 0.0, atol=1e-12)


def test_draws_have_the_expected_statistics(family, rng, key):
    """The score has mean zero, which ties draws, density and normaliser together."""
    q = family.make(rng)
    draws = q.sample(key, (NUM_DRAWS,))

    def density(p, value):
        return jnp.sum(p.log_prob(value))

    scores = jax.jit(jax.vmap(jax.grad(density), in_axes=(None, 0)))(q, draws)
    for name, score in coordinates(scores).items():
        error = score.std(0) / np.sqrt(NUM_DRAWS)
        assert (np.abs(score.mean(0)) <= 5 * error + 1e-12).all(), name


def test_entropy_is_minus_expected_log_prob(family, rng, key):
    q = family.make(rng)
    np.testing.assert_allclose(q.entropy(), -q.expected_log_prob(q.moments()), rtol=1e-9)
    log_p = q.log_prob(q.sample(key, (NUM_DRAWS,)))
    error = log_p.std(0) / np.sqrt(NUM_DRAWS)
    assert (np.abs(q.entropy() + log_p.mean(0)) < 5 * error).all()


def test_means_and_spreads_are_those_of_draws(family, rng, key):
    q = family.make(rng)
    draws = q.sample(key, (NUM_DRAWS,))
    for path, read in family.summaries.items():
        value = read(draws)
        error = value.std(0) / np.sqrt(NUM_DRAWS)
        assert (np.abs(accessor(q, path) - value.mean(0)) < 5 * error + 1e-12).all(), path
    for path, read in SPREADS[family.name].items():
        spread = read(draws).std(0)
        np.testing.assert_allclose(accessor(q, path), spread, rtol=0.1, err_msg=path)


def test_mode_and_point_are_stationary(family, rng):
    q = family.make(rng)
    if family.on_simplex:
        q = q.map(lambda a: a + 1.0)  # every conc above 1

    def tangent(gradient, value):
        if family.on_simplex:  # moves that keep the sum, in logits
            return value * (gradient - jnp.sum(value * gradient, -1, keepdims=True))
        return gradient

    def log_prob(value):
        return jnp.sum(q.log_prob(value))

    def log_kernel(value):
        return log_prob(value) - jnp.sum(family.log_base(value))

    for fn, value in ((log_prob, q.mode()), (log_kernel, family.point(q.point()))):
        for slope, at in zip(*map(jax.tree.leaves, (jax.grad(fn)(value), value)), strict=True):
            np.testing.assert_allclose(tangent(slope, at), 0.0, atol=1e-9)


def test_point_has_the_mean_for_its_value(family, rng):
    q = family.make(rng)
    value = family.point(q.point())
    for path in {"mean", "precision"} & set(family.summaries):
        np.testing.assert_allclose(family.summaries[path](value), accessor(q, path), rtol=1e-9)


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
    for fn in (
        lambda a, b: a.kl(b),
        lambda a, b: a.entropy(),
        lambda a, b: a.log_normalizer(),
        lambda a, b: a.expected_log_prob(b.moments()),
    ):
        leaves_close(jax.vmap(fn)(q, p), fn(q, p), rtol=1e-12)


def test_gradients_are_finite(family, rng):
    q, p = family.make(rng), family.make(rng)

    def everything(q, p):
        values = (q.kl(p), q.entropy(), q.log_normalizer(), q.expected_log_prob(p.moments()))
        return sum(jnp.sum(v) for v in values)

    for gradient in jax.grad(everything, (0, 1))(q, p), jax.grad(everything, (0, 1))(q, q):
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def _scaled(q, factor):
    """A member with `factor` times the counts."""
    return q * factor


@pytest.mark.parametrize("factor", [1.0, 1e3, 1e6])
def test_float32_keeps_kl_and_log_ratio_at_large_counts(family, rng, factor):
    """Against the same function in float64, on the same float32-rounded numbers."""
    prior = family.make(rng)
    post = family.make(rng) * factor + prior
    low = jax.tree.map(lambda a: a.astype(jnp.float32), (post, prior))
    high = jax.tree.map(lambda a: a.astype(jnp.float64), low)
    for fn in (lambda q, p: jnp.sum(q.kl(p)), lambda q, p: jnp.sum(q.entropy())):
        exact, got = fn(*high), fn(*low)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-3)
    # as exact as its arguments are: the ratio may cancel, their rounding does not
    exact, slope = jax.value_and_grad(lambda q: jnp.sum(q.log_ratio(high[1])))(high[0])
    leaves = zip(jax.tree.leaves(high[0]), jax.tree.leaves(slope), strict=True)
    terms = sum(float(jnp.sum(jnp.abs(a * b))) for a, b in leaves)
    tolerance = 10 * float(np.finfo(np.float32).eps) * terms
    assert abs(float(jnp.sum(low[0].log_ratio(low[1]))) - float(exact)) <= tolerance


def test_float32_evidence_of_few_rows_on_many(family, rng):
    """A(q + s) - A(q) for small s: plain float32 gammaln is off by 0.4 at 1e6."""
    q = family.make(rng) * 1e6
    step = family.make(rng).about(q)
    low = jax.tree.map(lambda a: a.astype(jnp.float32), (q + step, q))
    high = jax.tree.map(lambda a: a.astype(jnp.float64), low)
    exact = high[0].log_ratio(high[1])
    np.testing.assert_allclose(low[0].log_ratio(low[1]), exact, rtol=1e-5, atol=1e-4)
