"""Beta prior on the probabilities of Bernoulli rows: flags."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ..._pytree import pytree
from ...data.batch import Batch
from ...data.host import check_bound, standard, to_device
from ...numerics.broadcasting import broadcasts
from ..column_scale import standardize
from ..describe import label
from ..dirichlet import CategoricalMoments, Dirichlet
from .base import impute
from .dirichlet_categorical import Categories, CategoriesMoments

_B = TypeVar("_B", bound="BetaProbabilities")


@pytree
class BetaMoments(CategoriesMoments):
    """E[log p] and E[log(1 - p)] of every column, in this order, or both at a point."""

    each: CategoricalMoments

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """p at a point, its geometric mean under q."""
        return self.p[..., 0]

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """The probability of a success in every column."""
        return label("p", self.mean, names)


@pytree
class BernoulliMoments(BetaMoments):
    """E[log p] and E[log(1 - p)], or both at a point, of flags."""

    def indicators(self, rows: Batch) -> Float[Array, "n d 2"]:
        """(1, 0) for a 1, (0, 1) for a 0, and (0, 0) where an entry is missing."""
        return of_seen(rows, rows.x, 1.0 - rows.x)

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"]]:
        """Mean p and variance p (1 - p)."""
        return impute(rows, self.mean, self.mean * self.p[..., 1])


@pytree
class BetaProbabilities(Categories):
    """Columns that depend on a probability of success each, p ~ Beta(a, b).

    `each` has conc = (a, b). T = (log p, log(1 - p)), h = 1 / (p (1 - p)).
    """

    each: Dirichlet
    moments_of: ClassVar[type[BetaMoments]]

    @classmethod
    def from_standard(cls: type[_B], a: Any, b: Any) -> _B:
        """Beta prior with a > 0 pseudo-counts of successes and b > 0 of failures, (*b, d)."""
        check_bound("a", a, above=0.0)
        check_bound("b", b, above=0.0)
        return cls(Dirichlet(jnp.stack(standard(a=(a, 0), b=(b, 0)), -1)))

    @classmethod
    def flat(cls: type[_B], k: int, d: int, dtype: Any) -> _B:
        """A flat prior, a = b = 0, for k components and d columns."""
        return cls(Dirichlet(to_device(np.zeros((k, d, 2)), dtype)))

    @property
    def _possible(self) -> Any:
        return np.ones((self.num_columns, 2))

    @property
    def num_columns(self) -> int:
        return self.each.conc.shape[-2]

    @property
    def a(self) -> Float[Array, "*b d"]:
        """Pseudo-counts of successes."""
        return self.each.conc[..., 0]

    @property
    def b(self) -> Float[Array, "*b d"]:
        """Pseudo-counts of failures."""
        return self.each.conc[..., 1]

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """E[p]."""
        return self.each.mean[..., 0]

    @property
    def p(self) -> Float[Array, "*b d"]:
        """E[p], the probability of a success."""
        return self.mean

    @property
    def p_sd(self) -> Float[Array, "*b d"]:
        """Posterior standard deviation of p."""
        return self.each.sd[..., 0]

    def mode(self) -> Float[Array, "*b d"]:
        """(a - 1) / (a + b - 2); NaN unless a >= 1 and b >= 1."""
        return self.each.mode()[..., 0]

    @broadcasts
    def log_prob(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        """log density of p in nats, summed over the columns."""
        return self._reduce(self.each.log_prob(jnp.stack([value, 1.0 - value], -1)))

    @broadcasts
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        return self.each.sample(key, shape)[..., 0]

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """Expected probability of a success in every column."""
        return label("p", self.p, names)

    def moments(self) -> Any:
        return self.moments_of(self._known.moments())

    def point(self) -> Any:
        """p = a / (a + b)."""
        return self.moments_of(self._known.point())

    def point_at(self, value: Float[Array, "k d"]) -> Any:
        return self.moments_of(CategoricalMoments.at(jnp.stack([value, 1.0 - value], -1)))


@pytree
class BetaBernoulli(BetaProbabilities):
    """x_nd ~ Bernoulli(p_kd), p ~ Beta(a, b): 0 or 1, columns independent.

    A 1 is a success. T and h are those of `BetaProbabilities`.
    """

    takes = "0 or 1"
    moments_of = BernoulliMoments

    def valid(self, x: Any) -> Any:
        return (x == 0) | (x == 1)

    def embed(self, rows: Batch) -> Float[Array, "n d"]:
        """Rows in standard deviations from the mean of each column."""
        return standardize(rows)

    def draw(self, key: Key[Array, ""], index: Int[Array, "n"]) -> Float[Array, "n d"]:
        """Rows of flags, drawn with the expected probabilities."""
        p = self.p[index]
        return jax.random.bernoulli(key, p).astype(p.dtype)


def of_seen(rows: Batch, *counts: Float[Array, "n d"]) -> Float[Array, "n d c"]:
    """Counts of each category next to each other, 0 where an entry is missing."""
    both = jnp.stack(counts, -1)
    return both if rows.mask is None else jnp.where(rows.mask[:, :, None], both, 0.0)
