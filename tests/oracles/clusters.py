"""Mixtures of whole sequences in NumPy and SciPy, by adding up all labellings one by one."""

import numpy as np
from scipy.special import logsumexp

from .hmm import dirichlet, paths


def log_evidence(lengths, conc, evidence):
    """Exact log p(x) of a few sequences, theta and weights integrated out, over k^n labellings.

    `evidence(z)` is log p(x | z) for the labels of all their steps, one after another.
    """
    k = len(conc)
    terms = []
    for z in paths(k, len(lengths)):
        term = dirichlet(np.bincount(z, minlength=k), conc)
        terms.append(term + evidence(np.repeat(z, lengths)) if np.isfinite(term) else -np.inf)
    return logsumexp(terms)


def by_rows(log_weight, log_lik):
    """p(class) (n, k) and log_z (n,) of sequences with log-likelihoods (t_n, k) in nats."""
    joint = np.array([log_weight + own.sum(0) for own in log_lik])
    log_z = logsumexp(joint, axis=1)
    return np.exp(joint - log_z[:, None]), log_z
