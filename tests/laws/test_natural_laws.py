"""Laws of every family: one row in `table.FAMILIES` buys all of them."""

import pytest

from vijax.testing import families

from ..table import FAMILIES

PAIRS = [
    pytest.param(family, law, id=f"{family.name}-{law.__name__}")
    for family in FAMILIES
    for law in families.LAWS
]


@pytest.mark.parametrize(("family", "law"), PAIRS)
def test_law(family, law, rng):
    law(family, rng)
