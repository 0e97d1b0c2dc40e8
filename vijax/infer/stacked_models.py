"""The models of many data sets: one for all, or a stack of them with a leading axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np

from .._pytree import abstract, form_of
from ..data.batch import Batch
from ..data.host import fetched, sent, strong
from ..model import ConditionalModel, DensityModel, Model, unnamed
from .run.devices import deal
from .run.stacks import Header, Names, Part, Stack, join, pick


def names_of(
    models: Model | Sequence[Model] | Callable[[Batch], Model],
) -> Names:
    """The names of the columns that the models were made for."""
    first: Any = models[0] if isinstance(models, list | tuple) and models else models
    return first.names if isinstance(first, Model) else None


def stacked_models(
    models: Model | Sequence[Model] | Callable[[Batch], Model],
    stacks: list[Stack],
    m: int,
    dtype: Any,
    header: Header,
) -> tuple[Any, bool]:
    """One model, or a stack of m, with strong types; and whether it is one."""
    if isinstance(models, list | tuple):
        if len(models) != m:
            raise ValueError(f"models: {len(models)} of them for {m} data sets")
        models = [unnamed(model) if isinstance(model, Model) else model for model in models]
        if len({jax.tree.structure(model) for model in models}) > 1:
            raise TypeError("models: all need the same structure")
        try:
            stacked = jax.tree.map(lambda *a: np.stack([fetched(v) for v in a]), *models)
        except ValueError as error:
            raise ValueError(f"models: arrays of different shape: {error}") from None
        return strong(stacked, dtype), False
    if callable(models) and not isinstance(models, Model):
        return strong(_build_models(models, stacks, m, header), dtype), False
    models = strong(unnamed(models) if isinstance(models, Model) else models, dtype)
    leaves = jax.tree.leaves(models)
    if not leaves or any(a.ndim == 0 or a.shape[0] != m for a in leaves):
        return models, True
    example = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), stacks[0].parts)
    return models, _is_single_model(form_of(models), form_of(example), header)


def _build_models(make: Callable[[Batch], Any], stacks: list[Stack], m: int, header: Header) -> Any:
    """The models that a function makes, stacked in the order of the data sets."""

    def build(stack: Stack) -> Part:
        dealt = deal(len(stack.number), 1)
        parts = pick(stack.parts, dealt.members)
        return Part(stack.number, dealt.slots, _build(make, header, sent(parts)))

    return join([build(stack) for stack in stacks], m)


@partial(jax.jit, static_argnums=(0, 1))
def _build(make: Callable[[Batch], Any], header: Header, parts: dict[str, Any]) -> Any:
    def build(batch: Batch) -> Any:
        model = make(batch)
        return unnamed(model) if isinstance(model, Model) else model

    return jax.vmap(build)(Batch(**parts, **header._asdict()))


@lru_cache(maxsize=256)
def _is_single_model(model_form: Any, parts_form: Any, header: Header) -> bool:
    """Whether arrays of this form are a model for such rows, found by tracing a step of it."""

    def step(model: Model, parts: dict[str, Any]) -> Any:
        batch = model.as_batch(Batch(**parts, **header._asdict()))
        q = model.template
        if isinstance(model, DensityModel):
            model.check(batch, False)
            return q, q, batch.weight, batch.weight
        assert isinstance(model, ConditionalModel)
        e = model.local(q.moments(), batch)
        return q, model.update(q, e.stats), e.log_z, batch.weight

    try:
        q, new, log_z, weight = jax.eval_shape(step, abstract(model_form), abstract(parts_form))
    except Exception:  # a model may raise anything for arrays of the wrong rank
        return False
    same = jax.tree.map(lambda a, b: a.shape == b.shape, q, new)
    return all(jax.tree.leaves(same)) and log_z.shape == weight.shape
