"""What a driver asks of a method: one algorithm, a first state and a step."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Generic, TypeVar

from jaxtyping import Array, Float, Key

from ..data.batch import Batch
from ..model import ConditionalModel, Model, Q
from .result import State

_M = TypeVar("_M", bound=Model, contravariant=True)


class Method(abc.ABC, Generic[_M]):
    """An algorithm for models of one kind; its settings are its fields.

    Abstract methods must be written, all others have a default.

    `monotone` says that the objective must not fall, `point` that q stands for its point, `draws`
    that steps need a key, and `estimates` that the objective of a step is only an estimate: then
    `evaluate` is the exact one. `chunk` is the number of rows held at once; None chooses it.
    """

    monotone: ClassVar[bool] = False
    point: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    estimates: ClassVar[bool] = False
    chunk: int | None = None

    def check(self, model: Model) -> None:
        """Raise TypeError or ValueError for settings or models that make no sense."""
        return

    @abc.abstractmethod
    def init(self, model: _M, q: Q, batch: Batch) -> State:
        """A state whose `next_q` is `q`, not yet evaluated."""

    @abc.abstractmethod
    def step(self, model: _M, state: State, batch: Batch, key: Key[Array, ""] | None) -> State:
        """Evaluate `next_q` and make the one after it: one pass over the rows."""

    def evaluate(self, model: _M, q: Q, batch: Batch) -> Float[Array, ""]:
        """The exact objective of q in nats, by one pass."""
        return self.step(model, self.init(model, q, batch), batch, None).elbo


class FullPassMethod(Method[ConditionalModel]):
    """A method that concludes from the sums of one pass over all rows, however they were made."""

    @abc.abstractmethod
    def moments(self, q: Q) -> Any:
        """What the local step reads of q."""

    @abc.abstractmethod
    def conclude(
        self, model: ConditionalModel, state: State, stats: Any, log_z: Float[Array, ""]
    ) -> State:
        """The state after a pass: statistics, and the sum of w_n log Z_n in nats."""

    @abc.abstractmethod
    def improvements(self, q: Q, *lasts: Q) -> list[Float[Array, ""]]:
        """What a step from each of `lasts` to `q` gained near a fixed point, in nats."""
