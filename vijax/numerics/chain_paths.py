"""Paths of hidden Markov chains: the most probable one, draws given the data, and simulation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from .broadcasting import broadcasts
from .chain_log_space import log_filtered


@broadcasts
def most_probable_path(
    log_initial: Float[Array, "k"],
    log_transition: Float[Array, "k k"],
    log_lik: Float[Array, "n t k"],
    exists: Bool[Array, "n t"],
) -> Int[Array, "n t"]:
    """The path z of the largest log_initial + log_transition + log_lik (Viterbi 1967).

    Arguments are as for `forward_backward`. Steps that do not exist, and sequences without a
    possible path, are -1.
    """
    n, t, k = log_lik.shape
    count = jnp.sum(exists, 1, dtype=jnp.int32)

    def forward(score: Array, i: Array) -> tuple[Array, Array]:
        now = lax.dynamic_index_in_dim(log_lik, i, 1, False)
        score = score + jnp.where((i < count)[:, None], now, 0.0)
        top = jnp.max(score, -1, keepdims=True)
        score = score - jnp.where(top > -jnp.inf, top, 0.0)
        return jnp.max(score[:, :, None] + log_transition, 1), score

    begin = jnp.broadcast_to(log_initial, (n, k))
    scores = lax.scan(forward, begin, jnp.arange(t, dtype=jnp.int32))[1]
    return _traced_back(scores, log_transition, exists, None, 1)[0]


@broadcasts
def sample_paths(
    key: Key[Array, ""],
    log_initial: Float[Array, "k"],
    log_transition: Float[Array, "k k"],
    log_lik: Float[Array, "n t k"],
    exists: Bool[Array, "n t"],
    num: int,
) -> Int[Array, "num n t"]:
    """Independent draws from p(z | all of the sequence), by filtering forward and sampling back.

    Arguments are as for `forward_backward`; -1 as in `most_probable_path` (Scott 2002).
    """
    log_p = log_filtered(log_initial, log_transition, log_lik, exists)[0]
    return _traced_back(log_p, log_transition, exists, key, num)


@broadcasts
def simulate(
    key: Key[Array, ""],
    log_initial: Float[Array, "k"],
    log_transition: Float[Array, "k k"],
    n: int,
    t: int,
) -> Int[Array, "n t"]:
    """n paths of t steps of the chain itself; rows of probabilities are normalised."""

    def step(log_p: Array, key: Array) -> tuple[Array, Array]:
        z = jax.random.categorical(key, log_p).astype(jnp.int32)
        return log_transition[z], z

    begin = jnp.broadcast_to(log_initial, (n, log_initial.shape[0]))
    return lax.scan(step, begin, jax.random.split(key, t))[1].T


def _traced_back(
    log_p: Float[Array, "t n k"],
    log_transition: Float[Array, "k k"],
    exists: Bool[Array, "n t"],
    key: Key[Array, ""] | None,
    num: int,
) -> Int[Array, "num n t"]:
    """States from the last step to the first: the likeliest before the next one, or drawn."""
    t, n, _ = log_p.shape
    count = jnp.sum(exists, 1, dtype=jnp.int32)
    from_state = log_transition.T

    def step(later: Array, step: Any) -> tuple[Array, Array]:
        i, log_p, key = step
        last = (i >= count - 1)[:, None]
        log_p = log_p + jnp.where(last, 0.0, from_state[later])
        if key is None:
            z = jnp.argmax(log_p, -1).astype(jnp.int32)
        else:
            z = jax.random.categorical(key, log_p).astype(jnp.int32)
        return z, jnp.where((i < count) & jnp.any(log_p > -jnp.inf, -1), z, -1)

    each = jnp.arange(t, dtype=jnp.int32), log_p, None if key is None else jax.random.split(key, t)
    path = lax.scan(step, jnp.zeros((num, n), jnp.int32), each, reverse=True)[1]
    path = jnp.moveaxis(path, 0, -1)
    # what has no path may have some of its last steps, or of its first
    return jnp.where(jnp.any(exists & (path < 0), -1, keepdims=True), -1, path)
