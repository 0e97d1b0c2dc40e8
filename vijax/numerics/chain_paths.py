"""Paths of a chain: the most probable one, and draws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key


def most_probable_path(
    log_initial: Float[Array, "k"],
    log_transition: Float[Array, "k k"],
    log_lik: Float[Array, "n t k"],
    exists: Bool[Array, "n t"],
) -> Int[Array, "n t"]:
    """The most probable path of each row (Viterbi 1967); -1 where a step does not exist."""
    first = log_initial + log_lik[:, 0]

    def forward(best: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        lik, here = step
        to = best[:, :, None] + log_transition[None]
        new = jnp.max(to, 1) + lik
        back = jnp.where(here[:, None], jnp.argmax(to, 1), jnp.arange(lik.shape[1])[None])
        return jnp.where(here[:, None], new, best), back

    steps = jnp.moveaxis(log_lik[:, 1:], 1, 0), exists[:, 1:].T
    best, back = lax.scan(forward, first, steps)
    last = jnp.argmax(best, 1)

    def backward(state: Array, back: Array) -> tuple[Array, Array]:
        return jnp.take_along_axis(back, state[:, None], 1)[:, 0], state

    start, states = lax.scan(backward, last, back, reverse=True)
    path = jnp.concatenate([start[:, None], states.T], 1)
    return jnp.where(exists, path, -1)


def simulate(
    key: Key[Array, ""],
    log_initial: Float[Array, "k"],
    log_transition: Float[Array, "k k"],
    n: int,
    t: int,
) -> Int[Array, "n t"]:
    """n paths of t steps of the chain itself."""
    keys = jax.random.split(key, t)
    first = jax.random.categorical(keys[0], log_initial, shape=(n,))

    def step(state: Array, key: Array) -> tuple[Array, Array]:
        new = jax.random.categorical(key, log_transition[state])
        return new, new

    later = lax.scan(step, first, keys[1:])[1]
    return jnp.concatenate([first[:, None], later.T], 1)
