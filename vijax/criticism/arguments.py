"""The checks of what is criticised; errors name the argument."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from ..data.batch import Batch
from ..data.host import described, strong, to_device
from ..data.types import Data
from ..guides.transformed_normal import TransformedNormal
from ..infer.arguments import check_order, rows_of
from ..infer.result import Result
from ..infer.status import Status
from ..model import DensityModel, Model, unnamed


def prepare_density(
    model: Model, result: Result | TransformedNormal, data: Data | None
) -> tuple[DensityModel, TransformedNormal, Int[Array, ""], Batch]:
    """The model and its rows in one dtype, the q, and how its fit ended: CONVERGED without a fit.

    Raises TypeError or ValueError unless they belong together.
    """
    check_order(model, data)
    if not isinstance(model, DensityModel):
        raise TypeError(
            f"model: expected a DensityModel such as LogDensity, got {described(model)}"
        )
    q, status = posterior_of(result)
    if jax.tree.structure(q.space) != jax.tree.structure(model.space):
        raise ValueError(
            f"result: a q of {', '.join(q.space.names)}, but the model has other parameters, "
            f"shapes or constraints: {', '.join(model.space.names)}"
        )
    batch, _ = rows_of(model, data)
    dtype = batch.weight.dtype
    model.check(batch, False)
    model = cast(DensityModel, strong(unnamed(model), dtype))
    return model, jax.tree.map(lambda a: to_device(a, dtype), q), status, batch


def posterior_of(result: Result | TransformedNormal) -> tuple[TransformedNormal, Any]:
    """The q of a single fit and its status; TypeError or ValueError if it is something else."""
    q = result.q if isinstance(result, Result) else result
    if not isinstance(q, TransformedNormal):
        raise TypeError(
            "result: expected the Result of a fit of a LogDensity, or its q, a TransformedNormal, "
            f"got {described(result if q is None else q)}"
        )
    if q.location.ndim != 1:
        raise ValueError(
            f"result: holds fits of shape {q.location.shape[:-1]}; take one, result[i], or "
            "jax.vmap over them"
        )
    if isinstance(result, Result):
        return q, result.status
    return q, to_device(int(Status.CONVERGED), jnp.int32)
