"""Labels that all steps of a row have in common: what makes components clusters of sequences."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree, replace
from ...data.batch import Batch
from ...exponential_family import Product, Q
from ...numerics import seeding, special
from ...numerics.kl_terms import KLTerms
from ..dirichlet import CategoricalMoments
from .base import Labelled, Labels, present

_BLOCK = 64  # steps that are summed one after the other


@pytree
class SharedMoments:
    """Moments of the weights, under q or at a point."""

    weights: Any


@pytree
class Shared(Product, Labels):
    """z_n ~ Categorical(weights), which is the class of every step of row n.

    `weights` is any prior on k weights, such as `Dirichlet`. Counts are of rows, not of steps.
    """

    Moments: ClassVar = SharedMoments
    word: ClassVar[str] = "cluster"
    weights: Any

    def point_at(self, value: dict[str, Any]) -> SharedMoments:
        return SharedMoments(CategoricalMoments.at(value["weights"]))

    @property
    def size(self) -> int:
        return self.weights.size

    @property
    def on(self) -> Bool[Array, "*b k"]:
        return self.weights.on

    @property
    def mean(self) -> Float[Array, "*b k"]:
        """Expected share of each class among all rows."""
        return self.weights.mean

    def counts(self, stats: Any) -> Float[Array, "*b k"]:
        """The number of rows in each class that `stats` are of."""
        return self.weights.counts(stats.weights)

    def of_rows(
        self, moments: SharedMoments, log_lik: Float[Array, "n t k"], rows: Batch
    ) -> tuple[Float[Array, "n k"], Float[Array, "n"]]:
        """p(class of row n | all of its steps), and log_z of each row in nats.

        A row of which nothing exists has the probabilities of the weights, and log_z 0.
        """
        assert rows.steps is not None  # `check` has seen to it
        steps = rows.steps[..., None]
        each = jnp.where(steps > 0, steps * jnp.where(steps > 0, log_lik, 0.0), 0.0)
        resp, log_z = special.normalize(moments.weights.log_p + _over_steps(each))
        return resp, jnp.where(jnp.any(rows.exists, 1), log_z, 0.0)

    def infer(
        self,
        moments: SharedMoments,
        log_lik: Float[Array, "..."],
        rows: Batch,
        state: Any = None,
    ) -> Labelled:
        """r_nk = exp(E[log weight_k] + sum_t E[log p(x_nt | class k)]) / Z_n at all steps."""
        resp, log_z = self.of_rows(moments, log_lik, rows)
        by_step = jnp.where(rows.exists[..., None], resp[:, None], 0.0)
        return Labelled(by_step, self._observe(resp, rows), log_z)

    def assign(self, resp: Float[Array, "n t k"], rows: Batch) -> Shared:
        """Each row counts in a class by its steps' mean responsibility."""
        here = present(rows.exists.astype(resp.dtype), resp)
        number = jnp.sum(rows.exists, 1, dtype=resp.dtype)
        return self._observe(_over_steps(here) / jnp.maximum(number, 1.0)[:, None], rows)

    def _observe(self, resp: Float[Array, "n k"], rows: Batch) -> Shared:
        return Shared(self.weights.observe(jnp.sum(present(rows.weight, resp), 0)))

    def give_to(self, stats: Shared, heir: Int[Array, "k"]) -> Shared:
        return Shared(self.weights.give_to(stats.weights, heir))

    def begin(self, count: Float[Array, "k"]) -> Shared:
        return Shared(self.weights.begin(count))

    def partition(
        self,
        key: Key[Array, ""],
        points: Float[Array, "m f"],
        rows: Batch,
        on: Bool[Array, "k"],
        restart: Int[Array, ""] | int = 0,
    ) -> Float[Array, "n t k"]:
        """Rows around k-means++ seeds among them, by the mean and the spread of their steps."""
        assert rows.steps is not None  # `check` has seen to it
        found = seeding.summaries(points.reshape(*rows.steps.shape, -1), rows.steps)
        label = None if rows.label is None else jnp.max(rows.label, 1)
        label = nearest_seeds(key, found, label, rows.weight, on)
        by_row = jax.nn.one_hot(label, self.size, dtype=points.dtype)
        return jnp.where(rows.exists[..., None], by_row[:, None], 0.0)

    def simulate(
        self, moments: SharedMoments, key: Key[Array, ""], shape: tuple[int, int]
    ) -> Int[Array, "n t"]:
        """Classes of n rows, of t steps each."""
        drawn = jax.random.categorical(key, moments.weights.log_p, shape=shape[:1])
        return jnp.broadcast_to(drawn.astype(jnp.int32)[:, None], shape)

    def take(self, order: Int[Array, "m"]) -> Shared:
        return Shared(self.weights.take(order))

    def exchangeable(self, which: Bool[Array, "k"]) -> Bool[Array, ""]:
        return self.weights.exchangeable(which)

    def num_free(self, k: Float[Array, ""]) -> Float[Array, ""]:
        return self.weights.num_free(k)

    # -- of the weights ---------------------------------------------------------------------------

    def log_p_of(self, moments: SharedMoments, stats: Any) -> Float[Array, ""]:
        return self.weights.log_p_of(moments.weights, stats.weights)

    def update(self, q: Q, stats: Any, rate: ArrayLike = 1.0) -> Any:
        return replace(q, weights=self.weights.update(q.weights, stats.weights, rate))

    def kl_from(self, q: Q) -> Float[Array, ""]:
        return self.weights.kl_from(q.weights)

    def kl_and_move_terms(self, q: Q, last: Q) -> KLTerms:
        return self.weights.kl_and_move_terms(q.weights, last.weights)

    def expected_log_lik(self, stats: Any) -> Float[Array, ""]:
        return self.weights.expected_log_lik(stats.weights)

    def check_point(self) -> None:
        self.weights.check_point()

    def log_prior(self, moments: SharedMoments) -> Float[Array, ""]:
        return self.weights.log_prior(moments.weights)


def nearest_seeds(
    key: Key[Array, ""],
    points: Float[Array, "n g"],
    label: Int[Array, "n"] | None,
    weight: Float[Array, "n"],
    on: Bool[Array, "k"],
) -> Int[Array, "n"]:
    """The class of the nearest of k k-means++ seeds for each row; a known label is that itself."""
    known = None
    if label is not None:
        first = jax.random.fold_in(key, 2)
        known = seeding.labelled_rows(first, label, weight, on.shape[0])
    seeds = seeding.kmeans_plus_plus(key, points, weight, on.shape[0], known)
    found = seeding.nearest(points, points[seeds], on)
    return found if label is None else jnp.where(label >= 0, label.astype(found.dtype), found)


def _over_steps(each: Float[Array, "n t k"]) -> Float[Array, "n k"]:
    """The sum over steps, a block at a time, so that float32 keeps its digits."""
    n, t, k = each.shape
    if t <= _BLOCK:
        return jnp.sum(each, 1)
    whole = jnp.pad(each, ((0, 0), (0, -t % _BLOCK), (0, 0)))
    return jnp.sum(jnp.sum(whole.reshape(n, -1, _BLOCK, k), 2), 1)
