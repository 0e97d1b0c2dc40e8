"""`fit_many`: one model or many, fitted to many data sets by few programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Key

from ..data.batch import Batch
from ..data.host import is_concrete, strong
from ..data.shards import platform_of
from ..data.types import Data
from ..exponential_family import ExponentialFamily
from ..model import ConditionalModel, Model, Q
from .annealed import Annealed
from .arguments import check_kinds, check_layout, check_start, checked_halving
from .initialise import Init, Start, parse_name, parse_rows, with_classes
from .method import Method
from .methods.cavi import CAVI
from .result import Result, Stop, best
from .run import padding
from .run.device_shards import mesh_of, places, spread
from .run.halving import Halving
from .run.lanes import Problem
from .run.padding import Stack
from .run.passes import num_kernels
from .run.progress import Report, Reporter, listener_of, watched
from .run.restarts import Problems, choose_layout, keys_of, run_restarts

_LAYOUTS = ("auto", "map", "vmap", "slots")


def fit_many(
    models: Model | Sequence[Model] | Callable[[Batch], Model],
    datasets: Data | Sequence[Data],
    *,
    key: Key[Array, ""] | None = None,
    init: Init | Sequence[Init] = None,
    method: Method[Any] = CAVI(),
    stop: Stop = Stop(),
    num_restarts: int = 1,
    halving: Halving | None = None,
    layout: str | int = "auto",
    devices: Sequence[Any] | None = None,
    progress: bool = False,
    callback: Callable[[Report], Any] | None = None,
) -> Result:
    """Fit every data set and return one Result with leading axis m, in the order given.

    Member i is what `fit(model_i, data_i, key=fold_in(key, i), ...)` returns, up to rounding.

    `datasets` is stacked, an array (m, n, d), a dict of such columns or a Batch with leading axis
    m, or a list of arrays or Batches of any sizes: those are padded by rows of weight 0 to powers
    of two, one program for each. `models` is one model for all, a list of models of equal
    structure or one such pytree stacked on a leading axis, or a function that makes a model of
    a Batch, such as `lambda x: GaussianMixture.from_data(x, 5)`; the number of data sets is
    padded to a power of two as well. `init` is as in `fit`, stacked or a list.

    `layout`: "vmap" steps all fits until the last has ended, "map" runs one after another, and a
    number of lanes, or "slots", has so many step together in one loop and gives each
    that ends the next fit; "auto" chooses by device and sizes, such that the lanes' rows stay in
    a bounded memory. With several `devices` (by default all local ones) each takes its share.
    `halving` leaves most restarts early. Runs under jit of the surroundings too, on stacked data.
    `progress` and `callback` are as in `fit`; each size, and each device, reports of the fits that
    it has in hand.

    Raises TypeError or ValueError that name the argument. Values of the data are not looked at:
    a data set with NaN, or whose fit fails, has it in its own `status`, and touches no other.
    """
    found, m = padding.stacks(datasets)
    dtype = found[0].parts["weight"].dtype
    stacked, shared = _models(models, found, m, dtype)
    check_kinds(stacked, method, stop)
    method, stop = strong(method, dtype), strong(stop, dtype)
    halving = checked_halving(halving)
    start = _start(stacked, shared, init, found, m)
    check_start(stacked, key, start, num_restarts, method)
    check_layout(layout, _LAYOUTS)
    traced = not is_concrete(*jax.tree.leaves((stacked, found[0].parts, key, start, stop)))

    def one(stack: Stack, reporter: Reporter | None) -> tuple[Any, Any, Result]:
        count = len(stack.number)
        mesh = None if traced else mesh_of(devices, count)
        place, live, where = places(count, mesh.size if mesh else 1, pad=not traced)
        own_start = start
        if start.value is not None:
            whole = start.kind == "q"
            rows = start.value if whole else _like_rows(start.value, stack)
            own = _pick(rows, stack.number[place] if whole else place)
            own_start = Start(start.kind, own)
        own_models = stacked if shared else _pick(stacked, stack.number[place])
        parts = _pick(stack.parts, place)
        platform = platform_of(stack.parts) if mesh is None else mesh.devices.flat[0].platform
        result = _fit_many(
            own_models,
            parts,
            stack.number[place].astype(np.int32),
            live,
            key,
            own_start,
            method,
            stop,
            halving,
            reporter,
            num_restarts=num_restarts,
            shared=shared,
            layout=layout,
            mesh=mesh,
            platform=platform,
        )
        return stack.number, where, result

    # rows differ from fit to fit: their speed is not told
    listener = listener_of(progress, callback, 0)
    parts = watched(lambda reporter: [one(stack, reporter) for stack in found], listener)
    if traced or (len(parts) == 1 and _is_whole(parts[0][1], parts[0][2])):
        return parts[0][2]
    return _in_order(parts, m)


@partial(jax.jit, static_argnames=("num_restarts", "shared", "layout", "mesh", "platform"))
def _fit_many(
    models: Model,
    parts: dict[str, Any],
    number: Array,
    live: Array,
    key: Key[Array, ""] | None,
    start: Start,
    method: Method[Any],
    stop: Stop,
    halving: Halving | None,
    reporter: Reporter | None,
    *,
    num_restarts: int,
    shared: bool,
    layout: str | int,
    mesh: Mesh | None,
    platform: str | None,
) -> Result:
    def share(
        models: Model, parts: dict[str, Any], number: Array, live: Array, start: Start, rest: Any
    ) -> Result:
        key, method, stop, halving, reporter = rest
        batches = _as_batches(models, Batch(**parts, platform=platform), shared, method.point)

        def load(i: Array) -> Any:
            def one(tree: Any) -> Any:
                return jax.tree.map(
                    lambda a: jax.lax.dynamic_index_in_dim(a, i, 0, keepdims=False), tree
                )

            return one(batches), one(number), one(start), None if shared else one(models)

        def problem(own: Any, restart: ArrayLike) -> Problem:
            batch, i, start, model = own
            model = models if shared else model
            own_key = None if key is None else jax.random.fold_in(key, i)
            k_start, k_steps = keys_of(own_key, restart)

            def first() -> Q:
                return start.make(model, batch, k_start, restart, method.point)

            return Problem(model, batch, k_steps, first)

        m, n = batches.weight.shape
        chosen = layout
        if layout in ("auto", "slots"):
            row_size, alone = _of_one(models, batches, shared)
            floats, slots = n * row_size, layout == "slots"
            chosen = choose_layout(m * num_restarts, floats, platform, slots, alone)
        problems = Problems(load, problem, m, num_restarts, live[0], platform)
        return best(run_restarts(method, stop, halving, problems, chosen, reporter))

    rest = (key, method, stop, halving, reporter)
    args = (models, parts, number, live, start, rest)
    return spread(share, mesh, args, (not shared, True, True, True, True, False))


def _as_batches(models: Model, batches: Batch, shared: bool, point: bool) -> Batch:
    """Stacked rows in the form that the models take; raises as their checks of shapes do."""

    def one(model: Model, batch: Batch) -> Batch:
        batch = model.as_batch(batch)
        model.check(batch, point)
        return batch

    return jax.vmap(one, in_axes=(None if shared else 0, 0))(models, batches)


def _of_one(models: Model, batches: Batch, shared: bool) -> tuple[int, bool]:
    """Floats per row of a step, and whether a run by itself has more than one kernel."""
    found: list[tuple[int, bool]] = []

    def look(models: Model, batches: Batch) -> None:
        model = models if shared else jax.tree.map(lambda a: a[0], models)
        batch = jax.tree.map(lambda a: a[0], batches)
        found.append((model.row_size(batch), _has_kernels(model, batch)))

    jax.eval_shape(look, models, batches)
    return found[0]


def _has_kernels(model: Model, batch: Batch) -> bool:
    return isinstance(model, ConditionalModel) and num_kernels(model, batch) > 1


# -- models ---------------------------------------------------------------------------------------


def _models(
    models: Model | Sequence[Model] | Callable[[Batch], Model],
    found: list[Stack],
    m: int,
    dtype: Any,
) -> tuple[Any, bool]:
    """One model, or a stack of m, strongly typed; and whether it is one."""
    if isinstance(models, list | tuple):
        if len(models) != m:
            raise ValueError(f"models: {len(models)} of them for {m} data sets")
        kinds = {jax.tree.structure(model) for model in models}
        if len(kinds) > 1:
            raise TypeError("models: all need the same structure")
        try:
            stacked = jax.tree.map(lambda *a: np.stack([np.asarray(v) for v in a]), *models)
        except ValueError as error:
            raise ValueError(f"models: arrays of different shape: {error}") from None
        return strong(stacked, dtype), False
    if callable(models) and not isinstance(models, Model):
        return strong(_built(models, found, m), dtype), False
    models = strong(models, dtype)
    leaves = jax.tree.leaves(models)
    if not leaves or any(a.ndim == 0 or a.shape[0] != m for a in leaves):
        return models, True
    example = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), found[0].parts)
    return models, _is_one(_shapes(models), _shapes(example))


def _built(make: Callable[[Batch], Any], found: list[Stack], m: int) -> Any:
    """The models that a function makes, in the order of the data sets."""
    parts = []
    for stack in found:
        count = len(stack.number)
        place, _, where = places(count, 1)
        parts.append((stack.number, where, _build(make, _pick(stack.parts, place))))
    return _in_order(parts, m)


@partial(jax.jit, static_argnums=0)
def _build(make: Callable[[Batch], Any], parts: dict[str, Any]) -> Any:
    return jax.vmap(make)(Batch(**parts))


def _shapes(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((tuple(a.shape), np.dtype(a.dtype)) for a in leaves)


@lru_cache(maxsize=256)
def _is_one(model: Any, parts: Any) -> bool:
    """Whether arrays of these shapes are a model for such rows, by tracing a step of it."""

    def make(known: Any) -> Any:
        structure, leaves = known
        return jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves])

    def step(model: Any, parts: dict[str, Any]) -> Any:
        batch = model.as_batch(Batch(**parts))
        q = model.template
        e = model.local(q.moments(), batch)
        return q, model.update(q, e.stats), e.log_z, batch.weight

    try:
        q, new, log_z, weight = jax.eval_shape(step, make(model), make(parts))
    except Exception:  # whatever a model says to arrays of the wrong rank
        return False
    same = jax.tree.map(lambda a, b: a.shape == b.shape, q, new)
    return all(jax.tree.leaves(same)) and log_z.shape == weight.shape


# -- starts ---------------------------------------------------------------------------------------


def _start(models: Model, shared: bool, init: Any, found: list[Stack], m: int) -> Start:
    """As `parse_init`, of all data sets: q stacked, rows of all data sets in turn."""
    if isinstance(init, Annealed):
        raise TypeError(
            "init: Annealed is a start of `fit`; fit_many takes any that it goes around"
        )
    if init is None or isinstance(init, str):
        return parse_name(models, init)
    if isinstance(init, Result):
        init = init.q
    if isinstance(init, ExponentialFamily):
        example = models.template
        given = jax.tree.leaves(init)
        own = [(m, *a.shape[0 if shared else 1 :]) for a in jax.tree.leaves(example)]
        if jax.tree.structure(init) != jax.tree.structure(example):
            raise TypeError(f"init: these models are fitted by a {type(example).__name__}")
        if [jnp.shape(a) for a in given] != own:
            raise ValueError(
                f"init: a q for each of {m} data sets has arrays of shape {own[0]}, ..., got "
                f"{jnp.shape(given[0])}"
            )
        return Start("q", strong(init, found[0].parts["weight"].dtype))
    models = with_classes(models)
    if found[0].rows is None:
        host = init if isinstance(init, jax.Array) else np.asarray(init)
        flat, shape = host.reshape(-1, *host.shape[2:]), host.shape[:2]
    else:
        arrays = [np.asarray(a) for a in init]
        flat, shape = np.concatenate(arrays), (len(arrays),)
    if shape[0] != m or (len(shape) > 1 and shape != found[0].parts["weight"].shape):
        raise ValueError(f"init: expected labels or responsibilities for {m} data sets")
    active = models.active if shared else jnp.any(models.active, 0)
    start = parse_rows(flat, _flat_weight(found, m), active)
    if found[0].rows is not None:
        return start
    return Start(start.kind, start.value.reshape(*shape, *start.value.shape[1:]))


def _flat_weight(found: list[Stack], m: int) -> Any:
    if found[0].rows is None:
        return found[0].parts["weight"].reshape(-1)
    rows = np.concatenate([stack.rows.reshape(-1) for stack in found if stack.rows is not None])
    weight = np.zeros(rows.max() + 1, found[0].parts["weight"].dtype)
    for stack in found:
        assert stack.rows is not None  # as of the first
        np.maximum.at(weight, stack.rows, stack.parts["weight"])
    return weight


def _like_rows(value: Any, stack: Stack) -> Any:
    return value if stack.rows is None else np.asarray(value)[stack.rows]


# -- places ---------------------------------------------------------------------------------------


def _pick(tree: Any, place: np.ndarray) -> Any:
    """Members of these places of a leading axis; on the host, where nothing compiles."""

    def one(leaf: Any) -> Any:
        if len(place) == leaf.shape[0] and (place == np.arange(len(place))).all():
            return leaf
        return np.asarray(leaf)[place]

    return jax.tree.map(one, tree)


def _is_whole(where: np.ndarray, result: Any) -> bool:
    return bool(len(where) == result.status.shape[0] and (where == np.arange(len(where))).all())


def _in_order(parts: list[tuple[np.ndarray, np.ndarray, Any]], m: int) -> Any:
    """One stack of all parts: member `where[j]` of a part is number `number[j]`."""

    def one(*leaves: Any) -> Any:
        first = np.asarray(leaves[0])
        out = np.empty((m, *first.shape[1:]), first.dtype)
        for (number, where, _), leaf in zip(parts, leaves, strict=True):
            out[number] = np.asarray(leaf)[where]
        return out

    return jax.device_put(jax.tree.map(one, *(part for _, _, part in parts)))
