"""The number of components: the bound for each number, from one compiled program."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ._pytree import pytree, replace, static
from ._text import columns
from .data.batch import Batch
from .data.host import check_integer, to_device
from .data.padding import compiled, pad
from .data.types import Data
from .infer.fit import fit
from .infer.method import Method
from .infer.methods.cavi import CAVI
from .infer.result import Result, Status, Stop
from .models.mixture import Mixture
from .models.mixture_params import MixtureParams
from .models.mixtures.gaussian import GaussianMixture
from .numerics import special


@pytree
class Selection:
    """The best fit for every number of components, and the scores that rank them.

    `score` is the bound on the log evidence in nats with all relabellings of the fit counted: the
    ELBO plus log(k! / unused!), which is log k! if all components have rows (Bishop 2006, section
    10.2.4). Components that the model can tell apart are not relabelled: those of stick-breaking
    weights, with known labels, frozen ones and noise. After EM, `score` is -BIC / 2. `bic`, `aic`
    and `icl` are NaN after CAVI. Only differences of scores have a meaning. All arrays have a
    leading axis over `num_components`.
    """

    results: Result
    score: Float[Array, "m"]
    bic: Float[Array, "m"]
    aic: Float[Array, "m"]
    icl: Float[Array, "m"]
    num_components: tuple[int, ...] = static()

    @property
    def best(self) -> int:
        """The number of components with the highest score among fits that did not fail."""
        return self.num_components[self._order[0]]

    @property
    def _order(self) -> list[int]:
        score = np.where(self.results.usable, np.asarray(self.score), -np.inf)
        return [int(i) for i in np.argsort(-score, kind="stable")]

    def result(self, num_components: int | None = None) -> Result:
        """The fit with this number of components, by default the best; others are switched off."""
        wanted = self.best if num_components is None else num_components
        if wanted not in self.num_components:
            raise ValueError(
                f"num_components: {wanted} was not tried, only {list(self.num_components)}"
            )
        i = self.num_components.index(wanted)
        return jax.tree.map(lambda a: a[i], self.results)

    def summary(self) -> str:
        """A table of all numbers of components as text, the best first."""
        order = self._order
        top = float(self.score[order[0]])
        head = [str(self.num_components[i]) for i in order]
        label = "-BIC / 2" if self.results.point else "ELBO + relabellings"
        rows = {
            label: [f"{float(self.score[i]):.2f}" for i in order],
            "below the best": [f"{top - float(self.score[i]):.2f}" for i in order],
            "status": [Status(int(self.results.status[i])).name for i in order],
        }
        if self.results.point:
            for name in ("bic", "aic", "icl"):
                rows[name.upper()] = [f"{float(getattr(self, name)[i]):.2f}" for i in order]
        return "\n".join([f"best: {self.best} components", *columns(head, rows)])


def select_num_components(
    x: Data,
    num_components: Iterable[int],
    *,
    key: Key[Array, ""],
    num_restarts: int = 8,
    method: Method[Any] = CAVI(),
    stop: Stop = Stop(),
    build: Callable[..., Mixture] | None = None,
    **prior: Any,
) -> Selection:
    """Fit every number of components at once and rank them.

    One compiled program fits all: models of equal shape with components switched off, vmapped over
    their number and over restarts. The prior of a component does not depend on their number. Raises
    as `fit` does, and ValueError for repeated numbers or for arguments that the models do not have.

    Args:
        x: Rows, array-like (n, d) or a Batch; other data need a `build`.
        num_components: Different integers, at least 1.
        key, num_restarts, stop: As in `fit`, for each number of components.
        method: `CAVI()`, or `EM()` for maximum likelihood ranked by BIC.
        build: A function `build(x, k, k_max=..., **prior)` that makes a model. By default it is
            `GaussianMixture.from_data` with conc 1, or `GaussianMixture.flat` for EM.
        prior: Other arguments of `build`; weights other than a Dirichlet need a `build`.

    Example:
        x, _ = vx.datasets.three_clusters()
        selection = vx.select_num_components(x, range(1, 7), key=jax.random.key(0))
        print(selection.summary())
    """
    if not isinstance(num_components, Iterable):
        raise TypeError(f"num_components: expected several integers, got {num_components!r}")
    sizes = tuple(num_components)
    for k in sizes:
        check_integer("num_components", k)
    if not sizes or len(set(sizes)) < len(sizes) or min(sizes) < 1:
        raise ValueError(f"num_components: expected different numbers from 1 up, got {sizes}")
    batch = Batch.of(x)
    k_max = max(sizes)
    make, prior = (build, prior) if build is not None else _default(batch, method, prior)
    models = [make(batch, k, k_max=k_max, **prior) for k in sizes]
    batch, _ = pad(replace(models[0].as_batch(batch), names=None, as_given=None))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    keys = jax.random.split(key, len(sizes))

    def fit_one(model: Mixture, key: Array) -> Result:
        return fit(model, batch, key=key, num_restarts=num_restarts, method=method, stop=stop)

    results = jax.vmap(fit_one)(stacked, keys)
    if method.point:
        sizes_of = to_device(sizes, results.elbo.dtype)
        scores = compiled(_by_likelihood)(stacked, results, sizes_of, batch)
    else:
        unknown = to_device(np.full(len(sizes), np.nan), results.elbo.dtype)
        scores = compiled(_by_evidence)(stacked, results, batch), unknown, unknown, unknown
    return Selection(results, *scores, num_components=sizes)


def _default(
    batch: Batch, method: Method[Any], prior: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    if isinstance(batch.x, dict):
        raise ValueError("build: needed for a table of columns, such as MixedMixture.from_data")
    if "weights" in prior:
        raise ValueError("weights: made for one number of components; give `build`, which makes it")
    if not method.point:
        return GaussianMixture.from_data, {"conc": 1.0, **prior}
    unknown = set(prior) - {"covariance"}
    if unknown:
        raise ValueError(f"{min(unknown)}: maximum likelihood has no prior; give `build` for one")

    def flat(batch: Batch, k: int, **options: Any) -> GaussianMixture:
        return GaussianMixture.flat(k, batch.x.shape[1], **options)

    return flat, prior


def _entropy(model: Mixture, q: MixtureParams, batch: Batch) -> Float[Array, ""]:
    """Entropy of the responsibilities of all rows, in nats."""
    resp, _ = special.normalize(model.log_joint(q.point(), batch))
    log_resp = jnp.log(jnp.where(resp > 0, resp, 1.0))
    return -jnp.sum(batch.weight[:, None] * special.xlogy(resp, log_resp))


def _by_evidence(models: Mixture, results: Result, batch: Batch) -> Float[Array, "m"]:
    """ELBO + log relabellings of every number of components, in nats."""
    relabellings = jax.vmap(lambda model, q: model.log_relabellings(q, batch))(models, results.q)
    return results.elbo + relabellings


def _by_likelihood(models: Mixture, results: Result, k: Array, batch: Batch) -> Any:
    """-BIC / 2, BIC, AIC, and ICL = BIC + 2 entropy (Biernacki, Celeux & Govaert 2000).

    They take the log-likelihood at the estimate; the objective may have a prior density in it.
    """
    log_prior = jax.vmap(lambda model, q: model.log_prior(q.point()))(models, results.q)
    log_lik = results.elbo - log_prior
    own, shared = jax.tree.map(lambda a: a[0], models).components.num_parameters()
    free = k * own + shared + k - 1.0
    bic = free * jnp.log(jnp.sum(batch.weight)) - 2.0 * log_lik
    entropy = jax.vmap(lambda m, q: _entropy(m, q, batch))(models, results.q)
    return -0.5 * bic, bic, 2.0 * free - 2.0 * log_lik, bic + 2.0 * entropy
