"""The memberships of rows whose steps are drawn from classes in shares of the row's own.

theta_n ~ Dirichlet(conc), z_nt ~ Categorical(theta_n), and step t is observed with the likelihood
of class z_nt. Given q(theta_n) = Dirichlet(gamma_n), the best q(z_nt) is phi ~ exp(E[log theta])
times the likelihood; given phi, the best gamma is conc + sum_t phi (Blei, Ng & Jordan 2003). Here
the two are iterated for each row until it has settled.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._pytree import pytree
from . import special
from .linalg import matmul

# Counts are scaled by a power of two, which loses no digit, as a count over a tiny sum overflows.
_SCALE = 2.0**-24
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
    start: Float[Array, "n k"],
    inner: int,
    tol: Float[Array, ""],
) -> Float[Array, "n k"]:
    """gamma after updates of phi and gamma in turn, of each row until it has settled.

    A row makes at most `inner` updates from `start`, and none after one that moved gamma by at most
    `tol` in the mean over classes. Classes of conc 0 are off. Rows do not see each other.
    """
    on = conc > 0
    size = jnp.maximum(jnp.sum(on, dtype=conc.dtype), 1.0)

    def body(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        i, gamma, moving = carry
        theta = shares_of(gamma, on)
        new = conc + tokens.shares(theta, tokens.norm(theta))
        change = jnp.sum(jnp.abs(new - gamma), -1) / size
        return i + 1, jnp.where(moving[:, None], new, gamma), moving & (change > tol)

    def goes_on(carry: tuple[Array, Array, Array]) -> Array:
        i, _, moving = carry
        return (i < inner) & jnp.any(moving)

    moving = jnp.sum(tokens.count, -1) > 0
    return lax.while_loop(goes_on, body, (jnp.asarray(0, jnp.int32), start, moving))[1]
