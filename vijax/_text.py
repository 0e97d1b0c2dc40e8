"""Layout of the text of summaries."""

from typing import Any


def estimates(**rows: tuple[Any, Any]) -> str:
    """One line for each parameter: its name, its mean and its standard deviation."""
    width = max(len(name) for name in rows)
    lines = [f"{name:{width}}  {float(m):.4g} ± {float(sd):.4g}" for name, (m, sd) in rows.items()]
    return "\n".join(lines)


def columns(head: list[str], rows: dict[str, list[str]], per_block: int = 6) -> list[str]:
    """Lines of a table with labelled rows, in blocks of at most `per_block` columns."""
    label_width = max(len(label) for label in ["component", *rows])
    width = max([len(h) for h in head] + [len(c) for row in rows.values() for c in row], default=1)
    lines = []
    for i in range(0, len(head), per_block):
        for label, cells in {"component": head, **rows}.items():
            shown = "  ".join(c.rjust(width) for c in cells[i : i + per_block])
            lines.append(f"{label.ljust(label_width)}  {shown}")
        lines.append("")
    return lines[:-1]
