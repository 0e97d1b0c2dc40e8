"""The factors that a model of one's own is made of, public as `vx.factor`.

Each function returns a `Factor`: a family with its prior, in `plates`, the shape of an array of
independent members. The energy sees the expected sufficient statistics of a factor by name:

- `normal`: "x" is E[x], (*plates) or (*plates, d); "xx" is E[x^2] or E[x x^T], (*plates, d, d).
- `gamma`: "x" is E[x] and "log" is E[log x], both (*plates).
- `dirichlet`: "log" is E[log x], (*plates, k).
- `categorical`: "one" is the probability of each label, (*plates, k).
- `wishart`: "x" is E[L], (*plates, d, d), and "logdet" is E[log|L|], (*plates).

A prior with parameters of its own, such as precisions that are another factor, is written as a part
of the energy: `free(factor)` is that factor without the prior of its own.

Hyper-parameters broadcast to the plates, may be tracers, and raise ValueError that name them.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ..._pytree import pytree, replace, static
from ...data.host import as_floats, check_bound, check_integer, fetched, is_concrete, namespace
from ...exponential_family import ExponentialFamily, Q
from ...families.categorical import Categorical
from ...families.dirichlet import Dirichlet
from ...families.gamma import Gamma
from ...families.multivariate_normal import MultivariateNormal
from ...families.normal import Normal
from ...families.precision_matrix import PrecisionMatrix
from .kinds import Kind, Statistics, kind_of

Plates = int | tuple[int, ...]


@pytree
class Factor:
    """One factor of q, and its prior.

    `prior` holds natural coordinates that gradients of the energy are added to. If the factor
    `is_free` they are those of the measure of volume, which is improper, and the density of the
    prior is a part of the energy. `first` is a proper member of the same form.
    """

    prior: Any
    first: Any
    is_free: bool = static(default=False)

    @property
    def kind(self) -> Kind:
        """The names of its statistics, and what is done by them."""
        return kind_of(self.prior)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its expected statistics."""
        return self.kind.names

    def given(self, slopes: Statistics, scale: ArrayLike = 1.0) -> ExponentialFamily:
        """The optimal q of an energy with these gradients by the statistics, times `scale`."""
        more = self.kind.coordinates(slopes).about(self.prior)
        return self.prior.map(lambda a, b: a + scale * b, more)

    def kl(self, q: Q) -> Float[Array, ""]:
        """KL(q || prior) in nats; of a free factor KL(q || volume), which is minus the entropy."""
        return -jnp.sum(q.entropy()) if self.is_free else jnp.sum(q.kl(self.prior))

    def log_normalizer(self) -> Float[Array, "*b"]:
        """That of the prior in nats, 0 for the measure of volume."""
        first = self.first.log_normalizer()
        return jnp.zeros_like(first) if self.is_free else first


def normal(
    plates: Plates = (), d: int | None = None, *, mean: ArrayLike = 0.0, precision: ArrayLike = 1.0
) -> Factor:
    """x ~ N(mean, 1 / precision), a number, or with `d` a vector with full covariance.

    Of vectors, `mean` is a number or (*plates, d), and `precision` a number, which is that of every
    entry, or a positive definite (*plates, d, d). Of numbers, both are (*plates).
    """
    plates = _plates(plates)
    if d is None:
        check_bound("precision", precision, above=0.0)
        return _factor(
            Normal.from_standard(_full("mean", mean, plates), _full("precision", precision, plates))
        )
    _check_size("d", d, 1)
    precision = _matrices("precision", precision, plates, d)
    return _factor(MultivariateNormal.from_standard(_full("mean", mean, (*plates, d)), precision))


def gamma(plates: Plates = (), *, shape: ArrayLike, rate: ArrayLike) -> Factor:
    """x ~ Gamma(shape, rate), with the mean shape / rate; both are > 0 and (*plates)."""
    plates = _plates(plates)
    check_bound("shape", shape, above=0.0)
    check_bound("rate", rate, above=0.0)
    prior = Gamma.from_standard(_full("shape", shape, plates), _full("rate", rate, plates))
    return _factor(prior)


def dirichlet(plates: Plates, k: int, *, conc: ArrayLike = 1.0) -> Factor:
    """x ~ Dirichlet(conc), probabilities of k labels; `conc` > 0 is (*plates, k), or (k,)."""
    plates = _plates(plates)
    _check_size("k", k, 2)
    check_bound("conc", conc, above=0.0)
    return _factor(Dirichlet.from_standard(_full("conc", conc, (*plates, k))))


def categorical(plates: Plates, k: int, *, probs: ArrayLike | None = None) -> Factor:
    """z ~ Categorical(probs), one of k labels; `probs` > 0 is (*plates, k), or (k,).

    Without `probs` the factor is free: its probabilities, such as those of a Dirichlet factor, are
    a part of the energy.
    """
    plates = _plates(plates)
    _check_size("k", k, 2)
    given = 1.0 / k if probs is None else probs
    check_bound("probs", given, above=0.0)
    factor = _factor(Categorical.from_standard(_full("probs", given, (*plates, k))))
    return free(factor) if probs is None else factor


def wishart(plates: Plates, d: int, *, df: ArrayLike, scatter: ArrayLike) -> Factor:
    """L ~ Wishart(scatter^-1, df), a precision matrix with the mean df scatter^-1.

    `df` > d - 1 is (*plates), and `scatter` positive definite (*plates, d, d), or a number, which
    is that times the identity.
    """
    plates = _plates(plates)
    _check_size("d", d, 1)
    check_bound("df", df, above=d - 1.0)
    scatter = _matrices("scatter", scatter, plates, d)
    return _factor(PrecisionMatrix.from_standard(_full("df", df, plates), scatter))


def free(factor: Factor) -> Factor:
    """The factor without its prior, which the energy has to contain.

    What was its prior is where a fit begins, and no part of the model.
    """
    if not isinstance(factor, Factor):
        raise TypeError(f"factor: expected one such as vx.factor.normal(), got {factor!r}")
    return replace(factor, prior=factor.kind.flat(factor.first), is_free=True)


def _factor(prior: Any) -> Factor:
    return Factor(prior, prior)


def _plates(plates: Any) -> tuple[int, ...]:
    plates = plates if isinstance(plates, tuple | list) else (plates,)
    for size in plates:
        _check_size("plates", size, 1)
    return tuple(int(size) for size in plates)


def _check_size(name: str, value: Any, least: int) -> None:
    check_integer(name, value)
    check_bound(name, value, least=float(least))


def _full(name: str, value: Any, shape: tuple[int, ...]) -> Any:
    """The numbers broadcast to this shape; ValueError naming them if they do not."""
    array = as_floats(name, value)
    try:
        return namespace(array).broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name}: expected a number or shape {shape}, got {array.shape}") from None


def _matrices(name: str, value: Any, plates: tuple[int, ...], d: int) -> Any:
    """A number times the identity, or positive definite matrices, as (*plates, d, d)."""
    array = as_floats(name, value)
    if not array.ndim:
        check_bound(name, array, above=0.0)
        return _full(name, array * np.eye(d, dtype=array.dtype), (*plates, d, d))
    full = _full(name, array, (*plates, d, d))
    if array.shape[-2:] != (d, d):
        raise ValueError(f"{name}: expected a number or {(*plates, d, d)}, got {array.shape}")
    if is_concrete(full):
        host = np.asarray(fetched(full), float)
        try:
            np.linalg.cholesky(host)
        except np.linalg.LinAlgError:
            raise ValueError(f"{name}: must be positive definite") from None
        if not np.allclose(host, np.swapaxes(host, -1, -2), rtol=1e-5, atol=0.0):
            raise ValueError(f"{name}: must be symmetric")
    return full
