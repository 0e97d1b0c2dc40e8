"""Gamma prior on the rates of exponential rows: waiting times."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree, replace
from ...data.batch import Batch
from ...numerics import linalg
from ..describe import label
from ..emission import EmissionMoments
from ..gamma import Gamma, GammaMoments
from .base import impute, known, mass_seen, per_seen, share_seen
from .gamma_poisson import GammaRates, exposed


@pytree
class ExponentialMoments(EmissionMoments):
    """E[rate] and E[log rate], or both at a point."""

    each: GammaMoments

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """E[rate]."""
        return self.each.mean

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """The rate of every column."""
        return label("rate", self.mean, names)

    def log_lik(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """E[log Exponential(x_n | rate_k)] in nats, summed over the columns."""
        return jnp.sum(self.each.e_log, -1)[None] - linalg.matmul(x, self.mean.T)

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], None]:
        per_row = per_seen(rows, self.each.e_log)
        log_lik = per_row - linalg.matmul(known(with_exposure_1(rows)), self.mean.T)
        factor = log_exposure(rows)
        return log_lik if factor is None else log_lik + factor, None

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"]]:
        """Mean 1 / rate and variance 1 / rate^2, for the rate times the exposure."""
        mean, variance = impute(rows, 1.0 / self.mean, self.mean**-2)
        if rows.exposure is None:
            return mean, variance
        mean = mean / rows.exposure[:, None]
        return mean, mean**2


@pytree
class GammaExponential(GammaRates):
    """x_nd ~ Exponential(exposure_nd rate_kd) with rate_kd ~ Gamma(shape a, rate b).

    The exposure is 1 unless rows have one; b is in units of exposure times x, which has the rate
    rate_kd. T and h are those of Gamma.
    """

    each: Gamma
    takes = "numbers >= 0"

    def valid(self, x: Any) -> Any:
        return x >= 0

    def observe(
        self,
        rows: Batch,
        soft_counts: Float[Array, "n k"],
        moments: Any = None,
        row_posterior: Any = None,
    ) -> GammaExponential:
        """Shape: the number of waiting times; rate: their sum, each times its exposure."""
        total = linalg.matmul(soft_counts.T, known(with_exposure_1(rows)))
        return GammaExponential(Gamma(mass_seen(rows, soft_counts), total))

    def moments(self) -> ExponentialMoments:
        return ExponentialMoments(self._known.moments())

    def point(self) -> ExponentialMoments:
        return ExponentialMoments(self._known.point())

    def point_at(self, value: Float[Array, "k d"]) -> ExponentialMoments:
        return ExponentialMoments(GammaMoments(value, jnp.log(value)))

    def embed(self, rows: Batch) -> Float[Array, "n d"]:
        """log(x / mean) of each column, x times its exposure; 0 is the shortest positive wait."""
        rows, share = with_exposure_1(rows), share_seen(rows)
        mean = jnp.sum(share * rows.x, 0, keepdims=True)
        some = (share > 0) & (rows.x > 0)
        least = jnp.min(jnp.where(some, rows.x, jnp.inf), 0, keepdims=True)
        least = jnp.where(jnp.isfinite(least), least, 1.0)
        z = jnp.log(jnp.maximum(rows.x, least) / jnp.where(mean > 0, mean, 1.0))
        return z if rows.mask is None else jnp.where(rows.mask, z, 0.0)

    def log_predictive(self, rows: Batch) -> Float[Array, "n k"]:
        """Sum of log[a b^a / (b + x)^(a + 1)], the Lomax density, over observed entries, in nats.

        Computed as log(a / b) - (a + 1) log(1 + x / b). With an exposure e it is the density of
        e x, times e.
        """
        shape, rate, factor = self.each.shape, self.each.rate, log_exposure(rows)
        rows = with_exposure_1(rows)
        away = (shape + 1.0)[None] * jnp.log1p(rows.x[:, None] / rate[None])
        away = away if rows.mask is None else jnp.where(rows.mask[:, None], away, 0.0)
        log_p = per_seen(rows, jnp.log(shape / rate)) - jnp.sum(away, -1)
        return log_p if factor is None else log_p + factor

    def draw(
        self, key: Key[Array, ""], index: Int[Array, "n"], exposure: Any = None
    ) -> Float[Array, "n d"]:
        """Rows from the Lomax distributions; `exposure` is one number, (n,) or (n, d)."""
        k_rate, k_wait = jax.random.split(key)
        rate = Gamma(self.each.shape[index], self.each.rate[index]).sample(k_rate)
        wait = jax.random.exponential(k_wait, rate.shape, rate.dtype)
        return wait / exposed(rate, exposure)

    def row_size(self, rows: Batch) -> int:
        k, d = self.each.shape.shape
        return d + 3 * k

    def collapsed(self, count: Float[Array, "k"]) -> Bool[Array, "k"]:
        """True if a column's mean wait is at most eps^2 of its mean over all the data."""
        shape, rate = self.each.shape, self.each.rate
        number = jnp.sum(shape, 0, keepdims=True)
        mean = jnp.sum(rate, 0, keepdims=True) / jnp.where(number > 0, number, 1.0)
        least = jnp.finfo(count.dtype).eps ** 2 * mean
        return jnp.any((shape > 0) & ~(rate > least * shape), -1)


def with_exposure_1(rows: Batch) -> Batch:
    """Rows times their exposure, which have the rates of exposure 1."""
    if rows.exposure is None:
        return rows
    return replace(rows, x=rows.x * rows.exposure, exposure=None)


def log_exposure(rows: Batch) -> Float[Array, "n 1"] | None:
    """Sum of log(exposure) over the observed entries: what a density gains from `with_exposure_1`.

    None without an exposure.
    """
    if rows.exposure is None:
        return None
    each = jnp.broadcast_to(jnp.log(rows.exposure), rows.x.shape)
    each = each if rows.mask is None else jnp.where(rows.mask, each, 0.0)
    return jnp.sum(each, -1, keepdims=True)
