"""Rows that are sequences: their steps as rows, and rows of steps as sequences.

What lies beyond the last step that counts does not exist; a step of 0 before it is missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from .._pytree import replace
from . import levels as coding
from .checks import check_weight, renamed
from .fields import checked
from .host import as_floats, as_weights, can_fetch, fetched, is_concrete, namespace
from .missing import without_empty_rows
from .shards import place_for_jit

_BY_STEP = ("x", "mask", "noise", "label", "group", "exposure")
_HELD = ("x", "noise", "exposure")  # what steps of weight 0 hold is in `as_given`


def flat(rows: Any) -> Any:
    """The steps of a Batch of sequences as rows, weighted by `weight * steps`."""
    steps, given = rows.steps, rows.as_given
    if steps is None:
        return rows
    own = {name: _merged(getattr(rows, name)) for name in _BY_STEP}
    weight = _merged(rows.weight[:, None] * steps)
    given = None if given is None else flat(given)
    return replace(rows, **own, weight=weight, steps=None, as_given=given, sharding=None)


def step_weight(rows: Any) -> Any:
    """The weight of every row (n,), or of every step (n, t) of sequences."""
    return rows.weight if rows.steps is None else rows.weight[..., None] * rows.steps


def recoded(rows: Any, levels: Any) -> Any:
    """The rows of a Batch, or of its sequences, as codes of these levels."""
    have, names = rows.levels, rows.names
    if rows.steps is None:
        return coding.recoded(rows.x, rows.weight, rows.mask, have, levels, names)
    each = flat(rows)
    with named_steps(rows):
        x = coding.recoded(each.x, each.weight, each.mask, have, levels, names)
    return x.reshape(rows.x.shape)


def named_steps(rows: Any) -> contextlib.AbstractContextManager[None]:
    """A context in which errors about a row of `flat` name the sequence and the step that it is."""
    if rows.steps is None:
        return contextlib.nullcontext()
    t = rows.steps.shape[1]
    return _named(lambda row: divmod(row, t))


def by_sequence(name: str, value: Any, shape: tuple[int, int], fill: int) -> Any:
    """Values of all steps, in the form of sequences, as one array (n, t, ...).

    They may be in a list with an array (t_n, ...) for each sequence, whose padding is `fill`, or
    those of a single sequence, (t, ...).
    """
    n, t = shape
    if not isinstance(value, list | tuple) or not any(np.ndim(own) for own in value):
        size = np.shape(value)
        one = n == 1 and size[:1] == (t,) and (t > 1 or size[:2] != (1, 1))
        return namespace(value).asarray(value)[None] if one else value
    items = [fetched(own) if isinstance(own, jax.Array) else np.asarray(own) for own in value]
    if len(items) != n or any(own.ndim != items[0].ndim or len(own) > t for own in items):
        raise ValueError(
            f"{name}: expected a list of {n}, with an array of as many entries as steps for each "
            f"sequence, at most {t}; got {', '.join(str(own.shape) for own in items[:5])}"
        )

    def longer(own: np.ndarray) -> np.ndarray:
        more = [(0, t - len(own)), *[(0, 0)] * (own.ndim - 1)]
        return np.pad(own, more, constant_values=fill)

    return np.stack([longer(own) for own in items])


def exists(steps: Any) -> Any:
    """True up to the last step that counts, (n, t)."""
    xp = namespace(steps)
    number = np.arange(steps.shape[-1], dtype=np.int32)
    number = xp.asarray(number.reshape(*[1] * (steps.ndim - 1), -1))
    last = xp.where(steps > 0, number + 1, 0).max(-1)
    return number < last[..., None]


def map_steps(rows: Any, select: Callable[[Any], Any], **others: Any) -> Any:
    """The Batch with `select` applied to every array (n, t, ...) but `steps` and `as_given`.

    `others` are fields that are replaced at once, as all must be of one shape.
    """
    own = {name: jax.tree.map(select, getattr(rows, name)) for name in _BY_STEP}
    return replace(rows, **{**own, **others})


def _merged(tree: Any) -> Any:
    """Arrays (n, t, ...) as (n t, ...)."""
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), tree)


def checked_steps(
    sharding: NamedSharding | None, steps: Any, given: dict[str, Any], names: Any
) -> dict[str, Any]:
    """As `checked` of rows, for the fields of sequences."""
    weight, patterns = given["weight"], given["patterns"]
    n, t = steps.shape
    for leaf in jax.tree.leaves({name: given[name] for name in _BY_STEP}):
        if leaf.shape[:2] != (n, t):
            raise ValueError(f"steps: {(n, t)} do not fit to an array of shape {leaf.shape}")
    leaves = [a for a in jax.tree.leaves((given, steps)) if isinstance(a, jax.Array)]
    # on the host, reshaping compiles nothing
    local = is_concrete(*leaves) and all(can_fetch(a) for a in leaves)
    here: Callable[[Any], Any] = fetched if local else lambda a: a
    if is_concrete(steps, weight):
        known = fetched(steps)
        good = (known >= 0) & np.isfinite(known)
        if not bool(good.all()):
            i, j = divmod(int(good.reshape(-1).argmin()), t)
            value = float(known[i, j])
            raise ValueError(f"steps: must be finite and >= 0, got {value:g} in {_where(i, j)}")
    rows = {name: jax.tree.map(lambda a: _merged(here(a)), given[name]) for name in _BY_STEP}
    each = _merged(here(weight)[:, None] * here(steps))
    with _named(lambda row: divmod(row, t)):
        parts = checked(
            None if local else sharding, **rows, weight=each, patterns=patterns, names=names
        )

    def back(own: Any, before: Any, after: Any) -> Any:
        if after is before:
            return place_for_jit(own, sharding)
        after = after.reshape(n, t, *after.shape[1:])
        if isinstance(own, jax.Array) and isinstance(after, np.ndarray):
            return jax.device_put(after, own.sharding if own.committed else None)
        return place_for_jit(after, sharding)

    out = {
        name: jax.tree.map(back, given[name], rows[name], parts[name])
        if given[name] is not None
        else None
        for name in _BY_STEP
    }
    if out["group"] is None and parts["group"] is not None:
        out["group"] = place_for_jit(parts["group"].reshape(n, t), sharding)
    return out | {
        "weight": place_for_jit(weight, sharding),
        "steps": place_for_jit(steps, sharding),
        "patterns": parts["patterns"],
    }


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the steps of n sequences with these lengths are among all, one after another."""

    lengths: np.ndarray

    @property
    def exists(self) -> np.ndarray:
        """True for the steps of the sequences, False for padding, (n, t)."""
        return np.arange(self.lengths.max()) < self.lengths[:, None]

    def weights(self, weight: Any) -> Any:
        """Weights (n,) of sequences, checked, as those of their steps; None if there are none."""
        if weight is None:
            return None
        with renamed(lambda text: re.sub(r"\brow\b", "sequence", text)):
            w = as_floats("weight", weight)
            check_weight(w, len(self.lengths))
        xp, size = namespace(w), int(self.lengths.sum())
        again = {} if xp is np else {"total_repeat_length": size}
        return xp.repeat(w, self.lengths, **again)

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """A context in which errors about a row of all steps name the sequence and its step."""
        ends = np.cumsum(self.lengths)

        def place(row: int) -> tuple[int, int]:
            i = int(np.searchsorted(ends, row, side="right"))
            return i, row - int(ends[i] - self.lengths[i])

        with _named(place):
            yield

    def regroup(self, a: Any, padding: Any) -> Any:
        """An array of all steps as (n, t, ...), where padding repeats the step of this number."""
        n, t = self.exists.shape
        if (self.lengths == t).all():
            return a.reshape(n, t, *a.shape[1:])
        first = np.cumsum(self.lengths) - self.lengths
        index = namespace(padding).where(self.exists, first[:, None] + np.arange(t), padding)
        return (fetched(a) if is_concrete(a) and can_fetch(a) else a)[index]

    def regrouped(self, rows: Any, weight: Any) -> Any:
        """The rows of a Batch, which are all steps, as those of sequences with these weights."""
        dtype, sharding = rows.weight.dtype, rows.sharding
        self._warn_of_padding()
        observed = np.ones(int(self.lengths.sum()), dtype)
        if rows.mask is not None:
            observed = without_empty_rows(observed, rows.mask)
        exists, weights = self.exists, rows.weight
        weights = fetched(weights) if is_concrete(weights) else weights
        padding = (weights > 0).argmax()  # as absent rows are filled
        steps = self.regroup(observed, padding)
        steps = namespace(steps).where(exists, steps, 0.0).astype(dtype)
        own = np.ones(len(self.lengths), dtype)
        if weight is not None:
            with renamed(lambda text: re.sub(r"\brow\b", "sequence", text)):
                own = as_weights("weight", weight, dtype)
        xp = namespace(own, steps)
        own = xp.where((steps > 0).any(1), own, 0.0).astype(dtype)

        def grouped(tree: Any) -> Any:
            return jax.tree.map(lambda a: place_for_jit(self.regroup(a, padding), sharding), tree)

        fields = {name: grouped(getattr(rows, name)) for name in _BY_STEP}
        if fields["label"] is not None:
            label = fields["label"]
            label = namespace(label).where(exists, label, -1).astype(label.dtype)
            fields["label"] = place_for_jit(label, sharding)
        fields["weight"], fields["steps"] = (place_for_jit(a, sharding) for a in (own, steps))
        batch, given = replace(rows, **fields, as_given=None), rows.as_given
        if given is None:
            return batch
        held = {name: (getattr(rows, name), getattr(given, name)) for name in _HELD}
        other = {name: grouped(b) for name, (a, b) in held.items() if a is not b}
        return replace(batch, as_given=replace(batch, **other))

    def _warn_of_padding(self) -> None:
        n, t = self.exists.shape
        share = 1.0 - self.lengths.sum() / (n * t)
        if share > 0.5:
            warnings.warn(
                f"data: {100 * share:.0f} % of {n} x {t} steps are padding, as sequences differ "
                "much in length; cut the long ones into pieces, or fit sequences of similar "
                "length together, by fit_many or as blocks of Chunks",
                stacklevel=5,
            )


def _where(sequence: int, step: int) -> str:
    return f"sequence {sequence}, step {step}"


def _named(place: Callable[[int], tuple[int, int]]) -> contextlib.AbstractContextManager[None]:
    """A context in which errors about a row name the sequence and the step that it is."""

    def change(text: str) -> str:
        text = re.sub(r"\brow (\d+)", lambda found: _where(*place(int(found[1]))), text)
        return text.replace("Batch.of(x,", "Batch.sequences(x,").replace("these rows", "them")

    return renamed(change)
