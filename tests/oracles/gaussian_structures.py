"""Tied, diagonal and spherical Gaussians in NumPy and SciPy, straight from the definitions."""

import numpy as np
from scipy import stats
from scipy.special import gammaln, multigammaln


def tied_log_prob(mu, precision, mean, kappa, df, scatter):
    """log p(mu_1, .., mu_k, Lambda); mu and mean (k, d)."""
    total = stats.wishart.logpdf(precision, df, np.linalg.inv(scatter))
    for k in range(len(kappa)):
        covariance = np.linalg.inv(kappa[k] * precision)
        total += stats.multivariate_normal.logpdf(mu[k], mean[k], covariance)
    return total


def diagonal_log_prob(mu, tau, mean, kappa, df, scatter):
    """log p(mu, tau), all (d,)."""
    total = stats.gamma.logpdf(tau, df / 2, scale=2 / scatter)
    return np.sum(total + stats.norm.logpdf(mu, mean, 1 / np.sqrt(kappa * tau)))


def spherical_log_prob(mu, tau, mean, kappa, df, scatter):
    """log p(mu, tau); mu, mean and kappa (d,)."""
    total = stats.gamma.logpdf(tau, df / 2, scale=2 / scatter)
    return total + np.sum(stats.norm.logpdf(mu, mean, 1 / np.sqrt(kappa * tau)))


def pooled_means(x, mass, mean, kappa):
    """Of each component: kappa_k and mean after the rows, and the outer product that they add."""
    parts = []
    for k in range(mass.shape[1]):
        count = mass[:, k].sum()
        centre = mass[:, k] @ x / count
        within = (mass[:, k, None] * (x - centre)).T @ (x - centre)
        move = centre - mean[k]
        between = kappa[k] * count / (kappa[k] + count) * np.outer(move, move)
        after = (kappa[k] * mean[k] + count * centre) / (kappa[k] + count)
        parts.append((kappa[k] + count, after, within + between))
    return tuple(np.array(part) for part in zip(*parts, strict=True))


def tied_posterior(x, mass, mean, kappa, df, scatter):
    """mean, kappa, df and scatter of the shared Wishart, from rows x and masses (n, k)."""
    kappa, mean, added = pooled_means(x, mass, mean, kappa)
    return {"mean": mean, "kappa": kappa, "df": df + mass.sum(), "scatter": scatter + added.sum(0)}


def tied_log_normalizer(mean, kappa, df, scatter):
    """log of the normaliser of tied_log_prob."""
    d = mean.shape[-1]
    wishart = multigammaln(0.5 * df, d) - 0.5 * df * np.linalg.slogdet(scatter)[1]
    means = 0.5 * d * np.sum(np.log(2 * np.pi / kappa))
    return wishart + 0.5 * df * d * np.log(2) + means


def gamma_log_normalizer(kappa, df, scatter):
    """log of the normaliser of spherical_log_prob; of diagonal_log_prob for one column."""
    tau = gammaln(df / 2) - df / 2 * np.log(scatter / 2)
    return tau + 0.5 * np.sum(np.log(2 * np.pi / kappa))
