"""Types of what users may hand over as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.typing import ArrayLike as _Numbers

from .batch import Batch
from .documents import SparseMatrix


@runtime_checkable
class Table(Protocol):
    """A data frame or series of any library, which becomes a NumPy array."""

    def to_numpy(self) -> Any:
        """Its values, rows first."""
        ...


@runtime_checkable
class ArrayOfOthers(Protocol):
    """An array of another library, such as a PyTorch tensor."""

    def __array__(self) -> Any:
        """The same values in NumPy."""
        ...


@runtime_checkable
class DLPackArray(Protocol):
    """An array of another library that shares its memory, on any device."""

    def __dlpack__(self) -> Any:
        """A capsule of DLPack."""
        ...


AnyArray = jax.Array | np.ndarray  # on the host or on a device, concrete or traced
Arrays = AnyArray | Table | ArrayOfOthers | DLPackArray | Sequence[Any]  # no single numbers
ArrayLike = _Numbers | Arrays
Rows = ArrayLike
Data = Rows | Mapping[Any, Any] | Batch | SparseMatrix  # names of columns become text
