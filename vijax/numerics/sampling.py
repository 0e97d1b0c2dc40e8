"""Draws of counts as floats, however large: JAX's own end at 2e9 or lose their digits in float32.

Where the variance is large, a count is the rounded quantile of a normal draw, by the expansion of
Cornish & Fisher (1938) in skewness and kurtosis, which is exact to a hundredth of a count.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

_LARGE = 4096.0  # least variance for quantiles by expansion
_MANY = 1e7  # trials, from which on a binomial with a variance below _LARGE is a Poisson


def poisson(key: Key[Array, ""], rate: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Poisson counts of mean `rate`."""
    k_few, k_many = jax.random.split(key)
    few = jax.random.poisson(k_few, jnp.minimum(rate, _LARGE), dtype=jnp.int32)
    variance = jnp.maximum(rate, _LARGE)
    many = rate + _quantile(k_many, variance, jnp.ones_like(rate), 1.0 / variance)
    return jnp.where(rate < _LARGE, few.astype(rate.dtype), jnp.round(many))


def binomial(
    key: Key[Array, ""], n: Float[Array, "*b"], p: Float[Array, "*b"]
) -> Float[Array, "*b"]:
    """Number of successes in n trials, each with probability p."""
    k_few, k_rare, k_many = jax.random.split(key, 3)
    less = jnp.minimum(p, 1.0 - p)
    variance = n * less * (1.0 - less)
    large = variance >= _LARGE
    few_n, few_p = jnp.where(large | (n > _MANY), 1.0, n), jnp.where(large, 0.5, less)
    few = jax.random.binomial(k_few, few_n, few_p, dtype=n.dtype)
    rare = poisson(k_rare, jnp.where(large, 0.0, n * less))
    safe = jnp.maximum(variance, _LARGE)
    skew = 1.0 - 2.0 * less
    many = n * less + _quantile(k_many, safe, skew, (1.0 - 6.0 * less * (1.0 - less)) / safe)
    count = jnp.where(large, jnp.round(many), jnp.where(n > _MANY, rare, few))
    count = jnp.clip(count, 0.0, n)
    return jnp.where(p <= 0.5, count, n - count)


def multinomial(
    key: Key[Array, ""], total: Float[Array, "*b"], p: Float[Array, "*b c"]
) -> Float[Array, "*b c"]:
    """Counts of c categories with probabilities p, which sum to `total` up to rounding."""
    p = jnp.moveaxis(p, -1, 0)
    rest = lax.cumsum(p, 0, reverse=True)
    share = jnp.where(rest > 0, p / jnp.where(rest > 0, rest, 1.0), 1.0).at[-1].set(1.0)

    def step(left: Array, each: tuple[Array, Array]) -> tuple[Array, Array]:
        key, share = each
        count = binomial(key, left, share)
        return left - count, count

    counts = lax.scan(step, total, (jax.random.split(key, p.shape[0]), share))[1]
    return jnp.moveaxis(counts, 0, -1)


def _quantile(
    key: Key[Array, ""],
    variance: Float[Array, "*b"],
    skew: Float[Array, "*b"],
    kurtosis: Float[Array, "*b"],
) -> Float[Array, "*b"]:
    """A draw less its mean; `skew` and `kurtosis` are the third and the excess fourth cumulant.

    The third is relative to the variance, the fourth to its square.
    """
    z = jax.random.normal(key, variance.shape, variance.dtype)
    sd = jnp.sqrt(variance)
    bend = skew * (z * z - 1.0) / 6.0
    tails = sd * kurtosis * z * (z * z - 3.0) / 24.0
    return sd * z + bend + tails - skew**2 * z * (2.0 * z * z - 5.0) / (36.0 * sd)
