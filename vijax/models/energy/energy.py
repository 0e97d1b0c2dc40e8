"""`Energy`: a model of one's own, given by factors and an energy of their expected statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from ..._pytree import pytree, replace, static
from ...data.batch import Batch
from ...data.checks import check_rows_alone
from ...data.host import strong
from ...data.padding import compiled
from ...data.types import Data
from ...exponential_family import Q, natural_step
from ...model import EStep
from ..mixture_params import Fitted
from .arguments import parsed
from .check import check_energy
from .expected_density import ExpectedDensity, Given
from .factor import Factor
from .kinds import Statistics
from .params import EnergyParams
from .sums import RowSums, WholeData, tabulate
from .terms import EnergyTerms, Moments

_FEW = 2.0  # rows that a start has seen: so few that draws differ by as much as rows do
_MOST_ROWS = 1024  # that a start is made from


@pytree
class Energy(EnergyTerms):
    """A model given by named factors of q and by its expected log density, whose updates follow.

    `energy(m, rows, weight)` returns E_q[log p] in nats, without the priors that the factors have
    of their own. `m["tau"]["log"]` is E[log tau]: every factor has its expected sufficient
    statistics by name, as `vx.factor` lists them. The energy must be affine in the statistics of
    each factor. So E[x]^2 is no part of it, but E[x^2] is. The optimal q of a factor is then its
    prior plus the gradient of the energy, in natural coordinates, and each such update raises the
    bound (Winn & Bishop 2005; Hoffman et al. 2013).

    `rows` are the data: `Batch.x`, an array or a dict of arrays with rows first. There are two
    kinds of models:

    - Without `local`, the rows are one whole. The energy may be any function of them, and factors
      may have plates along them. A step is a sweep over the factors in their order. `CAVI` and
      `Accelerated` fit such a model.
    - With `local`, a tuple of names, rows are independent given the factors, and

          energy(m, rows, weight) = sum_n weight_n e(m, row n).

      A local factor, such as the label of a row, is declared as that of one row; in the energy its
      statistics have the rows as leading axis. `local=()` says that there are none. What no row
      has, such as the priors of free factors, is `prior(m)`. Every method works, also with
      `Chunks`, weights, padding, `fit_many` and several devices. Factors of one of the `blocks`
      must not meet in the energy, as two that are multiplied do; by default there is one block.
      Blocks take turns, with the others exactly followed: a sum over rows then has as many numbers
      as the product of the sizes of the blocks.

    One normal factor may meet the rows in a way that has no such statistics, as weights do in a
    Poisson or logistic regression. `log_density={"w": f}` adds E[f(w, m, rows, weight)] to the
    energy: f is log p in nats at a value of that factor, and affine in the statistics m of all
    others. The expectation is the mean over fixed draws, whose first two moments are exact. The
    factor takes natural-gradient steps by gradient and curvature on these draws (conjugate-
    computation variational inference, Khan & Lin 2017), shortened until the bound does not fall;
    all others keep exact updates. The first step is at the prior of the factor, even of a free one:
    let it be narrow where f is steep. `elbo_trace` has the bound on the fixed draws, and
    `Result.elbo` an unbiased estimate from others, with its error `elbo_se`, which is 0 for a
    normal density. Where f is rough, a fit on few draws ends as ELBO_DECREASED.

    The first fit checks the energy at some rows, or at all of a whole, and raises ValueError with
    the name of the factor: for an energy that is not affine, an update that is no density, as of a
    wrong sign or a missing prior, and rows that are not independent. Where data or model are
    traced nothing is checked.

    Starts are drawn. In float32, centre the rows and bring them to one scale: a variance is
    E[x^2] - E[x]^2 to an energy, which has no correct digit where the mean is a thousand standard
    deviations; such a fit ends as ELBO_DECREASED. Summaries, draws and moments are those of q,
    which has a family of vijax for each factor: `result.q["tau"].mean`.

    Args:
        factors: Factors by name, in the order of their updates.
        energy: The function; it is a part of the program, so define it once.
        local: Names of factors with one member per row, or None.
        prior: E[log p] in nats of what no row has, a function of m, or None.
        blocks: Tuples of names of factors that are not local, in the order of their updates.
        log_density: A dict of the name of one normal factor and a function, without `local`.
        num_draws: Its number of draws, even; None is the larger of 64 and 4 (d + 1).
        seed: Fixes the draws; all restarts have the same.

    Example:
        def energy(m, rows, weight):  # R_ij ~ N(u_i . v_j, 1 / tau) where it was seen
            u, v, tau, R, seen = m["u"], m["v"], m["tau"], rows["R"], rows["seen"]
            square = jnp.sum(seen * R * (R - 2 * u["x"] @ v["x"].T))
            square += jnp.einsum("ij,iab,jab->", seen, u["xx"], v["xx"])
            log_tau = tau["log"] - jnp.log(2 * jnp.pi)
            return 0.5 * jnp.sum(seen) * log_tau - 0.5 * tau["x"] * square

        rng = np.random.default_rng(0)
        R, seen = rng.normal(size=(6, 4)), rng.integers(2, size=(6, 4))
        u, v = vx.factor.normal(6, 3), vx.factor.normal(4, 3)
        tau = vx.factor.gamma(shape=1.0, rate=1.0)
        model = vx.Energy({"u": u, "v": v, "tau": tau}, energy)
        result = vx.fit(model, {"R": R, "seen": seen}, key=jax.random.key(0))
    """

    factors: dict[str, Factor]
    energy: Callable[..., Any] = static()
    local_names: tuple[str, ...] | None = static()
    prior_energy: Callable[..., Any] | None = static()
    blocks: tuple[tuple[str, ...], ...] = static()
    density: ExpectedDensity | None
    draws: ClassVar[bool] = True

    def __init__(
        self,
        factors: dict[str, Factor],
        energy: Callable[[Moments, Any, Array], Any],
        *,
        local: tuple[str, ...] | list[str] | None = None,
        prior: Callable[[Moments], Any] | None = None,
        blocks: tuple[tuple[str, ...], ...] | None = None,
        log_density: dict[str, Callable[..., Any]] | None = None,
        num_draws: int | None = None,
        seed: int | Int[Array, ""] = 0,
    ) -> None:
        own = factors, energy, local, prior, blocks, log_density, num_draws, seed
        for name, value in parsed(*own).items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        local = f"; local {', '.join(self.locals)}" if self.locals else ""
        return f"Energy({', '.join(self.globals)}{local})"

    # -- what it is made of ----------------------------------------------------------------------

    @property
    def prior(self) -> EnergyParams:  # type: ignore[override]
        """The priors of the factors that are not local; those of free factors are improper."""
        return EnergyParams({name: factor.prior for name, factor in self.globals.items()})

    @property
    def estimates(self) -> bool:  # type: ignore[override]
        """Whether the bound of a step is a mean over draws, as with a `log_density`."""
        return self.density is not None

    @property
    def template(self) -> EnergyParams:
        return EnergyParams({name: factor.first for name, factor in self.globals.items()})

    # -- the protocol ----------------------------------------------------------------------------

    def as_batch(self, data: Data) -> Batch:
        batch = Batch.of(data)
        check_rows_alone(batch, "an energy")
        return batch.numeric()

    def check(self, batch: Batch, point: bool) -> None:
        if point:
            raise ValueError(
                "method: EM() needs densities at a point, but an Energy is a function of expected "
                "statistics; take CAVI()"
            )
        if not self.by_row and batch.sharding is not None:
            raise ValueError(
                "x: an Energy without `local` needs all rows in one place; name its local factors, "
                "or gather the rows"
            )
        check_energy(self, batch)

    def check_on(self, data: Data) -> Energy:
        """The model itself, if its energy is sound at these rows, as every first fit asks.

        Raises ValueError naming the factor and its statistics.
        """
        self.check(self.as_batch(data), point=False)
        return self

    def row_size(self, batch: Batch) -> int:
        own = sum(int(np.prod(a.shape[1:])) for a in jax.tree.leaves(batch.x))
        if not self.by_row:
            return own + 1
        sizes = self.sizes
        local = sum(sizes[name] for name in self.locals)
        largest = max(sum(sizes[name] for name in block) for block in self.blocks)
        return (own + 4 * local + 2) * (self.table_size // (largest + 1))

    def init(
        self, key: Key[Array, ""] | None, batch: Batch, restart: Int[Array, ""] | int = 0
    ) -> EnergyParams:
        """Each factor about a draw from its posterior given about two rows of average content.

        It is as far from other starts as rows are from each other, so that equal factors differ.
        """
        assert key is not None  # `draws` says that there is one
        n = batch.weight.shape[0]
        if self.by_row and n > _MOST_ROWS:
            batch = batch.take(jnp.asarray(np.linspace(0, n - 1, _MOST_ROWS).astype(np.int32)))
        q = self.template
        stats = self.local(q.moments(), batch).stats
        total = jnp.sum(batch.weight)
        share = jnp.minimum(_FEW / jnp.where(total > 0, total, 1.0), 1.0)
        q = self._sweep(q, stats, 1.0, share)
        new = {}
        for i, (name, own) in enumerate(sorted(q.factors.items())):
            kind = self.factors[name].kind
            noise = jax.random.normal(jax.random.fold_in(key, i), kind.shape(own), total.dtype)
            new[name] = kind.moved(own, noise)
        return EnergyParams(new)

    def local(self, moments: dict[str, Any], batch: Batch) -> EStep:
        """The optimal q of every local factor, and the energy summed over rows as a table.

        Of a whole, log Z of a row is an equal share of the energy, and all rows are its statistics.
        """
        m = self._named(moments)
        if not self.by_row:
            total = self.nats(m, batch.x, batch.weight)
            if self.density is not None:
                total += self.density.mean(moments[self.density.name], _given(m, batch))
            log_z = jnp.broadcast_to(total / jnp.sum(batch.weight), batch.weight.shape)
            return EStep(WholeData(batch), log_z)
        local, log_z = self._local_factors(m, batch)
        own = {name: f.kind.statistics(local[name]) for name, f in self.locals.items()}

        def energy(*vectors: Array) -> Array:
            theta = {}
            for unravel, vector in zip(unravels, vectors, strict=True):
                theta.update(unravel(vector))
            return self.nats({**theta, **own}, batch.x, batch.weight)

        points, unravels = self._vectors(m)
        return EStep(tabulate(energy, points), log_z)

    def _local_factors(self, m: Moments, batch: Batch) -> tuple[dict[str, Any], Float[Array, "n"]]:
        """The optimal q of the local factors given the others, and log Z of every row.

        As e_n is affine in their statistics T, log Z_n = e_n(T = 0) + A(q_n) - A(prior).
        """
        n = batch.weight.shape[0]
        each = self.for_rows(n)
        at_origin = {name: f.kind.at_origin(f.prior) for name, f in each.items()}

        def energy(own: Moments, weight: Array) -> Array:
            return self.nats({**m, **own}, batch.x, weight)

        # the energy is linear in weights, so that its gradient by them is e_n
        slopes, log_z = jax.grad(energy, (0, 1))(at_origin, jnp.ones_like(batch.weight))
        local = {name: f.given(slopes[name]) for name, f in each.items()}
        for name, f in each.items():
            gain = local[name].log_normalizer() - f.log_normalizer()
            log_z = log_z + jnp.sum(gain.reshape(n, -1), -1)
        return local, log_z

    def row_posterior(self, q: Q, data: Data) -> dict[str, Any]:
        """The q of every local factor by name, with the rows as leading axis; q may be a Result."""
        if not self.by_row:
            raise ValueError("model: an Energy without `local` has no factors of single rows")
        own = q.q if isinstance(q, Fitted) else q
        if not isinstance(own, EnergyParams):
            raise TypeError(f"q: expected the q of a fit of an Energy, or a Result, got {own!r}")
        batch = replace(self.as_batch(data), names=None, levels=None, as_given=None)
        model, own = strong((self, own), batch.weight.dtype)
        return compiled(_row_posterior)(model, own, batch)

    def update(
        self, q: EnergyParams, stats: RowSums | WholeData, rate: ArrayLike = 1.0
    ) -> EnergyParams:
        """One sweep over the factors, each at its optimum given the others."""
        return self._sweep(q, stats, rate, 1.0)

    def _sweep(
        self, q: EnergyParams, stats: RowSums | WholeData, rate: ArrayLike, share: ArrayLike
    ) -> EnergyParams:
        """The sweep, with gradients of what rows say times `share`."""
        new, m = dict(q.factors), q.statistics()
        for i, block in enumerate(self.blocks):
            given = self._slopes(stats, m, i) if isinstance(stats, RowSums) else None
            for name in block:
                factor = self.factors[name]
                rows = (
                    given[name] if given is not None else self._slope_of_whole(stats, new, m, name)
                )
                slopes = jax.tree.map(
                    lambda a, b: a + share * b, self._slope_of_prior(m, name), rows
                )
                target = factor.given(slopes)
                density = self._density_of(name)
                if isinstance(stats, WholeData) and density is not None:
                    own = _given(m, stats.batch)
                    new[name] = density.step(new[name], target, own, share, rate)
                else:
                    new[name] = natural_step(new[name], target, rate)
                m = {**m, name: factor.kind.statistics(new[name])}
        return EnergyParams(new)

    def _slope_of_prior(self, m: Moments, name: str) -> Statistics:
        like = jax.tree.leaves(m[name])[0]
        return jax.grad(lambda own: self.prior_nats({**m, name: own}, like))(m[name])

    def _slopes(self, stats: RowSums, m: Moments, block: int) -> Moments:
        """The gradient of the energy of all rows by the statistics of one block."""
        points, unravels = self._vectors(m)
        return unravels[block](stats.along(block, points)[1:])

    def _density_of(self, name: str) -> ExpectedDensity | None:
        """The density whose draws are those of this factor, if any."""
        density = self.density
        return density if density is not None and density.name == name else None

    def _slope_of_whole(self, stats: Any, q: dict[str, Any], m: Moments, name: str) -> Statistics:
        """That of the energy, and of the density if its draws are those of another factor."""
        batch = stats.batch

        def energy(own: Statistics) -> Array:
            return self.nats({**m, name: own}, batch.x, batch.weight)

        slope = jax.grad(energy)(m[name])
        if self.density is None or self.density.name == name:
            return slope
        own = self.density.slope(q[self.density.name].moments(), _given(m, batch), name)
        return jax.tree.map(jnp.add, slope, own)

    def elbo_terms(self, q: EnergyParams, batch: Batch) -> dict[str, Float[Array, ""]]:
        if self.density is None:
            return super().elbo_terms(q, batch)
        return {"log_z": self._log_z_by_draws(q, batch)[0], "kl": -self.kl(q)}

    def estimate(self, q: EnergyParams, batch: Batch) -> tuple[Array, Array]:
        if self.density is None:
            return super().estimate(q, batch)
        log_z, error = self._log_z_by_draws(q, batch)
        return log_z - self.kl(q), error

    def _log_z_by_draws(self, q: EnergyParams, batch: Batch) -> tuple[Array, Array]:
        """The energy in nats with fresh draws, and its standard error."""
        assert self.density is not None
        m, name = q.statistics(), self.density.name
        slopes = jax.tree.map(
            jnp.add,
            self._slope_of_prior(m, name),
            self._slope_of_whole(WholeData(batch), q.factors, m, name),
        )
        rest = self.factors[name].given(slopes)
        mean, error = self.density.fresh(q[name], rest, _given(m, batch))
        return self.nats(m, batch.x, batch.weight) + mean, error

    def kl(self, q: EnergyParams) -> Float[Array, ""]:
        """KL(q || p) in nats, with the priors of free factors from `prior(m)`.

        Without `local` those are in the energy of the rows, and no part of it.
        """
        each = [factor.kl(q[name]) for name, factor in self.globals.items()]
        own = sum(each[1:], start=each[0])
        return own - self.prior_nats(q.statistics(), own)

    def expected_log_lik(self, q: EnergyParams, stats: RowSums) -> Float[Array, ""]:
        return stats.value(self._vectors(q.statistics())[0])

    def with_posterior_as_prior(self, q: EnergyParams) -> Energy:
        if self.prior_energy is not None or not self.by_row:
            raise ValueError(
                "model: an Energy whose prior is a function of several factors, or that has no "
                "`local`, cannot take a posterior as its prior"
            )
        new = {
            n: replace(f, prior=q[n], first=q[n], is_free=False) for n, f in self.globals.items()
        }
        factors = {**self.factors, **new}
        return Energy(factors, self.energy, local=self.local_names, blocks=self.blocks)


def _given(m: Moments, batch: Batch) -> Given:
    return Given(m, batch.x, batch.weight)


def _row_posterior(model: Energy, q: EnergyParams, batch: Batch) -> dict[str, Any]:
    return model._local_factors(q.statistics(), batch)[0]
