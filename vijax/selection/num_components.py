"""The number of components: a score for each number, from one compiled program."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from .._pytree import pytree, replace, static
from .._text import columns
from ..data.batch import Batch
from ..data.host import fetched, to_device
from ..data.padding import compiled, pad
from ..data.types import Data
from ..infer.arguments import check_key
from ..infer.fit import fit
from ..infer.method import Method
from ..infer.methods.cavi import CAVI
from ..infer.result import Result, Stop
from ..infer.status import Status
from ..models.structured import Structured
from . import criteria
from . import folds as rows_of
from .builders import builder, sizes_of, stack
from .cross_validation import CrossValidation, fit_rows, models_of_folds, statuses, validation


@pytree
class Selection:
    """The best fit to all rows for every number of components, and the scores that rank them.

    `score` is that of `criterion`, in nats:

    - "elbo": the bound on the log evidence with all relabellings of the fit counted: the ELBO plus
      log(k! / unused!), which is log k! if all components have rows (Bishop 2006, section 10.2.4).
      Components that the model can tell apart are not relabelled: those of stick-breaking weights,
      with known labels, frozen ones and noise.
    - "bic": -BIC / 2, with the log-likelihood at the estimate of EM, or the posterior means.
    - "cv": the log predictive density of all rows, each held out once; `validation` has them.

    Of sequences BIC counts all steps, and "cv" holds out whole sequences.

    `bic`, `aic` and `icl` are NaN after CAVI, unless they are the criterion. Only differences of
    scores have a meaning. All arrays have a leading axis over `num_components`.
    """

    results: Result
    score: Float[Array, "m"]
    bic: Float[Array, "m"]
    aic: Float[Array, "m"]
    icl: Float[Array, "m"]
    num_components: tuple[int, ...] = static()
    criterion: str = static(default="elbo")
    validation: CrossValidation | None = None

    @property
    def best(self) -> int:
        """The number of components with the highest score among fits that did not fail."""
        return self.num_components[self._order[0]]

    @property
    def _order(self) -> list[int]:
        score = np.where(fetched(self.results.usable), fetched(self.score), -np.inf)
        return [int(i) for i in np.argsort(-score, kind="stable")]

    def result(self, num_components: int | None = None) -> Result:
        """The fit with this number of components, by default the best; others are switched off."""
        wanted = self.best if num_components is None else num_components
        if wanted not in self.num_components:
            raise ValueError(
                f"num_components: {wanted} was not tried, only {list(self.num_components)}"
            )
        i = self.num_components.index(wanted)
        return self.results[i]

    def summary(self) -> str:
        """A table of all numbers of components as text, the best first."""
        order = self._order
        score, status = fetched(self.score), fetched(self.results.status)
        top = float(score[order[0]])
        head = [str(self.num_components[i]) for i in order]
        rows = {
            criteria.LABELS[self.criterion]: [f"{float(score[i]):.2f}" for i in order],
            "below the best": [f"{top - float(score[i]):.2f}" for i in order],
            "status": [Status(int(status[i])).name for i in order],
        }
        if self.validation is not None:
            held_out = self.validation
            folds = fetched(held_out.results.status)
            error = held_out.standard_error * float(np.sum(fetched(held_out.weight), dtype=float))
            rows["± standard error"] = [f"{error[i]:.2f}" for i in order]
            rows["status of folds"] = [statuses(folds[i]) for i in order]
        if np.isfinite(fetched(self.bic)).any():
            for name in ("bic", "aic", "icl"):
                values = fetched(getattr(self, name))
                rows[name.upper()] = [f"{float(values[i]):.2f}" for i in order]
        return "\n".join([f"best: {self.best} components", *columns(head, rows)])


def select_num_components(
    x: Data,
    num_components: Iterable[int],
    *,
    key: Key[Array, ""],
    num_restarts: int = 8,
    method: Method[Any] = CAVI(),
    stop: Stop = Stop(),
    build: type[Structured] | Callable[..., Structured] | None = None,
    criterion: str | None = None,
    folds: rows_of.Folds = 5,
    **prior: Any,
) -> Selection:
    """Fit every number of components at once and rank them.

    One compiled program fits all: models of equal shape with components switched off, vmapped over
    their number and over restarts. The prior of a component does not depend on their number. Raises
    as `fit` does, and ValueError for repeated numbers, for a criterion that the method does not
    have, or for arguments that the models do not have.

    Args:
        x: Rows as in `fit`, or sequences for a model of them, in memory; a table of columns needs
            a `build`.
        num_components: Different integers, at least 1.
        key, num_restarts, stop: As in `fit`, for each number of components.
        method: `CAVI()`, or `EM()` for maximum likelihood, or any other.
        build: A mixture class such as `vx.PoissonMixture`, by default `vx.GaussianMixture`, or
            `vx.HMM`, whose components are states: its `from_data` with conc 1, or for EM without
            a prior its `flat`. Or a function `build(x, k, k_max=..., **prior)` that makes a model.
        criterion: "elbo", "bic" or "cv", as `Selection` says; by default "elbo", or "bic" for EM,
            which has no bound.
        folds: As in `cross_validate`, for "cv", whose fits are part of the same program.
        prior: Other arguments of the class or function, such as `covariance` or `kinds`; weights
            other than a Dirichlet need a function.

    Example:
        x, _ = vx.datasets.three_clusters()
        selection = vx.select_num_components(x, range(1, 7), key=jax.random.key(0))
        print(selection.summary())
    """
    sizes = sizes_of(num_components)
    criterion = _criterion(criterion, method)
    make, given, prior = builder(build, x, method, prior)

    def models_of(rows: Batch) -> list[Structured]:
        return [make(rows, k, k_max=max(sizes), **prior) for k in sizes]

    models, held_out = models_of(given), None
    batch = models[0].as_batch(given)
    rows, _ = pad(replace(batch, names=None, as_given=None))
    if criterion == "cv":
        check_key(key, True, method)
        fold = rows_of.read_folds(folds, batch, jax.random.fold_in(key, 0))
        weights = rows_of.training_weights(batch, fold)
        lanes = models_of_folds(models_of, given, weights)
        lanes = [[*each, model] for each, model in zip(lanes, models, strict=True)]
        weights = np.concatenate([weights, fetched(batch.weight)[None]])
        own = jax.random.fold_in(key, 1)
        stacked, results = fit_rows(lanes, given, weights, own, method, stop, num_restarts)
        folds_apart, (stacked, results) = compiled(_last_apart)((stacked, results))
        held_out = validation(folds_apart[0], folds_apart[1], batch, fold, sizes)
    else:
        stacked = stack(models)

        def fit_one(model: Structured, key: Array) -> Result:
            return fit(model, rows, key=key, num_restarts=num_restarts, method=method, stop=stop)

        results = jax.vmap(fit_one)(stacked, jax.random.split(key, len(sizes)))
    dtype = results.elbo.dtype
    unknown = to_device(np.full(len(sizes), np.nan), dtype)
    score, bic, aic, icl = unknown, unknown, unknown, unknown
    if method.point or criterion == "bic":
        k = to_device(sizes, dtype)
        score, bic, aic, icl = compiled(criteria.by_likelihood)(stacked, results, k, rows)
    if held_out is not None:
        score = to_device(held_out.total, dtype)
    elif criterion == "elbo":
        score = compiled(criteria.by_evidence)(stacked, results, rows)
    return Selection(
        results,
        score,
        *(bic, aic, icl),
        num_components=sizes,
        criterion=criterion,
        validation=held_out,
    )


def _last_apart(tree: Any) -> tuple[Any, Any]:
    """The members of the second axis but the last, and the last."""
    return jax.tree.map(lambda a: a[:, :-1], tree), jax.tree.map(lambda a: a[:, -1], tree)


def _criterion(criterion: str | None, method: Method[Any]) -> str:
    if criterion is None:
        return "bic" if method.point else "elbo"
    if criterion not in criteria.CRITERIA:
        raise ValueError(
            f"criterion: expected one of {', '.join(criteria.CRITERIA)}, got {criterion!r}"
        )
    if criterion == "elbo" and method.point:
        raise ValueError(
            f"criterion: {type(method).__name__} has no bound on the evidence; take 'bic' or 'cv', "
            "or method=CAVI()"
        )
    return criterion
