"""Mixtures: Dirichlet weights over the components of any conjugate family."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._pytree import pytree
from .._text import columns
from ..batch import Batch
from ..families.dirichlet import CategoricalMoments, Dirichlet
from ..model import Conjugate, Expected
from ..natural import Product
from ..numerics import special


@pytree
class MixtureMoments:
    """Moments of the weights and of every component: under q, or at a point."""

    weights: CategoricalMoments
    components: Any

    def summary(self, min_weight: float = 0.01, names: list[str] | None = None) -> str:
        """As `MixtureParams.summary`, of a point: nothing has a standard deviation."""
        weight = np.asarray(self.weights.mean)
        return _table(weight, None, self.components, min_weight, names)


@pytree
class MixtureParams(Product):
    """q(theta) or p(theta) of a mixture: weights, and k components on the last batch axis.

    `components` is a Natural with a class method `observe(x, weight, at)`, whose moments have
    `log_lik(x)`, both for k components at once.
    """

    Moments: ClassVar = MixtureMoments
    weights: Dirichlet
    components: Any

    def summary(self, min_weight: float = 0.01, names: list[str] | None = None) -> str:
        """A table of the components whose expected weight is at least `min_weight`.

        Weights with their posterior standard deviation, heaviest first; then what the component
        family describes of itself (`describe`), one line per column of the data.
        """
        weight, sd = np.asarray(self.weights.mean), np.asarray(self.weights.sd)
        return _table(weight, sd, self.components, min_weight, names)


def _table(weight: Any, sd: Any, components: Any, min_weight: float, names: Any) -> str:
    order = [int(k) for k in np.argsort(-weight, kind="stable") if weight[k] >= min_weight]
    title = f"{len(order)} of {int((weight > 0).sum())} components have weight >= {min_weight:g}"
    spread = ["" if sd is None else f" ± {sd[k]:.3f}" for k in order]
    rows = {"weight": [f"{weight[k]:.3f}{s}" for k, s in zip(order, spread, strict=True)]}
    for label, values in components.describe(names).items():
        rows[label] = [f"{values[k]:.4g}" for k in order]
    return "\n".join([title, *columns([str(k) for k in order], rows)])


class Mixture(Conjugate):
    """The local step of every mixture; a concrete mixture adds its constructors and `init`.

    z_n ~ Categorical(weights), x_n | z_n = k ~ the likelihood that component k is conjugate to
    (Bishop 2006, section 10.2).
    """

    draws: ClassVar[bool] = True
    prior: MixtureParams
    active: Bool[Array, "*b k"]
    improper: bool

    @abc.abstractmethod
    def check(self, batch: Batch, point: bool) -> None:
        """Raise ValueError if data and prior, or prior and method, do not go together."""

    @property
    def num_components(self) -> int:
        """k, switched-off components included."""
        return self.prior.weights.conc.shape[-1]

    def log_joint(self, moments: MixtureMoments, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """E[log p(x_n, z_n = k)] in nats."""
        return moments.weights.log_p + moments.components.log_lik(x)

    def local(self, moments: MixtureMoments, batch: Batch) -> Expected:
        """Responsibilities, their statistics, and each row's log-normaliser."""
        resp, log_z = special.normalize(self.log_joint(moments, batch.x))
        return Expected(self._stats(moments.components, batch, resp), log_z)

    def assign(self, q: MixtureParams, batch: Batch, resp: Float[Array, "n k"]) -> MixtureParams:
        """Statistics of given responsibilities, about the means of q."""
        return self._stats(q.components.moments(), batch, resp)

    def _stats(self, at: Any, batch: Batch, resp: Float[Array, "n k"]) -> MixtureParams:
        # a row of weight 0 must not spread a NaN, in values or in gradients
        present = (batch.weight > 0)[:, None]
        mass = jnp.where(present, batch.weight[:, None] * jnp.where(present, resp, 0.0), 0.0)
        stats = self.prior.components.observe(batch.x, mass, at)
        return MixtureParams(Dirichlet(jnp.sum(mass, 0)), stats)

    def log_prior(self, moments: MixtureMoments) -> Float[Array, ""]:
        """log of the prior density in nats at a point, in the natural basis."""
        weights = self.prior.weights.log_kernel(moments.weights)
        components = self.prior.components.log_kernel(moments.components)
        return weights + jnp.sum(jnp.where(self.active, components, 0.0))

    def elbo(self, q: MixtureParams, data: Any, resp: Float[Array, "n k"]) -> Float[Array, ""]:
        """The exact bound in nats at any q and any responsibilities, optimal or not."""
        batch = Batch.of(data)
        log_joint = self.log_joint(q.moments(), batch.x)
        log_resp = jnp.log(jnp.where(resp > 0, resp, 1.0))
        rows = jnp.sum(special.xlogy(resp, log_joint - log_resp), -1)
        return jnp.sum(batch.weight * rows) - self.penalty(q)

    def responsibilities(self, q: Any, x: Any) -> Float[Array, "n k"]:
        """Posterior probability of each component for each row; rows sum to one.

        `q` is a posterior, or a point such as `q.point()`, the estimate of EM; a q fitted by
        maximum likelihood is always read at its point. `x` is array-like or a Batch.
        """
        return special.normalize(self._log_joint_of(q, x))[0]

    def predict(self, q: Any, x: Any) -> Int[Array, "n"]:
        """The most probable component of each row; arguments as in `responsibilities`."""
        return jnp.argmax(self._log_joint_of(q, x), -1)

    def _log_joint_of(self, q: Any, x: Any) -> Float[Array, "n k"]:
        batch = Batch.of(x)
        self.check(batch, point=True)
        if isinstance(q, MixtureParams):
            q = q.point() if self.improper else q.moments()
        return self.log_joint(q, batch.x.astype(q.weights.log_p.dtype))
