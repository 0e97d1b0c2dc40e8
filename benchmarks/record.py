"""One measured figure, as it goes into results.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .timing import Timing


@dataclass
class Entry:
    """What `who` did on one `case`: the median of `runs` in `unit`, and what else is known.

    `first` is the seconds of the first call, `error` why there is no figure. `process` is the
    precision of JAX in the process that measured it, among contenders that took turns.
    """

    case: str
    who: str
    dtype: str
    unit: str
    value: float | None
    devices: int = 1
    runs: list[float] = field(default_factory=list)
    first: float | None = None
    error: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    process: str = ""

    def __post_init__(self) -> None:
        self.process = self.process or self.dtype

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def entries(
    times: dict[str, Timing],
    *,
    case: str,
    dtype: str,
    unit: str = "ms",
    devices: int = 1,
    details: dict[str, dict[str, Any]] | None = None,
) -> list[Entry]:
    """One entry for each timing. A name such as `scikit-learn:float64` says another dtype."""
    scale = {"ms": 1e3, "ms/iteration": 1e3, "s": 1.0}[unit]
    out = []
    for name, timing in times.items():
        who, _, own = name.partition(":")
        out.append(
            Entry(
                case,
                who,
                own or dtype,
                unit,
                None if timing.median is None else timing.median * scale,
                devices,
                [run * scale for run in timing.runs],
                timing.first,
                timing.error,
                (details or {}).get(name, {}),
                dtype,
            )
        )
    return out
