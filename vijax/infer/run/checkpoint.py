"""A fit to Chunks on disk, between two passes."""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._pytree import pytree, replace
from ...data import storage
from ...data.host import fetched, to_device
from ...model import ConditionalModel
from ..method import FullPassMethod
from ..result import Stop
from ..status import Status
from .loop import Run


@pytree
class Checkpoint:
    """All that a fit to Chunks carries from pass to pass.

    `run` has a leading axis of restarts. `num_rows` and `total`, the sum of all row weights,
    identify the rows.
    """

    model: ConditionalModel
    method: FullPassMethod
    run: Run
    num_rows: int
    total: float

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a file, which appears complete or not at all."""
        storage.save(path, self)


def read(
    path: str | os.PathLike[str],
    model: ConditionalModel,
    method: FullPassMethod,
    stop: Stop,
    num_restarts: int,
) -> Checkpoint:
    """The checkpoint in a file of the same fit.

    `stop` may be another one: lanes that ended at the iteration limit go on if it is higher now.
    Raises OSError if the file cannot be opened, and ValueError naming an argument that differs.
    """
    saved = storage.load(path)
    name = os.fsdecode(path)
    if not isinstance(saved, Checkpoint):
        raise ValueError(f"resume: {name} holds a {type(saved).__name__}, no checkpoint of a fit")
    _check_same("model", name, model, saved.model)
    _check_same("method", name, method, saved.method)
    run = saved.run
    if run.status.shape != (num_restarts,):
        raise ValueError(
            f"num_restarts: {name} has {run.status.shape[0]} of them, got {num_restarts}"
        )
    if run.elbo_trace.shape[-1] != stop.trace:
        raise ValueError(
            f"stop: trace: {name} has room for {run.elbo_trace.shape[-1]} iterations, "
            f"got {stop.trace}"
        )
    status, n_iter = fetched(run.status), fetched(run.n_iter)
    more = (status == Status.MAX_ITER) & (n_iter < fetched(stop.max_iter))
    status = np.where(more, int(Status.RUNNING), status)
    return replace(saved, run=replace(run, status=to_device(status, run.status.dtype)))


def _check_same(what: str, name: str, given: Any, stored: Any) -> None:
    """Raise ValueError if a model or method differs from the one stored in the file `name`."""
    if jax.tree.structure(given) != jax.tree.structure(stored):
        raise ValueError(
            f"{what}: {name} is of a fit of another {what}: {type(stored).__name__} there, "
            f"{type(given).__name__} here, or other parts or settings of it"
        )
    pairs = zip(jax.tree_util.tree_leaves_with_path(given), jax.tree.leaves(stored), strict=True)
    for (path, a), b in pairs:
        field = jax.tree_util.keystr(path, simple=True, separator=".")
        if jnp.shape(a) != jnp.shape(b) or jnp.result_type(a) != jnp.result_type(b):
            raise ValueError(
                f"{what}: {field} is {jnp.result_type(b)} of shape {jnp.shape(b)} in {name}, "
                f"{jnp.result_type(a)} of shape {jnp.shape(a)} here"
            )
        if not np.array_equal(fetched(a), fetched(b), equal_nan=True):
            raise ValueError(f"{what}: {field} has other values in {name} than here")
