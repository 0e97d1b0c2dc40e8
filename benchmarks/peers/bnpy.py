"""bnpy: variational Bayes in NumPy, float64."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Callable

import numpy as np

from ..problems import Problem

PACKAGE = "bnpy"
DTYPES = ("float64",)
WORK = "CAVI with a bound"

# it asks for a place to write before it is imported
os.environ.setdefault("BNPYOUTDIR", tempfile.mkdtemp(prefix="bnpy-"))
for _name, _type in {"float": float, "int": int, "bool": bool, "object": object}.items():
    if _name not in vars(np):  # its last version is older than NumPy 1.24, which dropped these
        setattr(np, _name, _type)


def iterations(problem: Problem) -> Callable[[int], np.ndarray | None]:
    """Laps of its VB for a finite mixture; its own start, a random row for each component."""
    import bnpy

    data = bnpy.data.XData(problem.x.astype(np.float64))
    kind = {"full": "Gauss", "diag": "DiagGauss"}[problem.covariance]

    def run(count: int) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            bnpy.run(
                data,
                "FiniteMixtureModel",
                kind,
                "VB",
                K=problem.k,
                nLap=count,
                initname="randexamples",
                convergeThr=-1.0,
                printEvery=0,
                saveEvery=0,
                traceEvery=0,
                doSaveToDisk=False,
                doWriteStdOut=False,
            )

    return run
