"""Exact results for a normal with unknown mean and precision, in NumPy and SciPy."""

import numpy as np
from scipy import stats
from scipy.special import gammaln


def posterior(x, mean, kappa, shape, rate):
    """Parameters of the exact posterior (Murphy 2007, "Conjugate Bayesian analysis")."""
    n, centre = len(x), np.mean(x)
    kappa_n = kappa + n
    between = kappa * n * (centre - mean) ** 2 / (2 * kappa_n)
    within = 0.5 * np.sum((x - centre) ** 2)
    return (kappa * mean + n * centre) / kappa_n, kappa_n, shape + n / 2, rate + within + between


def log_evidence(x, mean, kappa, shape, rate):
    """log p(x) in nats."""
    _, kappa_n, shape_n, rate_n = posterior(x, mean, kappa, shape, rate)
    ratio = gammaln(shape_n) - gammaln(shape) + shape * np.log(rate) - shape_n * np.log(rate_n)
    return ratio + 0.5 * np.log(kappa / kappa_n) - len(x) / 2 * np.log(2 * np.pi)


def log_prob(mu, tau, mean, kappa, shape, rate):
    """log p(mu, tau) in nats."""
    mean_part = stats.norm.logpdf(mu, mean, 1 / np.sqrt(kappa * tau))
    return mean_part + stats.gamma.logpdf(tau, shape, scale=1 / rate)


def factorised(x, mean, kappa, shape, rate):
    """The mean-field fixed point in closed form, and log evidence - bound.

    q(mu) = N(m, b / (a kappa)), q(tau) = Gamma(a + 1/2, b (a + 1/2) / a) with (m, kappa, a, b) the
    exact posterior; the gap depends on a alone.
    """
    m, k, a, b = posterior(x, mean, kappa, shape, rate)
    gap = gammaln(a) - gammaln(a + 0.5) + a * np.log1p(1 / (2 * a)) + 0.5 * np.log(a + 0.5) - 0.5
    return {
        "mean": m,
        "variance": b / (a * k),
        "shape": a + 0.5,
        "rate": b * (a + 0.5) / a,
        "gap": gap,
    }
