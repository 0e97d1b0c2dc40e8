"""`bound_and_gradient`: what a stochastic method climbs, at any q, for notebooks that compare."""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import Array, Float, Key

from ..data.batch import Batch
from ..data.host import described, strong
from ..data.shards import on_auto_mesh
from ..data.types import Data
from ..guides.transformed_normal import TransformedNormal
from ..model import DensityModel, Q
from .arguments import check_key, prepare
from .methods.objectives import value_and_gradient
from .methods.stochastic_vi import StochasticVI
from .result import Result, Stop


@on_auto_mesh
def bound_and_gradient(
    model: DensityModel,
    q: Q,
    data: Data | None = None,
    *,
    key: Key[Array, ""],
    num_draws: int = 10,
    objective: Any = "elbo",
    estimator: str = "reparameterised",
) -> tuple[Float[Array, ""], Any]:
    """An estimate of the objective at any q in nats, and of its gradient by `q.free`.

    The gradient has the form of `q.free`. Different estimators have the same expectation, and the
    variances that make the difference. Raises TypeError or ValueError naming the argument.

    Args:
        model: A DensityModel, such as `LogDensity`.
        q: A q of this model, or a Result. For a full covariance `q.free` is of its Cholesky factor.
        data: Rows in memory, as in `fit`.
        key: A typed key for the draws.
        num_draws, objective, estimator: As in `StochasticVI`.

    Example:
        model = vx.LogDensity(jax.scipy.stats.norm.logpdf, like=0.0)
        q, key = vx.fit(model).q, jax.random.key(0)
        for estimator in ("reparameterised", "score", "score_without_baseline"):
            one = lambda key: vx.bound_and_gradient(model, q, key=key, estimator=estimator)[1]
            gradients = jax.vmap(one)(jax.random.split(key, 1000))
    """
    method = StochasticVI(1.0, num_draws, objective=objective, estimator=estimator)
    model, batch, method, _, _ = prepare(model, data, method, Stop())
    check_key(key, True, method)
    q = q.q if isinstance(q, Result) else q
    template = jax.eval_shape(lambda model: model.template, model)
    if jax.tree.structure(q) != jax.tree.structure(template):
        raise TypeError(
            f"q: expected one of this model, such as model.template, got {described(q)}"
        )
    q = strong(q, batch.weight.dtype)
    return _bound_and_gradient(model, q, batch, key, method)


@jax.jit
def _bound_and_gradient(
    model: DensityModel,
    q: TransformedNormal,
    batch: Batch,
    key: Key[Array, ""],
    method: StochasticVI,
) -> tuple[Float[Array, ""], Any]:
    settings = method.num_draws, method.objective, method.estimator
    return value_and_gradient(model, q, q.free, batch, key, *settings)
