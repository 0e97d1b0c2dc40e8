"""Labels x components: a prior on the labels of steps, and a family that steps are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from .._pytree import replace
from ..data.batch import Batch
from ..data.chunked import accumulate, automatic_chunk, map_rows
from ..data.padding import compiled
from ..data.sequences import step_weight
from ..data.windows import accumulate_windows, map_windows
from ..exponential_family import Q, Q_co, natural_step
from ..families.emission import log_joint, weighted
from ..families.labels.base import Labels, present, weighed
from ..kernel import Kernel
from ..latent_class import LatentClassModel
from ..model import Conjugate, EStep, weighted_sum
from ..numerics import seeding
from ..numerics.kl_terms import KLTerms
from .odds import finite_odds
from .relabellings import log_relabellings


class Structured(Conjugate[Q_co], LatentClassModel[Q_co]):
    """z ~ labels, and step t of row n is drawn from component z_nt.

    `labels` says how the labels of a row hang together: not at all (a mixture), by a chain (a
    hidden Markov model), by weights of the row's own (mixed membership). `components` is any
    component family. The bound is ELBO = sum_n w_n log Z_n - KL(q || p), with log Z_n from
    `labels.infer`, which takes E[log p(x_nt | theta_k)] for every step. KL is summed over labels
    and components.
    """

    labels: Any
    components: Any
    switch: Any
    improper: bool
    names: Any

    draws: ClassVar[bool] = True
    params: ClassVar[Any]  # of labels and components, such as MixtureParams

    @property
    def prior(self) -> Any:
        """p(theta): the prior of the labels and that of the components."""
        return self.params(self.labels, self.components)

    @property
    def template(self) -> Any:
        return self.params(self.labels.template, self.components)

    @property
    def num_components(self) -> int:
        return self.labels.size

    @property
    def active(self) -> Bool[Array, "*b k"]:
        return compiled(_on)(self.labels) if self.switch is None else self.switch

    def row_size(self, batch: Batch) -> int:
        steps = batch.flat()
        if batch.steps is None:
            return self.components.row_size(steps)
        return batch.steps.shape[1] * (self.components.row_size(steps) + 4 * self.num_components)

    # -- E-step -----------------------------------------------------------------------------------

    def kernels(self, moments: Any, batch: Batch) -> tuple[Kernel, ...]:
        steps = batch.flat()
        t = None if batch.steps is None else batch.steps.shape[1]
        return tuple(
            replace(
                kernel,
                moments=replace(moments, components=kernel.moments),
                row_size=self.labels.row_size(t, kernel.row_size),
            )
            for kernel in self.components.kernels(steps, moments.components)
        )

    def rows(self, batch: Batch) -> Any:
        return self.labels.fresh(batch)

    def ascends(self, kept: bool) -> bool:
        return self.labels.ascends(kept)

    def local(self, moments: Any, batch: Batch) -> EStep:
        return self.local_from(moments, batch, None)

    def local_from(self, moments: Any, batch: Batch, rows: Any) -> EStep:
        found = self.labels.infer(moments.labels, self.step_log_lik(moments, batch), batch, rows)
        stats = self._observe(moments, batch, found.resp)
        return EStep(self.params(found.stats, stats), found.log_z, found.rows)

    def step_log_lik(self, moments: Any, batch: Batch) -> Float[Array, "..."]:
        """E[log p(step | theta_k)] in nats, (n, k) or (n, t, k), a chunk of steps at a time.

        It is -inf for components other than a known label.
        """

        def of_chunk(part: Batch, components: Any) -> Array:
            log_lik = components.likelihood(part)[0]
            return log_joint(jnp.zeros_like(log_lik[0]), log_lik, part)

        return self._of_steps(of_chunk, batch, moments.components)

    def step_odds(self, moments: Any, batch: Batch) -> Float[Array, "..."]:
        """`step_log_lik` up to a number per step, for reading: the largest of a step is 0.

        A step that is impossible under every component says nothing.
        """

        def of_chunk(part: Batch, components: Any, possible: Array) -> Array:
            like = jax.eval_shape(lambda: components.likelihood(part)[0])
            none = jnp.zeros(like.shape, like.dtype)
            prior = jnp.where(possible, jnp.zeros(like.shape[1:], like.dtype), -jnp.inf)
            odds = finite_odds(components, part, log_joint(prior, none, part))
            # beside that of a far step, no digit of the others would be left
            top = jnp.max(odds, -1, keepdims=True)
            return odds - jnp.where(top > -jnp.inf, top, 0.0)

        possible = self.labels.possible(moments.labels)
        return self._of_steps(of_chunk, batch, moments.components, possible)

    def _of_steps(
        self, of_chunk: Callable[..., Array], batch: Batch, *args: Any
    ) -> Float[Array, "..."]:
        """`of_chunk(steps, *args)` (.., k) for every step, a chunk of steps at a time."""
        chunk = self._chunk(batch.flat())
        if batch.steps is None:
            return map_rows(of_chunk, batch, chunk, *args)
        return map_windows(of_chunk, batch, chunk, *args)

    def _observe(self, moments: Any, batch: Batch, resp: Float[Array, "..."]) -> Any:
        """Expected statistics of the components, a chunk of steps at a time."""

        def of_chunk(rows: Any, components: Any, prior: Any) -> tuple[Any, Array]:
            part, own = rows
            # cheaper than to keep it from `step_log_lik`; what is not read of it is not computed
            row_posterior = components.likelihood(part)[1]
            counts = weighted(part, own)
            stats = prior.observe(part, counts, components, row_posterior)
            return stats, jnp.zeros((), counts.dtype)

        chunk, args = self._chunk(batch.flat()), (moments.components, self.components)
        if batch.steps is None:
            return accumulate(of_chunk, (batch, resp), chunk, *args)[0]
        return accumulate_windows(of_chunk, (batch, resp), chunk, *args)[0]

    def _chunk(self, steps: Batch) -> int:
        return automatic_chunk(self.components.row_size(steps), steps)

    # -- starts -----------------------------------------------------------------------------------

    def init(
        self, key: Key[Array, ""] | None, batch: Batch, restart: Int[Array, ""] | int = 0
    ) -> Any:
        """A component around each of k k-means++ seeds among the steps, half as wide as all.

        Distances are those of `embed`, so that units do not matter. A component with labelled steps
        begins at one of them. Labels that have a `partition` of their own begin with it.
        """
        assert key is not None  # `draws` says that there is one
        steps, k, known = batch.flat(), self.num_components, None
        if steps.label is not None:
            first = jax.random.fold_in(key, 2)
            known = seeding.labelled_rows(first, steps.label, steps.weight, k)
        points = self.components.embed(steps)
        resp = self.labels.partition(key, points, batch, self.active, restart)
        if resp is not None:
            q = self.prior
            return self.update(q, self.assign(q, batch, _with_known(resp, batch)))
        seeds = seeding.kmeans_plus_plus(key, points, steps.weight, k, known)
        on = self.active
        each = jnp.sum(steps.weight) / jnp.sum(on, dtype=steps.weight.dtype)
        count = jnp.where(on, each, 0.0)
        stats = self.components.seed(steps, seeds, count, 0.5)
        return self.update(self.prior, self.params(self.labels.begin(count), stats))

    def start_moments(self, q: Q) -> Any:
        return q.point() if self.improper else q.moments()

    def assign(self, q: Q, batch: Batch, resp: Float[Array, "..."]) -> Any:
        stats = self._observe(self.start_moments(q), batch, resp)
        return self.params(self.labels.assign(resp, batch), stats)

    def tempered(self, moments: Any, batch: Batch, power: Float[Array, ""]) -> Any:
        log_lik = self.step_log_lik(moments, batch)
        found = self.labels.tempered(moments.labels, log_lik, batch, power)
        return self.params(found.stats, self._observe(moments, batch, found.resp))

    def merge_gain(self, q: Q) -> Float[Array, "k k"]:
        """The gain of the components alone in nats, that of `Emission.merge_gain`."""
        return q.components.merge_gain(self.components)

    def steps_of(self, q: Q) -> Float[Array, "k"]:
        """The expected number of steps in each class."""
        count = self.labels.counts(q.labels)
        return count - self.labels.counts(self.labels).astype(count.dtype)

    def give_to(self, moments: Any, batch: Batch, heir: Int[Array, "k"]) -> Any:
        """Expected statistics if each class gives its steps to its heir, which may be itself."""
        found = self.labels.infer(moments.labels, self.step_log_lik(moments, batch), batch)
        resp = jnp.zeros_like(found.resp).at[..., heir].add(found.resp)
        stats = self._observe(moments, batch, resp)
        return self.params(self.labels.give_to(found.stats, heir), stats)

    # -- update and bound -------------------------------------------------------------------------

    def update(self, q: Q, stats: Any, rate: ArrayLike = 1.0) -> Any:
        return self.combine(q, stats, rate)

    def combine(self, q: Q, stats: Any, rate: ArrayLike = 1.0) -> Any:
        labels = self.labels.update(q.labels, stats.labels, rate)
        components = natural_step(q.components, stats.components + self.components, rate)
        return self.params(labels, components)

    def expected_log_lik(self, q: Q, stats: Any) -> Float[Array, ""]:
        labels = q.labels.expected_log_lik(stats.labels)
        return labels + q.components.expected_log_lik(stats.components)

    def kl(self, q: Q) -> Float[Array, ""]:
        return self.labels.kl_from(q.labels) + self.components.kl_from(q.components)

    def kl_and_move(self, q: Q, last: Q) -> tuple[Float[Array, ""], Float[Array, ""]]:
        labels = self.labels.kl_and_move_terms(q.labels, last.labels)
        components = self.components.kl_and_move_terms(q.components, last.components)
        kl, move = KLTerms.join(labels, components).total_by_product()
        return kl, move

    def log_prior(self, moments: Any) -> Float[Array, ""]:
        """Log prior density in nats at a point, in the natural basis; 0 under the flat prior."""
        components = self.components.log_prior(moments.components, self.active)
        if self.improper:
            return jnp.zeros_like(components)
        return self.labels.log_prior(moments.labels) + components

    # -- criteria ---------------------------------------------------------------------------------

    def log_relabellings(self, q: Q, batch: Batch) -> Float[Array, ""]:
        """log of the number of relabellings of q that the model cannot tell apart, in nats.

        It is log(k! / unused!) if `unused` of k components have no steps. If the relabelled
        posteriors do not overlap, it may be added to the bound. Known labels and different priors
        tell components apart.
        """
        free = self.active & ~batch.labelled(self.num_components)
        return log_relabellings(self.labels, self.components, free, self.steps_of(q))

    def num_free(self, k: Float[Array, ""]) -> Float[Array, ""]:
        """Number of free parameters with k components switched on."""
        own, shared = self.components.num_parameters()
        return k * own + shared + self.labels.num_free(k + self.components.num_background)

    def at_point(self, q: Q, batch: Batch) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The log-likelihood at the point of q, and the entropy of all labels there, in nats."""
        point = q.point()
        log_lik = self.step_log_lik(point, batch)
        found = self.labels.infer(point.labels, log_lik, batch)
        total = weighted_sum(batch, found.log_z)
        count = present(step_weight(batch), found.resp)
        joint = weighed(count, log_lik) + self.labels.log_p_of(point.labels, found.stats)
        return total, total - joint

    def collapsed(self, q: Q) -> Bool[Array, ""]:
        """Whether, under the flat prior, a component is at a singularity or has no steps."""
        if not self.improper:
            return super().collapsed(q)
        count = jnp.where(self.active, self.labels.counts(q.labels), 0.0)
        return jnp.any(self.active & (q.components.collapsed(count) | (count <= 0)))


def _on(labels: Labels) -> Bool[Array, "*b k"]:
    return labels.on


def _with_known(resp: Float[Array, "n t k"], batch: Batch) -> Float[Array, "n t k"]:
    """Responsibilities with those of known labels in their place."""
    if batch.label is None:
        return resp
    known = jax.nn.one_hot(batch.label, resp.shape[-1], dtype=resp.dtype)
    return jnp.where((batch.label >= 0)[..., None], known, resp)
