"""A base for families of one's own: independent columns whose likelihood has a conjugate prior."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ..._pytree import pytree, replace
from ...data.batch import Batch
from ...exponential_family import coordinates
from ...numerics import linalg
from ..column_scale import standardize
from ..describe import label
from ..emission import EmissionMoments
from .base import Independent, impute

_S = TypeVar("_S", bound="ConjugateColumns")


@pytree
class ConjugateColumnsMoments(EmissionMoments):
    """The moments of `each`, E[T(theta)] by coordinate, and the family itself."""

    each: Any
    expected: dict[str, Float[Array, "..."]]
    family: Any

    def likelihood(self, rows: Batch) -> tuple[Float[Array, "n k"], None]:
        """Sum over the columns of <E[T(theta_kd)], t(x_nd)> + log h(x_nd), in nats."""
        x = self.family.filled(rows)
        total = jnp.sum(_seen(rows, self.family.log_base(x)), -1, keepdims=True)
        for name, t in coordinates(self.family.statistics(x)).items():
            expected, t = self.expected[name], _seen(rows, t)
            total = total + linalg.matmul(_flat(t), _flat(expected).T)
        return total, None

    def impute(self, rows: Batch) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"]]:
        """Mean and variance of a row at E[theta]."""
        return impute(rows, *self.family.mean_and_variance(self.family.each.mean))

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """E[theta] of every column."""
        return self.family.describe(names)


class ConjugateColumns(Independent):
    """Components of independent columns with a likelihood of exponential-family form.

        log p(x_nd | theta_kd) = <T(theta_kd), t(x_nd)> + log h(x_nd)

    theta is one number. `each` is its prior, such as a Gamma or a Normal with one member for each
    component and column, (k, d), and T are its sufficient statistics. The posterior is then `each`
    plus the sum of t(x).

    A subclass is a `pytree` with a field `each`; it writes the abstract methods below. Known
    numbers of the likelihood are static fields. `takes` says in words what rows hold, `parameter`
    names theta in tables, and `inside` is a possible entry, which stands where one is missing.
    """

    parameter: ClassVar[str] = "parameter"
    inside: ClassVar[float] = 1.0

    @abc.abstractmethod
    def statistics(self, x: Float[Array, "*b d"]) -> Any:
        """t(x): the coordinates that each entry adds to `each`, in a container of its type.

        Origins, where the family has one, are 0.
        """

    @abc.abstractmethod
    def log_base(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """log h(x) in nats: all that does not depend on theta."""

    @abc.abstractmethod
    def draw_rows(self, key: Key[Array, ""], theta: Any) -> Float[Array, "n d"]:
        """One row for each theta (n, d), in the form of `each.sample`."""

    @abc.abstractmethod
    def mean_and_variance(
        self, theta: Float[Array, "k d"]
    ) -> tuple[Float[Array, "k d"], Float[Array, "k d"]]:
        """Mean and variance of an entry given theta."""

    def as_points(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """Entries on a scale on which clusters have like widths, such as log x; x, by default."""
        return x

    def filled(self, rows: Batch) -> Float[Array, "n d"]:
        """The rows with `inside` in place of missing entries."""
        return rows.x if rows.mask is None else jnp.where(rows.mask, rows.x, self.inside)

    def describe(self, names: list[str] | None = None) -> dict[str, Any]:
        """E[theta] of every column, under the name `parameter`."""
        return label(self.parameter, self.each.mean, names)

    def _at_zero(self) -> Any:
        """`each`, written about the origin of `statistics`."""
        like = self.statistics(jnp.full(self.each.mean.shape, self.inside, self.each.mean.dtype))
        return self.each.about(like)

    def moments(self) -> ConjugateColumnsMoments:
        expected = coordinates(self._at_zero().expectation())
        return ConjugateColumnsMoments(self.each.moments(), expected, self)

    def point(self) -> ConjugateColumnsMoments:
        point = self.each.point()

        def inner(eta: Any) -> Float[Array, ""]:  # <eta, T>, whose gradient is T
            return jnp.sum(eta.log_kernel(point) + eta.log_normalizer())

        return ConjugateColumnsMoments(point, coordinates(jax.grad(inner)(self._at_zero())), self)

    def observe(
        self: _S,
        rows: Batch,
        soft_counts: Float[Array, "n k"],
        moments: Any = None,
        row_posterior: Any = None,
    ) -> _S:
        """The sum of soft counts times t(x), over the rows where the column was observed."""
        k = soft_counts.shape[1]

        def total(t: Array) -> Array:
            sums = linalg.matmul(soft_counts.T, _flat(_seen(rows, t)))
            return sums.reshape(k, *t.shape[1:])

        def repeated(origin: Array) -> Array:
            return jnp.broadcast_to(origin[:1], (k, *origin.shape[1:]))

        stats = self.statistics(self.filled(rows)).map(total, gauge=repeated)
        return replace(self, each=stats)  # type: ignore[type-var]

    def _shares(self, rows: Batch, k: int) -> Float[Array, "n k"]:
        share = super()._shares(rows, k)  # each component has an origin of its own
        return jnp.broadcast_to(share, (share.shape[0], k))

    def embed(self, rows: Batch) -> Float[Array, "n d"]:
        """`as_points` in standard deviations from the middle of each column."""
        return standardize(replace(rows, x=self.as_points(self.filled(rows))))

    def log_predictive(self, rows: Batch) -> Float[Array, "n k"]:
        """A(each + t(x)) - A(each) + log h(x) in nats, summed over the observed entries.

        The difference is <E[T], t(x)> - KL of the posterior after x from `each`, with E of that
        posterior, so that nothing large is subtracted.
        """
        x, each = self.filled(rows), self._at_zero()
        k = each.mean.shape[0]

        def of_row(t: Any) -> Float[Array, "k d"]:
            def repeated(a: Array) -> Array:
                return jnp.broadcast_to(a, (k, *a.shape))

            t = t.map(repeated, gauge=repeated)
            after = t + each
            pairs = zip(
                coordinates(after.expectation()).values(), coordinates(t).values(), strict=True
            )
            inner = [jnp.sum((a * b).reshape(*each.mean.shape, -1), -1) for a, b in pairs]
            return jnp.sum(jnp.stack(inner), 0) - after.kl(each)

        gain = jax.vmap(of_row)(self.statistics(x))
        gain = gain if rows.mask is None else jnp.where(rows.mask[:, None], gain, 0.0)
        return jnp.sum(gain, -1) + jnp.sum(_seen(rows, self.log_base(x)), -1, keepdims=True)

    def draw(self, key: Key[Array, ""], index: Int[Array, "n"]) -> Float[Array, "n d"]:
        """Rows of parameters that are drawn first."""
        k_theta, k_rows = jax.random.split(key)
        return self.draw_rows(k_rows, self.take(index).sample(k_theta))

    def row_size(self, rows: Batch) -> int:
        floats = sum(a.size // a.shape[0] for a in jax.tree.leaves(self.each))
        return floats + 3 * jax.tree.leaves(self.each)[0].shape[0]


def _flat(a: Float[Array, "b ..."]) -> Float[Array, "b f"]:
    return a.reshape(a.shape[0], -1)


def _seen(rows: Batch, values: Float[Array, "n d ..."]) -> Float[Array, "n d ..."]:
    """The values of the observed entries, 0 for the others."""
    if rows.mask is None:
        return values
    return jnp.where(rows.mask.reshape(*rows.mask.shape, *[1] * (values.ndim - 2)), values, 0.0)
