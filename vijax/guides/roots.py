"""Square roots C of a covariance C C^T, in the form that its structure needs.

A covariance is not stored: forming one squares its condition number, and posteriors whose standard
deviations differ by 1e5 are common. On fixed draws another rotation of C is another objective, so
that a step of `GaussianVI` multiplies C by a triangular or a symmetric matrix, and never turns it.
"""

from __future__ import annotations

import abc
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from .._pytree import pytree, replace, static
from ..numerics import linalg
from ..numerics.broadcasting import broadcasts

_R = TypeVar("_R", bound="Root")
_C = TypeVar("_C", bound="SquareRoot")
_F = TypeVar("_F", bound="FullRoot")

_LEAST_UNEXPLAINED = 0.01  # of low rank, so that steps in logs of scales that vanish stay bounded


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
    @abc.abstractmethod
    def free(self) -> dict[str, Array]:
        """Real numbers that fix C C^T, for optimisers: logs of scales, and all other entries."""

    @abc.abstractmethod
    def with_free(self: _R, free: dict[str, Array]) -> _R:
        """The root of these numbers, in the form of `free`."""

    @abc.abstractmethod
    def natural(self, gradient: dict[str, Array]) -> dict[str, Array]:
        """A gradient by `free` times about the inverse of the metric of KL; self is `with_free`."""

    @abc.abstractmethod
    def squared_distance(self, other: Root) -> Float[Array, ""]:
        """2 tr((C' - C)^T (C C^T)^-1 (C' - C)), which is at least 2 KL for a near root C'."""

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
    def part(self, a: Float[Array, "d d"]) -> Float[Array, "..."]:
        """The part of a symmetric matrix that fits the structure: (d, d), or (d,) if diagonal."""

    @abc.abstractmethod
    def spectrum(self, part: Float[Array, "..."]) -> tuple[Float[Array, "d"], Any]:
        """Eigenvalues and eigenvectors of such a part; the vectors are None if it is diagonal."""

    @abc.abstractmethod
    def times(self: _C, factor: Float[Array, "..."], log_det: Float[Array, ""]) -> _C:
        """The root C S with S = `factor` of the structure, and `log_det` log |det S| in nats."""


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

    @broadcasts
    def apply(self, z: Float[Array, "*b k"]) -> Float[Array, "*b d"]:
        return linalg.matmul(z, self.matrix.mT) if z.ndim > 1 else self.apply(z[None])[0]

    @broadcasts
    def pull(self, g: Float[Array, "*b d"]) -> Float[Array, "*b k"]:
        return linalg.matmul(g, self.matrix) if g.ndim > 1 else self.pull(g[None])[0]

    @property
    def log_det(self) -> Float[Array, ""]:
        return self.log_abs_det

    @property
    def sd(self) -> Float[Array, "d"]:
        return jnp.sqrt(jnp.sum(self.matrix**2, -1))

    @broadcasts
    def mahalanobis(self, v: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        rows = v.reshape(-1, v.shape[-1])
        z = jnp.linalg.solve(self.matrix, rows.T)
        return jnp.sum(z**2, 0).reshape(v.shape[:-1])

    @property
    def free_entries(self) -> tuple[np.ndarray, np.ndarray]:
        return np.tril_indices(self.noise_size)

    @broadcasts
    def part(self, a: Float[Array, "d d"]) -> Float[Array, "..."]:
        return a

    @broadcasts
    def spectrum(self, part: Float[Array, "..."]) -> tuple[Float[Array, "d"], Any]:
        return jnp.linalg.eigh(part)

    @broadcasts
    def times(self, factor: Float[Array, "..."], log_det: Float[Array, ""]) -> FullRoot:
        return FullRoot(linalg.matmul(self.matrix, factor), self.log_abs_det + log_det)

    @property
    def free(self) -> dict[str, Array]:
        """The log diagonal, and the entries below it, of the triangle L with L L^T = C C^T."""
        low = linalg.lower_root(self.matrix)
        return {"below": low[self._below], "log_diagonal": jnp.log(jnp.diagonal(low))}

    @broadcasts
    def with_free(self: _F, free: dict[str, Array]) -> _F:
        log_diagonal = free["log_diagonal"]
        low = self._triangle(free["below"], jnp.exp(log_diagonal))
        return replace(self, matrix=low, log_abs_det=jnp.sum(log_diagonal))

    @broadcasts
    def natural(self, gradient: dict[str, Array]) -> dict[str, Array]:
        diagonal = jnp.diagonal(self.matrix)
        by_entry = self._triangle(gradient["below"], gradient["log_diagonal"] / diagonal)
        inside = jnp.tril(linalg.matmul(self.matrix.mT, by_entry))
        move = linalg.matmul(self.matrix, inside - 0.5 * jnp.diag(jnp.diagonal(inside)))
        return {"below": move[self._below], "log_diagonal": jnp.diagonal(move) / diagonal}

    @broadcasts
    def squared_distance(self, other: Root) -> Float[Array, ""]:
        assert isinstance(other, FullRoot)
        return 2.0 * jnp.sum(jnp.linalg.solve(self.matrix, other.matrix - self.matrix) ** 2)

    @property
    def _below(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the entries below the diagonal that are free."""
        return np.tril_indices(self.matrix.shape[-1], -1)

    def _triangle(self, below: Array, diagonal: Array) -> Array:
        return jnp.diag(diagonal).at[self._below].set(below)


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

    @broadcasts
    def part(self, a: Float[Array, "d d"]) -> Float[Array, "..."]:
        return jnp.where(self._same, a, 0.0)

    @broadcasts
    def times(self, factor: Float[Array, "..."], log_det: Float[Array, ""]) -> BlockRoot:
        matrix = jnp.where(self._same, linalg.matmul(self.matrix, factor), 0.0)
        return BlockRoot(matrix, self.log_abs_det + log_det, self.groups)

    @property
    def _below(self) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = super()._below
        groups = np.asarray(self.groups)
        same = groups[rows] == groups[columns]
        return rows[same], columns[same]

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

    @broadcasts
    def apply(self, z: Float[Array, "*b k"]) -> Float[Array, "*b d"]:
        return z * self.scale

    @broadcasts
    def pull(self, g: Float[Array, "*b d"]) -> Float[Array, "*b k"]:
        return g * self.scale

    @property
    def log_det(self) -> Float[Array, ""]:
        return jnp.sum(jnp.log(self.scale), -1)

    @property
    def sd(self) -> Float[Array, "d"]:
        return self.scale

    @broadcasts
    def mahalanobis(self, v: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        return jnp.sum((v / self.scale) ** 2, -1)

    @property
    def free_entries(self) -> tuple[np.ndarray, np.ndarray]:
        own = np.arange(self.noise_size)
        return own, own

    @broadcasts
    def part(self, a: Float[Array, "d d"]) -> Float[Array, "..."]:
        return jnp.diagonal(a)

    @broadcasts
    def spectrum(self, part: Float[Array, "..."]) -> tuple[Float[Array, "d"], Any]:
        return part, None

    @broadcasts
    def times(self, factor: Float[Array, "..."], log_det: Float[Array, ""]) -> DiagonalRoot:
        return DiagonalRoot(self.scale * factor)

    @property
    def free(self) -> dict[str, Array]:
        return {"log_scale": jnp.log(self.scale)}

    @broadcasts
    def with_free(self, free: dict[str, Array]) -> DiagonalRoot:
        return DiagonalRoot(jnp.exp(free["log_scale"]))

    @broadcasts
    def natural(self, gradient: dict[str, Array]) -> dict[str, Array]:
        return {"log_scale": 0.5 * gradient["log_scale"]}

    @broadcasts
    def squared_distance(self, other: Root) -> Float[Array, ""]:
        assert isinstance(other, DiagonalRoot)
        return 2.0 * jnp.sum(((other.scale - self.scale) / self.scale) ** 2)


@pytree
class LowRankRoot(Root):
    """C = (diag(scale), factor): the covariance is diag(scale^2) + factor factor^T."""

    scale: Float[Array, "*b d"]
    factor: Float[Array, "*b d r"]

    @property
    def noise_size(self) -> int:
        return self.scale.shape[-1] + self.factor.shape[-1]

    @broadcasts
    def apply(self, z: Float[Array, "*b k"]) -> Float[Array, "*b d"]:
        d = self.scale.shape[-1]
        return z[..., :d] * self.scale + jnp.einsum("...r,dr->...d", z[..., d:], self.factor)

    @broadcasts
    def pull(self, g: Float[Array, "*b d"]) -> Float[Array, "*b k"]:
        own = jnp.einsum("...d,dr->...r", g, self.factor)
        return jnp.concatenate([g * self.scale, own], -1)

    @property
    def log_det(self) -> Float[Array, ""]:
        upper = self._qr[1]
        return jnp.sum(jnp.log(self.scale), -1) + jnp.sum(jnp.log(jnp.abs(jnp.diagonal(upper))))

    @property
    def sd(self) -> Float[Array, "d"]:
        return jnp.sqrt(self.scale**2 + jnp.sum(self.factor**2, -1))

    @broadcasts
    def mahalanobis(self, v: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        basis, _ = self._qr
        rows = (v / self.scale).reshape(-1, v.shape[-1])
        rows = jnp.pad(rows, [(0, 0), (0, self.factor.shape[-1])])
        rest = rows - linalg.matmul(linalg.matmul(rows, basis), basis.T)
        return jnp.sum(rest**2, -1).reshape(v.shape[:-1])

    @property
    def free(self) -> dict[str, Array]:
        least = self._least(self.factor)
        square = jnp.maximum(self.scale**2 - least, least) + jnp.finfo(least.dtype).tiny
        return {"factor": self.factor, "log_scale": 0.5 * jnp.log(square)}

    @broadcasts
    def with_free(self, free: dict[str, Array]) -> LowRankRoot:
        """The root of these numbers, whose scale^2 is above the rounding of the factor's share."""
        square = jnp.exp(2.0 * free["log_scale"]) + self._least(free["factor"])
        return LowRankRoot(jnp.sqrt(square), free["factor"])

    @staticmethod
    def _least(factor: Float[Array, "d r"]) -> Float[Array, "d"]:
        """A square of the scale below which a factor that explains a coordinate whole is lost."""
        return jnp.finfo(factor.dtype).eps * jnp.sum(factor**2, -1)

    @broadcasts
    def natural(self, gradient: dict[str, Array]) -> dict[str, Array]:
        factor = 0.5 * self.apply(self.pull(gradient["factor"].T)).T
        return {"factor": factor, "log_scale": 0.5 * gradient["log_scale"] / self._unexplained}

    @broadcasts
    def squared_distance(self, other: Root) -> Float[Array, ""]:
        assert isinstance(other, LowRankRoot)
        scale = ((other.scale - self.scale) / self.scale) ** 2
        factor = self.mahalanobis((other.factor - self.factor).T)
        return 2.0 * (jnp.sum(self._unexplained * scale) + jnp.sum(factor))

    @broadcasts
    def spread(self, seed: Int[Array, ""] | int) -> LowRankRoot:
        """The same root, with a random factor in place of one that is 0, where no gradient is."""
        noise = jax.random.normal(jax.random.key(seed), self.factor.shape, self.scale.dtype)
        width = self.scale[:, None] / np.sqrt(self.factor.shape[-1])
        factor = jnp.where(jnp.any(self.factor != 0), self.factor, width * noise)
        return LowRankRoot(self.scale, factor)

    @property
    def _unexplained(self) -> Array:
        """scale^2 over the variance of each coordinate given all others, in (0, 1]."""
        basis = self._qr[0][: self.scale.shape[-1]]
        return jnp.maximum(1.0 - jnp.sum(basis**2, -1), _LEAST_UNEXPLAINED)

    @property
    def _qr(self) -> tuple[Array, Array]:
        """Q and R of D^-1 F above I, whose R^T R = I + F^T D^-2 F is never formed.

        Where the scale of a coordinate goes to 0, as it does if the factor explains it, its square
        would be lost in rounding, and the determinant with it.
        """
        r = self.factor.shape[-1]
        ratio = self.factor / self.scale[:, None]
        return jnp.linalg.qr(jnp.concatenate([ratio, jnp.eye(r, dtype=ratio.dtype)]))
