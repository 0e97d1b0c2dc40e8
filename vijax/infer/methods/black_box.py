"""What black-box methods share: draws of the fit, and the bound from draws it has not seen."""

from __future__ import annotations

import abc
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..._pytree import abstract, form_of
from ...data.batch import Batch
from ...data.host import check_integer, described
from ...guides.roots import Root
from ...guides.transformed_normal import TransformedNormal
from ...model import DensityModel, Model
from ...numerics.matched_draws import antithetic, map_draws
from ..method import Method

_BLOCK = 64  # pairs of draws between two looks at the error
_FINE = 0.01  # nats of standard error, at which a bound is known well enough
_FLOATS = 2**24  # numbers of rows times draws that are in memory together


class BlackBox(Method[DensityModel]):
    """A method for a log density, whose bound is estimated from draws that the fit has not seen.

    `seed` fixes the draws; all restarts have the same. The bound that is returned takes 128 draws
    at a time, `elbo_draws` at most, until its standard error is below 0.01 nats.
    """

    estimates: ClassVar[bool] = True
    seed: int | Int[Array, ""]
    elbo_draws: int

    def check(self, model: Model) -> None:
        """Raise TypeError or ValueError for bad draws, or a model that is no density."""
        need_density(self, model)
        if not isinstance(self.seed, jax.Array):
            check_integer("seed", self.seed)
        check_draws("elbo_draws", self.elbo_draws, 4)

    def evaluate(self, model: DensityModel, q: TransformedNormal, batch: Batch) -> Float[Array, ""]:
        """An estimate of the bound of q, in nats."""
        return self.estimate(model, q, batch)[0]

    def estimate(
        self, model: DensityModel, q: TransformedNormal, batch: Batch
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The same and its standard error."""
        return estimated_elbo(model, q, batch, jnp.asarray(self.seed) + 1, self.elbo_draws)


class FixedDraws(BlackBox):
    """A method that maximises the mean over draws that stay the same for the whole fit."""

    monotone: ClassVar[bool] = True

    @abc.abstractmethod
    def base_draws(self, q: TransformedNormal) -> Float[Array, "s k"]:
        """The standard normal draws z of a fit of such a q."""


def estimated_elbo(
    model: DensityModel, q: TransformedNormal, batch: Batch, seed: Int[Array, ""], size: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The mean of log p(u) - log q(u) over antithetic draws of q, in nats, and its standard error.

    It takes 128 draws at a time, `size` in all at most, until the error is below 0.01 nats. For a
    normal posterior every draw gives log Z, so that the error is 0.
    """
    num_pairs = size // 2
    block = min(num_pairs, _BLOCK)
    z = antithetic(seed, size, q.root.noise_size, q.location.dtype)[:num_pairs]

    def log_ratio(z: Array) -> Array:
        return model.log_density(q.at(z), batch) - q.log_density_at(z)

    def moments(pairs: Array, known: Array) -> tuple[Array, Array]:
        """Mean and standard error of the first `known` pairs."""
        number = known.astype(z.dtype)
        used = jnp.arange(num_pairs, dtype=jnp.int32) < known
        mean = jnp.sum(jnp.where(used, pairs, 0.0)) / number
        square = jnp.sum(jnp.where(used, (pairs - mean) ** 2, 0.0)) / number
        return mean, jnp.sqrt(square / number)

    def coarse(carry: tuple[Array, Array]) -> Array:
        pairs, known = carry
        more = known < num_pairs
        # an error that is no number ends it too
        return (known == 0) | (more & (moments(pairs, jnp.maximum(known, 1))[1] > _FINE))

    def take(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        pairs, known = carry
        first = jnp.minimum(known, num_pairs - block)
        part = lax.dynamic_slice_in_dim(z, first, block)
        both = jnp.concatenate([part, -part])
        values = map_draws(log_ratio, both, draws_at_once(batch)).reshape(2, -1)
        new = lax.dynamic_update_slice_in_dim(pairs, jnp.mean(values, 0), first, 0)
        return new, jnp.minimum(known + block, num_pairs)

    begin = jnp.zeros(num_pairs, z.dtype), jnp.zeros((), jnp.int32)
    return moments(*lax.while_loop(coarse, take, begin))


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
