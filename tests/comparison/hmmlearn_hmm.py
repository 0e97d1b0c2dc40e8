"""What hmmlearn 0.3.3 says of one small problem: `python -m tests.comparison.hmmlearn_hmm`.

It writes `hmmlearn.json`, which `test_hmm_drivers.py` reads: the tests need no hmmlearn. Of two
sequences and two states, both start from the same responsibilities, taken for independent from step
to step. Of variational inference and maximum likelihood the file has the objective of every
iteration, and the parameters after 1, 2 and 10 of them.
"""

import json
from pathlib import Path

import numpy as np
from hmmlearn.hmm import GaussianHMM
from hmmlearn.vhmm import VariationalGaussianHMM

OUT = Path(__file__).parent / "hmmlearn.json"
LENGTHS = (25, 15)
ITERATIONS = (1, 2, 10)
K, D = 2, 2
PRIOR = {
    "conc": 0.7,  # of the first state and of every transition
    "mean": [0.3, -0.2],
    "kappa": 0.5,
    "df": 4.0,
    "scatter": [[2.0, 0.3], [0.3, 1.5]],
}


def problem():
    """Sequences, one below the other, and responsibilities to start from."""
    rng = np.random.default_rng(21)
    states = np.concatenate([(np.arange(t) // 5) % K for t in LENGTHS])
    x = rng.normal(size=(sum(LENGTHS), D)) + 1.5 * states[:, None]
    resp = rng.dirichlet(np.ones(K), size=len(x))
    return np.round(x, 6), np.round(resp, 6)


def start(x, resp):
    """Expected counts of the first state and of transitions, and the sums of every state."""
    ends = np.cumsum(LENGTHS)
    first = resp[ends - LENGTHS].sum(0)
    each = zip(ends, LENGTHS, strict=True)
    pairs = sum(resp[b - t : b - 1].T @ resp[b - t + 1 : b] for b, t in each)
    count = resp.sum(0)
    mean = resp.T @ x / count[:, None]
    within = np.stack([(resp[:, [k]] * (x - mean[k])).T @ (x - mean[k]) for k in range(K)])
    return first, pairs, count, mean, within


def variational(x, resp, n_iter):
    first, pairs, count, mean, within = start(x, resp)
    m0, kappa0, df0 = np.array(PRIOR["mean"]), PRIOR["kappa"], PRIOR["df"]
    scatter0, conc = np.array(PRIOR["scatter"]), PRIOR["conc"]
    hmm = VariationalGaussianHMM(
        K,
        covariance_type="full",
        init_params="",
        n_iter=n_iter,
        tol=-np.inf,
        startprob_prior=conc,
        transmat_prior=conc,
        means_prior=np.tile(m0, (K, 1)),
        beta_prior=np.full(K, kappa0),
        dof_prior=np.full(K, df0),
        scale_prior=np.tile(scatter0, (K, 1, 1)),
    )
    kappa = kappa0 + count
    move = mean - m0
    between = (kappa0 * count / kappa)[:, None, None] * move[:, :, None] * move[:, None]
    hmm.startprob_prior_ = np.full(K, conc)
    hmm.transmat_prior_ = np.full((K, K), conc)
    hmm.startprob_posterior_, hmm.transmat_posterior_ = conc + first, conc + pairs
    hmm.means_prior_, hmm.beta_prior_ = np.tile(m0, (K, 1)), np.full(K, kappa0)
    hmm.dof_prior_, hmm.scale_prior_ = np.full(K, df0), np.tile(scatter0, (K, 1, 1))
    hmm.means_posterior_ = (kappa0 * m0 + count[:, None] * mean) / kappa[:, None]
    hmm.beta_posterior_, hmm.dof_posterior_ = kappa, df0 + count
    hmm.scale_posterior_ = scatter0 + within + between
    hmm._covars_ = hmm.scale_posterior_ / hmm.dof_posterior_[:, None, None]
    hmm.n_features = D
    hmm.fit(x, LENGTHS)
    names = {
        "initial": "startprob",
        "transitions": "transmat",
        "mean": "means",
        "kappa": "beta",
        "df": "dof",
        "scatter": "scale",
    }
    found = {own: getattr(hmm, f"{name}_posterior_").tolist() for own, name in names.items()}
    return list(hmm.monitor_.history), found


def maximum_likelihood(x, resp, n_iter):
    first, pairs, count, mean, within = start(x, resp)
    hmm = GaussianHMM(
        K,
        covariance_type="full",
        init_params="",
        n_iter=n_iter,
        tol=-np.inf,
        min_covar=0.0,
        covars_prior=0.0,
        covars_weight=0.0,
    )
    hmm.startprob_ = first / first.sum()
    hmm.transmat_ = pairs / pairs.sum(1, keepdims=True)
    hmm.means_, hmm.covars_ = mean, within / count[:, None, None]
    hmm.fit(x, LENGTHS)
    names = ("startprob", "transmat", "means", "covars")
    own = ("initial", "transitions", "mean", "covariance")
    found = {a: getattr(hmm, f"{b}_").tolist() for a, b in zip(own, names, strict=True)}
    return list(hmm.monitor_.history), found | {
        "path": hmm.predict(x, LENGTHS).tolist(),
        "resp": hmm.predict_proba(x, LENGTHS).tolist(),
        "log_likelihood": hmm.score(x, LENGTHS),
    }


def main():
    x, resp = problem()
    out = {"lengths": LENGTHS, "x": x.tolist(), "resp": resp.tolist(), "prior": PRIOR}
    for name, run in {"variational": variational, "em": maximum_likelihood}.items():
        found = {str(n): run(x, resp, n)[1] for n in ITERATIONS}
        out[name] = {"objective": run(x, resp, max(ITERATIONS))[0], "after": found}
    OUT.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
