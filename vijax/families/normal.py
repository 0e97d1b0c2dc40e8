"""Normal distribution of a scalar, conjugate to the mean of normal rows of known precision."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .._pytree import gauge, pytree, replace
from ..data.host import check_bound, standard
from ..exponential_family import ExponentialFamily
from ..numerics import special
from ..numerics.broadcasting import broadcasts


@pytree
class NormalMoments:
    """E[mu] and Var[mu]; the variance is 0 at a point."""

    mean: Float[Array, "*b"]
    variance: Float[Array, "*b"]


@pytree
class Normal(ExponentialFamily):
    """mu ~ N(m, 1 / precision), written about `origin` c with shift = precision (m - c).

    T(mu) = (-(mu - c)^2 / 2, mu - c), h = 1.
    """

    precision: Float[Array, "*b"]
    shift: Float[Array, "*b"]
    origin: Float[Array, "*b"] = gauge()

    @classmethod
    def from_standard(cls, mean: Any, precision: Any) -> Normal:
        """Normal with a mean in data units and a precision > 0 in 1 / data units squared."""
        check_bound("precision", precision, above=0.0)
        precision, mean = standard(precision=(precision, 0), mean=(mean, 0))
        return cls(precision, jnp.zeros_like(mean), mean)

    def about(self, like: Any) -> Normal:
        move = like.origin - self.origin
        return replace(self, shift=self.shift - self.precision * move, origin=like.origin)

    @property
    def mean(self) -> Float[Array, "*b"]:
        """E[mu]."""
        return self.origin + self.shift / self.precision

    @property
    def variance(self) -> Float[Array, "*b"]:
        """Var[mu]."""
        return 1.0 / self.precision

    @property
    def sd(self) -> Float[Array, "*b"]:
        """Standard deviation of mu."""
        return jnp.sqrt(self.variance)

    def log_normalizer(self) -> Float[Array, "*b"]:
        """shift^2 / (2 precision) + log(2 pi / precision) / 2, in nats."""
        quadratic = self.shift**2 / self.precision
        return 0.5 * (quadratic + special.LOG_2PI - jnp.log(self.precision))

    def expectation(self) -> Normal:
        """-E[(mu - c)^2] / 2 = -(Var[mu] + (m - c)^2) / 2, and E[mu] - c = m - c."""
        mean = self.shift / self.precision
        return Normal(-0.5 * (mean**2 + self.variance), mean, self.origin)

    def moments(self) -> NormalMoments:
        return NormalMoments(self.mean, self.variance)

    def point(self) -> NormalMoments:
        return NormalMoments(self.mean, jnp.zeros_like(self.mean))

    def mode(self) -> Float[Array, "*b"]:
        return self.mean

    def log_kernel(self, moments: NormalMoments) -> Float[Array, "*b"]:
        return self.expected_log_prob(moments)

    def kernel_gap(self, moments: NormalMoments) -> Float[Array, "*b"]:
        """precision (mu - m)^2 / 2, in nats."""
        distance = (moments.mean - self.origin) - self.shift / self.precision
        return 0.5 * self.precision * distance**2

    def expected_log_prob(self, moments: NormalMoments) -> Float[Array, "*b"]:
        distance = (moments.mean - self.origin) - self.shift / self.precision
        square = distance**2 + moments.variance
        return 0.5 * (jnp.log(self.precision) - special.LOG_2PI - self.precision * square)

    def kl(self, prior: Normal) -> Float[Array, "*b"]:
        """[excess(precision0 / precision) + precision0 (m - m0)^2] / 2 in nats."""
        distance = (self.origin - prior.origin) + self.shift / self.precision
        distance = distance - prior.shift / prior.precision
        spread = special.excess(prior.precision / self.precision)
        return 0.5 * (spread + prior.precision * distance**2)

    def entropy(self) -> Float[Array, "*b"]:
        return 0.5 * (1.0 + special.LOG_2PI - jnp.log(self.precision))

    @broadcasts
    def log_prob(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.expected_log_prob(NormalMoments(value, jnp.zeros_like(value)))

    @broadcasts
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        noise = jax.random.normal(key, (*shape, *self.precision.shape), self.precision.dtype)
        return self.mean + self.sd * noise
