"""Conjugate gradients for linear systems that are known by their products alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int


class _Iterate(NamedTuple):
    """Solution, residual, direction, and the residual's squared norm by the preconditioner."""

    x: Float[Array, "n"]
    residual: Float[Array, "n"]
    direction: Float[Array, "n"]
    square: Float[Array, ""]
    positive: Bool[Array, ""]
    products: Int[Array, ""]


def conjugate_gradients(
    product: Callable[[Float[Array, "n"]], Float[Array, "n"]],
    rhs: Float[Array, "n"],
    precondition: Callable[[Float[Array, "n"]], Float[Array, "n"]],
    max_iter: int,
) -> tuple[Float[Array, "n"], Bool[Array, ""]]:
    """x with A x = rhs for a positive definite A, and whether it was found.

    It is not found where a direction p has p^T A p <= 0, so that A is not positive definite, or
    where `max_iter` products are not enough. The residual is then below eps^0.6 of the right-hand
    side, both in the norm of the preconditioner, and rhs^T x is known to the square of that
    (Hestenes & Stiefel 1952; Nocedal & Wright 2006, algorithm 5.3).
    """
    tol = jnp.finfo(rhs.dtype).eps ** 1.2

    def going(it: _Iterate) -> Array:
        return (it.square > tol * first.square) & it.positive & (it.products < max_iter)

    def step(it: _Iterate) -> _Iterate:
        image = product(it.direction)
        curvature = it.direction @ image
        positive = curvature > 0
        length = jnp.where(positive, it.square / curvature, 0.0)
        residual = it.residual - length * image
        inner = precondition(residual)
        square = residual @ inner
        direction = inner + square / it.square * it.direction
        x = it.x + length * it.direction
        return _Iterate(x, residual, direction, square, positive, it.products + 1)

    direction = precondition(rhs)
    zero = jnp.asarray(0, jnp.int32)
    first = _Iterate(jnp.zeros_like(rhs), rhs, direction, rhs @ direction, jnp.asarray(True), zero)
    last = lax.while_loop(going, step, first)
    return last.x, last.positive & (last.square <= tol * first.square)
