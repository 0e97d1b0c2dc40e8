"""Laws of every model: one row in `table.CASES` buys all of them."""

import functools

import pytest

from vijax.testing import ModelFacts, models

from ..table import CASES, names, rows_of

PAIRS = [
    pytest.param(case, law, id=f"{case.name}-{law.__name__}")
    for case in CASES
    for law, needs in models.LAWS.items()
    if case.rescale or needs != "rescaled"
]


def facts_of(case, rng, n=None):
    """A model, the first n of its rows, and what is known of them."""
    x = case.data(rng)[:n]
    model = case.model(rng, x)
    return ModelFacts(
        model,
        rows_of(x),
        lambda rng: case.q(rng, model, x),
        rescaled=case.rescale and functools.partial(case.rescale, model),
    )


@pytest.mark.parametrize(("case", "law"), PAIRS)
def test_law(case, law, rng):
    if law is not models.bound_is_a_bound:
        return law(facts_of(case, rng), rng)
    few = facts_of(case, rng, 6)
    known = {"log_evidence": float(case.log_evidence(few.batch.x, few.model)), "exact": case.exact}
    return law(models.replace(few, **known), rng)


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_vmap_over_data_sets_is_the_loop(case, rng):
    """Each with a model of its own."""
    models.vmap_over_data_sets_is_the_loop([facts_of(case, rng) for _ in range(3)], rng)
