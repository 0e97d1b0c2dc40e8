"""`python -m benchmarks.blackbox [SECTION ...]` writes these sections of the page, or all."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import jax

from ..page import measure
from . import accuracy, contest, many
from .problems import PROBLEMS

PAGE = Path(__file__).parent.with_suffix(".md")
TITLE = "# Black-box fits"
SECTIONS = {
    "accuracy": ("Accuracy", accuracy.section),
    "peers": ("Peers", contest.section),
    "many": ("Many data sets", many.section),
}
PACKAGES = ("jax", "numpyro", "blackjax", "optax")
HEAD = """Written by `python -m benchmarks.blackbox`: {cores} cores of {processor},
{memory_gib} GiB, {system}; vijax {vijax}, {versions};
float64. Posteriors and their data: [blackbox/](blackbox)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--only", nargs="*", choices=list(PROBLEMS), help="of accuracy and peers")
    options = parser.parse_args()
    measure(PAGE, TITLE, HEAD, PACKAGES, SECTIONS, options, keep=options.only is None)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    warnings.filterwarnings("ignore")
    main()
