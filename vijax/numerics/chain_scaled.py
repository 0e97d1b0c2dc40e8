"""Forward-backward with probabilities, one scale per step, in blocks of time side by side.

Arrays of a step are (k, lanes), lanes last: a lane is one block of one sequence, and a step of all
lanes is one product with the transitions. XLA runs that several times faster than with k last.

With A the transitions and b_t = exp(log_lik_t) up to a scale, the recursions are

    predicted_t = A^T joint_{t-1} / sum,      joint_t = b_t predicted_t       (forward)
    future_t = A ahead_{t+1},                 ahead_t = b_t future_t / g_t    (backward)

with g_t = sum_k joint_t future_t, future_t = 1 at the last step of a sequence; then p(z_t | all) =
joint_t future_t / g_t and p(z_t, z_{t+1} | all) = joint_t A ahead_{t+1} / g_t, elementwise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float

from .compensated import rounding_error, twofold_sum
from .linalg import matmul

_ROUNDING = 64.0  # times eps: how closely the end of a block must agree with the start of the next
_WARM = 64  # steps from which the start of a block is guessed first; twice that in float64
_WRITTEN_OUT = 16  # states up to which a sum over them is written out, for XLA's sake


class Steps(NamedTuple):
    """The steps of all lanes, time leading."""

    lik: Float[Array, "s k lanes"]  # b_t; the largest of a step is 1
    shift: Float[Array, "s lanes"]  # log of the scale of b_t
    exists: Bool[Array, "s lanes"]
    last: Bool[Array, "s lanes"]  # the next step does not exist
    weight: Float[Array, "lanes"]
    first: Bool[Array, "lanes"]  # the block is the first of its sequence


class Swept(NamedTuple):
    """What one sweep forward and one back yields."""

    resp: Float[Array, "lanes s k"]
    pairs: Float[Array, "k k"]  # not yet times A
    log_z: tuple[Float[Array, "lanes"], Float[Array, "lanes"]]  # and the error of its additions
    predicted: Float[Array, "kplus lanes"]  # for the step after the block, and its sum
    ahead: Float[Array, "k lanes"]  # of the first step of the block
    highest: Float[Array, "k lanes"]  # the largest p(z_t | all) / joint_t


@custom_vmap
def everywhere(condition: Bool[Array, ""]) -> Bool[Array, ""]:
    """The condition; under vmap, whether it holds in all lanes, so that `lax.cond` still chooses."""
    return condition


@everywhere.def_vmap
def _everywhere(size: int, batched: Any, condition: Array) -> tuple[Array, bool]:
    del size, batched
    return everywhere(jnp.all(condition)), False


def scaled(
    log_initial: Float[Array, "k"],
    log_transition: Float[Array, "k k"],
    log_lik: Float[Array, "n t k"],
    exists: Bool[Array, "n t"],
    weight: Float[Array, "n"],
    block: int,
) -> tuple[Float[Array, "n t k"], Float[Array, "k k"], Float[Array, "n"], Bool[Array, ""]]:
    """resp, pairs and log_z of `Smoothed`, and whether no digit of them was lost to underflow."""
    n, t, k = log_lik.shape
    # a state is scaled by the likeliest way into it, so that one that is off never sets a scale
    entry = jnp.maximum(log_initial, jnp.max(log_transition, 0))
    on = entry > -jnp.inf
    safe = jnp.where(on, entry, 0.0)
    initial, transition = jnp.exp(log_initial - safe), jnp.exp(log_transition - safe)
    steps = _steps(jnp.where(on, entry, -jnp.inf), log_lik, exists, weight, block)
    lanes = steps.weight.shape[0]
    ones = jnp.ones((1, k), log_lik.dtype)
    forth, back = (jnp.concatenate([a, ones]) for a in (transition.T, transition))
    start = jnp.concatenate([initial, ones[0, :1]])[:, None]

    def sweep(predicted: Array, ahead: Array) -> Swept:
        return _sweep(forth, transition, steps, jnp.where(steps.first, start, predicted), ahead)

    if lanes == n:
        out = sweep(jnp.zeros((k + 1, n), log_lik.dtype), jnp.zeros((k, n), log_lik.dtype))
    else:
        guess = _guess(forth, back, steps)
        out = sweep(*guess)
        met = everywhere(_met(out, guess, steps))
        out = lax.cond(met, lambda: out, lambda: sweep(*_products(forth, start, steps, n)))
    resp = out.resp.reshape(n, -1, k)[:, :t]
    parts = jnp.concatenate([a.reshape(n, -1) for a in out.log_z], -1)
    total, lost = twofold_sum(parts)
    # a joint probability below `tiny` is taken for 0; that must be no digit of what it takes part in
    info = jnp.finfo(log_lik.dtype)
    kept = jnp.all(out.highest <= float(info.eps) / float(info.tiny) / 16.0)
    return resp, transition * out.pairs, total + lost, kept


def _steps(
    entry: Float[Array, "k"],
    log_lik: Float[Array, "n t k"],
    exists: Bool[Array, "n t"],
    weight: Float[Array, "n"],
    block: int,
) -> Steps:
    """Steps in lanes: each sequence is cut into blocks, filled up with steps that do not exist."""
    n, t, k = log_lik.shape
    count = -(-t // block)
    lanes, more = n * count, count * block - t
    # a value computed twice is not rounded alike, and at 1e9 the last bit is many nats
    log_lik = lax.optimization_barrier(jnp.where(exists[..., None], log_lik, 0.0))
    shift = jnp.max(log_lik + entry, -1)
    shift = lax.optimization_barrier(jnp.where(shift > -jnp.inf, shift, 0.0))
    lik = jnp.exp((log_lik - shift[..., None]) + entry)
    last = ~jnp.pad(exists[:, 1:], ((0, 0), (0, 1)))

    def lead(a: Array, fill: Any) -> Array:
        a = jnp.pad(a, [(0, 0), (0, more), *[(0, 0)] * (a.ndim - 2)], constant_values=fill)
        # in one go with what comes before and after it, XLA would vectorise neither
        return jnp.moveaxis(lax.optimization_barrier(a).reshape(lanes, block, *a.shape[2:]), 0, -1)

    lik = lax.optimization_barrier(lead(lik, 1.0))
    first = jnp.arange(lanes) % count == 0
    shift = jnp.where(exists, shift, 0.0)
    return Steps(
        lik,
        lead(shift, 0.0),
        lead(exists, False),
        lead(last, True),
        jnp.repeat(weight, count),
        first,
    )


def _sum_states(a: Float[Array, "k lanes"]) -> Float[Array, "lanes"]:
    k = a.shape[0]
    return sum((a[i] for i in range(1, k)), start=a[0]) if k <= _WRITTEN_OUT else jnp.sum(a, 0)


def _sweep(
    forth: Float[Array, "kplus k"],
    transition: Float[Array, "k k"],
    steps: Steps,
    predicted: Float[Array, "kplus lanes"],
    ahead: Float[Array, "k lanes"],
) -> Swept:
    """All lanes forward from `predicted` of their first step, and back from `ahead` of their end."""
    length, k, lanes = steps.lik.shape
    zero = jnp.zeros(lanes, steps.lik.dtype)

    def forward(carry: Any, step: Any) -> Any:
        (predicted, total, lost), (lik, shift, exists) = carry, step
        # values after the end mean nothing, and must be finite
        joint = jnp.where(exists, predicted[:k] * (lik / predicted[k]), 1.0)
        predicted = matmul(forth, joint)
        for term in (jnp.where(exists, jnp.log(predicted[k]), 0.0), shift):
            lost = lost + rounding_error(total, term)
            total = total + term
        return (predicted, total, lost), joint

    (predicted, *log_z), joint = lax.scan(
        forward, (predicted, zero, zero), (steps.lik, steps.shift, steps.exists)
    )

    def backward(carry: Any, step: Any) -> Any:
        ahead, pairs, lost, highest, resp = carry
        i, joint, lik, exists, last = step
        future = jnp.where(last, 1.0, matmul(transition, ahead))
        inverse = jnp.where(exists, 1.0 / _sum_states(joint * future), 0.0)
        ratio = future * inverse
        resp = lax.dynamic_update_index_in_dim(resp, (joint * ratio).T, i, 1)
        seen = jnp.where(last, 0.0, inverse * steps.weight)
        term = matmul(joint * seen, ahead.T)
        lost = lost + rounding_error(pairs, term)
        return (lik * ratio, pairs + term, lost, jnp.maximum(highest, ratio), resp), None

    none = jnp.zeros((k, k), zero.dtype)
    begin = ahead, none, none, jnp.zeros_like(ahead), jnp.zeros((lanes, length, k), zero.dtype)
    each = jnp.arange(length), joint, steps.lik, steps.exists, steps.last
    (ahead, pairs, lost, highest, resp), _ = lax.scan(backward, begin, each, reverse=True)
    return Swept(resp, pairs + lost, (log_z[0], log_z[1]), predicted, ahead, highest)


def _move(
    matrix: Float[Array, "kplus k"],
    predicted: Float[Array, "kplus m"],
    lik: Float[Array, "s k lanes"],
    exists: Bool[Array, "s lanes"],
) -> tuple[Float[Array, "k m"], Float[Array, "m"]]:
    """m / lanes vectors of each lane after steps in one direction, and logs of their scales.

    Scales are relative to the largest of the lane, so that their logs stay small and exact.
    """
    k, lanes = lik.shape[1:]

    def step(carry: Any, step: Any) -> Any:
        (predicted, log_scale), (lik, exists) = carry, step
        lik, exists = (jnp.tile(a, predicted.shape[1] // lanes) for a in (lik, exists))
        new = matmul(matrix, predicted[:k] * (lik / _positive(predicted[k])))
        top = jnp.max(new[k].reshape(-1, lanes), 0)
        ratio = (new[k].reshape(-1, lanes) / _positive(top)).ravel()
        log_scale = jnp.where(exists, log_scale + jnp.log(ratio), log_scale)
        return (jnp.where(exists, new, predicted), log_scale), None

    begin = predicted, jnp.zeros_like(predicted[0])
    (predicted, log_scale), _ = lax.scan(step, begin, (lik, exists))
    return predicted[:k] / _positive(predicted[k]), log_scale


def _positive(a: Float[Array, "*b"]) -> Float[Array, "*b"]:
    return jnp.where(a > 0, a, 1.0)


def _guess(
    forth: Float[Array, "kplus k"], back: Float[Array, "kplus k"], steps: Steps
) -> tuple[Float[Array, "kplus lanes"], Float[Array, "k lanes"]]:
    """`predicted` of the first step and `ahead` after the last, from a few steps over the edge."""
    length, k, lanes = steps.lik.shape
    few = min(length, _WARM * steps.lik.dtype.itemsize // 4)
    lik, exists = (jnp.stack([a[-few:], a[:few][::-1]]) for a in (steps.lik, steps.exists))
    exists = exists.at[1, -1].set(False)  # no transition of the block comes before its first step
    flat = jnp.ones((2, k + 1, lanes), steps.lik.dtype)
    (predicted, future), _ = jax.vmap(_move)(jnp.stack([forth, back]), flat, lik, exists)
    return _at_start(predicted), jnp.roll(steps.lik[0] * future, -1, -1)


def _at_start(predicted: Float[Array, "k lanes"]) -> Float[Array, "kplus lanes"]:
    """Of the first step of each block, from what the one before it predicts; with its scale, 1."""
    return jnp.roll(jnp.concatenate([predicted, jnp.ones_like(predicted[:1])]), 1, -1)


def _met(
    out: Swept, guess: tuple[Float[Array, "kplus lanes"], Float[Array, "k lanes"]], steps: Steps
) -> Bool[Array, ""]:
    """Whether blocks began where those beside them ended, by the weight of states in p(z | all)."""
    k = steps.lik.shape[1]
    guessed, ahead = guess[0][:k] / guess[0][k], jnp.roll(guess[1], 1, -1)
    predicted = _at_start(out.predicted[:k] / out.predicted[k])[:k]
    weight = jnp.sum(predicted * out.ahead, 0)
    error = jnp.sum(jnp.abs(predicted - guessed) * out.ahead, 0) / weight
    ahead = ahead / jnp.sum(predicted * ahead, 0)
    error = error + jnp.sum(jnp.abs(ahead - out.ahead / weight) * predicted, 0)
    met = error <= _ROUNDING * float(jnp.finfo(error.dtype).eps)
    return jnp.all(met | steps.first | ~steps.exists[0])


def _products(
    forth: Float[Array, "kplus k"], start: Float[Array, "kplus one"], steps: Steps, n: int
) -> tuple[Float[Array, "kplus lanes"], Float[Array, "k lanes"]]:
    """As `_guess`, exactly: from the products of all transitions of each block, one by one."""
    k, lanes = steps.lik.shape[1:]
    unit = jnp.repeat(jnp.eye(k, dtype=steps.lik.dtype), lanes, 1)
    unit = jnp.concatenate([unit, jnp.ones_like(unit[:1])])
    moved, log_scale = _move(forth, unit, steps.lik, steps.exists)

    def lead(a: Array) -> Array:  # blocks leading, states of the first step last but one
        return jnp.moveaxis(a.reshape(*a.shape[:-1], k, n, lanes // n), -1, 0)

    moved, log_scale = lead(moved), lead(log_scale)
    final = steps.last[-1].reshape(n, -1).T

    def both(carry: Any, i: Array) -> Any:
        (predicted, ahead), j = carry, moved.shape[0] - 1 - i
        share = log_scale[i] + jnp.log(predicted)
        share = jnp.exp(share - jnp.max(share, 0))
        share = share / jnp.sum(share, 0)
        new = jnp.sum(moved[i] * share, 1)
        scale = jnp.exp(log_scale[j] - jnp.max(log_scale[j], 0))
        back = scale * jnp.where(final[j], 1.0, jnp.sum(moved[j] * ahead[:, None], 0))
        return (new, back / jnp.max(back, 0)), (predicted, ahead)

    begin = jnp.broadcast_to(start[:k], (k, n)), jnp.ones((k, n), start.dtype)
    predicted, ahead = lax.scan(both, begin, jnp.arange(lanes // n))[1]
    predicted, ahead = (jnp.moveaxis(a, 0, -1).reshape(k, lanes) for a in (predicted, ahead[::-1]))
    return jnp.concatenate([predicted, jnp.ones_like(predicted[:1])]), ahead
