"""Labels whose weights differ from row to row: what makes components a mixed-membership model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import gauge, pytree, replace, static
from ...data.batch import Batch
from ...data.host import check_bound, check_integer, standard
from ...exponential_family import natural_step
from ...numerics.admixture import Steps, next_gamma, weights
from ...numerics.dirichlet_fit import fit_dirichlet
from ...numerics.fixed_point import best_start, settle
from ...numerics.kl_terms import KLTerms
from ..dirichlet import Dirichlet
from .base import Labelled, Labels, present

STARTS = ("both", "warm", "cold")


@pytree
class AdmixtureMoments:
    """The concentrations that the weights of rows are drawn from."""

    conc: Float[Array, "*b k"]


@pytree
class Memberships:
    """q(theta_n) = Dirichlet(gamma_n) of n rows, and their steps at the labels that it implies.

    `theta` are exp(E[log theta_n]) over the largest of each row, `log_z` the bounds of the rows in
    nats, and `stats` the statistics of the labels, weighted, summed over the rows.
    """

    gamma: Float[Array, "n k"]
    theta: Float[Array, "n k"]
    log_z: Float[Array, "n"]
    stats: Any


@pytree
class Admixture(Labels):
    """theta_n ~ Dirichlet(conc) for each row n, and z_nt ~ Categorical(theta_n) for its steps.

    `conc` (k,), in pseudo-counts of steps, is known, or if `learn` it is a point estimate: q has a
    point mass there, where the bound is highest (Minka 2000). The natural coordinates are those of
    a conjugate prior on it, exp(<log_theta, conc> - num_rows A(conc)): the sums over rows of
    E[log theta_n] and of 1; and `count`, the expected steps in each class. They are 0 in a prior
    without earlier rows.

    q(theta_n) = Dirichlet(gamma_n) is the state of a row, gamma (n, k). An E-step makes up to
    `inner` updates of it and of the labels in turn, fewer where one moved gamma by at most `tol`
    steps per class in the mean. The bound of a row is exact wherever that ends, and rises with
    every update. Updates begin, by `start`, at the gamma of the last E-step ("warm"), afresh
    ("cold"), or at each of these, and the better is kept ("both"). Rows that go on from where they
    are stay with the classes that they had first; those that begin afresh may fall.
    """

    conc: Float[Array, "*b k"] = gauge()
    count: Float[Array, "*b k"]
    log_theta: Float[Array, "*b k"]
    num_rows: Float[Array, "*b"]
    tol: Float[Array, "*b"] = gauge()
    inner: int = static(default=100)
    start: str = static(default="both")
    learn: bool = static(default=False)

    @classmethod
    def from_standard(
        cls,
        conc: Any,
        *,
        learn: bool = False,
        inner: int = 100,
        tol: ArrayLike = 1e-3,
        start: str = "both",
    ) -> Admixture:
        """Admixture with concentrations (k,) > 0 in pseudo-counts; 0 switches a class off.

        Raises TypeError or ValueError that name the argument.
        """
        check_bound("conc", conc, least=0.0)
        check_bound("tol", tol, least=0.0)
        check_integer("inner", inner)
        check_bound("inner", inner, least=1.0)
        if start not in STARTS:
            raise ValueError(f"start: expected one of {', '.join(STARTS)}, got {start!r}")
        value, tol = standard(conc=(conc, 1), tol=(tol, 0))
        none = jnp.zeros_like(value)
        fixed = {"inner": inner, "start": start, "learn": learn}
        return cls(value, none, none, none[..., 0], jnp.broadcast_to(tol, none.shape[:-1]), **fixed)

    @property
    def template(self) -> Admixture:
        return replace(self, tol=jnp.zeros_like(self.tol), inner=1, start="cold")

    def followed_by(self, q: Admixture) -> Admixture:
        return replace(q, tol=self.tol, inner=self.inner, start=self.start)

    @property
    def size(self) -> int:
        return self.conc.shape[-1]

    @property
    def on(self) -> Bool[Array, "*b k"]:
        return self.conc != 0

    @property
    def mean(self) -> Float[Array, "*b k"]:
        """Expected share of each class among all steps seen, or among steps to come if none are."""
        count = jnp.maximum(self.count, 0.0)
        some = jnp.sum(count, -1, keepdims=True) > 0
        share = jnp.where(some, count, self.conc)
        return share / jnp.sum(share, -1, keepdims=True)

    def counts(self, stats: Admixture) -> Float[Array, "*b k"]:
        return stats.count

    def take(self, order: Int[Array, "m"]) -> Admixture:
        """The weights of these classes scaled to sum to one, which are a Dirichlet."""
        own = {name: getattr(self, name)[order] for name in ("conc", "count", "log_theta")}
        return replace(self, **own)

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """The concentrations of the rows' weights."""
        return {"conc": self.conc}

    # -- E-step -----------------------------------------------------------------------------------

    def fresh(self, rows: Batch) -> Float[Array, "n k"]:
        """gamma of rows whose steps are spread over all classes alike."""
        assert rows.steps is not None  # `check` has seen to it
        return self.spread(self.conc, jnp.sum(jnp.where(rows.steps > 0, rows.steps, 0.0), 1))

    def spread(self, conc: Float[Array, "k"], total: Float[Array, "n"]) -> Float[Array, "n k"]:
        """gamma of rows of `total` steps each, spread over all classes alike."""
        on = conc != 0
        share = jnp.where(on, 1.0, 0.0) / jnp.sum(on, dtype=conc.dtype)
        return conc[None] + total[:, None] * share[None]

    def ascends(self, kept: bool) -> bool:
        return kept and self.start != "cold"

    def infer(
        self,
        moments: AdmixtureMoments,
        log_lik: Float[Array, "..."],
        rows: Batch,
        state: Any = None,
    ) -> Labelled:
        """The fixed point of gamma and labels; log_z is the exact bound at the gamma reached."""
        return self._infer(moments, log_lik, rows, state, None)

    def tempered(
        self,
        moments: AdmixtureMoments,
        log_lik: Float[Array, "..."],
        rows: Batch,
        power: Float[Array, ""],
    ) -> Labelled:
        """As `infer`, with q(labels) ~ exp(power E[log p]); log_z is that of no bound."""
        return self._infer(moments, log_lik, rows, None, power)

    def _infer(
        self,
        moments: AdmixtureMoments,
        log_lik: Float[Array, "n t k"],
        rows: Batch,
        state: Any,
        power: Array | None,
    ) -> Labelled:
        assert rows.steps is not None  # `check` has seen to it
        count = jnp.where((rows.weight > 0)[:, None] & (rows.steps > 0), rows.steps, 0.0)
        log_lik = jnp.where((count > 0)[..., None], log_lik, 0.0)
        log_lik = log_lik if power is None else power * log_lik
        steps = Steps.of(count, jnp.moveaxis(log_lik, -1, 1))

        def of_class(k: Array) -> Array:
            return jax.lax.dynamic_index_in_dim(log_lik, k, 2, keepdims=False)

        found = self.memberships(moments, steps, of_class, rows.weight, state, power)
        # a missing step is in each class as often as a new one
        mean = found.gamma / jnp.sum(found.gamma, -1, keepdims=True)
        joint = found.theta[..., None] * steps.lik
        total = jnp.sum(joint, 1, keepdims=True)
        resp = jnp.where(total > 0, joint / jnp.where(total > 0, total, 1.0), 0.0)
        resp = jnp.where((count > 0)[:, None], resp, mean[..., None])
        return Labelled(jnp.moveaxis(resp, 1, -1), found.stats, found.log_z, found.gamma)

    def memberships(
        self,
        moments: AdmixtureMoments,
        steps: Steps,
        log_lik: Callable[[Int[Array, ""]], Float[Array, "..."]],
        weight: Float[Array, "n"],
        state: Float[Array, "n k"] | None,
        power: Float[Array, ""] | None = None,
    ) -> Memberships:
        """q(theta_n) of rows with these steps, begun as `start` says, without a `state` afresh.

        `log_lik(k)` are log-likelihoods of all steps in class k in nats, to be read where those in
        `steps` have too few digits. Counts of absent rows are 0.
        """
        conc = moments.conc
        prior = Dirichlet(conc)
        total = jnp.sum(steps.count, 1)
        fresh = self.spread(conc, total)

        def step(gamma: Array, steps: Steps) -> Array:
            return next_gamma(gamma, steps, conc, power)

        def bound(gamma: Array) -> Array:
            log_mix = steps.log_mix(Dirichlet(gamma).moments().log_p, log_lik)
            log_z = jnp.where(steps.count > 0, steps.count * log_mix, 0.0)
            whole = Dirichlet(jnp.broadcast_to(prior.conc, gamma.shape))
            return jnp.sum(log_z, 1) - Dirichlet(gamma).kl(whole)

        def solve(gamma: Array, done: Array) -> Array:
            return settle(step, gamma, steps, done, conc, self.tol, self.inner)

        if state is None or self.start == "cold":
            gamma, log_z = best_start(solve, bound, (fresh,))
        else:
            starts = (state,) if self.start == "warm" else (fresh, state)
            gamma, log_z = best_start(solve, bound, starts, state)
        log_theta = Dirichlet(gamma).moments().log_p
        theta = weights(log_theta)[0]
        theta = theta if power is None else weights(power * log_theta)[0]
        count = jnp.sum(present(weight, steps.counts(theta)), 0)
        return Memberships(gamma, theta, log_z, self.summed(moments, count, gamma, weight))

    def summed(
        self,
        moments: AdmixtureMoments,
        count: Float[Array, "k"],
        gamma: Float[Array, "n k"],
        weight: Float[Array, "n"],
    ) -> Admixture:
        """Statistics of weighted rows with these gamma, and `count` steps in each class in all."""
        log_theta = jnp.sum(present(weight, Dirichlet(gamma).expectation().conc), 0)
        number = jnp.sum(jnp.where(weight > 0, weight, 0.0))
        own = {"count": count, "log_theta": log_theta, "num_rows": number}
        return replace(self.template, conc=moments.conc, **own)

    def assign(self, resp: Float[Array, "n t k"], rows: Batch) -> Admixture:
        assert rows.steps is not None  # `check` has seen to it
        return self.assign_counts(jnp.sum(present(rows.steps, resp), 1), rows.weight)

    def assign_counts(self, each: Float[Array, "n k"], weight: Float[Array, "n"]) -> Admixture:
        """Statistics of rows with so many steps in each class."""
        each = jnp.where((weight > 0)[:, None], each, 0.0)
        count = jnp.sum(present(weight, each), 0)
        return self.summed(self.moments(), count, self.conc[None] + each, weight)

    def begin(self, count: Float[Array, "k"]) -> Admixture:
        none = jnp.zeros_like(count)
        return replace(self.template, count=count, log_theta=none, num_rows=jnp.sum(none))

    def simulate(
        self, moments: AdmixtureMoments, key: Key[Array, ""], shape: tuple[int, int]
    ) -> Int[Array, "n t"]:
        """Labels of n new rows of t steps, each with weights of its own."""
        k_theta, k_label = jax.random.split(key)
        theta = Dirichlet(moments.conc).sample(k_theta, shape[:1])
        log_p = jnp.log(jnp.where(theta > 0, theta, 1.0))
        log_p = jnp.where(theta > 0, log_p, -jnp.inf)[:, None]
        return jax.random.categorical(k_label, log_p, shape=shape)

    # -- update and bound -------------------------------------------------------------------------

    def update(self, q: Admixture, stats: Any, rate: ArrayLike = 1.0) -> Admixture:
        """The sums of all rows, and the concentrations of highest bound given them, if learned."""
        new = natural_step(q, stats + self, rate)
        if not self.learn:
            return replace(new, conc=self.conc)
        some = new.num_rows > 0
        mean_log = new.log_theta / jnp.where(some, new.num_rows, 1.0)
        conc = fit_dirichlet(mean_log, q.conc, self.on)
        return replace(new, conc=jnp.where(some, conc, self.conc))

    def kl_from(self, q: Admixture) -> Float[Array, ""]:
        """What the earlier rows, whose sums the prior has, lose by the concentrations of q."""
        return jnp.sum(self.num_rows * Dirichlet(self.conc).kl(Dirichlet(q.conc)))

    def kl_and_move_terms(self, q: Admixture, last: Admixture) -> KLTerms:
        return KLTerms.known(jnp.stack([self.kl_from(q), jnp.sum(q.kl(last))]))

    def expected_log_lik(self, stats: Any) -> Float[Array, ""]:
        """sum_n E[log Dirichlet(theta_n | conc)] in nats, up to terms constant in conc."""
        prior = Dirichlet(self.conc)
        each = jnp.sum(self.conc * stats.log_theta, -1)
        return jnp.sum(each - stats.num_rows * prior.log_normalizer())

    def log_prior(self, moments: Any) -> Float[Array, ""]:
        return -self.kl_from(replace(self, conc=moments.conc))

    # -- as a family: a point mass ----------------------------------------------------------------

    def moments(self) -> AdmixtureMoments:
        return AdmixtureMoments(self.conc)

    def point(self) -> AdmixtureMoments:
        return AdmixtureMoments(self.conc)

    def mode(self) -> Float[Array, "*b k"]:
        """The concentrations."""
        return self.conc

    def expectation(self) -> Admixture:
        """conc and -A(conc), what the coordinates are multiplied with; 0 for the counts."""
        number = -Dirichlet(self.conc).log_normalizer()
        zero = jnp.zeros_like(self.count)
        return replace(self, count=zero, log_theta=self.conc, num_rows=number)

    def log_normalizer(self) -> Float[Array, "*b"]:
        """<coordinates, expectation>: the log density at its point, in nats."""
        normalizer = Dirichlet(self.conc).log_normalizer()
        return jnp.sum(self.conc * self.log_theta, -1) - self.num_rows * normalizer

    def log_kernel(self, moments: AdmixtureMoments) -> Float[Array, "*b"]:
        return -self.kernel_gap(moments)

    def kernel_gap(self, moments: AdmixtureMoments) -> Float[Array, "*b"]:
        """What the rows would lose by other concentrations, in nats."""
        return self.num_rows * Dirichlet(self.conc).kl(Dirichlet(moments.conc))

    def expected_log_prob(self, moments: AdmixtureMoments) -> Float[Array, "*b"]:
        return self.log_kernel(moments)

    def kl(self, prior: Any) -> Float[Array, "*b"]:
        """How far the concentrations are from those of `prior`, in nats of all rows seen.

        It is the gain of an update from there to here; two points have no divergence.
        """
        return self.num_rows * Dirichlet(self.conc).kl(Dirichlet(prior.conc))

    def entropy(self) -> Float[Array, "*b"]:
        """0: what is known, or a point, has no entropy in the bound."""
        return jnp.zeros_like(self.num_rows)

    def log_prob(self, value: Any) -> Float[Array, "..."]:
        """As `log_kernel`, at concentrations (*b, k), in nats."""
        return self.log_kernel(AdmixtureMoments(value))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*s k"]:
        """The concentrations, as often as asked."""
        return jnp.broadcast_to(self.conc, (*shape, *self.conc.shape))
