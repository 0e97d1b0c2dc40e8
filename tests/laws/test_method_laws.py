"""Laws of every driver on every model: fixed points are shared, and jit is only speed."""

import numpy as np
import pytest

import vijax as vx
from vijax.testing import MethodFacts, methods

from ..table import CASES

METHODS = {"CAVI": vx.CAVI(), "EM": vx.EM()}
# EM needs latent assignments; step by step it reads the same pieces at a point
TRIPLES = [
    pytest.param(case, name, law, id=f"{case.name}-{name}-{law.__name__}")
    for case in CASES
    for name in METHODS
    for law in methods.LAWS
    if case.methods and (case.mixture or name == "CAVI")
    if law is not methods.jit_changes_nothing or name == "CAVI" or "Gaussian" in case.name
]


@pytest.mark.parametrize(("case", "name", "law"), TRIPLES)
def test_law(case, name, law, rng):
    x = case.data(rng)
    model = case.model(rng, x)
    labels = np.arange(len(x)) % int(np.sum(model.active)) if case.mixture else None
    law(MethodFacts(METHODS[name], model, x, labels))
