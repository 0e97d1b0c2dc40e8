"""Small posteriors: log densities in nats over constrained parameters, in plain JAX.

No Jacobians: who works in unconstrained coordinates adds them. Every constant is kept; a flat
prior counts as 0. Where `log_lik` is None the rows depend on each other, and `log_prior` is the
whole joint density. `PROBLEMS[name]()` builds one.
"""

from . import curves, hierarchies, regressions  # noqa: F401  (they enter their problems)
from .problem import PROBLEMS, Constraint, Params, Problem, Rows

__all__ = ["PROBLEMS", "Constraint", "Params", "Problem", "Rows"]
