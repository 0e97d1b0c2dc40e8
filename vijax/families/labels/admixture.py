"""Labels drawn in shares of the row's own: what makes components a mixed-membership model."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import gauge, pytree, replace, static
from ...data.batch import Batch
from ...data.host import check_bound, check_integer, standard
from ...exponential_family import Q
from ...numerics import special
from ...numerics.admixture import Tokens, equal_shares, lowest_share, settle, shares_of
from ...numerics.dirichlet_fit import fit_dirichlet
from ...numerics.kl_terms import KLTerms
from ..dirichlet import Dirichlet
from .base import Labelled, Labels, present

STARTS = ("warm", "cold", "both")


@pytree
class AdmixtureMoments:
    """The pseudo-counts of the memberships, 0 for classes that are off."""

    conc: Float[Array, "*b k"]


class Settled(NamedTuple):
    """Rows at a gamma: their next gamma, log_z in nats, and what makes phi: theta like / norm."""

    gamma: Float[Array, "n k"]
    log_z: Float[Array, "n"]
    theta: Float[Array, "n k"]
    norm: Float[Array, "n m"]


@pytree
class Admixture(Labels):
    """theta_n ~ Dirichlet(conc) of each row, and z_nt ~ Categorical(theta_n) of each of its steps.

    q(theta_n) = Dirichlet(gamma_n) is the state of the row, and `infer` iterates it: at most
    `inner` updates, and none after one that moves gamma by at most `tol` steps in the mean over
    classes. log_z of a row is the exact bound at its gamma, with q(z) at its optimum.

    A pass begins at the last gamma of each row if `start` is "warm", afresh if it is "cold", and
    with "both" it does the two and keeps the better bound of each row. "warm" alone keeps rows in
    the classes that they were in first; under "cold" alone the bound may fall.

    `conc` (k,) are pseudo-counts of steps; 0 switches a class off. With `learn` they are those of
    the highest bound, one number for each class (Minka 2000; Blei et al. 2003, A.4.2). In a q and
    in statistics, `count` are the expected numbers of steps in each class, `log_share` the sum of
    E[log theta_n] over rows, and `num_rows` their weight.
    """

    Moments: ClassVar = AdmixtureMoments
    no_point: ClassVar[str] = (
        "needs the exact posterior of a row's memberships, which has no closed form; use CAVI()"
    )
    conc: Float[Array, "*b k"]
    count: Float[Array, "*b k"]
    log_share: Float[Array, "*b k"]
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
        inner: int = 100,
        tol: ArrayLike = 1e-3,
        start: str = "both",
        learn: bool = False,
    ) -> Admixture:
        """Admixture with concentrations (*b, k) >= 0 in pseudo-counts of steps; 0 is off.

        Raises ValueError or TypeError that name the argument.
        """
        check_bound("conc", conc, least=0.0)
        check_bound("tol", tol, least=0.0)
        check_integer("inner", inner)
        check_bound("inner", inner, least=1.0)
        if start not in STARTS:
            raise ValueError(f"start: expected one of {', '.join(STARTS)}, got {start!r}")
        own, least = standard(conc=(conc, 1), tol=(tol, 0))
        settings = {"inner": int(inner), "start": start, "learn": bool(learn)}
        return cls(*_known(own), tol=jnp.broadcast_to(least, own.shape[:-1]), **settings)

    @property
    def template(self) -> Admixture:
        return _plain(*_known(self.conc))

    def followed_by(self, q: Q) -> Admixture:
        return replace(self, conc=q.conc) if self.learn else self

    @property
    def size(self) -> int:
        return self.conc.shape[-1]

    @property
    def on(self) -> Bool[Array, "*b k"]:
        return self.conc > 0

    @property
    def mean(self) -> Float[Array, "*b k"]:
        """Expected share of each class among all steps; that of theta where none are known."""
        count = jnp.maximum(self.count, 0.0)
        some = jnp.sum(count, -1, keepdims=True) > 0
        known = jnp.where(some, count, self.conc)
        total = jnp.sum(known, -1, keepdims=True)
        return known / jnp.where(total > 0, total, 1.0)

    def counts(self, stats: Admixture) -> Float[Array, "*b k"]:
        return stats.count

    def possible(self, moments: AdmixtureMoments) -> Bool[Array, "k"]:
        return moments.conc > 0

    def ascends(self, kept: bool) -> bool:
        return kept and self.start != "cold"

    # -- E-step -----------------------------------------------------------------------------------

    def fresh(self, rows: Batch) -> Float[Array, "n k"]:
        """The gamma of equal shares."""
        assert rows.steps is not None  # `check` has seen to it
        return equal_shares(jnp.sum(rows.steps, -1), self.conc)

    def infer(
        self,
        moments: AdmixtureMoments,
        log_lik: Float[Array, "..."],
        rows: Batch,
        state: Any = None,
    ) -> Labelled:
        """q(z) and q(theta) of each row, by coordinate ascent; `state` is its last gamma."""
        assert rows.steps is not None  # `check` has seen to it
        some = (rows.weight > 0)[:, None] & (rows.steps > 0)
        count = jnp.where(some, rows.steps, 0.0)
        seen = jnp.where(some[..., None], log_lik, 0.0)
        tokens = Tokens.of_rows(count, seen, moments.conc > 0)
        found = self.settled(moments, tokens, state)
        resp = tokens.phi(found.theta, found.norm)
        stats = self.observe(rows, found.gamma, moments)
        return Labelled(resp, stats, found.log_z, found.gamma)

    def settled(self, moments: AdmixtureMoments, tokens: Tokens, state: Any = None) -> Settled:
        """The rows after `inner` updates at most, from `state` or afresh or the better of both."""
        conc = lax.stop_gradient(moments.conc)
        held = jax.tree.map(lax.stop_gradient, tokens)

        afresh = equal_shares(jnp.sum(held.count, -1), conc)
        if state is None or self.start == "cold":
            starts = [afresh]
        else:
            warm = lax.stop_gradient(jnp.where(conc > 0, state, 0.0))
            starts = [warm] if self.start == "warm" else [warm, afresh]
        gamma = settle(held, conc, jnp.stack(starts), self.inner, self.tol)
        gamma = lax.stop_gradient(gamma)
        found = [_at(tokens, moments.conc, own) for own in gamma]
        if len(found) == 1:
            return found[0]
        kept, cold = found
        better = cold.log_z > kept.log_z

        def pick(a: Array, b: Array) -> Array:
            return jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b)

        return jax.tree.map(pick, cold, kept)

    def observe(
        self, rows: Batch, gamma: Float[Array, "n k"], moments: AdmixtureMoments
    ) -> Admixture:
        """Statistics of rows with these q(theta_n), of which `moments` have the prior."""
        weight = jnp.where(rows.weight > 0, rows.weight, 0.0)
        count = jnp.sum(present(weight, jnp.maximum(gamma - moments.conc, 0.0)), 0)
        none = jnp.zeros_like(count)
        if not self.learn:
            return _plain(none, count, none, none[0])
        log_share = jnp.sum(present(weight, Dirichlet(gamma).expectation().conc), 0)
        return _plain(none, count, log_share, jnp.sum(weight))

    def of_numbers(self, rows: Batch, number: Float[Array, "n k"]) -> Admixture:
        """Statistics of rows with so many steps in each class."""
        moments = self.moments()
        gamma = jnp.where(moments.conc > 0, moments.conc + number, 0.0)
        return self.observe(rows, gamma, moments)

    def tempered(
        self,
        moments: AdmixtureMoments,
        log_lik: Float[Array, "..."],
        rows: Batch,
        power: Float[Array, ""],
    ) -> Labelled:
        """As `infer`, with likelihoods to this power; memberships have their own prior."""
        return self.infer(moments, power * log_lik, rows)

    def assign(self, resp: Float[Array, "n t k"], rows: Batch) -> Admixture:
        assert rows.steps is not None  # `check` has seen to it
        return self.of_numbers(rows, jnp.sum(present(rows.steps, resp), 1))

    def give_to(self, stats: Admixture, heir: Int[Array, "k"]) -> Admixture:
        return replace(stats, count=jnp.zeros_like(stats.count).at[heir].add(stats.count))

    def begin(self, count: Float[Array, "k"]) -> Admixture:
        none = jnp.zeros_like(count)
        return _plain(none, count, none, none[0])

    # -- update and bound -------------------------------------------------------------------------

    def update(self, q: Q, stats: Admixture, rate: ArrayLike = 1.0) -> Admixture:
        """The statistics of all rows, or a step of `rate` to them; and conc, if it is learned."""
        whole = isinstance(rate, float) and rate == 1.0

        def blend(name: str) -> Array:
            old, new = getattr(q, name), getattr(stats, name)
            return new if whole else old + jnp.asarray(rate) * (new - old)

        count, log_share, rows = (blend(name) for name in ("count", "log_share", "num_rows"))
        conc = self.conc
        if self.learn:
            some = rows > 0
            mean = jnp.where(some, log_share / jnp.where(some, rows, 1.0), -1.0)
            best = fit_dirichlet(mean, jnp.where(q.on, q.conc, 1.0), q.on)
            conc = jnp.where(some, best, q.conc)
        return _plain(conc, count, log_share, rows)

    def kl_from(self, q: Q) -> Float[Array, ""]:
        """0: conc has no prior, and the divergences of memberships are in log_z."""
        return jnp.zeros((), q.conc.dtype)

    def kl_and_move_terms(self, q: Q, last: Q) -> KLTerms:
        """0, and what the bound gains from the move of conc; see `kl`."""
        return KLTerms.known(jnp.stack([self.kl_from(q), jnp.sum(q.kl(last))]))

    def expected_log_lik(self, stats: Admixture) -> Float[Array, ""]:
        """sum_n w_n E[log p(theta_n | conc)] in nats, with respect to h."""
        inner = jnp.sum(jnp.where(self.on, self.conc * stats.log_share, 0.0))
        some = stats.num_rows > 0
        return inner - jnp.where(some, stats.num_rows * Dirichlet(self.conc).log_normalizer(), 0.0)

    # -- as a family: conc is known, or a point ---------------------------------------------------

    def moments(self) -> AdmixtureMoments:
        """conc, 0 where it is lost beside the sum; NaN if it is negative."""
        least = jnp.finfo(self.conc.dtype).eps ** 2 * jnp.sum(self.conc, -1, keepdims=True)
        conc = jnp.where(self.conc > least, self.conc, 0.0)
        return AdmixtureMoments(jnp.where(self.conc >= 0, conc, jnp.nan))

    def point(self) -> AdmixtureMoments:
        return self.moments()

    def mode(self) -> Float[Array, "*b k"]:
        return self.conc

    def log_normalizer(self) -> Float[Array, "*b"]:
        return jnp.zeros_like(self.num_rows)

    def expectation(self) -> Admixture:
        return jax.tree.map(jnp.zeros_like, self)

    def log_kernel(self, moments: AdmixtureMoments) -> Float[Array, "*b"]:
        return jnp.zeros_like(self.num_rows)

    def kernel_gap(self, moments: AdmixtureMoments) -> Float[Array, "*b"]:
        return jnp.zeros_like(self.num_rows)

    def expected_log_prob(self, moments: AdmixtureMoments) -> Float[Array, "*b"]:
        return jnp.zeros_like(self.num_rows)

    def kl(self, prior: Admixture) -> Float[Array, "*b"]:
        """What the bound gains in nats from a move of conc to here, where it is at its best.

        It is num_rows KL(Dirichlet(conc) || Dirichlet(that of `prior`)); 0 if conc is not learned.
        """
        on = self.on & prior.on
        some = self.num_rows > 0

        def clean(conc: Array) -> Dirichlet:
            # without rows nothing is learned, and conc may be that of statistics
            return Dirichlet(jnp.where(some[..., None], jnp.where(on, conc, 0.0), 1.0))

        return jnp.where(some, self.num_rows * clean(self.conc).kl(clean(prior.conc)), 0.0)

    def entropy(self) -> Float[Array, "*b"]:
        return jnp.zeros_like(self.num_rows)

    def log_prob(self, value: Float[Array, "*b k"]) -> Float[Array, "*b"]:
        """0, as conc has no density."""
        return jnp.zeros_like(self.num_rows)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*s k"]:
        """conc itself, once for each draw."""
        return jnp.broadcast_to(self.conc, (*shape, *self.conc.shape))

    # -- reading ----------------------------------------------------------------------------------

    def simulate(
        self, moments: AdmixtureMoments, key: Key[Array, ""], shape: tuple[int, int]
    ) -> Int[Array, "n t"]:
        """Labels of n new rows of t steps."""
        k_rows, k_steps = jax.random.split(key)
        theta = self.draw(moments, k_rows, shape[0])
        log_p = jnp.log(theta)[:, None]
        return jax.random.categorical(k_steps, log_p, shape=shape).astype(jnp.int32)

    def draw(self, moments: AdmixtureMoments, key: Key[Array, ""], n: int) -> Float[Array, "n k"]:
        """Memberships of n new rows."""
        return Dirichlet(moments.conc).sample(key, (n,))

    def exchangeable(self, which: Bool[Array, "k"]) -> Bool[Array, ""]:
        """Whether the classes `which` have the same concentration."""
        return Dirichlet(self.conc).exchangeable(which)

    def take(self, order: Int[Array, "m"]) -> Admixture:
        """Rows that have these classes alone."""
        own = {name: getattr(self, name)[order] for name in ("conc", "count", "log_share")}
        return replace(self, **own)

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """The pseudo-counts of each class in a row."""
        return {"conc": self.conc}


def _known(conc: Float[Array, "*b k"]) -> tuple[Array, Array, Array, Array]:
    """The fields of a prior with this conc, which has seen no rows."""
    none = jnp.zeros_like(conc)
    return conc, none, none, none[..., 0]


def _plain(
    conc: Float[Array, "*b k"],
    count: Float[Array, "*b k"],
    log_share: Float[Array, "*b k"],
    num_rows: Float[Array, "*b"],
) -> Admixture:
    """A q or statistics: without the settings of a prior, so that all have one structure."""
    return Admixture(conc, count, log_share, num_rows, jnp.zeros_like(num_rows))


def _at(tokens: Tokens, conc: Float[Array, "k"], gamma: Float[Array, "n k"]) -> Settled:
    """The bound on each row in nats at this gamma, and gamma after one more update."""
    on, prior = conc > 0, Dirichlet(jnp.broadcast_to(conc, gamma.shape))
    theta = shares_of(gamma, on)
    norm = tokens.norm(theta)
    number = tokens.shares(theta, norm)
    some = tokens.count > 0
    top = jnp.where(some, jnp.broadcast_to(tokens.top, norm.shape), 0.0)
    steps = jnp.sum(jnp.where(some, tokens.count * (jnp.log(norm) + top), 0.0), -1)
    total = jnp.sum(gamma, -1)
    steps = steps - jnp.sum(tokens.count, -1) * _digamma(jnp.where(total > 0, total, 1.0))
    # phi is made from theta, which has a floor
    off = _digamma(jnp.where(on, gamma, 1.0)) - jnp.log(jnp.where(on, theta, 1.0))
    floored = theta <= lowest_share(gamma)
    steps = steps + jnp.sum(jnp.where(on & floored, lax.stop_gradient(number) * off, 0.0), -1)
    log_z = steps - Dirichlet(gamma).kl(prior)
    return Settled(jnp.where(on, conc + number, 0.0), log_z, theta, norm)


def _digamma(a: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.log(a) - special.digamma_gap(a)
