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

    @jax.checkpoint
    def step(carry: Any, step: Any) -> Any:
        (ahead, pairs), (log_p, log_lik, exists, last) = carry, step
        # log p(z_t = i | x_1, .., x_t) A_ij ahead_{t+1, j}
        both = log_p[:, :, None] + (log_transition + ahead[:, None])
        future = log_sum_exp(log_transition + ahead[:, None], -1)
        future = jnp.where(last[:, None], 0.0, future)
        log_scale = log_sum_exp(log_p + future, -1)
        log_scale = jnp.where(log_scale == -jnp.inf, 0.0, log_scale)[:, None]
        resp = jnp.where(exists[:, None], jnp.exp(log_p + future - log_scale), 0.0)
        pair = jnp.where(last[:, None, None], 0.0, jnp.exp(both - log_scale[..., None]))
        pairs = pairs + jnp.sum(pair * weight[:, None, None], 0)
        log_lik = jnp.where(exists[:, None], log_lik, 0.0)
        return (log_lik + future - log_scale, pairs), resp

    last = ~jnp.pad(exists[:, 1:], ((0, 0), (0, 1)))
    begin = jnp.zeros_like(log_p[0]), jnp.zeros_like(log_transition)
    each = log_p, jnp.moveaxis(log_lik, 1, 0), exists.T, last.T
    (_, pairs), resp = lax.scan(step, begin, each, reverse=True)
    return jnp.moveaxis(resp, 0, 1), pairs, log_z
