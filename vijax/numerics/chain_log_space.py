"""Forward-backward with logs: slower than with probabilities, and exact whatever underflows.

Steps lead, states are last, and every vector of logs is normalised, so that float32 keeps its
digits however long the chain. The recursions are those of `chain_scaled`.
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
    top = jnp.max(a, axis, keepdims=True)
    top = lax.stop_gradient(jnp.where(top == -jnp.inf, 0.0, top))
    total = jnp.sum(jnp.exp(a - top), axis)
    some = total != 0
    log_total = jnp.log(jnp.where(some, total, 1.0)) + jnp.squeeze(top, axis)
    return jnp.where(some, log_total, -jnp.inf)


def log_filtered(
    log_initial: Float[Array, "k"],
    log_transition: Float[Array, "k k"],
    log_lik: Float[Array, "n t k"],
    exists: Bool[Array, "n t"],
) -> tuple[Float[Array, "t n k"], Float[Array, "n"]]:
    """log p(z_t | x_1, .., x_t) and log_z; both -inf from where no path is possible."""
    n, _, k = log_lik.shape
    zero = jnp.zeros(n, log_lik.dtype)

    @jax.checkpoint
    def step(carry: Any, step: Any) -> Any:
        (predicted, total, lost, possible), (log_lik, exists) = carry, step
        joint = predicted + jnp.where(exists[:, None], log_lik, 0.0)
        log_scale = log_sum_exp(joint, -1)
        none = log_scale == -jnp.inf
        log_scale = jnp.where(none, 0.0, log_scale)
        term = jnp.where(exists, log_scale, 0.0)
        lost = lost + lax.stop_gradient(rounding_error(total, term))
        joint = joint - log_scale[:, None]
        predicted = log_sum_exp(joint[:, :, None] + log_transition, 1)
        return (predicted, total + term, lost, possible & ~(exists & none)), joint

    begin = jnp.broadcast_to(log_initial, (n, k)), zero, zero, jnp.ones(n, bool)
    each = jnp.moveaxis(log_lik, 1, 0), exists.T
    (_, total, lost, possible), log_p = lax.scan(step, begin, each)
    return log_p, jnp.where(possible, total + lost, -jnp.inf)


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
        log_scale = log_sum_exp(log_p + future, -1)
        log_scale = jnp.where(log_scale == -jnp.inf, 0.0, log_scale)[:, None]
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
