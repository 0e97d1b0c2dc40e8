"""The direction of L-BFGS from pairs of past steps and changes of the gradient."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float


def lbfgs_direction(
    gradient: Float[Array, "p"],
    steps: Float[Array, "m p"],
    changes: Float[Array, "m p"],
    natural: Callable[[Float[Array, "p"]], Float[Array, "p"]],
) -> Float[Array, "p"]:
    """H g, with H the inverse curvature that pairs of `steps` s and `changes` y of g imply.

    Pairs are in order of time, and s y > 0 in all that count; H then is positive definite. It
    begins as a multiple of `natural`, a positive-definite map that may be another one each time
    (Nocedal 1980; Nocedal & Wright 2006, algorithm 7.4).
    """
    product = jnp.sum(steps * changes, -1)
    weight = jnp.where(product > 0, 1.0 / jnp.where(product > 0, product, 1.0), 0.0)
    pairs = steps, changes, weight

    def backward(g: Array, pair: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        s, y, w = pair
        share = w * jnp.sum(s * g)
        return g - share * y, share

    def forward(move: Array, pair: tuple[tuple[Array, Array, Array], Array]) -> tuple[Array, None]:
        (s, y, w), share = pair
        return move + (share - w * jnp.sum(y * move)) * s, None

    rest, shares = lax.scan(backward, gradient, pairs, reverse=True)
    size = jnp.sum(changes[-1] * natural(changes[-1]))
    known = (product[-1] > 0) & (size > 0)
    scale = jnp.where(known, product[-1] / jnp.where(known, size, 1.0), 1.0)
    return lax.scan(forward, scale * natural(rest), (pairs, shares))[0]


def remembered(
    past: Float[Array, "m p"], new: Float[Array, "p"], keep: Bool[Array, ""]
) -> Float[Array, "m p"]:
    """The last m vectors with a new one at the end, if it is to be kept."""
    return jnp.where(keep, jnp.concatenate([past[1:], new[None]]), past)
