"""What a model of one's own is made of: its factors and its energies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ...model import ConditionalModel
from .expected_density import ExpectedDensity, Given
from .factor import Factor
from .kinds import Statistics
from .params import EnergyParams
from .sums import RowSums, WholeData

Moments = dict[str, Statistics]  # expected statistics of every factor by name


class EnergyTerms(ConditionalModel):
    """The factors and energies of an `Energy`, whose fields these are.

    `blocks` has the names of all factors but the local ones, in the order of their updates.
    """

    factors: dict[str, Factor]
    energy: Callable[..., Any]
    local_names: tuple[str, ...] | None
    prior_energy: Callable[..., Any] | None
    blocks: tuple[tuple[str, ...], ...]
    density: ExpectedDensity | None

    @property
    def by_row(self) -> bool:  # type: ignore[override]
        """Whether rows are independent given the factors, as those of an energy with `local`."""
        return self.local_names is not None

    @property
    def globals(self) -> dict[str, Factor]:
        """The factors that are not local, in the order of their updates."""
        return {name: self.factors[name] for block in self.blocks for name in block}

    @property
    def locals(self) -> dict[str, Factor]:
        """The factors with one member per row."""
        return {name: self.factors[name] for name in self.local_names or ()}

    def nats(self, m: Moments, rows: Any, weight: Array) -> Float[Array, ""]:
        """The energy in nats."""
        return jnp.asarray(self.energy(m, rows, weight), weight.dtype)

    def density_at(self, w: Array | None, m: Moments, rows: Any, weight: Array) -> Array:
        """The log density in nats at a value of its factor; 0 if there is none."""
        if self.density is None or w is None:
            return jnp.zeros((), weight.dtype)
        return self.density.at(w, Given(m, rows, weight))

    def prior_nats(self, m: Moments, like: Array) -> Float[Array, ""]:
        """The energy in nats of what no row has, in the dtype of `like`."""
        if self.prior_energy is None:
            return jnp.zeros((), like.dtype)
        return jnp.asarray(self.prior_energy(m), like.dtype)

    @property
    def table_size(self) -> int:
        """How many numbers a sum over rows has, with `local`."""
        sizes = self.sizes
        return math.prod(1 + sum(sizes[name] for name in block) for block in self.blocks)

    @property
    def sizes(self) -> dict[str, int]:
        """The number of statistics of each factor, of a local one for a row."""
        found = jax.eval_shape(_first_statistics, self.factors)
        return {name: sum(a.size for a in jax.tree.leaves(m)) for name, m in found.items()}

    def magnitude(self, q: EnergyParams, stats: RowSums | WholeData) -> Float[Array, ""]:
        """sum |E[T] dE/dE[T]| in nats over all statistics T of the factors.

        Of an energy that is affine in each, this is the size of its terms, but for constants.
        """
        m = q.statistics()
        points, _ = self._vectors(m)

        def energy(m: Moments) -> Array:
            own = self.prior_nats(m, points[0])
            if isinstance(stats, WholeData):
                own += self.nats(m, stats.batch.x, stats.batch.weight)
            return own

        slopes, _ = self._vectors(jax.grad(energy)(m))
        if isinstance(stats, RowSums):
            slopes = [g + stats.along(b, points)[1:] for b, g in enumerate(slopes)]
        each = [jnp.sum(jnp.abs(v * g)) for v, g in zip(points, slopes, strict=True)]
        return sum(each[1:], start=each[0])

    def for_rows(self, n: int) -> dict[str, Factor]:
        """The local factors of n rows."""

        def repeat(a: Array) -> Array:
            return jnp.broadcast_to(jnp.asarray(a)[None], (n, *jnp.shape(a)))

        return {name: jax.tree.map(repeat, factor) for name, factor in self.locals.items()}

    # -- moments by name and as vectors ----------------------------------------------------------

    def _named(self, moments: dict[str, Any]) -> Moments:
        return {n: f.kind.of_moments(moments[n]) for n, f in self.globals.items()}

    def _vectors(self, m: Moments) -> tuple[list[Array], list[Callable[[Array], Moments]]]:
        """The moments of every block as a vector, and the ways back."""
        both = [ravel_pytree({name: m[name] for name in block}) for block in self.blocks]
        return [vector for vector, _ in both], [unravel for _, unravel in both]


def _first_statistics(factors: dict[str, Factor]) -> Moments:
    return {name: factor.kind.statistics(factor.first) for name, factor in factors.items()}
