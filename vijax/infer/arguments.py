"""Every check of the arguments of `fit` and its kin, once: errors name the argument."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._pytree import replace
from ..data.batch import Batch
from ..data.host import check_bound, check_integer, strong
from ..data.types import Data
from ..model import Model, SplitMergeModel
from .initialise import Start
from .method import Method
from .moves import Moves
from .result import Stop
from .run.halving import Halving


class Prepared(NamedTuple):
    """Arguments of one dtype and strong types, so that only shapes decide on compilation.

    `names` are those of the data's columns; they are taken off the batch, for another name must
    not be another program.
    """

    model: Any
    batch: Batch
    method: Any
    stop: Stop
    names: tuple[str, ...] | None


def prepare(model: Model, data: Data, method: Method[Any], stop: Stop) -> Prepared:
    """Check what one fit is made of, and put rows and prior together."""
    check_kinds(model, method, stop)
    batch = model.as_batch(Batch.for_jit(data))
    dtype = batch.weight.dtype
    model, method = strong(model, dtype), strong(method, dtype)
    model.check(batch, method.point)
    names = batch.names
    return Prepared(model, replace(batch, names=None), method, strong(stop, dtype), names)


def check_kinds(model: Any, method: Any, stop: Any) -> None:
    """Raise TypeError for what is no model, method or Stop; ValueError for bad settings."""
    if not isinstance(model, Model):
        raise TypeError(
            f"model: expected a model such as GaussianMixture, a subclass of Model, got {model!r}"
        )
    if not isinstance(method, Method):
        raise TypeError(
            f"method: expected a method such as CAVI() or EM(), a subclass of Method, got "
            f"{method!r}"
        )
    if not isinstance(stop, Stop):
        raise TypeError(f"stop: expected Stop(...), got {stop!r}")
    for name, value in {"method: chunk": method.chunk, "stop: trace": stop.trace}.items():
        if value is not None:
            check_integer(name, value)
            check_bound(name, value, least=1.0)
    method.check(model)
    check_bound("stop: slack", stop.slack, least=0.0)
    check_bound("stop: tol", stop.tol, least=0.0)
    check_bound("stop: patience", stop.patience, least=1.0)
    check_bound("stop: max_iter", stop.max_iter, least=1.0)


def check_start(
    model: Model, key: Any, start: Start, num_restarts: Any, method: Method[Any]
) -> None:
    """Raise for a key that is missing or no key, and for restarts that would all be equal."""
    drawn = start.drawn(model)
    check_key(key, drawn, method)
    check_integer("num_restarts", num_restarts)
    if num_restarts < 1:
        raise ValueError(f"num_restarts: must be at least 1, got {num_restarts}")
    if num_restarts > 1 and not (drawn or method.draws):
        raise ValueError("num_restarts: this start is deterministic, so restarts would be equal")


def check_key(key: Any, drawn: bool, method: Method[Any]) -> None:
    """Raise ValueError for a missing key, TypeError for what is no typed key."""
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
    """Strongly typed; raises for anything but Moves, a model without components, a missing key."""
    if moves is None:
        return None
    if not isinstance(moves, Moves):
        raise TypeError(f"moves: expected Moves(...), got {moves!r}")
    if not isinstance(model, SplitMergeModel):
        raise ValueError(f"moves: {type(model).__name__} has no components to move")
    if key is None:
        raise ValueError("key: moves are drawn at random; pass key=jax.random.key(0)")
    check_bound("moves: max_trials", moves.max_trials, least=0.0)
    check_bound("moves: patience", moves.patience, least=0.0)
    check_bound("moves: sweeps", moves.sweeps, least=0.0)
    check_bound("moves: min_improvement", moves.min_improvement, least=0.0)
    return strong(moves, dtype)


def checked_halving(halving: Any, moves: Moves | None = None) -> Halving | None:
    """Strongly typed; raises TypeError for anything but Halving, ValueError beside moves."""
    if halving is None:
        return None
    if not isinstance(halving, Halving):
        raise TypeError(f"halving: expected Halving(...), got {halving!r}")
    if moves is not None:
        raise ValueError("halving: every start that moves is a search of its own; give one of them")
    check_bound("halving: sweeps", halving.sweeps, least=1.0)
    return strong(halving, jnp.float32)


def check_layout(layout: Any, known: tuple[str, ...]) -> None:
    """Raise ValueError for an unknown layout or less than one lane, TypeError for no integer."""
    if isinstance(layout, str) and layout in known:
        return
    if isinstance(layout, str):
        raise ValueError(f"layout: expected one of {', '.join(known)} or lanes, got {layout!r}")
    check_integer("layout", layout)
    if layout < 1:
        raise ValueError(f"layout: need at least 1 lane, got {layout}")
