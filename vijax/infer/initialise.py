"""From the argument `init` of `fit` to the first q of each restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Int, Key

from .._pytree import pytree, replace, static
from ..data.batch import Batch
from ..data.chunked import accumulate, automatic_chunk
from ..data.host import as_floats, fetched, is_concrete, namespace, sent, to_device
from ..data.padding import compiled
from ..data.reader import read_labels
from ..data.sequences import by_sequence, step_weight
from ..data.shards import place_for_jit, to_auto
from ..data.types import Arrays
from ..exponential_family import ExponentialFamily
from ..guides.transformed_normal import TransformedNormal
from ..latent_class import ComponentParams, LatentClassModel, MergeModel, SplitMergeModel
from ..model import DensityModel, Model, Q
from .annealed import Annealed, anneal
from .grow import embed, grow
from .merge_classes import merge_classes
from .method import Method
from .result import Result, Stop
from .run.lanes import Problem
from .split_merge import split_merge

# parameters of a density may be in any pytree, most often in a dict
Init = (
    str
    | Arrays
    | Mapping[str, Any]
    | ExponentialFamily
    | TransformedNormal
    | Result
    | Annealed
    | None
)


@pytree
class Start:
    """The parsed argument `init` of `fit`.

    `kind` is "seeds" (`model.init`), "random", "labels", "responsibilities", "q", or "smaller" for
    a q of fewer components; `value` is None for the first two. `annealed` is the schedule of an
    `Annealed` start, if it is one.
    """

    kind: str = static()
    value: Any = None
    annealed: Annealed | None = None

    @property
    def of_rows(self) -> bool:
        """Whether `value` has an entry for each row."""
        return self.kind in ("labels", "responsibilities")

    def drawn(self, model: Model, num_restarts: int = 1) -> bool:
        """Whether some start is random and so needs a key."""
        fixed = num_restarts == 1 and model.first_is_fixed
        return self.kind == "random" or (self.kind == "seeds" and model.draws and not fixed)


class Job(NamedTuple):
    """A fit from one or several starts, its arguments checked; `key` is that of all starts."""

    model: Model
    batch: Batch
    key: Key[Array, ""] | None
    start: Start
    method: Method[Any]
    stop: Stop

    def problem(self, restart: Int[Array, ""] | int) -> Problem:
        """The fit from one of the starts."""
        model, batch, key, start = self.model, self.batch, self.key, self.start
        k_start, k_steps = None, None
        if key is not None:
            k_start, k_steps = jax.random.split(jax.random.fold_in(key, restart))

        def first_q() -> Q:
            if start.kind == "q":
                q = start.value
            elif start.kind == "smaller":
                assert isinstance(model, SplitMergeModel)  # the arguments have been checked
                q = grow(self.method, model, batch, embed(model, start.value, batch))
            elif start.kind == "seeds":
                q = model.init(k_start, batch, restart)
                if isinstance(model, SplitMergeModel) and not self.method.point:
                    q = split_merge(model, batch, q, restart)
                elif isinstance(model, MergeModel) and not self.method.point:
                    q = merge_classes(model, batch, q)
            else:
                latent = with_classes(model)
                q = _assigned(latent, batch, _labels(start, latent, batch, k_start))
            if start.annealed is None:
                return q
            return anneal(with_classes(model), batch, q, start.annealed)

        return Problem(model, batch, k_steps, first_q)


def _labels(
    start: Start, model: LatentClassModel, batch: Batch, key: Key[Array, ""] | None
) -> Array:
    """The labels (n,) or responsibilities (n, k) to start from."""
    if start.kind != "random":
        return start.value
    assert key is not None  # the arguments have been checked
    shape = step_weight(batch).shape
    own = batch.weight.shape if model.one_class_per_row else shape
    index = jax.random.randint(key, own, 0, jnp.sum(model.active))
    label = jnp.argsort(~model.active, stable=True)[index]
    return label if own == shape else of_steps(label, shape)


def of_steps(value: Any, shape: tuple[int, ...]) -> Any:
    """Labels (.., n) or responsibilities (.., n, k) of sequences, as those of all their steps.

    `shape` (.., n, t) is that of the steps.
    """
    axis = len(shape) - 1
    whole = (*shape, *value.shape[axis:])
    return namespace(value).broadcast_to(namespace(value).expand_dims(value, axis), whole)


def _assigned(model: LatentClassModel, batch: Batch, value: Array) -> Q:
    """The q of these labels (n,) or responsibilities (n, k), after two updates with them."""
    dtype = batch.weight.dtype

    def assign(rows: Any, model: LatentClassModel, q: Q) -> tuple[Any, Array]:
        part, value = rows
        if value.ndim == step_weight(part).ndim:
            value = jax.nn.one_hot(value, model.num_components, dtype=dtype)
        return model.assign(q, part, value), jnp.zeros((), dtype)

    def update(_: Array, q: Q) -> Q:
        chunk = automatic_chunk(model.row_size(batch), batch)
        stats, _ = accumulate(assign, (batch, value), chunk, model, q)
        return model.update(q, stats)

    # the first update finds the means, and the second has statistics written about them
    return jax.lax.fori_loop(0, 2, update, model.template)


def parse_init(model: Model, batch: Batch, init: Init) -> Start:
    """Classify and check `init`; ValueError or TypeError name it before anything is traced."""
    if isinstance(init, Annealed):
        plan = init.check(model, batch.weight.dtype)
        return replace(parse_init(model, batch, init.init), annealed=replace(plan, init=None))
    if init is None or isinstance(init, str):
        return parse_name(model, init)
    if isinstance(init, Result):
        init = init.q
    if isinstance(model, DensityModel):
        return Start("q", _density_q(model, init, batch.weight.dtype))
    if isinstance(init, ExponentialFamily):
        return _parse_q(model, init, batch)
    latent = with_classes(model)
    if not latent.one_class_per_row or batch.steps is None:
        return parse_rows(init, step_weight(batch), latent.active, batch.sharding)
    start = parse_rows(init, batch.weight, latent.active, batch.sharding)
    return replace(start, value=of_steps(start.value, batch.steps.shape))


def _density_q(model: DensityModel, init: Any, dtype: Any) -> Q:
    """The q, of the form of the template, or a narrow one around given parameters."""
    template = jax.eval_shape(lambda model: model.template, model)
    if jax.tree.structure(init) == jax.tree.structure(template):
        return jax.tree.map(lambda a: to_device(a, dtype), init)
    if isinstance(init, type(template)):
        raise TypeError("init: a q of other parameters, constraints or covariance")
    try:
        q = compiled(_start_at)(model, sent(init))
        return jax.tree.map(lambda a: to_device(a, dtype), q)
    except ValueError as error:
        raise ValueError(f"init: {error}") from None


def _start_at(model: DensityModel, params: Any) -> Q:
    return model.start_at(params)


def parse_name(model: Model, init: str | None) -> Start:
    """The start that None or a word stands for."""
    if init is None:
        return Start("seeds")
    if init != "random":
        raise ValueError(f"init: expected None, 'random', an array or a Result, got {init!r}")
    with_classes(model)
    return Start("random")


def parse_rows(
    init: Any, weight: Any, active: Bool[Array, "k"], sharding: NamedSharding | None = None
) -> Start:
    """The start from labels (n,) or responsibilities (n, k), an array-like.

    Of sequences they are (n, t) and (n, t, k), or in the form of the sequences, and `weight` is
    (n, t), that of every step.
    """
    if weight.ndim == 2:
        init = by_sequence("init", init, weight.shape, fill=-1)
    array = read_labels("init", to_auto(init), floats=False)
    if array.ndim == weight.ndim and array.dtype.kind in "iu":
        _check_labels(array, weight, active)
        return Start("labels", place_for_jit(array, sharding, jnp.int32))
    resp = as_floats("init", array)
    _check_responsibilities(resp, weight, active)
    return Start("responsibilities", place_for_jit(resp, sharding, weight.dtype))


def with_classes(model: Model) -> LatentClassModel:
    """The model as a LatentClassModel; raises ValueError if it is none."""
    if not isinstance(model, LatentClassModel):
        raise ValueError(
            f"init: {type(model).__name__} has no latent assignments; "
            "give None, or a q or Result to continue from"
        )
    return model


def parse_q(model: Model, batch: Batch, q: Q) -> Q:
    """The q of this model that a Result or q stands for; one of fewer components is filled up."""
    start = parse_init(model, batch, q)
    return compiled(embed)(model, start.value, batch) if start.kind == "smaller" else start.value


def _parse_q(model: Model, q: Q, batch: Batch) -> Start:
    template = jax.eval_shape(lambda model: model.template, model)  # its form alone
    if jax.tree.structure(q) != jax.tree.structure(template):
        kind, expected = type(q).__name__, type(template).__name__
        hint = " of other parts; what was relabelled or pruned starts no fit"
        raise TypeError(
            f"init: {type(model).__name__} is fitted by a {expected}, got {kind}"
            f"{hint if kind == expected else ''}"
        )
    leaves = zip(jax.tree.leaves(q), jax.tree.leaves(template), strict=True)
    shapes = [(jnp.shape(a), jnp.shape(b)) for a, b in leaves]
    value = jax.tree.map(lambda a: to_device(a, batch.weight.dtype), q)
    unlike = [(a, b) for a, b in shapes if a != b]
    if not unlike:
        return Start("q", value)
    if isinstance(model, SplitMergeModel) and isinstance(q, ComponentParams):
        size, more = model.num_components, model.num_components - q.weights.size
        alike = all(a[1:] == b[1:] and b[0] - a[0] in (0, more) for a, b in shapes if a != b)
        if alike and more < 0:
            raise ValueError(
                f"init: a q of {size - more} components for a model of {size}; make the model as "
                "large, or leave components out by vx.prune"
            )
        if alike:
            _check_room(model, q)
            return Start("smaller", value)
    raise ValueError(
        f"init: a q with arrays of shape {unlike[0][0]} does not fit this model's {unlike[0][1]}; "
        "it must come from a fit of as many columns, and of at most as many components"
    )


def _check_room(model: SplitMergeModel, q: ComponentParams) -> None:
    """Raise ValueError if a component of q is switched off in the larger model."""
    on, free = q.weights.on, q.weights.size - q.num_background
    if (
        is_concrete(on, model.active)
        and (fetched(on) & ~fetched(model.active)[: on.size])[:free].any()
    ):
        raise ValueError(
            f"init: a q of {free} components, but the model has some of them switched off; make "
            "it larger, or leave components out by vx.prune"
        )


def _check_labels(labels: Any, weight: Any, active: Bool[Array, "k"]) -> None:
    if labels.shape != weight.shape:
        what = "row" if weight.ndim == 1 else "step"
        raise ValueError(
            f"init: expected one label per {what}, shape {weight.shape}, got {labels.shape}"
        )
    if not is_concrete(labels, weight, active):
        return
    host, on = fetched(labels), np.flatnonzero(fetched(active))
    bad = (fetched(weight) > 0) & ~namespace(host).isin(host, on.astype(host.dtype))
    if bool(bad.any()):
        raise ValueError(
            f"init: labels must be components that are switched on, {on[0]} .. {on[-1]}; "
            f"found {int(host.reshape(-1)[int(bad.argmax())])}"
        )


def _check_responsibilities(resp: Any, weight: Any, active: Bool[Array, "k"]) -> None:
    k = active.shape[0]
    if resp.shape != (*weight.shape, k):
        raise ValueError(
            f"init: expected responsibilities of shape {(*weight.shape, k)} or integer labels of "
            f"shape {weight.shape}, got shape {resp.shape} and dtype {resp.dtype}"
        )
    if not is_concrete(resp, weight, active):
        return
    host, on = fetched(resp), fetched(active)
    values = host if on.all() else namespace(host).where(on, host, 0.0)
    good = (values >= 0).all(-1) & (abs(values.sum(-1) - 1.0) < 1e-3)  # NaN is neither
    bad = (fetched(weight) > 0) & ~good  # a row of weight 0 may hold anything
    if bool(bad.any()):
        row = int(bad.argmax())
        raise ValueError(
            "init: responsibilities must be >= 0 and sum to one over the components that are "
            "switched on, in every row; "
            f"row {row} sums to {float(values.reshape(-1, k)[row].sum()):.6g}"
        )
