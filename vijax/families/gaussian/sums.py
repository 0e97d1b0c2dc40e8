"""Sums over rows that Gaussian statistics are made of, and the E-step that makes them."""

from __future__ import annotations

import abc
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._pytree import pytree
from ...data.batch import Batch
from ...numerics import special
from ..emission import soft_counts

Scale = Float[Array, "n k"] | float  # what the precision of a row is multiplied by, given k


@pytree
class GaussianSums:
    """Sums over rows about a point c = `origin` of each component.

    `count` adds up soft counts, `kappa` soft counts times `scale`, the precision that a row has of
    its own. With these weights, `shift` is the sum of x - c, and `square` that of
    (x - c)(x - c)^T (k, d, d), or for independent columns of (x - c)^2 (k, d). `count` and `kappa`
    are (k,), or (k, d) for independent columns, where each column counts its observed entries.
    """

    count: Float[Array, "k ..."]
    kappa: Float[Array, "k ..."]
    shift: Float[Array, "k d"]
    square: Float[Array, "k d ..."]
    origin: Float[Array, "k d"]


@pytree
class Quadratic:
    """E[log N(x_o | mu, (u Lambda)^-1)] = (observed log(u / 2 pi) + log_det - u square) / 2."""

    square: Float[Array, "n k"]
    log_det: Float[Array, "... k"]
    observed: Float[Array, "... 1"]
    row_posterior: Any

    @property
    def log_lik(self) -> Float[Array, "n k"]:
        """The expected log-density in nats at u = 1."""
        return 0.5 * (self.log_det - self.observed * special.LOG_2PI - self.square)


class GaussianLikelihood(abc.ABC):
    """Moments of k Gaussians in a form from which log-densities and sums over rows follow."""

    @abc.abstractmethod
    def quadratic(self, rows: Batch) -> Quadratic:
        """What log N(x_o | mu, (u Lambda)^-1) is made of, in expectation, for any u > 0."""

    @abc.abstractmethod
    def sums(
        self,
        rows: Batch,
        counts: Float[Array, "n k"],
        row_posterior: Any,
        scale: Scale = 1.0,
    ) -> GaussianSums:
        """Sums over rows that count `counts` times, with precisions times `scale`."""

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], Any]:
        """E[log N(x_o | mu_k, Lambda_k^-1)] in nats, and the posterior of what rows hide."""
        parts = self.quadratic(rows)
        return parts.log_lik, parts.row_posterior

    def e_step(
        self, rows: Batch, log_weight: Float[Array, "m"], background: Float[Array, "n b"] | None
    ) -> tuple[GaussianSums, Float[Array, "m"], Float[Array, "n"]]:
        """Sums, soft counts and log-normalisers, as `Emission.e_step`."""
        log_lik, row_posterior = self.likelihood(rows)
        counts, log_z = soft_counts(rows, log_weight, log_lik, background)
        own = counts[:, : log_lik.shape[1]]
        return self.sums(rows, own, row_posterior), jnp.sum(counts, 0), log_z
