"""A component of constant density beside others, for rows that belong to no cluster."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import gauge, pytree, replace
from ...data.batch import Batch
from ...data.host import fetched, is_concrete
from ...exponential_family import Lifted
from ...kernel import Kernel
from ..emission import Emission, EmissionMoments, Spread


@pytree
class NoiseMoments(EmissionMoments):
    """Moments of the other components, and the corners of the box."""

    others: Any
    low: Float[Array, "d"]
    high: Float[Array, "d"]

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], Any]:
        """Log-densities of the other components, and that of the box as the last column."""
        log_lik, row_posterior = self.others.likelihood(rows)
        return jnp.concatenate([log_lik, _box(rows, self.low, self.high)], -1), row_posterior

    def log_distance(self, rows: Batch) -> Float[Array, "n k"] | None:
        """As of the other components; the density of the box is 0 or finite."""
        found = self.others.log_distance(rows)
        return None if found is None else jnp.pad(found, ((0, 0), (0, 1)), constant_values=jnp.inf)

    def log_density(self, rows: Batch, factor: Any = None) -> Float[Array, "n k"]:
        others = self.others.log_density(rows, factor)
        return jnp.concatenate([others, _box(rows, self.low, self.high)], -1)

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"]]:
        """As of the other components; for the noise mean and variance of a uniform in the box."""
        mean, variance = self.others.impute(rows)
        width = self.high - self.low
        uniform = (self.low + 0.5 * width, width**2 / 12.0)
        centre, spread = (jnp.broadcast_to(a, mean[:, :1].shape) for a in uniform)
        return jnp.concatenate([mean, centre], 1), jnp.concatenate([variance, spread], 1)

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """What a table shows of the other components, with NaN for the noise."""
        return {name: _with_nan(v) for name, v in self.others.describe(names).items()}


@pytree
class WithNoise(Lifted, Emission):
    """Components `others` and a last one, which is uniform over the box from `low` to `high`.

    (Banfield & Raftery 1993.) It has no parameters, and its weight is learned like any other. Rows
    with an observed entry outside of the box have density 0. The density is of rows as they were
    observed, with their measurement noise.
    """

    others: Emission
    low: Float[Array, "d"] = gauge()
    high: Float[Array, "d"] = gauge()

    part: ClassVar[str] = "others"
    num_background: ClassVar[int] = 1

    @property
    def separable(self) -> bool:  # type: ignore[override]
        """Whether the other components are separable."""
        return self.others.separable

    def words(self) -> list[str]:
        return [*self.others.words(), "the last uniform noise"]

    # -- the family -----------------------------------------------------------------------------

    def _reduce(self, values: Array) -> Array:
        return _append(values)

    def moments(self) -> NoiseMoments:
        return NoiseMoments(self.others.moments(), self.low, self.high)

    def point(self) -> NoiseMoments:
        return NoiseMoments(self.others.point(), self.low, self.high)

    def point_at(self, value: Any) -> NoiseMoments:
        return NoiseMoments(self.others.point_at(value), self.low, self.high)

    def about(self, like: Any) -> WithNoise:
        return replace(like, others=self.others.about(like.others))

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """What a table shows of the other components, with NaN for the noise."""
        return {name: _with_nan(v) for name, v in self.others.describe(names).items()}

    # -- as components --------------------------------------------------------------------------

    def check(self, rows: Batch) -> None:
        """Raise ValueError if `others` do, or if a row labelled as noise is outside of the box."""
        self.others.check(rows)
        if rows.label is None or not is_concrete(rows.label, rows.weight, rows.x, self.low):
            return
        k = jax.tree.leaves(self.others)[0].shape[0]
        known = (rows.label == k) & (rows.weight > 0)
        lost = known & jnp.isneginf(_box(rows, self.low, self.high)[:, 0])
        if bool(lost.any()):
            raise ValueError(f"label: row {int(lost.argmax())} is known noise, but off its box")

    def observe(
        self,
        rows: Batch,
        soft_counts: Float[Array, "n k"],
        moments: NoiseMoments,
        row_posterior: Any,
    ) -> WithNoise:
        """Statistics of the other components; the noise has none."""
        others = self.others.observe(rows, soft_counts[:, :-1], moments.others, row_posterior)
        return replace(self, others=others)

    def e_step(
        self,
        rows: Batch,
        moments: NoiseMoments,
        log_weight: Float[Array, "m"],
        background: Float[Array, "n b"] | None = None,
    ) -> tuple[WithNoise, Float[Array, "m"], Float[Array, "n"]]:
        """The E-step of the other components with the box as their background."""
        box = _box(rows, moments.low, moments.high)
        box = box if background is None else jnp.concatenate([box, background], -1)
        stats, count, log_z = self.others.e_step(rows, moments.others, log_weight, box)
        return replace(self, others=stats), count, log_z

    def kernels(self, rows: Batch, moments: NoiseMoments) -> tuple[Kernel, ...]:
        """The kernels of the other components, each with the box."""
        return tuple(
            replace(
                kernel,
                moments=replace(moments, others=kernel.moments),
                row_size=kernel.row_size + 2,
            )
            for kernel in self.others.kernels(rows, moments.others)
        )

    def embed(self, rows: Batch) -> Float[Array, "n f"]:
        return self.others.embed(rows)

    def seed(
        self, rows: Batch, seeds: Int[Array, "k"], count: Float[Array, "k"], spread: Spread = 1.0
    ) -> WithNoise:
        return replace(self, others=self.others.seed(rows, seeds[:-1], count[:-1], spread))

    def log_predictive(self, rows: Batch) -> Float[Array, "n k"]:
        parts = [self.others.log_predictive(rows), _box(rows, self.low, self.high)]
        return jnp.concatenate(parts, -1)

    def draw(self, key: Key[Array, ""], index: Int[Array, "n"]) -> Any:
        """Rows of the other components, and uniform rows in the box for the noise."""
        k = jax.tree.leaves(self.others)[0].shape[0]
        k_rows, k_box = jax.random.split(key)
        rows = self.others.draw(k_rows, jnp.minimum(index, k - 1))
        place = jax.random.uniform(k_box, rows.shape, rows.dtype)
        return jnp.where(
            (index < k)[:, None], rows, self.low[None] + (self.high - self.low)[None] * place
        )

    def num_parameters(self) -> tuple[int, int]:
        return self.others.num_parameters()

    def row_size(self, rows: Batch) -> int:
        return self.others.row_size(rows) + 2

    def expected_log_lik(self, stats: WithNoise) -> Float[Array, ""]:
        return self.others.expected_log_lik(stats.others)

    def log_prior(self, moments: NoiseMoments, active: Bool[Array, "k"]) -> Float[Array, ""]:
        return self.others.log_prior(moments.others, active[:-1])

    def fix(self, which: Bool[Array, "k"], values: Any) -> WithNoise:
        return replace(self, others=self.others.fix(which[:-1], values.others))

    def unseen(self, prior: WithNoise) -> Emission:
        """One more of the other components."""
        return self.others.unseen(prior.others)

    def take(self, order: Int[Array, "m"]) -> WithNoise:
        """The components of these indices, the last of which must be the noise."""
        return replace(self, others=self.others.take(order[:-1]))

    def extend(self, prior: Any) -> WithNoise:
        """These and other components of the prior, and its noise as the last."""
        return replace(prior, others=self.others.extend(prior.others))

    def exchangeable(self) -> Bool[Array, ""]:
        """Whether all other components have the same parameters."""
        return self.others.exchangeable()

    def collapsed(self, count: Float[Array, "k"]) -> Bool[Array, "k"]:
        return _append(self.others.collapsed(count[:-1]), False)

    def merge_gain(self, prior: WithNoise) -> Float[Array, "k k"]:
        """As of the other components; -inf for merges with the noise."""
        gain = self.others.merge_gain(prior.others)
        return jnp.pad(gain, ((0, 1), (0, 1)), constant_values=-jnp.inf)


def _box(rows: Batch, low: Float[Array, "d"], high: Float[Array, "d"]) -> Float[Array, "n 1"]:
    """log density in nats of the observed entries under a uniform in the box."""
    inside = (rows.x >= low[None]) & (rows.x <= high[None])
    each = jnp.broadcast_to(jnp.log(high - low), rows.x.shape)
    if rows.mask is not None:
        inside, each = inside | ~rows.mask, jnp.where(rows.mask, each, 0.0)
    density = jnp.where(jnp.all(inside, -1), -jnp.sum(each, -1), -jnp.inf)
    return density[:, None]


def _with_nan(values: Any) -> Any:
    """The values with NaN as a last entry, on the host; a single value for all is kept."""
    if not is_concrete(values):
        return _append(values, jnp.nan)
    host = np.asarray(fetched(values))
    return np.append(host, np.asarray(np.nan, host.dtype)) if host.ndim else host


def _append(values: Any, fill: float | bool = 0.0) -> Any:
    """The values with `fill` as a last entry; a single value for all components is kept."""
    if not jnp.ndim(values):
        return values
    end = jnp.full((*values.shape[:-1], 1), fill, values.dtype)
    return jnp.concatenate([values, end], -1)
