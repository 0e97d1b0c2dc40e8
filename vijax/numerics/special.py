"""Special functions whose differences keep their digits at large counts, in float32 too.

`gammaln` is off by 0.4 at 1e6 in float32, so nothing here subtracts two of its values: the main
terms of Stirling's formula are cancelled on paper, and only small remainders are computed.
Functions of a shape a > 0 are off by at most 1e-5 of their value or 3e-7 in float32, 1e-9 or 1e-12
in float64 (tests/test_special.py).
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

LOG_2PI = math.log(2.0 * math.pi)
_NEAR = 0.2  # a series is used for relative differences up to this


def _series(z: Float[Array, "*b"], coefficients: tuple[float, ...]) -> Float[Array, "*b"]:
    total = jnp.full_like(z, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * z + c
    return total


def stirling_error(a: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """log Gamma(a) - [(a - 1/2) log a - a + log(2 pi) / 2], for a > 0 (DLMF 5.11.1)."""
    # B_2j / (2j (2j - 1))
    terms = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
    m, small, low, inverse = _shift(a)
    rising = math.prod([low + j for j in range(1, m)], start=jnp.ones_like(low))
    climb = (low + 0.5) * jnp.log1p(m / low) - m - jnp.log(rising / (low + m) ** (m - 1))
    return _series(inverse * inverse, terms) * inverse + jnp.where(small, climb, 0.0)


def digamma_gap(a: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """log(a) - digamma(a), for a > 0; about 1 / (2 a) for large a (DLMF 5.11.2)."""
    # B_2j / 2j
    terms = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
    m, small, low, inverse = _shift(a)
    climb = _sum_of_inverses([low + j for j in range(m)]) - jnp.log1p(m / low)
    series = (_series(inverse * inverse, terms) * inverse + 0.5) * inverse
    return series + jnp.where(small, climb, 0.0)


def exp_digamma(a: Float[Array, "*b"]) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """y and e with exp(digamma(a)) = y exp(e), for 0 < a < 1e12, without a logarithm.

    digamma(a) = log(y) + series(1 / y^2) - sum_{j < m} 1 / (a + j) with y = a + m - 1/2, which is
    DLMF 5.11.2 about the middle of an interval, after m steps of the recurrence.
    """
    # (1 - 2^(1 - 2j)) B_2j / 2j
    terms = (1 / 24, -7 / 960, 31 / 8064, -127 / 30720, 511 / 67584, -1414477 / 67092480)
    m = 3
    if jnp.finfo(a.dtype).bits > 32:
        m, terms = 8, (*terms, 8191 / 98304, -118518239 / 267386880)
    y = a + (m - 0.5)
    inverse = 1.0 / (y * y)
    return y, _series(inverse, terms) * inverse - _sum_of_inverses([a + j for j in range(m)])


def trigamma_gap(a: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """trigamma(a) - 1 / a, for a > 0; about 1 / (2 a^2) for large a (DLMF 5.15.8)."""
    # B_2j
    terms = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
    m, small, low, inverse = _shift(a)
    climb = _sum_of_inverses([(low + j) ** 2 * (low + (j + 1)) for j in range(m)])
    square = inverse * inverse
    series = (_series(square, terms) * inverse + 0.5) * square
    return series + jnp.where(small, climb, 0.0)


def _shift(
    a: Float[Array, "*b"],
) -> tuple[int, Bool[Array, "*b"], Float[Array, "*b"], Float[Array, "*b"]]:
    """What the functions above need to move a small `a` to where their series are accurate.

    In order: m, from which on the series have full accuracy; whether a < m; `a` where it is, else
    1; and the inverse of the argument of the series, a + m where a < m and a elsewhere.
    """
    m = 3 if jnp.finfo(a.dtype).bits <= 32 else 8
    small = a < m
    return m, small, jnp.where(small, a, 1.0), 1.0 / jnp.where(small, a + m, a)


def _sum_of_inverses(values: list[Array]) -> Array:
    """sum_i 1 / values_i with one division and no extra axis, so that XLA fuses it."""
    top, bottom = jnp.ones_like(values[0]), values[0]
    for value in values[1:]:
        top, bottom = top * value + bottom, bottom * value
    return top / bottom


def excess(u: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """u - 1 - log(u) >= 0, for u > 0, with full relative accuracy at u = 1."""
    v = u - 1.0
    s = v / (2.0 + v)  # log(u) = 2 atanh(s), and v - 2 s = s v
    near = s * (v - 2.0 * s * s * _atanh_rest(s))
    close = jnp.abs(v) < _NEAR
    return jnp.where(close, near, v - jnp.log(jnp.where(close, 1.0, u)))


def log_ratio(a: Float[Array, "*b"], a0: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """log(a / a0), for a, a0 > 0, with full relative accuracy where they are close."""
    step = a - a0
    close = jnp.abs(step) < _NEAR * a0
    s = jnp.where(close, step, 0.0) / (a + a0)
    near = 2.0 * (s + s * s * s * _atanh_rest(s))
    return jnp.where(close, near, jnp.log(jnp.where(close, 1.0, a / a0)))


def _atanh_rest(s: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """(atanh(s) / s - 1) / s^2, for |s| < 0.12."""
    return _series(s * s, (1 / 3, 1 / 5, 1 / 7, 1 / 9, 1 / 11, 1 / 13, 1 / 15, 1 / 17))


def shape_gap(a: Float[Array, "*b"], a0: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """KL(Gamma(a, .) || Gamma(a0, .)) >= 0 of two Gammas with the same mean, in nats.

    Equal to log Gamma(a0) - log Gamma(a) - digamma(a) (a0 - a) - a0 excess(a / a0). That is
    h(a0) - h(a) - h'(a) (a0 - a) for h(a) = log Gamma(a) - a log(a) + a. Where a and a0 are close
    the difference would be all rounding, and the integral of h'' is computed instead.
    """
    step = a0 - a
    # Gauss quadrature with one node and weight 1 - t has relative error (step / a)^2 / 6
    near = 0.5 * step**2 * trigamma_gap(a + step / 3.0)
    far = 0.5 * log_ratio(a, a0) + step * digamma_gap(a) - stirling_error(a) + stirling_error(a0)
    return jnp.where(jnp.abs(step) < jnp.finfo(a.dtype).eps ** 0.25 * a, near, far)


def log_gamma_normalizer(shape: Float[Array, "*b"], rate: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """log Gamma(shape) - shape log(rate), without the cancellation between its two terms.

    Computed as shape log(shape / rate) - shape + (log(2 pi) - log(shape)) / 2 + stirling_error.
    """
    main = shape * jnp.log(shape / rate) - shape
    return main - 0.5 * jnp.log(shape) + 0.5 * LOG_2PI + stirling_error(shape)


def normalize(
    log_p: Float[Array, "n k"],
) -> tuple[Float[Array, "n k"], Float[Array, "n"]]:
    """exp(log_p) scaled to rows that sum to one, and the logs of the sums, from one exponential.

    A row of -inf becomes a row of 0 with the log -inf, not NaN.
    """
    p, total, log_z = exponentials(log_p, -1)
    return p / jnp.expand_dims(jnp.where(total > 0, total, 1.0), -1), log_z


def probabilities(log_p: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """As the first value of `normalize`, for rows of any size with a value above -inf.

    A program may compute log_p twice, and not round it alike; at 1e9 the last bit is many nats. So
    the largest is 1 before rows are scaled, whatever its difference from itself.
    """
    first = jnp.argmax(log_p, -1)[:, None] == jnp.arange(log_p.shape[1])[None]
    away = log_p - jnp.max(log_p, -1, keepdims=True)
    p = jnp.where(first, 1.0, jnp.exp(jnp.minimum(away, 0.0)))
    return p / jnp.sum(p, -1, keepdims=True)


def exponentials(
    log_p: Float[Array, "..."], axis: int
) -> tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]:
    """exp(log_p - c) with c the maximum along `axis`, its sum, and log sum exp(log_p)."""
    top = jnp.max(log_p, axis, keepdims=True)
    top = lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0.0))
    p = jnp.exp(log_p - top)
    total = jnp.sum(p, axis)
    return p, total, jnp.log(total) + jnp.squeeze(top, axis)


def xlogy(x: Float[Array, "..."], log_y: Float[Array, "..."]) -> Float[Array, "..."]:
    """x * log_y with 0 * (-inf) = 0, gradients included."""
    on = x != 0.0
    return jnp.where(on, x * jnp.where(on, log_y, 0.0), 0.0)


def log_gamma_ratio(a: Float[Array, "..."], step: Float[Array, "..."]) -> Float[Array, "..."]:
    """log Gamma(a + step) - log Gamma(a), for a > 0 and a + step > 0, accurate at large a too."""
    top = a + step
    main = (a - 0.5) * jnp.log1p(step / a) + step * (jnp.log(top) - 1.0)
    return main + stirling_error(top) - stirling_error(a)


def log_in_range(log_distance: Float[Array, "..."], d: int) -> Float[Array, "..."]:
    """log of a factor <= 1 by which a distance in d dimensions has a finite square.

    `log_distance` is the log of its largest component. The factor is 1 but for distances near the
    square root of the largest number.
    """
    largest = 0.5 * math.log(float(jnp.finfo(log_distance.dtype).max)) - 2.0 - math.log(d)
    return jnp.minimum(largest - log_distance, 0.0)


def log1p_square(
    square: Float[Array, "..."], dof: Float[Array, "..."], log_factor: Float[Array, "..."]
) -> Float[Array, "..."]:
    """log(1 + s^2 / dof) for a distance s, from the square of its product with a factor."""
    some = square > 0
    log_ratio = jnp.log(jnp.where(some, square, 1.0) / dof) - 2.0 * log_factor
    far = some & (log_ratio > 20.0)
    ratio = jnp.where(far, 0.0, square / dof) * jnp.exp(jnp.minimum(-2.0 * log_factor, 80.0))
    large = jnp.logaddexp(jnp.where(far, log_ratio, 0.0), 0.0)
    return jnp.where(far, large, jnp.log1p(ratio))


def log_student(
    square: Float[Array, "..."],
    log_det: Float[Array, "..."],
    dof: Float[Array, "..."],
    d: Float[Array, "..."] | float,
    log_factor: Float[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    """log St(x | m, S, dof) in nats in d dimensions (Bishop 2006, eq. B.68).

    `square` is (x - m)^T S^-1 (x - m), with x - m times a factor if its log is given, and `log_det`
    is log|S|.
    """
    half = 0.5 * jnp.asarray(d, square.dtype)
    constant = log_gamma_ratio(0.5 * dof, half) - half * (jnp.log(0.5 * dof) + LOG_2PI)
    tail = jnp.log1p(square / dof) if log_factor is None else log1p_square(square, dof, log_factor)
    return constant - 0.5 * log_det - (0.5 * dof + half) * tail
