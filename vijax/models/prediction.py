"""Predictions of a mixture from its q: assignments, densities, samples, missing entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from .._pytree import replace
from ..data.batch import Batch
from ..data.host import check_bound, check_integer, fetched, is_concrete, namespace, to_device
from ..data.padding import compiled, first_rows, longer, padded_size, read_rows
from ..families.dirichlet import CategoricalMoments
from ..model import unnamed
from ..numerics import special
from .draws import by_draw, shape_of_draws
from .mixture_params import Fitted, MixtureMoments, MixtureParams, q_of

Known = MixtureParams | MixtureMoments  # a posterior of theta, or a point


class Prediction:
    """The methods of a mixture that take a q, and rows; rows are array-like or a Batch.

    In place of `q` all of them take a Result. A q fitted by maximum likelihood is always read at
    its point.
    """

    weights: Any
    components: Any
    improper: bool
    log_odds: Any
    as_batch: Any
    names: Any

    @property
    def recodes(self) -> bool:
        """Whether rows have levels that are not their own codes, such as texts."""
        return self.components.recodes

    def responsibilities(self, q: Known | Fitted, x: Any) -> Float[Array, "n k"]:
        """Posterior probability of each component for each row; each row sums to one.

        `q` is a posterior, or a point such as `q.point()`, the estimate of EM.
        """
        return self._by_row(_responsibilities, q, x)

    def predict(self, q: Known | Fitted, x: Any) -> Int[Array, "n"]:
        """The most probable component of each row; `q` may be a point."""
        return self._by_row(_predict, q, x)

    def log_likelihood(self, q: Known | Fitted, x: Any) -> Float[Array, "n"]:
        """log p(x_n | theta) in nats at the posterior means of weights, means and precisions."""
        return self._by_row(_log_likelihood, q, x)

    def log_lik(self: Any, theta: dict[str, Any], x: Any) -> Float[Array, "*s n"]:
        """log p(x_n | theta) in nats of each row, at every draw of `sample_parameters`.

        Labels are summed over. In the infinite model, so are the components that were not drawn,
        under their prior. Draws are read in chunks.
        """
        shape = shape_of_draws(theta, "weights", 1)
        batch = self._to_read(x, theta["weights"].dtype)
        return by_draw(_log_lik_at, batch, unnamed(self), theta, shape, self.weights.size)

    def moments_at(self, theta: dict[str, Any]) -> MixtureMoments:
        """The moments at one draw of `sample_parameters`."""
        components = self.components.point_at(theta["components"])
        return MixtureMoments(CategoricalMoments.at(theta["weights"]), components)

    def log_predictive(self, q: Known | Fitted, x: Any) -> Float[Array, "n"]:
        """log E_q[p(x_n | theta)] in nats: a proper density of the observed entries of each row.

        For Gaussian components it is a mixture of Student-t (Bishop 2006, eq. 10.81). In the
        infinite model one more component stands for all those without rows. After maximum
        likelihood, which has no posterior, it is `log_likelihood`. Raises TypeError for a point.
        """
        posterior = _posterior(q)
        if self.improper:
            return self.log_likelihood(posterior, x)
        return self._by_row(_log_predictive, posterior, x)

    def log_held_out(self, q: Known | Fitted, x: Any) -> Float[Array, "n"]:
        """The score in nats of rows that were held out: `log_predictive`."""
        return self.log_predictive(q, x)

    def sample(
        self: Any, q: Known | Fitted, key: Key[Array, ""], n: int, **options: Any
    ) -> tuple[Any, Int[Array, "n"]]:
        """n independent rows from the predictive density, and the component of each row.

        In the infinite model, label k is a component without rows so far. After maximum likelihood
        rows are drawn at the estimate. `options` are those of the components' `draw`, such as
        `total` of a multinomial. Raises TypeError for a point.
        """
        posterior = _posterior(q)
        model = unnamed(self)
        check_integer("n", n)
        check_bound("n", n, least=0.0)
        draw = compiled(_sample)
        if not is_concrete(*jax.tree.leaves((model, posterior, key, options))):
            return draw(model, posterior, key, options, jnp.zeros(n))
        size = padded_size(n)
        options = {name: longer(a, size) if np.ndim(a) else a for name, a in options.items()}
        drawn = draw(model, posterior, key, options, to_device(np.zeros(size, np.float32)))
        rows, label = first_rows(drawn, n)
        return self.decode(rows), label

    def decode(self, x: Any) -> Any:
        """Rows with the levels of text columns in place of their codes, as objects of NumPy.

        Inside of jit there is no text, and codes stay codes.
        """
        return self.components.decode(x)

    def sample_parameters(
        self, q: Known | Fitted, key: Key[Array, ""], shape: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """Draws of "weights" (k,) and "components" from q, with leading axes `shape`.

        A concentration with a q of its own is drawn under "concentration". In the infinite model
        the weights sum to less than one; components without rows have the remainder.
        """
        posterior = _posterior(q)
        if is_concrete(*jax.tree.leaves((posterior, key))):
            draws = compiled(_draws)(posterior, key, to_device(np.zeros((*shape, 0), np.float32)))
        else:
            draws = posterior.sample(key, shape)
        if isinstance(draws["weights"], dict):
            parts = draws.pop("weights")
            draws |= {"weights": parts["sticks"], "concentration": parts["concentration"]}
        return draws

    def impute(self, q: Known | Fitted, x: Any) -> tuple[Any, Any]:
        """Conditional means and standard deviations of missing entries, given the observed ones.

        Both have the form of `x`, a Batch with missing entries. Observed entries come back as they
        are, with standard deviation 0. Components are taken at their point.

        Of a category they are the most probable level and the probability of each level, on one
        more axis, in the order of `components.levels`; an observed level has probability 1.
        """
        value, spread = self._by_row(_impute, q, x)
        # rows that come as codes into a jit go back as codes
        codes = isinstance(x, Batch) and x.levels is not None and not is_concrete(x.weight)
        return value if codes else self.decode(value), spread

    def _unseen(self, components: Any) -> Any:
        """The predictive component for rows of none of these, in their dtype."""
        dtype = jax.tree.leaves(components)[0].dtype
        prior = jax.tree.map(lambda a: a.astype(dtype), self.components)
        return components.unseen(prior)

    def _by_row(self: Any, program: Callable[..., Any], q: Known | Fitted, x: Any) -> Any:
        """What the program gives for every row, whatever its weight.

        Model and rows have no column names, so that other names compile nothing.
        """
        known = q_of(q)
        batch = self._to_read(x, jax.tree.leaves(known)[0].dtype)
        return read_rows(program, batch, unnamed(self), known)

    def _to_read(self: Any, x: Any, dtype: Any) -> Batch:
        batch = self.as_batch(x if isinstance(x, Batch) else Batch.for_jit(x))
        self.components.check_rows(batch)
        check_labels(batch, lambda: self.active)
        batch = batch.unfilled
        held = {name: getattr(batch, name) for name in ("x", "weight", "noise", "exposure")}
        held = jax.tree.map(lambda a: a.astype(dtype), held)
        return replace(batch, **held, names=None, levels=None)


# each is compiled as one program, and not operation by operation


def _responsibilities(model: Prediction, q: Known, batch: Batch) -> Float[Array, "n k"]:
    return special.probabilities(model.log_odds(_moments(model, q), batch))


def _predict(model: Prediction, q: Known, batch: Batch) -> Int[Array, "n"]:
    return jnp.argmax(model.log_odds(_moments(model, q), batch), -1)


def _log_likelihood(model: Prediction, q: Known, batch: Batch) -> Float[Array, "n"]:
    moments = q.point() if isinstance(q, MixtureParams) else q
    log_lik = moments.components.log_density(batch)
    return jax.nn.logsumexp(moments.weights.log_p[None] + log_lik, -1)


def _log_lik_at(model: Prediction, theta: dict[str, Any], batch: Batch) -> Float[Array, "n s"]:
    def at_one(theta: dict[str, Any]) -> Float[Array, "n"]:
        moments, weight = model.moments_at(theta), theta["weights"]
        joint = moments.weights.log_p[None] + moments.components.log_density(batch)
        # a component that is off has no parameters
        joint = jnp.where(weight[None] > 0, joint, -jnp.inf)
        if model.weights.rest is not None:
            rest = CategoricalMoments.at(jnp.maximum(1.0 - jnp.sum(weight, keepdims=True), 0.0))
            unseen = model._unseen(model.components).log_predictive(batch)
            joint = jnp.concatenate([joint, rest.log_p[None] + unseen], -1)
        return jax.nn.logsumexp(joint, -1)

    return jax.vmap(at_one, out_axes=1)(theta)


def _log_predictive(model: Prediction, q: Known, batch: Batch) -> Float[Array, "n"]:
    weight, log_pred = q.weights.mean, q.components.log_predictive(batch)
    if q.weights.rest is not None:
        weight = jnp.append(weight, q.weights.rest)
        unseen = model._unseen(q.components).log_predictive(batch)
        log_pred = jnp.concatenate([log_pred, unseen], -1)
    log_p = jnp.log(jnp.where(weight > 0, weight, 1.0)) - jnp.log(jnp.sum(weight))
    return jax.nn.logsumexp(jnp.where(weight > 0, log_p, -jnp.inf)[None] + log_pred, -1)


def _impute(model: Prediction, q: Known, batch: Batch) -> tuple[Any, Any]:
    moments = q.point() if isinstance(q, MixtureParams) else q
    resp = special.probabilities(model.log_odds(moments, batch))
    mean, variance = moments.components.impute(batch)
    if not isinstance(batch.x, dict):
        return imputed(resp, batch.x, batch.mask, mean, variance)
    means, sds = {}, {}
    for name, x in batch.x.items():
        column = batch.column(name)
        pair = imputed(resp, column.x, column.mask, mean[name], variance[name])
        means[name], sds[name] = (part.reshape(*x.shape, *part.shape[2:]) for part in pair)
    return means, sds


def _sample(
    model: Prediction,
    q: MixtureParams,
    key: Key[Array, ""],
    options: dict[str, Any],
    like: Float[Array, "n"],
) -> tuple[Any, Int[Array, "n"]]:
    k_label, k_rows, k_new = jax.random.split(key, 3)
    weight, rest, components = q.weights.mean, q.weights.rest, q.components
    k = weight.shape[0]
    weight = weight if rest is None else jnp.append(weight, rest)
    label = jax.random.categorical(k_label, jnp.log(weight), shape=like.shape)
    if model.improper:  # a posterior with so many more rows has no spread around its point
        components = components.map(lambda a: a / jnp.finfo(a.dtype).eps)
    rows = components.draw(k_rows, jnp.minimum(label, k - 1), **options)
    if rest is None:
        return rows, label
    new = model._unseen(components).draw(k_new, jnp.zeros_like(label), **options)

    def pick(old: Array, new: Array) -> Array:
        return jnp.where((label < k).reshape(-1, *[1] * (old.ndim - 1)), old, new)

    return jax.tree.map(pick, rows, new), label


def _draws(q: MixtureParams, key: Key[Array, ""], like: Float[Array, "..."]) -> dict[str, Any]:
    """Draws from q, with all but the last axis of `like` in front."""
    return q.sample(key, like.shape[:-1])


def _moments(model: Prediction, q: Known) -> MixtureMoments:
    if not isinstance(q, MixtureParams):
        return q
    return q.point() if model.improper else q.moments()


def imputed(
    resp: Float[Array, "n k"], x: Array, mask: Any, mean: Array, variance: Array | None
) -> tuple[Array, Array]:
    """Mean and sd of the mixture of the components' conditionals; observed entries as they are.

    Without a variance `mean` has the probabilities of codes (n, k, d, c), and the result is the
    most probable code and the probabilities (n, d, c).
    """
    if variance is None:
        p = jnp.sum(resp[:, :, None, None] * mean, 1)
        code = jnp.arange(p.shape[-1], dtype=x.dtype)
        seen = (x[:, :, None] == code[None, None]).astype(p.dtype)
        if mask is None:
            return x, seen
        value = jnp.where(mask, x, jnp.argmax(p, -1).astype(x.dtype))
        return value, jnp.where(mask[:, :, None], seen, p)
    if mask is None:
        return x, jnp.zeros_like(x)
    centre = jnp.sum(resp[:, :, None] * mean, 1)
    total = jnp.sum(resp[:, :, None] * (variance + (mean - centre[:, None]) ** 2), 1)
    return jnp.where(mask, x, centre), jnp.where(mask, 0.0, jnp.sqrt(total))


def _posterior(q: Known | Fitted) -> MixtureParams:
    q = q_of(q)
    if not isinstance(q, MixtureParams):
        raise TypeError(
            f"q: expected a posterior, such as `fit.q`, got {type(q).__name__}; the density at a "
            "point is `log_likelihood`"
        )
    return q


def check_labels(batch: Batch, find_active: Callable[[], Any]) -> None:
    """Raise ValueError if a row of positive weight has the label of no active component."""
    if batch.label is None or not is_concrete(batch.label, batch.weight):
        return
    active = find_active()
    if not is_concrete(active):
        return
    weight, label = fetched(batch.weight), fetched(batch.label)
    on = np.flatnonzero(fetched(active))
    bad = (weight > 0) & (label >= 0) & ~namespace(label).isin(label, on.astype(label.dtype))
    if bool(bad.any()):
        row = int(bad.argmax())
        known = ", ".join(map(str, on))
        raise ValueError(f"label: {int(label[row])} in row {row}, but the components are {known}")
