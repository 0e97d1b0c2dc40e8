"""Laws that hold of every family, model and method, to prove one's own by.

Every law is a function that raises AssertionError with its numbers. They are the laws that the
tests of vijax hold its own parts to. `check_family`, `check_model` and `check_method` try all that
apply and name those that fail; they compute in float64, whatever JAX is set to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..data.batch import Batch
from ..families.dirichlet import Dirichlet
from ..families.emission import Emission
from ..infer.method import FullPassMethod
from ..model import ConditionalModel, Q
from ..models.mixture import Mixture
from . import components, families, methods, models
from .compare import cast, in_float64, run
from .components import ComponentFacts
from .members import FamilyFacts
from .methods import MethodFacts
from .models import ModelFacts

__all__ = [
    "ComponentFacts",
    "FamilyFacts",
    "MethodFacts",
    "ModelFacts",
    "check_family",
    "check_method",
    "check_model",
]


def check_family(
    make: Callable[[np.random.Generator], Any],
    rows: Any = None,
    *,
    standard: Mapping[str, Callable[[Any], Any]] | None = None,
    log_prob: Callable[[Any, int, Any], Any] | None = None,
    seed: int = 0,
    **facts: Any,
) -> None:
    """Raise AssertionError that names each law which a family of distributions does not obey.

    The laws tie density, draws, moments, normaliser and divergences to each other. A component
    family (`Emission`) is also asked what it says of rows: that `log_predictive` is the evidence of
    a row, that draws follow it, that missing entries are not read; and a mixture of it must pass
    `check_model`.

    Args:
        make: A function of a NumPy generator, which builds an arbitrary member of batch shape (3,):
            for components three of them.
        rows: Of a component family, 10 to 60 rows that it takes, array-like, a dict or a Batch.
        standard: The arguments of `from_standard` by name, each with a function that reads it back.
        log_prob: (value, i, q) to the log density in nats of member i, by another library.
        seed: Of the generator.
        facts: Further facts, as in `FamilyFacts`.

    Example:
        def make(rng):
            return vx.Gamma.from_standard(rng.gamma(9.0, size=3), rng.gamma(9.0, size=3))


        vx.testing.check_family(make)
    """
    with in_float64():
        rng = np.random.default_rng(seed)

        def member(rng: np.random.Generator) -> Any:
            return cast(make(rng), np.float64)

        q = member(rng)
        name, by_rows = type(q).__name__, isinstance(q, Emission)
        if by_rows and rows is None:
            raise TypeError(f"rows: a {name} is a component family; give some rows")
        if not by_rows and rows is not None:
            raise TypeError(f"rows: a {name} is no Emission, so it has no rows")
        known = FamilyFacts(name, member, standard, log_prob=log_prob, **facts)
        run([law for law, needs in families.LAWS.items() if _has(known, needs)], known, rng)
        if not isinstance(q, Emission):
            return
        batch = q.as_batch(Batch.of(rows))
        q.check_rows(batch)
        run(components.LAWS, ComponentFacts(q, batch), rng)
        weights = Dirichlet.from_standard([0.5, 1.0, 2.0])
        check_model(Mixture(weights, member(rng)), batch, seed=seed)


def check_model(
    model: ConditionalModel,
    data: Any,
    *,
    q: Callable[[np.random.Generator], Q] | None = None,
    log_evidence: float | None = None,
    exact: bool = False,
    rescaled: Callable[[float, float], ConditionalModel] | None = None,
    seed: int = 0,
) -> None:
    """Raise AssertionError that names each law which a model with exact updates does not obey.

    The E-step must be a sum over exchangeable rows whose weights count, chunks, jit and vmap must
    change nothing, and the bound must never fall, from an arbitrary q.

    Args:
        model: A model with `local`, `update` and `kl`.
        data: 10 to 60 rows, as in `fit`.
        q: A function of a NumPy generator to an arbitrary q; by default an update after random
            responsibilities, or after random weights.
        log_evidence: log p(data) in nats, or an upper value: the bound must be below.
        exact: Whether q holds the posterior, so that a fit reaches `log_evidence`.
        rescaled: (scale, offset) to the model of scale * x + offset, if rows have units.
        seed: Of the generator.

    Example:
        x = np.random.default_rng(0).normal(size=30)
        model = vx.NormalGammaExact.with_prior(mean=0.0, kappa=1.0, shape=2.0, rate=1.0)
        vx.testing.check_model(model, x)
    """
    if not isinstance(model, ConditionalModel):
        raise TypeError(f"model: expected a ConditionalModel, got {type(model).__name__}")
    with in_float64():
        model = cast(model, np.float64)
        batch = cast(model.as_batch(model.read(data)), np.float64)
        model.check(batch, point=False)
        facts = ModelFacts(model, batch, q, log_evidence, exact, rescaled)
        laws = [law for law, needs in models.LAWS.items() if needs is None or _has(facts, (needs,))]
        laws = [law for law in laws if model.by_row or law not in models.BY_ROW]
        run(laws, facts, np.random.default_rng(seed))


def check_method(
    method: FullPassMethod, model: ConditionalModel, data: Any, *, init: Any = None
) -> None:
    """Raise AssertionError that names each law which a method of whole passes does not obey.

    A fit must end at a fixed point, and at the same one in chunks; the objective must not fall if
    the method is `monotone`; the improvement that a step reports must bound what it gains.

    Args:
        method: A `FullPassMethod`.
        model: A model that it suits, with a proper prior.
        data: 20 to 60 rows, as in `fit`.
        init: A start in which nothing is drawn, such as labels.

    Example:
        x, labels = vx.datasets.three_clusters(n=60)
        model = vx.GaussianMixture.from_data(x, 3)
        vx.testing.check_method(vx.CAVI(), model, x, init=labels)
    """
    with in_float64():
        model = cast(model, np.float64)
        batch = cast(model.as_batch(model.read(data)), np.float64)
        facts = MethodFacts(method, model, batch, init)
        asked = {law: True for law in methods.LAWS}
        asked[methods.objective_never_falls] = method.monotone
        asked[methods.chunks_share_the_fixed_point] = "chunk" in vars(method)
        run([law for law, wanted in asked.items() if wanted], facts)


def _has(facts: Any, needs: tuple[str, ...]) -> bool:
    return all(getattr(facts, name) is not None for name in needs)
