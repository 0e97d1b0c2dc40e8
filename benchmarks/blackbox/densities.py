"""Log densities in nats, elementwise, with every constant."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax.scipy.special import gammaln

_LOG_2PI = math.log(2 * math.pi)


def normal(x, mean, sd):
    """Normal(mean, sd) at x."""
    return -0.5 * ((x - mean) / sd) ** 2 - jnp.log(sd) - 0.5 * _LOG_2PI


def half_normal(x, sd):
    """Normal(0, sd) at x > 0, folded."""
    return normal(x, 0.0, sd) + math.log(2.0)


def half_cauchy(x, scale):
    """Cauchy(0, scale) at x > 0, folded."""
    return math.log(2 / math.pi) - jnp.log(scale) - jnp.log1p((x / scale) ** 2)


def student_t(x, df, mean, scale):
    """Student's t of df degrees of freedom at x."""
    z = (x - mean) / scale
    constant = gammaln(0.5 * (df + 1)) - gammaln(0.5 * df) - 0.5 * jnp.log(df * math.pi)
    return constant - jnp.log(scale) - 0.5 * (df + 1) * jnp.log1p(z**2 / df)


def log_normal(x, mean, sd):
    """exp of Normal(mean, sd) at x."""
    return normal(jnp.log(x), mean, sd) - jnp.log(x)


def gamma(x, shape, rate):
    """Gamma(shape, rate) at x."""
    return shape * jnp.log(rate) - gammaln(shape) + (shape - 1) * jnp.log(x) - rate * x


def beta(x, a, b):
    """Beta(a, b) at x."""
    log_norm = gammaln(a + b) - gammaln(a) - gammaln(b)
    return log_norm + (a - 1) * jnp.log(x) + (b - 1) * jnp.log1p(-x)


def softplus(x):
    """log(1 + exp(x)), as numpyro writes it; that of JAX takes twice as long on a CPU."""
    return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def bernoulli(y, logit):
    """Bernoulli at y in {0, 1}."""
    return y * logit - softplus(logit)


def binomial(y, total, logit):
    """Binomial of `total` at y."""
    choose = gammaln(total + 1) - gammaln(y + 1) - gammaln(total - y + 1)
    return choose + y * logit - total * softplus(logit)


def poisson(y, log_rate):
    """Poisson at y."""
    return y * log_rate - jnp.exp(log_rate) - gammaln(y + 1)


def negative_binomial(y, log_mean, size):
    """Negative binomial at y, of variance mean + mean^2 / size."""
    log_size = jnp.log(size)
    log_total = jnp.logaddexp(log_mean, log_size)
    choose = gammaln(y + size) - gammaln(size) - gammaln(y + 1)
    return choose + size * (log_size - log_total) + y * (log_mean - log_total)
