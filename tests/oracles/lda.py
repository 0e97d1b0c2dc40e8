"""Latent Dirichlet allocation in NumPy and SciPy, token by token, straight from the definitions.

A document is an integer array of its words in their order. `topic_conc` is (k,), `word_conc` and
the q of the topics are (k, v), and `gamma` (n, k) is the q of the memberships.
"""

import itertools

import numpy as np
from scipy.special import digamma, gammaln, logsumexp


def dirichlet_evidence(count, conc):
    """log probability in nats of draws with these counts in a given order, p integrated out."""
    each = gammaln(conc + count) - gammaln(conc)
    return each.sum() + gammaln(conc.sum()) - gammaln((conc + count).sum())


def log_evidence(documents, topic_conc, word_conc):
    """Exact log p(words), memberships and topics integrated out, by all k^tokens assignments."""
    k, v = word_conc.shape
    words = np.concatenate(documents)
    owner = np.repeat(np.arange(len(documents)), [len(d) for d in documents])
    terms = []
    for z in itertools.product(range(k), repeat=len(words)):
        z = np.array(z)
        term = sum(
            dirichlet_evidence(np.bincount(z[owner == n], minlength=k), topic_conc)
            for n in range(len(documents))
        )
        term += sum(
            dirichlet_evidence(np.bincount(words[z == j], minlength=v), word_conc[j])
            for j in range(k)
        )
        terms.append(term)
    return logsumexp(terms)


def expected_log(conc):
    """E[log p] under Dirichlets (.., k)."""
    return digamma(conc) - digamma(conc.sum(-1, keepdims=True))


def kl_dirichlet(q, p):
    """KL in nats between Dirichlets (.., k), summed."""

    def log_b(conc):
        return (gammaln(conc).sum(-1) - gammaln(conc.sum(-1))).sum()

    return log_b(p) - log_b(q) + ((q - p) * expected_log(q)).sum()


def phi_of(document, gamma, q):
    """Responsibilities (t, k) of the tokens of one document, at their optimum, and their log."""
    joint = expected_log(gamma)[None] + expected_log(q)[:, document].T
    log_phi = joint - logsumexp(joint, 1, keepdims=True)
    return np.exp(log_phi), log_phi, joint


def row_bounds(documents, gamma, topic_conc, q):
    """The bound on each document in nats: E[log p(w, z, theta)] + entropies, term by term."""
    out = []
    for document, own in zip(documents, gamma, strict=True):
        phi, log_phi, joint = phi_of(document, own, q)
        out.append((phi * (joint - log_phi)).sum() - kl_dirichlet(own, topic_conc))
    return np.array(out)


def elbo(documents, weight, gamma, topic_conc, q, word_conc):
    """The bound in nats at any gamma and any q of the topics."""
    return weight @ row_bounds(documents, gamma, topic_conc, q) - kl_dirichlet(q, word_conc)


def statistics(documents, weight, gamma, q):
    """Expected number of times that each topic gave each word, (k, v)."""
    out = np.zeros_like(q)
    for document, w, own in zip(documents, weight, gamma, strict=True):
        phi = phi_of(document, own, q)[0]
        for word, p in zip(document, phi, strict=True):
            out[:, word] += w * p
    return out


def settled(documents, topic_conc, q, times=1000):
    """The gamma (n, k) after so many updates from equal shares."""
    out = []
    for document in documents:
        gamma = topic_conc + len(document) / len(topic_conc)
        for _ in range(times):
            gamma = topic_conc + phi_of(document, gamma, q)[0].sum(0)
        out.append(gamma)
    return np.array(out)


def elbo_by_draws(rng, documents, gamma, topic_conc, q, word_conc, draws):
    """The same bound from draws of all unknowns: its mean and its standard error.

    Each draw gives log p(w, z, theta, topics) - log q(z) - log q(theta) - log q(topics).
    """

    def log_dirichlet(p, conc):
        each = ((conc - 1) * np.log(p)).sum(-1)
        return each + gammaln(conc.sum(-1)) - gammaln(conc).sum(-1)

    topics = np.stack([rng.dirichlet(row, draws) for row in q], 1)
    value = (log_dirichlet(topics, word_conc) - log_dirichlet(topics, q)).sum(1)
    number = np.arange(draws)
    for document, own in zip(documents, gamma, strict=True):
        theta = rng.dirichlet(own, draws)
        value += log_dirichlet(theta, topic_conc) - log_dirichlet(theta, own)
        phi, log_phi, _ = phi_of(document, own, q)
        for word, p, log_p in zip(document, phi, log_phi, strict=True):
            z = rng.choice(len(p), draws, p=p)
            value += np.log(theta[number, z]) + np.log(topics[number, z, word]) - log_p[z]
    return value.mean(), value.std() / np.sqrt(draws)


def documents_of(counts):
    """Each row of a table of counts (n, v) as its words in the order of their numbers."""
    words = np.arange(counts.shape[1])
    return [np.repeat(words, row.astype(int)) for row in counts]
