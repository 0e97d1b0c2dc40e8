"""From what the user calls a start to a first q."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from .._host import as_floats, fetched, is_concrete, namespace, to_device
from .._pytree import replace
from .._shards import place_for_jit, to_auto
from ..batch import Batch
from ..natural import Natural
from .annealed import Annealed, anneal
from .passes import accumulate, automatic_chunk
from .result import Result

DRAWN = ("seeds", "random")  # starts that need a key


def read(model: Any, batch: Batch, init: Any) -> tuple[str, Any]:
    """Classify and check `init`: one of seeds, random, labels, responsibilities, q; and its value,
    inside of an `Annealed` if it was given in one.

    Raises ValueError or TypeError naming `init`, before anything is traced.
    """
    if isinstance(init, Annealed):
        plan = init.check(model, batch.weight.dtype)
        kind, value = read(model, batch, init.init)
        return kind, replace(plan, init=value)
    if init is None or isinstance(init, str):
        return read_name(model, init), None
    if isinstance(init, Result):
        init = init.q
    if isinstance(init, Natural):
        return "q", _check_q(model, init, batch)
    need_assignments(model)
    return read_rows(init, batch.weight, model.active, batch.sharding)


def read_name(model: Any, init: str | None) -> str:
    """Which kind of start is drawn."""
    if init is None:
        return "seeds"
    if init != "random":
        raise ValueError(f"init: expected None, 'random', an array or a Result, got {init!r}")
    need_assignments(model)
    return "random"


def read_rows(init: Any, weight: Any, active: Any, sharding: Any = None) -> tuple[str, Any]:
    """As `read`, of what says for every row to which component it belongs."""
    array = to_auto(init) if isinstance(init, jax.Array) else np.asarray(init)
    if array.ndim == 1 and jnp.issubdtype(array.dtype, jnp.integer):
        _check_labels(array, weight, active)
        return "labels", place_for_jit(array, sharding, jnp.int32)
    resp = as_floats("init", array)
    _check_responsibilities(resp, weight, active)
    return "responsibilities", place_for_jit(resp, sharding, weight.dtype)


def make(
    model: Any,
    batch: Batch,
    kind: str,
    value: Any,
    key: Key[Array, ""] | None,
    restart: Int[Array, ""] | int,
    point: bool,
) -> Any:
    """The first q of one restart, of a method that is at a `point` or not; traceable."""
    if isinstance(value, Annealed):
        first = make(model, batch, kind, value.init, key, restart, point)
        return anneal(model, batch, first, value)
    if kind == "q":
        return value
    if kind == "seeds":
        # at a point, components left at the prior are equal, and only rounding would part them
        return model.init(key, batch, 0 if point else restart)
    k = model.num_components
    if kind == "random":
        assert key is not None  # `fit` has checked it
        place = jax.random.randint(key, batch.weight.shape, 0, jnp.sum(model.active))
        value = jnp.argsort(~model.active, stable=True)[place]

    def once(q: Any) -> Any:
        def assign(rows: Any, model: Any, q: Any) -> Any:
            part, given = rows
            resp = given if given.ndim == 2 else jax.nn.one_hot(given, k, dtype=dtype)
            return model.assign(q, part, resp), jnp.zeros((), dtype)

        chunk = automatic_chunk(model.row_size(batch), batch.weight.dtype)
        stats, _ = accumulate(assign, (batch, value), chunk, model, q)
        return model.update(q, stats)

    dtype = batch.weight.dtype
    # the first round finds the means, the second takes the statistics about them
    return jax.lax.fori_loop(0, 2, lambda _, q: once(q), model.template)


def need_assignments(model: Any) -> None:
    """Raise ValueError for a model without latent assignments."""
    if not hasattr(model, "assign"):
        raise ValueError(
            f"init: {type(model).__name__} has no latent assignments; "
            "give None, or a q or Result to continue from"
        )


def _check_q(model: Any, q: Any, batch: Batch) -> Any:
    template = model.template
    if jax.tree.structure(q) != jax.tree.structure(template):
        given, own = type(q).__name__, type(template).__name__
        inside = " of other parts; what was relabelled or pruned starts no fit" * (given == own)
        raise TypeError(f"init: {type(model).__name__} is fitted by a {own}, got {given}{inside}")
    for given, own in zip(jax.tree.leaves(q), jax.tree.leaves(template), strict=True):
        if jnp.shape(given) != jnp.shape(own):
            raise ValueError(
                f"init: a q with arrays of shape {jnp.shape(given)} does not fit this model's "
                f"{jnp.shape(own)}; it must come from a fit of the same size"
            )
    return jax.tree.map(lambda a: to_device(a, batch.weight.dtype), q)


def _check_labels(labels: Any, weight: Any, active: Array) -> None:
    n = weight.shape[0]
    if labels.shape != (n,):
        raise ValueError(f"init: expected one label per row, shape ({n},), got {labels.shape}")
    if not is_concrete(labels, weight, active):
        return
    given, on = fetched(labels), np.flatnonzero(np.asarray(active))
    bad = (fetched(weight) > 0) & ~namespace(given).isin(given, on.astype(given.dtype))
    if bool(bad.any()):
        raise ValueError(
            f"init: labels must be components that are switched on, {on[0]} .. {on[-1]}; "
            f"found {int(given[int(bad.argmax())])}"
        )


def _check_responsibilities(resp: Any, weight: Any, active: Array) -> None:
    n, k = weight.shape[0], active.shape[0]
    if resp.shape != (n, k):
        raise ValueError(
            f"init: expected responsibilities of shape ({n}, {k}) or integer labels of shape "
            f"({n},), got shape {resp.shape} and dtype {resp.dtype}"
        )
    if not is_concrete(resp, weight, active):
        return
    given, on = fetched(resp), np.asarray(active)
    values = given if on.all() else namespace(given).where(on, given, 0.0)
    good = (values >= 0).all(-1) & (abs(values.sum(-1) - 1.0) < 1e-3)  # NaN is neither
    bad = (fetched(weight) > 0) & ~good  # a row of weight 0 may hold anything
    if bool(bad.any()):
        row = int(bad.argmax())
        raise ValueError(
            "init: responsibilities must be >= 0 and sum to one over the components that are "
            "switched on, in every row; "
            f"row {row} sums to {float(values[row].sum()):.6g}"
        )
