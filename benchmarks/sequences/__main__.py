"""`python -m benchmarks.sequences [SECTION ...]` writes these sections of the page, or all."""

from __future__ import annotations

import argparse
import time
import warnings
from importlib import metadata
from pathlib import Path

import vijax as vx

from ..machine import describe, load, now
from ..page import write
from . import float32, speed, states

PAGE = Path(__file__).parent.with_suffix(".md")
TITLE = "# Hidden Markov models"
SECTIONS = {
    "speed": ("Speed", speed.section),
    "float32": ("float32", float32.section),
    "states": ("States that are found", states.section),
}
PACKAGES = ("jax", "numpy", "hmmlearn", "dynamax")
HEAD = """Written by `python -m benchmarks.sequences`: {cores} cores of {processor},
{memory_gib} GiB, {system}; vijax {vijax}, {versions}."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--sets", type=int, default=states.SETS, help="data sets of states")
    options = parser.parse_args()
    names = options.sections or list(SECTIONS)
    for name in names:
        if name not in SECTIONS:
            parser.error(f"no section {name!r}; there are {', '.join(SECTIONS)}")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    head = HEAD.format(**describe(), vijax=vx.__version__, versions=versions)
    for name in names:
        heading, section = SECTIONS[name]
        begin, before = time.perf_counter(), load()
        body = section(options)
        seconds = time.perf_counter() - begin
        body += f"\n\nMeasured {now()} UTC in {seconds:.0f} s, load {before} to {load()}."
        print(f"{name}:\n{body}", flush=True)
        write(PAGE, TITLE, {"": head, heading: body}, [title for title, _ in SECTIONS.values()])


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
