"""Scores of numbers of components from fits to all rows, each compiled as one program."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..data.batch import Batch
from ..infer.result import Result
from ..models.mixture import Mixture
from ..models.mixture_params import MixtureParams
from ..numerics import special

CRITERIA = ("elbo", "bic", "cv")
LABELS = {"elbo": "ELBO + relabellings", "bic": "-BIC / 2", "cv": "held-out log density"}


def by_evidence(models: Mixture, results: Result, batch: Batch) -> Float[Array, "m"]:
    """ELBO + log relabellings of every number of components, in nats."""
    relabellings = jax.vmap(lambda model, q: model.log_relabellings(q, batch))(models, results.q)
    return results.elbo + relabellings


def by_likelihood(
    models: Mixture, results: Result, k: Float[Array, "m"], batch: Batch
) -> tuple[Array, Array, Array, Array]:
    """-BIC / 2, BIC, AIC, and ICL = BIC + 2 entropy (Biernacki, Celeux & Govaert 2000).

    They take the log-likelihood at the point of q: the estimate of EM, the posterior means of CAVI
    (Fraley & Raftery 2007).
    """
    log_lik, entropy = jax.vmap(lambda model, q: _at_point(model, q, batch))(models, results.q)
    components = jax.tree.map(lambda a: a[0], models).components
    own, shared = components.num_parameters()
    free = k * own + shared + k + components.num_background - 1.0
    bic = free * jnp.log(jnp.sum(batch.weight)) - 2.0 * log_lik
    return -0.5 * bic, bic, 2.0 * free - 2.0 * log_lik, bic + 2.0 * entropy


def _at_point(model: Mixture, q: MixtureParams, batch: Batch) -> tuple[Any, Any]:
    """The log-likelihood, and the entropy of the responsibilities of all rows, in nats."""
    resp, log_z = special.normalize(model.log_joint(q.point(), batch))
    log_resp = jnp.log(jnp.where(resp > 0, resp, 1.0))
    entropy = -jnp.sum(special.xlogy(resp, log_resp), -1)
    present = batch.weight > 0

    def total(values: Array) -> Array:
        return jnp.sum(jnp.where(present, batch.weight * values, 0.0))

    return total(log_z), total(entropy)
