"""What is read off a mixed-membership fit besides what all models of steps have."""

from __future__ import annotations

from typing import Any

from jaxtyping import Array, Float

from ..data.batch import Batch
from ..data.types import Data
from .mixture_params import Fitted
from .steps import Known, StepPrediction, moments_of
from .structured import Structured


class MembershipPrediction(StepPrediction):
    """The methods of a mixed-membership model that take a q, and rows of steps.

    q(theta_n) of each row is found afresh, given the q of the components.
    """

    def memberships(self, q: Known | Fitted, x: Data) -> Float[Array, "n k"]:
        """E[theta_n], the expected weights of the components in each row."""
        return self._by_row(_memberships, q, x)[0]

    def log_likelihood(self, q: Known | Fitted, x: Data) -> Any:
        """Raise TypeError: the weights of a row have no closed integral."""
        raise TypeError(_no_integral("log_likelihood", self))

    def log_predictive(self, q: Known | Fitted, x: Data) -> Any:
        """Raise TypeError: the weights of a row have no closed integral."""
        raise TypeError(_no_integral("log_predictive", self))


def _no_integral(name: str, model: MembershipPrediction) -> str:
    return (
        f"{name}: {type(model).__name__} has no closed form for it, as each row has weights of its "
        "own, to be integrated out over all labels of its steps; take `row_bound`, a lower bound"
    )


# compiled as one program, and not operation by operation


def _memberships(model: Structured, q: Known, batch: Batch) -> Float[Array, "n k"]:
    moments = moments_of(model, q)
    gamma = model.labels.infer(moments.labels, model.log_lik(moments, batch), batch).rows
    return gamma / gamma.sum(-1, keepdims=True)
