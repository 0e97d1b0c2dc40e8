"""Sums over rows from which Gaussian statistics follow, and the E-step that computes them."""

from __future__ import annotations

import abc
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._pytree import pytree
from ...data.batch import Batch
from ...numerics import special
from ..emission import soft_counts

Scale = Float[Array, "n k"] | float  # factor of a row's precision under each component
Factor = Float[Array, "n #k"] | None  # of the distances of a row, see `special.in_range`


@pytree
class GaussianSums:
    """Weighted sums over rows x, about a point c = `origin` of each component.

    `count` is the sum of soft counts, and `kappa` that of weights w, which are soft counts times
    `scale`, the factor of a row's precision. `shift` is the sum of w (x - c), and `square` that of
    w (x - c)(x - c)^T (k, d, d), or of w (x - c)^2 (k, d) for independent columns. `count` and
    `kappa` are (k,), or (k, d) for independent columns, each of which counts its observed entries.
    """

    count: Float[Array, "k ..."]
    kappa: Float[Array, "k ..."]
    shift: Float[Array, "k d"]
    square: Float[Array, "k d ..."]
    origin: Float[Array, "k d"]


@pytree
class Quadratic:
    """Parts of a Gaussian log-density of the observed entries x_o of each row, for any u > 0.

    E[log N(x_o | mu, (u Lambda)^-1)] = (observed log(u / 2 pi) + log_det - u square) / 2 in nats,
    with `observed` the number of observed entries. `row_posterior` is as in
    `EmissionMoments.likelihood`.
    """

    square: Float[Array, "n k"]
    log_det: Float[Array, "... k"]
    observed: Float[Array, "... 1"]
    row_posterior: Any

    @property
    def log_lik(self) -> Float[Array, "n k"]:
        """The expected log-density in nats at u = 1."""
        return 0.5 * (self.log_det - self.observed * special.LOG_2PI - self.square)


class GaussianLikelihood(abc.ABC):
    """Moments of k Gaussians, in a form that gives log-densities of rows and sums over rows."""

    @abc.abstractmethod
    def quadratic(self, rows: Batch, factor: Factor = None) -> Quadratic:
        """The parts of E[log N(x_o | mu_k, (u Lambda_k)^-1)] for the observed entries of rows.

        Distances from the means are multiplied by `factor`, before they are squared.
        """

    @abc.abstractmethod
    def sums(
        self,
        rows: Batch,
        counts: Float[Array, "n k"],
        row_posterior: Any,
        scale: Scale = 1.0,
    ) -> GaussianSums:
        """Sums over rows that count `counts` times and have their precisions times `scale`."""

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], Any]:
        """E[log N(x_o | mu_k, Lambda_k^-1)] in nats, and the posterior of each row."""
        parts = self.quadratic(rows)
        return parts.log_lik, parts.row_posterior

    def e_step(
        self, rows: Batch, log_weight: Float[Array, "m"], background: Float[Array, "n b"] | None
    ) -> tuple[GaussianSums, Float[Array, "m"], Float[Array, "n"]]:
        """As `Emission.e_step`, with sums in place of statistics."""
        log_lik, row_posterior = self.likelihood(rows)
        counts, log_z = soft_counts(rows, log_weight, log_lik, background)
        sums = self.sums(rows, counts[:, : log_lik.shape[1]], row_posterior)
        return sums, jnp.sum(counts, 0), log_z
