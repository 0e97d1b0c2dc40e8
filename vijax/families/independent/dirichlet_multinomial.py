"""Dirichlet prior on the probabilities of multinomial rows: counts of categories."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ..._pytree import pytree, replace
from ...data.batch import Batch
from ...data.host import fetched, is_concrete, to_device
from ...numerics import linalg, sampling, special
from ..describe import label
from ..dirichlet import CategoricalMoments, Dirichlet
from ..emission import EmissionMoments
from .base import Independent, share_seen, whole
from .gamma_poisson import expected_log_poisson, log_negative_binomial, log_poisson_peak


@pytree
class MultinomialMoments(EmissionMoments):
    """E[log p] and E[p], and `gap` = log E[p] - E[log p] (0 at a point), of every category."""

    each: CategoricalMoments
    mean: Float[Array, "*b c"]
    gap: Float[Array, "*b c"]

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """The probability of every category."""
        return label("p", self.mean, names)

    def log_lik(self, x: Float[Array, "n c"]) -> Float[Array, "n k"]:
        """E[log Multinomial(x_n | p_k)] in nats, with its coefficient; -inf if impossible.

        log total! + sum_c (x_c E[log p_c] - log x_c!), computed as independent Poissons given
        their sum.
        """
        total = jnp.sum(x, -1, keepdims=True)
        return expected_log_poisson(x, total, self.mean, self.gap) - log_poisson_peak(total)

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], None]:
        return self.log_lik(rows.x), None

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k c"], Float[Array, "n k c"]]:
        """Mean and variance of each count given the total of the row."""
        mean = jnp.sum(rows.x, -1)[:, None, None] * self.mean[None]
        return mean, mean * (1.0 - self.mean)[None]


@pytree
class DirichletMultinomial(Independent):
    """x_n ~ Multinomial(total_n, p_k) with p_k ~ Dirichlet(conc): counts of c categories.

    The totals are given, not modelled. T and h are those of Dirichlet.
    """

    each: Dirichlet
    column_axes: ClassVar[int] = 0
    parameter: ClassVar[str] = "p"
    takes = "counts 0, 1, 2, ..."

    @classmethod
    def from_standard(cls, conc: Any) -> DirichletMultinomial:
        """Prior pseudo-counts (*b, c) > 0."""
        return cls(Dirichlet.from_standard(conc))

    @classmethod
    def flat(cls, k: int, c: int, dtype: Any) -> DirichletMultinomial:
        """A flat prior, conc = 0, for k components."""
        return cls(Dirichlet(to_device(np.zeros((k, c)), dtype)))

    @property
    def num_columns(self) -> int:
        """Number of categories c."""
        return self.each.size

    @property
    def _known(self) -> Dirichlet:
        # a component with neither rows nor a prior has weight 0, but must stay finite
        return Dirichlet(jnp.where(self.each.total[..., None] > 0, self.each.conc, 1.0))

    @property
    def p(self) -> Float[Array, "*b c"]:
        """Expected probability of each category."""
        return self.each.mean

    @property
    def p_sd(self) -> Float[Array, "*b c"]:
        """Posterior standard deviation of each probability."""
        return self.each.sd

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """Expected probability of every category."""
        return label("p", self.p, names)

    def check(self, rows: Batch) -> None:
        """Raise ValueError unless rows are complete (n, c) counts without noise."""
        super().check(rows)
        if rows.mask is None:
            return
        hint = "a missing count changes the total; leave the row out, or drop the category"
        if not is_concrete(rows.mask, rows.weight):
            raise ValueError(f"mask: {hint}")
        lost = ~fetched(rows.mask) & (fetched(rows.weight) > 0)[:, None]
        if bool(lost.any()):
            row = int(lost.any(1).argmax())
            raise ValueError(f"x: column {int(lost[row].argmax())} is missing in row {row}; {hint}")

    def valid(self, x: Any) -> Any:
        return whole(x)

    def observe(
        self,
        rows: Batch,
        soft_counts: Float[Array, "n k"],
        moments: Any = None,
        row_posterior: Any = None,
    ) -> DirichletMultinomial:
        """conc = sum over rows of soft counts times x_n."""
        return DirichletMultinomial(Dirichlet(linalg.matmul(soft_counts.T, rows.x)))

    def moments(self) -> MultinomialMoments:
        q = self._known
        each = special.digamma_gap(jnp.where(q.on, q.conc, 1.0))
        gap = each - special.digamma_gap(q.total)[..., None]
        return MultinomialMoments(q.moments(), q.mean, gap)

    def point(self) -> MultinomialMoments:
        q = self._known
        return MultinomialMoments(q.point(), q.mean, jnp.zeros_like(q.mean))

    def point_at(self, value: Float[Array, "k c"]) -> MultinomialMoments:
        return MultinomialMoments(CategoricalMoments.at(value), value, jnp.zeros_like(value))

    def embed(self, rows: Batch) -> Float[Array, "n c"]:
        """Centred square roots of the proportions, scaled so that their variances sum to c."""
        total = jnp.sum(rows.x, -1, keepdims=True)
        some = total > 0
        root = jnp.sqrt(jnp.maximum(rows.x, 0.0) / jnp.where(some, total, 1.0))
        counted = replace(rows, weight=jnp.where(some[:, 0], rows.weight, 0.0), mask=None)
        share = share_seen(counted)
        z = jnp.where(some, root - jnp.sum(share * root, 0, keepdims=True), 0.0)
        variance = jnp.sum(share * z**2) / z.shape[1]
        return z / jnp.sqrt(jnp.where(variance > 0, variance, 1.0))

    def log_predictive(self, rows: Batch) -> Float[Array, "n k"]:
        """log density of the Dirichlet-multinomial in nats.

        log[total! Gamma(A) / Gamma(A + total)] + sum_c log[Gamma(a_c + x_c) / (Gamma(a_c) x_c!)]
        for A = sum_c a_c. Computed as negative binomials of one rate given their sum; the rate
        A / total puts the sum at its peak.
        """
        conc, sum_conc = self.each.conc, self.each.total
        total = jnp.sum(rows.x, -1, keepdims=True)
        rate = sum_conc[None] / jnp.where(total > 0, total, 1.0)
        each = log_negative_binomial(rows.x[:, None], conc[None], rate[..., None])
        joint = jnp.sum(each, -1) - log_negative_binomial(total, sum_conc[None], rate)
        return jnp.where(total > 0, joint, 0.0)

    def draw(
        self, key: Key[Array, ""], index: Int[Array, "n"], total: Any = 1
    ) -> Float[Array, "n c"]:
        """Rows from the Dirichlet-multinomials with these totals, which are one number or (n,)."""
        k_p, k_count = jax.random.split(key)
        p = Dirichlet(self.each.conc[index]).sample(k_p)
        number = jnp.broadcast_to(jnp.asarray(total).astype(p.dtype), index.shape)
        return sampling.multinomial(k_count, number, p)

    def num_parameters(self) -> tuple[int, int]:
        return self.each.size - 1, 0

    def row_size(self, rows: Batch) -> int:
        k, c = self.each.conc.shape
        return 4 * c + 3 * k
