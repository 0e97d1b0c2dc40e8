"""Components with independent columns, each of which has a member of one conjugate family."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._text import count
from ...data import weighted_means as averages
from ...data.batch import Batch
from ...data.host import as_floats, fetched, is_concrete
from ...exponential_family import Lifted
from ...numerics import linalg
from ..column_scale import check_matrix, refuse_noise
from ..emission import Emission

_I = TypeVar("_I", bound="Independent")


class Independent(Lifted, Emission):
    """Components whose columns are independent, in one field `each`.

    `each` is a family with one member per component and column, (*b, d). Results are sums over the
    columns. Moments have a field `each` as well, with the moments of `each`.
    """

    each: Any
    part: ClassVar[str] = "each"
    column_axes: ClassVar[int] = 1  # number of batch axes of `each` that results are summed over
    takes: ClassVar[str]  # the values that rows hold, in words

    def _reduce(self, values: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.sum(values, tuple(range(-self.column_axes, 0)))

    @property
    def num_columns(self) -> int:
        """Number of columns d."""
        return self.mean.shape[-1]

    @property
    def mean(self) -> Float[Array, "*b d"]:
        """Expectation of the parameter of each column."""
        return self.each.mean

    # -- as a component -------------------------------------------------------------------------

    def words(self) -> list[str]:
        return [count(self.num_columns, "column")]

    def check(self, rows: Batch) -> None:
        """Raise ValueError unless rows are (n, d), without noise, and values of this family."""
        refuse_noise(rows, f"a component family of {self.takes}")
        check_matrix(rows, self.num_columns)
        check_values(rows, self.valid, self.takes)

    @abc.abstractmethod
    def valid(self, x: Any) -> Any:
        """True for the entries of a NumPy or JAX array that are values of this family."""

    def num_parameters(self) -> tuple[int, int]:
        return self.num_columns, 0


def check_values(rows: Batch, valid: Callable[[Any], Any], takes: str) -> None:
    """Raise ValueError naming column and row of the first observed entry that is not valid."""
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
    """True for whole numbers >= 0."""
    return (x >= 0) & (x == x.round())


def known(rows: Batch) -> Float[Array, "n d"]:
    """The rows with 0 in place of missing entries."""
    return rows.x if rows.mask is None else jnp.where(rows.mask, rows.x, 0.0)


def per_seen(rows: Batch, value: Float[Array, "k d"]) -> Float[Array, "n k"]:
    """Sum of `value` over the observed columns of each row."""
    if rows.mask is None:
        return jnp.broadcast_to(jnp.sum(value, -1), (rows.x.shape[0], value.shape[0]))
    return linalg.matmul(rows.mask.astype(value.dtype), value.T)


def mass_seen(rows: Batch, soft_counts: Float[Array, "n k"]) -> Float[Array, "k d"]:
    """Sum of soft counts over the rows where each column was observed."""
    if rows.mask is None:
        return jnp.broadcast_to(
            jnp.sum(soft_counts, 0)[:, None], (soft_counts.shape[1], rows.x.shape[1])
        )
    return linalg.matmul(soft_counts.T, rows.mask.astype(soft_counts.dtype))


def share_seen(rows: Batch) -> Float[Array, "n d"]:
    """Weights of the observed entries, scaled to sum to 1 over each column."""
    return averages.shares(rows.x, rows.weight, rows.mask)


def impute(
    rows: Batch, mean: Float[Array, "k d"], variance: Float[Array, "k d"]
) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"]]:
    """Mean and variance repeated for every row: observed columns say nothing about the others."""
    shape = (rows.x.shape[0], *mean.shape)
    return jnp.broadcast_to(mean, shape), jnp.broadcast_to(variance, shape)
