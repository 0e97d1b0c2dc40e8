"""q of a model of one's own: independent factors by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ..._pytree import pytree
from ...data.host import fetched
from ...exponential_family import Compound, ExponentialFamily
from ...numerics.broadcasting import broadcasts
from .kinds import Statistics, kind_of

_SHOWN = 8  # entries of a factor in a table


@pytree
class EnergyParams(Compound):
    """q(theta) as a product of factors, `factors` by name; `q["tau"]` is the factor "tau"."""

    factors: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.factors[name]

    def __repr__(self) -> str:
        each = [f"{name}: {type(q).__name__}" for name, q in self.factors.items()]
        return f"EnergyParams({', '.join(each)})"

    def statistics(self) -> dict[str, Statistics]:
        """The expected statistics of every factor by name, the first argument of an energy."""
        return {name: kind_of(q).statistics(q) for name, q in self.factors.items()}

    def _each(self, fn: Callable[..., Any], *others: Any) -> dict[str, Any]:
        rest = [o.factors if isinstance(o, EnergyParams) else o for o in others]
        return {name: fn(q, *[o[name] for o in rest]) for name, q in self.factors.items()}

    def _total(self, fn: Callable[..., Any], *others: Any) -> Float[Array, ""]:
        return jnp.sum(jnp.stack([jnp.sum(v) for v in self._each(fn, *others).values()]))

    def _map_parts(self, fn: Callable[..., Any], *others: Any) -> EnergyParams:
        return EnergyParams(self._each(fn, *others))

    def moments(self) -> dict[str, Any]:
        return self._each(lambda q: q.moments())

    def point(self) -> dict[str, Any]:
        return self._each(lambda q: q.point())

    def mode(self) -> dict[str, Any]:
        return self._each(lambda q: q.mode())

    @broadcasts
    def log_prob(self, value: dict[str, Any]) -> Float[Array, "..."]:
        """log q(value) in nats, for a dict of values by name as `sample` gives."""

        def one(q: ExponentialFamily, own: Any) -> Array:
            plates = jax.eval_shape(q.log_normalizer).ndim
            return jnp.sum(q.log_prob(own), tuple(range(-plates, 0)))

        first, *others = self._each(one, value).values()
        return jnp.asarray(sum(others, start=first))

    @broadcasts
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> dict[str, Any]:
        keys = dict(zip(self.factors, jax.random.split(key, len(self.factors)), strict=True))
        return {name: q.sample(keys[name], shape) for name, q in self.factors.items()}

    @property
    def _estimates(self) -> dict[str, tuple[Any, Any]]:
        rows: dict[str, tuple[Any, Any]] = {}
        for name, q in self.factors.items():
            mean, sd = np.asarray(fetched(q.mean)), np.asarray(fetched(q.sd))
            for index in list(np.ndindex(mean.shape))[:_SHOWN]:
                label = f"[{', '.join(map(str, index))}]" if index else ""
                rows[name + label] = mean[index], sd[index]
        return rows
