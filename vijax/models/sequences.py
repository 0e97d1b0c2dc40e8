"""What is read off a fit of a hidden Markov model: states, densities, forecasts."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._pytree import pytree, replace
from ..data.batch import Batch
from ..data.host import check_bound, check_integer, to_device
from ..data.types import Data
from ..model import unnamed
from .draws import by_draw, shape_of_draws
from .mixture_params import Fitted
from .prediction import imputed
from .steps import Known, StepPrediction, moments_of, point_of
from .structured import Structured
from .structured_params import StructuredMoments


@pytree
class Forecast:
    """What comes after n sequences: for h steps ahead, `states` (n, h, k) are their probabilities.

    `mean` and `sd` (n, h, d), in data units, are those of the steps themselves; of a category
    they are the most probable level and the probabilities of all. Steps are without measurement
    noise, of exposure 1, and of multinomial counts of a total of 1. Parameters are at their means.
    """

    states: Float[Array, "n h k"]
    mean: Any
    sd: Any


class WholeRows(StepPrediction):
    """The methods of a model whose labels of a row have a sum in closed form."""

    def log_likelihood(self, q: Known | Fitted, x: Data) -> Float[Array, "n"]:
        """log p(x_n | theta) of each sequence in nats at the posterior means, by a forward pass."""
        return self._by_row(_log_likelihood, q, x)[0]

    def log_lik(self: Any, theta: dict[str, Any], x: Data) -> Float[Array, "*s n"]:
        """log p(x_n | theta) in nats of each sequence, at every draw of `sample_parameters`.

        Labels are summed over. Draws are read in chunks.
        """
        first = "initial" if "initial" in theta else "weights"
        shape = shape_of_draws(theta, first, 1)
        batch = self._to_read(x, theta[first].dtype)
        floats = batch.exists.shape[1] * self.labels.size
        return by_draw(_log_lik_at, batch, unnamed(self), theta, shape, floats)

    def log_held_out(self, q: Known | Fitted, x: Data) -> Float[Array, "n"]:
        """The score in nats of sequences that were held out: `log_likelihood`."""
        return self.log_likelihood(q, x)

    def log_predictive(self, q: Known | Fitted, x: Data) -> Any:
        """Raise TypeError: theta has no closed integral over the labels of a row."""
        raise TypeError(
            f"log_predictive: {type(self).__name__} has no closed form for it; take "
            "`log_likelihood`, at the posterior means, or `row_bound`, a lower bound"
        )


class SequencePrediction(WholeRows):
    """The methods of a hidden Markov model that take a q, and sequences."""

    def filtered(self, q: Known | Fitted, x: Data) -> Any:
        """Probability of each state at each step, given the steps until then, (..., t, k)."""
        return self._by_step(_filtered, q, x)

    def path(self, q: Known | Fitted, x: Data) -> Any:
        """The most probable path at the means of q, by Viterbi's algorithm; -1 as above."""
        return self._by_step(_path, q, x)

    def forecast(self, q: Known | Fitted, x: Data, horizon: int) -> Forecast:
        """States and steps to come after each sequence, `horizon` of them, at the means of q."""
        check_integer("horizon", horizon)
        check_bound("horizon", horizon, least=1.0)
        like = to_device(np.zeros(horizon, np.float32))
        found = self._by_row(_forecast, q, x, like)[0]
        return replace(found, mean=self.decode(found.mean))


# each is compiled as one program, and not operation by operation


def _filtered(model: Structured, q: Known, batch: Batch) -> Float[Array, "n t k"]:
    moments = moments_of(model, q)
    return model.labels.filtered(moments.labels, model.step_odds(moments, batch), batch)


def _path(model: Structured, q: Known, batch: Batch) -> Int[Array, "n t"]:
    moments = point_of(q)
    return model.labels.path(moments.labels, model.step_odds(moments, batch), batch)


def _log_likelihood(model: Structured, q: Known, batch: Batch) -> Float[Array, "n"]:
    moments, batch = point_of(q), replace(batch, label=None)
    return model.labels.infer(moments.labels, model.step_log_lik(moments, batch), batch).log_z


def _log_lik_at(model: Structured, theta: dict[str, Any], batch: Batch) -> Float[Array, "n s"]:
    batch = replace(batch, label=None)

    def at_one(theta: dict[str, Any]) -> Float[Array, "n"]:
        labels = {name: value for name, value in theta.items() if name != "components"}
        moments = StructuredMoments(
            model.labels.point_at(labels), model.components.point_at(theta["components"])
        )
        log_lik = model.step_log_lik(moments, batch)
        log_lik = jnp.where(model.active, log_lik, -jnp.inf)  # states that are off have no density
        return model.labels.infer(moments.labels, log_lik, batch).log_z

    return jax.vmap(at_one, out_axes=1)(theta)


def _forecast(model: Structured, q: Known, like: Float[Array, "h"], batch: Batch) -> Forecast:
    moments = point_of(q)
    found = model.labels.filtered(moments.labels, model.step_odds(moments, batch), batch)
    states = model.labels.ahead(moments.labels, found, batch, like.shape[0])
    blank = _blank(batch.flat())
    mean, variance = moments.components.impute(blank)
    shape, k = states.shape[:2], states.shape[2]
    resp = states.reshape(-1, k)

    def of_column(x: Array, mask: Array, mean: Array, variance: Array | None) -> Any:
        x, mask = (jnp.broadcast_to(a, (len(resp), *a.shape[1:])) for a in (x, mask))
        value, spread = imputed(resp, x, mask, mean, variance)
        return value.reshape(*shape, *value.shape[1:]), spread.reshape(*shape, *spread.shape[1:])

    if not isinstance(blank.x, dict):
        return Forecast(states, *of_column(blank.x, blank.mask, mean, variance))
    parts = {}
    for name in blank.x:
        own = blank.column(name)
        parts[name] = of_column(own.x, own.mask, mean[name], variance[name])
    means, sds = ({name: part[i] for name, part in parts.items()} for i in (0, 1))
    return Forecast(states, means, sds)


def _blank(rows: Batch) -> Batch:
    """A row without a single observed entry, noise or exposure, whose columns add up to one."""
    weight = jnp.ones_like(rows.weight[:1])

    def ones(x: Array) -> Array:
        return jnp.full((1, *x.shape[1:]), 1.0 / np.prod(x.shape[1:]), x.dtype)

    def none(x: Array) -> Bool[Array, "..."]:
        return jnp.zeros((1, *x.shape[1:]), bool)

    return Batch(jax.tree.map(ones, rows.x), weight, mask=jax.tree.map(none, rows.x))
