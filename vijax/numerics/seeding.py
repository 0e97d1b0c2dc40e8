"""Seeds of components, drawn from weighted rows with a key; traceable."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

_BLOCK = 64  # rows


def choose_row(uniform: Float[Array, "2"], mass: Float[Array, "n"]) -> Int[Array, ""]:
    """Index with probability proportional to `mass`, from two uniform numbers.

    A block of rows is chosen first and then a row in it, because one float32 running sum over many
    rows would lose small masses. Blocks have a fixed size, so that rows of mass 0 at the end change
    nothing.
    """
    n = mass.shape[0]
    width = min(n, _BLOCK)
    blocks = jnp.pad(mass, (0, -n % width)).reshape(-1, width)
    block = _inverse_cdf(uniform[0], jnp.sum(blocks, -1))
    row = _inverse_cdf(uniform[1], blocks[block])
    return jnp.minimum(block * width + row, n - 1)


def _inverse_cdf(uniform: Float[Array, ""], mass: Float[Array, "n"]) -> Int[Array, ""]:
    """The first index at which the running sum exceeds `uniform` times the total.

    Its mass is positive.
    """
    running = jnp.cumsum(mass)
    entry = jnp.sum(running <= uniform * running[-1])
    return jnp.minimum(entry, jnp.sum(running < running[-1]))


def kmeans_plus_plus(
    key: Key[Array, ""],
    x: Float[Array, "n d"],
    weight: Float[Array, "n"],
    k: int,
    given: Int[Array, "k"] | None = None,
) -> Int[Array, "k"]:
    """Indices of k rows far from each other, by k-means++ (Arthur & Vassilvitskii 2007).

    Each seed is drawn with probability proportional to weight times squared distance to the
    nearest seed so far, or to weight alone once all these distances are 0. `given` fixes seeds
    from the beginning; -1 marks those to be drawn.
    """

    def closer(nearest: Float[Array, "n"], seed: Int[Array, ""]) -> Float[Array, "n"]:
        return jnp.minimum(nearest, jnp.sum((x - x[seed][None]) ** 2, -1))

    def pick(nearest: Float[Array, "n"], draw: tuple[Array, Any]) -> tuple[Array, Array]:
        uniform, fixed = draw
        mass = weight * nearest
        mass = jnp.where(jnp.sum(mass) > 0, mass, weight)
        seed = choose_row(uniform, mass)
        seed = seed if fixed is None else jnp.where(fixed >= 0, fixed.astype(seed.dtype), seed)
        return closer(nearest, seed), seed

    nearest = jnp.full(x.shape[0], jnp.finfo(x.dtype).max ** 0.25, x.dtype)
    if given is not None:
        nearest = lax.scan(
            lambda far, seed: (jnp.where(seed >= 0, closer(far, seed), far), None), nearest, given
        )[0]
    uniform = jax.random.uniform(key, (k, 2), x.dtype)
    return lax.scan(pick, nearest, (uniform, given))[1]


def labelled_rows(
    key: Key[Array, ""], label: Int[Array, "n"], weight: Float[Array, "n"], k: int
) -> Int[Array, "k"]:
    """Index of a random row of positive weight for each label 0 .. k - 1; -1 if there is none."""
    known = (label >= 0) & (weight > 0)
    group = jnp.where(known, label, k)  # group k holds all rows without a label
    chance = jax.random.uniform(key, label.shape, weight.dtype)
    most = jax.ops.segment_max(chance, group, k + 1)
    row = jnp.where(chance == most[group], jnp.arange(label.shape[0], dtype=label.dtype), -1)
    return jnp.maximum(jax.ops.segment_max(row, group, k + 1)[:k], -1)


def summaries(
    x: Float[Array, "n t f"], count: Float[Array, "n t"], *, lag: bool = False
) -> Float[Array, "n g"]:
    """Mean and standard deviation of the steps of each sequence, where `count` is positive.

    With `lag`, also the covariance of steps next to each other, its root with its sign.
    """
    here = (count > 0)[..., None]
    weight = jnp.where(here, count[..., None], 0.0)

    def mean_of(value: Array, weight: Array) -> Array:
        total = jnp.maximum(jnp.sum(weight, 1), jnp.finfo(x.dtype).tiny)
        return jnp.sum(weight * value, 1) / total

    mean = mean_of(jnp.where(here, x, 0.0), weight)
    away = jnp.where(here, x - mean[:, None], 0.0)
    found = [mean, jnp.sqrt(mean_of(away**2, weight))]
    if lag:
        both = mean_of(away[:, 1:] * away[:, :-1], jnp.minimum(weight[:, 1:], weight[:, :-1]))
        found.append(jnp.sign(both) * jnp.sqrt(jnp.abs(both)))
    return jnp.concatenate(found, -1)


def nearest(
    x: Float[Array, "n d"], centres: Float[Array, "k d"], on: Bool[Array, "k"]
) -> Int[Array, "n"]:
    """The number of the nearest centre of those that are `on`."""
    far = jnp.sum((x[:, None] - centres[None]) ** 2, -1)
    return jnp.argmin(jnp.where(on, far, jnp.inf), -1).astype(jnp.int32)
