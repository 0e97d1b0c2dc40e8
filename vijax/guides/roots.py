"""Square roots C of a covariance C C^T, in the form that its structure needs.

A covariance is not stored: forming one squares its condition number, and posteriors whose standard
deviations differ by 1e5 are common. A step of `GaussianVI` multiplies C by a symmetric matrix and
never makes it triangular again, because another rotation of C is another objective on fixed draws.
"""

from __future__ import annotations

import abc
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._pytree import pytree, static
from ..numerics import linalg

_C = TypeVar("_C", bound="Root")


class Root(abc.ABC):
    """A square root C (d, k) of a covariance: u = mean + C z with z (k,) standard normal."""

    @property
    @abc.abstractmethod
    def noise_size(self) -> int:
        """The number of standard normal numbers of a draw, k."""

    @abc.abstractmethod
    def apply(self, z: Float[Array, "*b k"]) -> Float[Array, "*b d"]:
        """C z."""

    @abc.abstractmethod
    def pull(self, g: Float[Array, "*b d"]) -> Float[Array, "*b k"]:
        """C^T g: a gradient by u as one by z."""

    @property
    @abc.abstractmethod
    def log_det(self) -> Float[Array, ""]:
        """Half the log determinant of the covariance, in nats."""

    @property
    @abc.abstractmethod
    def sd(self) -> Float[Array, "d"]:
        """The standard deviation of each coordinate."""

    @abc.abstractmethod
    def mahalanobis(self, v: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        """v^T (C C^T)^-1 v."""

    def squared_norm(self, z: Float[Array, "*b k"]) -> Float[Array, "*b"]:
        """`mahalanobis` of C z."""
        return self.mahalanobis(self.apply(z))

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """C C^T."""
        eye = jnp.eye(self.noise_size, dtype=self.sd.dtype)
        root = self.apply(eye)
        return linalg.matmul(root.T, root)


class SquareRoot(Root):
    """A root with as many columns as rows, which natural-gradient steps can change."""

    def squared_norm(self, z: Float[Array, "*b k"]) -> Float[Array, "*b"]:
        return jnp.sum(z**2, -1)  # without the rounding of a solve

    @property
    @abc.abstractmethod
    def free_entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows i >= columns j of the entries of a symmetric matrix that fits the structure."""

    @abc.abstractmethod
    def spectrum(self, a: Float[Array, "d d"]) -> tuple[Float[Array, "d"], Any]:
        """Eigenvalues and eigenvectors of the part of a symmetric matrix that fits the structure.

        The eigenvectors are None for a diagonal root.
        """

    @abc.abstractmethod
    def shrunk(self: _C, lam: Float[Array, "d"], vectors: Any) -> _C:
        """The root C V diag(lam)^-1/2 V^T, with V from `spectrum`."""


@pytree
class FullRoot(SquareRoot):
    """Any square matrix; `log_det` is log |det C| in nats."""

    matrix: Float[Array, "*b d d"]
    log_abs_det: Float[Array, "*b"]

    @classmethod
    def scaled(cls, scale: ArrayLike, d: int, dtype: Any) -> FullRoot:
        """The root `scale` I."""
        scale = jnp.asarray(scale, dtype)
        return cls(scale * jnp.eye(d, dtype=dtype), d * jnp.log(scale))

    @property
    def noise_size(self) -> int:
        return self.matrix.shape[-1]

    def apply(self, z: Float[Array, "*b k"]) -> Float[Array, "*b d"]:
        return linalg.matmul(z, self.matrix.mT) if z.ndim > 1 else self.apply(z[None])[0]

    def pull(self, g: Float[Array, "*b d"]) -> Float[Array, "*b k"]:
        return linalg.matmul(g, self.matrix) if g.ndim > 1 else self.pull(g[None])[0]

    @property
    def log_det(self) -> Float[Array, ""]:
        return self.log_abs_det

    @property
    def sd(self) -> Float[Array, "d"]:
        return jnp.sqrt(jnp.sum(self.matrix**2, -1))

    def mahalanobis(self, v: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        rows = v.reshape(-1, v.shape[-1])
        z = jnp.linalg.solve(self.matrix, rows.T)
        return jnp.sum(z**2, 0).reshape(v.shape[:-1])

    @property
    def free_entries(self) -> tuple[np.ndarray, np.ndarray]:
        return np.tril_indices(self.noise_size)

    def spectrum(self, a: Float[Array, "d d"]) -> tuple[Float[Array, "d"], Any]:
        return jnp.linalg.eigh(a)

    def shrunk(self, lam: Float[Array, "d"], vectors: Any) -> FullRoot:
        return FullRoot(*self._times(lam, vectors))

    def _times(self, lam: Array, vectors: Array) -> tuple[Array, Array]:
        symmetric = linalg.matmul(vectors / jnp.sqrt(lam), vectors.mT)
        log_det = self.log_abs_det - 0.5 * jnp.sum(jnp.log(lam), -1)
        return linalg.matmul(self.matrix, symmetric), log_det


@pytree
class BlockRoot(FullRoot):
    """A matrix that is 0 between coordinates of different `groups`, one number for each."""

    groups: tuple[int, ...] = static(default=())

    @property
    def free_entries(self) -> tuple[np.ndarray, np.ndarray]:
        i, j = np.tril_indices(self.noise_size)
        groups = np.asarray(self.groups)
        same = groups[i] == groups[j]
        return i[same], j[same]

    def spectrum(self, a: Float[Array, "d d"]) -> tuple[Float[Array, "d"], Any]:
        return jnp.linalg.eigh(jnp.where(self._same, a, 0.0))

    def shrunk(self, lam: Float[Array, "d"], vectors: Any) -> BlockRoot:
        matrix, log_det = self._times(lam, vectors)
        return BlockRoot(jnp.where(self._same, matrix, 0.0), log_det, self.groups)

    @property
    def _same(self) -> Array:
        groups = jnp.asarray(self.groups)
        return groups[:, None] == groups[None]


@pytree
class DiagonalRoot(SquareRoot):
    """Independent coordinates: C = diag(scale), scale > 0."""

    scale: Float[Array, "*b d"]

    @property
    def noise_size(self) -> int:
        return self.scale.shape[-1]

    def apply(self, z: Float[Array, "*b k"]) -> Float[Array, "*b d"]:
        return z * self.scale

    def pull(self, g: Float[Array, "*b d"]) -> Float[Array, "*b k"]:
        return g * self.scale

    @property
    def log_det(self) -> Float[Array, ""]:
        return jnp.sum(jnp.log(self.scale), -1)

    @property
    def sd(self) -> Float[Array, "d"]:
        return self.scale

    def mahalanobis(self, v: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        return jnp.sum((v / self.scale) ** 2, -1)

    @property
    def free_entries(self) -> tuple[np.ndarray, np.ndarray]:
        own = np.arange(self.noise_size)
        return own, own

    def spectrum(self, a: Float[Array, "d d"]) -> tuple[Float[Array, "d"], Any]:
        return jnp.diagonal(a), None

    def shrunk(self, lam: Float[Array, "d"], vectors: Any) -> DiagonalRoot:
        return DiagonalRoot(self.scale / jnp.sqrt(lam))


@pytree
class LowRankRoot(Root):
    """C = (diag(scale), factor): the covariance is diag(scale^2) + factor factor^T."""

    scale: Float[Array, "*b d"]
    factor: Float[Array, "*b d r"]

    @property
    def noise_size(self) -> int:
        return self.scale.shape[-1] + self.factor.shape[-1]

    def apply(self, z: Float[Array, "*b k"]) -> Float[Array, "*b d"]:
        d = self.scale.shape[-1]
        return z[..., :d] * self.scale + jnp.einsum("...r,dr->...d", z[..., d:], self.factor)

    def pull(self, g: Float[Array, "*b d"]) -> Float[Array, "*b k"]:
        own = jnp.einsum("...d,dr->...r", g, self.factor)
        return jnp.concatenate([g * self.scale, own], -1)

    @property
    def log_det(self) -> Float[Array, ""]:
        return jnp.sum(jnp.log(self.scale), -1) + 0.5 * linalg.logdet(self._inner)

    @property
    def sd(self) -> Float[Array, "d"]:
        return jnp.sqrt(self.scale**2 + jnp.sum(self.factor**2, -1))

    def mahalanobis(self, v: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        rows = (v / self.scale).reshape(-1, v.shape[-1])
        inside = linalg.tri_solve(self._inner, linalg.matmul(self._ratio.mT, rows.T))
        squares = jnp.sum(rows**2, -1) - jnp.sum(inside**2, 0)
        return squares.reshape(v.shape[:-1])

    @property
    def _ratio(self) -> Array:
        return self.factor / self.scale[..., None]

    @property
    def _inner(self) -> Array:
        """The factor of I + F^T D^-2 F, of size r."""
        gram = linalg.matmul(self._ratio.mT, self._ratio)
        return linalg.chol(gram + jnp.eye(gram.shape[-1], dtype=gram.dtype))
