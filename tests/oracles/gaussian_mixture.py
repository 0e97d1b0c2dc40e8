"""The Bayesian Gaussian mixture in NumPy and SciPy, straight from the definitions.

Parameters are plain dicts: weights `conc` (k,), and `mean` (k, d), `kappa` (k,), `df` (k,),
`scatter` (k, d, d) of Normal-Wishart components, Lambda ~ Wishart(scatter^-1, df).
"""

import itertools

import numpy as np
from scipy import stats
from scipy.special import digamma, gammaln, logsumexp, multigammaln, xlogy


def update(x, resp, prior):
    """Posterior given responsibilities (Bishop 2006, eq. 10.51-10.53, 10.58, 10.60-10.63)."""
    post = {name: [] for name in ("mean", "kappa", "df", "scatter")}
    for k in range(resp.shape[1]):
        count = resp[:, k].sum()
        centre = resp[:, k] @ x / count if count > 0 else prior["mean"][k]
        within = (resp[:, k, None] * (x - centre)).T @ (x - centre)
        kappa = prior["kappa"][k] + count
        move = centre - prior["mean"][k]
        between = prior["kappa"][k] * count / kappa * np.outer(move, move)
        post["kappa"].append(kappa)
        post["mean"].append((prior["kappa"][k] * prior["mean"][k] + count * centre) / kappa)
        post["df"].append(prior["df"][k] + count)
        post["scatter"].append(prior["scatter"][k] + within + between)
    out = {name: np.array(value) for name, value in post.items()}
    return out | {"conc": prior["conc"] + resp.sum(0)}


def expectations(q):
    """E[log pi_k], E[log|Lambda_k|] and W_k (eq. 10.65-10.66)."""
    d = q["mean"].shape[1]
    w = np.linalg.inv(q["scatter"])
    steps = np.arange(1, d + 1)
    log_det = digamma((q["df"][:, None] + 1 - steps) / 2).sum(1) + d * np.log(2)
    log_det = log_det + np.linalg.slogdet(w)[1]
    return digamma(q["conc"]) - digamma(q["conc"].sum()), log_det, w


def responsibilities(x, q):
    """eq. 10.46-10.49, 10.64."""
    log_pi, log_det, w = expectations(q)
    d = x.shape[1]
    z = x[:, None] - q["mean"]
    square = q["df"] * np.einsum("nki,kij,nkj->nk", z, w, z) + d / q["kappa"]
    log_rho = log_pi + 0.5 * (log_det - d * np.log(2 * np.pi) - square)
    return np.exp(log_rho - logsumexp(log_rho, axis=1, keepdims=True))


def _log_wishart_normalizer(w, df):
    """ln B(W, nu), eq. B.79."""
    d = w.shape[-1]
    log_det = np.linalg.slogdet(w)[1]
    return -0.5 * df * log_det - 0.5 * df * d * np.log(2) - multigammaln(0.5 * df, d)


def elbo(x, resp, q, prior):
    """eq. 10.70-10.77 at any responsibilities and any q; nats."""
    d, components = x.shape[1], range(len(q["conc"]))
    log_pi, log_det, w = expectations(q)
    total = 0.0
    for k in components:
        z = x - q["mean"][k]
        square = q["df"][k] * np.einsum("ni,ij,nj->n", z, w[k], z) + d / q["kappa"][k]
        row = 0.5 * (log_det[k] - d * np.log(2 * np.pi) - square)
        total += resp[:, k] @ row  # 10.71
    total += (resp * log_pi).sum()  # 10.72
    total += gammaln(prior["conc"].sum()) - gammaln(prior["conc"]).sum()
    total += ((prior["conc"] - 1) * log_pi).sum()  # 10.73
    for k in components:
        w0, df0, kappa0 = np.linalg.inv(prior["scatter"][k]), prior["df"][k], prior["kappa"][k]
        move = q["mean"][k] - prior["mean"][k]
        mean = d * np.log(kappa0 / (2 * np.pi)) + log_det[k] - d * kappa0 / q["kappa"][k]
        total += 0.5 * (mean - kappa0 * q["df"][k] * move @ w[k] @ move)
        total += _log_wishart_normalizer(w0, df0) + 0.5 * (df0 - d - 1) * log_det[k]
        total -= 0.5 * q["df"][k] * np.trace(prior["scatter"][k] @ w[k])  # 10.74
    total -= xlogy(resp, resp).sum()  # 10.75
    total -= gammaln(q["conc"].sum()) - gammaln(q["conc"]).sum()
    total -= ((q["conc"] - 1) * log_pi).sum()  # 10.76
    for k in components:
        df = q["df"][k]
        entropy = -_log_wishart_normalizer(w[k], df) - 0.5 * (df - d - 1) * log_det[k] + df * d / 2
        total -= 0.5 * log_det[k] + 0.5 * d * np.log(q["kappa"][k] / (2 * np.pi)) - 0.5 * d
        total += entropy  # 10.77
    return total


def log_evidence_of_one(x, prior, k=0):
    """Exact log p(x) of the rows of one component; 0 for no rows."""
    if not len(x):
        return 0.0
    n, d = x.shape
    one = {name: prior[name][k : k + 1] for name in ("mean", "kappa", "df", "scatter")}
    post = update(x, np.ones((n, 1)), one | {"conc": np.ones(1)})

    def log_normalizer(p):
        logdet = np.linalg.slogdet(p["scatter"][0])[1]
        wishart = multigammaln(0.5 * p["df"][0], d) - 0.5 * p["df"][0] * logdet
        return wishart + 0.5 * p["df"][0] * d * np.log(2) - 0.5 * d * np.log(p["kappa"][0])

    return log_normalizer(post) - log_normalizer(one) - 0.5 * n * d * np.log(2 * np.pi)


def log_joint_of_assignment(x, z, prior):
    """Exact log p(x, z), parameters integrated out."""
    counts = np.bincount(z, minlength=len(prior["conc"]))
    conc = prior["conc"]
    total = gammaln(conc.sum()) - gammaln(conc.sum() + len(z))
    total += (gammaln(conc + counts) - gammaln(conc)).sum()
    return total + sum(log_evidence_of_one(x[z == k], prior, k) for k in range(len(conc)))


def log_evidence(x, prior):
    """Exact log p(x) by adding up all k^n assignments."""
    assignments = itertools.product(range(len(prior["conc"])), repeat=len(x))
    return logsumexp([log_joint_of_assignment(x, np.array(z), prior) for z in assignments])


def log_prior(weights, means, precisions, prior):
    """log p(pi, mu, Lambda) with SciPy's densities."""
    total = stats.dirichlet.logpdf(weights / weights.sum(), prior["conc"])
    for k in range(len(weights)):
        scale = np.linalg.inv(prior["scatter"][k])
        total += stats.wishart.logpdf(precisions[k], prior["df"][k], scale)
        covariance = np.linalg.inv(prior["kappa"][k] * precisions[k])
        total += stats.multivariate_normal.logpdf(means[k], prior["mean"][k], covariance)
    return total


def log_likelihood(x, weights, means, precisions):
    """log p(x_n | theta) of every row."""
    rows = [
        np.log(weights[k])
        + stats.multivariate_normal.logpdf(x, means[k], np.linalg.inv(precisions[k]))
        for k in range(len(weights))
    ]
    return logsumexp(np.atleast_2d(np.array(rows).T), axis=-1)


def sample(rng, q):
    """One draw of (pi, mu, Lambda) from q, with SciPy's samplers."""
    weights = stats.dirichlet.rvs(q["conc"], random_state=rng)[0]
    means, precisions = [], []
    for k in range(len(weights)):
        scale = np.linalg.inv(q["scatter"][k])
        precision = np.atleast_2d(stats.wishart.rvs(q["df"][k], scale, random_state=rng))
        covariance = np.linalg.inv(q["kappa"][k] * precision)
        means.append(rng.multivariate_normal(q["mean"][k], covariance))
        precisions.append(precision)
    return weights, np.array(means), np.array(precisions)
