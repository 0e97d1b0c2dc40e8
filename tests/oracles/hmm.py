"""Hidden Markov models in NumPy and SciPy, by adding up all paths one by one.

`log_initial` (k,), `log_transition` (k, k) and `log_lik` (t, k) are logs in nats, which need not be
normalised: they may be expectations under q, or the values at a point.
"""

import itertools

import numpy as np
from scipy.special import digamma, gammaln, logsumexp, xlogy


def paths(k, t):
    """All k^t paths, (k^t, t)."""
    return np.array(list(itertools.product(range(k), repeat=t)))


def log_joint(z, log_initial, log_transition, log_lik):
    """log of the product over a path, for each of the paths z (p, t)."""
    total = log_initial[z[:, 0]] + log_lik[np.arange(z.shape[1]), z].sum(1)
    return total + log_transition[z[:, :-1], z[:, 1:]].sum(1)


def smoothed(log_initial, log_transition, log_lik):
    """log_z, p(z_t | all), the best path, and the expected number of transitions."""
    t, k = log_lik.shape
    z = paths(k, t)
    joint = log_joint(z, log_initial, log_transition, log_lik)
    log_z = logsumexp(joint)
    p = np.exp(joint - log_z)
    hot = np.eye(k)[z]
    pairs = np.einsum("p,pti,ptj->ij", p, hot[:, :-1], hot[:, 1:])
    return log_z, np.einsum("p,ptk->tk", p, hot), z[joint.argmax()], pairs


def filtered(log_initial, log_transition, log_lik):
    """p(z_t | x_1, .., x_t): the last step of every sequence cut off there."""
    return np.array(
        [
            smoothed(log_initial, log_transition, log_lik[: t + 1])[1][-1]
            for t in range(len(log_lik))
        ]
    )


def dirichlet(count, conc):
    """log evidence in nats of counts of each category in some order; conc 0 is no category."""
    on = conc > 0
    if (count[~on] > 0).any():
        return -np.inf
    count, conc = count[on], conc[on]
    each = gammaln(conc + count) - gammaln(conc)
    return each.sum() + gammaln(conc.sum()) - gammaln((conc + count).sum())


def log_evidence(lengths, initial, transitions, evidence):
    """Exact log p(x) of a few sequences, theta integrated out, by adding up all paths.

    `evidence(z)` is log p(x | z) for the states of all their steps, one after another.
    """
    ends = np.cumsum(lengths)
    k = len(initial)
    terms = []
    for z in paths(k, ends[-1]):
        each = [z[b - t : b] for b, t in zip(ends, lengths, strict=True)]
        first = np.bincount([own[0] for own in each], minlength=k)
        moves = np.zeros((k, k))
        for own in each:
            np.add.at(moves, (own[:-1], own[1:]), 1.0)
        term = dirichlet(first, initial)
        term += sum(dirichlet(moves[i], transitions[i]) for i in range(k) if moves[i].any())
        terms.append(term + evidence(z) if np.isfinite(term) else -np.inf)
    return logsumexp(terms)


def expected_log(conc):
    """E[log p] under Dirichlets (.., k); -inf for a category that is off."""
    on = conc > 0
    value = digamma(np.where(on, conc, 1.0)) - digamma(conc.sum(-1, keepdims=True))
    return np.where(on, value, -np.inf)


def kl_dirichlet(q, p):
    """KL in nats between two Dirichlets (k,)."""

    def log_b(conc):
        return gammaln(conc).sum() - gammaln(conc.sum())

    return log_b(p) - log_b(q) + ((q - p) * expected_log(q)).sum()


def kl_gamma(a, b, a0, b0):
    """KL in nats between Gammas of these shapes and rates, summed."""
    each = (a - a0) * digamma(a) - gammaln(a) + gammaln(a0)
    return (each + a0 * (np.log(b) - np.log(b0)) + a * (b0 - b) / b).sum()


def poisson_elbo(xs, weight, q, prior):
    """The bound in nats at any q, all of it from definitions; NaN is a missing entry.

    q and prior are dicts of "initial" (k,), "transitions" (k, k), "shape" and "rate" (k, d). q of
    the paths is at its optimum, and its bound is E[log p(x, z)] + entropy, path by path.
    """
    log_rate = digamma(q["shape"]) - np.log(q["rate"])
    mean = q["shape"] / q["rate"]
    total = 0.0
    for x, w in zip(xs, weight, strict=True):
        each = x[:, None] * log_rate - mean - gammaln(x[:, None] + 1)
        log_lik = np.nansum(each, -1)
        z = paths(len(mean), len(x))
        first, moves = expected_log(q["initial"]), expected_log(q["transitions"])
        joint = log_joint(z, first, moves, log_lik)
        p = np.exp(joint - logsumexp(joint))
        total += w * ((p * np.where(p > 0, joint, 0.0)).sum() - xlogy(p, p).sum())
    total -= kl_dirichlet(q["initial"], prior["initial"])
    for a, b in zip(q["transitions"], prior["transitions"], strict=True):
        total -= kl_dirichlet(a, b)
    return total - kl_gamma(q["shape"], q["rate"], prior["shape"], prior["rate"])


def poisson_elbo_by_draws(rng, xs, weight, q, prior, draws):
    """The same bound from draws of theta and of paths: its mean, and its standard error.

    Each draw gives log p(x, z, theta) - log q(z) - log q(theta), with q(z) from the expected logs.
    """
    k, number = len(q["initial"]), np.arange(draws)
    first = rng.dirichlet(q["initial"], draws)
    moves = np.stack([rng.dirichlet(row, draws) for row in q["transitions"]], 1)
    rate = rng.gamma(q["shape"], 1 / q["rate"], (draws, *q["shape"].shape))

    def log_dirichlet(p, conc):
        return ((conc - 1) * np.log(p)).sum(-1) + gammaln(conc.sum(-1)) - gammaln(conc).sum(-1)

    def log_theta(of):
        shape, inverse = of["shape"], of["rate"]
        each = shape * np.log(inverse) - gammaln(shape) + (shape - 1) * np.log(rate)
        total = (each - inverse * rate).sum((1, 2)) + log_dirichlet(first, of["initial"])
        return total + log_dirichlet(moves, of["transitions"]).sum(1)

    value = log_theta(prior) - log_theta(q)
    log_rate, mean = digamma(q["shape"]) - np.log(q["rate"]), q["shape"] / q["rate"]
    for x, w in zip(xs, weight, strict=True):
        ways = gammaln(x[:, None] + 1)
        expected = np.nansum(x[:, None] * log_rate - mean - ways, -1)
        z = paths(k, len(x))
        joint = log_joint(z, expected_log(q["initial"]), expected_log(q["transitions"]), expected)
        log_p = joint - logsumexp(joint)
        pick = rng.choice(len(z), draws, p=np.exp(log_p))
        drawn = z[pick]
        own = np.nansum(x[:, None] * np.log(rate)[:, None] - rate[:, None] - ways, -1)
        row = np.log(first)[number, drawn[:, 0]]
        for t in range(len(x)):
            row = row + own[number, t, drawn[:, t]]
            if t:
                row = row + np.log(moves)[number, drawn[:, t - 1], drawn[:, t]]
        value = value + w * (row - log_p[pick])
    return value.mean(), value.std() / np.sqrt(draws)


def forward(log_initial, log_transition, log_lik):
    """log_z of one sequence of any length, by the forward recursion (Rabiner 1989, eq. 19-21)."""
    alpha = log_initial + log_lik[0]
    for row in log_lik[1:]:
        alpha = logsumexp(alpha[:, None] + log_transition, axis=0) + row
    return logsumexp(alpha)
