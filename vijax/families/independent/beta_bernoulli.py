"""Beta on the probabilities of Bernoulli rows: flags."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ..._pytree import pytree
from ...data.batch import Batch
from ...data.host import check_bound, standard, to_device
from ..column_scale import standardize
from ..describe import label
from ..dirichlet import CategoricalMoments, Dirichlet
from .base import impute
from .dirichlet_categorical import Categories, CategoriesMoments


@pytree
class BernoulliMoments(CategoriesMoments):
    """E[log p] and E[log(1 - p)] of every column, in this order, or both at a point."""

    each: CategoricalMoments

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """p where this is a point; its geometric mean under a q."""
        return self.p[..., 0]

    def indicators(self, rows: Batch) -> Float[Array, "n d 2"]:
        """(1, 0) for a 1, (0, 1) for a 0, and (0, 0) where an entry is missing."""
        return _indicators(rows)

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """The probability of a 1 in every column."""
        return label("p", self.mean, names)

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"]]:
        """Mean p and variance p (1 - p)."""
        return impute(rows, self.mean, self.mean * self.p[..., 1])


@pytree
class BetaBernoulli(Categories):
    """x_nd ~ Bernoulli(p_kd), p ~ Beta(a, b): 0 or 1, columns independent.

    `each` has conc = (a, b). T = (log p, log(1 - p)), h = 1 / (p (1 - p)).
    """

    each: Dirichlet
    takes = "0 or 1"

    @classmethod
    def from_standard(cls, a: Any, b: Any) -> BetaBernoulli:
        """From a > 0 pseudo-counts of 1 and b > 0 of 0, (*b, d)."""
        check_bound("a", a, above=0.0)
        check_bound("b", b, above=0.0)
        return cls(Dirichlet(jnp.stack(standard(a=(a, 0), b=(b, 0)), -1)))

    @classmethod
    def flat(cls, k: int, d: int, dtype: Any) -> BetaBernoulli:
        """No prior at all."""
        return cls(Dirichlet(to_device(np.zeros((k, d, 2)), dtype)))

    @property
    def _possible(self) -> Any:
        return np.ones((self.num_columns, 2))

    @property
    def num_columns(self) -> int:
        """d."""
        return self.each.conc.shape[-2]

    @property
    def a(self) -> Float[Array, "*b d"]:
        """Pseudo-counts of 1."""
        return self.each.conc[..., 0]

    @property
    def b(self) -> Float[Array, "*b d"]:
        """Pseudo-counts of 0."""
        return self.each.conc[..., 1]

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """E[p]."""
        return self.each.mean[..., 0]

    @property
    def p(self) -> Float[Array, "*b d"]:
        """E[p], the probability of a 1."""
        return self.mean

    @property
    def p_sd(self) -> Float[Array, "*b d"]:
        """Posterior standard deviation of p."""
        return self.each.sd[..., 0]

    def mode(self) -> Float[Array, "*b d"]:
        """(a - 1) / (a + b - 2); NaN unless a >= 1 and b >= 1."""
        return self.each.mode()[..., 0]

    def log_prob(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        """log density of p in nats, summed over the columns."""
        return self._total(self.each.log_prob(jnp.stack([value, 1.0 - value], -1)))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Draws of p."""
        return self.each.sample(key, shape)[..., 0]

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """Expected probability of a 1 in every column."""
        return label("p", self.p, names)

    def valid(self, x: Any) -> Any:
        """0 and 1."""
        return (x == 0) | (x == 1)

    def indicators(self, rows: Batch) -> Float[Array, "n d 2"]:
        """(1, 0) for a 1, (0, 1) for a 0, and (0, 0) where an entry is missing."""
        return _indicators(rows)

    def moments(self) -> BernoulliMoments:
        """Under q."""
        return BernoulliMoments(self._known.moments())

    def point(self) -> BernoulliMoments:
        """p = a / (a + b)."""
        return BernoulliMoments(self._known.point())

    def embed(self, rows: Batch) -> Float[Array, "n d"]:
        """Standard deviations of the columns."""
        return standardize(rows)

    def draw(self, key: Key[Array, ""], index: Int[Array, "n"]) -> Float[Array, "n d"]:
        """Rows of expected probabilities."""
        p = self.p[index]
        return jax.random.bernoulli(key, p).astype(p.dtype)


def _indicators(rows: Batch) -> Float[Array, "n d 2"]:
    both = jnp.stack([rows.x, 1.0 - rows.x], -1)
    return both if rows.mask is None else jnp.where(rows.mask[:, :, None], both, 0.0)
