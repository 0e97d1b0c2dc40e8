"""What is read off a fit to rows that are members of several classes at once."""

from __future__ import annotations

from typing import Any

from jaxtyping import Array, Float

from ..data.batch import Batch
from ..data.types import Data
from .mixture_params import Fitted
from .steps import Known, StepPrediction, moments_of
from .structured import Structured


class MembershipPrediction(StepPrediction):
    """The methods of a mixed-membership model that take a q, and rows of steps."""

    def memberships(self, q: Known | Fitted, x: Data) -> Float[Array, "n k"]:
        """E[theta_n], the expected share of each class in each row; each row sums to one."""
        return self._by_row(_memberships, q, x)[0]

    def log_likelihood(self, q: Known | Fitted, x: Data) -> Any:
        """Raise TypeError: memberships have no closed integral."""
        raise TypeError(_no_closed_form("log_likelihood", self))

    def log_lik(self, theta: dict[str, Any], x: Data) -> Any:
        """Raise TypeError: memberships have no closed integral."""
        raise TypeError(_no_closed_form("log_lik", self))

    def log_predictive(self, q: Known | Fitted, x: Data) -> Any:
        """Raise TypeError: memberships have no closed integral."""
        raise TypeError(_no_closed_form("log_predictive", self))


def _no_closed_form(name: str, model: object) -> str:
    return (
        f"{name}: {type(model).__name__} has no closed form for it; take `row_bound`, a lower "
        "bound on log E[p(x_n)] of each row"
    )


def _memberships(model: Structured, q: Known, batch: Batch) -> Float[Array, "n k"]:
    gamma = model.local(moments_of(model, q), batch).rows
    return gamma / gamma.sum(-1, keepdims=True)
