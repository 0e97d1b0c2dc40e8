"""Rows of mixed type: a dict of columns, each with a component family of its own."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree, replace
from ..._text import count
from ...data.batch import Batch
from ...exponential_family import Compound
from ...kernel import Kernel
from ...numerics.broadcasting import broadcasts
from ..emission import Emission, EmissionMoments, Spread

_LONGEST_NAMES = 40  # characters of the names of columns in a short form


@pytree
class ColumnsMoments(EmissionMoments):
    """Moments of every column's family."""

    parts: dict[str, Any]

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], dict[str, Any]]:
        """Sum of the log-densities of the columns, and the row posteriors by column."""
        each = {name: part.likelihood(rows.column(name)) for name, part in self.parts.items()}
        return _sum(log_lik for log_lik, _ in each.values()), {n: v for n, (_, v) in each.items()}

    def log_distance(self, rows: Batch) -> Float[Array, "n k"] | None:
        """The largest of the columns."""
        each = [part.log_distance(rows.column(name)) for name, part in self.parts.items()]
        known = [value for value in each if value is not None]
        return functools.reduce(jnp.maximum, known) if known else None

    def log_density(self, rows: Batch, factor: Any = None) -> Float[Array, "n k"]:
        parts = self.parts.items()
        return _sum(part.log_density(rows.column(name), factor) for name, part in parts)

    def impute(self, rows: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
        """Mean and variance (n, k, d) of every entry, or of codes probabilities, by column."""
        each = {name: part.impute(rows.column(name)) for name, part in self.parts.items()}
        return {n: mean for n, (mean, _) in each.items()}, {n: v for n, (_, v) in each.items()}

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """What a table shows of each column, labelled with the name of the column."""
        return _describe(self.parts)


@pytree
class Columns(Compound, Emission):
    """A product of component families over the columns of a table, `parts` by name.

    The columns of a row are independent given its component. A part may itself hold several
    correlated columns, as an (n, d) array.
    """

    parts: dict[str, Any]
    takes_exposure: ClassVar[bool] = True  # the parts are asked, each for its own

    @property
    def separable(self) -> bool:  # type: ignore[override]
        """Whether every part is separable."""
        return all(part.separable for part in self.parts.values())

    def words(self) -> list[str]:
        names = ", ".join(self.parts)
        number = count(len(self.parts), "part")
        return [f"columns {names}" if len(names) <= _LONGEST_NAMES else number]

    def _total(self, fn: Callable[..., Array], *others: Any) -> Float[Array, "..."]:
        """Sum over the parts for each component, or over all components if one is not separable."""
        parts = {n: (part, *[o.parts[n] for o in others]) for n, part in self.parts.items()}
        terms = {name: fn(*each) for name, each in parts.items()}
        if self.separable:
            return _sum(terms.values())
        return _sum(
            terms[name].sum(-1) if part.separable else terms[name]
            for name, part in self.parts.items()
        )

    def _map_parts(self, fn: Callable[..., Any], *others: Any) -> Columns:
        parts = self.parts.items()
        return Columns({name: fn(part, *[o.parts[name] for o in others]) for name, part in parts})

    # -- the family -----------------------------------------------------------------------------

    def moments(self) -> ColumnsMoments:
        return ColumnsMoments({name: part.moments() for name, part in self.parts.items()})

    def point(self) -> ColumnsMoments:
        return ColumnsMoments({name: part.point() for name, part in self.parts.items()})

    def point_at(self, value: dict[str, Any]) -> ColumnsMoments:
        parts = self.parts.items()
        return ColumnsMoments({name: part.point_at(value[name]) for name, part in parts})

    def mode(self) -> dict[str, Any]:
        return {name: part.mode() for name, part in self.parts.items()}

    @broadcasts
    def log_prob(self, value: dict[str, Any]) -> Float[Array, "..."]:
        """log p(value) in nats, for a dict of values by column."""
        return self._total(lambda f, v: f.log_prob(v), ColumnsMoments(value))

    @broadcasts
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> dict[str, Any]:
        """Draws of every column's parameters, by name."""
        keys = jax.random.split(key, len(self.parts))
        parts = zip(keys, self.parts.items(), strict=True)
        return {name: part.sample(k, shape) for k, (name, part) in parts}

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """What a table shows of each column, labelled with the name of the column."""
        return _describe(self.parts)

    # -- as components --------------------------------------------------------------------------

    @property
    def recodes(self) -> bool:
        """Whether a part is."""
        return any(part.recodes for part in self.parts.values())

    def as_batch(self, rows: Batch) -> Batch:
        """The rows, with a data frame as a dict of columns, and texts as codes."""
        rows = rows.by_name()
        if not isinstance(rows.x, dict):
            return rows
        known = dict(rows.levels or ())
        for name, part in self.parts.items():
            if name in rows.x and (part.recodes or name in known):
                own = rows.column(name)
                named = replace(own, names=(name,) * own.x.shape[1])
                rows = rows.with_column(name, part.as_batch(named))
        return replace(rows, as_given=rows.as_given and self.as_batch(rows.as_given))

    def decode(self, x: dict[str, Any]) -> dict[str, Any]:
        """Columns with levels in place of codes."""
        return {name: _decode(part, x[name]) for name, part in self.parts.items()}

    def check(self, rows: Batch) -> None:
        """Raise ValueError unless rows are a dict with these columns and their kinds of values."""
        if not isinstance(rows.x, dict):
            raise ValueError(
                f"x: expected a dict of the columns {', '.join(self.parts)}, "
                f"or a data frame with them, got an array of shape {rows.x.shape}"
            )
        if set(rows.x) != set(self.parts):
            raise ValueError(
                f"x: expected the columns {', '.join(sorted(self.parts))}; "
                f"got {', '.join(sorted(rows.x))}"
            )
        for name, part in self.parts.items():
            try:
                part.check_rows(rows.column(name))
            except ValueError as error:
                raise ValueError(f"column {name!r}: {error}") from None

    def observe(
        self,
        rows: Batch,
        soft_counts: Float[Array, "n k"],
        moments: ColumnsMoments,
        row_posterior: Any,
    ) -> Columns:
        return Columns(
            {
                name: part.observe(
                    rows.column(name),
                    soft_counts,
                    None if moments is None else moments.parts[name],
                    None if row_posterior is None else row_posterior[name],
                )
                for name, part in self.parts.items()
            }
        )

    def kernels(self, rows: Batch, moments: ColumnsMoments) -> tuple[Kernel, ...]:
        """The exact moments, preceded by the fastest of every column if one has several.

        They cannot be fused, because log-densities of columns are added before rows are assigned.
        """
        exact = super().kernels(rows, moments)
        parts = self.parts.items()
        own = {n: part.kernels(rows.column(n), moments.parts[n]) for n, part in parts}
        if all(len(each) == 1 for each in own.values()):
            return exact
        first = {name: each[0] for name, each in own.items()}
        fast = Kernel(
            ColumnsMoments({name: kernel.moments for name, kernel in first.items()}),
            sum(kernel.row_size for kernel in first.values()),
            functools.reduce(jnp.logical_and, [kernel.reliable for kernel in first.values()]),
            functools.reduce(jnp.maximum, [kernel.error for kernel in first.values()]),
        )
        return (fast, *exact)

    def embed(self, rows: Batch) -> Float[Array, "n f"]:
        """The points of all columns, concatenated."""
        points = [part.embed(rows.column(name)) for name, part in self.parts.items()]
        return jnp.concatenate(points, -1)

    def seed(
        self, rows: Batch, seeds: Int[Array, "k"], count: Float[Array, "k"], spread: Spread = 1.0
    ) -> Columns:
        parts = self.parts.items()
        return Columns({n: part.seed(rows.column(n), seeds, count, spread) for n, part in parts})

    def log_predictive(self, rows: Batch) -> Float[Array, "n k"]:
        return _sum(part.log_predictive(rows.column(n)) for n, part in self.parts.items())

    def draw(self, key: Key[Array, ""], index: Int[Array, "n"]) -> dict[str, Any]:
        """A dict of columns, each (n, d)."""
        keys = jax.random.split(key, len(self.parts))
        parts = zip(keys, self.parts.items(), strict=True)
        return {name: part.draw(k, index) for k, (name, part) in parts}

    def num_parameters(self) -> tuple[int, int]:
        each, shared = zip(*(part.num_parameters() for part in self.parts.values()), strict=True)
        return sum(each), sum(shared)

    def row_size(self, rows: Batch) -> int:
        return sum(part.row_size(rows.column(name)) for name, part in self.parts.items())

    def expected_log_lik(self, stats: Columns) -> Float[Array, ""]:
        parts = self.parts.items()
        return _sum(part.expected_log_lik(stats.parts[name]) for name, part in parts)

    def log_prior(self, moments: ColumnsMoments, active: Bool[Array, "k"]) -> Float[Array, ""]:
        parts = self.parts.items()
        return _sum(part.log_prior(moments.parts[name], active) for name, part in parts)

    def fix(self, which: Bool[Array, "k"], values: Any) -> Columns:
        return self._map_parts(lambda f, v: f.fix(which, v), values)

    def unseen(self, prior: Columns) -> Columns:
        return self._map_parts(lambda f, p: f.unseen(p), prior)

    def take(self, order: Int[Array, "m"]) -> Columns:
        return self._map_parts(lambda f: f.take(order))

    def extend(self, prior: Any) -> Columns:
        return self._map_parts(lambda f, p: f.extend(p), prior)

    def exchangeable(self) -> Bool[Array, ""]:
        """Whether all components have the same parameters in every column."""
        return functools.reduce(
            operator.and_, [part.exchangeable() for part in self.parts.values()]
        )

    def collapsed(self, count: Float[Array, "k"]) -> Bool[Array, "k"]:
        """Which components are at a singularity in any column."""
        parts = [part.collapsed(count) for part in self.parts.values()]
        return functools.reduce(operator.or_, parts)

    def merge_gain(self, prior: Columns) -> Float[Array, "k k"]:
        return _sum(part.merge_gain(prior.parts[name]) for name, part in self.parts.items())


def _decode(part: Emission, x: Any) -> Any:
    return part.decode(x) if x.ndim > 1 else part.decode(x[:, None])[:, 0]


def _sum(terms: Any) -> Any:
    return functools.reduce(jnp.add, terms)


def _describe(parts: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, part in parts.items():
        for label, values in part.describe(None).items():
            head, _, tail = label.partition("x0")
            single = tail == "" or not tail[0].isdigit()
            out[f"{head}{name}{tail}" if head != label and single else f"{name}: {label}"] = values
    return out
