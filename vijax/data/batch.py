"""`Batch`: rows with weights, masks, noise, labels, exposure: how data reach a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Float, Int

from .._pytree import map_fields, pytree, replace, static
from . import columns, sequences
from . import levels as coding
from .checks import check_weight, column_of, label_of, num_rows
from .documents import read_documents, weight_of_documents
from .exposure import exposure_by_column, exposure_of
from .fields import checked, placed, without_holes
from .host import (
    as_floats,
    as_weights,
    column_names,
    columns_as_floats,
    common_dtype,
    fetched,
    is_concrete,
    to_device,
)
from .joined import joined
from .missing import mask_of, mask_of_frame, masks_of_table, ones, without_empty_rows
from .noise import noise_of
from .reader import by_text
from .shards import on_auto_mesh, platform_of, sharding_of_rows, to_auto

if TYPE_CHECKING:
    _Rows = Array
else:
    _Rows = Array | np.ndarray  # `for_jit` leaves arrays on the host


@pytree
class Batch:
    """Rows `x` with a weight >= 0 each, and optionally masks, noise, labels and exposure.

    An integer weight counts repetitions. Weight 0 is absence: such a row changes no result,
    whatever it holds, so ragged data sets, chunks and shards can be padded.

    - `x`: (n, d) or (n,), or a dict of such columns.
    - `mask`: of the form of `x`, True where an entry was observed.
    - `noise`: (n, d, d), the covariance of each row's measurement error in data units squared.
    - `label`: (n,), the row's component, -1 where unknown.
    - `exposure`: (n, 1) or (n, d), or a dict of them by column: rates of counts and waiting times
      are per unit of it.
    - `patterns` and `group`: the distinct rows of `mask`, padded to a power of two, and the index
      of each row's; only where that saves work. Other missing entries may change their shape, and
      then compile another program.
    - `steps`: (n, t), how often each step of a row counts, if rows are sequences; every array but
      `weight` and `patterns` then has an axis t behind that of the rows. What lies beyond the last
      step that counts does not exist; a step of 0 before it is missing.
    - `as_given`: the same rows as they came, for reading, if weights were given; in `x` a present
      row is in place of each row of weight 0.
    - `names`: names of columns, which drivers remove before anything is compiled.
    - `levels`: what the codes of text columns stand for, see `data/levels.py`; drivers remove it.
    - `sharding`: how rows are spread over devices.
    - `platform`: where they are ("cpu", "gpu", ...; None is JAX's default), which decides on chunk
      sizes and layouts.
    """

    x: Any
    weight: Float[_Rows, "*b n"]
    mask: Any = None
    noise: Float[_Rows, "*b n d d"] | Float[_Rows, "*b n t d d"] | None = None
    label: Int[_Rows, "*b n"] | Int[_Rows, "*b n t"] | None = None
    group: Int[_Rows, "*b n"] | Int[_Rows, "*b n t"] | None = None
    patterns: Bool[_Rows, "*b p d"] | None = None
    exposure: Any = None
    steps: Float[_Rows, "*b n t"] | None = None
    as_given: Batch | None = None
    names: tuple[str, ...] | None = static(default=None)
    levels: coding.BatchLevels = static(default=None)
    sharding: NamedSharding | None = static(default=None)
    platform: str | None = static(default=None)

    @classmethod
    @on_auto_mesh
    def of(
        cls,
        data: Any,
        weight: Any = None,
        *,
        missing: bool = False,
        mask: Any = None,
        noise: Any = None,
        label: Any = None,
        exposure: Any = None,
    ) -> Batch:
        """Batch of anything array-like with rows first; float64 is kept where JAX has it enabled.

        Args:
            data: An array of any library, a list, a data frame (whose column names are kept, as
                text), a dict of columns, or a Batch, whose arrays stay where they are.
            weight: (n,) >= 0; an integer counts repetitions, and 0 is absence. If an array is
                spread over devices by rows, all others are spread likewise.
            missing: Whether NaN, None, NA and masked entries are missing; a row without any entry
                gets weight 0.
            mask: Of the form of `data`, False where an entry is missing.
            noise: (n, d, d), or (n, d) for independent errors, in data units squared; that of
                missing entries may be anything.
            label: Integers (n,); -1, NaN, NA or masked where the component is unknown.
            exposure: The time, area or effort > 0 that a count was made in, (n,) or (n, d), or a
                dict or frame by column: x_nd ~ Poisson(exposure_nd rate_kd), and so for
                exponential columns. That of a missing entry counts for `impute` alone.

        Concrete values are checked here, tracers are not. Raises TypeError for data that are not
        numbers, such as dates; ValueError for no rows, NaN or infinite entries, weights that are
        negative, missing, or 0 in the precision of the rows without being it, noise that is no
        covariance, and exposure that is not positive. Warns when integers or float64 data lose
        their resolution in float32.

        Example: `batch = vx.Batch.of([[1.0, 2.0], [np.nan, 3.0]], [1, 5], missing=True)`
        """
        batch = cls._read(data, weight, missing, mask, noise, label, exposure)
        return batch if isinstance(data, Batch) else batch._on_device()

    @classmethod
    @on_auto_mesh
    def sequences(
        cls,
        data: Any,
        weight: Any = None,
        *,
        lengths: Any = None,
        missing: bool = False,
        mask: Any = None,
        noise: Any = None,
        label: Any = None,
        exposure: Any = None,
    ) -> Batch:
        """Batch whose rows are sequences, padded to the longest by steps that do not exist.

        `data` is a list of sequences (t, d) or (t,), which may be arrays, frames or dicts of
        columns; one array (n, t, d); one long table of the steps of all sequences, one after
        another, with their `lengths` (n,); or a single sequence. `mask`, `noise`, `label` and
        `exposure` are of the same form, by step, and read as `of` does; `weight` is (n,), of
        sequences. A step without any entry is missing: a chain passes through it. Raises as `of`,
        naming sequence and step. Warns if more than half of all steps are padding.

        Example: `rows = vx.Batch.sequences([np.zeros((5, 2)), np.ones((3, 2))])`
        """
        given = {"mask": mask, "noise": noise, "label": label, "exposure": exposure}
        if isinstance(data, Batch) and lengths is None:
            return cls.of(data, weight, missing=missing, **given)
        given, layout = joined({"data": data, **given}, lengths)
        weights, data = layout.weights(weight), given.pop("data")
        with layout.named():
            rows = cls._read(data, weights, missing, **given)
        return layout.regrouped(rows, weight)._on_device()

    @classmethod
    @on_auto_mesh
    def documents(
        cls, counts: Any, weight: Any = None, *, vocabulary: Any = None, dense: bool | None = None
    ) -> Batch:
        """Batch whose rows are documents, of which the counts of words matter.

        `counts` are an array or frame (n, v), a sparse matrix of SciPy, or a list that has for each
        document the numbers of its words, or a pair of words and counts. Counts need not be whole.
        `vocabulary` holds the v words, or is their number; by default a list has those that occur.

        If `dense`, `x` is (n, v), the counts; if not, it is (n, l), the numbers of the words that
        each document has, and `steps` (n, l) are their counts, 0 for padding. By default that is so
        where documents have less than 15 % of all words. Documents without words get weight 0, with
        a warning. Raises TypeError and ValueError naming document and word.

        Example: `rows = vx.Batch.documents([[0, 0, 2], [1]], vocabulary=["sea", "ship", "tide"])`
        """
        found = read_documents(counts, vocabulary, dense)
        w = weight_of_documents(found, weight)
        if found.steps is None:
            batch = cls._read(found.x, w, *_NOTHING)
        else:
            own: Any = np.ones(len(found.x), found.steps.dtype) if w is None else w
            batch = cls._read(cls(found.x, own, steps=found.steps), None, *_NOTHING)
            batch = batch if w is None else replace(batch, as_given=replace(batch, x=found.x))
        given = batch.as_given
        given = None if given is None else replace(given, names=found.names)
        return replace(batch, names=found.names, as_given=given)._on_device()

    @classmethod
    def for_jit(cls, data: Any) -> Batch:
        """As `of`, but host arrays stay on the host until a jitted program takes them."""
        return cls._read(data, None, *_NOTHING)

    @classmethod
    def _read(
        cls,
        data: Any,
        weight: Any,
        missing: bool,
        mask: Any,
        noise: Any,
        label: Any,
        exposure: Any,
    ) -> Batch:
        if isinstance(data, Batch):
            given = (weight, mask, noise, label, exposure)
            if missing or any(v is not None for v in given):
                raise ValueError(
                    "data: a Batch; give weight, mask, noise, label and exposure to Batch.of"
                )
            given = {field: to_auto(getattr(data, field)) for field in _PARTS}
            sharding, platform = data.sharding, data.platform
            if is_concrete(*jax.tree.leaves(given)):
                sharding, platform = sharding_of_rows(given), platform_of(given)
            steps = to_auto(data.steps)
            complete = given["mask"] is None and steps is None
            check_weight(given["weight"], num_rows(given["x"]), complete)
            if steps is None:
                parts = checked(sharding, **given, names=data.names)
            else:
                parts = sequences.checked_steps(sharding, steps, given, data.names)
            place = {"sharding": sharding, "platform": platform, "levels": data.levels}
            return cls(**parts, as_given=data.as_given, names=data.names, **place)
        arrays = to_auto((data, weight, mask, noise, label, exposure))
        data, weight, mask, noise, label, exposure = arrays
        sharding = sharding_of_rows(arrays)
        names = column_names(data)
        data, levels = coding.coded(by_text("x", data) if isinstance(data, Mapping) else data)
        if isinstance(data, Mapping):
            x = {name: column_of(name, value, missing) for name, value in data.items()}
            mask, names = masks_of_table(mask, x), None
        else:
            read = as_floats if levels is None else columns_as_floats
            x = read("x", data, missing=missing)
            if names is not None and isinstance(mask, Mapping):
                mask = mask_of_frame(mask, names)
        n = num_rows(x)
        dtype = common_dtype(*jax.tree.leaves(x))
        x = jax.tree.map(lambda a: a.astype(dtype), x)
        w = ones((n,), dtype) if weight is None else as_weights("weight", weight, dtype)
        check_weight(w, n)
        seen = mask_of("mask", x, mask, missing)
        noise, label = noise_of(noise, x, dtype, w, seen), label_of(label, n)
        if seen is not None:
            w = without_empty_rows(w, seen)
        exposure = exposure_of(exposure, x, names, dtype, w, seen)
        parts = checked(sharding, x, w, seen, noise, label, exposure=exposure, names=names)
        place = {"names": names, "levels": levels, "sharding": sharding}
        batch = cls(**parts, **place, platform=platform_of(parts))
        if weight is None:
            return batch
        if is_concrete(w) and bool((fetched(w) > 0).all()):
            return replace(batch, as_given=batch)
        given = placed(sharding, without_holes(x, w, seen), noise, exposure)
        return replace(batch, as_given=replace(batch, **dict(zip(_HELD, given, strict=True))))

    def _on_device(self) -> Batch:
        """The batch with its arrays in JAX, those that it shares with `as_given` once."""
        given = self.as_given
        placed = jax.tree.map(to_device, replace(self, as_given=None))
        if given is None:
            return placed
        held = {}
        for field in _HELD:
            own, value = getattr(self, field), getattr(given, field)
            same = value is own
            held[field] = getattr(placed, field) if same else jax.tree.map(to_device, value)
        return replace(placed, as_given=replace(placed, **held))

    @property
    def unfilled(self) -> Batch:
        """The rows as they came, for reading: what is in `as_given`, if there is any."""
        return self if self.as_given is None else self.as_given

    def flat(self) -> Batch:
        """The steps of all sequences as rows of weight `weight * steps`; rows as they are."""
        return sequences.flat(self)

    @property
    def exists(self) -> Bool[_Rows, "*b n t"]:
        """Which steps exist: those up to the last one that counts. Raises TypeError for rows."""
        if self.steps is None:
            raise TypeError("data: rows, not sequences; make these by Batch.sequences")
        return sequences.exists(self.steps)

    @property
    def total_weight(self) -> Float[Array, "*b"]:
        """The sum of the weights of all rows, or of all steps of sequences."""
        if self.steps is None:
            return jnp.sum(self.weight, -1)
        return jnp.sum(self.weight * jnp.sum(self.steps, -1), -1)

    def column(self, name: str) -> Batch:
        """One column of a dict as a Batch of its own, with x (n, d)."""
        return columns.column(self, name)

    def with_column(self, name: str, column: Batch) -> Batch:
        """The table with the rows of this column, which has the form of `column(name)`."""
        levels = dict(self.levels or ())
        levels.pop(name, None)
        if column.levels is not None:
            levels[name] = column.levels
        x = {**self.x, name: column.x.reshape(self.x[name].shape)}
        return replace(self, x=x, levels=tuple(sorted(levels.items())) or None)

    def coded(self, levels: coding.ArrayLevels) -> Batch:
        """Rows (n, d) as codes of these levels, one tuple for each column, None for numbers.

        Raises ValueError naming a level that is not among them.
        """
        if self.levels == levels:
            return self
        given = self.as_given
        x = sequences.recoded(self, levels)
        given = None if given is None else given.coded(levels)
        return replace(self, x=x, levels=levels, as_given=given)

    def columns_coded(self, levels: dict[str, coding.ArrayLevels]) -> Batch:
        """The table with the codes of these levels in the columns that are named."""
        rows = self
        for name, own in levels.items():
            column = self.column(name)
            column = replace(column, names=(name,) * column.x.shape[-1])
            rows = rows.with_column(name, column.coded(own))
        given = None if self.as_given is None else self.as_given.columns_coded(levels)
        return replace(rows, as_given=given)

    def numeric(self) -> Batch:
        """The rows without levels; TypeError naming the column that holds text."""
        if self.levels is None or isinstance(self.x, dict):
            return self
        coding.refuse_text(self.levels, self.names)
        given = None if self.as_given is None else self.as_given.numeric()
        return replace(self, x=coding.decoded(self.x, self.levels), levels=None, as_given=given)

    def by_name(self) -> Batch:
        """The columns of a data frame as a dict by name; any other batch as it is.

        Raises ValueError for names that are not unique, and for measurement noise.
        """
        return columns.by_name(self)

    def by_position(self) -> Batch:
        """The exposures by name of a data frame's columns as one array (n, d)."""
        if isinstance(self.x, dict) or not isinstance(self.exposure, dict):
            return self
        given = None if self.as_given is None else self.as_given.by_position()
        return replace(self, exposure=exposure_by_column(self.exposure, self.names), as_given=given)

    def in_order(self, names: tuple[str, ...] | None) -> Batch:
        """The columns in the order of these names, if both have names.

        Raises ValueError naming the columns that only one of them has. Lists of words get other
        numbers; their own vocabulary may be smaller.
        """
        return columns.in_order(self, names)

    def cut(self, first: Any, size: int) -> Batch:
        """`size` rows from row `first` on, which may be traced."""
        return self.map_rows(lambda a: jax.lax.dynamic_slice_in_dim(a, first, size))

    def take(self, rows: Int[Array, "m"]) -> Batch:
        """The rows of these indices."""
        return self.map_rows(lambda a: a[rows])

    def labelled(self, k: int) -> Bool[Array, "k"]:
        """Which of k components have a row of known label and positive weight."""
        rows = self.flat()
        if rows.label is None:
            return jnp.zeros(k, bool)
        label = jnp.where(rows.weight > 0, rows.label, -1)
        return jnp.any(label[:, None] == jnp.arange(k, dtype=label.dtype)[None], 0)

    def map_rows(self, select: Callable[[Any], Any]) -> Batch:
        """The batch with `select` applied to every array that has one entry per row."""

        def leaf(field: Any, value: Any) -> Any:
            if field.name == "patterns" or value is None:
                return value
            if isinstance(value, Batch):
                return value.map_rows(select)
            return jax.tree.map(select, value)

        return replace(map_fields(self, leaf), sharding=None)


_NOTHING = (False, None, None, None, None)  # missing, mask, noise, label, exposure
_PARTS = ("x", "weight", "mask", "noise", "label", "group", "patterns", "exposure")
_HELD = ("x", "noise", "exposure")  # what rows of weight 0 hold is in `as_given`


def check_entries(batch: Batch) -> None:
    """Raise ValueError if no row of positive weight has an observed entry to fit to."""
    if not is_concrete(batch.weight) or bool((fetched(batch.weight) > 0).any()):
        return
    raise ValueError(
        "x: no row of positive weight has an observed entry; a fit, or a prior from data, needs one"
    )
