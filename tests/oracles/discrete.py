"""Counts, flags, categories and waiting times in NumPy and SciPy, straight from the definitions.

Rows are (n, d) with NaN for missing entries, each counted `weight` times; a prior is the dict that
`with_prior` takes, of one component or, where `k` says so, of several.
"""

import itertools

import numpy as np
from scipy.special import betaln, gammaln, logsumexp


def _sums(x, weight):
    """Weight and weighted sum of each column's observed entries."""
    seen = ~np.isnan(x)
    return weight @ seen, weight @ np.where(seen, x, 0.0)


def poisson(x, weight, shape, rate):
    """log evidence in nats: Gamma on each column's rate."""
    number, total = _sums(x, weight)
    each = gammaln(shape + total) - gammaln(shape)
    each = each + shape * np.log(rate) - (shape + total) * np.log(rate + number)
    return np.sum(each) - weight @ np.nansum(gammaln(x + 1), 1)


def exponential(x, weight, shape, rate):
    """log evidence in nats: Gamma on each column's rate."""
    number, total = _sums(x, weight)
    each = gammaln(shape + number) - gammaln(shape)
    return np.sum(each + shape * np.log(rate) - (shape + number) * np.log(rate + total))


def _dirichlet(count, conc):
    """log B(conc + count) - log B(conc), for conc > 0."""
    each = np.sum(gammaln(conc + count) - gammaln(conc))
    return each + gammaln(conc.sum()) - gammaln((conc + count).sum())


def bernoulli(x, weight, a, b):
    """log evidence in nats: Beta on each column's probability."""
    number, total = _sums(x, weight)
    columns = zip(number, total, a, b, strict=True)
    return sum(_dirichlet(np.array([t, n - t]), np.array([u, v])) for n, t, u, v in columns)


def geometric(x, weight, a, b):
    """log evidence in nats: Beta on each column's p; a row is x failures and a success."""
    number, total = _sums(x, weight)
    return np.sum(betaln(a + number, b + total) - betaln(a, b))


def categorical(x, weight, category_conc):
    """log evidence in nats: Dirichlet on each column's probabilities; conc 0 is no category."""
    total = 0.0
    for j, conc in enumerate(category_conc):
        conc = conc[conc > 0]
        count = np.array([weight @ (x[:, j] == c) for c in range(len(conc))])
        total += _dirichlet(count, conc)
    return total


def multinomial(x, weight, category_conc):
    """log evidence in nats: Dirichlet on the probabilities, given the rows' totals."""
    ways = gammaln(x.sum(1) + 1) - gammaln(x + 1).sum(1)
    return _dirichlet(weight @ x, category_conc) + weight @ ways


def log_evidence(evidence, x, conc, prior):
    """Exact log p(x) of a mixture, by adding up all k^n assignments."""
    n, k = len(x), len(conc)
    terms = []
    for z in itertools.product(range(k), repeat=n):
        z = np.array(z)
        term = _dirichlet(np.bincount(z, minlength=k), conc)
        for j in range(k):
            own = {name: value[j] for name, value in prior.items()}
            term += evidence(x[z == j], np.ones((z == j).sum()), **own)
        terms.append(term)
    return logsumexp(terms)
