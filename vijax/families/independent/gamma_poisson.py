"""Gamma prior on the rates of Poisson rows: counts."""

from __future__ import annotations

import math
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from ..._pytree import pytree, replace
from ...data.batch import Batch
from ...data.host import to_device
from ...numerics import linalg, sampling, special
from ..column_scale import standardize
from ..describe import label
from ..emission import EmissionMoments
from ..gamma import Gamma, GammaMoments
from .base import Independent, impute, known, mass_seen, whole

_G = TypeVar("_G", bound="GammaRates")


@pytree
class GammaRates(Independent):
    """Rates of k components and d columns, each with rate ~ Gamma(shape a, rate b)."""

    each: Gamma
    takes_exposure: ClassVar[bool] = True
    parameter: ClassVar[str] = "rate"

    def as_batch(self, rows: Batch) -> Batch:
        """The rows, with the exposures of a data frame as one array."""
        return super().as_batch(rows).by_position()

    @classmethod
    def from_standard(cls: type[_G], shape: Any, rate: Any) -> _G:
        """Gamma prior on each rate, with shape a > 0 and rate b > 0 (*b, d)."""
        return cls(Gamma.from_standard(shape, rate))

    @classmethod
    def flat(cls: type[_G], k: int, d: int, dtype: Any) -> _G:
        """A flat prior, a = b = 0, for k components and d columns."""
        zero = to_device(np.zeros((k, d)), dtype)
        return cls(Gamma(zero, zero))

    @property
    def _proper(self) -> Any:
        return (self.each.shape > 0) & (self.each.rate > 0)

    @property
    def _known(self) -> Gamma:
        # a component with neither rows nor a prior has weight 0, but must stay finite
        on = self._proper
        return Gamma(jnp.where(on, self.each.shape, 1.0), jnp.where(on, self.each.rate, 1.0))

    @property
    def rate(self) -> Float[Array, "*b d"]:
        """E[rate]."""
        return self.each.mean

    @property
    def rate_sd(self) -> Float[Array, "*b d"]:
        """Posterior standard deviation of each rate."""
        return self.each.sd

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """Posterior mean of the rate of every column."""
        return label("rate", self.rate, names)

    def kernel_gap(self, moments: Any) -> Float[Array, "*b"]:
        """Sum over the columns of shape excess(rate / E[rate]), in nats."""
        gap = self._known.kernel_gap(moments.each)
        # without counts and with a flat prior, the maximum is at rate 0
        return self._reduce(jnp.where(self._proper, gap, self.each.rate * moments.each.mean))


@pytree
class PoissonMoments(EmissionMoments):
    """E[rate], E[log rate], and `gap` = log E[rate] - E[log rate] (0 at a point)."""

    each: GammaMoments
    gap: Float[Array, "*b d"]

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """E[rate]."""
        return self.each.mean

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """The rate of every column."""
        return label("rate", self.mean, names)

    def log_lik(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """E[log Poisson(x_n | rate_k)] in nats, summed over the columns; -log x! included."""
        return expected_log_poisson(x, jnp.ones((1, 1), x.dtype), self.mean, self.gap)

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], None]:
        if rows.mask is None and rows.exposure is None:
            return self.log_lik(rows.x), None
        exposure = exposure_seen(rows)
        return expected_log_poisson(known(rows), exposure, self.mean, self.gap), None

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"]]:
        """Mean and variance, which are both exposure times rate."""
        mean, variance = impute(rows, self.mean, self.mean)
        if rows.exposure is None:
            return mean, variance
        mean = rows.exposure[:, None] * mean
        return mean, mean


@pytree
class GammaPoisson(GammaRates):
    """x_nd ~ Poisson(exposure_nd rate_kd) with rate_kd ~ Gamma(shape a, rate b): counts.

    The exposure is 1 unless rows have one; b is in units of it. T and h are those of Gamma.
    """

    each: Gamma
    takes = "counts 0, 1, 2, ..."

    def valid(self, x: Any) -> Any:
        return whole(x)

    def observe(
        self,
        rows: Batch,
        soft_counts: Float[Array, "n k"],
        moments: Any = None,
        row_posterior: Any = None,
    ) -> GammaPoisson:
        """Shape: the sum of the counts; rate: the number of rows, or the sum of their exposure."""
        total = linalg.matmul(soft_counts.T, known(rows))
        if rows.exposure is None:
            return GammaPoisson(Gamma(total, mass_seen(rows, soft_counts)))
        mass = linalg.matmul(soft_counts.T, exposure_seen(rows))
        return GammaPoisson(Gamma(total, jnp.broadcast_to(mass, total.shape)))

    def moments(self) -> PoissonMoments:
        return PoissonMoments(self._known.moments(), special.digamma_gap(self._known.shape))

    def point(self) -> PoissonMoments:
        """rate = a / b; 0 for a column without counts under a flat prior."""
        mean = jnp.where((self.each.shape > 0) | (self.each.rate <= 0), self._known.mean, 0.0)
        e_log = jnp.where(mean > 0, jnp.log(jnp.where(mean > 0, mean, 1.0)), -jnp.inf)
        return PoissonMoments(GammaMoments(mean, e_log), jnp.zeros_like(mean))

    def point_at(self, value: Float[Array, "k d"]) -> PoissonMoments:
        return PoissonMoments(GammaMoments(value, jnp.log(value)), jnp.zeros_like(value))

    def embed(self, rows: Batch) -> Float[Array, "n d"]:
        """Standardised square roots, whose variance does not depend on the rate.

        With an exposure, of the counts per unit of it.
        """
        counts = jnp.maximum(rows.x, 0.0)
        counts = counts if rows.exposure is None else counts / rows.exposure
        return standardize(replace(rows, x=jnp.sqrt(counts)))

    def log_predictive(self, rows: Batch) -> Float[Array, "n k"]:
        """Sum of log negative-binomial densities over the observed entries, in nats."""
        rate = self.each.rate[None]
        rate = rate if rows.exposure is None else rate / rows.exposure[:, None]
        each = log_negative_binomial(rows.x[:, None], self.each.shape[None], rate)
        each = each if rows.mask is None else jnp.where(rows.mask[:, None], each, 0.0)
        return jnp.sum(each, -1)

    def draw(
        self, key: Key[Array, ""], index: Int[Array, "n"], exposure: Any = None
    ) -> Float[Array, "n d"]:
        """Rows from the negative binomials; `exposure` is one number, (n,) or (n, d)."""
        k_rate, k_count = jax.random.split(key)
        rate = Gamma(self.each.shape[index], self.each.rate[index]).sample(k_rate)
        return sampling.poisson(k_count, exposed(rate, exposure))

    def row_size(self, rows: Batch) -> int:
        k, d = self.each.shape.shape
        return 4 * d + 3 * k + (0 if rows.exposure is None else rows.exposure.shape[1])


def exposure_seen(rows: Batch) -> Float[Array, "n #d"]:
    """The exposure of each entry, 1 without any, and 0 where the entry is missing."""
    if rows.mask is None:
        return jnp.ones_like(rows.x[:, :1]) if rows.exposure is None else rows.exposure
    if rows.exposure is None:
        return rows.mask.astype(rows.x.dtype)
    return jnp.where(rows.mask, rows.exposure, 0.0)


def exposed(rate: Float[Array, "n d"], exposure: Any) -> Float[Array, "n d"]:
    """Rates times an exposure, which is None, one number, (n,) or (n, d)."""
    if exposure is None:
        return rate
    factor = jnp.asarray(exposure).astype(rate.dtype)
    return rate * (factor[:, None] if factor.ndim == 1 else factor)


# -- Poisson densities without large terms that cancel --------------------------------------------

_TABLE = 16
# log Poisson(x | x) for x < _TABLE
_PEAKS = (0.0, *(x * math.log(x) - x - math.lgamma(x + 1.0) for x in range(1, _TABLE)))
# B_2j / (2j (2j - 1)): Stirling's series, accurate to float64 for x >= _TABLE
_SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)


def log_poisson_peak(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """log Poisson(x | x) = x log(x) - x - log(x!) in nats, for counts x."""
    index = jnp.minimum(x, float(_TABLE)).astype(jnp.int32)
    low = jnp.take(jnp.asarray(_PEAKS, x.dtype), index, mode="clip")
    top = jnp.maximum(x, float(_TABLE))
    step, error = 1.0 / top, jnp.zeros_like(top)
    for c in _SERIES[::-1]:
        error = error * step**2 + c
    high = -0.5 * (jnp.log(top) + special.LOG_2PI) - error * step
    return jnp.where(x < _TABLE, low, high)


def log_poisson(x: Float[Array, "..."], mean: Float[Array, "..."]) -> Float[Array, "..."]:
    """log Poisson(x | mean) = x log(mean) - mean - log x! in nats.

    Computed as log_poisson_peak(x) - x excess(mean / x) (Loader 2000).
    """
    some = x > 0
    count = jnp.where(some, x, 1.0)
    away = count * special.excess(jnp.where(some, mean, 1.0) / count)
    return log_poisson_peak(x) - jnp.where(some, away, mean)


def log_negative_binomial(
    x: Float[Array, "..."], shape: Float[Array, "..."], rate: Float[Array, "..."]
) -> Float[Array, "..."]:
    """log of Gamma(a + x) / (Gamma(a) x!) (b / (1 + b))^a (1 + b)^-x, for a = shape and b = rate.

    It is the density in nats of a count whose Poisson mean has a Gamma(a, b) distribution,
    computed as `log_poisson` is: with excess(u) = u - 1 - log u in place of large logarithms.
    """
    some = x > 0
    count = jnp.where(some, x, 1.0)
    top = shape + count
    stay, move = rate / (1.0 + rate), 1.0 / (1.0 + rate)
    away = shape * special.excess(top * stay / shape) + count * special.excess(top * move / count)
    errors = special.stirling_error(top) - special.stirling_error(shape)
    peak = 0.5 * jnp.log(shape / top) + errors + log_poisson_peak(x)
    return jnp.where(some, peak - away, -shape * jnp.log1p(1.0 / rate))


def expected_log_poisson(
    x: Float[Array, "n d"],
    exposure: Float[Array, "#n #d"],
    mean: Float[Array, "k d"],
    gap: Float[Array, "k d"],
) -> Float[Array, "n k"]:
    """sum_d E[log Poisson(x_nd | exposure_nd rate_kd)] in nats, for `mean` = E[rate].

    E[log Poisson(x | e rate)] = x (log(e) + E[log rate]) - e E[rate] - log x!. With
    `gap` = log E[rate] - E[log rate] and r the geometric mean of `mean` over the components, it is
    computed as log Poisson(x | e r) + (x - e r) log(mean / r) - e r excess(mean / r) - x gap, so
    that only differences between components are rounded in the matrix products. x must be 0 where
    the exposure is; x > 0 at rate 0 gives -inf.
    """
    zero = mean <= 0
    log_mean = jnp.log(jnp.where(zero, 1.0, mean))
    positive = jnp.maximum(jnp.sum(~zero, 0, keepdims=True), 1).astype(x.dtype)
    middle = lax.stop_gradient(jnp.exp(jnp.sum(log_mean, 0, keepdims=True) / positive))
    safe = jnp.where(zero, middle, mean)
    ratio = special.log_ratio(safe, jnp.broadcast_to(middle, safe.shape))
    cost = jnp.where(zero, -middle, middle * special.excess(safe / middle))
    never = 1e-3 * jnp.finfo(x.dtype).max  # more nats than counts up to 1e30 can lose
    row = jnp.sum(log_poisson(x, exposure * middle), -1, keepdims=True)
    spent = (
        exposure * jnp.sum(cost, -1)[None]
        if exposure.shape[1] == 1
        else linalg.matmul(exposure, cost.T)
    )
    loss = spent + linalg.matmul(x, jnp.where(zero, never, gap).T)
    log_lik = row + linalg.matmul(x - exposure * middle, ratio.T) - loss
    return jnp.where(loss > 0.5 * never, -jnp.inf, log_lik)
