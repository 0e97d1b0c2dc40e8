"""Beta prior on the probabilities of geometric rows: failures before the first success."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ..._pytree import pytree, replace
from ...data.batch import Batch
from ...numerics.special import stirling_error
from ..column_scale import standardize
from .base import impute, whole
from .beta_bernoulli import BetaMoments, BetaProbabilities, of_seen


@pytree
class GeometricMoments(BetaMoments):
    """E[log p] and E[log(1 - p)], or both at a point, of counts of failures."""

    def indicators(self, rows: Batch) -> Float[Array, "n d 2"]:
        """(1, x): a success after x failures; (0, 0) where an entry is missing."""
        return of_seen(rows, jnp.ones_like(rows.x), rows.x)

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"]]:
        """Mean (1 - p) / p and variance (1 - p) / p^2."""
        mean = self.p[..., 1] / self.mean
        return impute(rows, mean, mean / self.mean)


@pytree
class BetaGeometric(BetaProbabilities):
    """x_nd ~ Geometric(p_kd), P(x) = p (1 - p)^x, p ~ Beta(a, b): counts, columns independent.

    x is the number of failures before the first success. T and h are those of `BetaProbabilities`.
    """

    takes = "counts 0, 1, 2, ..."
    moments_of = GeometricMoments

    def valid(self, x: Any) -> Any:
        return whole(x)

    def embed(self, rows: Batch) -> Float[Array, "n d"]:
        """Standardised arcsinh(sqrt(x)), whose variance to first order is the same for all p."""
        return standardize(replace(rows, x=jnp.arcsinh(jnp.sqrt(jnp.maximum(rows.x, 0.0)))))

    def log_predictive(self, rows: Batch) -> Float[Array, "n k"]:
        """log of B(a + 1, b + x) / B(a, b) in nats, of the observed entries."""
        # Stirling's main terms, which are far larger than their sum, are cancelled on paper
        x, a, b = rows.x[:, None], self.a[None], self.b[None]
        old, end, new = a + b, b + x, a + b + x
        each = jnp.log(a / new) - a * jnp.log1p(x / old) - x * jnp.log1p(a / end)
        each += (b - 0.5) * jnp.log1p((a / b) * (x / new))
        each += stirling_error(end) - stirling_error(b) - stirling_error(new) + stirling_error(old)
        return jnp.sum(each if rows.mask is None else jnp.where(rows.mask[:, None], each, 0.0), -1)

    def draw(self, key: Key[Array, ""], index: Int[Array, "n"]) -> Float[Array, "n d"]:
        """Rows from the beta-geometrics: exponentials of rate -log(1 - p), rounded down."""
        k_p, k_count = jax.random.split(key)
        p = self.take(index).sample(k_p)
        return jnp.floor(-jax.random.exponential(k_count, p.shape, p.dtype) / jnp.log1p(-p))
