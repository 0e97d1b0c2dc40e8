"""What can be read off a mixture and its q: assignments, densities, samples, missing entries."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from .._pytree import replace
from ..data.batch import Batch
from ..data.host import fetched, is_concrete, namespace
from ..numerics import special
from .mixture_params import MixtureMoments, MixtureParams


class Prediction:
    """The methods of a mixture that take a q and new rows."""

    weights: Any
    components: Any
    active: Any
    improper: bool
    log_joint: Any
    as_batch: Any

    def responsibilities(self, q: MixtureParams | MixtureMoments, x: Any) -> Float[Array, "n k"]:
        """Posterior probability of each component for each row; rows sum to one.

        `q` is a posterior, or a point such as `q.point()`, the estimate of EM; a q fitted by
        maximum likelihood is always read at its point. `x` is array-like or a Batch.
        """
        return _responsibilities(self, q, self._read(q, x))

    def predict(self, q: MixtureParams | MixtureMoments, x: Any) -> Int[Array, "n"]:
        """The most probable component of each row; arguments as in `responsibilities`."""
        return _predict(self, q, self._read(q, x))

    def log_likelihood(self, q: MixtureParams | MixtureMoments, x: Any) -> Float[Array, "n"]:
        """log p(x_n | theta) in nats at the posterior means of weights, means and precisions."""
        return _log_likelihood(self, q, self._read(q, x))

    def log_predictive(self, q: MixtureParams | MixtureMoments, x: Any) -> Float[Array, "n"]:
        """log E_q[p(x_n | theta)] in nats: a proper density, of the observed entries of each row.

        For Gaussian components a mixture of Student-t (Bishop 2006, eq. 10.81). The infinite model
        has one more component in it, which stands for all that have no rows. After maximum
        likelihood, which has no posterior, it is `log_likelihood`. Raises TypeError for a point.
        """
        _check_posterior(q)
        if self.improper:
            return self.log_likelihood(q, x)
        return _log_predictive(self, q, self._read(q, x))

    def sample(
        self, key: Key[Array, ""], q: MixtureParams | MixtureMoments, n: int, **options: Any
    ) -> tuple[Any, Int[Array, "n"]]:
        """n independent rows from the predictive density, and the components they come from.

        In the infinite model k stands for a component that has no rows yet. After maximum
        likelihood rows are drawn at the estimate. `options` go to the components' `draw`, such as
        the rows' `total` of a multinomial. Raises TypeError for a point.
        """
        _check_posterior(q)
        k_label, k_rows, k_new = jax.random.split(key, 3)
        k, rest = q.weights.mean.shape[0], q.weights.rest
        weight = q.weights.mean if rest is None else jnp.append(q.weights.mean, rest)
        label = jax.random.categorical(k_label, jnp.log(weight), shape=(n,))
        components = q.components
        if self.improper:  # what is known from very many such rows has no spread
            components = components.map(lambda a: a / jnp.finfo(a.dtype).eps)
        rows = components.draw(k_rows, jnp.minimum(label, k - 1), **options)
        if rest is None:
            return rows, label
        new = self._unseen(components).draw(k_new, jnp.zeros_like(label), **options)

        def pick(old: Array, new: Array) -> Array:
            return jnp.where((label < k).reshape(-1, *[1] * (old.ndim - 1)), old, new)

        return jax.tree.map(pick, rows, new), label

    def sample_parameters(
        self, key: Key[Array, ""], q: MixtureParams, shape: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """Draws of "weights" (k,) and "components" from q, with leading axes `shape`; and of

        "concentration" where it has a q of its own. Weights of the infinite model sum to less
        than one: what is left is that of components without rows.
        """
        draws = q.sample(key, shape)
        if isinstance(draws["weights"], dict):
            both = draws.pop("weights")
            draws |= {"weights": both["sticks"], "concentration": both["concentration"]}
        return draws

    def impute(self, q: MixtureParams | MixtureMoments, x: Any) -> tuple[Any, Any]:
        """Conditional means and standard deviations of missing entries, given the observed ones.

        Observed entries come back as they are, with standard deviation 0. `x` is a Batch with
        missing entries, and the results have its form; means and precisions are taken at their
        posterior means. A category is imputed as the mean of its codes: read `responsibilities`.
        """
        batch = self._read(q, x)
        moments = q.point() if isinstance(q, MixtureParams) else q
        resp, _ = special.normalize(self.log_joint(moments, batch))
        found = moments.components.impute(batch)
        if not isinstance(batch.x, dict):
            return _imputed(resp, batch.x, batch.mask, *found)
        each = {}
        for name, x in batch.x.items():
            column = batch.column(name)
            pair = _imputed(resp, column.x, column.mask, found[0][name], found[1][name])
            each[name] = [part.reshape(x.shape) for part in pair]
        return tuple({name: pair[i] for name, pair in each.items()} for i in range(2))  # type: ignore[return-value]

    def _unseen(self, components: Any) -> Any:
        """One component without rows beside these, in their dtype."""
        dtype = jax.tree.leaves(components)[0].dtype
        prior = jax.tree.map(lambda a: a.astype(dtype), self.components)
        return components.unseen(prior)

    def _read(self, q: MixtureParams | MixtureMoments, x: Any) -> Batch:
        """Rows in the dtype of q, without the names of columns: those are not in the program."""
        batch = self.as_batch(x)
        self.components.check(batch)
        check_labels(batch, self.active)
        dtype = jax.tree.leaves(q)[0].dtype
        cast = jax.tree.map(lambda a: a.astype(dtype), (batch.x, batch.weight, batch.noise))
        return replace(batch, x=cast[0], weight=cast[1], noise=cast[2], names=None)


# each one program: compiled at once, not operation by operation


@jax.jit
def _responsibilities(
    model: Any, q: MixtureParams | MixtureMoments, batch: Batch
) -> Float[Array, "n k"]:
    return special.normalize(model.log_joint(_moments(model, q), batch))[0]


@jax.jit
def _predict(model: Any, q: MixtureParams | MixtureMoments, batch: Batch) -> Int[Array, "n"]:
    return jnp.argmax(model.log_joint(_moments(model, q), batch), -1)


@jax.jit
def _log_likelihood(
    model: Any, q: MixtureParams | MixtureMoments, batch: Batch
) -> Float[Array, "n"]:
    moments = q.point() if isinstance(q, MixtureParams) else q
    log_lik = moments.components.likelihood(batch)[0]
    return jax.nn.logsumexp(moments.weights.log_p + log_lik, -1)


@jax.jit
def _log_predictive(
    model: Any, q: MixtureParams | MixtureMoments, batch: Batch
) -> Float[Array, "n"]:
    weight, each = q.weights.mean, q.components.log_predictive(batch)
    if q.weights.rest is not None:
        weight = jnp.append(weight, q.weights.rest)
        new = model._unseen(q.components).log_predictive(batch)
        each = jnp.concatenate([each, new], -1)
    log_p = jnp.log(jnp.where(weight > 0, weight, 1.0)) - jnp.log(jnp.sum(weight))
    return jax.nn.logsumexp(jnp.where(weight > 0, log_p, -jnp.inf) + each, -1)


def _moments(model: Any, q: MixtureParams | MixtureMoments) -> MixtureMoments:
    if not isinstance(q, MixtureParams):
        return q
    return q.point() if model.improper else q.moments()


def _imputed(
    resp: Float[Array, "n k"], x: Array, mask: Any, mean: Array, variance: Array
) -> tuple[Array, Array]:
    """Means and sds of the mixture of the components' conditionals, where entries are missing."""
    if mask is None:
        return x, jnp.zeros_like(x)
    centre = jnp.sum(resp[:, :, None] * mean, 1)
    spread = jnp.sum(resp[:, :, None] * (variance + (mean - centre[:, None]) ** 2), 1)
    return jnp.where(mask, x, centre), jnp.where(mask, 0.0, jnp.sqrt(spread))


def _check_posterior(q: MixtureParams | MixtureMoments) -> None:
    if not isinstance(q, MixtureParams):
        raise TypeError(
            f"q: expected a posterior, such as `fit.q`, got {type(q).__name__}; the density at a "
            "point is `log_likelihood`"
        )


def check_labels(batch: Batch, active: Any) -> None:
    """Raise ValueError for a label, of a row that counts, of no component that is on."""
    if batch.label is None or not is_concrete(batch.label, batch.weight, active):
        return
    weight, label = fetched(batch.weight), fetched(batch.label)
    on = np.flatnonzero(np.asarray(active))
    bad = (weight > 0) & (label >= 0) & ~namespace(label).isin(label, on.astype(label.dtype))
    if bool(bad.any()):
        row = int(bad.argmax())
        own = ", ".join(map(str, on))
        raise ValueError(f"label: {int(label[row])} in row {row}, but the components are {own}")
