"""Sums over all paths of hidden Markov chains: smoothing, filtering, and the normaliser.

Baum, Petrie, Soules & Weiss (1970); with one scale per step as Rabiner (1989) has it. The logs of
the initial and of the transition probabilities may be expectations under q, whose exponentials sum
to less than one (Beal 2003, chapter 3); -inf is what is impossible.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float

from .broadcasting import broadcasts
from .chain_log_space import log_filtered, log_space, log_sum_exp
from .chain_scaled import once_more, scaled

_MANY = 128  # sequences that fill a step; blocks of them would gain nothing
_LANES = 400  # blocks of one sequence that are worth having side by side
_FEW_LANES = 200  # and of several, so that blocks may become shorter where sequences are
_LEAST = 128  # steps of a block; with fewer, its ends cost more than it saves


class Smoothed(NamedTuple):
    """Steps given all of their sequence, summed over all paths."""

    resp: Float[Array, "n t k"]  # p(z_t | all of the sequence)
    pairs: Float[Array, "k k"]  # sum_n weight_n sum_t p(z_{t-1} = i, z_t = j)
    log_z: Float[Array, "n"]  # log sum over paths, nats


@broadcasts
def forward_backward(
    log_initial: Float[Array, "k"],
    log_transition: Float[Array, "k k"],
    log_lik: Float[Array, "n t k"],
    exists: Bool[Array, "n t"],
    weight: Float[Array, "n"],
    block: int | None = None,
) -> Smoothed:
    """Sums over the paths z of exp(log_initial + log_transition + log_lik), for n sequences.

    Steps that do not exist come after all that do. There `log_lik` may hold anything, as in
    sequences of weight 0: resp is 0, log_z 0 if nothing exists. A sequence without a possible path
    has log_z -inf and resp 0, and adds nothing to the pairs. `block` is how many steps of a
    sequence run one after the other, None for what is fastest; it changes rounding alone. Where
    probabilities would underflow, all is done again with logs. Reverse-mode derivatives are exact.
    """
    n, t, _ = log_lik.shape
    exists = exists & (weight > 0)[:, None]
    arrays = log_initial, log_transition, log_lik, exists, weight
    out: Any = _smoothed(*arrays, block or _block(n, t))
    return Smoothed(*out)


@broadcasts
def filtered(
    log_initial: Float[Array, "k"],
    log_transition: Float[Array, "k k"],
    log_lik: Float[Array, "n t k"],
    exists: Bool[Array, "n t"],
) -> tuple[Float[Array, "n t k"], Float[Array, "n"]]:
    """p(z_t | x_1, .., x_t), which is 0 for steps that do not exist, and log_z, in nats.

    Arguments are as for `forward_backward`. It is computed with logs throughout.
    """
    log_p, log_z = log_filtered(log_initial, log_transition, log_lik, exists)
    log_p = jnp.moveaxis(log_p, 0, 1)
    possible = exists[..., None] & (log_p > -jnp.inf)
    log_total = jnp.where(possible, log_sum_exp(log_p, -1)[..., None], 0.0)
    return jnp.where(possible, jnp.exp(log_p - log_total), 0.0), log_z


def _block(n: int, t: int) -> int:
    """Steps of a block; of similar lengths one for which vectors are full and little is filled."""
    if n >= _MANY or t < 4 * _LEAST:
        return t
    least = max(_LEAST, -(-t * n // (_LANES if n == 1 else _FEW_LANES)))
    return min(range(least, 5 * least // 4), key=lambda b: (n * -(-t // b) % 16 != 0, -t % b))


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _smoothed(
    log_initial: Array,
    log_transition: Array,
    log_lik: Array,
    exists: Array,
    weight: Array,
    block: int,
) -> tuple[Array, Array, Array]:
    arrays = log_initial, log_transition, log_lik, exists, weight
    *out, kept = scaled(*arrays, block)
    return once_more(~kept, log_space, arrays, tuple(out))


def _smoothed_forward(*arguments: Any) -> Any:
    *perturbed, block = arguments
    arrays = tuple(a.value for a in perturbed)
    return _smoothed(*arrays, block), arrays


def _smoothed_backward(block: int, arrays: Any, slopes: Any) -> Any:
    """The slopes of log_z are resp and pairs; theirs, needed less often, come by way of logs."""
    log_initial, log_transition, log_lik, exists, weight = arrays
    if all(isinstance(slope, SymbolicZero) for slope in slopes[:2]):
        by_row = slopes[2]
        found: Any = _smoothed(log_initial, log_transition, log_lik, exists, by_row, block)
        resp, pairs, _ = found
        of_lik = by_row[:, None, None] * resp
        return jnp.sum(of_lik[:, 0], 0), pairs, of_lik, None, None

    def known(slope: Any) -> Any:
        form: Any = slope
        return jnp.zeros(form.shape, form.dtype) if isinstance(slope, SymbolicZero) else slope

    slopes = tuple(known(slope) for slope in slopes)

    def by_logs(first: Array, later: Array, lik: Array, own: Array) -> Any:
        return log_space(first, later, lik, exists, own)

    sums = jax.vjp(by_logs, log_initial, log_transition, log_lik, weight)[1]
    *of_logs, of_weight = sums(slopes)
    return *of_logs, None, of_weight


_smoothed.defvjp(_smoothed_forward, _smoothed_backward, symbolic_zeros=True)
