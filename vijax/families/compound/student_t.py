"""Student-t rows: Gaussian components whose every row has a precision of its own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import gauge, pytree, replace, static
from ...data.batch import Batch
from ...kernel import Kernel
from ...numerics import quadrature, roots, special
from ..column_scale import refuse_noise
from ..emission import Emission, EmissionMoments

DOF_RANGE = (0.1, 200.0)  # of learned degrees of freedom; beyond, rows cannot tell from the normal


@pytree
class RowPrecision:
    """q(u_n | z_n = k): E[u], E[log u] - E[u], and what the Gaussian must know of the row."""

    mean: Float[Array, "n k"]
    log_less_mean: Float[Array, "n k"]
    posterior: Any


@pytree
class StudentMoments(EmissionMoments):
    """Moments of the Gaussian, and the degrees of freedom."""

    gaussian: Any
    dof: Float[Array, "k"]

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], RowPrecision]:
        """log of the row's density with u integrated out, theta in expectation.

        (Svensen & Bishop 2005; Archambeau & Verleysen 2007.)
        """
        parts = self.gaussian.quadratic(rows)
        log_lik = special.log_student(parts.square, -parts.log_det, self.dof, parts.observed)
        shape = 0.5 * (self.dof + parts.observed)
        mean = (self.dof + parts.observed) / (self.dof + parts.square)
        e_log = jnp.log(mean) - special.digamma_gap(shape)
        return log_lik, RowPrecision(mean, e_log - mean, parts.row_posterior)

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"]]:
        """The Gaussian's, variances scaled by E[1 / u] given the observed entries."""
        mean, variance = self.gaussian.impute(rows)
        parts = self.gaussian.quadratic(rows)
        free = self.dof + parts.observed
        factor = (self.dof + parts.square) / jnp.where(free > 2.0, free - 2.0, jnp.nan)
        return mean, variance * factor[:, :, None]

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """The Gaussian's, and the degrees of freedom."""
        return {**self.gaussian.describe(names), "dof": self.dof}


@pytree
class StudentT(Emission):
    """x_n | u_n ~ N(mu_k, (u_n Lambda_k)^-1), u_n ~ Gamma(dof_k / 2, dof_k / 2): Student-t rows

    over any prior of a Gaussian (Peel & McLachlan 2000). `start` are the degrees of freedom;
    with `learn` they are maximised over (type II), which has no prior and no price in the bound.
    Their statistics are `count` and `tail`, the sum of E[log u] - E[u].
    """

    gaussian: Any
    count: Float[Array, "*b k"]
    tail: Float[Array, "*b k"]
    start: Float[Array, "*b k"] = gauge()
    learn: bool = static(default=True)

    @property
    def separable(self) -> bool:  # type: ignore[override]
        """As the Gaussian."""
        return self.gaussian.separable

    @property
    def dof(self) -> Float[Array, "*b k"]:
        """Degrees of freedom: given, or where the bound is highest."""
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
        """E[Lambda_k^-1]: the scale matrix of the Student-t, not its covariance."""
        return self.gaussian.covariance

    # -- the family -----------------------------------------------------------------------------

    def _dof_terms(self, dof: Float[Array, "k"]) -> Float[Array, "k"]:
        half = 0.5 * dof
        log_gamma = special.stirling_error(half) - 0.5 * jnp.log(half) - half
        return self.count * -(log_gamma + 0.5 * special.LOG_2PI) + self.tail * half

    def log_normalizer(self) -> Float[Array, "..."]:
        """The Gaussian's, in nats."""
        return self.gaussian.log_normalizer()

    def expectation(self) -> StudentT:
        """The Gaussian's; 0 for what stands for the degrees of freedom."""
        zero = jnp.zeros_like(self.count)
        return replace(self, gaussian=self.gaussian.expectation(), count=zero, tail=zero)

    def moments(self) -> StudentMoments:
        """The Gaussian's, and the degrees of freedom."""
        return StudentMoments(self.gaussian.moments(), self.dof)

    def point(self) -> StudentMoments:
        """The Gaussian's, and the degrees of freedom."""
        return StudentMoments(self.gaussian.point(), self.dof)

    def mode(self) -> Any:
        """The Gaussian's."""
        return self.gaussian.mode()

    def log_kernel(self, moments: StudentMoments) -> Float[Array, "..."]:
        """The Gaussian's, in nats."""
        return self.gaussian.log_kernel(moments.gaussian)

    def kernel_gap(self, moments: StudentMoments) -> Float[Array, "..."]:
        """The Gaussian's, and what better degrees of freedom gain, in nats."""
        gap = self._dof_terms(self.dof) - self._dof_terms(moments.dof)
        return self.gaussian.kernel_gap(moments.gaussian) + _like(self.gaussian, gap)

    def expected_log_prob(self, moments: StudentMoments) -> Float[Array, "..."]:
        """The Gaussian's, in nats."""
        return self.gaussian.expected_log_prob(moments.gaussian)

    def kl(self, prior: StudentT) -> Float[Array, "..."]:
        """The Gaussian's, and what the prior's statistics lose by these degrees of freedom."""
        gap = prior._dof_terms(prior.dof) - prior._dof_terms(self.dof)
        return self.gaussian.kl(prior.gaussian) + _like(self.gaussian, gap)

    def entropy(self) -> Float[Array, "..."]:
        """The Gaussian's, in nats."""
        return self.gaussian.entropy()

    def log_prob(self, value: Any) -> Float[Array, "..."]:
        """The Gaussian's, in nats."""
        return self.gaussian.log_prob(value)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Any:
        """Draws of the Gaussian's parameters."""
        return self.gaussian.sample(key, shape)

    def about(self, like: Any) -> StudentT:
        """The Gaussian in the gauge of `like`."""
        return replace(self, gaussian=self.gaussian.about(like.gaussian), start=like.start)

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """The Gaussian's, and the degrees of freedom."""
        return {**self.gaussian.describe(names), "dof": self.dof}

    # -- as components --------------------------------------------------------------------------

    def check(self, rows: Batch) -> None:
        """As the Gaussian; measurement noise has no closed form here."""
        self.gaussian.check(rows)
        refuse_noise(rows, "the Student-t mixture")

    def observe(
        self,
        rows: Batch,
        soft_counts: Float[Array, "n k"],
        moments: StudentMoments,
        row_posterior: RowPrecision,
    ) -> StudentT:
        """The Gaussian's statistics of rows scaled by E[u], and those of dof."""
        gaussian = self.gaussian.observe(
            rows, soft_counts, moments.gaussian, row_posterior.posterior, row_posterior.mean
        )
        tail = jnp.sum(soft_counts * row_posterior.log_less_mean, 0)
        return replace(
            self, gaussian=gaussian, count=jnp.sum(soft_counts, 0), tail=tail, start=moments.dof
        )

    def kernels(self, rows: Batch, moments: StudentMoments) -> tuple[Kernel, ...]:
        """The Gaussian's, for the row's precision is a function of its squared distance.

        Nothing is fused: that precision comes between log-densities and sums.
        """
        more = 3 * self.count.shape[-1]
        return tuple(
            replace(
                kernel,
                moments=replace(moments, gaussian=kernel.moments),
                row_size=kernel.row_size + more,
            )
            for kernel in self.gaussian.kernels(rows, moments.gaussian)
        )

    def embed(self, rows: Batch) -> Float[Array, "n f"]:
        """As the Gaussian."""
        return self.gaussian.embed(rows)

    def seed(
        self, rows: Batch, seeds: Int[Array, "k"], count: Float[Array, "k"], spread: Any = 1.0
    ) -> StudentT:
        """As the Gaussian, with the degrees of freedom of the prior."""
        gaussian = self.gaussian.seed(rows, seeds, count, spread)
        zero = jnp.zeros_like(count)
        return replace(self, gaussian=gaussian, count=zero, tail=zero)

    def log_predictive(self, rows: Batch) -> Float[Array, "n k"]:
        """log density with theta integrated out, and u by quadrature: a proper density."""
        parts, half = self.gaussian.point().quadratic(rows), 0.5 * self.dof
        more = half + 0.5 * parts.observed
        # log u peaks between the place of a row at the centre and its own, or that of the prior
        peak = jnp.log(more) - jnp.log(half + 0.5 * parts.square)
        low = jnp.minimum(peak, 0.0) - _reach(more)
        high = jnp.log(more / half) + jnp.log1p(_reach(more))
        high = jnp.broadcast_to(jnp.maximum(high, jnp.log1p(_reach(half))), low.shape)
        log_gamma = special.stirling_error(half) - 0.5 * jnp.log(half) + 0.5 * special.LOG_2PI

        def log_density(log_u: Float[Array, "n k"]) -> Float[Array, "n k"]:
            prior = -half * (jnp.expm1(log_u) - log_u) - log_gamma
            return prior + self.gaussian.log_predictive(rows, jnp.exp(log_u))

        return quadrature.log_integral(log_density, low, high)

    def draw(self, key: Key[Array, ""], index: Int[Array, "n"]) -> Any:
        """Rows from the predictive density."""
        k_scale, k_row = jax.random.split(key)
        half = 0.5 * self.dof[index]
        scale = jax.random.gamma(k_scale, half, dtype=half.dtype) / half
        return self.gaussian.draw(k_row, index, scale)

    def num_parameters(self) -> tuple[int, int]:
        """The Gaussian's, and dof if it is learned."""
        each, shared = self.gaussian.num_parameters()
        return each + int(self.learn), shared

    def row_size(self, rows: Batch) -> int:
        """As the Gaussian, and three for the row's precision."""
        return self.gaussian.row_size(rows) + 3 * self.count.shape[-1]

    def expected_log_lik(self, stats: StudentT) -> Float[Array, ""]:
        """The Gaussian's, and that of the rows' precisions."""
        own = jnp.sum(stats._dof_terms(self.dof))
        return self.gaussian.expected_log_lik(stats.gaussian) + own

    def log_prior(self, moments: StudentMoments, active: Bool[Array, "k"]) -> Float[Array, ""]:
        """The Gaussian's: the degrees of freedom have a flat prior."""
        return self.gaussian.log_prior(moments.gaussian, active)

    def unseen(self, prior: Any) -> StudentT:
        """The Gaussian's, with the degrees of freedom of the prior."""
        start, zero = prior.start[:1], jnp.zeros_like(prior.start[:1])
        return StudentT(self.gaussian.unseen(prior.gaussian), zero, zero, start, self.learn)

    def take(self, order: Int[Array, "m"]) -> StudentT:
        """The components of these indices."""
        rest = {name: getattr(self, name)[order] for name in ("count", "tail", "start")}
        return replace(self, gaussian=self.gaussian.take(order), **rest)

    def exchangeable(self) -> Bool[Array, ""]:
        """Whether all components have the same parameters."""
        return self.gaussian.exchangeable() & jnp.all(self.start == self.start[:1])

    def collapsed(self, count: Float[Array, "k"]) -> Bool[Array, "k"]:
        """As the Gaussian."""
        return self.gaussian.collapsed(count)

    def merge_gain(self, prior: Any) -> Float[Array, "k k"]:
        """As the Gaussian, rows' precisions kept."""
        return self.gaussian.merge_gain(prior.gaussian)


def student_t(gaussian: Any, dof: Float[Array, "k"], learn: bool) -> StudentT:
    """Student-t rows over a prior of Gaussian components."""
    zero = jnp.zeros_like(dof)
    return StudentT(gaussian, zero, zero, dof, learn)


def _like(gaussian: Any, gap: Float[Array, "k"]) -> Float[Array, "..."]:
    """One number per component, or their sum where the Gaussian's parameters are shared."""
    return gap if gaussian.separable else jnp.sum(gap)


def _reach(shape: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """At most so far below its peak a Gamma(shape, .) density of log u has lost DEEP nats."""
    return jnp.sqrt(2.0 * quadrature.DEEP / shape) + quadrature.DEEP / shape
