"""What black-box methods share: draws of the fit, and the bound from draws it has not seen."""

from __future__ import annotations

import abc
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._pytree import abstract, form_of
from ...data.batch import Batch
from ...data.host import described
from ...guides.roots import Root
from ...guides.transformed_normal import TransformedNormal
from ...model import DensityModel, Model
from ...numerics.matched_draws import antithetic, map_draws
from ..method import Method

_FLOATS = 2**24  # numbers of rows times draws that are in memory together


class FixedDraws(Method[DensityModel]):
    """A method that maximises the mean over draws that stay the same for the whole fit."""

    monotone: ClassVar[bool] = True
    estimates: ClassVar[bool] = True

    @abc.abstractmethod
    def base_draws(self, q: TransformedNormal) -> Float[Array, "s k"]:
        """The standard normal draws z of a fit of such a q."""


def estimated_elbo(
    model: DensityModel, q: TransformedNormal, batch: Batch, seed: Int[Array, ""], size: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The mean of log p(u) - log q(u) over antithetic draws of q, in nats, and its standard error.

    For a normal posterior every draw gives log Z, so that the error is 0.
    """
    z = antithetic(seed, size, q.root.noise_size, q.location.dtype)

    def log_ratio(z: Array) -> Array:
        return model.log_density(q.at(z), batch) - q.log_density_at(z)

    pairs = jnp.mean(map_draws(log_ratio, z, draws_at_once(batch)).reshape(2, -1), 0)
    return jnp.mean(pairs), jnp.std(pairs) / jnp.sqrt(jnp.asarray(pairs.size, z.dtype))


def root_of(model: DensityModel) -> Root:
    """The root of the model's q, with shapes in place of arrays."""
    return _root_of(form_of(model))


@functools.lru_cache(maxsize=64)
def _root_of(form: Any) -> Root:
    return jax.eval_shape(lambda model: model.template, abstract(form)).root


def draws_at_once(batch: Batch) -> int:
    """The number of draws whose log densities of all rows are in memory together."""
    return max(1, _FLOATS // max(1, batch.weight.shape[0]))


def need_density(method: Method[Any], model: Model) -> DensityModel:
    """The model as a DensityModel; raises TypeError naming the method if it is none."""
    if not isinstance(model, DensityModel):
        raise TypeError(
            f"method: {type(method).__name__} needs a DensityModel, such as LogDensity, got "
            f"{type(model).__name__}"
        )
    return model


def check_draws(name: str, value: Any, least: int) -> None:
    """Raise TypeError or ValueError unless it is an even number of draws, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an integer, got {described(value)}")
    if value % 2 or value < least:
        raise ValueError(f"{name}: expected an even number of at least {least}, got {value}")
