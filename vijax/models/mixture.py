"""Mixtures: a prior on the weights and any conjugate family for the components."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from .._pytree import pytree, replace, static
from ..data.batch import Batch
from ..data.host import as_floats
from ..data.padding import compiled, pad
from ..data.types import AnyArray, Data
from ..families.emission import log_joint, weighted
from ..latent_class import SplitMergeModel
from ..model import EStep, unnamed, weighted_sum
from ..numerics import seeding, special
from . import growth
from .mixture_params import C_co, Fitted, MixtureMoments, MixtureParams, W_co, q_of
from .odds import finite_odds
from .parts import check_parts
from .prediction import Prediction, check_labels
from .relabellings import log_relabellings
from .shown import Shown
from .structured import Structured

_BACKGROUND_SHARE = 0.05  # share of the rows that components such as noise start with


@pytree
class Mixture(
    Shown,
    Prediction,
    SplitMergeModel[MixtureParams[W_co, C_co]],
    Structured[MixtureParams[W_co, C_co]],
    Generic[W_co, C_co],
):
    """z_n ~ Categorical(weights), and row x_n is drawn from component z_n (Bishop 2006, 10.2).

    The bound is ELBO = sum_n w_n log Z_n - KL(q || p), with Z_n = sum_k exp(E[log p(x_n, z_n = k)])
    and KL summed over the weights and the components.

    `weights` is a prior of k weights, such as `Dirichlet` or `StickBreaking`, and `components` a
    component family with k members; any two go together. `switch` says which components are on
    (None: all), `frozen` which of them stay at their prior (None: none). `improper` marks the flat
    prior of maximum likelihood, which has no density and so no evidence: it is for EM only.
    `names` are the names of the columns, if the model was made from a data frame; rows with names
    are then matched by name.

    Example:
        x, _ = vx.datasets.three_clusters()
        components = vx.GaussianMixture.from_data(x, 6).components
        model = vx.Mixture(vx.StickBreaking.dirichlet_process(1.0, 6), components)
        fit = vx.fit(model, x, key=jax.random.key(0))
    """

    weights: W_co
    components: C_co
    switch: Bool[Array, "*b k"] | None = None
    frozen: Bool[Array, "*b k"] | None = None
    improper: bool = static(default=False)
    names: tuple[str, ...] | None = static(default=None)

    params: ClassVar[Any] = MixtureParams

    @property
    def labels(self) -> W_co:
        """The weights, as the prior on labels that are independent."""
        return self.weights

    # -- E-step and update ------------------------------------------------------------------------

    def as_batch(self, data: Data) -> Batch:
        """Rows in the form that the components take.

        Raises TypeError or ValueError if weights and components do not go together, and ValueError
        for columns of other names.
        """
        check_parts(self.weights, self.components)
        return self.components.as_batch(Batch.of(data).in_order(self.names))

    def check(self, batch: Batch, point: bool) -> None:
        if batch.steps is not None:
            raise ValueError(
                f"x: sequences, but a {type(self).__name__} is a model of rows; take an HMM, or "
                "batch.flat(), whose rows are the steps of all sequences"
            )
        self.components.check_rows(batch)
        if batch.label is not None and self.weights.ordered:
            raise ValueError(
                "label: stick-breaking weights put the components in order of size; known labels "
                "need a Dirichlet prior, or StickBreaking(..., ordered=False)"
            )
        check_labels(batch, lambda: self.active)
        if point:
            self.weights.check_point()
        if self.improper and not point:
            raise ValueError(
                "method: a flat prior has no evidence to bound; use EM(), or a proper prior "
                "from `from_data` or `with_prior`"
            )

    def init(
        self, key: Key[Array, ""] | None, batch: Batch, restart: Int[Array, ""] | int = 0
    ) -> MixtureParams:
        """A component around each of k k-means++ seeds, as narrow as one row lets it be.

        Distances are those of `embed`, so that units do not matter. Maximum likelihood, where one
        row says nothing, begins with components as wide as all rows. A component with labelled
        rows begins at one of them. Restarts are alike but for the key.
        """
        assert key is not None  # `draws` says that there is one
        k, known = self.num_components, None
        if batch.label is not None:
            known = seeding.labelled_rows(jax.random.fold_in(key, 2), batch.label, batch.weight, k)
        points = self.components.embed(batch)
        seeds = seeding.kmeans_plus_plus(key, points, batch.weight, k, known)
        on, total = self.active, jnp.sum(batch.weight)
        background = jnp.arange(k) >= k - self.components.num_background
        wide = self.improper
        size = jnp.sum(on & ~background, dtype=total.dtype)
        rows = total if wide else size  # all components together
        count = jnp.where(on, rows / size, 0.0)
        count = jnp.where(on & background, _BACKGROUND_SHARE * rows, count)
        learned = count if self.frozen is None else jnp.where(self.frozen, 0.0, count)
        stats = self.components.seed(batch, seeds, learned, 1.0 if wide else 0.0)
        return self.update(self.prior, MixtureParams(self.weights.observe(count), stats))

    def local(self, moments: MixtureMoments, batch: Batch) -> EStep:
        """The E-step, r_nk = exp(E[log p(x_n, z_n = k)]) / Z_n, and the statistics under r."""
        stats, count, log_z = self.components.e_step(
            batch, moments.components, moments.weights.log_p
        )
        return EStep(MixtureParams(self.weights.observe(count), self._learned(stats)), log_z)

    def reassign(
        self,
        moments: MixtureMoments,
        batch: Batch,
        change: Callable[[Float[Array, "n k"]], tuple[Float[Array, "n k"], Any]],
    ) -> tuple[MixtureParams, Any]:
        log_lik, row_posterior = moments.components.likelihood(batch)
        resp, other = change(log_joint(moments.weights.log_p, log_lik, batch))
        counts = weighted(batch, resp)
        stats = self.components.observe(batch, counts, moments.components, row_posterior)
        count = jnp.sum(counts, 0)
        return MixtureParams(self.weights.observe(count), self._learned(stats)), other

    def _learned(self, stats: Any) -> Any:
        """The statistics of the components, with zeros for those that are frozen."""
        if self.frozen is None:
            return stats
        return stats.fix(self.frozen, stats.map(jnp.zeros_like))

    def update(
        self, q: MixtureParams, stats: MixtureParams, rate: ArrayLike = 1.0
    ) -> MixtureParams:
        """The posterior, with components of ordered weights sorted by size if the bound gains.

        A step with `rate` < 1 reorders none: it needs the same components in q and in `stats`.
        """
        order = self.order(q, stats) if isinstance(rate, float) and rate == 1.0 else None
        return self.combine(q, stats if order is None else self.reorder(stats, order), rate)

    def order(self, q: MixtureParams, stats: Any) -> Int[Array, "k"] | None:
        if not self.weights.ordered or self.frozen is not None or self.components.num_background:
            return None
        order = self.weights.arrange(q.weights, stats.weights)
        return jnp.where(self.components.exchangeable(), order, jnp.arange(self.num_components))

    def reorder(self, stats: Any, order: Int[Array, "k"]) -> MixtureParams:
        count = self.weights.counts(stats.weights)[order]
        return MixtureParams(self.weights.observe(count), stats.components.take(order))

    def with_posterior_as_prior(self, q: MixtureParams) -> Mixture:
        """The same model with this posterior for its prior.

        Raises ValueError for a flat prior, and for weights whose posterior has another form.
        """
        if self.improper:
            raise ValueError("model: a flat prior is followed by no posterior")
        if not self.weights.closed:
            raise ValueError(
                "weights: the posterior of a learned concentration is no prior of the same form; "
                "fix it with StickBreaking.dirichlet_process(concentration, ...)"
            )
        return replace(self, weights=q.weights, components=q.components)

    def collapsed(self, q: MixtureParams) -> Bool[Array, ""]:
        """Whether, under the flat prior, a component is at a singularity or has no rows."""
        if not self.improper:
            return super().collapsed(q)
        on = self.active
        count = jnp.where(on, self.weights.counts(q.weights), 0.0)
        gone = q.components.collapsed(count)
        gone = gone if self.frozen is None else gone & ~self.frozen
        return jnp.any(on & (gone | (count <= 0)))

    def elbo_terms(self, q: MixtureParams, batch: Batch) -> dict[str, Float[Array, ""]]:
        """Terms of the bound: rows, labels, entropy of the labels, and -KL of both factors.

        - "rows": sum_n w_n sum_k r_nk E[log p(x_n | theta_k)], other latent variables of a row at
          their optimum.
        - "labels": sum_n w_n sum_k r_nk E[log weight_k].
        - "entropy": -sum_n w_n sum_k r_nk log r_nk.
        """
        moments = q.moments()
        log_lik, _ = moments.components.likelihood(batch)
        resp, _ = special.normalize(log_joint(moments.weights.log_p, log_lik, batch))
        counts = weighted(batch, resp)

        def total(values: Array) -> Array:
            return jnp.sum(jnp.where(counts > 0, counts * values, 0.0))

        return {
            "rows": total(log_lik),
            "labels": total(moments.weights.log_p[None]),
            "entropy": -total(jnp.log(jnp.where(resp > 0, resp, 1.0))),
            "kl_weights": -self.weights.kl_from(q.weights),
            "kl_components": -self.components.kl_from(q.components),
        }

    # -- structure moves --------------------------------------------------------------------------

    def log_joint(self, moments: MixtureMoments, batch: Batch) -> Float[Array, "n k"]:
        log_lik, _ = moments.components.likelihood(batch)
        return log_joint(moments.weights.log_p, log_lik, batch)

    def log_odds(self, moments: MixtureMoments, batch: Batch) -> Float[Array, "n k"]:
        """`log_joint` up to a number per row, such that no row of finite numbers is all -inf.

        A row that is impossible under every component has the odds of the weights.
        """
        log_p = moments.weights.log_p
        none = jnp.zeros((batch.weight.shape[0], log_p.shape[0]), log_p.dtype)
        return finite_odds(moments.components, batch, log_joint(log_p, none, batch))

    def expected_counts(self, q: MixtureParams, total: Float[Array, ""]) -> Float[Array, "k"]:
        count = self.weights.counts(q.weights)
        count = count - self.weights.counts(self.weights).astype(count.dtype)
        return jnp.where(self.weights.takes_rest, total - jnp.sum(count), count)

    def embed(self, batch: Batch) -> Float[Array, "n f"]:
        return self.components.embed(batch)

    def merge_gain(self, q: MixtureParams) -> Float[Array, "k k"]:
        weights = q.weights.merge_gain(self.weights)
        return weights + q.components.merge_gain(self.components)

    def grow(self, q: MixtureParams, total: Float[Array, ""]) -> MixtureParams:
        if self.frozen is not None:
            raise ValueError("init: frozen components start from a q of as many components")
        return growth.grown(self.prior, self.active, q, total)

    @property
    def movable(self) -> Bool[Array, "k"]:
        number = jnp.arange(self.num_components)
        free = self.active & (number < self.num_components - self.components.num_background)
        return free if self.frozen is None else free & ~self.frozen

    def log_relabellings(self, q: MixtureParams, batch: Batch) -> Float[Array, ""]:
        """log of the number of relabellings of q that the model cannot tell apart, in nats.

        It is log(k! / unused!) if `unused` of k components have no rows. If the relabelled
        posteriors do not overlap, it may be added to the bound. Known labels, frozen components,
        noise and different priors tell components apart.
        """
        free = self.movable & ~batch.labelled(self.num_components)
        rows = self.expected_counts(q, jnp.sum(batch.weight))
        return log_relabellings(self.weights, self.components, free, rows)

    def at_point(self, q: MixtureParams, batch: Batch) -> tuple[Float[Array, ""], Float[Array, ""]]:
        resp, log_z = special.normalize(self.log_joint(q.point(), batch))
        log_resp = jnp.log(jnp.where(resp > 0, resp, 1.0))
        entropy = -jnp.sum(special.xlogy(resp, log_resp), -1)
        return weighted_sum(batch, log_z), weighted_sum(batch, entropy)

    # -- for users --------------------------------------------------------------------------------

    def freeze(self, params: Any, which: ArrayLike | Sequence[bool]) -> Mixture:
        """The same model with some components fixed as they are in `params`, but for their weights.

        Raises ValueError for components that share parameters, such as a tied covariance.

        Args:
            params: A q of this model, or a Result.
            which: Booleans (k,), True for components to fix.
        """
        q = q_of(params)
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
        theirs, own = (map(jnp.shape, jax.tree.leaves(c)) for c in (q.components, self.components))
        if list(theirs) != list(own):
            raise ValueError("params: must be a q of this model, with as many components")
        return replace(self, components=self.components.fix(which, q.components), frozen=which)

    def elbo(
        self, q: MixtureParams | Fitted, data: Data, resp: Float[AnyArray, "n k"]
    ) -> Float[Array, ""]:
        """The exact bound in nats at any q(theta) and any responsibilities r, optimal or not.

        ELBO = sum_n w_n sum_k r_nk (E[log p(x_n, z_n = k)] - log r_nk) - KL(q || p). Other latent
        variables of a row, such as missing entries, are at their optimum given q.

        Args:
            q: A posterior of this model, or a Result.
            data: Rows, array-like (n, d) or a Batch.
            resp: Responsibilities (n, k).
        """
        batch = self.as_batch(data if isinstance(data, Batch) else Batch.for_jit(data))
        batch, resp = pad(replace(batch, names=None, as_given=None), as_floats("resp", resp))
        return compiled(_elbo)(unnamed(self), q_of(q), batch, resp)


def _elbo(model: Mixture, q: MixtureParams, batch: Batch, resp: Array) -> Float[Array, ""]:
    joint = model.log_joint(q.moments(), batch)
    log_resp = jnp.log(jnp.where(resp > 0, resp, 1.0))
    rows = jnp.sum(special.xlogy(resp, joint - log_resp), -1)
    return jnp.sum(batch.weight * rows) - model.kl(q)
