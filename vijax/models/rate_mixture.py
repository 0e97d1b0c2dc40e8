"""What mixtures of independent columns with Gamma-distributed rates have in common."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from .._pytree import pytree
from . import column_prior as prior
from .column_mixture import ColumnMixture
from .sizes import check_size, shared_conc

_M = TypeVar("_M", bound="RateMixture")


@pytree
class RateMixture(ColumnMixture):
    """rate_kd ~ Gamma(shape, rate); a column's mean to the `power` is its rate."""

    power: ClassVar[int]

    @classmethod
    def from_data(
        cls: type[_M],
        x: Any,
        num_components: int,
        *,
        shape: Any = 1.0,
        rate: Any = None,
        conc: Any = None,
        weights: Any = None,
        k_max: int | None = None,
    ) -> _M:
        """A weak default prior at the scale of the data; any part can be given.

        Weights: conc = 1 / num_components each. Rates: shape = 1 and the `rate` with which the
        prior's mean is the column's own rate, an exponential prior: 1 / column mean for counts,
        the column mean for waiting times. A column of zeros takes the mean of the others, or 1.
        `x` is array-like (n, d) or a Batch, and may be traced; missing entries are left out.
        """
        check_size(num_components, k_max)
        batch = prior.checked(x)
        return cls.with_prior(
            num_components,
            shape=shape,
            rate=prior.column_means(batch) ** -cls.power if rate is None else rate,
            conc=shared_conc(conc, weights, num_components),
            weights=weights,
            k_max=k_max,
        )

    @classmethod
    def with_prior(
        cls: type[_M],
        num_components: int,
        *,
        shape: Any,
        rate: Any,
        conc: Any = None,
        weights: Any = None,
        k_max: int | None = None,
    ) -> _M:
        """An explicit prior: `shape` > 0 and `rate` > 0.

        For counts `shape` is in counts and `rate` in rows, for waiting times `shape` is in rows
        and `rate` in data units. Each is a scalar, (d,) or (k, d); `conc` is a scalar or (k,), or
        `weights` takes its place. With `k_max` there is room for that many components. Raises
        ValueError by name.
        """
        size = check_size(num_components, k_max)
        given = prior.by_column({"shape": shape, "rate": rate}, num_components, size)
        return cls._proper(num_components, k_max, conc, weights, *given)
