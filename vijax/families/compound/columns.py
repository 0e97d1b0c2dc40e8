"""Rows of mixed type: a dict of columns, each with a component family of its own."""

from __future__ import annotations

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..._pytree import pytree
from ...data.batch import Batch
from ...kernel import Kernel
from ..emission import Emission, EmissionMoments


@pytree
class ColumnsMoments(EmissionMoments):
    """Moments of every column's family."""

    parts: dict[str, Any]

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], dict[str, Any]]:
        """Sum of the columns' log-densities: given the component they are independent."""
        found = {name: part.likelihood(rows.column(name)) for name, part in self.parts.items()}
        return _sum(log_lik for log_lik, _ in found.values()), {n: v for n, (_, v) in found.items()}

    def impute(self, rows: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
        """Each column's, (n, k, d) by name."""
        found = {name: part.impute(rows.column(name)) for name, part in self.parts.items()}
        return {n: mean for n, (mean, _) in found.items()}, {
            n: var for n, (_, var) in found.items()
        }

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """What each column's family says, under the column's name."""
        return _describe(self.parts)


@pytree
class Columns(Emission):
    """A product of component families over the columns of a table, `parts` by name.

    Given its component a row's columns are independent; a part may itself hold several correlated
    columns, as an (n, d) array.
    """

    parts: dict[str, Any]

    @property
    def separable(self) -> bool:  # type: ignore[override]
        """Whether every part is."""
        return all(part.separable for part in self.parts.values())

    def _total(self, fn: Any, *others: Any) -> Float[Array, "..."]:
        """Of each component; in all, where a part has one number for all components."""
        terms = {n: fn(part, *[o[n] for o in others]) for n, part in self.parts.items()}
        if self.separable:
            return _sum(terms.values())
        each = self.parts.items()
        return _sum(terms[n].sum(-1) if part.separable else terms[n] for n, part in each)

    def _map(self, fn: Any, *others: Any) -> Columns:
        parts = self.parts.items()
        return Columns({name: fn(part, *[o[name] for o in others]) for name, part in parts})

    # -- the family -----------------------------------------------------------------------------

    def log_normalizer(self) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return self._total(lambda f: f.log_normalizer())

    def expectation(self) -> Columns:
        """Column by column."""
        return self._map(lambda f: f.expectation())

    def moments(self) -> ColumnsMoments:
        """Column by column."""
        return ColumnsMoments({name: part.moments() for name, part in self.parts.items()})

    def point(self) -> ColumnsMoments:
        """Column by column."""
        return ColumnsMoments({name: part.point() for name, part in self.parts.items()})

    def mode(self) -> dict[str, Any]:
        """Column by column."""
        return {name: part.mode() for name, part in self.parts.items()}

    def log_kernel(self, moments: ColumnsMoments) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return self._total(lambda f, m: f.log_kernel(m), moments.parts)

    def kernel_gap(self, moments: ColumnsMoments) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return self._total(lambda f, m: f.kernel_gap(m), moments.parts)

    def expected_log_prob(self, moments: ColumnsMoments) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return self._total(lambda f, m: f.expected_log_prob(m), moments.parts)

    def kl(self, prior: Columns) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return self._total(lambda f, p: f.kl(p), prior.parts)

    def entropy(self) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return self._total(lambda f: f.entropy())

    def log_prob(self, value: dict[str, Any]) -> Float[Array, "..."]:
        """Sum over the columns, in nats; `value` by column."""
        return self._total(lambda f, v: f.log_prob(v), value)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> dict[str, Any]:
        """Draws of every column's parameters, by name."""
        keys = jax.random.split(key, len(self.parts))
        parts = zip(keys, self.parts.items(), strict=True)
        return {name: part.sample(k, shape) for k, (name, part) in parts}

    def about(self, like: Any) -> Columns:
        """Every column in the gauge of `like`."""
        return self._map(lambda f, o: f.about(o), like.parts)

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """What each column's family says, under the column's name."""
        return _describe(self.parts)

    # -- as components --------------------------------------------------------------------------

    def as_batch(self, rows: Batch) -> Batch:
        """Frames column by column."""
        return rows.by_name()

    def check(self, rows: Batch) -> None:
        """Raise ValueError unless rows are a dict with these columns, each of its own kind."""
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
                part.check(rows.column(name))
            except ValueError as error:
                raise ValueError(f"column {name!r}: {error}") from None

    def observe(
        self,
        rows: Batch,
        soft_counts: Float[Array, "n k"],
        moments: ColumnsMoments,
        row_posterior: Any,
    ) -> Columns:
        """Column by column."""
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
        """Every column's fastest, if a column has more than the exact one.

        Nothing is fused: the columns' log-densities add up before rows are assigned.
        """
        exact = super().kernels(rows, moments)
        parts = self.parts.items()
        found = {n: part.kernels(rows.column(n), moments.parts[n]) for n, part in parts}
        if all(len(each) == 1 for each in found.values()):
            return exact
        first = {name: each[0] for name, each in found.items()}
        fast = Kernel(
            ColumnsMoments({name: kernel.moments for name, kernel in first.items()}),
            sum(kernel.row_size for kernel in first.values()),
            functools.reduce(jnp.logical_and, [kernel.reliable for kernel in first.values()]),
            functools.reduce(jnp.maximum, [kernel.error for kernel in first.values()]),
        )
        return (fast, *exact)

    def embed(self, rows: Batch) -> Float[Array, "n f"]:
        """All columns beside each other, so that each counts alike."""
        points = [part.embed(rows.column(name)) for name, part in self.parts.items()]
        return jnp.concatenate(points, -1)

    def seed(
        self, rows: Batch, seeds: Int[Array, "k"], count: Float[Array, "k"], spread: Any = 1.0
    ) -> Columns:
        """Column by column, from the same rows."""
        parts = self.parts.items()
        return Columns({n: part.seed(rows.column(n), seeds, count, spread) for n, part in parts})

    def log_predictive(self, rows: Batch) -> Float[Array, "n k"]:
        """Sum over the columns, in nats."""
        return _sum(part.log_predictive(rows.column(n)) for n, part in self.parts.items())

    def draw(self, key: Key[Array, ""], index: Int[Array, "n"]) -> dict[str, Any]:
        """A dict of columns, each (n, d)."""
        keys = jax.random.split(key, len(self.parts))
        parts = zip(keys, self.parts.items(), strict=True)
        return {name: part.draw(k, index) for k, (name, part) in parts}

    def num_parameters(self) -> tuple[int, int]:
        """Sum over the columns."""
        each, shared = zip(*(part.num_parameters() for part in self.parts.values()), strict=True)
        return sum(each), sum(shared)

    def row_size(self, rows: Batch) -> int:
        """Sum over the columns."""
        return sum(part.row_size(rows.column(name)) for name, part in self.parts.items())

    def expected_log_lik(self, stats: Columns) -> Float[Array, ""]:
        """Sum over the columns, in nats."""
        parts = self.parts.items()
        return _sum(part.expected_log_lik(stats.parts[name]) for name, part in parts)

    def log_prior(self, moments: ColumnsMoments, active: Bool[Array, "k"]) -> Float[Array, ""]:
        """Sum over the columns, in nats."""
        parts = self.parts.items()
        return _sum(part.log_prior(moments.parts[name], active) for name, part in parts)

    def fix(self, which: Bool[Array, "k"], values: Any) -> Columns:
        """Column by column."""
        return self._map(lambda f, v: f.fix(which, v), values.parts)

    def unseen(self, prior: Any) -> Columns:
        """Column by column."""
        return self._map(lambda f, p: f.unseen(p), prior.parts)

    def take(self, order: Int[Array, "m"]) -> Columns:
        """The components of these indices."""
        return self._map(lambda f: f.take(order))

    def exchangeable(self) -> Bool[Array, ""]:
        """Whether they are in every column."""
        return functools.reduce(
            operator.and_, [part.exchangeable() for part in self.parts.values()]
        )

    def collapsed(self, count: Float[Array, "k"]) -> Bool[Array, "k"]:
        """Whether they are in any column."""
        parts = [part.collapsed(count) for part in self.parts.values()]
        return functools.reduce(operator.or_, parts)

    def merge_gain(self, prior: Any) -> Float[Array, "k k"]:
        """Sum over the columns, in nats."""
        return _sum(part.merge_gain(prior.parts[name]) for name, part in self.parts.items())


def _sum(terms: Any) -> Any:
    return functools.reduce(jnp.add, terms)


def _describe(parts: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, part in parts.items():
        for label, values in part.describe(None).items():
            head, _, rest = label.partition("x0")
            single = rest == "" or not rest[0].isdigit()
            out[f"{head}{name}{rest}" if head != label and single else f"{name}: {label}"] = values
    return out
