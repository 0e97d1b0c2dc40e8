"""A component of constant density beside others: rows that belong to no cluster."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import gauge, pytree, replace
from ...data.batch import Batch
from ...data.host import is_concrete
from ...kernel import Kernel
from ..emission import Emission, EmissionMoments


@pytree
class NoiseMoments(EmissionMoments):
    """Moments of the other components, and the box."""

    others: Any
    low: Float[Array, "d"]
    high: Float[Array, "d"]

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], Any]:
        """The others' log-densities and, last, that of the box."""
        log_lik, row_posterior = self.others.likelihood(rows)
        return jnp.concatenate([log_lik, _box(rows, self.low, self.high)], -1), row_posterior

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"]]:
        """The others', and for the noise those of the box."""
        mean, variance = self.others.impute(rows)
        width = self.high - self.low
        own = (self.low + 0.5 * width, width**2 / 12.0)
        centre, spread = (jnp.broadcast_to(a, mean[:, :1].shape) for a in own)
        return jnp.concatenate([mean, centre], 1), jnp.concatenate([variance, spread], 1)

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """What the others say; NaN for the noise."""
        return {name: _append(v, jnp.nan) for name, v in self.others.describe(names).items()}


@pytree
class WithNoise(Emission):
    """Components and one more, the last, uniform over the box from `low` to `high`

    (Banfield & Raftery 1993). It has no parameters; its weight is learned like any other. Rows
    that have an observed entry outside of the box are none of its. It is a density of what was
    observed, measurement noise included.
    """

    others: Any
    low: Float[Array, "d"] = gauge()
    high: Float[Array, "d"] = gauge()

    num_background: ClassVar[int] = 1

    @property
    def separable(self) -> bool:  # type: ignore[override]
        """As the others."""
        return self.others.separable

    # -- the family -----------------------------------------------------------------------------

    def log_normalizer(self) -> Float[Array, "*b"]:
        """The others'; 0 for the noise."""
        return _append(self.others.log_normalizer())

    def expectation(self) -> WithNoise:
        """The others'."""
        return replace(self, others=self.others.expectation())

    def moments(self) -> NoiseMoments:
        """The others', and the box."""
        return NoiseMoments(self.others.moments(), self.low, self.high)

    def point(self) -> NoiseMoments:
        """The others', and the box."""
        return NoiseMoments(self.others.point(), self.low, self.high)

    def mode(self) -> Any:
        """The others'."""
        return self.others.mode()

    def log_kernel(self, moments: NoiseMoments) -> Float[Array, "*b"]:
        """The others'; 0 for the noise."""
        return _append(self.others.log_kernel(moments.others))

    def kernel_gap(self, moments: NoiseMoments) -> Float[Array, "*b"]:
        """The others'; 0 for the noise."""
        return _append(self.others.kernel_gap(moments.others))

    def expected_log_prob(self, moments: NoiseMoments) -> Float[Array, "*b"]:
        """The others'; 0 for the noise."""
        return _append(self.others.expected_log_prob(moments.others))

    def kl(self, prior: WithNoise) -> Float[Array, "*b"]:
        """The others'; 0 for the noise."""
        return _append(self.others.kl(prior.others))

    def entropy(self) -> Float[Array, "*b"]:
        """The others'; 0 for the noise."""
        return _append(self.others.entropy())

    def log_prob(self, value: Any) -> Float[Array, "..."]:
        """The others'; 0 for the noise."""
        return _append(self.others.log_prob(value))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Any:
        """The others' parameters."""
        return self.others.sample(key, shape)

    def about(self, like: Any) -> WithNoise:
        """The others in the gauge of `like`."""
        return replace(like, others=self.others.about(like.others))

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """What the others say; NaN for the noise."""
        return {name: _append(v, jnp.nan) for name, v in self.others.describe(names).items()}

    # -- as components --------------------------------------------------------------------------

    def check(self, rows: Batch) -> None:
        """Raise ValueError where the others do, and for known noise outside of the box."""
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
        """The others'; nothing is learned from rows of the noise."""
        others = self.others.observe(rows, soft_counts[:, :-1], moments.others, row_posterior)
        return replace(self, others=others)

    def e_step(
        self,
        rows: Batch,
        moments: NoiseMoments,
        log_weight: Float[Array, "m"],
        background: Float[Array, "n b"] | None = None,
    ) -> tuple[WithNoise, Float[Array, "m"], Float[Array, "n"]]:
        """The others', with the box as their background."""
        box = _box(rows, moments.low, moments.high)
        box = box if background is None else jnp.concatenate([box, background], -1)
        stats, count, log_z = self.others.e_step(rows, moments.others, log_weight, box)
        return replace(self, others=stats), count, log_z

    def kernels(self, rows: Batch, moments: NoiseMoments) -> tuple[Kernel, ...]:
        """The others', each beside the box."""
        return tuple(
            replace(
                kernel,
                moments=replace(moments, others=kernel.moments),
                row_size=kernel.row_size + 2,
            )
            for kernel in self.others.kernels(rows, moments.others)
        )

    def embed(self, rows: Batch) -> Float[Array, "n f"]:
        """As the others."""
        return self.others.embed(rows)

    def seed(
        self, rows: Batch, seeds: Int[Array, "k"], count: Float[Array, "k"], spread: Any = 1.0
    ) -> WithNoise:
        """As the others."""
        return replace(self, others=self.others.seed(rows, seeds[:-1], count[:-1], spread))

    def log_predictive(self, rows: Batch) -> Float[Array, "n k"]:
        """The others', and the box."""
        parts = [self.others.log_predictive(rows), _box(rows, self.low, self.high)]
        return jnp.concatenate(parts, -1)

    def draw(self, key: Key[Array, ""], index: Int[Array, "n"]) -> Any:
        """Rows of the others, and of the box."""
        k = jax.tree.leaves(self.others)[0].shape[0]
        k_rows, k_box = jax.random.split(key)
        rows = self.others.draw(k_rows, jnp.minimum(index, k - 1))
        place = jax.random.uniform(k_box, rows.shape, rows.dtype)
        return jnp.where((index < k)[:, None], rows, self.low + (self.high - self.low) * place)

    def num_parameters(self) -> tuple[int, int]:
        """As the others: the noise has none, which is not counted."""
        return self.others.num_parameters()

    def row_size(self, rows: Batch) -> int:
        """As the others, and two."""
        return self.others.row_size(rows) + 2

    def expected_log_lik(self, stats: WithNoise) -> Float[Array, ""]:
        """The others'; the noise has nothing that changes."""
        return self.others.expected_log_lik(stats.others)

    def log_prior(self, moments: NoiseMoments, active: Bool[Array, "k"]) -> Float[Array, ""]:
        """The others'."""
        return self.others.log_prior(moments.others, active[:-1])

    def fix(self, which: Bool[Array, "k"], values: Any) -> WithNoise:
        """The others'; the noise has nothing to fix."""
        return replace(self, others=self.others.fix(which[:-1], values.others))

    def unseen(self, prior: Any) -> Any:
        """One of the others."""
        return self.others.unseen(prior.others)

    def take(self, order: Int[Array, "m"]) -> WithNoise:
        """The noise must stay the last."""
        return replace(self, others=self.others.take(order[:-1]))

    def exchangeable(self) -> Bool[Array, ""]:
        """Whether the others have the same parameters."""
        return self.others.exchangeable()

    def collapsed(self, count: Float[Array, "k"]) -> Bool[Array, "k"]:
        """The others'."""
        return _append(self.others.collapsed(count[:-1]), False)

    def merge_gain(self, prior: Any) -> Float[Array, "k k"]:
        """The others'; nothing merges with the noise."""
        gain = self.others.merge_gain(prior.others)
        return jnp.pad(gain, ((0, 1), (0, 1)), constant_values=-jnp.inf)


def _box(rows: Batch, low: Float[Array, "d"], high: Float[Array, "d"]) -> Float[Array, "n 1"]:
    """log density in nats of the observed entries."""
    inside = (rows.x >= low) & (rows.x <= high)
    each = jnp.broadcast_to(jnp.log(high - low), rows.x.shape)
    if rows.mask is not None:
        inside, each = inside | ~rows.mask, jnp.where(rows.mask, each, 0.0)
    density = jnp.where(jnp.all(inside, -1), -jnp.sum(each, -1), -jnp.inf)
    return density[:, None]


def _append(values: Any, last: Any = 0.0) -> Any:
    """One more entry at the end; a single value for all components stays one."""
    if not jnp.ndim(values):
        return values
    end = jnp.full((*values.shape[:-1], 1), last, values.dtype)
    return jnp.concatenate([values, end], -1)
