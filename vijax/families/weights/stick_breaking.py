"""Stick-breaking weights of Dirichlet and Pitman-Yor processes, conjugate to categorical rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree, replace, static
from ...data.host import as_floats, check_bound, check_integer, common_dtype, is_concrete, standard
from ...exponential_family import Q, natural_step
from ...numerics import special
from ...numerics.broadcasting import broadcasts
from ..dirichlet import CategoricalMoments, Dirichlet
from .base import Weights, pad_zeros
from .permuted import PermutedWeights


@pytree
class StickMoments:
    """E[log v_t] and E[log(1 - v_t)] of each stick, or both at a point.

    A stick that is off has a fixed v_t, 1 or 0.
    """

    e_log_v: Float[Array, "*b k"]
    e_log_rest: Float[Array, "*b k"]

    @property
    def log_p(self) -> Float[Array, "*b k"]:
        """E[log pi_t], or log pi_t at a point; -inf for a component that is off."""
        return self.e_log_v + _before(jnp.cumsum(self.e_log_rest, -1), 0.0)

    @property
    def mean(self) -> Float[Array, "*b k"]:
        """exp of `log_p`: pi_t at a point, its geometric mean under q."""
        return jnp.exp(self.log_p)


@pytree
class StickBreaking(Weights):
    """pi_t = v_t prod_{j<t} (1 - v_j), with v_t ~ Beta(a_t, b_t) independent.

    T(v) = (log v_t, log(1 - v_t)), h = prod_t 1 / (v_t (1 - v_t)). A stick with a = b = 0 is off,
    and no result has a term of it. Its v depends on `truncated`:

    - True: the first stick that is off has v = 1 and so takes the rest of the weight. This is the
      finite model of k components (Ishwaran & James 2001): k - 1 sticks are on, and the weights sum
      to one.
    - False: sticks that are off have v = 0. This is the infinite model, in whose posterior only the
      first k components differ from the prior (Blei & Jordan 2006, truncated as in scikit-learn):
      k sticks are on, and the weights sum to less than one.

    The elbo of the infinite model rises with k, and its values can be compared; truncated models
    with different k are different models. With `ordered=False` the mixture does not sort components
    by size, which lowers the elbo but leaves labels as they are.

    Values are weights pi (k,), with the density of the generalised Dirichlet (Connor & Mosimann
    1969): the density of v_t = pi_t / (1 - sum_{j<t} pi_j) over the Jacobian
    prod_t (1 - sum_{j<t} pi_j), for the sticks t that are on.
    """

    a: Float[Array, "*b k"]
    b: Float[Array, "*b k"]
    truncated: bool = static(default=True)
    ordered: bool = static(default=True)

    # -- constructors ---------------------------------------------------------------------------

    @classmethod
    def from_standard(
        cls, a: Any, b: Any, *, truncated: bool = True, ordered: bool = True
    ) -> StickBreaking:
        """Sticks with Beta parameters a_t, b_t > 0 (*b, k) in pseudo-counts; both 0 if it is off.

        Raises ValueError if only one of them is 0, if a stick is on after one that is off, or if
        all are on although `truncated`.
        """
        check_bound("a", a, least=0.0)
        check_bound("b", b, least=0.0)
        a, b = standard(a=(a, 1), b=(b, 1))
        if is_concrete(a, b):
            _check_sticks(jax.device_get(a), jax.device_get(b), truncated)
        return cls(a, b, truncated, ordered)

    @classmethod
    def dirichlet_process(
        cls,
        concentration: Any,
        num_components: int,
        *,
        truncated: bool = True,
        ordered: bool = True,
    ) -> StickBreaking:
        """v_t ~ Beta(1, concentration), concentration > 0 (*b) (Sethuraman 1994).

        A priori, n rows have about concentration * log(1 + n / concentration) components.
        """
        check_bound("concentration", concentration, above=0.0)
        return cls._process(concentration, 0.0, num_components, truncated, ordered)

    @classmethod
    def pitman_yor(
        cls,
        concentration: Any,
        discount: Any,
        num_components: int,
        *,
        truncated: bool = True,
        ordered: bool = True,
    ) -> StickBreaking:
        """v_t ~ Beta(1 - discount, concentration + t discount), t = 1 .. (Pitman & Yor 1997).

        0 <= discount < 1 and concentration > -discount, both (*b). Sizes of components follow a
        power law; discount = 0 gives the Dirichlet process.
        """
        check_bound("discount", discount, least=0.0)
        check_bound("concentration", concentration)
        if is_concrete(concentration, discount):
            d, alpha = (np.asarray(v) for v in (discount, concentration))
            if (d >= 1).any():
                raise ValueError(f"discount: must be < 1, got {d.max():g}")
            if (alpha + d <= 0).any():
                raise ValueError(
                    f"concentration: must be > -discount = {-d.min():g}, got {alpha.min():g}"
                )
        return cls._process(concentration, discount, num_components, truncated, ordered)

    @classmethod
    def _process(
        cls, concentration: Any, discount: Any, num_components: int, truncated: bool, ordered: bool
    ) -> StickBreaking:
        check_integer("num_components", num_components)
        if num_components < 1:
            raise ValueError(f"num_components: must be at least 1, got {num_components}")
        dtype = common_dtype(concentration, discount)
        alpha = as_floats("concentration", concentration).astype(dtype)[..., None]
        d = as_floats("discount", discount).astype(dtype)[..., None]
        t = np.arange(1, num_components + 1, dtype=dtype)
        drawn = (t <= num_components - truncated).astype(dtype)
        a, b = standard(a=(drawn * (1.0 - d), 1), b=(drawn * (alpha + d * t), 1))
        return cls(a, b, truncated, ordered)

    # -- as weights -----------------------------------------------------------------------------

    @property
    def size(self) -> int:
        return self.a.shape[-1]

    @property
    def drawn(self) -> Bool[Array, "*b k"]:
        """Which sticks are on, so that v_t is not fixed."""
        return (self.a > 0) | (self.b > 0)

    @property
    def on(self) -> Bool[Array, "*b k"]:
        """Which components can have rows: those drawn and, if truncated, the one with the rest."""
        return self.drawn | self.takes_rest

    @property
    def takes_rest(self) -> Bool[Array, "*b k"]:
        """True for the component with the rest of the weight: if truncated, the first one off."""
        off = ~self.drawn
        first = off & (jnp.cumsum(off, -1, dtype=jnp.int32) == 1)
        return first if self.truncated else jnp.zeros_like(off)

    def observe(self, count: Float[Array, "*b k"]) -> StickBreaking:
        """a_t counts the rows in component t and b_t those in later ones, on all sticks."""
        return replace(self, a=count, b=_after(count, 0.0))

    def counts(self, stats: StickBreaking) -> Float[Array, "*b k"]:
        """The counts of statistics; of a q, the counts plus the prior's a, 0 for sticks off."""
        return stats.a

    def update(self, q: Q, stats: StickBreaking, rate: ArrayLike = 1.0) -> StickBreaking:
        """Prior + statistics for the prior's sticks that are on, or a step of `rate` towards it."""
        a = jnp.where(self.drawn, stats.a + self.a, 0.0)
        b = jnp.where(self.drawn, stats.b + self.b, 0.0)
        return natural_step(q, replace(self, a=a, b=b), rate)

    def arrange(self, q: Q, stats: StickBreaking) -> Int[Array, "k"]:
        """Components by size, largest first, if that raises the objectives of both CAVI and EM.

        (Kurihara, Welling & Teh 2007.) Under a process it always does, unless this is truncated and
        the component with the rest has many rows. Components that are off stay at the end.
        """
        count = self.counts(stats)
        order = jnp.argsort(jnp.where(self.on, -count, jnp.inf), stable=True)
        better = self._gains(count, order, special.log_gamma_ratio)
        better = better & self._gains(count, order, _entropy_ratio)
        return jnp.where(better, order, jnp.arange(self.size))

    def _gains(
        self,
        count: Float[Array, "k"],
        order: Int[Array, "k"],
        ratio: Callable[[Array, Array], Array],
    ) -> Bool[Array, ""]:
        """Whether the new order raises sum_t [f(A_t) + f(B_t) - f(A_t + B_t)] beyond rounding.

        A_t and B_t are the posterior parameters of stick t, and `ratio(x, s)` is f(x + s) - f(x).
        With f = log Gamma the sum is the log evidence of the counts. No two large values are
        subtracted: A_{t+1} + B_{t+1} differs from B_t by prior counts alone, so their terms pair up
        as `ratio`s, and sum_t f(a_1 + N_t) is the same in all orders and is left out.
        """
        on, total = self.drawn, self.a + self.b
        a_1 = jnp.where(on[0], self.a[0], 1.0)
        a, b = jnp.where(on, self.a, a_1), jnp.where(on, self.b, a_1)
        following = _next(jnp.where(on, total, a_1), a_1)

        def terms(count: Array) -> Array:
            return jnp.where(
                on, ratio(a_1 + count, a - a_1) - ratio(b + _after(count, 0.0), following - b), 0.0
            )

        old, new = terms(count), terms(count[order])
        rounding = 8.0 * jnp.finfo(count.dtype).eps * jnp.sum(jnp.abs(old))
        return jnp.sum(new - old) > rounding

    def take(self, order: Any) -> PermutedWeights:
        return PermutedWeights(self, jnp.asarray(order))

    def pad(self, size: int) -> StickBreaking:
        return replace(self, a=pad_zeros(self.a, size), b=pad_zeros(self.b, size))

    # -- standard parameters and posterior summaries --------------------------------------------

    @property
    def _betas(self) -> Dirichlet:
        """(v_t, 1 - v_t) of every stick; uniform where it is off."""
        pair = jnp.stack([self.a, self.b], -1)
        return Dirichlet(jnp.where(self.drawn[..., None], pair, 1.0))

    def _sum(self, terms: Float[Array, "*b k"]) -> Float[Array, "*b"]:
        return jnp.sum(jnp.where(self.drawn, terms, 0.0), -1)

    def _proportions(
        self, v: Float[Array, "*s k"], rest: Float[Array, "*s k"], one: float, none: float
    ) -> tuple[Float[Array, "*s k"], Float[Array, "*s k"]]:
        """`v` and `rest`, functions of v_t and 1 - v_t, with `one` and `none` for sticks off."""
        fixed = (one, none) if self.truncated else (none, one)
        return jnp.where(self.drawn, v, fixed[0]), jnp.where(self.drawn, rest, fixed[1])

    def _weights(self, v: Float[Array, "*s k"], rest: Float[Array, "*s k"]) -> Array:
        v, rest = self._proportions(v, rest, 1.0, 0.0)
        return v * _before(jnp.cumprod(rest, -1), 1.0)

    def _moments(self, log_pair: Float[Array, "*b k 2"]) -> StickMoments:
        return StickMoments(*self._proportions(log_pair[..., 0], log_pair[..., 1], 0.0, -jnp.inf))

    def _pair(self, moments: StickMoments) -> CategoricalMoments:
        """The pair of moments of every stick, with finite values where it is off."""
        pair = jnp.stack([moments.e_log_v, moments.e_log_rest], -1)
        return CategoricalMoments(jnp.where(self.drawn[..., None], pair, -1.0))

    @property
    def mean(self) -> Float[Array, "*b k"]:
        """E[pi_t], which sums to one if truncated."""
        mean = self._betas.mean
        return self._weights(mean[..., 0], mean[..., 1])

    @property
    def rest(self) -> Float[Array, "*b"] | None:
        """Expected weight beyond the k components in the infinite model; None if truncated."""
        if self.truncated:
            return None
        return jnp.prod(jnp.where(self.drawn, self._betas.mean[..., 1], 1.0), -1)

    @property
    def variance(self) -> Float[Array, "*b k"]:
        """Var[pi_t]."""
        return self.sd**2

    @property
    def sd(self) -> Float[Array, "*b k"]:
        # pi_t is a product of independent factors, whose 1 + Var / mean^2 multiply
        conc = self._betas.conc
        spread = jnp.log1p(conc[..., ::-1] / (conc * (self._betas.total[..., None] + 1.0)))
        spread = jnp.where(self.drawn[..., None], spread, 0.0)
        relative = spread[..., 0] + _before(jnp.cumsum(spread[..., 1], -1), 0.0)
        varies = self.on & (relative > 0)
        return jnp.where(
            varies, self.mean * jnp.sqrt(jnp.expm1(jnp.where(varies, relative, 1.0))), 0.0
        )

    # -- the family -----------------------------------------------------------------------------

    @property
    def _later(self) -> Float[Array, "*b k"]:
        """Number of later sticks that are on, the power of 1 - v_t in the Jacobian of pi."""
        return _after(self.drawn.astype(self.a.dtype), 0.0)

    def log_normalizer(self) -> Float[Array, "*b"]:
        """sum_t log B(a_t, b_t), in nats."""
        # a < 0 or b < 0, where there is no density, gives NaN
        proper = jnp.all((self.a >= 0) & (self.b >= 0), -1)
        return jnp.where(proper, self._sum(self._betas.log_normalizer()), jnp.nan)

    def expectation(self) -> StickBreaking:
        """E[log v_t] = digamma(a_t) - digamma(a_t + b_t), E[log(1 - v_t)]; 0 for sticks off."""
        log_pair = jnp.where(self.drawn[..., None], self._betas.expectation().conc, 0.0)
        return replace(self, a=log_pair[..., 0], b=log_pair[..., 1])

    def moments(self) -> StickMoments:
        return self._moments(self._betas.expectation().conc)

    def point(self) -> StickMoments:
        """log of v_t = a_t / (a_t + b_t)."""
        return self._moments(self._betas.point().log_p)

    def mode(self) -> Float[Array, "*b k"]:
        """The weights of highest density; NaN where there are none.

        v_t = (a_t - 1) / (a_t + b_t - 2 - m_t), with m_t the number of later sticks that are on.
        They exist if all a_t >= 1 and b_t >= 1 + m_t.
        """
        a, b = self.a - 1.0, self.b - 1.0 - self._later
        exists = jnp.all((~self.drawn | (a >= 0)) & (~self.drawn | (b >= 0)), -1, keepdims=True)
        total = jnp.where(self.drawn, a + b, 1.0)
        return jnp.where(exists, self._weights(a / total, b / total), jnp.nan)

    def log_kernel(self, moments: StickMoments) -> Float[Array, "*b"]:
        """Expected log of prod_t Beta(v_t | a_t, b_t) v_t (1 - v_t) in nats."""
        return self._sum(self._betas.log_kernel(self._pair(moments)))

    def kernel_gap(self, moments: StickMoments) -> Float[Array, "*b"]:
        """sum_t [a_t log(mean_t / v_t) + b_t log((1 - mean_t) / (1 - v_t))], in nats."""
        return self._sum(self._betas.kernel_gap(self._pair(moments)))

    def expected_log_prob(self, moments: StickMoments) -> Float[Array, "*b"]:
        pair = self._pair(moments)
        jacobian = self._later * pair.log_p[..., 1]
        return self._sum(self._betas.expected_log_prob(pair) - jacobian)

    def kl(self, prior: StickBreaking) -> Float[Array, "*b"]:
        """sum_t KL(Beta(a_t, b_t) || Beta(a0_t, b0_t)) in nats; both with the same sticks on."""
        return self._sum(self._betas.kl(prior._betas))

    def entropy(self) -> Float[Array, "*b"]:
        """Differential entropy of the weights, in nats."""
        jacobian = self._later * self.expectation().b
        return self._sum(self._betas.entropy() + jacobian)

    @broadcasts
    def log_prob(self, value: Float[Array, "*s k"]) -> Float[Array, "..."]:
        """log p(value) in nats, for weights that sum to one if truncated and to less otherwise."""
        total = jnp.sum(value, -1, keepdims=True)
        left = jnp.zeros_like(total) if self.truncated else jnp.maximum(1.0 - total, 0.0)
        rest = _after(value, 0.0) + left
        pair = jnp.stack([value, rest], -1)
        pair = jnp.where(self.drawn[..., None], pair, 1.0)
        log_pair = jnp.log(pair) - jnp.log(jnp.sum(pair, -1, keepdims=True))
        return self.expected_log_prob(self._moments(log_pair))

    @broadcasts
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*s k"]:
        """Draws of the weights, which sum to one if truncated and to less otherwise."""
        pair = self._betas.sample(key, shape)
        return self._weights(pair[..., 0], pair[..., 1])


def _before(totals: Float[Array, "*b k"], first: float) -> Float[Array, "*b k"]:
    """Cumulative `totals` up to t as totals before t, beginning with `first`."""
    return jnp.concatenate([jnp.full_like(totals[..., :1], first), totals[..., :-1]], -1)


def _next(values: Float[Array, "*b k"], end: ArrayLike) -> Float[Array, "*b k"]:
    """The entry after each, and `end` after the last."""
    end = jnp.broadcast_to(jnp.asarray(end, values.dtype), values[..., :1].shape)
    return jnp.concatenate([values[..., 1:], end], -1)


def _after(values: Float[Array, "*b k"], end: float) -> Float[Array, "*b k"]:
    """The sum of the entries after each, and `end` after the last."""
    return _next(lax.cumsum(values, values.ndim - 1, reverse=True), end)


def _entropy_ratio(x: Float[Array, "*b"], step: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """f(x + step) - f(x) for f(x) = x log x, accurate at large x too."""
    return x * jnp.log1p(step / x) + step * jnp.log(x + step)


def _check_sticks(a: np.ndarray, b: np.ndarray, truncated: bool) -> None:
    drawn = (a > 0) & (b > 0)
    if ((a > 0) != (b > 0)).any():
        raise ValueError("b: a and b must both be > 0, or both 0 for a stick that is off")
    if (drawn[..., 1:] & ~drawn[..., :-1]).any():
        raise ValueError("a: sticks that are off (a = b = 0) must come last")
    if truncated and drawn[..., -1:].any():
        raise ValueError(
            "a: with truncated=True the last component takes the rest of the stick, so that its "
            "a and b must be 0; truncated=False leaves the rest to components beyond"
        )
