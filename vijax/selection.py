"""How many components: the evidence bound for each number, from one compiled program."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ._pytree import pytree, static
from ._text import columns
from .data.batch import Batch
from .data.host import check_integer
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
    """The fits for every number of components, best restarts, and what ranks them.

    `score` is the log evidence bound in nats with all relabellings of the fit counted: the ELBO
    and the log of their number, log(k! / unused!), which is log k! if all components have rows
    (Bishop 2006, section 10.2.4). Components that the model can tell apart are not relabelled:
    stick-breaking weights, known labels, frozen components and noise. After EM it is -BIC / 2.
    `bic`, `aic` and `icl` are NaN after CAVI; of the four only differences mean anything. Leading
    axis: `num_components`.
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
        """The fit with so many components, the best one if not said; switched-off ones included."""
        wanted = self.best if num_components is None else num_components
        if wanted not in self.num_components:
            raise ValueError(
                f"num_components: {wanted} was not tried, only {list(self.num_components)}"
            )
        i = self.num_components.index(wanted)
        return jax.tree.map(lambda a: a[i], self.results)

    def summary(self) -> str:
        """A table of all numbers of components, the winner first."""
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

    One compiled program fits all: models of equal shape with components switched off, vmapped
    over their number and over restarts. The prior of a component is the same for all (its scale
    does not shrink with their number), and the weights' conc is 1 unless given.

    `build(x, k, k_max=..., **prior)` makes a model; by default `GaussianMixture.from_data`, or
    with `method=EM()` a flat prior: maximum likelihood, ranked by BIC. Other weights than a
    Dirichlet, and other data than an array, need a `build`. Raises ValueError for an empty or
    repeated list of numbers and for arguments that these models do not have, and as `fit` does.
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
    batch = models[0].as_batch(batch)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    keys = jax.random.split(key, len(sizes))

    def one(model: Mixture, key: Array) -> Result:
        return fit(model, batch, key=key, num_restarts=num_restarts, method=method, stop=stop)

    results = jax.vmap(one)(stacked, keys)
    rank = _by_likelihood if method.point else _by_evidence
    return Selection(results, *rank(stacked, results, sizes, batch), num_components=sizes)


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
    """Entropy of the assignments, in nats."""
    resp, _ = special.normalize(model.log_joint(q.point(), batch))
    log_resp = jnp.log(jnp.where(resp > 0, resp, 1.0))
    return -jnp.sum(batch.weight[:, None] * special.xlogy(resp, log_resp))


def _by_evidence(models: Mixture, results: Result, sizes: tuple[int, ...], batch: Batch) -> Any:
    """ELBO and relabellings; no criteria of maximum likelihood."""
    relabellings = jax.vmap(lambda model, q: model.log_relabellings(q, batch))(models, results.q)
    score = results.elbo + relabellings
    nothing = jnp.full_like(score, jnp.nan)
    return score, nothing, nothing, nothing


def _by_likelihood(models: Mixture, results: Result, sizes: tuple[int, ...], batch: Batch) -> Any:
    """-BIC / 2, BIC, AIC, and ICL = BIC + 2 entropy (Biernacki, Celeux & Govaert 2000)."""
    each, shared = jax.tree.map(lambda a: a[0], models).components.num_parameters()
    k = jnp.asarray(sizes, results.elbo.dtype)
    free = k * each + shared + k - 1.0
    bic = free * jnp.log(jnp.sum(batch.weight)) - 2.0 * results.elbo
    entropy = jax.vmap(lambda m, q: _entropy(m, q, batch))(models, results.q)
    return -0.5 * bic, bic, 2.0 * free - 2.0 * results.elbo, bic + 2.0 * entropy
