"""What an energy knows of each family: its named statistics, and gradients as natural coordinates.

A kind is a family of `vijax.families` with names for its sufficient statistics. Gradients of an
energy by these statistics are natural coordinates, which are added to those of the prior.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._pytree import replace
from ...exponential_family import ExponentialFamily, Q
from ...families.categorical import Categorical, LabelMoments
from ...families.dirichlet import CategoricalMoments, Dirichlet
from ...families.gamma import Gamma, GammaMoments
from ...families.multivariate_normal import MultivariateNormal, MultivariateNormalMoments
from ...families.normal import Normal, NormalMoments
from ...families.precision_matrix import PrecisionMatrix, PrecisionMatrixMoments
from ...numerics import linalg

Statistics = dict[str, Array]  # expected sufficient statistics by name


class Kind(abc.ABC):
    """A family with named statistics; `names` are theirs, and `event` the axes of its natural form.

    `event` is the number of axes of one member's coordinates, behind those of the plates.
    """

    names: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def of_moments(self, moments: Any) -> Statistics:
        """E[T] by name from the moments of a member, with T about 0 whatever its origin."""

    def statistics(self, q: Q) -> Statistics:
        """E[T] of a member by name."""
        return self.of_moments(q.moments())

    @abc.abstractmethod
    def coordinates(self, slopes: Statistics) -> Any:
        """The member whose natural coordinates are these gradients by the statistics."""

    @abc.abstractmethod
    def flat(self, like: Any) -> Any:
        """The measure of volume or counting, improper, in the natural coordinates of the family."""

    @abc.abstractmethod
    def proper(self, q: Q) -> Bool[Array, "..."]:
        """Whether the coordinates are those of a density, apart from `log_normalizer`."""

    @abc.abstractmethod
    def shape(self, q: Q) -> tuple[int, ...]:
        """The shape of the standard normal numbers that `moved` takes."""

    @abc.abstractmethod
    def moved(self, q: Q, noise: Array) -> Any:
        """A member as wide as q whose mean is about a draw of q: a start that breaks symmetry."""

    def at_origin(self, q: Q) -> Statistics:
        """The statistics about 0 of the value at which T about the origin of q is 0."""
        return jax.tree.map(jnp.zeros_like, self.statistics(q))


class NormalKind(Kind):
    """x ~ N(m, 1 / precision), a number: `x` is E[x], and `xx` is E[x^2]."""

    names = ("x", "xx")

    def of_moments(self, moments: NormalMoments) -> Statistics:
        return {"x": moments.mean, "xx": moments.mean**2 + moments.variance}

    def coordinates(self, slopes: Statistics) -> Normal:
        return Normal(-2.0 * slopes["xx"], slopes["x"], jnp.zeros_like(slopes["x"]))

    def flat(self, like: Normal) -> Normal:
        zero = jnp.zeros_like(like.shift)
        return Normal(zero, zero, like.origin)

    def proper(self, q: Normal) -> Bool[Array, "..."]:
        return q.precision > 0

    def shape(self, q: Normal) -> tuple[int, ...]:
        return q.shift.shape

    def moved(self, q: Normal, noise: Array) -> Normal:
        return replace(q, shift=q.shift + q.precision * q.sd * noise)

    def at_origin(self, q: Normal) -> Statistics:
        return {"x": q.origin, "xx": q.origin**2}


class MultivariateNormalKind(Kind):
    """x ~ N(m, precision^-1), a vector: `x` is E[x], and `xx` is E[x x^T]."""

    names = ("x", "xx")

    def of_moments(self, moments: MultivariateNormalMoments) -> Statistics:
        mean = moments.mean
        return {"x": mean, "xx": moments.covariance + linalg.outer(mean, mean)}

    def coordinates(self, slopes: Statistics) -> MultivariateNormal:
        shift, square = slopes["x"], slopes["xx"]
        return MultivariateNormal(-(square + square.mT), shift, jnp.zeros_like(shift))

    def flat(self, like: MultivariateNormal) -> MultivariateNormal:
        zero = jnp.zeros_like(like.precision)
        return MultivariateNormal(zero, jnp.zeros_like(like.shift), like.origin)

    def proper(self, q: MultivariateNormal) -> Bool[Array, "..."]:
        low = linalg.chol(q.precision)
        return jnp.all(linalg.resolved(low, q.precision) & (linalg.diagonal(low) > 0), -1)

    def shape(self, q: MultivariateNormal) -> tuple[int, ...]:
        return q.shift.shape

    def moved(self, q: MultivariateNormal, noise: Array) -> MultivariateNormal:
        # a draw is off by L^-T noise, and so its shift by L noise, with precision L L^T
        move = linalg.matmul(linalg.chol(q.precision), noise[..., None])[..., 0]
        return replace(q, shift=q.shift + move)

    def at_origin(self, q: MultivariateNormal) -> Statistics:
        return {"x": q.origin, "xx": linalg.outer(q.origin, q.origin)}


class GammaKind(Kind):
    """x ~ Gamma(shape, rate): `x` is E[x], and `log` is E[log x]."""

    names = ("x", "log")

    def of_moments(self, moments: GammaMoments) -> Statistics:
        return {"x": moments.mean, "log": moments.e_log}

    def coordinates(self, slopes: Statistics) -> Gamma:
        return Gamma(slopes["log"], -slopes["x"])

    def flat(self, like: Gamma) -> Gamma:
        return Gamma(jnp.ones_like(like.shape), jnp.zeros_like(like.rate))

    def proper(self, q: Gamma) -> Bool[Array, "..."]:
        return (q.shape > 0) & (q.rate > 0)

    def shape(self, q: Gamma) -> tuple[int, ...]:
        return q.shape.shape

    def moved(self, q: Gamma, noise: Array) -> Gamma:
        return Gamma(q.shape, q.rate / _factor_near_one(noise, q.shape))


class DirichletKind(Kind):
    """x ~ Dirichlet(conc): `log` is E[log x], for each of k entries."""

    names = ("log",)

    def of_moments(self, moments: CategoricalMoments) -> Statistics:
        return {"log": moments.log_p}

    def coordinates(self, slopes: Statistics) -> Dirichlet:
        return Dirichlet(slopes["log"])

    def flat(self, like: Dirichlet) -> Dirichlet:
        return Dirichlet(jnp.ones_like(like.conc))

    def proper(self, q: Dirichlet) -> Bool[Array, "..."]:
        return jnp.all(q.conc > 0, -1)

    def shape(self, q: Dirichlet) -> tuple[int, ...]:
        return q.conc.shape

    def moved(self, q: Dirichlet, noise: Array) -> Dirichlet:
        conc = q.conc * _factor_near_one(noise, q.conc)
        scale = jnp.sum(q.conc, -1, keepdims=True) / jnp.sum(conc, -1, keepdims=True)
        return Dirichlet(scale * conc)


class CategoricalKind(Kind):
    """z ~ Categorical(probs): `one` is E[1(z = k)], for each of k labels."""

    names = ("one",)

    def of_moments(self, moments: LabelMoments) -> Statistics:
        return {"one": moments.probs}

    def coordinates(self, slopes: Statistics) -> Categorical:
        return Categorical(slopes["one"])

    def flat(self, like: Categorical) -> Categorical:
        return Categorical(jnp.zeros_like(like.logits))

    def proper(self, q: Categorical) -> Bool[Array, "..."]:
        return jnp.isfinite(q.log_normalizer())

    def shape(self, q: Categorical) -> tuple[int, ...]:
        return q.logits.shape

    def moved(self, q: Categorical, noise: Array) -> Categorical:
        return Categorical(q.log_p + noise)


class PrecisionMatrixKind(Kind):
    """L ~ Wishart(scatter^-1, df): `x` is E[L], and `logdet` is E[log|L|]."""

    names = ("x", "logdet")

    def of_moments(self, moments: PrecisionMatrixMoments) -> Statistics:
        return {"x": moments.mean, "logdet": moments.e_logdet}

    def coordinates(self, slopes: Statistics) -> PrecisionMatrix:
        slope = slopes["x"]
        return PrecisionMatrix(2.0 * slopes["logdet"], -(slope + slope.mT))

    def flat(self, like: PrecisionMatrix) -> PrecisionMatrix:
        return PrecisionMatrix(jnp.full_like(like.df, like.dim + 1), jnp.zeros_like(like.scatter))

    def proper(self, q: PrecisionMatrix) -> Bool[Array, "..."]:
        low = linalg.chol(q.scatter)
        resolved = linalg.resolved(low, q.scatter) & (linalg.diagonal(low) > 0)
        return (q.df > q.dim - 1) & jnp.all(resolved, -1)

    def shape(self, q: PrecisionMatrix) -> tuple[int, ...]:
        return q.df.shape

    def moved(self, q: PrecisionMatrix, noise: Array) -> PrecisionMatrix:
        factor = _factor_near_one(noise, 0.5 * q.df)
        return PrecisionMatrix(q.df, q.scatter / factor[..., None, None])


def _factor_near_one(noise: Float[Array, "*b"], shape: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """A number about as spread as Gamma(shape, shape), but no wider than with shape 1.

    Draws of a vague Gamma are all but 0, and no place to start from.
    """
    return jnp.exp(noise / jnp.sqrt(jnp.maximum(shape, 1.0)))


KINDS: dict[type, Kind] = {
    Normal: NormalKind(),
    MultivariateNormal: MultivariateNormalKind(),
    Gamma: GammaKind(),
    Dirichlet: DirichletKind(),
    Categorical: CategoricalKind(),
    PrecisionMatrix: PrecisionMatrixKind(),
}


def kind_of(family: ExponentialFamily) -> Kind:
    """The kind of a member."""
    return KINDS[type(family)]
