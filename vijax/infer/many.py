"""`fit_many`: one model or many, fitted to many data sets by few programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key

from .._pytree import replace
from ..data.absent import absent
from ..data.batch import Batch
from ..data.host import fetched, is_concrete, sent, strong, to_device
from ..data.padding import longer
from ..data.sequences import by_sequence
from ..data.shards import platform_of
from ..data.types import Data
from ..exponential_family import ExponentialFamily
from ..model import Model
from .annealed import Annealed
from .arguments import check_kinds, check_layout, check_order, check_start, checked_halving
from .fits import Fits, with_models
from .initialise import Init, Job, Start, of_steps, parse_name, parse_rows, with_classes
from .method import Method
from .methods.default import method_for
from .result import Result, Stop, best
from .run.devices import deal, mesh_of, on_mesh
from .run.halving import Halving
from .run.interrupt import iterations_between_looks
from .run.lanes import Problem, Settings, take
from .run.passes import constant_of, has_fast_kernels
from .run.progress import Report, Reporter, listener_of, with_reporter
from .run.restarts import Problems, choose_layout, run_restarts
from .run.stacks import (
    Header,
    Part,
    Stack,
    in_order,
    is_identity,
    join,
    pick,
    stack_by_size,
)
from .stacked_models import names_of, stacked_models
from .status import Status

_Q = TypeVar("_Q")

_LAYOUTS = ("auto", "map", "vmap", "slots")


class Program(NamedTuple):
    """The static arguments of a program; `shared` says that all data sets have one model.

    The `header` has names only for models that do not know them.
    """

    num_restarts: int
    shared: bool
    layout: str | int
    mesh: Mesh | None
    platform: str | None
    header: Header


def fit_many(
    models: Model[_Q] | Sequence[Model[_Q]] | Callable[[Batch], Model[_Q]],
    datasets: Data | Sequence[Data],
    *,
    key: Key[Array, ""] | None = None,
    init: Init | Sequence[Init] = None,
    method: Method[Any] | None = None,
    stop: Stop = Stop(),
    num_restarts: int = 1,
    halving: Halving | None = None,
    layout: str | int = "auto",
    devices: Sequence[Any] | None = None,
    progress: bool = False,
    callback: Callable[[Report], Any] | None = None,
) -> Fits[_Q]:
    """Fit many data sets and return one Result with a leading axis m, in the order given.

    Member i is `fit(model_i, data_i, key=fold_in(key, i), ...)`, up to rounding. A fit that fails
    has that in its own `status` and touches no other. Raises TypeError or ValueError that name the
    argument; the values of the data are not checked. Runs under jit too, on stacked data.

    Args:
        models: One model for all; a list of models of equal structure, or one such pytree stacked
            on a leading axis; or a function that makes a model of a Batch.
        datasets: An array (m, n, d), a dict of such columns, a Batch with leading axis m, or a list
            of arrays or Batches of any sizes. Lists are padded by rows of weight 0 to powers of
            two, with one program for each; so is m.
        key, method, stop, num_restarts, halving: As in `fit`.
        init: As in `fit` but without `Annealed`, stacked or in a list.
        layout: "vmap" steps all fits until the last has ended, and "map" runs one after another. A
            number of lanes, or "slots", steps so many together and refills a lane with the next fit
            when one has ended. "auto" chooses by sizes and device, in bounded memory.
        devices: Devices that share the fits, by default all local ones.
        progress, callback: As in `fit`; every size, and every device, reports of its own fits.

    Example:
        x, _ = vx.datasets.three_clusters()
        build = lambda batch: vx.GaussianMixture.from_data(batch, 5)
        results = vx.fit_many(build, [x[:300], x[300:]], key=jax.random.key(0))
        print(results.elbo, results.status)
        labels = results.predict([x[:300], x[300:]])
    """
    check_order(models, datasets)
    first = models[0] if isinstance(models, list | tuple) and models else models
    datasets, header = in_order(
        datasets, names_of(models), first if isinstance(first, Model) else None
    )
    stacks, m = stack_by_size(datasets)
    dtype = stacks[0].parts["weight"].dtype
    names = header.names
    header = header if names_of(models) is None else header._replace(names=None)
    stacked, shared = stacked_models(models, stacks, m, dtype, header)
    chosen = method_for(stacked, method)
    check_kinds(stacked, chosen, stop)
    chosen, stop = strong(chosen, dtype), strong(stop, dtype)
    if not stacked.by_row:
        _check_sizes(stacks)
    halving = checked_halving(halving)
    start = _parse_inits(stacked, shared, init, stacks, m)
    check_start(stacked, key, start, num_restarts, chosen)
    check_layout(layout, _LAYOUTS)
    known_platform = datasets.platform if isinstance(datasets, Batch) else None
    traced = not is_concrete(*jax.tree.leaves((stacked, stacks[0].parts, key, start, stop)))

    def fit_stack(stack: Stack, reporter: Reporter | None) -> Part:
        count = len(stack.number)
        mesh = None if traced else mesh_of(devices, count)
        dealt = deal(count, mesh.size if mesh else 1, pad=not traced)
        number = stack.number[dealt.members]
        if mesh is not None:
            platform = mesh.devices.flat[0].platform
        else:
            platform = platform_of(stack.parts) or known_platform
        args = (
            stacked if shared else pick(stacked, number),
            pick(stack.parts, dealt.members),
            number.astype(np.int32),
            dealt.live,
            _start_of(start, stack, dealt.members),
            key,
            Settings(chosen, stop, halving, reporter),
        )
        program = Program(num_restarts, shared, layout, mesh, platform, header)
        result = _fit_many(program, *sent(args))
        return Part(stack.number, dealt.slots, result)

    # no number of rows, and so no rows per second: it differs from fit to fit
    listener = listener_of(progress, callback, 0)
    every = None
    # with several devices on a CPU, a program that asks may wait for the thread of another
    alone = len(jax.local_devices() if devices is None else devices) == 1
    if listener is None and alone and not traced:
        size = sum(np.size(a) for a in jax.tree.leaves(stacked)) // (1 if shared else m)
        floats = max(s.parts["weight"].shape[1] for s in stacks) * size
        every = iterations_between_looks(floats, fetched(stop.max_iter) * (m * num_restarts))

    def fit_all(reporter: Reporter | None) -> list[Part]:
        parts: list[Part] = []
        for stack in stacks:
            if parts and reporter is not None and reporter.stopped:
                parts.append(_not_begun(parts[0].tree, stack.number, stacked, shared))
            else:
                parts.append(fit_stack(stack, reporter))
        return parts

    parts = with_reporter(fit_all, listener, every)
    first = parts[0]
    if traced or (len(parts) == 1 and is_identity(first.slots, first.tree.status.shape[0])):
        result = first.tree
    else:
        result = join(parts, m)
    result = result if names is None else replace(result, names=names)
    return with_models(result, None if traced else stacked, shared and not traced)


def _check_sizes(stacks: list[Stack]) -> None:
    """Raise ValueError if a data set would be padded by rows."""
    sizes = [stack.size for stack in stacks if stack.size is not None]
    if sizes and len(np.unique(np.concatenate(sizes))) > 1:
        raise ValueError(
            "datasets: of different size, but this model needs all rows of a data set together, "
            "without padding; fit sizes apart, or make a LogDensity with independent_rows=True"
        )


def _not_begun(like: Result, number: np.ndarray, models: Model, shared: bool) -> Part:
    """Fits that were interrupted before they began, in the form of those of another stack."""
    m = len(number)
    template = (models if shared else pick(models, number)).template
    if shared:
        template = jax.tree.map(lambda a: np.broadcast_to(a, (m, *a.shape)), template)

    def blank(tree: Any) -> Any:
        lost = {"elbo": np.nan, "status": int(Status.INTERRUPTED), "n_iter": 0}
        fields = {name: _full(m, getattr(tree, name), value) for name, value in lost.items()}
        return replace(
            tree,
            _elbo_trace=absent((m, *tree._elbo_trace.shape[1:]), tree._elbo_trace.dtype),
            **fields,
        )

    assert like.runs is not None  # `best` keeps them
    return Part(number, np.arange(m), replace(blank(like), q=template, runs=blank(like.runs)))


def _full(m: int, like: Array, value: float | int) -> Array:
    return to_device(np.full((m, *like.shape[1:]), value, like.dtype))


@partial(jax.jit, static_argnums=0)
def _fit_many(program: Program, *args: Any) -> Result:
    """`_fit_share` on every device, with its own share of all arguments but key and settings."""
    split = (not program.shared, True, True, True, True, False, False)
    return on_mesh(partial(_fit_share, program), program.mesh, args, split)


def _fit_share(
    program: Program,
    models: Model,
    parts: dict[str, Any],
    number: Array,
    live: Array,
    start: Start,
    key: Key[Array, ""] | None,
    settings: Settings,
) -> Result:
    """The best runs of the first `live[0]` of these data sets; the others are padding."""
    num_restarts, shared, layout, _, platform, header = program
    batches = Batch(**parts, **header._asdict(), platform=platform)
    batches = _as_batches(models, batches, shared, settings.method.point)

    def load(i: Array) -> Any:
        return take((batches, number, start, None if shared else models), i)

    def problem(args: Any, restart: Int[Array, ""] | int) -> Problem:
        batch, i, start, model = args
        model = models if shared else model
        own_key = None if key is None else jax.random.fold_in(key, i)
        return Job(model, batch, own_key, start, settings.method, settings.stop).problem(restart)

    m, n = batches.weight.shape
    if layout in ("auto", "slots"):
        row_size, alone = constant_of(partial(_row_size_and_kernels, shared), models, batches)
        floats, slots = n * row_size, layout == "slots"
        sequences = None if batches.steps is None else n
        layout = choose_layout(m * num_restarts, floats, platform, slots, alone, sequences)
    problems = Problems(load, problem, m, num_restarts, live[0], platform)
    return best(run_restarts(settings, problems, layout))


def _as_batches(models: Model, batches: Batch, shared: bool, point: bool) -> Batch:
    """Stacked rows in the form that the models take; raises as their checks of shapes do."""

    def as_batch(model: Model, batch: Batch) -> Batch:
        batch = model.as_batch(batch)
        model.check(batch, point)
        return replace(batch, names=None, levels=None)

    return jax.vmap(as_batch, in_axes=(None if shared else 0, 0))(models, batches)


def _row_size_and_kernels(shared: bool, models: Model, batches: Batch) -> tuple[int, bool]:
    """Floats per row of an E-step, and whether a run by itself has a faster kernel."""
    model = models if shared else jax.tree.map(lambda a: a[0], models)
    batch = jax.tree.map(lambda a: a[0], batches)
    return model.row_size(batch), has_fast_kernels(model, batch)


# -- starts ---------------------------------------------------------------------------------------


def _parse_inits(models: Model, shared: bool, init: Any, stacks: list[Stack], m: int) -> Start:
    """The start of all data sets: a stacked q, or labels or responsibilities of all rows.

    They are stacked like the rows; of a list, the rows of all data sets are in one axis.
    """
    if isinstance(init, Annealed):
        raise TypeError(
            "init: Annealed is a start of `fit`; fit_many takes any that it goes around"
        )
    if init is None or isinstance(init, str):
        return parse_name(models, init)
    if isinstance(init, Result):
        init = init.q
    if isinstance(init, ExponentialFamily):
        template = models.template
        shapes = [(m, *a.shape[0 if shared else 1 :]) for a in jax.tree.leaves(template)]
        if jax.tree.structure(init) != jax.tree.structure(template):
            raise TypeError(f"init: these models are fitted by a {type(template).__name__}")
        given = [jnp.shape(a) for a in jax.tree.leaves(init)]
        if given != shapes:
            raise ValueError(
                f"init: a q for each of {m} data sets has arrays of shape {shapes[0]}, ..., got "
                f"{given[0]}"
            )
        return Start("q", strong(init, stacks[0].parts["weight"].dtype))
    models = with_classes(models)
    weight = stacks[0].parts["weight"]
    if stacks[0].rows is None:
        host = init if isinstance(init, jax.Array) else np.asarray(init)
        steps = stacks[0].parts.get("steps")
        if models.one_class_per_row and steps is not None and host.shape[:2] == weight.shape:
            host = of_steps(host, steps.shape)
        flat, shape = host.reshape(-1, *host.shape[2:]), host.shape[:2]
    else:
        flat, shape = None, (len(init),)
    if shape[0] != m or (len(shape) > 1 and shape != weight.shape):
        raise ValueError(f"init: expected labels or responsibilities for {m} data sets")
    if flat is None:
        flat = np.concatenate(_by_data_set(init, stacks, models.one_class_per_row))
    active = models.active if shared else jnp.any(models.active, 0)
    start = parse_rows(flat, _flat_weight(stacks), active)
    if stacks[0].rows is not None:
        return start
    return Start(start.kind, start.value.reshape(*shape, *start.value.shape[1:]))


def _by_data_set(init: Any, stacks: list[Stack], whole: bool) -> list[np.ndarray]:
    """The values of the rows of each data set, of sequences with as many steps as the longest.

    `whole` says that those of sequences are one for each.
    """
    if "steps" not in stacks[0].parts:
        return [fetched(a) for a in init]
    most = max(stack.parts["steps"].shape[2] for stack in stacks)
    found: dict[int, np.ndarray] = {}
    for stack in stacks:
        assert stack.size is not None  # a list
        assert stack.length is not None
        for i, n, t in zip(stack.number, stack.size, stack.length, strict=True):
            name, shape = f"init[{i}]", (int(n), int(t))
            if whole:
                own = np.asarray(fetched(init[i]))
                if own.shape[:1] != shape[:1]:
                    raise ValueError(f"{name}: expected one for each of {n} sequences")
                own = of_steps(own, shape)
            else:
                own = fetched(by_sequence(name, init[i], shape, fill=-1))
            found[int(i)] = longer(own, most, axis=1)
    return [found[i] for i in range(len(found))]


def _flat_weight(stacks: list[Stack]) -> Any:
    """The weights of all rows of all data sets, on one axis; of sequences, of all their steps."""

    def weight_of(parts: dict[str, Any]) -> Any:
        weight, steps = parts["weight"], parts.get("steps")
        return weight if steps is None else weight[..., None] * steps

    first = weight_of(stacks[0].parts)
    ragged = [(s.rows, weight_of(s.parts)) for s in stacks if s.rows is not None]
    if not ragged:
        return first.reshape(-1, *first.shape[2:])
    most = max(own.shape[2:] for _, own in ragged)
    weight = np.zeros((1 + max(rows.max() for rows, _ in ragged), *most), first.dtype)
    for rows, padded in ragged:
        here = weight[:, : padded.shape[2]] if most else weight
        np.maximum.at(here, rows, padded)
    return weight


def _start_of(start: Start, stack: Stack, members: np.ndarray) -> Start:
    """The start of these members of a stack."""
    if start.value is None:
        return start
    if start.kind == "q":
        return Start("q", pick(start.value, stack.number[members]))
    value = start.value if stack.rows is None else fetched(start.value)[stack.rows]
    if stack.rows is not None and "steps" in stack.parts:
        value = value[:, :, : stack.parts["steps"].shape[2]]
    return Start(start.kind, pick(value, members))
