"""`python -m benchmarks.sequences [SECTION ...]` writes these sections of the page, or all."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

from ..page import measure
from . import float32, speed, states, topics

PAGE = Path(__file__).parent.with_suffix(".md")
TITLE = "# Hidden Markov models, and topics"
SECTIONS = {
    "speed": ("Speed", speed.section),
    "float32": ("float32", float32.section),
    "states": ("States that are found", states.section),
    "topics": ("Topics", topics.section),
}
PACKAGES = ("jax", "numpy", "hmmlearn", "dynamax", "scikit-learn")
HEAD = """Written by `python -m benchmarks.sequences`: {cores} cores of {processor},
{memory_gib} GiB, {system}; vijax {vijax}, {versions}."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--sets", type=int, default=states.SETS, help="data sets of states")
    options = parser.parse_args()
    measure(PAGE, TITLE, HEAD, PACKAGES, SECTIONS, options)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
