"""How models of several numbers of components are made from the same data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..data.batch import Batch
from ..data.host import check_integer, described
from ..data.reader import by_text
from ..data.types import Data
from ..families.independent.dirichlet_categorical import levels_of
from ..infer.method import Method
from ..model import Model
from ..models.mixtures.columns import CategoricalMixture, MixedMixture
from ..models.mixtures.gaussian import GaussianMixture
from ..models.structured import Structured

Build = Callable[..., Structured]

_FLAT_OPTIONS = {"covariance", "num_categories"}  # of families that have a flat prior


def sizes_of(num_components: Any) -> tuple[int, ...]:
    """The numbers of components; raises TypeError or ValueError unless they differ, from 1 up."""
    if not isinstance(num_components, Iterable):
        raise TypeError(f"num_components: expected several integers, got {num_components!r}")
    sizes = tuple(num_components)
    for k in sizes:
        check_integer("num_components", k)
    if not sizes or len(set(sizes)) < len(sizes) or min(sizes) < 1:
        raise ValueError(f"num_components: expected different numbers from 1 up, got {sizes}")
    return sizes


def builder(
    build: type[Structured] | Build | None, x: Data, method: Method[Any], prior: dict[str, Any]
) -> tuple[Build, Batch, dict[str, Any]]:
    """The function build(batch, k, k_max=..., **prior), and the rows and arguments for it.

    Of a class of mixtures or of models of sequences, or without `build`, it is `from_data` with
    conc 1, whose prior of the labels is exchangeable for all k; for a point method without a prior
    it is `flat`. Categories have the levels of all rows. Raises ValueError or TypeError that name
    the argument.
    """
    if build is not None and not isinstance(build, type):
        if not callable(build):
            raise TypeError(
                "build: expected a mixture class or a function build(x, k, k_max=...), got "
                f"{described(build)}"
            )
        return build, Batch.of(x), prior
    cls: Any = GaussianMixture if build is None else build
    rows = isinstance(x, Batch) or not issubclass(cls, Model) or cls.row_data
    batch = Batch.of(x) if rows else Batch.sequences(x)
    if build is None and isinstance(batch.x, dict):
        raise ValueError("build: needed for a table of columns, such as vx.MixedMixture")
    if "weights" in prior:
        raise ValueError("weights: made for one number of components; give `build`, which makes it")
    if not issubclass(cls, Structured) or getattr(cls, "from_data", None) is None:
        raise ValueError(
            f"build: {cls.__name__} has no `from_data`; give a function build(x, k, k_max=...)"
        )
    make: Any = cls
    batch = _with_levels(cls, batch, prior)
    if not method.point:
        own = {"conc": 1.0} if "conc" in inspect.signature(make.from_data).parameters else {}
        return make.from_data, batch, {**own, **prior}
    known = _flat_options(cls)
    if known is None:
        if "conc" in prior:
            return make.from_data, batch, prior
        raise ValueError(
            f"build: {cls.__name__} has no maximum likelihood; give a prior, such as conc=1.0, for "
            "the posterior mode, or take CAVI()"
        )
    unknown = set(prior) - known
    if unknown and build is None:
        raise ValueError(
            f"{min(unknown)}: maximum likelihood has no prior; give `build`, such as "
            "vx.GaussianMixture, for one"
        )
    if unknown:
        return make.from_data, batch, {"conc": 1.0, **prior}
    if isinstance(batch.x, dict):
        raise ValueError(f"x: {cls.__name__} takes an array, got a dict of columns")

    def flat(batch: Batch, k: int, **options: Any) -> Structured:
        return make.flat(k, int(np.prod(batch.flat().x.shape[1:])), **options)

    return flat, batch, prior


def _flat_options(cls: type[Structured]) -> set[str] | None:
    """The arguments of `flat` besides sizes; None for a class without it."""
    flat = getattr(cls, "flat", None)
    if flat is None:
        return None
    known = {name: p.kind for name, p in inspect.signature(flat).parameters.items()}
    sizes = {"num_components", "num_states", "num_features", "k_max"}
    own = {name for name, kind in known.items() if kind is not inspect.Parameter.VAR_KEYWORD}
    return (own if len(own) == len(known) else own | _FLAT_OPTIONS) - sizes


def _with_levels(cls: type[Structured], batch: Batch, prior: dict[str, Any]) -> Batch:
    """Rows whose categories bring the levels of all rows.

    Rows may be held out, and the models of all folds must know the same levels.
    """
    kinds = prior.get("kinds", prior.get("emission"))
    if issubclass(cls, CategoricalMixture) or kinds == "categorical":
        return batch if _fixed(prior) else batch.coded(levels_of(batch.flat()))
    table = batch.by_name() if issubclass(cls, MixedMixture) else batch
    if not isinstance(table.x, dict) or not isinstance(kinds, Mapping):
        return batch
    options = by_text("options", prior.get("options") or {})
    names = [name for name, kind in by_text("kinds", kinds).items() if kind == "categorical"]
    free = [name for name in names if name in table.x and not _fixed(options.get(name, {}))]
    return table.columns_coded({name: levels_of(table.flat().column(name)) for name in free})


def _fixed(prior: Mapping[str, Any]) -> bool:
    """Whether a prior says how many categories there are."""
    return "num_categories" in prior or bool(np.ndim(prior.get("category_conc", 0.5)))


def stack(models: list[Any]) -> Any:
    """Models of equal structure on a leading axis; raises ValueError if they differ."""
    first, *others = (
        (jax.tree.structure(m), [(jnp.shape(a), jnp.result_type(a)) for a in jax.tree.leaves(m)])
        for m in models
    )
    if any(other != first for other in others):
        raise ValueError(
            "build: gave models of different shapes; it must make room for `k_max` components, and "
            "for the same columns and categories whatever the rows"
        )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
