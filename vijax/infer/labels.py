"""Which component is which, after a fit: leave out, put in order, match to another fit.

The components of a mixture have no order of their own: any permutation has the same bound.
All of these take a Result or its q, change nothing about the fit, and return the same kind; their
order is that of everything `responsibilities` and `predict` say of the q that comes back.
A component that is not like the others, such as uniform noise, stays the last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._pytree import replace
from ..data.host import as_floats, check_bound, is_concrete, to_device
from ..model import ComponentParams
from .result import Result

_R = TypeVar("_R")

_IN_USE = 0.01  # expected weight, as in summaries


def prune(result: _R, min_weight: float = 0.01) -> _R:
    """Only the components of expected weight at least `min_weight`, in their order.

    For reading and predicting with fewer components. Under a Dirichlet the remaining weights are
    scaled to sum to one, a Dirichlet again. `elbo` and all else of a Result stay what they are:
    the bound is that of the full q, not of what is left of it. A last component such as noise
    stays, whatever its weight.

    Host side: needs concrete values. Raises ValueError if no component reaches `min_weight`, or
    under batch axes: one fit at a time, since each may keep another number of components.
    """
    q = _q_of("result", result, "jax.tree.map(lambda leaf: leaf[i], result)")
    _check_concrete("result", q)
    check_bound("min_weight", min_weight, least=0.0)
    weight = np.asarray(q.weights.mean)
    free = _num_free(q)
    keep = np.flatnonzero(weight[:free] >= min_weight)
    if not keep.size:
        heaviest = weight[:free].max()
        raise ValueError(
            f"min_weight: no component has weight >= {min_weight:g}; the heaviest has {heaviest:g}"
        )
    return _reordered(result, np.append(keep, np.arange(free, weight.size)))


def relabel(result: _R, by: str | Callable[[Any], Any] | Any = "weight") -> _R:
    """The same fit, its components in another order.

    `by` is "weight" (heaviest first), or one number per component, which then ascend: an array
    (k,), or a function of q such as `lambda q: q.components.mean[:, 0]`. Equal ones keep their
    order. Traceable: `jax.vmap(relabel)(results)` does it for many fits.

    Raises ValueError for numbers of another shape or NaN, and under batch axes; TypeError if
    there are no components to put in order.
    """
    q = _q_of("result", result, "jax.vmap(relabel)(results)")
    k, free = q.weights.mean.shape[0], _num_free(q)
    if isinstance(by, str):
        if by != "weight":
            raise ValueError(f"by: expected 'weight', one number per component, got {by!r}")
        values = -q.weights.mean
    else:
        values = as_floats("by", by(q) if callable(by) else by)
        if values.shape not in ((k,), (free,)):
            raise ValueError(
                f"by: expected one number per component, shape ({k},), got {values.shape}"
            )
        if is_concrete(values) and np.isnan(values).any():
            raise ValueError(f"by: component {int(np.isnan(values).argmax())} has NaN")
    order = jnp.argsort(jnp.asarray(values)[:free], stable=True)
    return _reordered(result, jnp.append(order, jnp.arange(free, k, dtype=order.dtype)))


def align(result: _R, reference: Any) -> _R:
    """The components of `result` in the order of those of `reference` that they are closest to.

    For restarts, bootstrap replicates or neighbouring data sets. The matching minimises the total
    distance of the pairs (Hungarian algorithm): the smaller of the two Kullback-Leibler
    divergences, in nats, between what the fits believe of the parameters of a component. What the
    components share, such as a tied covariance, does not count. Components in use (expected
    weight of at least 0.01) are matched to each other first, and so are those switched off.

    The fits may differ in their number of components: matched ones come first, in the reference's
    order, then the others, heaviest first. Where `result` has no fewer than `reference`, component
    i of both belong together.

    Host side: needs concrete values, and SciPy, which comes with JAX. Raises ValueError under
    batch axes, and if the two are of different families or dimensions.
    """
    hint = "jax.tree.map(lambda leaf: leaf[i], result)"
    q, other = _q_of("result", result, hint), _q_of("reference", reference, hint)
    _check_concrete("result", q)
    _check_concrete("reference", other)
    cost = _costs(q, other)
    from scipy.optimize import linear_sum_assignment

    own, theirs = linear_sum_assignment(cost)
    matched = own[np.argsort(theirs)]
    weight = np.asarray(q.weights.mean)
    free = _num_free(q)
    rest = np.setdiff1d(np.arange(free), matched)
    rest = rest[np.argsort(-weight[rest], kind="stable")]
    return _reordered(result, np.concatenate([matched, rest, np.arange(free, weight.size)]))


def _costs(q: Any, other: Any) -> Float[np.ndarray, "k m"]:
    """Finite distances of every pair; as few pairs as possible of unequal kind."""
    theirs = _like(q.components, other.components)
    k, m = _num_free(q), _num_free(other)
    weight = np.asarray(q.weights.mean)[:k, None], np.asarray(other.weights.mean)[:m]
    cost = np.asarray(_divergences(q.components, theirs, k, m), np.float64)
    top = cost.max(initial=0.0, where=np.isfinite(cost))
    cost = np.where(np.isfinite(cost), cost, 1.0 + top)
    cost = np.where((weight[0] > 0) & (weight[1] > 0), cost, 0.0)
    # an empty component, wide and vague, is near to all: it must not come between two in use
    kind = [1.0 * (w > 0) + (w >= _IN_USE) for w in weight]
    return cost + (1.0 + top) * (1.0 + min(k, m)) * np.abs(kind[0] - kind[1])


def _divergences(a: Any, b: Any, k: int, m: int) -> Float[Array, "k m"]:
    """The smaller of KL(a_i || b_j) and KL(b_j || a_i), up to what all pairs have in common."""

    def one(components: Any, i: Any, free: int) -> Any:
        last = free + jnp.arange(components.num_background, dtype=i.dtype)
        return components.take(jnp.append(i, last))

    def pair(i: Any, j: Any) -> tuple[Any, Any]:
        first, second = one(a, i, k), one(b, j, m)
        return jnp.sum(first.kl(second)), jnp.sum(second.kl(first))

    i, j = np.divmod(np.arange(k * m, dtype=np.int32), np.int32(m))
    both = jax.vmap(pair)(to_device(i), to_device(j))
    if not a.separable:  # what the components share is part of every pair
        both = [each - jnp.nanmin(each) for each in both]
    return jnp.minimum(*both).reshape(k, m)


def _like(components: Any, other: Any) -> Any:
    """`other` in the dtype of `components`; ValueError if it is of another family or dimension."""
    kinds = [jax.tree.structure(c) for c in (components, other)]
    leaves = [jax.tree.leaves(c) for c in (components, other)]
    # the first axis of a leaf may be the components; how many there are may differ
    shapes = [[jnp.shape(leaf)[1:] for leaf in each] for each in leaves]
    if kinds[0] != kinds[1] or shapes[0] != shapes[1]:
        raise ValueError(
            f"reference: its {type(other).__name__} components do not compare with the result's "
            f"{type(components).__name__}: another family, or another number of columns"
        )
    same = [to_device(b, a.dtype) for a, b in zip(*leaves, strict=True)]
    return jax.tree.unflatten(kinds[0], same)


def _q_of(name: str, result: Any, hint: str) -> Any:
    """The q of a Result, or q itself; without batch axes."""
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


def _check_concrete(name: str, q: Any) -> None:
    if not is_concrete(*jax.tree.leaves(q)):
        raise ValueError(f"{name}: its values are looked at; call this outside of jit and vmap")


def _num_free(q: Any) -> int:
    """Components but for those that must stay the last."""
    return q.weights.mean.shape[0] - q.num_background


def _reordered(result: _R, order: Int[np.ndarray, "m"] | Int[Array, "m"]) -> _R:
    index = to_device(order, jnp.int32)
    if isinstance(result, Result):
        return replace(result, q=result.q.take(index))
    return result.take(index)  # type: ignore[attr-defined]
