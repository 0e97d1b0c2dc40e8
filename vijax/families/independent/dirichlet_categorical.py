"""Dirichlet prior on the probabilities of categorical rows: codes of unordered classes."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ..._pytree import pytree, replace, static
from ...data.batch import Batch
from ...data.host import as_floats, fetched, is_concrete, to_device
from ...data.levels import ArrayLevels, Levels, decoded, is_plain, plain
from ...numerics import linalg
from ..dirichlet import CategoricalMoments, Dirichlet
from ..emission import EmissionMoments
from .base import Independent, share_seen, whole

_C = TypeVar("_C", bound="Categories")


def log_lik_of_counts(
    count: Float[Array, "n c"], log_p: Float[Array, "k c"]
) -> Float[Array, "n k"]:
    """sum_c count_nc log_p_kc with 0 * (-inf) = 0, for counts that are 0 or at least 1."""
    never = 1e-3 * jnp.finfo(count.dtype).max  # more nats than counts up to 1e30 can lose
    log_lik = linalg.matmul(count, jnp.where(jnp.isneginf(log_p), -never, log_p).T)
    return jnp.where(log_lik < -0.5 * never, -jnp.inf, log_lik)


class CategoriesMoments(EmissionMoments):
    """Moments of `Categories`: log-probabilities under q, or at a point."""

    each: CategoricalMoments

    @property
    def p(self) -> Float[Array, "*b d c"]:
        """Probabilities at a point, their geometric means under q."""
        return self.each.mean

    @abc.abstractmethod
    def indicators(self, rows: Batch) -> Float[Array, "n d c"]:
        """1 for the category of each entry; 0 for the others, and where it is missing."""

    def log_lik(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """E[log p(x_n | p_k)] in nats, summed over the columns; -inf for an impossible row."""
        return self.likelihood(Batch(x, jnp.ones_like(x[:, 0])))[0]

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], None]:
        seen, log_p = self.indicators(rows), self.each.log_p
        n, k = seen.shape[0], log_p.shape[0]
        return log_lik_of_counts(seen.reshape(n, -1), log_p.reshape(k, -1)), None


class Categories(Independent):
    """Columns with c log-probabilities each, whose rows count categories: `each` is a Dirichlet."""

    each: Dirichlet
    parameter: ClassVar[str] = "p"

    def indicators(self, rows: Batch) -> Float[Array, "n d c"]:
        """As of the moments."""
        return self.point().indicators(rows)

    @property
    @abc.abstractmethod
    def _possible(self) -> Any:
        """1 for the categories that each column has and 0 for others, (d, c)."""

    @property
    def _known(self) -> Dirichlet:
        # a component with neither rows nor a prior has weight 0, but must stay finite
        some = self.each.total[..., None] > 0
        return Dirichlet(
            jnp.where(some, self.each.conc, jnp.asarray(self._possible, self.each.conc.dtype))
        )

    def observe(
        self: _C,
        rows: Batch,
        soft_counts: Float[Array, "n k"],
        moments: Any = None,
        row_posterior: Any = None,
    ) -> _C:
        """conc = sum over rows of soft counts times indicators."""
        seen = self.indicators(rows)
        count = linalg.matmul(soft_counts.T, seen.reshape(seen.shape[0], -1))
        each = Dirichlet(count.reshape(soft_counts.shape[1], *seen.shape[1:]))
        return replace(self, each=each)  # type: ignore[type-var]

    def log_predictive(self, rows: Batch) -> Float[Array, "n k"]:
        """Sum of log E[p] of the observed categories, in nats."""
        return self.point().likelihood(rows)[0]

    def row_size(self, rows: Batch) -> int:
        k, d, c = self.each.conc.shape
        return 2 * d * c + 3 * k


@pytree
class CategoricalRowsMoments(CategoriesMoments):
    """E[log p] of every category of every column, or log p at a point."""

    each: CategoricalMoments
    levels: tuple[Levels, ...] = static()

    def indicators(self, rows: Batch) -> Float[Array, "n d c"]:
        """1 for the category of each entry; 0 for the others, and where it is missing."""
        return one_hot(rows, self.each.log_p.shape[-1])

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """The probability of every category of every column."""
        return _describe(self.p, self.levels, names)

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k d c"], None]:
        """The probability of each level; codes have no mean."""
        return jnp.broadcast_to(self.p, (rows.x.shape[0], *self.p.shape)), None


@pytree
class DirichletCategorical(Categories):
    """x_nd ~ Categorical(p_kd) with p_kd ~ Dirichlet(conc): codes 0, 1, ... as floats.

    `levels` are what the codes of each column stand for, 0, 1, ... themselves by default; conc is 0
    beyond their number. T and h are those of Dirichlet.
    """

    each: Dirichlet
    levels: tuple[Levels, ...] = static()
    takes = "codes 0, 1, ..., below its number of categories"

    @classmethod
    def from_standard(cls, conc: Any) -> DirichletCategorical:
        """Prior pseudo-counts (*b, d, c), > 0 for the categories of a column and 0 beyond.

        Raises ValueError if the number of categories of a column differs between components.
        """
        each = Dirichlet.from_standard(conc)
        d, c = each.conc.shape[-2:]
        if not is_concrete(conc):
            return cls(each, plain((c,) * d))
        # of the argument: inside of jit, what was moved to the device is traced
        on = fetched(conc).reshape(-1, d, c) > 0
        sizes = on[0].sum(-1)
        if (on != (np.arange(c) < sizes[:, None])).any() or (sizes == 0).any():
            raise ValueError(
                "conc: must be > 0 for the first categories of a column and 0 for those beyond "
                "its number, the same in every component"
            )
        return cls(each, plain(int(size) for size in sizes))

    @classmethod
    def flat(cls, k: int, sizes: tuple[int, ...], dtype: Any) -> DirichletCategorical:
        """A flat prior (conc = 0) for columns of these numbers of categories."""
        return cls(Dirichlet(to_device(np.zeros((k, len(sizes), max(sizes))), dtype)), plain(sizes))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of categories of each column."""
        return tuple(len(own) for own in self.levels)

    def with_levels(self, levels: ArrayLevels | None) -> DirichletCategorical:
        """The same prior, whose codes stand for these levels; None leaves those of a column.

        Raises ValueError if a column has another number of categories.
        """
        if levels is None:
            return self
        every = tuple(own or known for own, known in zip(levels, self.levels, strict=True))
        for own, known in zip(every, self.levels, strict=True):
            if len(own) != len(known):
                raise ValueError(
                    f"category_conc: of {len(known)} categories for a column of {len(own)}"
                )
        return replace(self, levels=every)

    @property
    def recodes(self) -> bool:
        """Whether some levels are not their own codes."""
        return not all(is_plain(own) for own in self.levels)

    def as_batch(self, rows: Batch) -> Batch:
        """Rows as codes; ValueError naming a level that the model does not know."""
        x = rows.x
        fits = not isinstance(x, dict) and x.ndim == 2 and x.shape[1] == len(self.levels)
        return rows.coded(self.levels) if fits else rows

    def decode(self, x: Any) -> Any:
        """Codes (..., d) as levels: numbers, or objects of NumPy if there are texts."""
        return decoded(x, self.levels) if self.recodes else x

    @property
    def _possible(self) -> Any:
        return np.arange(self.each.size) < np.asarray(self.sizes)[:, None]

    @property
    def num_columns(self) -> int:
        return len(self.levels)

    @property
    def p(self) -> Float[Array, "*b d c"]:
        """Expected probability of each category."""
        return self.each.mean

    @property
    def p_sd(self) -> Float[Array, "*b d c"]:
        """Posterior standard deviation of each probability."""
        return self.each.sd

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """Expected probability of every category of every column."""
        return _describe(self.p, self.levels, names)

    def valid(self, x: Any) -> Any:
        """True for whole numbers from 0 to below the column's number of categories."""
        return whole(x) & (x < np.asarray(self.sizes, x.dtype))

    def moments(self) -> CategoricalRowsMoments:
        return CategoricalRowsMoments(self._known.moments(), self.levels)

    def point(self) -> CategoricalRowsMoments:
        return CategoricalRowsMoments(self._known.point(), self.levels)

    def point_at(self, value: Float[Array, "k d c"]) -> CategoricalRowsMoments:
        return CategoricalRowsMoments(CategoricalMoments.at(value), self.levels)

    def embed(self, rows: Batch) -> Float[Array, "n f"]:
        """Centred indicators, scaled so that the variances of every column sum to 1."""
        seen = self.indicators(rows)
        share = share_seen(rows)
        mean = jnp.sum(share[:, :, None] * seen, 0)
        variance = jnp.sum(mean * (1.0 - mean), -1)
        scale = jnp.sqrt(jnp.where(variance > 0, variance, 1.0))[:, None]
        z = (seen - mean[None]) / scale[None]
        z = z if rows.mask is None else jnp.where(rows.mask[:, :, None], z, 0.0)
        return z.reshape(z.shape[0], -1)

    def draw(self, key: Key[Array, ""], index: Int[Array, "n"]) -> Float[Array, "n d"]:
        """Rows of codes, drawn with the expected probabilities."""
        log_p = self.point().each.log_p[index]
        return jax.random.categorical(key, log_p).astype(log_p.dtype)

    def num_parameters(self) -> tuple[int, int]:
        """Every column has one free parameter less than categories."""
        return sum(self.sizes) - len(self.sizes), 0


def one_hot(rows: Batch, c: int) -> Float[Array, "n d c"]:
    """1 for the code of each entry; 0 for the others, and where it is missing."""
    hot = rows.x[:, :, None] == jnp.arange(c, dtype=rows.x.dtype)[None, None]
    hot = hot if rows.mask is None else hot & rows.mask[:, :, None]
    return hot.astype(rows.x.dtype)


def levels_of(rows: Batch) -> tuple[Levels, ...]:
    """The levels of each column: those that it brings, else 0, 1, ..., or its codes if some miss.

    Raises ValueError for traced rows without levels.
    """
    have = rows.levels or (None,) * rows.x.shape[1]
    if all(own is not None for own in have):
        return have
    if not is_concrete(rows.x, rows.weight, rows.mask):
        raise ValueError("num_categories: must be given where x is traced")
    x = fetched(as_floats("x", rows.x))
    used = np.broadcast_to((fetched(rows.weight) > 0)[:, None], x.shape)
    used = used if rows.mask is None else used & fetched(rows.mask)
    return tuple(
        tuple(np.unique(x[used[:, j], j]).astype(int).tolist()) or (0,) if own is None else own
        for j, own in enumerate(have)
    )


def _describe(p: Array, levels: tuple[Levels, ...], names: list[str] | None) -> dict[str, Any]:
    names = names or [f"x{j}" for j in range(len(levels))]
    columns = enumerate(zip(names, levels, strict=True))
    return {
        f"p {name}={level}": p[..., j, c]
        for j, (name, own) in columns
        for c, level in enumerate(own)
    }
