"""log p(z) under priors on mixture weights, weights integrated out, in NumPy and SciPy.

`counts` (..., k) are rows in each component; sticks are (a, b) of those that are on, in order.
"""

import itertools

import numpy as np
from scipy import integrate, stats
from scipy.special import betaln, gammaln, logsumexp

from . import gaussian_mixture as gmm


def log_prob_dirichlet(counts, conc):
    """One sequence of labels with these counts under Dirichlet(conc)."""
    n = np.sum(counts, -1)
    each = gammaln(conc + counts) - gammaln(conc)
    return gammaln(np.sum(conc)) - gammaln(np.sum(conc) + n) + np.sum(each, -1)


def log_prob_sticks(counts, a, b):
    """One sequence of labels: prod_t B(a_t + n_t, b_t + n_>t) / B(a_t, b_t).

    With as many sticks as components the mass beyond them is left over; with one stick less the
    last component takes all of it.
    """
    counts = np.asarray(counts, float)
    later = np.cumsum(counts[..., ::-1], -1)[..., ::-1] - counts
    m = len(a)
    each = betaln(a + counts[..., :m], b + later[..., :m]) - betaln(a, b)
    return each.sum(-1)


def process_sticks(concentration, discount, num_sticks):
    """a and b of the Pitman-Yor process."""
    t = np.arange(1, num_sticks + 1)
    return np.full(num_sticks, 1.0 - discount), concentration + discount * t


def log_prob_process(counts, shape, rate, num_sticks):
    """Dirichlet process with concentration ~ Gamma(shape, rate), by quadrature."""
    peak = max(shape / rate, 1.0)

    def density(alpha):
        a, b = process_sticks(alpha, 0.0, num_sticks)
        return np.exp(log_prob_sticks(counts, a, b)) * stats.gamma.pdf(alpha, shape, scale=1 / rate)

    pieces = [(0.0, peak), (peak, 10 * peak), (10 * peak, np.inf)]
    return np.log(sum(integrate.quad(density, lo, hi, epsabs=0)[0] for lo, hi in pieces))


def log_prob_partition(sizes, concentration, discount):
    """A partition into blocks of these sizes in the Chinese restaurant process (Pitman 1995)."""
    n, m = sum(sizes), len(sizes)
    opened = np.log(concentration + discount * np.arange(m)).sum()
    seated = gammaln(concentration + n) - gammaln(concentration)
    joined = sum(gammaln(size - discount) - gammaln(1.0 - discount) for size in sizes)
    return opened - seated + joined


def monte_carlo_log_prob(rng, counts, a, b, num_draws):
    """E[prod_t pi_t^n_t] over SciPy's Beta draws: its log and the relative standard error."""
    v = stats.beta.rvs(a, b, size=(num_draws, len(a)), random_state=rng)
    left = np.cumprod(1.0 - v, -1)
    before = np.concatenate([np.ones((num_draws, 1)), left], -1)
    pi = np.concatenate([v, np.ones((num_draws, 1))], -1) * before
    value = np.prod(pi[:, : len(counts)] ** np.asarray(counts), -1)
    return np.log(value.mean()), value.std() / np.sqrt(num_draws) / value.mean()


def log_evidence(x, components, log_prob):
    """log p(x) of a Gaussian mixture by adding up all k^n labels; `log_prob(counts)` of labels.

    `components` is a prior in the form of `oracles.gaussian_mixture`.
    """
    n, k = len(x), len(components["kappa"])
    of_subset = {
        (j, rows): gmm.log_evidence_of_one(x[list(rows)], components, j)
        for j in range(k)
        for size in range(n + 1)
        for rows in itertools.combinations(range(n), size)
    }
    of_counts = {}
    total = []
    for z in itertools.product(range(k), repeat=n):
        blocks = [tuple(i for i in range(n) if z[i] == j) for j in range(k)]
        counts = tuple(len(block) for block in blocks)
        if counts not in of_counts:
            of_counts[counts] = log_prob(np.array(counts))
        total.append(of_counts[counts] + sum(of_subset[j, block] for j, block in enumerate(blocks)))
    return logsumexp(total)
