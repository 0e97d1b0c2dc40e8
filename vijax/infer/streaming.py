"""Batches that arrive one after another: the posterior becomes the prior."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from .._pytree import pytree, replace
from ..data.host import check_bound
from ..data.types import Data
from ..model import ConditionalModel
from .fit import fit
from .initialise import Init
from .method import Method
from .methods.cavi import CAVI
from .result import Result, Stop


@pytree
class Streaming:
    """Bayesian updating by batches of rows (Broderick et al. 2013, streaming variational Bayes).

        stream = vx.Streaming(model)
        for rows in batches:
            stream = stream.update(rows, key=key)
            stream.elbo, stream.q

    Rows are seen once and not kept. The prior of a batch is the posterior of the one before, with
    `forget` < 1 the power prior `prior + forget * (posterior - prior)` in natural coordinates
    (Ibrahim & Chen 2000): rows that are t batches old count forget^t times, and about
    n / (1 - forget) rows are remembered. `forget` is a traced number in [0, 1].

    `elbo` is in nats the exact bound of the last batch under its prior, `total` the sum of these
    over all batches. Where the posterior is exact (nothing latent, one conjugate block) and
    nothing is forgotten, `elbo` is log p(x_t | x_<t) and `total` the log evidence. Elsewhere the
    prior of a batch is itself an approximation: `total` then estimates the log evidence, and
    bounds nothing.

    An immutable pytree: jit, vmap and scan `update`; batches of equal shapes share one program,
    and so does any `forget`. Other sizes can be padded with rows of weight 0.
    """

    model: ConditionalModel
    forget: float | Float[Array, "*b"] = 1.0
    last: Result | None = None
    total: float | Float[Array, "*b"] = 0.0
    num_batches: int | Int[Array, "*b"] = 0

    @property
    def q(self) -> Any:
        """The posterior of all batches so far; the prior before the first."""
        return self.model.prior if self.last is None else self.last.q

    @property
    def elbo(self) -> Float[Array, "*b"]:
        """The bound of the last batch given its prior, in nats; 0 before the first."""
        return jnp.zeros(()) if self.last is None else self.last.elbo

    @property
    def current(self) -> Any:
        """The model whose prior is that of the next batch.

        Raises ValueError where a posterior cannot be a prior: a flat prior, coupled blocks, a
        learned concentration.
        """
        if self.last is None:
            return self.model.with_posterior_as_prior(self.model.prior)
        # from the posterior, whose gauge is next to the current means
        prior = self.last.q.lerp(self.model.prior, 1.0 - jnp.asarray(self.forget))
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
        """The stream after one more batch; arguments as in `fit`, how it went in `last`.

        The first batch starts as `fit` does, later ones at the last posterior unless `init` says
        otherwise. Components that had no rows so far are free to take new ones.

        Raises ValueError as `fit` and `current` do, and for `forget` outside of [0, 1].
        """
        check_bound("forget", self.forget, least=0.0, most=1.0)
        if init is None:
            init = self.last
        fitted = fit(
            self.current,
            data,
            key=key,
            init=init,
            method=method,
            stop=stop,
            num_restarts=num_restarts,
        )
        total = jnp.asarray(self.total).astype(fitted.elbo.dtype) + fitted.elbo
        number = jnp.asarray(self.num_batches, jnp.int32) + 1
        return replace(self, last=fitted, total=total, num_batches=number)
