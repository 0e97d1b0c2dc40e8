"""`fit_amortised`: a model and its encoder, by any optimiser over minibatches of rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, Key

from .._pytree import pytree
from ..data.batch import Batch, check_entries
from ..data.checks import check_rows_alone
from ..data.host import check_bound, check_integer, described, fetched, strong
from ..data.padding import pad
from ..data.shards import on_auto_mesh
from ..data.types import Data
from .methods.optimiser import climb, first_state, optimiser_of
from .methods.svi import Epoch
from .result import FitError
from .status import Status


@pytree
class AmortisedFit:
    """Parameters after the last epoch, and how the bound rose.

    - `params`: in the form of those that were given.
    - `bound_trace`: for each epoch the weighted mean over rows of the estimates of the bound, in
      nats per row, each with the parameters of its minibatch; NaN for epochs that were not run.
    - `status`: MAX_ITER after all epochs, as no rule says that more would change nothing;
      NON_FINITE if a bound or a parameter was not finite, with the parameters of the epoch before.
    - `n_epochs`: the number of epochs before the end.
    """

    params: Any
    bound_trace: Float[Array, "*b e"]
    status: Int[Array, "*b"]
    n_epochs: Int[Array, "*b"]

    def check(self) -> AmortisedFit:
        """Return self unless it is NON_FINITE; then raise FitError."""
        if (fetched(self.status) == Status.NON_FINITE).any():
            raise FitError(
                f"after {fetched(self.n_epochs)} epochs, NON_FINITE: a bound or a parameter became "
                "NaN or infinite; take a smaller step size, or look for NaN in functions and rows"
            )
        return self


@on_auto_mesh
def fit_amortised(
    bound: Callable[[Any, Any, Key[Array, ""]], Float[Array, "n"]],
    params: Any,
    data: Data,
    *,
    key: Key[Array, ""],
    optimiser: Any,
    batch_size: int | None = 128,
    num_epochs: int = 100,
) -> AmortisedFit:
    """Climb the mean over rows of a bound, by unbiased gradients from minibatches of rows.

    An epoch visits every row of positive weight once, in a new random order, with new draws. Where
    to stop is for rows that were held out to say. Raises TypeError or ValueError naming the
    argument; what fails later is a status.

    Args:
        bound: A function of the parameters, some rows and a key: the bound of each row in nats,
            (n,), such as a call of `amortised_bound` or `amortised_mixture_bound`. It must look at
            each row by itself. It is part of the program, so define it once; what varies can be in
            a `jax.tree_util.Partial`.
        params: Where to start, a pytree of floats.
        data: Rows with weights, as in `fit`; `bound` sees them as `Batch.of(data).x`, an array or a
            dict of columns.
        key: A typed key, for orders and draws.
        optimiser: An optax GradientTransformation, such as `optax.adam(1e-3)`. A number or an optax
            schedule stands for Adam with this step size.
        batch_size: Number of rows of an update; None is all rows.
        num_epochs: Number of passes over the rows.

    Example:
        norm = jax.scipy.stats.norm

        def log_joint(params, z, x):  # x is z, times w, with noise
            return norm.logpdf(z).sum() + norm.logpdf(x, params["w"] * z).sum()

        def encoder(params, x):
            return params["a"] * x, params["log_width"]

        def bound(params, x, key):
            return vx.amortised_bound(log_joint, encoder, params, x, key=key)

        x = np.random.default_rng(0).normal(size=(64, 1))
        params = {"w": 1.0, "a": 0.1, "log_width": jnp.zeros(1)}
        settings = {"key": jax.random.key(0), "optimiser": 0.01, "num_epochs": 5}
        fit = vx.fit_amortised(bound, params, x, **settings).check()
    """
    if not callable(bound):
        raise TypeError(f"bound: expected a function, got {described(bound)}")
    optimiser_of(optimiser)
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError(f"key: expected a typed key, jax.random.key(0), got {described(key)}")
    check_integer("num_epochs", num_epochs)
    check_bound("num_epochs", num_epochs, least=1.0)
    batch = Batch.for_jit(data)
    check_entries(batch)
    check_rows_alone(batch, "a bound")
    batch = pad(Batch(batch.x, batch.weight))[0]
    if batch_size is None:
        batch_size = batch.weight.shape[0]
    check_integer("batch_size", batch_size)
    check_bound("batch_size", batch_size, least=1.0)
    params = strong(params, batch.weight.dtype)
    bound = bound if isinstance(bound, Partial) else Partial(bound)
    return _fit(bound, params, batch, key, optimiser, batch_size, num_epochs)


@partial(jax.jit, static_argnames=("optimiser", "batch_size", "num_epochs"))
def _fit(
    bound: Partial,
    params: Any,
    batch: Batch,
    key: Key[Array, ""],
    optimiser: Any,
    batch_size: int,
    num_epochs: int,
) -> AmortisedFit:
    optimiser = optimiser_of(optimiser)
    total = jnp.sum(batch.weight)

    def pass_over_rows(params: Any, inner: Any, key: Key[Array, ""]) -> tuple[Any, Any, Array]:
        of_rows, of_draws = jax.random.split(key)
        epoch = Epoch.draw(of_rows, batch, batch_size)

        def update(i: Array, carry: Any) -> Any:
            params, inner, sums = carry
            part, share = epoch.minibatch(batch, i)
            weight = part.weight / (share * total)

            def mean_bound(params: Any) -> Array:
                values = bound(params, part.x, jax.random.fold_in(of_draws, i))
                return jnp.sum(weight * _of_rows(values, weight))

            value, gradient = jax.value_and_grad(mean_bound)(params)
            return *climb(optimiser, params, inner, gradient), sums + share * value

        first = jnp.zeros_like(epoch.num_batches)
        carry = params, inner, jnp.zeros_like(total)
        return lax.fori_loop(first, epoch.num_batches, update, carry)

    def step(carry: Any) -> Any:
        params, inner, trace, count, _ = carry
        new, later, value = pass_over_rows(params, inner, jax.random.fold_in(key, count))
        leaves = [value, *jax.tree.leaves(new)]
        sound = jnp.all(jnp.stack([jnp.all(jnp.isfinite(a)) for a in leaves]))
        kept = jax.tree.map(lambda a, b: jnp.where(sound, a, b), new, params)
        trace = jnp.where(sound, trace.at[count].set(value), trace)
        return kept, later, trace, count + sound.astype(count.dtype), sound

    def more(carry: Any) -> Array:
        return (carry[3] < num_epochs) & carry[4]

    none = jnp.full(num_epochs, jnp.nan, total.dtype)
    start = params, first_state(optimiser, params), none, jnp.asarray(0, jnp.int32)
    params, _, trace, count, sound = lax.while_loop(more, step, (*start, jnp.asarray(True)))
    status = jnp.where(sound, int(Status.MAX_ITER), int(Status.NON_FINITE)).astype(jnp.int32)
    return AmortisedFit(params, trace, status, count)


def _of_rows(values: Any, weight: Array) -> Array:
    """The bounds of the rows; ValueError unless there is one for each."""
    if jnp.shape(values) != weight.shape:
        raise ValueError(
            f"bound: expected the bound of each of {weight.size} rows, {weight.shape}, got "
            f"{described(values)}"
        )
    return values.astype(weight.dtype)
