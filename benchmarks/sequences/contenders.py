"""vijax, hmmlearn and dynamax on the same sequences, priors and first q: `count` iterations each.

Every function here gives `run(count)`, which returns the means (k, d) after as many updates.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vijax as vx

Run = Callable[[int], Any]
_NEVER = 2**30  # a patience that no fit has


def fixed(count: int) -> vx.Stop:
    """Stop after `count` iterations, not before."""
    return vx.Stop(tol=0.0, max_iter=count, patience=_NEVER)


def prior_of(model: vx.HMM) -> dict[str, np.ndarray]:
    """The prior of the components in standard parameters (k, ...)."""
    own: Any = model.components
    names = "mean", "kappa", "df", "scatter"
    return {name: np.asarray(getattr(own, name), np.float64) for name in names}


def ours(x: Any, labels: Any, k: int, method: Any = None) -> Run:
    """Our `fit` to sequences (n, t, d), or a list, from labels of all steps."""
    data = vx.Batch.sequences(x)
    model = vx.HMM.from_data(data, k, conc=1.0)

    def run(count: int) -> Any:
        fit = vx.fit(model, data, init=labels, method=method, stop=fixed(count))
        return fit.q.components.mean

    return run


def ours_many(xs: Any, labels: Any, k: int) -> Run:
    """Our `fit_many` to data sets (m, n, t, d), with one prior."""
    model = model_of_all(xs, k)

    def run(count: int) -> Any:
        return vx.fit_many(model, xs, init=labels, stop=fixed(count)).q.components.mean

    return run


def whole_ours(xs: Any, model: vx.HMM) -> Callable[[], Any]:
    """Our `fit_many` to data sets (m, n, t, d) with its own start and stop."""
    return lambda: np.asarray(vx.fit_many(model, xs, key=jax.random.key(0)).elbo)


def whole_hmmlearn(xs: Any, k: int, implementation: str) -> Callable[[], Any]:
    """A loop of its fits to data sets (m, 1, t, d), with its own prior, start and stop."""
    from hmmlearn.vhmm import VariationalGaussianHMM

    logging.getLogger("hmmlearn").setLevel(logging.ERROR)

    def run() -> Any:
        options = {"covariance_type": "full", "implementation": implementation}
        return [
            VariationalGaussianHMM(k, random_state=i, **options).fit(x[0]) for i, x in enumerate(xs)
        ]

    return run


def model_of_all(xs: np.ndarray, k: int) -> vx.HMM:
    """Our default model of the sequences of all data sets (m, n, t, d)."""
    return vx.HMM.from_data(xs.reshape(-1, *xs.shape[2:]), k, conc=1.0)


def first_counts(x: np.ndarray, labels: np.ndarray, k: int) -> tuple[Any, ...]:
    """Counts of first states, of transitions and of steps; means and scatter (k, ...) of labels."""
    hot = np.eye(k)[labels]
    first, pairs = hot[:, 0].sum(0), np.einsum("nti,ntj->ij", hot[:, :-1], hot[:, 1:])
    rows, hot = x.reshape(-1, x.shape[-1]).astype(np.float64), hot.reshape(-1, k)
    count = hot.sum(0)
    mean = hot.T @ rows / count[:, None]
    scatter = np.stack([(hot[:, [j]] * (rows - mean[j])).T @ (rows - mean[j]) for j in range(k)])
    return first, pairs, count, mean, scatter


def hmmlearn(
    x: np.ndarray, labels: np.ndarray, k: int, implementation: str, model: vx.HMM | None = None
) -> Run:
    """Its `VariationalGaussianHMM` with the prior of our model, from the q of the labels.

    Its ten k-means, which it runs even where all is given, are left out.
    """
    from hmmlearn.vhmm import VariationalGaussianHMM

    class Given(VariationalGaussianHMM):
        def _init(self, X: Any, lengths: Any) -> None:
            pass

    logging.getLogger("hmmlearn").setLevel(logging.ERROR)
    prior = prior_of(model or vx.HMM.from_data(x, k, conc=1.0))
    first, pairs, count, mean, scatter = first_counts(x, labels, k)
    kappa = prior["kappa"] + count
    move = mean - prior["mean"]
    between = (prior["kappa"] * count / kappa)[:, None, None] * move[:, :, None] * move[:, None]
    rows, lengths = x.reshape(-1, x.shape[-1]), [x.shape[1]] * len(x)

    def run(num_iters: int) -> Any:
        hmm = Given(
            k,
            covariance_type="full",
            init_params="",
            n_iter=num_iters,
            tol=-np.inf,
            startprob_prior=1.0,
            transmat_prior=1.0,
            means_prior=prior["mean"],
            beta_prior=prior["kappa"],
            dof_prior=prior["df"],
            scale_prior=prior["scatter"],
            implementation=implementation,
        )
        hmm.startprob_prior_, hmm.transmat_prior_ = np.ones(k), np.ones((k, k))
        hmm.startprob_posterior_, hmm.transmat_posterior_ = 1.0 + first, 1.0 + pairs
        hmm.means_prior_, hmm.beta_prior_ = prior["mean"], prior["kappa"]
        hmm.dof_prior_, hmm.scale_prior_ = prior["df"], prior["scatter"]
        hmm.means_posterior_ = (
            prior["kappa"][:, None] * prior["mean"] + count[:, None] * mean
        ) / kappa[:, None]
        hmm.beta_posterior_, hmm.dof_posterior_ = kappa, prior["df"] + count
        hmm.scale_posterior_ = prior["scatter"] + scatter + between
        hmm._covars_ = hmm.scale_posterior_ / hmm.dof_posterior_[:, None, None]
        hmm.n_features = x.shape[-1]
        return hmm.fit(rows, lengths).means_posterior_

    return run


def hmmlearn_loop(
    xs: np.ndarray, labels: np.ndarray, k: int, implementation: str, model: vx.HMM
) -> Run:
    """One after another of the data sets (m, n, t, d)."""
    each = [hmmlearn(x, z, k, implementation, model) for x, z in zip(xs, labels, strict=True)]
    return lambda count: np.stack([run(count) for run in each])


def dynamax(x: np.ndarray, labels: np.ndarray, k: int) -> Run:
    """Its `GaussianHMM.fit_em` as one program, from the maximum likelihood of the labels."""
    from dynamax.hidden_markov_model import GaussianHMM

    first, pairs, count, mean, scatter = first_counts(x, labels, k)
    model = GaussianHMM(k, x.shape[-1])

    def own(value: np.ndarray) -> Any:
        return jnp.asarray(value, x.dtype)

    params, props = model.initialize(
        initial_probs=own((1.0 + first) / (1.0 + first).sum()),
        transition_matrix=own(pairs / pairs.sum(1, keepdims=True)),
        emission_means=own(mean),
        emission_covariances=own(scatter / count[:, None, None]),
    )
    params = jax.tree.map(lambda a: jnp.asarray(a, x.dtype), params)
    data = jnp.asarray(x)

    @functools.partial(jax.jit, static_argnums=2)
    def fitted(params: Any, data: Any, count: int) -> Any:
        return model.fit_em(params, props, data, num_iters=count, verbose=False)[0]

    return lambda count: fitted(params, data, count).emissions.means
