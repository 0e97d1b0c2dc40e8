"""The order of components after a fit: leave some out, sort them, match them to another fit.

The order of components is arbitrary: any permutation has the same bound. Each function takes a
Result or its q and returns the same kind, in whose order `responsibilities` and `predict` are then.
Background components, such as uniform noise, stay at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._pytree import replace
from ..data.host import as_floats, check_bound, fetched, is_concrete, to_device
from ..latent_class import ComponentParams
from .result import Result

_R = TypeVar("_R")

_IN_USE = 0.01  # expected weight of a component in use, as in summaries


def prune(result: _R, min_weight: float = 0.01) -> _R:
    """The components of expected weight at least `min_weight`, in their order.

    Under a Dirichlet the remaining weights are scaled to sum to one, and are Dirichlet again. The
    `elbo` and all else of a Result stay those of the full q. It needs concrete values. Raises
    ValueError if no component reaches `min_weight`, and for a batch of fits.

    Args:
        result: A Result of a mixture, or its q.
        min_weight: Smallest expected weight to keep; background components stay in any case.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.from_data(x, 4)
        fit = vx.fit(model, x, key=jax.random.key(0))
        few = vx.prune(fit)
    """
    q = _q_of("result", result, "jax.tree.map(lambda leaf: leaf[i], result)")
    _check_concrete("result", q)
    check_bound("min_weight", min_weight, least=0.0)
    weight = fetched(_weight(q))
    free = _num_free(q)
    keep = np.flatnonzero(weight[:free] >= min_weight)
    if not keep.size:
        heaviest = weight[:free].max()
        raise ValueError(
            f"min_weight: no component has weight >= {min_weight:g}; the heaviest has {heaviest:g}"
        )
    return _reordered(result, np.append(keep, np.arange(free, weight.size)))


def relabel(result: _R, by: str | Callable[[Any], Any] | Any = "weight") -> _R:
    """The same fit with its components in another order.

    Traceable: `jax.vmap(relabel)(results)` does it for many fits. Raises ValueError for numbers of
    another shape or NaN, and for a batch of fits; TypeError if there are no components.

    Args:
        result: A Result of a mixture, or its q.
        by: "weight", the heaviest first; or numbers (k,), in ascending order, with ties as they
            were; or a function of q that gives them, such as `lambda q: q.components.mean[:, 0]`.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.from_data(x, 4)
        fit = vx.fit(model, x, key=jax.random.key(0))
        from_left = vx.relabel(fit, by=lambda q: q.components.mean[:, 0])
    """
    q = _q_of("result", result, "jax.vmap(relabel)(results)")
    k, free = q.weights.mean.shape[0], _num_free(q)
    if isinstance(by, str):
        if by != "weight":
            raise ValueError(f"by: expected 'weight', one number per component, got {by!r}")
        values = -_weight(q)
    else:
        values = as_floats("by", by(q) if callable(by) else by)
        if values.shape not in ((k,), (free,)):
            raise ValueError(
                f"by: expected one number per component, shape ({k},), got {values.shape}"
            )
        if is_concrete(values) and np.isnan(values).any():
            raise ValueError(f"by: component {int(np.isnan(values).argmax())} has NaN")
    return _reordered(result, _ascending(to_device(values), free, k))


def align(result: _R, reference: Any) -> _R:
    """The components of `result` in the order of the closest ones of `reference`.

    It is for restarts, bootstrap replicates or neighbouring data sets. The matching minimises the
    total distance of the pairs (Hungarian algorithm). The distance is the smaller of the two
    Kullback-Leibler divergences, in nats, between the q of the two components' parameters, without
    those that components share, such as a tied covariance. Components in use (expected weight of at
    least 0.01) are matched to each other first, and so are those switched off.

    The fits may differ in their number of components: matched ones come first, in the order of the
    reference, then the others, heaviest first. If `result` has at least as many as `reference`,
    component i of both belong together. It needs concrete values. Raises ValueError for a batch of
    fits, and for different families or dimensions.

    Args:
        result: A Result of a mixture, or its q.
        reference: Another one.

    Example:
        x, _ = vx.datasets.three_clusters()
        model = vx.GaussianMixture.from_data(x, 4)
        fit = vx.fit(model, x, key=jax.random.key(0))
        again = vx.fit(model, x, key=jax.random.key(1))
        again = vx.align(again, fit)  # component 0 of both is the same
    """
    hint = "jax.tree.map(lambda leaf: leaf[i], result)"
    q, other = _q_of("result", result, hint), _q_of("reference", reference, hint)
    _check_concrete("result", q)
    _check_concrete("reference", other)
    cost = _costs(q, other)
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost)
    matched = rows[np.argsort(columns)]
    weight = fetched(_weight(q))
    free = _num_free(q)
    others = np.setdiff1d(np.arange(free), matched)
    others = others[np.argsort(-weight[others], kind="stable")]
    return _reordered(result, np.concatenate([matched, others, np.arange(free, weight.size)]))


def _costs(q: ComponentParams, other: ComponentParams) -> Float[np.ndarray, "k m"]:
    """Finite costs of every pair; pairs of unequal kind (in use, on, off) cost most."""
    components = _like(q.components, other.components)
    k, m = _num_free(q), _num_free(other)
    weight = fetched(_weight(q))[:k, None], fetched(_weight(other))[:m]
    cost = fetched(_divergences(q.components, components, k, m)).astype(np.float64)
    top = cost.max(initial=0.0, where=np.isfinite(cost))
    cost = np.where(np.isfinite(cost), cost, 1.0 + top)
    cost = np.where((weight[0] > 0) & (weight[1] > 0), cost, 0.0)
    # an empty component is wide and so close to all, but must not be matched to one in use
    kind = [1.0 * (w > 0) + (w >= _IN_USE) for w in weight]
    return cost + (1.0 + top) * (1.0 + min(k, m)) * np.abs(kind[0] - kind[1])


@partial(jax.jit, static_argnums=(2, 3))
def _divergences(a: Any, b: Any, k: int, m: int) -> Float[Array, "k m"]:
    """The smaller of KL(a_i || b_j) and KL(b_j || a_i), up to a constant for shared parameters."""

    def only(components: Any, i: Array, free: int) -> Any:
        last = free + jnp.arange(components.num_background, dtype=i.dtype)
        return components.take(jnp.append(i, last))

    def pair(i: Array, j: Array) -> tuple[Array, Array]:
        first, second = only(a, i, k), only(b, j, m)
        return jnp.sum(first.kl(second)), jnp.sum(second.kl(first))

    i, j = np.divmod(np.arange(k * m, dtype=np.int32), np.int32(m))
    both = jax.vmap(pair)(jnp.asarray(i), jnp.asarray(j))
    if not a.separable:  # shared parameters are part of every pair
        both = [kl - jnp.nanmin(kl) for kl in both]
    return jnp.minimum(*both).reshape(k, m)


def _like(components: Any, other: Any) -> Any:
    """`other` in the dtype of `components`; ValueError if it is of another family or dimension."""
    kinds = [jax.tree.structure(c) for c in (components, other)]
    leaves = [jax.tree.leaves(c) for c in (components, other)]
    # the first axis may be that of the components, whose number may differ
    shapes = [[jnp.shape(a)[1:] for a in arrays] for arrays in leaves]
    if kinds[0] != kinds[1] or shapes[0] != shapes[1]:
        raise ValueError(
            f"reference: its {type(other).__name__} components do not compare with the result's "
            f"{type(components).__name__}: another family, or another number of columns"
        )
    same = [to_device(b, a.dtype) for a, b in zip(*leaves, strict=True)]
    return jax.tree.unflatten(kinds[0], same)


def _q_of(name: str, result: Any, hint: str) -> ComponentParams:
    """The q of a Result, or q itself; raises for batch axes and for q without components."""
    q = result.q if isinstance(result, Result) else result
    if not isinstance(q, ComponentParams):
        raise TypeError(
            f"{name}: expected the Result or the q of a mixture, got {type(q).__name__}, which "
            "has no components to put in order"
        )
    batch = q.weights.mean.shape[:-1]
    if batch:
        raise ValueError(f"{name}: many fits, batch axes {batch}; index one first: {hint}")
    return q


def _check_concrete(name: str, q: ComponentParams) -> None:
    if not is_concrete(*jax.tree.leaves(q)):
        raise ValueError(f"{name}: its values are looked at; call this outside of jit and vmap")


def _num_free(q: ComponentParams) -> int:
    """The number of components that may be moved: all but the background ones at the end."""
    return q.weights.mean.shape[0] - q.num_background


def _reordered(result: _R, order: Int[np.ndarray, "m"] | Int[Array, "m"]) -> _R:
    index = to_device(order, jnp.int32)
    if isinstance(result, Result):
        return replace(result, q=_take(result.q, index))
    return _take(result, index)


# programs, since an operation by itself would move its constants to the device


@jax.jit
def _take(q: ComponentParams, index: Int[Array, "m"]) -> Any:
    return q.take(index)


@jax.jit
def _weight(q: ComponentParams) -> Float[Array, "k"]:
    return q.weights.mean


@partial(jax.jit, static_argnums=(1, 2))
def _ascending(values: Float[Array, "..."], free: int, k: int) -> Int[Array, "k"]:
    order = jnp.argsort(values[:free], stable=True)
    return jnp.append(order, jnp.arange(free, k, dtype=order.dtype))
