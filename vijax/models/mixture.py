"""Mixtures: a prior on the weights and any conjugate family for the components."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from .._host import is_concrete
from .._pytree import pytree, replace, static
from ..batch import Batch
from ..families.emission import Emission
from ..families.weights import Weights
from ..model import Conjugate, Expected
from ..numerics import seeding, special
from .mixture_params import MixtureMoments, MixtureParams

_EXTRA_SHARE = 0.05  # of the rows, that components such as noise start with


@pytree
class Mixture(Conjugate):
    """z_n ~ Categorical(weights), x_n | z_n = k ~ the likelihood that component k is conjugate to

    (Bishop 2006, section 10.2). `weights` is a `Dirichlet` or `StickBreaking` prior over k
    components, `components` a component family with k members: any of the two go together.

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

    def check(self, batch: Batch, point: bool) -> None:
        """Raise ValueError if data and prior, or prior and method, do not go together."""
        _check_parts(self)
        self.components.check(batch)
        if batch.label is not None and self.weights.ordered:
            raise ValueError(
                "label: stick-breaking weights put the components in order of size; known labels "
                "need a Dirichlet prior, or StickBreaking(..., ordered=False)"
            )
        _check_labels(batch, self.num_components)
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
        restarts begin with fewer seeds (`seeding.num_seeds`); the bound of the full model
        decides. Maximum likelihood has no prior to leave components at, and seeds all.
        """
        assert key is not None  # `draws` tells the drivers so
        points = self.components.embed(batch)
        seeds = seeding.kmeans_plus_plus(key, points, batch.weight, self.num_components)
        on, total = self.active, jnp.sum(batch.weight)
        extra = jnp.arange(self.num_components) >= self.num_components - self.components.extra
        usual = on & ~extra
        size = jnp.sum(usual, dtype=total.dtype)
        if not self.improper:
            size = jnp.minimum(size, seeding.num_seeds(restart, size))
            usual = usual & (jnp.cumsum(usual, dtype=size.dtype) <= size)
        count = jnp.where(usual, total / size, jnp.where(on & extra, _EXTRA_SHARE * total, 0.0))
        free = count if self.frozen is None else jnp.where(self.frozen, 0.0, count)
        stats = self.components.seed(batch, seeds, free)
        return self.update(self.prior, MixtureParams(self.weights.observe(count), stats))

    def local(self, moments: MixtureMoments, batch: Batch) -> Expected:
        """Responsibilities, their statistics, and each row's log-normaliser."""
        log_lik, latent = moments.components.local(batch)
        resp, log_z = special.normalize(_log_joint(moments, log_lik, batch))
        return Expected(self._stats(moments.components, batch, resp, latent), log_z)

    def assign(self, q: MixtureParams, batch: Batch, resp: Float[Array, "n k"]) -> MixtureParams:
        """Statistics of given responsibilities, about the means of q."""
        # a flat prior, which a start may be, has no moments but a point
        at = q.components.point() if self.improper else q.components.moments()
        _, latent = at.local(batch)
        return self._stats(at, batch, resp, latent)

    def _stats(
        self, at: Any, batch: Batch, resp: Float[Array, "n k"], latent: Any
    ) -> MixtureParams:
        # a row of weight 0 must not spread a NaN, in values or in gradients
        present = (batch.weight > 0)[:, None]
        mass = jnp.where(present, batch.weight[:, None] * jnp.where(present, resp, 0.0), 0.0)
        weights = self.weights.observe(jnp.sum(mass, 0))
        if self.frozen is not None:
            mass = jnp.where(self.frozen, 0.0, mass)
        return MixtureParams(weights, self.components.observe(batch, mass, at, latent))

    def update(self, q: Any, stats: Any) -> MixtureParams:
        """Prior and statistics; with ordered weights in the better order of the components."""
        if self.weights.ordered and self.frozen is None and self.components.extra == 0:
            order = self.weights.arrange(q.weights, stats.weights)
            free = self.components.exchangeable()
            order = jnp.where(free, order, jnp.arange(self.num_components))
            count = self.weights.counts(stats.weights)[order]
            stats = MixtureParams(self.weights.observe(count), stats.components.take(order))
        weights = self.weights.update(q.weights, stats.weights)
        return MixtureParams(weights, stats.components + self.components)

    def penalty(self, q: Any) -> Float[Array, ""]:
        """KL(q || prior) in nats."""
        return self.weights.penalty(q.weights) + self.components.penalty(q.components)

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
        return _log_joint(moments, moments.components.local(batch)[0], batch)

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
        free = self.active & (place < self.num_components - self.components.extra)
        return free if self.frozen is None else free & ~self.frozen

    # -- for users ------------------------------------------------------------------------------

    def freeze(self, params: Any, which: Any) -> Mixture:
        """The same model with the components `which` (booleans (k,)) fixed as they are in `params`.

        `params` is a q, or a Result. Their weights are still learned; nothing else about them is.
        Raises ValueError for components that share parameters (tied covariance).
        """
        q = getattr(params, "q", params)
        if not self.components.separable:
            raise ValueError("frozen: components that share parameters cannot be fixed one by one")
        which = jnp.asarray(which)
        if which.shape != (self.num_components,) or which.dtype != bool:
            raise ValueError(
                f"which: expected booleans of shape ({self.num_components},), got {which.dtype} "
                f"of shape {which.shape}"
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
        batch = Batch.of(data)
        moments = q.moments()
        log_joint = self.log_joint(moments, batch)
        log_resp = jnp.log(jnp.where(resp > 0, resp, 1.0))
        rows = jnp.sum(special.xlogy(resp, log_joint - log_resp), -1)
        return jnp.sum(batch.weight * rows) - self.penalty(q)

    def responsibilities(self, q: Any, x: Any) -> Float[Array, "n k"]:
        """Posterior probability of each component for each row; rows sum to one.

        `q` is a posterior, or a point such as `q.point()`, the estimate of EM; a q fitted by
        maximum likelihood is always read at its point. `x` is array-like or a Batch.
        """
        batch, moments = self._read(q, x)
        return special.normalize(self.log_joint(moments, batch))[0]

    def predict(self, q: Any, x: Any) -> Int[Array, "n"]:
        """The most probable component of each row; arguments as in `responsibilities`."""
        batch, moments = self._read(q, x)
        return jnp.argmax(self.log_joint(moments, batch), -1)

    def log_likelihood(self, q: Any, x: Any) -> Float[Array, "n"]:
        """log p(x_n | theta) in nats at the posterior means of weights, means and precisions."""
        batch, moments = self._read(q.point() if isinstance(q, MixtureParams) else q, x)
        log_lik = moments.components.local(batch)[0]
        return jax.nn.logsumexp(moments.weights.log_p + log_lik, -1)

    def log_predictive(self, q: MixtureParams, x: Any) -> Float[Array, "n"]:
        """log E_q[p(x_n | theta)] in nats: a proper density, of the observed entries of each row.

        For Gaussian components a mixture of Student-t (Bishop 2006, eq. 10.81).
        """
        batch = self._rows(x, jax.tree.leaves(q)[0].dtype)
        log_p = jnp.log(jnp.where(q.weights.mean > 0, q.weights.mean, 1.0))
        log_p = jnp.where(q.weights.mean > 0, log_p, -jnp.inf) - jnp.log(jnp.sum(q.weights.mean))
        return jax.nn.logsumexp(log_p + q.components.log_predictive(batch), -1)

    def sample(
        self, key: Key[Array, ""], q: MixtureParams, n: int, **options: Any
    ) -> tuple[Any, Int[Array, "n"]]:
        """n independent rows from the predictive density, and the components they come from.

        `options` go to the components' `draw`, such as the rows' `total` of a multinomial.
        """
        k_label, k_rows = jax.random.split(key)
        label = jax.random.categorical(k_label, jnp.log(q.weights.mean), shape=(n,))
        return q.components.draw(k_rows, label, **options), label

    def sample_parameters(
        self, key: Key[Array, ""], q: MixtureParams, shape: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """Draws of "weights" and "components" from q, with leading axes `shape`."""
        return q.sample(key, shape)

    def impute(self, q: Any, x: Any) -> tuple[Any, Any]:
        """Conditional means and standard deviations of missing entries, given the observed ones.

        Observed entries come back as they are, with standard deviation 0. `x` is a Batch with
        missing entries, and the results have its form; means and precisions are taken at their
        posterior means. A category is imputed as the mean of its codes: read `responsibilities`.
        """
        batch, moments = self._read(q.point() if isinstance(q, MixtureParams) else q, x)
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

    def _rows(self, x: Any, dtype: Any) -> Batch:
        batch = Batch.of(x)
        self.components.check(batch)
        cast = jax.tree.map(lambda a: a.astype(dtype), (batch.x, batch.weight, batch.noise))
        return replace(batch, x=cast[0], weight=cast[1], noise=cast[2])

    def _read(self, q: Any, x: Any) -> tuple[Batch, MixtureMoments]:
        if isinstance(q, MixtureParams):
            q = q.point() if self.improper else q.moments()
        return self._rows(x, q.weights.log_p.dtype), q


def _log_joint(
    moments: MixtureMoments, log_lik: Float[Array, "n k"], batch: Batch
) -> Float[Array, "n k"]:
    """E[log p(x_n, z_n = k)] in nats; -inf against a known label."""
    log_joint = moments.weights.log_p + log_lik
    if batch.label is None:
        return log_joint
    known = (batch.label >= 0)[:, None]
    other = batch.label[:, None] != jnp.arange(log_joint.shape[1], dtype=batch.label.dtype)
    return jnp.where(known & other, -jnp.inf, log_joint)


def _imputed(
    resp: Float[Array, "n k"], x: Array, mask: Any, mean: Array, variance: Array
) -> tuple[Array, Array]:
    """Means and sds of the mixture of the components' conditionals, where entries are missing."""
    if mask is None:
        return x, jnp.zeros_like(x)
    center = jnp.sum(resp[:, :, None] * mean, 1)
    spread = jnp.sum(resp[:, :, None] * (variance + (mean - center[:, None]) ** 2), 1)
    return jnp.where(mask, x, center), jnp.where(mask, 0.0, jnp.sqrt(spread))


def _check_labels(batch: Batch, k: int) -> None:
    if batch.label is None or not is_concrete(batch.label):
        return
    label = np.asarray(batch.label)
    if (label >= k).any():
        row = int(np.argmax(label >= k))
        raise ValueError(f"label: {label[row]} in row {row}, but the model has {k} components")


def _check_parts(model: Mixture) -> None:
    if not isinstance(model.weights, Weights):
        raise TypeError(f"weights: expected a prior such as Dirichlet, got {model.weights!r:.80}")
    if not isinstance(model.components, Emission):
        raise TypeError(
            f"components: expected a component family such as NormalWishart, got "
            f"{model.components!r:.80}"
        )
    k = jax.eval_shape(model.components.log_normalizer).shape
    if k and k[0] != model.num_components:
        raise ValueError(f"components: {k[0]} of them, but weights for {model.num_components}")
