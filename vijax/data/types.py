"""What users may hand over as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.typing import ArrayLike as _Numbers

from .batch import Batch


@runtime_checkable
class Table(Protocol):
    """A data frame or series of any library: it becomes a NumPy array."""

    def to_numpy(self) -> Any:
        """Rows and columns."""
        ...


@runtime_checkable
class ArrayOfOthers(Protocol):
    """An array of another library, such as a tensor of PyTorch."""

    def __array__(self) -> Any:
        """The same in NumPy."""
        ...


AnyArray = jax.Array | np.ndarray  # on the host or on a device, traced or not
ArrayLike = _Numbers | Table | ArrayOfOthers | Sequence[Any]
Rows = ArrayLike
Data = Rows | Mapping[str, Any] | Batch
