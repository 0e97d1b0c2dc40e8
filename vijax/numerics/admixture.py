"""The memberships of rows whose steps are drawn from classes in shares of the row's own.

theta_n ~ Dirichlet(conc), z_nt ~ Categorical(theta_n), and step t is observed with the likelihood
of class z_nt. Given q(theta_n) = Dirichlet(gamma_n), the best q(z_nt) is phi ~ exp(E[log theta])
times the likelihood; given phi, the best gamma is conc + sum_t phi (Blei, Ng & Jordan 2003). Here
the two are iterated for each row until it has settled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._pytree import pytree
from . import special
from .linalg import matmul

# Counts are scaled by a power of two, which loses no digit, as a count over a tiny sum overflows.
_SCALE = 2.0**-24
_HALVINGS, _LEAST_ROWS = (
    4,
    64,
)  # how often rows that still move are gathered, and down to which number
_FLOOR = 2.0**30  # smallest exp(E[log theta]) that phi is made from, in smallest normal numbers


@pytree
class Tokens:
    """The steps of n rows: how often each counts, and its likelihood under each of k classes.

    `like` is scaled to a maximum of 1 over the classes, and `top` is the log in nats of what it was
    divided by. Rows have likelihoods of their own, (n, m, k) and (n, m), or the same ones, (k, m)
    and (m,), as words of a table have.
    """

    count: Float[Array, "n m"]
    like: Float[Array, "..."]
    top: Float[Array, "..."]

    @classmethod
    def of_rows(
        cls, count: Float[Array, "n m"], log_lik: Float[Array, "n m k"], on: Bool[Array, "k"]
    ) -> Tokens:
        """Steps with log-likelihoods in nats of their own; classes that are not `on` have none."""
        return cls(count, *_scaled(jnp.where(on, log_lik, -jnp.inf), -1))

    @classmethod
    def of_table(
        cls, count: Float[Array, "n m"], log_lik: Float[Array, "k m"], on: Bool[Array, "k"]
    ) -> Tokens:
        """Counts of m things, each with the same log-likelihoods in nats in all rows."""
        return cls(count, *_scaled(jnp.where(on[:, None], log_lik, -jnp.inf), 0))

    def take(self, rows: Int[Array, "r"]) -> Tokens:
        """The steps of the rows of these indices."""
        if self.like.ndim == 2:
            return Tokens(self.count[rows], self.like, self.top)
        return Tokens(self.count[rows], self.like[rows], self.top[rows])

    def norm(self, theta: Float[Array, "n k"]) -> Float[Array, "n m"]:
        """sum_k theta_nk like_nmk, never 0."""
        if self.like.ndim == 2:
            found = matmul(theta, self.like)
        else:
            found = jnp.einsum("nk,nmk->nm", theta, self.like, precision="highest")
        return jnp.maximum(found, jnp.finfo(found.dtype).tiny)

    def shares(self, theta: Float[Array, "n k"], norm: Float[Array, "n m"]) -> Float[Array, "n k"]:
        """Expected number of steps of each row in each class, sum_m count phi."""
        ratio = _SCALE * self.count / norm
        if self.like.ndim == 2:
            found = matmul(ratio, self.like.T)
        else:
            found = jnp.einsum("nm,nmk->nk", ratio, self.like, precision="highest")
        return theta * found / _SCALE

    def totals(
        self, weight: Float[Array, "n"], theta: Float[Array, "n k"], norm: Float[Array, "n m"]
    ) -> Float[Array, "k m"]:
        """sum_n weight count phi of each thing of a table, (k, m)."""
        ratio = (_SCALE * weight)[:, None] * self.count / norm
        return self.like * matmul(theta.T, ratio) / _SCALE

    def phi(self, theta: Float[Array, "n k"], norm: Float[Array, "n m"]) -> Float[Array, "n m k"]:
        """The probability of each class at each step, which sums to one."""
        like = self.like.T if self.like.ndim == 2 else self.like
        return theta[:, None] * (like / norm[..., None])


def _scaled(log_lik: Float[Array, "..."], axis: int) -> tuple[Array, Array]:
    top = lax.stop_gradient(jnp.max(log_lik, axis))
    safe = jnp.where(top > -jnp.inf, top, 0.0)
    return jnp.exp(log_lik - jnp.expand_dims(safe, axis)), top


def shares_of(gamma: Float[Array, "n k"], on: Bool[Array, "k"]) -> Float[Array, "n k"]:
    """exp(digamma(gamma)) from a floor on, which phi is made from, and 0 where not `on`.

    Up to a factor for each row it is exp(E[log theta]).
    """
    y, e = special.exp_digamma(jnp.where(on, gamma, 1.0))
    return jnp.where(on, jnp.maximum(y * jnp.exp(e), lowest_share(gamma)), 0.0)


def lowest_share(gamma: Float[Array, "..."]) -> Float[Array, ""]:
    """The floor of `shares_of`, so that no step is without a class."""
    return jnp.asarray(_FLOOR * jnp.finfo(gamma.dtype).tiny, gamma.dtype)


def equal_shares(total: Float[Array, "n"], conc: Float[Array, "k"]) -> Float[Array, "n k"]:
    """The gamma of rows of so many steps, as many in each class that is on."""
    on = conc > 0
    number = jnp.maximum(jnp.sum(on, dtype=total.dtype), 1.0)
    return jnp.where(on, conc + total[:, None] / number, 0.0)


def settle(
    tokens: Tokens,
    conc: Float[Array, "k"],
    starts: Float[Array, "s n k"],
    inner: int,
    tol: Float[Array, ""],
) -> Float[Array, "s n k"]:
    """gamma after updates of phi and gamma in turn, of each row until it has settled.

    There are s starts of each row. One makes at most `inner` updates, and none after an update that
    moved gamma by at most `tol` in the mean over classes. Classes of conc 0 are off. Rows do not
    see each other: those that still move are gathered when they are half of all, and again.
    """
    num_starts, n, k = starts.shape
    size = jnp.maximum(jnp.sum(conc > 0, dtype=conc.dtype), 1.0)

    def update(tokens: Tokens, gamma: Array, moving: Array) -> tuple[Array, Array]:
        theta = shares_of(gamma, conc > 0)
        new = conc + tokens.shares(theta, tokens.norm(theta))
        change = jnp.sum(jnp.abs(new - gamma), -1) / size
        return jnp.where(moving[:, None], new, gamma), moving & (change > tol)

    def until(update: Callable[..., tuple[Array, Array]], few: int, state: _Moving) -> _Moving:
        """The state when at most `few` rows move, or all have made their updates."""

        def body(state: _Moving) -> _Moving:
            return _Moving(state.i + 1, *update(state.gamma, state.moving))

        def goes_on(state: _Moving) -> Array:
            return (state.i < inner) & (jnp.sum(state.moving, dtype=jnp.int32) > few)

        return lax.while_loop(goes_on, body, state)

    rows = num_starts * n
    sizes = [rows // 2**j for j in range(1, _HALVINGS + 1) if rows // 2**j >= _LEAST_ROWS]
    moving = jnp.broadcast_to(jnp.sum(tokens.count, -1) > 0, (num_starts, n))
    state = _Moving(jnp.asarray(0, jnp.int32), starts, moving)
    state = until(jax.vmap(partial(update, tokens)), sizes[0] if sizes else 0, state)
    i, gamma, moving = state.i, state.gamma.reshape(rows, k), state.moving.reshape(rows)
    for own, few in zip(sizes, [*sizes, 0][1:], strict=True):
        which = jnp.nonzero(moving, size=own, fill_value=rows)[0]
        part = tokens.take(which % n)
        given = _Moving(i, jnp.take(gamma, which, 0, mode="clip"), which < rows)
        found = until(partial(update, part), few, given)
        i, gamma = found.i, gamma.at[which].set(found.gamma, mode="drop")
        moving = jnp.zeros_like(moving).at[which].set(found.moving, mode="drop")
    return gamma.reshape(starts.shape)


class _Moving(NamedTuple):
    """How many updates were made, the last gamma of each row, and which rows still move."""

    i: Int[Array, ""]
    gamma: Float[Array, "..."]
    moving: Bool[Array, "..."]
