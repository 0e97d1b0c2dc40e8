"""Docstrings of entry points name every argument and have an example, which runs."""

import importlib
import inspect
import re
import textwrap

import jax
import jax.numpy as jnp
import matplotlib.pyplot
import numpy as np
import pytest

import vijax as vx

CALLS = """
    fit fit_many elbo elbo_terms trajectory search iterate select_num_components cross_validate
    criticize linear_response compare save load prune relabel align best shard_rows over_devices
    fit_amortised bound_and_gradient Mixture LogDensity Energy Batch.of Batch.sequences
    Batch.documents Chunks.of CAVI EM SVI RobbinsMonro Memoized Accelerated Streaming GaussianVI
    LBFGS StochasticVI Stop Moves Halving Annealed presets.sklearn presets.mclust presets.bishop
"""
MAKERS = ("from_data", "with_prior", "flat")


def entry_points():
    """Names below `vijax`: the calls above, the constructors of models, the figures."""
    found = CALLS.split()
    for name in vx._names.HOMES:
        cls = getattr(vx, name)
        if inspect.isclass(cls) and issubclass(cls, vx.Model):
            found += [f"{name}.{maker}" for maker in MAKERS if hasattr(cls, maker)]
    plot = importlib.import_module("vijax.extras.plot")
    return found + [f"extras.plot.{name}" for name in dir(plot) if name.startswith("plot_")]


def find(path):
    module, _, name = path.rpartition(".")
    if module.startswith("extras"):
        return getattr(importlib.import_module(f"vijax.{module}"), name)
    return getattr(getattr(vx, module) if module else vx, name)


def examples(doc):
    """The code of a docstring: blocks below "Example:", or what is on its line in backticks."""
    blocks = re.findall(r"^Example:\n((?:(?:    .*)?\n?)+)", doc, re.MULTILINE)
    lines = re.findall(r"^Example: `(.*)`", doc, re.MULTILINE)
    return [textwrap.dedent(code) for code in blocks + lines]


ENTRIES = entry_points()


def test_arguments_and_examples():
    """No entry point is without an example, and no argument of one is unmentioned."""
    lacking = {}
    for path in ENTRIES:
        doc = inspect.getdoc(find(path)) or ""
        names = set(inspect.signature(find(path)).parameters)
        unsaid = [name for name in names if not re.search(rf"\b{name}\b", doc)]
        if unsaid or not examples(doc):
            lacking[path] = unsaid or "no example"
    # fields, which the class docstring of a mixture explains, are no arguments of a constructor
    assert not lacking


# the same code under several names runs once
CODES = {}
for path in ENTRIES:
    for code in examples(inspect.getdoc(find(path)) or ""):
        CODES.setdefault(code, path)


@pytest.mark.parametrize("code", CODES, ids=CODES.values())
def test_example_runs(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(code, {"jax": jax, "jnp": jnp, "np": np, "vx": vx})
    matplotlib.pyplot.close("all")
