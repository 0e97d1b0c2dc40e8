"""Pages of which any section can be written anew."""

from __future__ import annotations

from pathlib import Path


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
