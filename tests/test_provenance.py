"""Versions and sources: nothing is printed, and what docstrings name can be cited."""

import inspect
import re

import jax
import numpy as np
import pytest
import scipy

import vijax as vx
from vijax import _names
from vijax.provenance import SOURCES, references


def test_versions_are_a_table_and_nothing_is_printed(capsys):
    found = vx.show_versions()
    assert capsys.readouterr().out == ""
    lines = dict(line.split(maxsplit=1) for line in repr(found).splitlines())
    assert lines["vijax"] == vx.__version__
    assert lines["jax"] == jax.__version__
    assert lines["numpy"] == np.__version__
    assert lines["scipy"] == scipy.__version__
    assert lines["backend"] == jax.default_backend()
    assert lines["float64"] == ("enabled" if jax.config.read("jax_enable_x64") else "disabled")


def test_a_model_and_a_method_are_cited_with_what_they_hold():
    weights = vx.StickBreaking.dirichlet_process(1.0, 5)
    model = vx.GaussianMixture.with_prior(
        5, mean=np.zeros(2), kappa=1.0, df=3.0, scatter=np.eye(2), weights=weights
    )
    text = vx.cite(model, vx.Accelerated(vx.EM()))
    keys = re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE)
    assert keys[0] == "vijax"
    assert f"version = {{{vx.__version__}}}" in text
    assert len(keys) == len(set(keys))
    known = {"vijax", "Bishop2006", "Blei2006", "Ishwaran2001"}
    assert set(keys) == known | {"Nesterov1983", "ODonoghue2015", "Dempster1977", "MacKay1998"}
    assert re.findall(r"^@\w+\{(\w+),", vx.cite(), re.MULTILINE) == ["vijax"]


@pytest.mark.parametrize("key", references())
def test_entries_are_whole(key):
    entry = references()[key]
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},?$", entry, re.MULTILINE))
    assert {"author", "title", "year"} <= set(fields)
    assert {"journal", "booktitle", "publisher", "school", "institution"} & set(fields)
    assert entry.count("{") == entry.count("}")
    assert key.endswith(fields["year"])
    assert key in {key for keys in SOURCES.values() for key in keys}


def test_sources_that_docstrings_name_are_cited():
    """Surname and year of each class of the table; and no other class has sources of its own."""
    named = re.compile(r"([A-Z]\w+)(?: et al\.)?,? \(?((?:19|20)\d\d)")
    for name in _names.HOMES:
        found = getattr(vx, name)
        if not inspect.isclass(found) or "Mixin" in name:
            continue
        for surname, year in named.findall(inspect.getdoc(found) or ""):
            entries = [references()[key] for key in SOURCES.get(name, ())]
            ascii_of = [re.sub(r"\{\\.(\w)\}", r"\1", entry) for entry in entries]
            assert any(surname in e and f"year = {{{year}}}" in e for e in ascii_of), (
                f"{name} names {surname} {year}"
            )
