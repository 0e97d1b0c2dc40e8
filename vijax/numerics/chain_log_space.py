"""Forward-backward with logs: slower than with probabilities, and exact whatever underflows.

Steps lead, states are last, and all vectors of logs are shifted to about 0, so that float32 keeps
its digits however long the chain. The recursions are those of `chain_scaled`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .compensated import rounding_error


def log_sum_exp(a: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """log sum exp(a); -inf with a gradient of 0 where all of them are -inf."""
    top = lax.stop_gradient(_finite(jnp.max(a, axis, keepdims=True)))
    total = jnp.sum(jnp.exp(a - top), axis)
    some = total != 0
    log_total = jnp.log(jnp.where(some, total, 1.0)) + jnp.squeeze(top, axis)
    return jnp.where(some, log_total, -jnp.inf)


def _finite(log_scale: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(log_scale == -jnp.inf, 0.0, log_scale)


def log_filtered(
    log_initial: Float[Array, "k"],
    log_transition: Float[Array, "k k"],
    log_lik: Float[Array, "n t k"],
    exists: Bool[Array, "n t"],
) -> tuple[Float[Array, "t n k"], Float[Array, "n"]]:
    """log p(z_t | x_1, .., x_t) up to a constant for each step, and log_z.

    Where no path is possible, both are -inf. Steps that do not exist have the log 0 of a factor.
    """
    n, t, k = log_lik.shape
    count = jnp.sum(exists, 1, dtype=jnp.int32)
    zero = jnp.zeros(n, log_lik.dtype)

    @jax.checkpoint
    def joint(predicted: Array, log_transition: Array, log_lik: Array, i: Array) -> Any:
        log_p = predicted + jnp.where((i < count)[:, None], log_lik, 0.0)
        shift = lax.stop_gradient(_finite(jnp.max(log_p, -1)))
        log_p = log_p - shift[:, None]
        return log_sum_exp(log_p[:, :, None] + log_transition, 1), log_p, shift

    def step(carry: Any, i: Array) -> Any:
        predicted, total, lost = carry
        now = lax.dynamic_index_in_dim(log_lik, i, 1, False)
        predicted, log_p, shift = joint(predicted, log_transition, now, i)
        term = jnp.where(i < count, shift, 0.0)
        return (predicted, total + term, lost + rounding_error(total, term)), log_p

    begin = jnp.broadcast_to(log_initial, (n, k)), zero, zero
    (_, total, lost), log_p = lax.scan(step, begin, jnp.arange(t, dtype=jnp.int32))
    last = jnp.take_along_axis(log_p, jnp.maximum(count - 1, 0)[None, :, None], 0)[0]
    rest = jnp.where(count > 0, log_sum_exp(last, -1), 0.0)
    return log_p, total + (lost + rest)


def log_space(
    log_initial: Float[Array, "k"],
    log_transition: Float[Array, "k k"],
    log_lik: Float[Array, "n t k"],
    exists: Bool[Array, "n t"],
    weight: Float[Array, "n"],
) -> tuple[Float[Array, "n t k"], Float[Array, "k k"], Float[Array, "n"]]:
    """resp, pairs and log_z of `Smoothed`."""
    log_p, log_z = log_filtered(log_initial, log_transition, log_lik, exists)
    n, t, k = log_lik.shape
    count = jnp.sum(exists, 1, dtype=jnp.int32)

    @jax.checkpoint
    def sums(ahead: Array, log_transition: Array, log_p: Array, log_lik: Array, i: Array) -> Any:
        here, last = (i < count)[:, None], (i >= count - 1)[:, None]
        both = log_transition + ahead[:, None]
        future = jnp.where(last, 0.0, log_sum_exp(both, -1))
        log_scale = _finite(log_sum_exp(log_p + future, -1))[:, None]
        resp = jnp.where(here, jnp.exp(log_p + future - log_scale), 0.0)
        pair = jnp.exp((log_p - log_scale)[:, :, None] + both) * weight[:, None, None]
        pair = jnp.sum(jnp.where(last[:, None], 0.0, pair), 0)
        return jnp.where(here, log_lik, 0.0) + future - log_scale, pair, resp

    def step(carry: Any, step: Any) -> Any:
        (ahead, pairs, lost, resp), (i, log_p) = carry, step
        now = lax.dynamic_index_in_dim(log_lik, i, 1, False)
        ahead, pair, now = sums(ahead, log_transition, log_p, now, i)
        lost = lost + lax.stop_gradient(rounding_error(pairs, pair))
        resp = lax.dynamic_update_index_in_dim(resp, now, i, 1)
        return (ahead, pairs + pair, lost, resp), None

    none = jnp.zeros_like(log_transition)
    begin = jnp.zeros((n, k), none.dtype), none, none, jnp.zeros_like(log_lik)
    each = jnp.arange(t, dtype=jnp.int32), log_p
    (_, pairs, lost, resp), _ = lax.scan(step, begin, each, reverse=True)
    return resp, pairs + lost, log_z
