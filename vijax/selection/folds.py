"""Folds of rows, and the fits without each of them, as one program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from .._pytree import replace
from ..data.batch import Batch
from ..data.host import check_integer, fetched, is_concrete, to_device
from ..data.padding import pad, read_rows
from ..data.reader import read_labels
from ..data.types import ArrayLike
from ..infer.fit import fit
from ..infer.method import Method
from ..infer.result import Result, Stop
from ..latent_class import Predictor
from ..model import Model, Q
from .builders import stack

Folds = int | ArrayLike


def read_folds(folds: Folds, batch: Batch, key: Key[Array, ""]) -> Int[np.ndarray, "n"]:
    """The fold 0, 1, ... of every row.

    Rows are dealt at random if `folds` is a number; those of weight 0 last. Given numbers of folds
    are numbered anew in their order. Raises TypeError or ValueError that name the argument.
    """
    if batch.sharding is not None or not is_concrete(*jax.tree.leaves((batch, key))):
        raise ValueError(
            "x: rows are held out on the host, so they must be in one place, and this be called "
            "outside of jit and vmap"
        )
    present = fetched(batch.weight) > 0
    n, number = len(present), int(present.sum())
    if batch.steps is not None and number == 1:
        raise ValueError(
            "folds: of sequences, and there is one; cut it into pieces, by "
            "Batch.sequences(x, lengths=[...]), or take criterion 'elbo' or 'bic'"
        )
    if isinstance(folds, int | float | np.generic):
        check_integer("folds", folds)
        count = int(folds)
        if count < 2:
            raise ValueError(f"folds: need at least 2, got {count}")
        if count > number:
            raise ValueError(f"folds: {count} of {number} rows of positive weight; take fewer")
        # on the host, where no number of rows is compiled for
        order = np.random.default_rng(fetched(jax.random.key_data(key))).permutation(n)
        order = order[np.argsort(~present[order], kind="stable")]
        fold = np.empty(n, np.int32)
        fold[order] = np.arange(n) % count
        return fold
    given = read_labels("folds", folds)
    if given.shape != (n,) or given.dtype.kind not in "iu":
        raise ValueError(
            f"folds: expected an integer, or the fold of each of {n} rows, got {given.dtype} of "
            f"shape {given.shape}"
        )
    names, fold = np.unique(fetched(given), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"folds: need at least 2, but all rows are in fold {names[0]}")
    empty = np.setdiff1d(np.arange(len(names)), fold[present])
    if empty.size:
        raise ValueError(f"folds: fold {names[empty[0]]} has no row of positive weight")
    return fold.astype(np.int32)


def training_weights(batch: Batch, fold: Int[np.ndarray, "n"]) -> Float[np.ndarray, "f n"]:
    """The weights of the rows for every fold, 0 for those in it."""
    weight = fetched(batch.weight)
    held_out = fold[None] == np.arange(fold.max() + 1)[:, None]
    return np.where(held_out, 0.0, weight[None]).astype(weight.dtype)


def training_rows(batch: Batch, weight: Float[np.ndarray, "n"]) -> Batch:
    """The rows under other weights, for a prior: of those of weight 0 nothing is left to read."""
    return Batch.of(replace(batch, weight=weight, as_given=None))


def fit_lanes(
    models: list[list[Any]],
    batch: Batch,
    weights: Float[np.ndarray, "f n"],
    keys: Key[Array, "m f"],
    method: Method[Any],
    stop: Stop,
    num_restarts: int,
) -> tuple[Any, Result]:
    """All models fitted to the rows under all weights by one program.

    `models[i][j]` is fitted under `weights[j]`. The stacked models and the Result have leading axes
    (m, f). Raises as `fit` does.
    """
    stacked = stack([model for row in models for model in row])
    shape = len(models), len(models[0])
    stacked = jax.tree.map(lambda a: a.reshape(shape + a.shape[1:]), stacked)
    rows, _ = pad(replace(batch, names=None, as_given=None))
    weights = np.pad(weights, ((0, 0), (0, rows.weight.shape[0] - weights.shape[1])))

    def fit_under(weight: Array, models: Model, keys: Array) -> Result:
        present = replace(rows, weight=weight)

        def fit_one(model: Model, key: Array) -> Result:
            return fit(model, present, key=key, num_restarts=num_restarts, method=method, stop=stop)

        return jax.vmap(fit_one)(models, keys)

    # rows under other weights are made once for all models
    fit_all = jax.vmap(fit_under, in_axes=(0, 1, 1), out_axes=1)
    return stacked, fit_all(to_device(weights), stacked, keys)


def lane_keys(key: Key[Array, ""], m: int, f: int) -> Key[Array, "m f"]:
    """The key of lane (i, j), which is fold_in(fold_in(key, i), j)."""
    i, j = to_device(np.arange(m)), to_device(np.arange(f))
    own = jax.vmap(lambda i: jax.random.fold_in(key, i))(i)
    return jax.vmap(lambda key: jax.vmap(lambda j: jax.random.fold_in(key, j))(j))(own)


def held_out(
    models: Model, results: Result, batch: Batch, fold: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "m n"]:
    """Log predictive density in nats of every row from the fit without its fold; (m, f) models.

    It is -inf where that fit failed. Labels and weights of the rows are not looked at.
    """
    usable = fetched(results.usable)
    out = np.empty((usable.shape[0], len(fold)), fetched(batch.weight).dtype)
    rows = replace(batch.unfilled, label=None, as_given=None, group=None, patterns=None, names=None)
    for f in range(usable.shape[1]):
        which = np.flatnonzero(fold == f)
        part = rows.map_rows(_taker(which))
        part = replace(part, weight=np.ones(len(which), out.dtype))
        each = jax.tree.map(lambda a, f=f: a[:, f], (models, results.q))
        out[:, which] = fetched(read_rows(_log_predictive, part, *each)).T
        out[np.ix_(~usable[:, f], which)] = -np.inf
    return out


def _taker(which: Int[np.ndarray, "m"]) -> Callable[[Any], np.ndarray]:
    return lambda a: fetched(a)[which]


def _log_predictive(models: Predictor, q: Q, batch: Batch) -> Float[Array, "n m"]:
    """The density of each row under each model, as one program."""
    return jax.vmap(lambda model, q: model.log_held_out(q, batch), out_axes=1)(models, q)
