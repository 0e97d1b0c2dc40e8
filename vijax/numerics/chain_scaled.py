"""Forward-backward with probabilities, one scale per step, in blocks of time side by side.

Lanes are those of `chain_blocks.py`.

With A the transitions and b_t = exp(log_lik_t) up to a scale, the recursions are

    predicted_t = A^T joint_{t-1} / sum,      joint_t = b_t predicted_t       (forward)
    future_t = A ahead_{t+1},                 ahead_t = b_t future_t / g_t    (backward)

with g_t = sum_k joint_t future_t, future_t = 1 at the last step of a sequence; then p(z_t | all) =
joint_t future_t / g_t and p(z_t, z_{t+1} | all) = joint_t A ahead_{t+1} / g_t, elementwise.

A block begins where the one before it ends, which is first guessed from a few steps, for chains
forget; if the ends do not meet the guess, it is computed from products of all transitions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float

from .chain_blocks import Blocks, apply, few_steps, joined, lanes_of, per, times
from .compensated import rounding_error
from .lanes import anywhere
from .linalg import matmul

_ROUNDING = 64.0  # times eps: how closely the end of a block must agree with the start of the next
_FEW = 4096  # transition probabilities of all chains; more of them are faster chain by chain
_LOST = 16.0  # times the least normal number: what rounding to 0 takes from a joint probability


class Swept(NamedTuple):
    """What one sweep forward and one back yields."""

    resp: Float[Array, "lanes s k"]
    pairs: Float[Array, "k k *lanes"]  # not yet times A
    log_z: Float[Array, "two lanes"]  # and the errors of its additions
    highest: Float[Array, "lanes"]  # a bound of p(z_t | all) / joint_t
    met: Bool[Array, ""]  # every block began where the one before it ended


def once_more(
    condition: Bool[Array, ""], again: Callable[..., Any], arguments: Any, result: Any
) -> Any:
    """The result, or again(*arguments) if the condition holds; `lax.cond` would copy the first."""
    count = anywhere(condition).astype(jnp.int32)

    def body(i: Array | int, _: Any) -> Any:
        # what does not depend on i, XLA would compute before the loop
        return again(*lax.optimization_barrier((i, arguments))[1])

    return lax.fori_loop(0, count, body, result)


def scaled(
    log_initial: Float[Array, "k"],
    log_transition: Float[Array, "k k"],
    log_lik: Float[Array, "n t k"],
    exists: Bool[Array, "n t"],
    weight: Float[Array, "n"],
    block: int,
) -> tuple[Float[Array, "n t k"], Float[Array, "k k"], Float[Array, "n"], Bool[Array, ""]]:
    """resp, pairs and log_z of `Smoothed`, and whether no digit of them was lost to underflow.

    Under vmap a few small chains of one sequence each are lanes of one sweep.
    """

    @custom_vmap
    def sums(first: Array, later: Array, lik: Array, on: Array, by: Array) -> Any:
        return _scaled(first, later, lik, on, by, block)

    @sums.def_vmap
    def _(size: int, batched: Any, *arrays: Array) -> Any:
        n, t, k = arrays[2].shape[-3:]
        if n == 1 and t <= block and size * k**2 <= _FEW:
            found = _side_by_side(size, batched, arrays)
        else:
            axes = tuple(0 if own else None for own in batched)
            each: Any = partial(_scaled, block=block)
            found = jax.vmap(each, axes)(*arrays)
        return found, (True,) * 4

    return sums(log_initial, log_transition, log_lik, exists, weight)


def _side_by_side(size: int, batched: Any, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """The sums of chains that have one sequence each, and a leading axis where `batched`."""
    first, later, lik, on, by = (
        a if own else jnp.broadcast_to(a, (size, *a.shape))
        for a, own in zip(arrays, batched, strict=True)
    )
    first, later = (jnp.moveaxis(a, 0, -1) for a in (first, later))
    found = _scaled(first, later, lik[:, 0], on[:, 0], by[:, 0], lik.shape[2])
    resp, pairs, log_z, kept = found
    return resp[:, None], jnp.moveaxis(pairs, -1, 0), log_z[:, None], jnp.broadcast_to(kept, size)


def _scaled(
    log_initial: Float[Array, "k *n"],
    log_transition: Float[Array, "k k *n"],
    log_lik: Float[Array, "n t k"],
    exists: Bool[Array, "n t"],
    weight: Float[Array, "n"],
    block: int,
) -> tuple[Float[Array, "n t k"], Float[Array, "k k *n"], Float[Array, "n"], Bool[Array, ""]]:
    """As `scaled`; sequences with transitions of their own, which are one block, have own pairs."""
    n, t, k = log_lik.shape
    lanes = lanes_of(log_initial, log_transition, log_lik, exists, weight, block)
    size, dtype = lanes.weight.shape[0], log_lik.dtype
    zero = jnp.zeros((k, size), dtype)
    resp = jnp.zeros((size, block, k), dtype)
    if size == n:
        out = _sweep(lanes, zero, zero, resp)
    else:

        def attempt(i: Array | int, out: Swept) -> Swept:
            predicted, ahead = lax.cond(i == 0, _guess, lambda a: _products(a, n), lanes)
            return _sweep(lanes, predicted, ahead, out.resp)

        def attempts(i: Array | int, out: Swept) -> Swept:
            again = anywhere(~out.met).astype(jnp.int32)
            return lax.fori_loop(i, i + again, attempt, out)

        pairs, log_z = jnp.zeros((k, k), dtype), jnp.zeros((2, size), dtype)
        none = Swept(resp, pairs, log_z, zero[0], jnp.asarray(False))
        out = lax.fori_loop(0, 2, attempts, none)
    resp = joined(out.resp.reshape(n, -1, block, k), lanes.length)[:, :t]
    log_z = _sum_blocks(out.log_z.reshape(2, n, -1))
    # what was rounded to 0 must be no digit of anything that it takes part in
    info = jnp.finfo(log_lik.dtype)
    kept = jnp.all(out.highest <= float(info.eps) / (_LOST * float(info.tiny)))
    return resp, lanes.back[:k] * out.pairs, log_z, kept


def _sum_blocks(parts: Float[Array, "two n m"]) -> Float[Array, "n"]:
    """Sums of blocks and of their errors."""

    def add(carry: Any, part: Any) -> Any:
        (total, lost), (term, error) = carry, part
        return (total + term, lost + (rounding_error(total, term) + error)), None

    first, rest = parts[..., 0], jnp.moveaxis(parts[..., 1:], -1, 0)
    if not rest.shape[0]:  # a loop of no steps cannot run without jit
        return first[0] + first[1]
    total, lost = lax.scan(add, (first[0], first[1]), (rest[:, 0], rest[:, 1]))[0]
    return total + lost


def _sweep(
    lanes: Blocks,
    predicted: Float[Array, "k lanes"],
    ahead: Float[Array, "k lanes"],
    resp: Float[Array, "lanes s k"],
) -> Swept:
    """Forward from what is `predicted` of the first step, and back from what is `ahead` of the end.

    resp is written over.
    """
    k, size = lanes.lik.shape[1:]
    zero = jnp.zeros(size, resp.dtype)

    def forward(i: Array | int, carry: Any) -> Any:
        predicted, total, lost, joints = carry
        lik, shift = (lax.dynamic_index_in_dim(a, i, 0, False) for a in (lanes.lik, lanes.shift))
        joint = predicted[:k] * (lik * per(predicted[k]))
        predicted = apply(lanes.forth, joint)
        for term in (jnp.log(predicted[k]), shift):
            term = jnp.where(i < lanes.left, term, 0.0)
            lost = lost + rounding_error(total, term)
            total = total + term
        return predicted, total, lost, lax.dynamic_update_index_in_dim(joints, joint, i, 0)

    begun = jnp.where(lanes.first, lanes.start, predicted)
    begin = (
        jnp.concatenate([begun, jnp.ones_like(begun[:1])]),
        zero,
        zero,
        jnp.zeros_like(lanes.lik),
    )
    predicted, *log_z, joints = lax.fori_loop(0, lanes.length, forward, begin)
    predicted = predicted[:k] * per(predicted[k])

    def backward(j: Array | int, carry: Any) -> Any:
        ahead, pairs, lost, highest, resp = carry
        i = lanes.length - 1 - j
        joint, lik = (lax.dynamic_index_in_dim(a, i, 0, False) for a in (joints, lanes.lik))
        last = i >= lanes.left - 1
        future = apply(lanes.back, ahead) + last.astype(zero.dtype)
        total = jnp.sum(joint * future[:k], 0)
        inverse = jnp.where(i < lanes.left, 1.0 / total, 0.0)
        ratio = future[:k] * inverse
        resp = lax.dynamic_update_index_in_dim(resp, (joint * ratio).T, i, 1)
        joint = joint * (inverse * lanes.weight)
        term = matmul(joint, ahead.T) if lanes.back.ndim == 2 else joint[:, None] * ahead
        lost = lost + rounding_error(pairs, term)
        # no transition is above 1, so that no future is above the sum of those ahead
        highest = jnp.maximum(highest, jnp.where(i < lanes.left, future[k] * inverse, 0.0))
        return lik * ratio, pairs + term, lost, highest, resp

    none = jnp.zeros((k, k, *lanes.back.shape[2:]), zero.dtype)
    end = jnp.where(lanes.left <= lanes.length, 0.0, ahead)
    begin = end, none, none, zero, resp
    ahead, pairs, lost, highest, resp = lax.fori_loop(0, lanes.length, backward, begin)
    met = _met(begun, jnp.roll(predicted, 1, -1), jnp.roll(end, 1, -1), ahead)
    met = jnp.all(met | lanes.first | (lanes.left <= 0))
    return Swept(resp, pairs + lost, jnp.stack(log_z), highest, met)


def _met(
    begun: Float[Array, "k lanes"],
    predicted: Float[Array, "k lanes"],
    end: Float[Array, "k lanes"],
    ahead: Float[Array, "k lanes"],
) -> Bool[Array, "lanes"]:
    """Whether blocks agree at their start, for each state: what is unlikely here may be all later.

    So all blocks together have the errors of rounding, as one long block has.
    """
    info = jnp.finfo(begun.dtype)
    near, least = _ROUNDING * float(info.eps), _LOST * float(info.tiny)
    end = end * (jnp.sum(predicted * ahead, 0) / jnp.sum(predicted * end, 0))
    met = jnp.abs(predicted - begun) <= near * predicted + least
    return jnp.all(met & (jnp.abs(ahead - end) <= near * ahead + least), 0)


def _guess(lanes: Blocks) -> tuple[Float[Array, "k lanes"], Float[Array, "k lanes"]]:
    """What is predicted of the first step, and is ahead after the last, from steps next to it."""
    k = lanes.lik.shape[1]
    few = few_steps(lanes.lik.shape[0], lanes.lik.dtype.itemsize, k)

    def step(j: Array | int, carry: Any) -> Any:
        predicted, ahead = carry
        i = few - 1 - j
        end = lax.dynamic_index_in_dim(lanes.lik, lanes.length - few + j, 0, False)
        begin = lax.dynamic_index_in_dim(lanes.lik, i, 0, False)
        joint = predicted[:k] * (end * per(predicted[k]))
        last = i >= lanes.left - 1
        future = matmul(lanes.back, ahead) + last.astype(ahead.dtype)
        ahead = jnp.where(i < lanes.left, future[:k] * (begin * per(future[k])), 0.0)
        return matmul(lanes.forth, joint), ahead

    flat = jnp.ones((k + 1, lanes.weight.shape[0]), lanes.lik.dtype)
    ahead = jnp.where(lanes.left <= few, 0.0, flat[:k])
    predicted, ahead = lax.fori_loop(0, few, step, (flat, ahead))
    return jnp.roll(predicted[:k] * per(predicted[k]), 1, -1), jnp.roll(ahead, -1, -1)


def _products(lanes: Blocks, n: int) -> tuple[Float[Array, "k lanes"], Float[Array, "k lanes"]]:
    """As `_guess`, exactly: from the products of all transitions of each block, one by one."""
    k, size = lanes.lik.shape[1:]

    def step(i: Array | int, carry: Any) -> Any:
        moved, log_scale = carry
        lik = lax.dynamic_index_in_dim(lanes.lik, i, 0, False)
        exists = i < lanes.left
        joint = moved[:k] * (lik[:, None] * per(moved[k]))
        new = matmul(lanes.forth, joint.reshape(k, -1)).reshape(moved.shape)
        # logs of scales are relative to the largest, so that they stay small and exact
        ratio = new[k] * per(jnp.max(new[k], 0))
        log_scale = jnp.where(exists, log_scale + jnp.log(ratio), log_scale)
        return jnp.where(exists, new, moved), log_scale

    unit = jnp.concatenate([jnp.eye(k), jnp.ones((1, k))]).astype(lanes.lik.dtype)
    begin = jnp.repeat(unit[..., None], size, -1), jnp.zeros((k, size), unit.dtype)
    moved, log_scale = lax.fori_loop(0, lanes.length, step, begin)
    moved = moved[:k] * per(moved[k])
    ends = lanes.left <= lanes.length
    moved, log_scale, ends = (
        jnp.moveaxis(a.reshape(*a.shape[:-1], n, -1), -1, 0) for a in (moved, log_scale, ends)
    )

    def share_of(log_p: Array) -> Array:
        return jnp.exp(log_p - jnp.max(log_p, 0))

    def both(carry: Any, i: Array | int) -> Any:
        (predicted, ahead), j = carry, moved.shape[0] - 1 - i
        share = share_of(log_scale[i] + jnp.log(predicted))
        predicted_next = jnp.sum(moved[i] * (share / jnp.sum(share, 0)), 1)
        back = jnp.where(ends[j], 1.0, jnp.sum(moved[j] * ahead[:, None], 0))
        return (predicted_next, share_of(log_scale[j] + jnp.log(back))), (predicted, ahead)

    begin = jnp.broadcast_to(lanes.start, (k, n)), jnp.ones((k, n), unit.dtype)
    predicted, ahead = lax.scan(both, begin, times(moved.shape[0]))[1]
    predicted, ahead = (jnp.moveaxis(a, 0, -1).reshape(k, size) for a in (predicted, ahead[::-1]))
    return predicted, ahead
