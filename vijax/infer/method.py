"""The protocol of methods: an algorithm is a first state and a step."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Generic, TypeVar

from jaxtyping import Array, Float, Key

from ..data.batch import Batch
from ..model import ConditionalModel, Model, Q
from .result import State

_M = TypeVar("_M", bound=Model, contravariant=True)


class Method(abc.ABC, Generic[_M]):
    """An algorithm for models of type `_M`; its fields are its settings.

    `init` and `step` must be written, all else has a default.

    Class variables: `monotone` says that the objective must not fall; `point` that the estimate is
    `q.point()`, as in EM; `draws` that steps need a key; `estimates` that the objective of a step
    is an estimate, and `estimate` a better one. `chunk` is the number of rows in memory at once;
    None chooses it from the sizes and the device.
    """

    monotone: ClassVar[bool] = False
    point: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    estimates: ClassVar[bool] = False
    chunk: int | None = None

    def check(self, model: Model) -> None:
        """Raise TypeError or ValueError for bad settings, or a model that does not suit."""
        return

    @abc.abstractmethod
    def init(self, model: _M, q: Q, batch: Batch) -> State:
        """The state before the first step; its `next_q` is `q`."""

    @abc.abstractmethod
    def step(self, model: _M, state: State, batch: Batch, key: Key[Array, ""] | None) -> State:
        """Evaluate `next_q` and compute the q after it, in one pass over the rows."""

    def evaluate(self, model: _M, q: Q, batch: Batch) -> Float[Array, ""]:
        """The exact objective of q in nats, in one pass over the rows."""
        return self.step(model, self.init(model, q, batch), batch, None).elbo

    def estimate(
        self, model: _M, q: Q, batch: Batch
    ) -> tuple[Float[Array, ""], Float[Array, ""] | None]:
        """`evaluate`, and its standard error in nats; None where it is exact."""
        return self.evaluate(model, q, batch), None


class FullPassMethod(Method[ConditionalModel]):
    """A method that needs the rows only through their summed statistics, as CAVI and EM.

    The rows may then be in memory, on several devices, or in `Chunks`.
    """

    def evaluate(self, model: ConditionalModel, q: Q, batch: Batch) -> Float[Array, ""]:
        if model.estimates:
            return model.estimate(q, batch)[0]
        return super().evaluate(model, q, batch)

    def estimate(
        self, model: ConditionalModel, q: Q, batch: Batch
    ) -> tuple[Float[Array, ""], Float[Array, ""] | None]:
        if model.estimates:
            return model.estimate(q, batch)
        return super().estimate(model, q, batch)

    @abc.abstractmethod
    def moments(self, q: Q) -> Any:
        """The moments of q that the E-step reads."""

    @abc.abstractmethod
    def conclude(
        self, model: ConditionalModel, state: State, stats: Any, log_z: Float[Array, ""]
    ) -> State:
        """The state after a pass with `next_q`.

        `stats` are the summed expected statistics, and `log_z` is sum_n w_n log Z_n in nats.
        """

    @abc.abstractmethod
    def improvements(self, q: Q, *lasts: Q) -> list[Float[Array, ""]]:
        """About how much a step from each of `lasts` to `q` gained, in nats, near a fixed point."""
