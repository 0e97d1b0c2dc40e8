"""Laws of methods that sum over all rows: fixed points are shared, and jit is only speed.

Each takes a `MethodFacts`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from .._pytree import replace
from ..data.batch import Batch
from ..infer.fit import fit, trajectory
from ..infer.method import FullPassMethod
from ..infer.result import Result, Stop
from ..infer.status import Status
from ..model import ConditionalModel
from .compare import Law, close, holds, leaves_close

_TIGHT = Stop(tol=1e-12, max_iter=5000)
_STEPS = 40


@dataclasses.dataclass(frozen=True)
class MethodFacts:
    """A method, a model and rows to try it on, and a start in which nothing is drawn.

    `tol` is how far apart in q two fits may end, relative to it.
    """

    method: FullPassMethod
    model: ConditionalModel
    data: Any
    init: Any = None
    tol: float = 1e-4

    def fit(self, stop: Stop = _TIGHT, **changes: Any) -> Result:
        """The fit, with some arguments changed."""
        given = {"method": self.method, "init": self.init, "stop": stop, **changes}
        return fit(given.pop("model", self.model), self.data, **given)

    def states(self, num_iters: int) -> Any:
        """The states of the first steps."""
        given = {"init": self.init, "method": self.method}
        return trajectory(self.model, self.data, num_iters=num_iters, **given)


def fit_ends_at_a_fixed_point(facts: MethodFacts) -> None:
    """Further steps from the end of a fit change neither objective nor q."""
    end = facts.fit().check()
    given = {"init": end, "method": facts.method}
    more = trajectory(facts.model, facts.data, num_iters=3, **given)
    close(more.elbo, np.broadcast_to(end.elbo, 3), rtol=1e-11)
    last = jax.tree.map(lambda a: a[-1], more.q)
    leaves_close(last.about(end.q), end.q, rtol=facts.tol, atol=0.1 * facts.tol)


def chunks_share_the_fixed_point(facts: MethodFacts) -> None:
    """A method with chunks of 13 rows ends where it ends without."""
    whole = facts.fit().check()
    method: Any = facts.method  # a pytree with a field `chunk`
    parts = facts.fit(method=replace(method, chunk=13)).check()
    close(parts.elbo, whole.elbo, rtol=1e-10)
    leaves_close(parts.q.about(whole.q), whole.q, rtol=facts.tol, atol=0.1 * facts.tol)


def objective_never_falls(facts: MethodFacts) -> None:
    """Over 40 steps, of a method that says that it is `monotone`."""
    found = np.asarray(facts.states(_STEPS).elbo)
    holds(np.diff(found) >= -1e-9 * np.abs(found[1:]), "an objective that never falls", found)


def reported_improvement_bounds_the_gain(facts: MethodFacts) -> None:
    """Near the end a step gains at most what it reports; the stopping rule lives on it."""
    states = facts.states(_STEPS)
    gained, reported = np.diff(states.elbo)[20:], np.asarray(states.improvement)[21:]
    holds(gained <= reported * 1.2 + 1e-9, f"gains of at most {reported}", gained)


def jit_changes_nothing(facts: MethodFacts) -> None:
    """A few steps of the pure pieces, with every operation run by itself."""
    batch = facts.data if isinstance(facts.data, Batch) else Batch.of(facts.data)
    jitted = facts.states(3)
    q = jax.tree.map(lambda a: a[0], jitted.q)
    with jax.disable_jit():
        state = facts.method.init(facts.model, q, batch)
        for i in range(3):
            state = facts.method.step(facts.model, state, batch, None)
            close(state.elbo, jitted.elbo[i], rtol=1e-10, of=f"objective of step {i}")


def nan_model_is_a_status(facts: MethodFacts) -> None:
    """NaN in the prior ends a fit after one step as NON_FINITE, without an exception."""
    broken = jax.tree.map(lambda a: a * np.nan if a.dtype == float else a, facts.model)
    end = facts.fit(stop=Stop(), model=broken)
    status = Status(int(end.status))
    assert status is Status.NON_FINITE, f"NON_FINITE, got {status.name}"
    holds(np.isnan(end.elbo), "a NaN objective", end.elbo)
    holds(end.n_iter == 1, "one iteration", end.n_iter)


LAWS: list[Law] = [
    fit_ends_at_a_fixed_point,
    chunks_share_the_fixed_point,
    objective_never_falls,
    reported_improvement_bounds_the_gain,
    jit_changes_nothing,
    nan_model_is_a_status,
]
