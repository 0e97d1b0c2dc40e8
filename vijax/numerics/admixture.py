"""Rows whose steps are drawn from classes with weights of the row's own (Blei et al. 2003)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from .._pytree import pytree
from . import special
from .chain_scaled import everywhere


def least(dtype: Any) -> Any:
    """The smallest weight or likelihood that is kept beside a largest one of 1.

    The product of two such numbers is still a normal number.
    """
    return jnp.sqrt(jnp.finfo(dtype).tiny)


@pytree
class Steps:
    """How often the steps of n rows count, and their likelihood in each of k classes.

    `lik` is exp(log_lik - top), with `top` the maximum over the classes: for every row by itself,
    (n, k, t), or (k, t) where step t is the same in all of them. What is possible at all is at
    least `least`.
    """

    count: Float[Array, "n t"]
    lik: Float[Array, "n k t"] | Float[Array, "k t"]
    top: Float[Array, "n t"] | Float[Array, "t"]

    @classmethod
    def of(
        cls, count: Float[Array, "n t"], log_lik: Float[Array, "n k t"] | Float[Array, "k t"]
    ) -> Steps:
        """Steps with these log-likelihoods in nats; -inf is impossible."""
        top = jnp.max(log_lik, -2)
        top = jnp.where(jnp.isfinite(top), top, 0.0)
        return cls(count, scaled(log_lik, top[..., None, :]), top)

    def mix(self, theta: Float[Array, "n k"]) -> Float[Array, "n t"]:
        """sum_k theta_nk lik_nkt."""
        if self.lik.ndim == 2:
            return jnp.matmul(theta, self.lik, precision=lax.Precision.HIGHEST)
        return jnp.einsum("nkt,nk->nt", self.lik, theta, precision="highest")

    def ratio(self, theta: Float[Array, "n k"]) -> Float[Array, "n t"]:
        """count / mix; 0 where no class is possible."""
        mix = self.mix(theta)
        return jnp.where(mix > 0, self.count / jnp.where(mix > 0, mix, 1.0), 0.0)

    def counts(self, theta: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """The expected number of steps of each row in each class, given weights up to a factor."""
        ratio = self.ratio(theta)
        if self.lik.ndim == 2:
            return theta * jnp.matmul(ratio, self.lik.T, precision=lax.Precision.HIGHEST)
        return theta * jnp.einsum("nkt,nt->nk", self.lik, ratio, precision="highest")

    def log_mix(
        self,
        log_theta: Float[Array, "n k"],
        log_lik: Callable[[Int[Array, ""]], Float[Array, "..."]],
    ) -> Float[Array, "n t"]:
        """log sum_k exp(log_theta_nk + log_lik_nkt) in nats, with all its digits.

        `log_lik(k)` is that of class k, (n, t) or (t,). It is asked where numbers too small for
        `least` may matter; all is then added up by logs.
        """
        theta, high = weights(log_theta)
        mix = self.mix(theta)
        # what `least` adds to a sum must not be seen in it
        unsafe = theta.shape[1] * least(mix.dtype) / jnp.finfo(mix.dtype).eps
        small = jnp.any((self.count > 0) & (mix < unsafe))

        def quick() -> Array:
            some = mix > 0
            log_mix = jnp.where(some, jnp.log(jnp.where(some, mix, 1.0)), -jnp.inf)
            return log_mix + high[:, None] + self.top

        def exact() -> Array:
            def add(k: Array, total: Array) -> Array:
                own = lax.dynamic_index_in_dim(log_theta, k, 1) + log_lik(k)
                return jnp.logaddexp(total, own)

            none = jnp.full_like(self.count, -jnp.inf)
            return lax.fori_loop(0, log_theta.shape[1], add, none)

        return lax.cond(everywhere(~small), quick, exact)

    def take(self, rows: Int[Array, "m"]) -> Steps:
        """The steps of these rows."""
        if self.lik.ndim == 2:
            return Steps(self.count[rows], self.lik, self.top)
        return Steps(self.count[rows], self.lik[rows], self.top[rows])


def scaled(log_p: Float[Array, "..."], top: Float[Array, "..."]) -> Float[Array, "..."]:
    """exp(log_p - top), at least `least` where it is possible."""
    p = jnp.maximum(jnp.exp(log_p - top), least(log_p.dtype))
    return jnp.where(log_p > -jnp.inf, p, 0.0)


def weights(log_theta: Float[Array, "n k"]) -> tuple[Float[Array, "n k"], Float[Array, "n"]]:
    """exp(log_theta) over its largest of each row, and the log of that."""
    high = jnp.max(log_theta, -1)
    high = jnp.where(jnp.isfinite(high), high, 0.0)
    return scaled(log_theta, high[:, None]), high


def next_gamma(
    gamma: Float[Array, "n k"],
    steps: Steps,
    conc: Float[Array, "k"],
    power: ArrayLike | None = None,
) -> Float[Array, "n k"]:
    """conc + expected counts, with weights exp(digamma(gamma)) up to a factor.

    It is the optimal q(theta_n) = Dirichlet given labels that are optimal at `gamma`; an entry of
    0 is off. Under `power` the labels are tempered.
    """
    on = gamma > 0
    y, exponent = special.exp_digamma(jnp.where(on, gamma, 1.0))
    if power is not None:
        y, exponent = y**power, power * exponent
    high = jnp.max(jnp.where(on, exponent, -jnp.inf), -1, keepdims=True)
    theta = jnp.maximum(y * jnp.exp(jnp.minimum(exponent - high, 0.0)), least(gamma.dtype))
    return conc + steps.counts(jnp.where(on, theta, 0.0))
