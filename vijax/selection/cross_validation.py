"""Cross-validation: the log predictive density of rows that were held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from .._pytree import pytree, replace, static
from .._text import columns
from ..data.batch import Batch
from ..data.host import fetched, to_device
from ..data.types import Data
from ..infer.arguments import check_key, check_kinds
from ..infer.method import Method
from ..infer.methods.cavi import CAVI
from ..infer.result import Result, Stop
from ..infer.status import Status
from ..latent_class import Predictor
from ..model import Model
from ..models.structured import Structured
from . import folds as rows_of
from .builders import builder, sizes_of


@pytree
class CrossValidation:
    """Held-out log predictive densities in nats, and the fits without each of f folds.

    `log_density` has a value for every row, of weight 0 too, from the fit without its `fold`, and
    -inf where that fit failed. Sums are over rows times `weight`. Densities depend on the unit of
    the rows, so only their differences have a meaning. Arrays have a leading axis over
    `num_components`, and no such axis for one model or one number.
    """

    results: Result
    log_density: Float[Array, "*m n"]
    weight: Float[Array, "n"]
    fold: Int[Array, "n"]
    num_components: tuple[int, ...] | None = static()

    @property
    def total(self) -> Float[np.ndarray, "*m"]:
        """Log predictive density of all rows, each held out once, in nats."""
        return np.asarray(self._weighted.sum(-1))

    @property
    def fold_totals(self) -> Float[np.ndarray, "*m f"]:
        """Log predictive density of the rows in each fold, in nats."""
        fold, each = fetched(self.fold), self._weighted
        return np.stack([each[..., fold == f].sum(-1) for f in range(fold.max() + 1)], -1)

    @property
    def usable(self) -> Bool[np.ndarray, "*m"]:
        """Whether no fit failed, so that all rows have a density."""
        return np.asarray(fetched(self.results.usable).all(-1))

    @property
    def best(self) -> int:
        """The number of components with the highest total among those of which no fit failed.

        Raises ValueError for a single model.
        """
        if self.num_components is None:
            raise ValueError("best: of a single model; give several numbers of components")
        return self.num_components[self._order[0]]

    @property
    def mean_difference(self) -> Float[np.ndarray, "*m"]:
        """How much the best is above each per row, in nats: a mean over rows with their weights."""
        return self._difference()[0]

    @property
    def standard_error(self) -> Float[np.ndarray, "*m"]:
        """Standard error of `mean_difference` in nats, over rows (Vehtari et al. 2017, eq. 24).

        A weight counts repetitions. It is NaN where a fit failed.
        """
        return self._difference()[1]

    def summary(self) -> str:
        """A table of all numbers of components as text, the best first."""
        order, several = self._order, self.log_density.ndim > 1
        total, status = np.atleast_1d(self.total), fetched(self.results.status)
        per_row = total / np.asarray(fetched(self.weight), float).sum()
        mean, error = (np.atleast_1d(a) for a in self._difference())
        status = status if several else status[None]
        head = [""] if self.num_components is None else [str(self.num_components[i]) for i in order]
        rows = {
            "held-out log density": [f"{total[i]:.2f}" for i in order],
            "per row": [f"{per_row[i]:.4f}" for i in order],
        }
        if several:
            rows["below the best, per row"] = [f"{mean[i]:.4f} ± {error[i]:.4f}" for i in order]
        rows["status"] = [statuses(status[i]) for i in order]
        title = f"{status.shape[-1]} folds of {len(fetched(self.fold))} rows"
        title = f"best: {self.best} components, by {title}" if several else title
        return "\n".join([title, *columns(head, rows)])

    @property
    def _weighted(self) -> Float[np.ndarray, "*m n"]:
        weight = np.asarray(fetched(self.weight), np.float64)
        density = np.asarray(fetched(self.log_density), np.float64)
        return np.where(weight > 0, weight * np.where(weight > 0, density, 0.0), 0.0)

    @property
    def _order(self) -> list[int]:
        score = np.atleast_1d(np.where(self.usable, self.total, -np.inf))
        return [int(i) for i in np.argsort(-score, kind="stable")]

    def _difference(self) -> tuple[Any, Any]:
        weight = np.asarray(fetched(self.weight), np.float64)
        density = np.asarray(fetched(self.log_density), np.float64)
        top = density if density.ndim == 1 else density[self._order[0]]
        rows, share = weight.sum(), weight / weight.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            each = np.where(weight > 0, top - density, 0.0)
            mean = (share * each).sum(-1)
            variance = (share * (each - mean[..., None]) ** 2).sum(-1) / max(rows - 1.0, 0.0)
        return np.asarray(mean), np.asarray(np.sqrt(variance))


def statuses(status: Int[np.ndarray, "f"]) -> str:
    """How the fits of several folds ended, in a few words; the worst first."""
    order = ("NON_FINITE", "COLLAPSED", "ELBO_DECREASED", "INTERRUPTED", "MAX_ITER", "CONVERGED")
    names = [Status(int(s)).name for s in status]
    worst = min(names, key=lambda name: order.index(name) if name in order else len(order))
    number = names.count(worst)
    return worst if number == len(names) else f"{number} of {len(names)} {worst}"


def cross_validate(
    model: Model | type[Structured] | Callable[..., Model],
    x: Data,
    num_components: int | Iterable[int] | None = None,
    *,
    key: Key[Array, ""],
    folds: rows_of.Folds = 5,
    num_restarts: int = 8,
    method: Method[Any] = CAVI(),
    stop: Stop = Stop(),
    **prior: Any,
) -> CrossValidation:
    """Log predictive density of rows in nats, from fits to all rows but those of their fold.

    One compiled program makes all fits, vmapped over folds and numbers of components. A prior from
    data is one of the rows that are not held out, and known labels do not enter the density of a
    row. After maximum likelihood it is the density at the estimate. Rows that are sequences are
    held out whole; their density is that at the posterior means, `log_likelihood`, or a lower
    bound, `row_bound`, where rows have memberships of their own, as documents. Raises as `fit`
    does, and TypeError or ValueError that name the argument.

    Args:
        model: A model, whose prior stays as it is; or a mixture class, or a function
            `build(x, k, k_max=..., **prior)`, as in `select_num_components`.
        x: Rows as in `fit`, in memory and outside of jit. Their weights count in all sums.
        num_components: One or several integers, at least 1, for anything but a model.
        key: A typed key for folds and starts. Fold j of number i is fitted with the key
            `fold_in(fold_in(fold_in(key, 1), i), j)`.
        folds: A number of folds, at least 2, to which rows are dealt at random, sizes differing by
            at most one; or integers (n,), such as groups that must not be divided.
        num_restarts, method, stop: As in `fit`, for each fit.
        prior: Other arguments of the class or function.

    Example:
        x, _ = vx.datasets.three_clusters()
        held_out = vx.cross_validate(vx.GaussianMixture, x, [2, 3, 4], key=jax.random.key(0))
        print(held_out.summary())
    """
    check_key(key, True, method)
    if isinstance(model, Model):
        if num_components is not None or prior:
            what = next(iter(prior), "num_components")
            raise ValueError(f"{what}: is for a class or a function; this model has its own")
        sizes, given = None, model
        batch = given.as_batch(Batch.of(x) if given.row_data else given.read(x))

        def models_of(rows: Batch) -> list[Model]:
            return [given]

    else:
        if num_components is None:
            raise ValueError("num_components: give one or several; only a model has its own")
        several = isinstance(num_components, Iterable)
        sizes = sizes_of(num_components if several else [num_components])
        make, batch, prior = builder(model, x, method, prior)  # type: ignore[arg-type]

        def models_of(rows: Batch) -> list[Model]:
            return [make(rows, k, k_max=max(sizes), **prior) for k in sizes]

    fold = rows_of.read_folds(folds, batch, jax.random.fold_in(key, 0))
    weights = rows_of.training_weights(batch, fold)
    lanes = models_of_folds(models_of, batch, weights)
    stacked, results = fit_rows(
        lanes, batch, weights, jax.random.fold_in(key, 1), method, stop, num_restarts
    )
    whole = validation(stacked, results, lanes[0][0].as_batch(batch), fold, sizes)
    if sizes is not None and isinstance(num_components, Iterable):
        return whole
    one = jax.tree.map(lambda a: a[0], whole.results)
    return replace(whole, results=one, log_density=whole.log_density[0])


def models_of_folds(
    make: Callable[[Batch], list[Any]], batch: Batch, weights: Float[np.ndarray, "f n"]
) -> list[list[Any]]:
    """Models of every number of components, of the rows under each of the weights, [m][f]."""
    made = [make(rows_of.training_rows(batch, weight)) for weight in weights]
    return [list(each) for each in zip(*made, strict=True)]


def fit_rows(
    lanes: list[list[Any]],
    batch: Batch,
    weights: Float[np.ndarray, "f n"],
    key: Key[Array, ""],
    method: Method[Any],
    stop: Stop,
    num_restarts: int,
) -> tuple[Any, Result]:
    """Check models and rows, and fit all lanes; the models and the Result have axes (m, f)."""
    for model, *_ in lanes:
        check_kinds(model, method, stop)
        if not isinstance(model, Predictor):
            raise TypeError(f"model: {type(model).__name__} has no `log_predictive`")
    batch = lanes[0][0].as_batch(batch)
    for model, *_ in lanes:
        model.check(batch, method.point)
    keys = rows_of.lane_keys(key, len(lanes), len(weights))
    return rows_of.fit_lanes(lanes, batch, weights, keys, method, stop, num_restarts)


def validation(
    models: Model,
    results: Result,
    batch: Batch,
    fold: Int[np.ndarray, "n"],
    sizes: tuple[int, ...] | None,
) -> CrossValidation:
    """The held-out densities of fitted lanes, with stacked models (m, f)."""
    density = rows_of.held_out(models, results, batch, fold)
    parts = to_device(density), to_device(batch.weight), to_device(fold)
    return CrossValidation(results, *parts, num_components=sizes)
