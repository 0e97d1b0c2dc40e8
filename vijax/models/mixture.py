"""Mixtures: a prior on the weights and any conjugate family for the components."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from .._pytree import pytree, replace, static
from ..data.batch import Batch
from ..data.types import Data
from ..exponential_family import natural_step
from ..families.emission import Emission, log_joint, weighted
from ..families.weights.base import Weights
from ..kernel import Kernel
from ..model import Conjugate, EStep, SplitMergeModel
from ..numerics import seeding, special
from ..numerics.kl_terms import KLTerms
from .mixture_params import MixtureMoments, MixtureParams
from .prediction import Prediction, check_labels

_BACKGROUND_SHARE = 0.05  # of the rows, that components such as noise start with
_LEAST_ROWS = 0.5  # a component with fewer is at its prior


@pytree
class Mixture(Prediction, Conjugate, SplitMergeModel):
    """z_n ~ Categorical(weights), and row x_n is drawn from component z_n (Bishop 2006, 10.2).

    `weights` is a `Dirichlet` or `StickBreaking` prior over k components, `components` a component
    family with k members: any of the two go together.

    `switch` says which components are on (None: all); `frozen` which of them stay at their prior
    (None: none). `improper` marks the flat prior of maximum likelihood, which has no density and
    so no evidence: EM only.
    """

    weights: Any
    components: Any
    switch: Bool[Array, "*b k"] | None = None
    frozen: Bool[Array, "*b k"] | None = None
    improper: bool = static(default=False)

    draws: ClassVar[bool] = True

    @property
    def prior(self) -> MixtureParams:
        """p(theta)."""
        return MixtureParams(self.weights, self.components)

    @property
    def num_components(self) -> int:
        """k, switched-off components included."""
        return self.weights.size

    @property
    def active(self) -> Bool[Array, "*b k"]:
        """Which components are switched on."""
        return self.weights.on if self.switch is None else self.switch

    # -- what the drivers ask -------------------------------------------------------------------

    def as_batch(self, data: Data) -> Batch:
        """Rows in the form that the components take; TypeError if those are none."""
        _check_parts(self)
        return self.components.as_batch(Batch.of(data))

    def check(self, batch: Batch, point: bool) -> None:
        """Raise ValueError if data and prior, or prior and method, do not go together."""
        self.components.check(batch)
        if batch.label is not None and self.weights.ordered:
            raise ValueError(
                "label: stick-breaking weights put the components in order of size; known labels "
                "need a Dirichlet prior, or StickBreaking(..., ordered=False)"
            )
        check_labels(batch, self.active)
        if point and not self.weights.has_point:
            raise ValueError(
                "method: EM() does not fit a concentration with a prior; use CAVI(), or fix it "
                "with StickBreaking.dirichlet_process(concentration, ...)"
            )
        if self.improper and not point:
            raise ValueError(
                "method: a flat prior has no evidence to bound; use EM(), or a proper prior "
                "from `from_data` or `with_prior`"
            )

    def row_size(self, batch: Batch) -> int:
        """Floats that the components' local step holds per row."""
        return self.components.row_size(batch)

    def init(self, key: Key[Array, ""] | None, batch: Batch, restart: Any = 0) -> MixtureParams:
        """Wide components, one at each k-means++ seed; others at the prior.

        Distances are those of the component family (`embed`), so that units do not matter. Later
        restarts begin with fewer seeds (`seeding.num_seeds`), and some late ones
        (`seeding.is_narrow`) with components that know their own seed row alone: those find many
        small clusters. The bound of the full model decides. Maximum likelihood has no prior to
        leave components at, and seeds all. Components with known rows begin at one of these.
        """
        assert key is not None  # `draws` tells the drivers so
        k, known = self.num_components, None
        own = jnp.zeros(k, bool)
        if batch.label is not None:
            known = seeding.labelled_rows(jax.random.fold_in(key, 2), batch.label, batch.weight, k)
            own = known >= 0
        points = self.components.embed(batch)
        early = isinstance(restart, int) and restart == 0
        narrow = None if early or self.improper else seeding.is_narrow(restart)
        seeds = seeding.kmeans_plus_plus(key, points, batch.weight, k, known, narrow)
        on, total = self.active, jnp.sum(batch.weight)
        background = jnp.arange(k) >= k - self.components.num_background
        usual = on & ~background
        if not self.improper:
            size = jnp.sum(usual, dtype=total.dtype)
            least = size - seeding.num_seeds(restart, size)
            least = least if narrow is None else jnp.where(narrow, 0.0, least)
            # as many of those without known rows, from the end, are left out
            free = usual & ~own
            rest = jnp.cumsum(free[::-1], dtype=size.dtype)[::-1]
            usual = usual & (own | (rest > least))
        size = jnp.sum(usual, dtype=total.dtype)
        count = jnp.where(
            usual, total / size, jnp.where(on & background, _BACKGROUND_SHARE * total, 0.0)
        )
        spread = 1.0 if narrow is None else jnp.where(narrow, 0.0, jnp.ones_like(total))
        if narrow is not None:
            count = jnp.where(narrow & on, jnp.ones_like(total), count)
        free = count if self.frozen is None else jnp.where(self.frozen, 0.0, count)
        stats = self.components.seed(batch, seeds, free, spread)
        return self.update(self.prior, MixtureParams(self.weights.observe(count), stats))

    def kernels(self, moments: MixtureMoments, batch: Batch) -> tuple[Kernel, ...]:
        """Those of the components, each with the moments of the weights."""
        return tuple(
            replace(kernel, moments=replace(moments, components=kernel.moments))
            for kernel in self.components.kernels(batch, moments.components)
        )

    def local(self, moments: MixtureMoments, batch: Batch) -> EStep:
        """Responsibilities, their statistics, and each row's log-normaliser."""
        found = self.components.e_step(batch, moments.components, moments.weights.log_p)
        stats, count, log_z = found
        return EStep(MixtureParams(self.weights.observe(count), self._learned(stats)), log_z)

    def start_moments(self, q: MixtureParams) -> MixtureMoments:
        """Moments of q; under a flat prior, which has no expectation, its point."""
        return q.point() if self.improper else q.moments()

    def assign(self, q: MixtureParams, batch: Batch, resp: Float[Array, "n k"]) -> MixtureParams:
        """Statistics of given responsibilities, next to the means of q."""
        moments = self.start_moments(q).components
        _, row_posterior = moments.likelihood(batch)
        counts = weighted(batch, resp)
        stats = self.components.observe(batch, counts, moments, row_posterior)
        return MixtureParams(self.weights.observe(jnp.sum(counts, 0)), self._learned(stats))

    def _learned(self, stats: Any) -> Any:
        """Statistics of the components but for the frozen ones."""
        if self.frozen is None:
            return stats
        return stats.fix(self.frozen, stats.map(jnp.zeros_like))

    def update(
        self, q: MixtureParams, stats: MixtureParams, rate: ArrayLike = 1.0
    ) -> MixtureParams:
        """Prior and statistics; with ordered weights in the better order of the components."""
        order = self.order(q, stats)
        return self.combine(q, stats if order is None else self.reorder(stats, order), rate)

    def combine(
        self, q: MixtureParams, stats: MixtureParams, rate: ArrayLike = 1.0
    ) -> MixtureParams:
        """Prior and statistics, every component in its place."""
        weights = self.weights.update(q.weights, stats.weights, rate)
        components = natural_step(q.components, stats.components + self.components, rate)
        return MixtureParams(weights, components)

    def order(self, q: MixtureParams, stats: Any) -> Int[Array, "k"] | None:
        """The order that `update` puts components in; None where it never moves any."""
        if not self.weights.ordered or self.frozen is not None or self.components.num_background:
            return None
        order = self.weights.arrange(q.weights, stats.weights)
        return jnp.where(self.components.exchangeable(), order, jnp.arange(self.num_components))

    def reorder(self, stats: Any, order: Int[Array, "k"]) -> MixtureParams:
        """The same statistics with the components in this order."""
        count = self.weights.counts(stats.weights)[order]
        return MixtureParams(self.weights.observe(count), stats.components.take(order))

    def expected_log_lik(self, q: MixtureParams, stats: Any) -> Float[Array, ""]:
        """E_q[log p(x, z | theta)] of rows with these statistics, up to terms constant in theta."""
        weights = q.weights.expected_log_lik(stats.weights)
        return weights + q.components.expected_log_lik(stats.components)

    def with_posterior_as_prior(self, q: MixtureParams) -> Mixture:
        """The same model with this posterior for its prior.

        Raises ValueError for a flat prior, and for weights whose posterior is of another form.
        """
        if self.improper:
            raise ValueError("model: a flat prior is followed by no posterior")
        if not self.weights.closed:
            raise ValueError(
                "weights: the posterior of a learned concentration is no prior of the same form; "
                "fix it with StickBreaking.dirichlet_process(concentration, ...)"
            )
        return replace(self, weights=q.weights, components=q.components)

    def kl(self, q: MixtureParams) -> Float[Array, ""]:
        """KL(q || prior) in nats."""
        return self.weights.kl_from(q.weights) + self.components.kl_from(q.components)

    def kl_and_move(
        self, q: MixtureParams, last: MixtureParams
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """`kl`, and KL(q || last) in nats."""
        weights = self.weights.kl_and_move_terms(q.weights, last.weights)
        components = self.components.kl_and_move_terms(q.components, last.components)
        kl, move = KLTerms.join(weights, components).total_by_product()
        return kl, move

    def log_prior(self, moments: MixtureMoments) -> Float[Array, ""]:
        """log of the prior density in nats at a point, natural basis; 0 under the flat prior."""
        if self.improper:
            return jnp.zeros((), moments.weights.log_p.dtype)
        components = self.components.log_prior(moments.components, self.active)
        return self.weights.log_prior(moments.weights) + components

    def collapsed(self, q: MixtureParams) -> Bool[Array, ""]:
        """Under the flat prior, whether a component is at a singularity, or has no rows."""
        if not self.improper:
            return super().collapsed(q)
        on = self.active
        count = jnp.where(on, self.weights.counts(q.weights), 0.0)
        gone = q.components.collapsed(count)
        gone = gone if self.frozen is None else gone & ~self.frozen
        return jnp.any(on & (gone | (count <= 0)))

    # -- what structure moves ask -----------------------------------------------------------------

    def log_joint(self, moments: MixtureMoments, batch: Batch) -> Float[Array, "n k"]:
        """E[log p(x_n, z_n = k)] in nats; -inf against a known label."""
        log_lik, _ = moments.components.likelihood(batch)
        return log_joint(moments.weights.log_p, log_lik, batch)

    def expected_weights(self, q: MixtureParams) -> Float[Array, "k"]:
        """E[pi_k]."""
        return q.weights.mean

    def embed(self, batch: Batch) -> Float[Array, "n f"]:
        """Rows as points whose squared distances mean something."""
        return self.components.embed(batch)

    def merge_gain(self, q: MixtureParams) -> Float[Array, "k k"]:
        """What merging two components adds to the components' part of the bound, in nats."""
        return q.components.merge_gain(self.components)

    @property
    def movable(self) -> Bool[Array, "k"]:
        """Which components may be merged, split or begun anew."""
        place = jnp.arange(self.num_components)
        free = self.active & (place < self.num_components - self.components.num_background)
        return free if self.frozen is None else free & ~self.frozen

    def log_relabellings(self, q: MixtureParams, batch: Batch) -> Float[Array, ""]:
        """log of the number of orders of the components with rows that nothing tells apart.

        The bound is that of one order; all have the same, and together they fill as many times
        the room, if they do not overlap. Known labels, frozen components, noise and priors that
        differ tell components apart.
        """
        free = self.movable
        if batch.label is not None:
            label = jnp.where(batch.weight > 0, batch.label, -1)
            own = jnp.arange(self.num_components, dtype=label.dtype)
            free = free & ~jnp.any(label[:, None] == own, 0)
        rows = self.weights.counts(q.weights)
        rows = rows - self.weights.counts(self.weights).astype(rows.dtype)
        number = jnp.sum(free, dtype=rows.dtype)
        used = jnp.sum(free & (rows > _LEAST_ROWS), dtype=rows.dtype)
        # the others, as if they were like the first of the free ones
        like = jnp.where(free, jnp.arange(self.num_components), jnp.argmax(free))
        same = self.weights.exchangeable(free) & self.components.take(like).exchangeable()
        return jnp.where(same, special.log_gamma_ratio(number - used + 1.0, used), 0.0)

    # -- for users ------------------------------------------------------------------------------

    def freeze(self, params: Any, which: Any) -> Mixture:
        """The same model with the components `which` (booleans (k,)) fixed as they are in `params`.

        `params` is a q, or a Result. Their weights are still learned; nothing else about them is.
        Raises ValueError for components that share parameters (tied covariance).
        """
        q = params if isinstance(params, MixtureParams) else params.q
        if not self.components.separable:
            raise ValueError("frozen: components that share parameters cannot be fixed one by one")
        which = jnp.asarray(which)
        if which.shape != (self.num_components,) or which.dtype != bool:
            raise ValueError(
                f"which: expected booleans of shape ({self.num_components},), got {which.dtype} "
                f"of shape {which.shape}"
            )
        if self.weights.rest is not None:
            raise ValueError(
                "frozen: the infinite model needs its prior for components to come; take "
                "truncated=True"
            )
        given = jax.tree.leaves(q.components), jax.tree.leaves(self.components)
        shapes = [[jnp.shape(leaf) for leaf in leaves] for leaves in given]
        if shapes[0] != shapes[1]:
            raise ValueError("params: must be a q of this model, with as many components")
        return replace(self, components=self.components.fix(which, q.components), frozen=which)

    def elbo(self, q: MixtureParams, data: Any, resp: Float[Array, "n k"]) -> Float[Array, ""]:
        """The exact bound in nats at any q and any responsibilities, optimal or not.

        Rows' other latent variables, such as missing entries, are at their optimum given q.
        """
        batch = self.as_batch(data)
        moments = q.moments()
        joint = self.log_joint(moments, batch)
        log_resp = jnp.log(jnp.where(resp > 0, resp, 1.0))
        rows = jnp.sum(special.xlogy(resp, joint - log_resp), -1)
        return jnp.sum(batch.weight * rows) - self.kl(q)


def _check_parts(model: Mixture) -> None:
    if not isinstance(model.weights, Weights):
        raise TypeError(f"weights: expected a prior such as Dirichlet, got {model.weights!r:.80}")
    if not isinstance(model.components, Emission):
        raise TypeError(
            f"components: expected a component family such as NormalWishart, got "
            f"{model.components!r:.80}"
        )
    leaves, structure = jax.tree.flatten(model.components)
    k = _members(structure, tuple((jnp.shape(a), jnp.result_type(a)) for a in leaves))
    if k and k[0] != model.num_components:
        raise ValueError(f"components: {k[0]} of them, but weights for {model.num_components}")


@lru_cache(maxsize=1024)
def _members(structure: Any, leaves: tuple[Any, ...]) -> tuple[int, ...]:
    """The batch axes of a family with arrays of these shapes; once, for tracing takes a while."""
    arrays = [jax.ShapeDtypeStruct(*leaf) for leaf in leaves]
    return jax.eval_shape(lambda a: jax.tree.unflatten(structure, a).log_normalizer(), arrays).shape
