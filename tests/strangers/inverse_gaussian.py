"""Times until a drifting Brownian motion reaches a level: the inverse Gaussian of known shape.

With drift v = 1 / mean the density of a time x is sqrt(s / (2 pi x^3)) exp(-s (1 - v x)^2 / (2 x)),
whose exponent is s v - s x v^2 / 2 - s / (2 x): the prior of v is a normal. A negative drift may
never reach the level, with probability 1 - exp(2 s v); such a time is infinite.
"""

import jax
import jax.numpy as jnp

import vijax as vx


@vx.pytree
class NormalInverseGaussian(vx.ConjugateColumns):
    """x_nd ~ InverseGaussian(mean 1 / v_kd, shape s), v_kd ~ Normal."""

    each: vx.Normal
    shape: float = vx.static(default=1.0)
    takes = "numbers > 0"
    parameter = "drift"

    def valid(self, x):
        """Times."""
        return x > 0

    def statistics(self, x):
        """T(v) = (-v^2 / 2, v) meets t(x) = (s x, s)."""
        return vx.Normal(self.shape * x, jnp.full_like(x, self.shape), jnp.zeros_like(x))

    def log_base(self, x):
        """All without v."""
        s = self.shape
        return 0.5 * jnp.log(s / (2.0 * jnp.pi)) - 1.5 * jnp.log(x) - 0.5 * s / x

    def as_points(self, x):
        """Times differ by factors."""
        return jnp.log(x)

    def mean_and_variance(self, v):
        """1 / v and 1 / (s v^3)."""
        return 1.0 / v, 1.0 / (self.shape * v**3)

    def draw_rows(self, key, v):
        """Michael, Schucany & Haas (1976), for a drift that reaches the level."""
        k_normal, k_root, k_never = jax.random.split(key, 3)
        mean = 1.0 / jnp.abs(v)
        half = 0.5 * mean * jax.random.normal(k_normal, v.shape, v.dtype) ** 2 / self.shape
        x = mean / (1.0 + half + jnp.sqrt(half * (half + 2.0)))
        first = jax.random.uniform(k_root, v.shape, v.dtype) * (mean + x) <= mean
        never = jnp.log(jax.random.uniform(k_never, v.shape, v.dtype)) > 2.0 * self.shape * v
        return jnp.where(never, jnp.inf, jnp.where(first, x, mean**2 / x))
