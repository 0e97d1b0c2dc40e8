"""Scores of numbers of components from fits to all rows, each compiled as one program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..data.batch import Batch
from ..infer.result import Result
from ..models.structured import Structured

CRITERIA = ("elbo", "bic", "cv")
LABELS = {"elbo": "ELBO + relabellings", "bic": "-BIC / 2", "cv": "held-out log density"}


def by_evidence(models: Structured, results: Result, batch: Batch) -> Float[Array, "m"]:
    """ELBO + log relabellings of every number of components, in nats."""
    relabellings = jax.vmap(lambda model, q: model.log_relabellings(q, batch))(models, results.q)
    return results.elbo + relabellings


def by_likelihood(
    models: Structured, results: Result, k: Float[Array, "m"], batch: Batch
) -> tuple[Array, Array, Array, Array]:
    """-BIC / 2, BIC, AIC, and ICL = BIC + 2 entropy (Biernacki, Celeux & Govaert 2000).

    They take the log-likelihood at the point of q: the estimate of EM, the posterior means of CAVI
    (Fraley & Raftery 2007). Of sequences, all steps count.
    """
    log_lik, entropy = jax.vmap(lambda model, q: model.at_point(q, batch))(models, results.q)
    free = jax.vmap(lambda model, k: model.num_free(k))(models, k)
    bic = free * jnp.log(batch.total_weight) - 2.0 * log_lik
    return -0.5 * bic, bic, 2.0 * free - 2.0 * log_lik, bic + 2.0 * entropy
