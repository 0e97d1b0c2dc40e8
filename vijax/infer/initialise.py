"""From what the user calls a start to a first q."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Key

from .._pytree import pytree, replace, static
from ..data.batch import Batch
from ..data.host import as_floats, fetched, is_concrete, namespace, to_device
from ..data.shards import place_for_jit, to_auto
from ..exponential_family import ExponentialFamily
from ..model import LatentClassModel, Model, Q
from .annealed import Annealed, anneal
from .result import Result
from .run.passes import accumulate, automatic_chunk

Init = str | ArrayLike | ExponentialFamily | Result | Annealed | list[Any] | None


@pytree
class Start:
    """What a fit starts from.

    `kind` is "seeds" (the model's own), "random", "labels", "responsibilities" or "q"; `value` is
    None for the first two. `annealed` is the schedule of an `Annealed` around it, if any.
    """

    kind: str = static()
    value: Any = None
    annealed: Annealed | None = None

    def drawn(self, model: Model) -> bool:
        """Whether it needs a key."""
        return self.kind == "random" or (self.kind == "seeds" and model.draws)

    def make(
        self,
        model: Model,
        batch: Batch,
        key: Key[Array, ""] | None,
        restart: ArrayLike,
        point: bool,
    ) -> Q:
        """The first q of one restart, of a method that is at a `point` or not; traceable."""
        if self.kind == "q":
            q = self.value
        elif self.kind == "seeds":
            # at a point, components left at the prior are equal, and only rounding would part them
            q = model.init(key, batch, 0 if point else restart)
        else:
            q = _assigned(known := with_classes(model), batch, self._rows(known, batch, key))
        if self.annealed is None:
            return q
        return anneal(with_classes(model), batch, q, self.annealed)

    def _rows(self, model: LatentClassModel, batch: Batch, key: Any) -> Array:
        """Labels (n,) or responsibilities (n, k)."""
        if self.kind != "random":
            return self.value
        assert key is not None  # the arguments have been checked
        place = jax.random.randint(key, batch.weight.shape, 0, jnp.sum(model.active))
        return jnp.argsort(~model.active, stable=True)[place]


def _assigned(model: LatentClassModel, batch: Batch, value: Array) -> Q:
    """q after two rounds of these labels or responsibilities."""
    dtype = batch.weight.dtype

    def assign(rows: Any, model: LatentClassModel, q: Q) -> tuple[Any, Array]:
        part, given = rows
        k = model.num_components
        resp = given if given.ndim == 2 else jax.nn.one_hot(given, k, dtype=dtype)
        return model.assign(q, part, resp), jnp.zeros((), dtype)

    def once(_: Array, q: Q) -> Q:
        chunk = automatic_chunk(model.row_size(batch), batch)
        stats, _ = accumulate(assign, (batch, value), chunk, model, q)
        return model.update(q, stats)

    # the first round finds the means, the second takes the statistics about them
    return jax.lax.fori_loop(0, 2, once, model.template)


def parse_init(model: Model, batch: Batch, init: Init) -> Start:
    """Classify and check `init`: ValueError or TypeError naming it, before anything is traced."""
    if isinstance(init, Annealed):
        plan = init.check(model, batch.weight.dtype)
        return replace(parse_init(model, batch, init.init), annealed=replace(plan, init=None))
    if init is None or isinstance(init, str):
        return parse_name(model, init)
    if isinstance(init, Result):
        init = init.q
    if isinstance(init, ExponentialFamily):
        return Start("q", _checked_q(model, init, batch))
    return parse_rows(init, batch.weight, with_classes(model).active, batch.sharding)


def parse_name(model: Model, init: str | None) -> Start:
    """The start that this word, or None, stands for."""
    if init is None:
        return Start("seeds")
    if init != "random":
        raise ValueError(f"init: expected None, 'random', an array or a Result, got {init!r}")
    with_classes(model)
    return Start("random")


def parse_rows(
    init: Any,
    weight: Any,
    active: Bool[Array, "k"],
    sharding: NamedSharding | None = None,
) -> Start:
    """The start at these labels (n,) or responsibilities (n, k)."""
    array = to_auto(init) if isinstance(init, jax.Array) else np.asarray(init)
    if array.ndim == 1 and jnp.issubdtype(array.dtype, jnp.integer):
        _check_labels(array, weight, active)
        return Start("labels", place_for_jit(array, sharding, jnp.int32))
    resp = as_floats("init", array)
    _check_responsibilities(resp, weight, active)
    return Start("responsibilities", place_for_jit(resp, sharding, weight.dtype))


def with_classes(model: Model) -> LatentClassModel:
    """The model; raises ValueError for one without latent assignments."""
    if not isinstance(model, LatentClassModel):
        raise ValueError(
            f"init: {type(model).__name__} has no latent assignments; "
            "give None, or a q or Result to continue from"
        )
    return model


def _checked_q(model: Model, q: Q, batch: Batch) -> Q:
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


def _check_labels(labels: Any, weight: Any, active: Bool[Array, "k"]) -> None:
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


def _check_responsibilities(resp: Any, weight: Any, active: Bool[Array, "k"]) -> None:
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
