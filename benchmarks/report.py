"""results.md from results.json."""

from __future__ import annotations

from typing import Any

from . import checks

_HEAD = """# Benchmarks

Written by `python -m benchmarks` (`make bench`); the same figures, with every run, are in
`results.json`. How they are measured: [README.md](README.md). Ratios are what matters: times are
those of the machine at hand.
"""


def markdown(whole: dict[str, Any]) -> str:
    """The whole file."""
    results = whole["workloads"]
    parts = [_HEAD, *_machines(results), _summary(results), _checks(whole["checks"])]
    parts.append(_peers(results))
    parts += [_workload(name, result) for name, result in results.items()]
    return "\n".join(part for part in parts if part)


def _machines(results: dict[str, Any]) -> list[str]:
    """One line for each machine and set of versions."""
    groups: dict[str, list[str]] = {}
    for name, result in results.items():
        machine, versions = result["machine"], result["versions"]
        present = ", ".join(f"{k} {v}" for k, v in versions.items() if v)
        absent = [k for k, v in versions.items() if not v]
        text = (
            f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gib']} GiB, "
            f"{machine['system']}; {present}"
            + (f"; absent: {', '.join(absent)}" if absent else "")
            + "."
        )
        load = result["load"]
        when = f"{name} ({result['when']} UTC, {result['seconds']} s"
        when += f", load {load[0]} to {load[1]}" if load else ""
        when += ", quick: tiny sizes, no figures to quote)" if result["quick"] else ")"
        groups.setdefault(text, []).append(when)
    return [f"{text} Measured: {', '.join(names)}.\n" for text, names in groups.items()]


def headline(results: dict[str, Any]) -> str:
    """The one sentence that the README may quote, or nothing."""
    found = checks.against_scikit_learn(results).values()
    return f"{min(found):.0f} to {max(found):.0f} times faster" if found else ""


def _summary(results: dict[str, Any]) -> str:
    found = checks.against_scikit_learn(results)
    if not found:
        return ""
    rows = [[name, f"{value:.1f}"] for name, value in found.items()]
    return (
        f"## Against scikit-learn\n\nfloat32 on one CPU device, {headline(results)} than "
        "scikit-learn in its faster precision on both cores.\n\n" + _table(["work", "ratio"], rows)
    )


def _checks(found: list[dict[str, Any]]) -> str:
    rows = []
    for check in found:
        sign = ">=" if check["at_least"] else "<="
        met = {True: "yes", False: "**no**", None: "not measured"}[check["met"]]
        rows.append(
            [
                str(check["number"]),
                check["what"],
                f"{sign} {number(check['target'])}",
                number(check["value"]),
                met,
                check["note"],
            ]
        )
    head = ["", "what", "target", "measured", "met", ""]
    return "## Targets\n\nBy the numbers of issue 4.\n\n" + _table(head, rows)


def _peers(results: dict[str, Any]) -> str:
    found = checks.over_peers(results)
    if not found:
        return ""
    rows = [
        [r["workload"], r["case"], r["dtype"], r["peer"], r["work"], f"{r['ratio']:.1f}"]
        for r in found
    ]
    return (
        "## Every peer\n\nTime per iteration, its faster precision over vijax doing the same work "
        "(CAVI with its exact bound, or EM), in one process on one CPU device.\n\n"
        + _table(["", "case", "vijax in", "peer", "its work", "ratio"], rows)
    )


def _workload(name: str, result: dict[str, Any]) -> str:
    parts = [f"## {name}: {result['title']}\n"]
    cases: dict[str, list[dict[str, Any]]] = {}
    for entry in result["entries"]:
        cases.setdefault(entry["case"], []).append(entry)
    for case, found in cases.items():
        rows = [
            [
                entry["who"],
                entry["dtype"],
                entry["process"] if entry["process"] != entry["dtype"] else "",
                str(entry["devices"]),
                number(entry["value"]) + " " + entry["unit"] * (entry["value"] is not None),
                "" if entry["first"] is None else f"{entry['first']:.2f} s",
                entry["error"] or _detail(entry["detail"]),
            ]
            for entry in found
        ]
        head = ["", "precision", "beside", "devices", "median", "first call", ""]
        parts.append(f"### {case}\n\n" + _table(head, rows))
    return "\n".join(parts)


def _detail(detail: dict[str, Any]) -> str:
    def one(value: Any) -> str:
        if isinstance(value, list):
            return " ".join(map(str, value))
        return number(value) if isinstance(value, int | float) else str(value)

    return "; ".join(f"{name.replace('_', ' ')} {one(value)}" for name, value in detail.items())


def number(value: float | None) -> str:
    """Three digits or so; a dash for what was not measured."""
    if value is None:
        return "-"
    if isinstance(value, int) or value == int(value):
        return f"{int(value)}"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        return f"{value:.3g}"
    return f"{value:.1f}" if size >= 100 else f"{value:.3g}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
