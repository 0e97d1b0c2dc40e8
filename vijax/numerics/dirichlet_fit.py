"""The Dirichlet of highest likelihood, given the mean of log p (Minka 2000)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from . import special

_STEPS = 20  # of Newton, which doubles the digits in each; what is left, the next pass finds
_INVERSE_STEPS = 5
_MINUS_DIGAMMA_OF_1 = 0.5772156649015329


def fit_dirichlet(
    mean_log: Float[Array, "k"], start: Float[Array, "k"], on: Bool[Array, "k"]
) -> Float[Array, "k"]:
    """The concentrations that maximise E[log Dirichlet(p | conc)], from `start` > 0 upwards.

    `mean_log` is E[log p_k] < 0. The objective is concave; a step of Newton that does not raise it
    is replaced by one of Minka's fixed point, digamma(conc_k) = digamma(sum conc) + mean_log_k,
    which does. Entries that are not `on` stay 0.
    """
    log_p = jnp.where(on, mean_log, -1.0)

    def improve(_: Array, conc: Array) -> Array:
        slope = _masked(on, _digamma(_total(on, conc)) - _digamma(conc) + log_p)
        curvature, whole = _trigamma(conc), _trigamma(_total(on, conc))
        # -(Hessian) = diag(curvature) - whole 1 1^T
        common = _total(on, slope / curvature) / (1.0 / whole - _total(on, 1.0 / curvature))
        newton = jnp.maximum(conc + (slope + common) / curvature, 0.1 * conc)
        gain = _total(on, (newton - conc) * slope) - _divergence(on, conc, newton)
        fixed = _inverse_digamma(_digamma(_total(on, conc)) + log_p)
        # a comparison with NaN is false
        return jnp.where(gain >= 0, newton, fixed)

    conc = lax.fori_loop(0, _STEPS, improve, jnp.where(on, start, 1.0))
    return jnp.where(on, conc, 0.0)


def _masked(on: Bool[Array, "k"], value: Float[Array, "k"]) -> Float[Array, "k"]:
    return jnp.where(on, value, 0.0)


def _total(on: Bool[Array, "k"], value: Float[Array, "k"]) -> Float[Array, ""]:
    return jnp.sum(_masked(on, value))


def _divergence(
    on: Bool[Array, "k"], a: Float[Array, "k"], b: Float[Array, "k"]
) -> Float[Array, ""]:
    """KL(Dirichlet(a) || Dirichlet(b)) in nats."""
    whole_a, whole_b = _total(on, a), _total(on, b)
    each = b * special.excess((a / whole_a) / (b / whole_b)) + special.shape_gap(a, b)
    return _total(on, each) - special.shape_gap(whole_a, whole_b)


def _digamma(a: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.log(a) - special.digamma_gap(a)


def _trigamma(a: Float[Array, "..."]) -> Float[Array, "..."]:
    return special.trigamma_gap(a) + 1.0 / a


def _inverse_digamma(y: Float[Array, "k"]) -> Float[Array, "k"]:
    """The x with digamma(x) = y, by Newton's method from Minka's start."""
    small = y < -2.22
    near = -1.0 / jnp.where(small, y + _MINUS_DIGAMMA_OF_1, -1.0)
    x = jnp.where(small, near, jnp.exp(jnp.where(small, 0.0, y)) + 0.5)
    for _ in range(_INVERSE_STEPS):
        x = x - (_digamma(x) - y) / _trigamma(x)
    return x
