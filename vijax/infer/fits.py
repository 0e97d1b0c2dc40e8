"""`Fits`, the result of `fit_many`, and reading all of them at once, by few programs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._pytree import pytree
from ..data.batch import Batch
from ..data.host import fetched, is_concrete, sent, to_device
from ..data.padding import by_step
from ..data.shards import platform_of
from ..data.types import Data
from ..exponential_family import Q_co
from ..latent_class import Predictor
from ..model import Model, Q
from .result import Result
from .run.devices import deal
from .run.stacks import Header, Stack, in_order, pick, stack_by_size

_F = TypeVar("_F", bound="Fits[Any]")

_FLOATS = 2**22  # of rows times components that are read together


@pytree
class Fits(Result[Q_co]):
    """Many fits in one Result, with their models; every array has a leading axis m.

    `fits[i]` is one of them, and `fits[:10]` are some. Methods that read rows take data sets as
    `fit_many` does, one for each fit, and need models of mixtures. For stacked data they return
    stacked arrays, for a list a list of NumPy arrays, in the order given. `models` are None if the
    fits were made inside of jit.
    """

    models: Any = None

    def __getitem__(self: _F, index: Any) -> _F:
        picked = super().__getitem__(index)
        if jnp.ndim(picked.elbo) or not is_concrete(*jax.tree.leaves(picked)):
            return picked
        return jax.tree.map(to_device, picked)

    def model(self, index: int) -> Any:
        """The model of one fit."""
        return self[index].models

    def responsibilities(self, datasets: Any) -> Any:
        """Posterior probability of each component for each row, (n, k) for each data set."""
        return self._read(_responsibilities, datasets)

    def predict(self, datasets: Any) -> Any:
        """The most probable component of each row, (n,) for each data set."""
        return self._read(_predict, datasets)

    def log_likelihood(self, datasets: Any) -> Any:
        """log p(x_n | theta) in nats at the posterior means, (n,) for each data set."""
        return self._read(_log_likelihood, datasets)

    def log_predictive(self, datasets: Any) -> Any:
        """log E_q[p(x_n | theta)] in nats, (n,) for each data set."""
        return self._read(_log_predictive, datasets)

    def impute(self, datasets: Any) -> Any:
        """Means and standard deviations of missing entries, a pair for each data set.

        For stacked data it is one pair of stacked arrays.
        """
        answer = self._read(_impute, datasets)
        if not jnp.ndim(self.elbo):
            return answer
        if isinstance(answer, list):
            return [(self.models.decode(value), spread) for value, spread in answer]
        return self.models.decode(answer[0]), answer[1]

    def summary(self, index: int | None = None, **options: Any) -> str:
        """How the fits ended, as text; with `index` the summary of one fit."""
        one = self if index is None else self[index]
        return Result.summary(one, **options)

    def _read(self, read: Callable[..., Any], datasets: Any) -> Any:
        if not isinstance(self.models, Predictor):
            if self.models is None:
                raise ValueError("fits: made inside of jit, where models are not kept")
            raise TypeError(f"fits: of a {type(self.models).__name__}, which reads no rows")
        if not jnp.ndim(self.elbo):
            return read(self.models, self.q, datasets)
        datasets, header = in_order(_as_given(datasets), self.names, self._reader())
        stacks, m = stack_by_size(datasets, fitted=False)
        stacks = [stack._replace(parts=_present(stack.parts)) for stack in stacks]
        if m != self.elbo.shape[0]:
            raise ValueError(f"datasets: {m} of them for {self.elbo.shape[0]} fits")
        traced = not is_concrete(*jax.tree.leaves((self.models, self.q, stacks[0].parts)))
        if traced or stacks[0].size is None:
            return _read_stack(read, header, m, *sent((self.models, self.q, stacks[0].parts)))
        members: list[Any] = [None] * m
        for stack in stacks:
            for number, answer in zip(
                stack.number, self._of_stack(read, stack, header), strict=True
            ):
                members[number] = answer
        return members

    def _reader(self) -> Model | None:
        """One of the models, if rows must be read by it before they are stacked."""
        models = self.models
        needed = isinstance(models, Model) and (models.recodes or not models.row_data)
        return self.model(0) if needed else None

    def _of_stack(self, read: Callable[..., Any], stack: Stack, header: Header) -> list[Any]:
        """What is read of every data set of a stack, without the rows that pad it."""
        dealt = deal(len(stack.number), 1)
        own = pick((self.models, self.q), stack.number[dealt.members])
        parts = pick(stack.parts, dealt.members)
        lanes = max(1, _FLOATS // _floats(self.q, stack.parts["weight"].shape[1]))
        lanes = min(1 << lanes.bit_length() - 1, len(dealt.members))  # powers of two, as is m
        out = jax.tree.map(fetched, _read_stack(read, header, lanes, *sent((*own, parts))))
        assert stack.size is not None  # a list
        if stack.length is None:
            return [
                jax.tree.map(lambda a, slot=slot, n=n: a[slot, :n], out)
                for slot, n in zip(dealt.slots, stack.size, strict=True)
            ]
        model, q, rows = jax.tree.map(lambda a: a[0], (*own, parts))
        cut = by_step(read, Batch(**rows, **header._asdict()), model, q)
        return [
            jax.tree.map(lambda by, a, i=slot, n=n, t=t: a[i, :n, :t] if by else a[i, :n], cut, out)
            for slot, n, t in zip(dealt.slots, stack.size, stack.length, strict=True)
        ]


def _as_given(datasets: Any) -> Any:
    """The data sets, with rows of weight 0 as the user gave them."""
    if isinstance(datasets, list | tuple):
        return [_as_given(item) if isinstance(item, Batch) else item for item in datasets]
    return datasets.unfilled if isinstance(datasets, Batch) else datasets


def _present(parts: dict[str, Any]) -> dict[str, Any]:
    """The rows with weight 1: what is read of a row does not depend on its weight."""
    return {**parts, "weight": np.ones(parts["weight"].shape, parts["weight"].dtype)}


def _floats(q: Q, n: int) -> int:
    """About the numbers that reading n rows of one data set takes."""
    member = sum(a.size // a.shape[0] for a in jax.tree.leaves(q))
    return max(1, n * member)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _read_stack(
    read: Callable[..., Any], header: Header, lanes: int, models: Model, q: Q, parts: dict[str, Any]
) -> Any:
    """`read(model, q, batch)` of every member, `lanes` of them together."""
    platform = platform_of(parts)

    def of_member(member: Any) -> Any:
        model, q, rows = member
        return read(model, q, Batch(**rows, **header._asdict(), platform=platform))

    members = (models, q, parts)
    m = parts["weight"].shape[0]
    return (
        jax.vmap(of_member)(members)
        if lanes >= m
        else lax.map(of_member, members, batch_size=lanes)
    )


def _responsibilities(model: Predictor, q: Q, x: Data) -> Any:
    return model.responsibilities(q, x)


def _predict(model: Predictor, q: Q, x: Data) -> Any:
    return model.predict(q, x)


def _log_likelihood(model: Predictor, q: Q, x: Data) -> Any:
    return model.log_likelihood(q, x)


def _log_predictive(model: Predictor, q: Q, x: Data) -> Any:
    return model.log_predictive(q, x)


def _impute(model: Predictor, q: Q, x: Data) -> Any:
    return model.impute(q, x)


def with_models(result: Result, models: Model | None, shared: bool) -> Fits:
    """The result as Fits; a model that all share is repeated without taking memory."""
    m = result.elbo.shape[0]
    if shared:
        models = jax.tree.map(lambda a: np.broadcast_to(a, (m, *np.shape(a))), models)
    return Fits(**{**vars(result), "models": models})
