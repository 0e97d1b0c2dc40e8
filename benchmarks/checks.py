"""Ratios, and what issue 4 asks to be shown, computed from the entries alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .workloads import SET

_OWN = "vijax at its own tolerance"


@dataclass
class Check:
    """A figure and its target. `value` is None where nothing was measured."""

    number: int
    what: str
    target: float
    value: float | None
    at_least: bool = True
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the figure reaches the target."""
        if self.value is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self) | {"met": self.met}


class Table:
    """The entries of one workload."""

    def __init__(self, results: dict[str, Any], workload: str):
        self.entries = results.get(workload, {}).get("entries", [])

    def find(self, **wanted: Any) -> list[dict[str, Any]]:
        """Measured entries that match; a string matches the beginning of the field.

        But for vijax's own names, of which one begins as another.
        """

        def fits(entry: dict[str, Any]) -> bool:
            return all(
                str(entry[k]).startswith(v)
                if isinstance(v, str) and not v.startswith("vijax")
                else entry[k] == v
                for k, v in wanted.items()
            )

        return [e for e in self.entries if e["value"] is not None and fits(e)]

    def cases(self, start: str = "") -> list[str]:
        """Names of the cases that begin so, in order."""
        return list(dict.fromkeys(e["case"] for e in self.entries if e["case"].startswith(start)))

    def fastest(self, **wanted: Any) -> float | None:
        """The smallest value among those that match."""
        return min((e["value"] for e in self.find(**wanted)), default=None)


def ratio(
    table: Table, case: str, peer: str, ours: str, dtype: str, devices: int = 1
) -> float | None:
    """How many times the peer's time ours is, each of its precisions allowed.

    The peer is the fastest of its entries in the processes of our precision; of the same number of
    devices if it was measured there.
    """
    own = table.fastest(case=case, who=ours, process=dtype, devices=devices)
    theirs = None
    for where in (devices, 1):
        if theirs is None:
            theirs = table.fastest(case=case, who=peer, process=dtype, devices=where)
    return theirs / own if own and theirs else None


def over_peers(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Ratios of time per iteration to every peer, the same work on both sides, one device."""
    out = []
    for workload in ("A", "B", "C"):
        table = Table(results, workload)
        for case in table.cases():
            for dtype in ("float32", "float64"):
                found = table.find(case=case, process=dtype, devices=1, unit="ms/iteration")
                for peer in dict.fromkeys(e["who"] for e in found if e["detail"].get("work")):
                    work = next(e["detail"]["work"] for e in found if e["who"] == peer)
                    ours = "vijax CAVI" if work.startswith("CAVI") else "vijax EM"
                    value = ratio(table, case, peer, ours, dtype)
                    row = {"workload": workload, "case": case, "dtype": dtype, "peer": peer}
                    if value is not None:
                        out.append(row | {"work": work, "ratio": value})
    return out


def same_bound(
    results: dict[str, Any], k: int, dtype: str, ours: str, settings: str = ""
) -> float | None:
    """Median over the starts of A of the ratio of times to the same bound."""
    table = Table(results, "A")
    found = []
    for case in table.cases(settings + "to the same bound"):
        if f" k={k}," not in case:
            continue
        theirs = table.fastest(case=case, who="scikit-learn", process=dtype)
        own = [e for e in table.find(case=case, process=dtype) if e["who"] == ours]
        if theirs and own and own[0]["error"] is None:
            found.append(theirs / own[0]["value"])
    return statistics.median(found) if found else None


def against_scikit_learn(results: dict[str, Any]) -> dict[str, float]:
    """The ratios that a summary may quote: every workload, float32, one device."""
    b, c, d, e = (Table(results, name) for name in "BCDE")
    found: dict[str, float | None] = {}
    for k in (6, 20):
        found[f"A, k={k}"] = _best(
            same_bound(results, k, "float32", who) for who in ("vijax", "vijax Accelerated")
        )
    for name, table in (("B", b), ("C", c)):
        for case in (x for x in table.cases("n=") if "file" not in x):
            found[f"{name}, {case}"] = ratio(table, case, "scikit-learn", "vijax CAVI", "float32")
    for case in (x for x in d.cases("1") if "start" in x):
        ours = "vijax to the same mean bound"
        found[f"D, {case}"] = ratio(d, case, "scikit-learn", ours, "float32")
    for case in e.cases("1"):
        found[f"E, {case}"] = ratio(e, case, "scikit-learn", "vijax", "float32")
    return {name: value for name, value in found.items() if value is not None}


def all_of(results: dict[str, Any]) -> list[Check]:
    """What issue 4 asks for, by its numbers."""
    return [
        *_medium(results),
        *_tutorial(results),
        *_many(results),
        *_large(results),
        *_peers(results),
        *_fresh(results),
    ]


def _best(values: Iterable[float | None]) -> float | None:
    return max((v for v in values if v is not None), default=None)


def _by_devices(
    number: int, what: str, target: float, table: Table, case: str, peer: str, ours: str, dtype: str
) -> Check:
    one, two = (ratio(table, case, peer, ours, dtype, devices) for devices in (1, 2))
    shown = [f"{n} CPU device{'s' * (n > 1)}: {v:.1f}" for n, v in ((1, one), (2, two)) if v]
    return Check(number, what, target, _best((one, two)), note="; ".join(shown))


def _medium(results: dict[str, Any]) -> list[Check]:
    table = Table(results, "B")
    case = next(iter(table.cases("n=")), "n=")
    out = [
        _by_devices(
            1,
            f"B, scikit-learn, {dtype}: times faster",
            target,
            table,
            case,
            "scikit-learn",
            "vijax CAVI",
            dtype,
        )
        for dtype, target in (("float32", 22), ("float64", 12))
    ]
    out.append(
        Check(
            1,
            "B, gmmx: times faster",
            15,
            ratio(table, case, "gmmx", "vijax EM", "float32"),
        )
    )
    for dtype in ("float32", "float64"):
        shares = [
            e["detail"]["share_of_matrix_rate"]
            for e in table.find(case=case, who="vijax CAVI", process=dtype)
        ]
        rates = {
            e["who"]: e["value"]
            for e in table.find(case="matrix product", process=dtype, devices=1)
        }
        note = "; ".join(f"{who}: {rate:.0f} GFLOP/s" for who, rate in rates.items())
        what = f"B, share of the measured matrix rate, {dtype}"
        out.append(Check(1, what, 0.4, _best(shares), True, note))
    return out


def _tutorial(results: dict[str, Any]) -> list[Check]:
    out = []
    for k in (6, 20):
        for dtype, target in (("float64", 35), ("float32", 50)):
            found = {
                settings + who: same_bound(results, k, dtype, who, settings)
                for settings in ("", SET)
                for who in ("vijax", "vijax Accelerated", _OWN)
            }
            note = "; ".join(f"{who}: {v:.1f}" for who, v in found.items() if v)
            value = _best((found["vijax"], found["vijax Accelerated"]))
            what = f"A, k={k}, to the same bound, {dtype}: times faster"
            out.append(Check(2, what, target, value, True, note))
    return out


def _many(results: dict[str, Any]) -> list[Check]:
    table = Table(results, "D")
    single = next(iter(c for c in table.cases() if "1 start" in c), "-")
    ten = next(iter(c for c in table.cases() if "10 starts" in c), "-")
    ragged = next(iter(c for c in table.cases() if "ragged" in c), "-")
    out = []
    for what, case, devices, target in (
        ("one start, one device", single, 1, 60),
        ("one start, two devices", single, 2, 130),
        ("ten starts, one device", ten, 1, 180),
        ("ten starts, two devices", ten, 2, 180),
    ):
        found = {
            settings + who: ratio(table, settings + case, "scikit-learn", who, "float32", devices)
            for settings in ("", SET)
            for who in ("vijax to the same mean bound", "vijax Halving to the same mean bound")
        }
        note = "; ".join(f"{who}: {v:.1f}" for who, v in found.items() if v)
        best = _best(v for who, v in found.items() if not who.startswith(SET))
        out.append(Check(3, f"D, {what}, float32: times faster", target, best, True, note))
    naive = _best(
        ratio(table, case, "vijax, plain vmap", "vijax", "float32") for case in (single, ten)
    )
    out.append(Check(3, "D, over plain vmap, float32: times faster", 15, naive))
    rows, passes = (
        _share(table.find(case=ragged, process="float32", devices=1), kind)
        for kind in ("rows_per_second", "row_iterations_per_second")
    )
    what = "D, ragged sizes: share of the equal sizes' rows per second"
    note = f"of the passes over rows per second: {passes:.2f}" if passes else ""
    out.append(Check(3, what, 0.5, rows, True, note))
    again = [
        e["detail"]["compilations_of_another_number"]
        for e in table.find(case=ragged, who="vijax, ragged")
        if "compilations_of_another_number" in e["detail"]
    ]
    worst = max(again, default=None)
    out.append(Check(3, "D, compilations for another number of data sets", 0, worst, False))
    return out


def _share(entries: list[dict[str, Any]], kind: str) -> float | None:
    """Ragged over equal."""
    rates = {e["who"]: e["detail"][kind] for e in entries}
    return rates["vijax, ragged"] / rates["vijax, equal"] if len(rates) == 2 else None


def _large(results: dict[str, Any]) -> list[Check]:
    table, out = Table(results, "C"), []
    for dtype, targets in (("float32", (45, 18)), ("float64", (28, 13))):
        for kind, target in zip(("full", "diag"), targets, strict=True):
            case = next((c for c in table.cases("n=") if c.endswith(kind)), "-")
            what = f"C, {kind}, {dtype}: times faster"
            out.append(
                _by_devices(4, what, target, table, case, "scikit-learn", "vijax CAVI", dtype)
            )
    held = [e["value"] for e in table.find(case="temporaries")]
    out.append(Check(4, "C, temporaries in MiB", 32, max(held, default=None), False))
    growth = None
    if held:
        growth = max(b / a for a, b in zip(held[::2], held[1::2], strict=True))
    out.append(Check(4, "C, temporaries at four times the rows, ratio", 1.01, growth, False))
    rates = {
        e["who"]: e["detail"]["rows_per_second"]
        for e in table.find(unit="ms/iteration")
        if "rows_per_second" in e["detail"]
    }
    share = None
    if len(rates) == 2:
        share = rates["vijax file"] / rates["vijax memory"]
    out.append(Check(4, "C, rows from a file: share of the rows per second in memory", 0.5, share))
    table = Table(results, "E")
    for kind in ("given", "drawn"):
        case = next((c for c in table.cases() if kind in c), "-")
        found = {
            settings + "vijax": ratio(table, settings + case, "scikit-learn", "vijax", "float32")
            for settings in ("", SET)
        }
        note = "; ".join(f"{who}: {v:.1f}" for who, v in found.items() if v)
        what = f"E, ten {kind} starts, float32: times faster"
        out.append(Check(4, what, 50, found["vijax"], True, note))
    return out


def _peers(results: dict[str, Any]) -> list[Check]:
    found = over_peers(results)
    worst = min(found, key=lambda row: row["ratio"], default=None)
    note = f"{worst['peer']}, {worst['case']}, {worst['dtype']}" if worst else ""
    value = worst["ratio"] if worst else None
    return [Check(5, "A, B, C, the nearest peer: times faster", 2, value, True, note)]


def _fresh(results: dict[str, Any]) -> list[Check]:
    table = Table(results, "A")
    seconds = {e["who"]: e["value"] for e in table.find(case="fresh process, k=20")}
    compiled = [e["value"] for e in table.find(case="compilations for new values")]
    return [
        Check(6, "fresh process, tutorial, seconds", 5, seconds.get("vijax"), False),
        Check(
            6,
            "the same with the persistent cache, seconds",
            2.5,
            seconds.get("vijax, persistent cache"),
            False,
        ),
        Check(6, "compilations for new values", 0, max(compiled, default=None), False),
    ]
