"""Rows of independent columns: one conjugate family for each column of each component."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..._pytree import replace
from ...data import weighted_means as averages
from ...data.batch import Batch
from ...data.host import as_floats, fetched, is_concrete
from ...numerics import linalg
from ..column_scale import check_matrix, refuse_noise
from ..emission import Emission

_I = TypeVar("_I", bound="Independent")


class Independent(Emission):
    """Components whose columns are independent, in one field.

    `each` holds a member for every component and column, (*b, d); results add over the columns.
    Moments have a field `each` too, the moments of `each`.
    """

    each: Any
    column_axes: ClassVar[int] = 1  # axes of the batch of `each` that results are summed over
    takes: ClassVar[str]  # what rows hold, in words

    def _total(self, values: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.sum(values, tuple(range(-self.column_axes, 0)))

    @property
    def num_columns(self) -> int:
        """d."""
        return self.mean.shape[-1]

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """E of the parameter."""
        return self.each.mean

    # -- the family -----------------------------------------------------------------------------

    def log_normalizer(self) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return self._total(self.each.log_normalizer())

    def expectation(self: _I) -> _I:
        """Column by column."""
        return replace(self, each=self.each.expectation())  # type: ignore[type-var]

    def mode(self) -> Any:
        """Column by column."""
        return self.each.mode()

    def log_kernel(self, moments: Any) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return self._total(self.each.log_kernel(moments.each))

    def kernel_gap(self, moments: Any) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return self._total(self.each.kernel_gap(moments.each))

    def expected_log_prob(self, moments: Any) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return self._total(self.each.expected_log_prob(moments.each))

    def kl(self, prior: Any) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return self._total(self.each.kl(prior.each))

    def entropy(self) -> Float[Array, "*b"]:
        """Sum over the columns, in nats."""
        return self._total(self.each.entropy())

    def log_prob(self, value: Any) -> Float[Array, "..."]:
        """Sum over the columns, in nats."""
        return self._total(self.each.log_prob(value))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Any:
        """Draws of every column's parameter."""
        return self.each.sample(key, shape)

    def about(self: _I, like: Any) -> _I:
        """Column by column."""
        return replace(self, each=self.each.about(like.each))  # type: ignore[type-var]

    # -- as a component -------------------------------------------------------------------------

    def check(self, rows: Batch) -> None:
        """Raise ValueError unless rows are (n, d), without noise, and values of this family."""
        refuse_noise(rows, f"a component family of {self.takes}")
        check_matrix(rows, self.num_columns)
        check_values(rows, self.valid, self.takes)

    @abc.abstractmethod
    def valid(self, x: Any) -> Any:
        """Which entries of a NumPy or JAX array are values of this family."""

    def num_parameters(self) -> tuple[int, int]:
        """One for each column."""
        return self.num_columns, 0


def check_values(rows: Batch, valid: Callable[[Any], Any], takes: str) -> None:
    """Raise ValueError naming column and row of the first entry that counts and is not valid."""
    if not is_concrete(rows.x, rows.weight, rows.mask):
        return
    x = as_floats("x", rows.x)
    good = valid(x)
    if bool(good.all()):
        return
    bad = ~good & (fetched(rows.weight) > 0)[:, None]
    if rows.mask is not None:
        bad &= fetched(rows.mask)
    if bool(bad.any()):
        row = int(bad.any(1).argmax())
        j = int(bad[row].argmax())
        name = f"{j}" if rows.names is None else f"{j} ({rows.names[j]})"
        raise ValueError(f"x: column {name} takes {takes}, got {float(x[row, j]):g} in row {row}")


def whole(x: Any) -> Any:
    """Which entries are whole numbers from 0 on."""
    return (x >= 0) & (x == x.round())


def known(rows: Batch) -> Float[Array, "n d"]:
    """Rows with 0 for missing entries."""
    return rows.x if rows.mask is None else jnp.where(rows.mask, rows.x, 0.0)


def per_seen(rows: Batch, value: Float[Array, "k d"]) -> Float[Array, "n k"]:
    """Sum of `value` over the observed columns of each row."""
    if rows.mask is None:
        return jnp.broadcast_to(jnp.sum(value, -1), (rows.x.shape[0], value.shape[0]))
    return linalg.matmul(rows.mask.astype(value.dtype), value.T)


def mass_seen(rows: Batch, soft_counts: Float[Array, "n k"]) -> Float[Array, "k d"]:
    """Mass of the observed entries of each column."""
    if rows.mask is None:
        return jnp.broadcast_to(
            jnp.sum(soft_counts, 0)[:, None], (soft_counts.shape[1], rows.x.shape[1])
        )
    return linalg.matmul(soft_counts.T, rows.mask.astype(soft_counts.dtype))


def share_seen(rows: Batch) -> Float[Array, "n d"]:
    """Weights of the observed entries, scaled to sum to one over each column."""
    return averages.shares(rows.x, rows.weight, rows.mask)


def impute(
    rows: Batch, mean: Float[Array, "k d"], variance: Float[Array, "k d"]
) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"]]:
    """The same for every row: given its component, columns tell nothing of each other."""
    shape = (rows.x.shape[0], *mean.shape)
    return jnp.broadcast_to(mean, shape), jnp.broadcast_to(variance, shape)
