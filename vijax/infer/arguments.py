"""The checks of the arguments of `fit`, `fit_many` and the like; errors name the argument."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from .._pytree import replace
from ..data.batch import Batch, check_entries
from ..data.host import check_bound, check_integer, check_whole, described, sent, strong
from ..data.padding import pad
from ..data.types import Data
from ..latent_class import SplitMergeModel
from ..model import DensityModel, Model, unnamed
from .initialise import Init, Job, Start, parse_init
from .method import Method
from .moves import Moves
from .result import Stop
from .run.halving import Halving


def prepare_job(
    model: Model,
    data: Data | None,
    key: Key[Array, ""] | None,
    init: Init,
    method: Method[Any],
    stop: Stop,
    num_restarts: int = 1,
) -> tuple[Job, tuple[str, ...] | None, Any]:
    """Check the arguments of a fit; returns it, the names of the columns, and the number of rows.

    The rows of the fit are padded, so that data of other lengths run the same programs.
    """
    model, batch, method, stop, names = prepare(model, data, method, stop)
    start = parse_init(model, batch, init)
    check_start(model, key, start, num_restarts, method)
    num_rows = batch.weight.shape[0]
    if model.by_row:
        batch, by_row = pad(batch, start.value if start.of_rows else None)
        if start.of_rows:
            start = replace(start, value=by_row)
    return Job(model, batch, key, start, method, stop), names, num_rows


def prepare(
    model: Model, data: Data | None, method: Method[Any], stop: Stop
) -> tuple[Any, Batch, Any, Stop, tuple[str, ...] | None]:
    """Check model, data, method and stop; returns them and the names of the columns.

    They then have one dtype and strong types, so that only their shapes decide on compilation, and
    the batch has no names, so that other names compile nothing.
    """
    check_order(model, data)
    check_kinds(model, method, stop)
    batch = _named_rows(model, data)
    dtype, names = batch.weight.dtype, batch.names or model.names
    model, method = strong(unnamed(model), dtype), strong(method, dtype)
    model.check(batch, method.point)  # its errors know the names
    batch = replace(batch, names=None, levels=None, as_given=None)
    return model, batch, method, strong(stop, dtype), names


def rows_of(model: Model, data: Data | None) -> tuple[Batch, tuple[str, ...] | None]:
    """The rows in the form that the model takes, checked, and the names of their columns.

    The batch itself has no names. It has no rows for a density without any.
    """
    batch = _named_rows(model, data)
    names = batch.names or model.names
    return replace(batch, names=None, levels=None, as_given=None), names


def _named_rows(model: Model, data: Data | None) -> Batch:
    if data is None:
        return _no_rows(model)
    batch = model.as_batch(model.read(data))
    check_entries(batch)
    return batch


def _no_rows(model: Model) -> Batch:
    """The batch of a density without rows; TypeError for other models."""
    if not isinstance(model, DensityModel) or model.takes_rows:
        raise TypeError(f"data: {type(model).__name__} is a model of rows; give them")
    none: Any = np.zeros(0, model.space.float_dtype)
    return Batch(*sent((none, none)))


def check_order(model: object, data: object) -> None:
    """Raise TypeError if model and data are in each other's place."""
    if isinstance(data, Model) and not isinstance(model, Model):
        raise TypeError("model, data: the model comes first, such as fit(model, data)")


def check_kinds(model: Model, method: Method[Any], stop: Stop) -> None:
    """Raise TypeError unless they are a Model, a Method and a Stop; ValueError for bad settings."""
    if not isinstance(model, Model):
        raise TypeError(
            "model: expected a model such as GaussianMixture, a subclass of Model, got "
            f"{described(model)}"
        )
    if not isinstance(method, Method):
        raise TypeError(
            "method: expected a method such as CAVI() or EM(), a subclass of Method, got "
            f"{described(method)}"
        )
    if not isinstance(stop, Stop):
        raise TypeError(f"stop: expected Stop(...), got {described(stop)}")
    method.check(model)
    for name, value in {"method: chunk": method.chunk, "stop: trace": stop.trace}.items():
        if value is not None:
            check_integer(name, value)
            check_bound(name, value, least=1.0)
    for name in ("patience", "max_iter"):
        check_whole(f"stop: {name}", vars(stop)[name])
    for name, least in {"slack": 0.0, "tol": 0.0, "patience": 1.0, "max_iter": 1.0}.items():
        check_bound(f"stop: {name}", vars(stop)[name], least=least)


def check_start(
    model: Model, key: Any, start: Start, num_restarts: Any, method: Method[Any]
) -> None:
    """Raise TypeError or ValueError for a bad key, or for restarts that would all be equal."""
    check_integer("num_restarts", num_restarts)
    if num_restarts < 1:
        raise ValueError(f"num_restarts: must be at least 1, got {num_restarts}")
    drawn = start.drawn(model, num_restarts)
    check_key(key, drawn, method)
    if num_restarts > 1 and not (drawn or method.draws):
        raise ValueError("num_restarts: this start is deterministic, so restarts would be equal")


def check_key(key: Any, drawn: bool, method: Method[Any]) -> None:
    """Raise ValueError for a missing key, and TypeError unless it is a typed key."""
    if key is None:
        if drawn or method.draws:
            what = "start is" if drawn else "method's rows are"
            raise ValueError(f"key: this {what} drawn at random; pass key=jax.random.key(0)")
        return
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError(f"key: expected a typed key, jax.random.key(0), got {type(key).__name__}")
    if key.shape:
        raise ValueError(f"key: expected one key, got an array of keys of shape {key.shape}")


def checked_moves(model: Model, moves: Any, key: Any, dtype: Any) -> Moves | None:
    """The moves with strong types; raises TypeError or ValueError if the fit cannot make them."""
    if moves is None:
        return None
    if not isinstance(moves, Moves):
        raise TypeError(f"moves: expected Moves(...), got {described(moves)}")
    if not isinstance(model, SplitMergeModel):
        raise ValueError(f"moves: {type(model).__name__} has no components to move")
    if key is None:
        raise ValueError("key: moves are drawn at random; pass key=jax.random.key(0)")
    for name, value in vars(moves).items():
        check_bound(f"moves: {name}", value, least=0.0)
    return strong(moves, dtype)


def checked_halving(halving: Any, moves: Moves | None = None) -> Halving | None:
    """The halving with strong types; raises TypeError, or ValueError beside moves."""
    if halving is None:
        return None
    if not isinstance(halving, Halving):
        raise TypeError(f"halving: expected Halving(...), got {described(halving)}")
    if moves is not None:
        raise ValueError("halving: every start that moves is a search of its own; give one of them")
    check_bound("halving: sweeps", halving.sweeps, least=1.0)
    return strong(halving, jnp.float32)


def check_layout(layout: Any, known: tuple[str, ...]) -> None:
    """Raise TypeError or ValueError unless it is a known layout or a number of lanes."""
    if isinstance(layout, str) and layout in known:
        return
    if isinstance(layout, str):
        raise ValueError(f"layout: expected one of {', '.join(known)} or lanes, got {layout!r}")
    check_integer("layout", layout)
    if layout < 1:
        raise ValueError(f"layout: need at least 1 lane, got {layout}")
