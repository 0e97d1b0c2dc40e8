"""`python -m benchmarks.quality [SECTION ...]` writes these sections of the page, or all."""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import jax
import sklearn

import vijax as vx

from ..page import write
from . import calibration, known, outliers, planted, units

PAGE = Path(__file__).parent.with_suffix(".md")
TITLE = "# How good the fits are"

SECTIONS = {
    "known": ("Known data", known.section),
    "units": ("The number of components in three units", units.section),
    "planted": ("Planted clusters", planted.section),
    "wider": ("Planted clusters over wider ground", planted.wider_section),
    "calibration": ("Calibration", calibration.section),
    "outliers": ("Outliers", outliers.section),
}
HEAD = """Written by `python -m benchmarks.quality` ({versions}; float64, but where a section says
otherwise). An ELBO is the exact evidence bound in nats under vijax's default prior, for every
column; higher is better."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--starts", type=int, default=64, help="plain starts on known data")
    parser.add_argument("--few", type=int, default=4, help="starts elsewhere")
    parser.add_argument("--sets", type=int, help="data sets in each other section")
    options = parser.parse_args()
    names = options.sections or list(SECTIONS)
    for name in names:
        if name not in SECTIONS:
            parser.error(f"no section {name!r}; there are {', '.join(SECTIONS)}")
    versions = f"vijax {vx.__version__}, jax {jax.__version__}, scikit-learn {sklearn.__version__}"
    for name in names:
        heading, section = SECTIONS[name]
        begin = time.perf_counter()
        body = section(options)
        print(f"{name}: {time.perf_counter() - begin:.0f} s\n{body}", flush=True)
        order = [title for title, _ in SECTIONS.values()]
        write(PAGE, TITLE, {"": HEAD.format(versions=versions), heading: body}, order)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    warnings.filterwarnings("ignore")
    main()
