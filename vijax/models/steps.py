"""What is read off a fit to rows of steps: components, bounds, missing entries, draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from .._pytree import replace
from ..data.batch import Batch
from ..data.documents import is_whole
from ..data.host import check_bound, check_integer, fetched, is_concrete, to_device
from ..data.joined import is_list
from ..data.missing import ones
from ..data.padding import compiled, read_rows
from ..data.types import Data
from ..model import unnamed
from .mixture_params import Fitted
from .prediction import imputed
from .structured import Structured
from .structured_params import StructuredMoments, StructuredParams

Known = StructuredParams | StructuredMoments  # a posterior of theta, or a point


class StepPrediction:
    """The methods of a model of rows of steps, such as sequences, that take a q, and such rows.

    In place of `q` all of them take a Result. What they return for each step has the form of the
    rows: (t, ...) for one of them (t, d), a list for a list, and otherwise (n, t, ...), with steps
    that do not exist at the end. A q fitted by maximum likelihood is read at its point.
    """

    labels: Any
    components: Any
    improper: bool
    names: Any
    as_batch: Any
    check_steps: Any
    read: Any
    step_log_lik: Any
    local: Any

    @property
    def recodes(self) -> bool:
        """Whether steps have levels that are not their own codes, such as texts."""
        return self.components.recodes

    def responsibilities(self, q: Known | Fitted, x: Data) -> Any:
        """Posterior probability of each component at each step, given its row, (..., t, k)."""
        return self._by_step(_responsibilities, q, x)

    def predict(self, q: Known | Fitted, x: Data) -> Any:
        """The most probable component of each step by itself; -1 for one that does not exist."""
        return self._by_step(_predict, q, x)

    def row_bound(self, q: Known | Fitted, x: Data) -> Float[Array, "n"]:
        """log Z_n of each row in nats, its part of the bound; below log E_q[p(x_n)]."""
        return self._by_row(_row_bound, q, x)[0]

    def log_held_out(self, q: Known | Fitted, x: Data) -> Float[Array, "n"]:
        """The score in nats of rows that were held out: `row_bound`, by default."""
        return self.row_bound(q, x)

    def impute(self, q: Known | Fitted, x: Data) -> tuple[Any, Any]:
        """Conditional means and standard deviations of missing entries, given all observed ones.

        Both have the form of the rows, or are dicts of it by column; observed entries come back as
        they are, with standard deviation 0. Of a category they are the most probable level and the
        probability of each, as for a mixture. Components are taken at their point.
        """
        (value, spread), batch = self._by_row(_impute, q, x)
        return self._in_form(self.decode(value), x, batch), self._in_form(spread, x, batch)

    def decode(self, x: Any) -> Any:
        """Steps with the levels of text columns in place of their codes, as objects of NumPy.

        Inside of jit there is no text, and codes stay codes.
        """
        if not self.recodes or not is_concrete(*jax.tree.leaves(x)):
            return x
        flat = jax.tree.map(lambda a: np.reshape(fetched(a), (-1, *a.shape[2:])), x)
        shape = jax.tree.leaves(x)[0].shape[:2]
        found = self.components.decode(flat)
        return jax.tree.map(lambda a: np.reshape(a, (*shape, *a.shape[1:])), found)

    def sample(
        self: Any, q: Known | Fitted, key: Key[Array, ""], n: int, *, length: int, **options: Any
    ) -> tuple[Any, Int[Array, "n t"]]:
        """n new rows of `length` steps at the means of the labels' q, and the label of each step.

        Steps are drawn from the predictive density of their component; `options` are those of the
        components' `draw`.
        """
        for name, value, least in (("n", n, 0.0), ("length", length, 1.0)):
            check_integer(name, value)
            check_bound(name, value, least=least)
        like = to_device(np.zeros((n, length), np.float32))
        rows, labels = compiled(_sample)(unnamed(self), posterior_of(q), key, options, like)
        return self.decode(rows), labels

    def sample_parameters(
        self, q: Known | Fitted, key: Key[Array, ""], shape: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """Draws from q with leading axes `shape`: "components", and those of the labels.

        Of a chain these are "initial" (k,) and "transitions" (k, k).
        """
        like = to_device(np.zeros((*shape, 0), np.float32))
        draws = compiled(_draws)(posterior_of(q), key, like)
        labels = draws.pop("labels")
        return {**(labels if isinstance(labels, dict) else {"labels": labels}), **draws}

    # -- how rows are read ------------------------------------------------------------------------

    def _by_step(self: Any, program: Callable[..., Any], q: Known | Fitted, x: Data) -> Any:
        """What the program gives for every step, in the form of the rows."""
        values, batch = self._by_row(program, q, x)
        return self._in_form(values, x, batch)

    def _in_form(self, values: Any, x: Data, batch: Batch) -> Any:
        """Arrays (n, t, ...), or dicts of them, in the form of the rows that they are of."""
        listed = is_list(x)
        padded = isinstance(x, Batch) or (not listed and np.ndim(cast(Any, x)) == 3)
        if padded or not is_concrete(*jax.tree.leaves(values)):
            return values
        lengths = fetched(batch.exists).sum(1)
        if listed:
            host = jax.tree.map(fetched, values)
            return [jax.tree.map(lambda a, i=i, t=t: a[i, :t], host) for i, t in enumerate(lengths)]
        return jax.tree.map(lambda a: a[0, : lengths[0]], values)

    def _by_row(
        self: Any, program: Callable[..., Any], q: Known | Fitted, x: Data, *more: Any
    ) -> tuple[Any, Batch]:
        """What the program gives for every row, whatever its weight, and the rows."""
        known = known_of(q)
        batch = self._to_read(x, jax.tree.leaves(known)[0].dtype)
        return read_rows(program, batch, unnamed(self), known, *more), batch

    def _to_read(self, x: Data, dtype: Any) -> Batch:
        """The rows without names and weights, which programs that read them do not look at."""
        batch = self.as_batch(x)
        self.check_steps(batch)
        batch = batch.unfilled
        fields = ("x", "weight", "steps", "noise", "exposure")
        held = {name: getattr(batch, name) for name in fields}
        # what is read of a row does not depend on its weight
        held["weight"] = to_device(ones(batch.weight.shape, batch.weight.dtype))
        held = jax.tree.map(lambda a: a if is_whole(a) else a.astype(dtype), held)
        return replace(batch, **held, names=None, levels=None)


def known_of(fitted: Any) -> Known:
    """The q or point itself, or the q of a Result; raises TypeError for anything else.

    Raises ValueError for many fits at once.
    """
    q = fitted.q if isinstance(fitted, Fitted) else fitted
    if not isinstance(q, StructuredParams | StructuredMoments):
        raise TypeError(
            f"q: expected a Result, a q or a point of this model first, got {type(q).__name__}"
        )
    if isinstance(fitted, Fitted) and jnp.ndim(fitted.elbo):
        raise ValueError("q: a Result of many fits; take one of them, fits[i]")
    return q


def posterior_of(q: Known | Fitted) -> StructuredParams:
    """As `known_of`; raises TypeError for a point."""
    q = known_of(q)
    if not isinstance(q, StructuredParams):
        raise TypeError(f"q: expected a posterior, such as `fit.q`, got {type(q).__name__}")
    return q


# each is compiled as one program, and not operation by operation


def _responsibilities(model: Structured, q: Known, batch: Batch) -> Float[Array, "n t k"]:
    moments = moments_of(model, q)
    return model.labels.infer(moments.labels, model.step_odds(moments, batch), batch).resp


def _predict(model: Structured, q: Known, batch: Batch) -> Int[Array, "n t"]:
    found = jnp.argmax(_responsibilities(model, q, batch), -1).astype(jnp.int32)
    return jnp.where(batch.exists, found, -1)


def _row_bound(model: Structured, q: Known, batch: Batch) -> Float[Array, "n"]:
    return model.local(moments_of(model, q), batch).log_z


def _impute(model: Structured, q: Known, batch: Batch) -> tuple[Any, Any]:
    moments = point_of(q)
    found = model.labels.infer(moments.labels, model.step_odds(moments, batch), batch)
    steps, shape = batch.flat(), batch.exists.shape
    resp = found.resp.reshape(-1, found.resp.shape[-1])
    mean, variance = moments.components.impute(steps)

    def whole(a: Array) -> Array:
        return a.reshape(*shape, *a.shape[1:])

    if not isinstance(steps.x, dict):
        return jax.tree.map(whole, imputed(resp, steps.x, steps.mask, mean, variance))
    means, sds = {}, {}
    for name, x in steps.x.items():
        own = steps.column(name)
        pair = imputed(resp, own.x, own.mask, mean[name], variance[name])
        means[name], sds[name] = (whole(p.reshape(*x.shape, *p.shape[2:])) for p in pair)
    return means, sds


def _sample(
    model: Structured,
    q: StructuredParams,
    key: Key[Array, ""],
    options: dict[str, Any],
    like: Float[Array, "n t"],
) -> tuple[Any, Int[Array, "n t"]]:
    k_labels, k_rows = jax.random.split(key)
    components = q.components
    labels = model.labels.simulate(q.labels.point(), k_labels, like.shape)
    if model.improper:  # a posterior with so many more rows has no spread around its point
        components = components.map(lambda a: a / jnp.finfo(a.dtype).eps)
    rows = components.draw(k_rows, labels.reshape(-1), **options)
    return jax.tree.map(lambda a: a.reshape(*like.shape, *a.shape[1:]), rows), labels


def _draws(q: StructuredParams, key: Key[Array, ""], like: Float[Array, "..."]) -> dict[str, Any]:
    return q.sample(key, like.shape[:-1])


def point_of(q: Known) -> StructuredMoments:
    """The point of a posterior, or the point itself."""
    return q.point() if isinstance(q, StructuredParams) else q


def moments_of(model: Structured, q: Known) -> StructuredMoments:
    """The moments that an E-step reads: those of a point after maximum likelihood."""
    if not isinstance(q, StructuredParams):
        return q
    return q.point() if model.improper else q.moments()
