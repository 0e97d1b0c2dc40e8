"""What a driver asks of a model, and the global step of conditionally conjugate models."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ._pytree import pytree, replace
from .batch import Batch
from .natural import Natural, divergences


@pytree
class Expected:
    """One local step over some rows.

    `stats` are expected sufficient statistics, weighted and summed, in the space of the prior.
    `log_z` is each row's part of the bound, log of the normaliser of its q(z), unweighted. Both
    add over rows, so chunks, streams and devices are one thing.
    """

    stats: Any
    log_z: Float[Array, "n"]


class Model(Protocol):
    """A prior and a local step. No loops, no jit, no input or output.

    `draws` says whether `init` needs a key. Models with latent assignments also have
    `num_components`, `active`, and `assign(q, batch, resp)`, the statistics of given
    responsibilities; models of tables have `read(data)`, which makes their Batch.

    What some drivers ask beyond: `combine(q, stats)`, `update` with every component left in its
    place, where `update` moves them, then with `order(q, stats)` and `reorder(stats, order)`;
    `expected_log_lik(q, stats)`; `given(q)`, the model with q for its prior; and
    `penalties(q, last)`, where that takes less than `penalty` and a divergence by itself.
    `Conjugate` says what they are.
    """

    draws: ClassVar[bool]

    @property
    def template(self) -> Any:
        """Any q: what fixes its type and its shapes."""
        ...

    def check(self, batch: Batch, point: bool) -> None:
        """Host side: raise if the data do not fit, or if `point` (EM) or Bayes is impossible."""
        ...

    def init(self, key: Key[Array, ""] | None, batch: Batch, restart: Any = 0) -> Any:
        """A starting q that breaks the symmetry between latent states.

        `restart` counts the starts of one fit, so that they can differ by design as well.
        """
        ...

    def row_size(self, batch: Batch) -> int:
        """Floats that the local step holds per row: sets the automatic chunk."""
        ...

    def local(self, moments: Any, batch: Batch) -> Expected:
        """Optimal q(z) given the global moments: the E-step."""
        ...

    def update(self, q: Any, stats: Any) -> Any:
        """Optimal q(theta) given expected statistics, one sweep if theta has coupled blocks."""
        ...

    def penalty(self, q: Any) -> Float[Array, ""]:
        """KL(q(theta) || p(theta)) in nats."""
        ...

    def log_prior(self, moments: Any) -> Float[Array, ""]:
        """log of the prior density in nats at a point, in the natural basis; asked by EM only."""
        ...

    def collapsed(self, q: Any) -> Bool[Array, ""]:
        """Whether a point estimate is at a singularity of the likelihood; asked by EM only."""
        ...


class Conjugate:
    """The global step of every model whose prior is conjugate: addition."""

    prior: Any

    @property
    def template(self) -> Any:
        """The prior: q is of the same family."""
        return self.prior

    def update(self, q: Any, stats: Natural) -> Any:
        """Statistics + prior; statistics first, for their gauge is next to the current means."""
        return stats + self.prior

    def penalty(self, q: Natural) -> Float[Array, ""]:
        """KL(q || prior) in nats."""
        return jnp.sum(q.kl(self.prior))

    def penalties(self, q: Natural, last: Natural) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """`penalty`, and KL(q || last) in nats."""
        penalty, move = divergences(q, self.prior, last).total_by_product()
        return penalty, move

    def expected_log_lik(self, q: Any, stats: Any) -> Float[Array, ""]:
        """E_q[log p(x, z | theta)] of rows with these statistics, less what no theta changes."""
        return q.dot(stats)

    def given(self: Any, q: Any) -> Any:
        """The same model with this posterior for its prior."""
        return replace(self, prior=q)

    def log_prior(self, moments: Any) -> Float[Array, ""]:
        """log of the prior density in nats at a point, in the natural basis."""
        return jnp.sum(self.prior.log_kernel(moments))

    def collapsed(self, q: Any) -> Bool[Array, ""]:
        """Never, under a proper prior."""
        return jnp.zeros((), bool)


def penalties(model: Any, q: Any, last: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`model.penalty(q)` and KL(q || last) in nats; at once where the model knows how."""
    own = getattr(model, "penalties", None)
    return (model.penalty(q), jnp.sum(q.kl(last))) if own is None else own(q, last)


def combine(model: Any, q: Any, stats: Any) -> Any:
    """`model.update` with every component left in its place.

    For drivers that keep statistics, or a q, from several updates: theirs must be of the same
    components.
    """
    return getattr(model, "combine", model.update)(q, stats)
