"""The page, of which any section can be written anew."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parent.with_suffix(".md")
TITLE = "# How good the fits are"


def table(columns: list[str], rows: list[list[object]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def sections(text: str) -> dict[str, str]:
    """The body of each section by its heading; that of the page's head by ''."""
    head, *parts = text.split("\n## ")
    found = {"": head.removeprefix(TITLE).strip()}
    for part in parts:
        heading, _, body = part.partition("\n")
        found[heading] = body.strip()
    return found


def write(new: dict[str, str], order: list[str]) -> None:
    """Put the `new` sections into the page; the others stay as they are."""
    old = sections(PAGE.read_text()) if PAGE.exists() else {}
    kept = old | new
    text = [TITLE, kept[""]]
    for heading in order:
        if heading in kept:
            text += [f"## {heading}", kept[heading]]
    PAGE.write_text("\n\n".join(text) + "\n")
