"""Pages of which any section can be written anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import vijax as vx

from .machine import describe, load, now

Sections = dict[str, tuple[str, Callable[[Any], str]]]  # heading and function, by short name


def table(columns: list[str], rows: list[list[object]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def sections(text: str, title: str) -> dict[str, str]:
    """The body of each section by its heading; that of the page's head by ''."""
    head, *parts = text.split("\n## ")
    found = {"": head.removeprefix(title).strip()}
    for part in parts:
        heading, _, body = part.partition("\n")
        found[heading] = body.strip()
    return found


def write(page: Path, title: str, new: dict[str, str], order: list[str]) -> None:
    """Put the `new` sections into the page; the others stay as they are."""
    old = sections(page.read_text(), title) if page.exists() else {}
    kept = old | new
    text = [title, kept[""]]
    for heading in order:
        if heading in kept:
            text += [f"## {heading}", kept[heading]]
    page.write_text("\n\n".join(text) + "\n")


def measure(
    page: Path,
    title: str,
    head: str,
    packages: Sequence[str],
    sections: Sections,
    options: Any,
    *,
    keep: bool = True,
) -> None:
    """Print the sections that `options.sections` names, or all, and `keep` them in the page.

    `head` says of what machine and versions, by the names of `describe`, `vijax` and `versions`.
    Exits with a message for a name that is no section.
    """
    for name in options.sections:
        if name not in sections:
            raise SystemExit(f"no section {name!r}; there are {', '.join(sections)}")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    top = head.format(**describe(), vijax=vx.__version__, versions=versions)
    for name in options.sections or list(sections):
        heading, section = sections[name]
        begin, before = time.perf_counter(), load()
        body = section(options)
        seconds = time.perf_counter() - begin
        body += f"\n\nMeasured {now()} UTC in {seconds:.0f} s, load {before} to {load()}."
        print(f"{name}:\n{body}", flush=True)
        if keep:
            write(page, title, {"": top, heading: body}, [each for each, _ in sections.values()])
