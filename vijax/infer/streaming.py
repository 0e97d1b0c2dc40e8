"""Batches of rows that arrive one after another: the posterior becomes the next prior."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from .._pytree import pytree, replace
from ..data.host import check_bound, to_device
from ..data.types import Data
from ..model import ConditionalModel, Q
from .fit import fit
from .initialise import Init
from .method import Method
from .methods.cavi import CAVI
from .result import Result, Stop


@pytree
class Streaming:
    """Bayesian updating by batches of rows (Broderick et al. 2013, streaming variational Bayes).

    Rows are read once and not kept. The prior of a batch is the posterior of the one before. With
    `forget` < 1 it is the power prior `prior + forget * (posterior - prior)` in natural coordinates
    (Ibrahim & Chen 2000): rows that are t batches old count forget^t times, which keeps about
    n / (1 - forget) rows. `forget` is a traced number in [0, 1].

    `elbo` is the exact bound in nats of the last batch under its prior, and `total` the sum of
    these over all batches. If posteriors are exact and nothing is forgotten, `elbo` is
    log p(x_t | x_<t) and `total` the log evidence; otherwise `total` estimates it and is no bound.

    A stream is an immutable pytree: jit, vmap and scan `update`. Batches of equal shapes share one
    program, for any `forget`; other sizes can be padded with rows of weight 0.

    Args:
        model: A model with a prior, that of the first batch.
        forget: What an older batch counts, as above.
        last: The fit of the last batch; None before the first.
        total: Sum of the bounds of all batches so far, in nats.
        num_batches: Number of batches so far.

    Example:
        x, _ = vx.datasets.three_clusters()
        stream = vx.Streaming(vx.GaussianMixture.from_data(x, 3))
        for rows in (x[:250], x[250:]):
            stream = stream.update(rows, key=jax.random.key(0))
        print(stream.total, stream.q.weights.mean)
    """

    model: ConditionalModel
    forget: float | Float[Array, "*b"] = 1.0
    last: Result | None = None
    total: float | Float[Array, "*b"] = 0.0
    num_batches: int | Int[Array, "*b"] = 0

    @property
    def q(self) -> Any:
        """The posterior after all batches so far; the prior before the first."""
        return self.model.prior if self.last is None else self.last.q

    @property
    def elbo(self) -> Float[Array, "*b"]:
        """The bound of the last batch under its prior, in nats; 0 before the first."""
        return jnp.zeros(()) if self.last is None else self.last.elbo

    @property
    def current(self) -> Any:
        """The model with the prior of the next batch.

        Raises ValueError if a posterior cannot be a prior: under a flat prior, with coupled blocks,
        or with a learned concentration.
        """
        if self.last is None:
            return self.model.with_posterior_as_prior(self.model.prior)
        forget = to_device(self.forget, self.last.elbo.dtype)
        prior = _discounted(self.last.q, self.model.prior, forget)
        return self.model.with_posterior_as_prior(prior)

    def update(
        self,
        data: Data,
        *,
        key: Key[Array, ""] | None = None,
        init: Init = None,
        method: Method[Any] = CAVI(),
        stop: Stop = Stop(),
        num_restarts: int = 1,
    ) -> Streaming:
        """The stream after one more batch; the Result of its fit is in `last`.

        Components that had no rows so far are free to take new ones. Raises as `fit` and `current`
        do, and ValueError for `forget` outside of [0, 1].

        Args:
            data, key, method, stop, num_restarts: As in `fit`, with the data in memory.
            init: As in `fit`; None starts the first batch as `fit` does, later ones at the last q.
        """
        check_bound("forget", self.forget, least=0.0, most=1.0)
        if not isinstance(self.model, ConditionalModel):
            raise TypeError(
                f"model: Streaming needs a model with a prior, a ConditionalModel, got "
                f"{type(self.model).__name__}"
            )
        settings = {"key": key, "method": method, "stop": stop, "num_restarts": num_restarts}
        init = self.last if init is None else init
        last = fit(self.current, data, init=init, **settings)
        total = to_device(self.total, last.elbo.dtype) + last.elbo
        number = _next(to_device(self.num_batches, jnp.int32))
        return replace(self, last=last, total=total, num_batches=number)


# programs, since an operation by itself would move its constants to the device


@jax.jit
def _discounted(q: Q, prior: Q, forget: Array) -> Q:
    """The power prior, written from the posterior, whose origin is next to the current means."""
    return q.lerp(prior, 1.0 - forget)


@jax.jit
def _next(number: Array) -> Array:
    return number + 1
