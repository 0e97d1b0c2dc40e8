"""Models of rows of steps: how they read data, and how they show themselves."""

from __future__ import annotations

from typing import Any, ClassVar

from .._pytree import replace
from .._text import Overview, count, short
from ..data.batch import Batch
from ..data.sequences import named_steps
from ..data.types import Data
from ..exponential_family import Q_co
from ..families.labels.base import Labels
from .parts import check_parts
from .prediction import check_labels
from .structured import Structured
from .structured_params import StructuredParams


class SequenceModel(Structured[Q_co]):
    """Labels and components for rows that are sequences, or sets, of steps.

    Data are what `Batch.sequences` takes: a list of rows (t_n, d), an array (n, t, d), or a single
    row (t, d).
    """

    row_data: ClassVar[bool] = False

    def read(self, data: Data) -> Batch:
        return data if isinstance(data, Batch) else Batch.sequences(data)

    def as_batch(self, data: Data) -> Batch:
        """Sequences in the form that the components take.

        Raises TypeError or ValueError if labels and components do not go together, and ValueError
        for columns of other names.
        """
        check_parts(self.labels, self.components, "labels", Labels, "Chain")
        batch = self.read(data).in_order(self.names)
        return self.components.as_batch(batch)

    def check(self, batch: Batch, point: bool) -> None:
        self.check_steps(batch)
        self.check_method(point)

    def check_method(self, point: bool) -> None:
        """Raise ValueError for EM (`point`) without a point, and for others without a prior."""
        if point:
            self.labels.check_point()
        if self.improper and not point:
            raise ValueError(
                "method: a flat prior has no evidence to bound; use EM(), or a proper prior "
                "from `from_data` or `with_prior`"
            )

    def check_steps(self, batch: Batch) -> None:
        """Raise ValueError naming a step that is no value of the components, or has no label."""
        if batch.steps is None:
            name = type(self).__name__
            raise ValueError(f"x: rows, but {name} is a model of sequences; see Batch.sequences")
        steps = batch.flat()
        with named_steps(batch):
            self.components.check_rows(steps)
            check_labels(steps, lambda: self.active)

    def with_posterior_as_prior(self, q: StructuredParams) -> Any:
        """The same model with this posterior for its prior; ValueError for a flat prior."""
        if self.improper:
            raise ValueError("model: a flat prior is followed by no posterior")
        own: Any = self  # a pytree, as it has fields
        labels = self.labels.followed_by(q.labels)
        return replace(own, labels=labels, components=q.components)

    def __repr__(self) -> str:
        try:
            words = [count(self.labels.size, self.labels.word), *self.components.words()]
        except Exception:  # a pytree may hold anything while JAX looks at its structure
            return short(self)
        words.append("flat prior" if self.improper else f"{type(self.labels).__name__} prior")
        return f"{type(self).__name__}({', '.join(words)})"

    def _repr_html_(self) -> str:
        return Overview([repr(self)]).html()


def sequences_of(x: Data) -> Batch:
    """Data in any form that `Batch.sequences` takes; ValueError for a Batch of rows."""
    batch = x if isinstance(x, Batch) else Batch.sequences(x)
    if batch.steps is None:
        raise ValueError(
            "x: a Batch of rows, but this is a model of sequences; see Batch.sequences, and for "
            "`fit_many` with a function that makes models give a list of them, one a data set"
        )
    return batch
