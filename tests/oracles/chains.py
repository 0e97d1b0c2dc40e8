"""Hidden Markov chains in plain NumPy: all paths one by one, and sums with logs in float64."""

import itertools

import numpy as np
from scipy.special import logsumexp


def all_paths(log_initial, log_transition, log_lik):
    """Every path (k^t, t) of one sequence (t, k), and the log of its term (k^t,)."""
    t, k = log_lik.shape
    paths = np.array(list(itertools.product(range(k), repeat=t)))
    log_p = log_initial[paths[:, 0]] + log_lik[np.arange(t), paths].sum(-1)
    return paths, log_p + log_transition[paths[:, :-1], paths[:, 1:]].sum(-1)


def by_paths(log_initial, log_transition, log_lik):
    """p(z_t), sum over t of p(z_{t-1}, z_t), log_z and the likeliest path, from all paths."""
    k = len(log_initial)
    paths, log_p = all_paths(log_initial, log_transition, log_lik)
    log_z = logsumexp(log_p)
    p = np.exp(log_p - log_z) if log_z > -np.inf else np.zeros_like(log_p)
    one = np.eye(k)[paths]
    resp = np.einsum("p,ptk->tk", p, one)
    pairs = np.einsum("p,pti,ptj->ij", p, one[:, :-1], one[:, 1:])
    return resp, pairs, log_z, paths[np.argmax(log_p)]


def in_logs(log_initial, log_transition, log_lik):
    """p(z_t), sum of p(z_{t-1}, z_t), and log_z of one sequence (t, k), by forward-backward."""
    t = len(log_lik)
    forward, backward = np.empty_like(log_lik), np.zeros_like(log_lik)
    forward[0] = log_initial + log_lik[0]
    for i in range(1, t):
        forward[i] = logsumexp(forward[i - 1][:, None] + log_transition, 0) + log_lik[i]
    for i in range(t - 1, 0, -1):
        backward[i - 1] = logsumexp(log_transition + log_lik[i] + backward[i], 1)
    log_z = logsumexp(forward[-1])
    pairs = np.zeros_like(log_transition)
    for i in range(1, t):
        ahead = log_lik[i] + backward[i] - log_z
        pairs += np.exp(forward[i - 1][:, None] + log_transition + ahead)
    return np.exp(forward + backward - log_z), pairs, log_z


def log_z_of_scales(log_initial, log_transition, log_lik):
    """log_z of one long sequence (t, k), from probabilities with one scale per step."""
    transition, top = np.exp(log_transition), log_lik.max(1)
    lik = np.exp(log_lik - top[:, None])
    p, total = np.exp(log_initial) * lik[0], np.sum(top)
    for b in lik[1:]:
        scale = p.sum()
        total += np.log(scale)
        p = (p / scale) @ transition * b
    return total + np.log(p.sum())
