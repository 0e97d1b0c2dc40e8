"""Student-t rows: Gaussian components in which every row has a precision of its own."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import gauge, pytree, replace, static
from ...data.batch import Batch
from ...data.host import to_device
from ...exponential_family import Lifted
from ...kernel import Kernel
from ...numerics import quadrature, roots, special
from ..column_scale import refuse_noise
from ..emission import Emission, EmissionMoments, Spread
from ..gaussian.base import Gaussian

DOF_RANGE = (0.1, 200.0)  # of learned degrees of freedom; larger ones are as good as normal


@pytree
class RowPrecision:
    """q(u_n | z_n = k) as E[u] and E[log u] - E[u], and the row posterior of the Gaussian."""

    mean: Float[Array, "n k"]
    log_less_mean: Float[Array, "n k"]
    posterior: Any


@pytree
class StudentMoments(EmissionMoments):
    """Moments of the Gaussian components, and the degrees of freedom."""

    gaussian: Any
    dof: Float[Array, "k"]

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], RowPrecision]:
        """log int exp(E[log p(x_n, u | theta_k)]) du in nats, a Student-t density, and q(u_n).

        (Svensen & Bishop 2005; Archambeau & Verleysen 2007.) q(u) is Gamma with shape
        (dof + observed) / 2 and rate (dof + square) / 2.
        """
        parts = self.gaussian.quadratic(rows)
        dof = self.dof[None]
        log_lik = special.log_student(parts.square, -parts.log_det, dof, parts.observed)
        shape = 0.5 * (dof + parts.observed)
        mean = (dof + parts.observed) / (dof + parts.square)
        e_log = jnp.log(mean) - special.digamma_gap(shape)
        return log_lik, RowPrecision(mean, e_log - mean, parts.row_posterior)

    def log_density(self, rows: Batch, factor: Any = None) -> Float[Array, "n k"]:
        """As `likelihood`, at any distance; it falls with its logarithm, so no factor is needed."""
        own = special.log_in_range(self.gaussian.log_distance(rows), rows.x.shape[1])
        parts, dof = self.gaussian.quadratic(rows, jnp.exp(own)), self.dof[None]
        return special.log_student(parts.square, -parts.log_det, dof, parts.observed, own)

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"]]:
        """As of the Gaussian, with variances times E[1 / u] given the observed entries."""
        mean, variance = self.gaussian.impute(rows)
        parts = self.gaussian.quadratic(rows)
        free = self.dof[None] + parts.observed
        factor = (self.dof[None] + parts.square) / jnp.where(free > 2.0, free - 2.0, jnp.nan)
        return mean, variance * factor[:, :, None]

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        return {**self.gaussian.describe(names), "dof": self.dof}


@pytree
class StudentT(Lifted, Emission):
    """x_n | u_n ~ N(mu_k, (u_n Lambda_k)^-1) with u_n ~ Gamma(dof_k / 2, dof_k / 2).

    Rows are Student-t, and `gaussian` is any family of mu and Lambda (Peel & McLachlan 2000).
    `start` are the degrees of freedom; with `learn` the elbo is maximised over them (type II),
    without a prior and so without a KL. Their statistics are `count`, the sum of soft counts, and
    `tail`, the sum of E[log u] - E[u].
    """

    gaussian: Any
    count: Float[Array, "*b k"]
    tail: Float[Array, "*b k"]
    start: Float[Array, "*b k"] = gauge()
    learn: bool = static(default=True)
    part: ClassVar[str] = "gaussian"

    @property
    def separable(self) -> bool:  # type: ignore[override]
        """Whether the Gaussian components are separable."""
        return self.gaussian.separable

    def words(self) -> list[str]:
        return [*self.gaussian.words(), "dof learned" if self.learn else "dof fixed"]

    @property
    def dof(self) -> Float[Array, "*b k"]:
        """Degrees of freedom: `start`, or with `learn` the maximiser of the elbo."""
        if not self.learn:
            return self.start
        used = self.count > 0
        gap = -(1.0 + self.tail / jnp.where(used, self.count, 1.0))
        least, most = (0.5 * bound for bound in DOF_RANGE)
        half = roots.inverse_digamma_gap(gap, least, most)
        return jnp.where(used, 2.0 * half, self.start)

    @property
    def mean(self) -> Any:
        """E[mu_k], in data units."""
        return self.gaussian.mean

    @property
    def mean_sd(self) -> Any:
        """Standard deviation of each entry of mu_k."""
        return self.gaussian.mean_sd

    @property
    def covariance(self) -> Any:
        """E[Lambda_k^-1], the scale matrix of the Student-t, which is not its covariance."""
        return self.gaussian.covariance

    # -- the family -----------------------------------------------------------------------------

    def _dof_terms(self, dof: Float[Array, "k"]) -> Float[Array, "k"]:
        """sum_n soft_count_n E[log Gamma(u_n | dof / 2, dof / 2)] up to terms constant in dof."""
        half = 0.5 * dof
        log_gamma = special.stirling_error(half) - 0.5 * jnp.log(half) - half
        return self.count * -(log_gamma + 0.5 * special.LOG_2PI) + self.tail * half

    def expectation(self) -> StudentT:
        """As of the Gaussian, and 0 for the statistics of the degrees of freedom."""
        zero = jnp.zeros_like(self.count)
        return replace(self, gaussian=self.gaussian.expectation(), count=zero, tail=zero)

    def moments(self) -> StudentMoments:
        return StudentMoments(self.gaussian.moments(), self.dof)

    def point(self) -> StudentMoments:
        return StudentMoments(self.gaussian.point(), self.dof)

    def point_at(self, value: Any) -> StudentMoments:
        """At the degrees of freedom of self."""
        return StudentMoments(self.gaussian.point_at(value), self.dof)

    def kernel_gap(self, moments: StudentMoments) -> Float[Array, "..."]:
        """As of the Gaussian, plus the gain from the best degrees of freedom, in nats."""
        gap = self._dof_terms(self.dof) - self._dof_terms(moments.dof)
        return self.gaussian.kernel_gap(moments.gaussian) + _like(self.gaussian, gap)

    def kl(self, prior: StudentT) -> Float[Array, "..."]:
        """As of the Gaussian, plus the loss of the prior's statistics from these dof, in nats."""
        gap = prior._dof_terms(prior.dof) - prior._dof_terms(self.dof)
        return self.gaussian.kl(prior.gaussian) + _like(self.gaussian, gap)

    def about(self, like: Any) -> StudentT:
        return replace(self, gaussian=self.gaussian.about(like.gaussian), start=like.start)

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        return {**self.gaussian.describe(names), "dof": self.dof}

    # -- as components --------------------------------------------------------------------------

    def check(self, rows: Batch) -> None:
        """As of the Gaussian; also refuse measurement noise, which has no closed form here."""
        self.gaussian.check(rows)
        refuse_noise(rows, "the Student-t mixture")

    def observe(
        self,
        rows: Batch,
        soft_counts: Float[Array, "n k"],
        moments: StudentMoments,
        row_posterior: RowPrecision,
    ) -> StudentT:
        """Gaussian statistics of rows with precisions times E[u], and those of dof."""
        gaussian = self.gaussian.observe(
            rows, soft_counts, moments.gaussian, row_posterior.posterior, row_posterior.mean
        )
        tail = jnp.sum(soft_counts * row_posterior.log_less_mean, 0)
        return replace(
            self, gaussian=gaussian, count=jnp.sum(soft_counts, 0), tail=tail, start=moments.dof
        )

    def kernels(self, rows: Batch, moments: StudentMoments) -> tuple[Kernel, ...]:
        """The kernels of the Gaussian: E[u] is a function of their squared distances.

        They cannot be fused, because E[u] comes between log-densities and sums.
        """
        extra = 3 * self.count.shape[-1]
        return tuple(
            replace(
                kernel,
                moments=replace(moments, gaussian=kernel.moments),
                row_size=kernel.row_size + extra,
            )
            for kernel in self.gaussian.kernels(rows, moments.gaussian)
        )

    def embed(self, rows: Batch) -> Float[Array, "n f"]:
        return self.gaussian.embed(rows)

    def seed(
        self, rows: Batch, seeds: Int[Array, "k"], count: Float[Array, "k"], spread: Spread = 1.0
    ) -> StudentT:
        """As of the Gaussian, with the degrees of freedom of the prior."""
        gaussian = self.gaussian.seed(rows, seeds, count, spread)
        zero = jnp.zeros_like(count)
        return replace(self, gaussian=gaussian, count=zero, tail=zero)

    def log_predictive(self, rows: Batch) -> Float[Array, "n k"]:
        """log int p(u) E_q[p(x_n | u, theta_k)] du in nats, by quadrature over log u."""
        gaussian, half = self.gaussian.point(), 0.5 * self.dof[None]
        log_factor = special.log_in_range(gaussian.log_distance(rows), rows.x.shape[1])
        parts = gaussian.quadratic(rows, jnp.exp(log_factor))
        shape = half + 0.5 * parts.observed
        # log u peaks at `peak` for a known theta, at log(shape / half) for a row at the mean, and
        # at 0 a priori; with theta integrated out it peaks in between
        distance = special.log1p_square(parts.square, 2.0 * half, log_factor)
        peak = jnp.log(shape / half) - distance

        def log_density(log_u: Float[Array, "n k"]) -> Float[Array, "n k"]:
            return self.gaussian.log_predictive(rows, log_u)

        return quadrature.log_mean_over_precision(log_density, half, shape, peak)

    def draw(self, key: Key[Array, ""], index: Int[Array, "n"]) -> Any:
        k_scale, k_row = jax.random.split(key)
        half = 0.5 * self.dof[index]
        scale = jax.random.gamma(k_scale, half, dtype=half.dtype) / half
        return self.gaussian.draw(k_row, index, scale)

    def num_parameters(self) -> tuple[int, int]:
        """As of the Gaussian, plus one for each component if dof is learned."""
        each, shared = self.gaussian.num_parameters()
        return each + int(self.learn), shared

    def row_size(self, rows: Batch) -> int:
        return self.gaussian.row_size(rows) + 3 * self.count.shape[-1]

    def expected_log_lik(self, stats: StudentT) -> Float[Array, ""]:
        """As of the Gaussian, plus that of the precisions u_n, in nats."""
        precisions = jnp.sum(stats._dof_terms(self.dof))
        return self.gaussian.expected_log_lik(stats.gaussian) + precisions

    def log_prior(self, moments: StudentMoments, active: Bool[Array, "k"]) -> Float[Array, ""]:
        """As of the Gaussian, because the degrees of freedom have a flat prior."""
        return self.gaussian.log_prior(moments.gaussian, active)

    def unseen(self, prior: StudentT) -> StudentT:
        """As of the Gaussian, with the degrees of freedom of the prior."""
        start, zero = prior.start[:1], jnp.zeros_like(prior.start[:1])
        return StudentT(self.gaussian.unseen(prior.gaussian), zero, zero, start, self.learn)

    def take(self, order: Int[Array, "m"]) -> StudentT:
        fields = {name: getattr(self, name)[order] for name in ("count", "tail", "start")}
        return replace(self, gaussian=self.gaussian.take(order), **fields)

    def extend(self, prior: Any) -> StudentT:
        """As of the Gaussian, with fixed degrees of freedom as the prior has them."""
        new = self.count.shape[0]
        count, tail = (
            jnp.concatenate([own, jnp.zeros_like(prior.count[new:])])
            for own in (self.count, self.tail)
        )
        gaussian = self.gaussian.extend(prior.gaussian)
        return replace(prior, gaussian=gaussian, count=count, tail=tail)

    def exchangeable(self) -> Bool[Array, ""]:
        return self.gaussian.exchangeable() & jnp.all(self.start == self.start[:1])

    def collapsed(self, count: Float[Array, "k"]) -> Bool[Array, "k"]:
        return self.gaussian.collapsed(count)

    def merge_gain(self, prior: StudentT) -> Float[Array, "k k"]:
        """As of the Gaussian, with the precisions u_n kept."""
        return self.gaussian.merge_gain(prior.gaussian)


def student_t(gaussian: Gaussian, dof: Float[Array, "k"], learn: bool) -> StudentT:
    """Student-t components with a prior of Gaussian components and these degrees of freedom."""
    zero = to_device(np.zeros(dof.shape, dof.dtype))
    return StudentT(gaussian, zero, zero, dof, learn)


def _like(gaussian: Gaussian, gap: Float[Array, "k"]) -> Float[Array, "..."]:
    """One number per component, or their sum if the Gaussian components share parameters."""
    return gap if gaussian.separable else jnp.sum(gap)
