"""`python -m benchmarks.blackbox [SECTION ...]` writes these sections of the page, or all."""

from __future__ import annotations

import argparse
import time
import warnings
from importlib import metadata
from pathlib import Path

import jax

import vijax as vx

from ..machine import describe, load, now
from ..page import write
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
        if options.only is None:
            write(PAGE, TITLE, {"": head, heading: body}, [title for title, _ in SECTIONS.values()])


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    warnings.filterwarnings("ignore")
    main()
