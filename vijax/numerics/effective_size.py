"""The effective number of draws of a Markov chain."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def effective_size(x: Float[Array, "c n"]) -> Float[Array, ""]:
    """How many independent draws have a mean as accurate as that of c chains of n draws.

    Halves of chains are chains of their own, so that drift and chains that disagree count.
    Autocorrelations are summed as long as they are those of a reversible chain (Geyer 1992; Vehtari
    et al. 2021, section 3.2). It is at most cn log10(cn), and NaN for numbers that do not vary.
    """
    half = x.shape[1] // 2
    x = jnp.concatenate([x[:, :half], x[:, -half:]])
    total = x.size
    means = jnp.mean(x, 1)
    padded = 1 << (2 * half - 1).bit_length()
    spectrum = jnp.abs(jnp.fft.rfft(x - means[:, None], padded)) ** 2
    covariance = jnp.mean(jnp.fft.irfft(spectrum, padded)[:, :half], 0) / (half - 1)
    within = covariance[0]
    variance = within * (half - 1) / half + jnp.var(means, ddof=1)
    rho = 1.0 - (within - covariance) / variance
    rho = rho.at[0].set(1.0)
    even = half - half % 2
    pairs = rho[0:even:2] + rho[1:even:2]
    pairs = lax.cummin(jnp.where(jnp.cumprod(pairs > 0), pairs, 0.0))
    time = jnp.maximum(2.0 * jnp.sum(pairs) - 1.0, 1.0 / jnp.log10(1.0 * total))
    return total / time
