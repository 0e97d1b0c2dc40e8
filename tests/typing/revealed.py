"""What type checkers and editors know, in a comment behind each line; see test_typing."""

from __future__ import annotations

from typing import reveal_type

import jax
import numpy as np
from jaxtyping import Float

import vijax as vx


def counts(batch: vx.Batch) -> vx.PoissonMixture:
    """A model of one data set."""
    return vx.PoissonMixture.from_data(batch, 2)


def look(x: Float[np.ndarray, "n d"]) -> None:
    """A fit, many, and what is below the dot."""
    key = jax.random.key(0)
    model = vx.GaussianMixture.from_data(x, 5)
    fit = vx.fit(model, x, key=key).check()
    reveal_type(fit)  # Result[MixtureParams[Weights, Gaussian]]
    reveal_type(fit.q.components.mean)  # Array
    reveal_type(fit.q.weights.mean)  # Array
    reveal_type(vx.relabel(vx.prune(fit)).q.components)  # Gaussian
    fits = vx.fit_many(model, [x, x], key=key)
    reveal_type(fits)  # Fits[MixtureParams[Weights, Gaussian]]
    reveal_type(fits[0].q.components.mean)  # Array
    reveal_type(vx.fit_many(counts, [x], key=key).q.components.rate)  # Array

    rates = vx.GammaPoisson.from_standard(np.ones((2, 3)), 1.0)
    own = vx.Mixture(vx.Dirichlet.from_standard([1.0, 1.0]), rates)
    reveal_type(vx.fit(own, x, key=key).q)  # MixtureParams[Dirichlet, GammaPoisson]
    reveal_type(vx.fit(own, x, key=key).q.weights.conc)  # Array
    chain = vx.HMM(vx.Chain.from_standard(np.ones(2), np.ones((2, 2))), rates)
    reveal_type(vx.fit(chain, x, key=key).q)  # StructuredParams[Chain, GammaPoisson]
    reveal_type(vx.fit(chain, x, key=key).q.labels.transitions)  # Dirichlet
    exact = vx.NormalGammaExact.with_prior(mean=0.0, kappa=1.0, shape=1.0, rate=1.0)
    reveal_type(vx.fit(exact, x[:, 0]).q)  # NormalGamma
    reveal_type(vx.fit(vx.LDA.from_data(x, 3), x, key=key).q)  # TopicParams

    bare: vx.Result = vx.load("fit.npz")
    reveal_type(bare.q)  # Any
