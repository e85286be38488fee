"""The table of `benchmarks.floods`: a row for each scenario, with its verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.verdict import WAYS, Limits, Line, Measured, Status, Verdict, judge
from benchmarks.verdict import to_json as run_to_json

# An ordinary call sends 50 a second.
READ_LEAST_PER_S = 1000.0
TITLES = (
    "frames",
    "lost",
    "p99 to agent",
    "to caller",
    "CPU",
    "read/s",
    "calls",
    "refused",
    "sockets closed",
)
CELLS = "{:>9}{:>6}{:>14}{:>11}{:>7}{:>9}{:>7}{:>9}  {}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """
    The run of one scenario.

    Attributes:
        measured: The ordinary calls.
        limits: Theirs.
        flood: The result of `benchmarks.floods_attack`; empty if there is none.
        read_least_per_s: With fewer messages the row proves nothing.
    """

    scenario: str
    measured: Measured
    limits: Limits
    flood: Mapping[str, Any] = field(default_factory=dict)
    read_least_per_s: float = READ_LEAST_PER_S

    @property
    def counts(self) -> Mapping[str, int]:
        """What the attacking process has counted."""
        return dict(self.flood.get("counts", {}))

    @property
    def read_per_s(self) -> float:
        """Messages of the flooded calls that the bridge has read."""
        return self.counts.get("read", 0) / self.flood["seconds"] if self.flood else 0.0

    @property
    def verdict(self) -> Verdict:
        """
        Fail at a loss, and at a delay over the limit unless others have disturbed the run.

        A delay below the limit counts in spite of others: they only add to it.
        """
        verdict = judge(
            self.measured, replace(self.limits, lateness_p99_ms=math.inf, others_percent=math.inf)
        )
        if verdict.status is Status.FAILED:
            return judge(self.measured, self.limits)
        if self.read_per_s >= self.read_least_per_s:
            return verdict
        few = f"the bridge has read {self.read_per_s:.0f} messages of the flood a second"
        return Verdict(Status.INVALID, [*verdict.reasons, f"{few} < {self.read_least_per_s:g}"])


def closed(row: Row) -> str:
    """Return the codes with which the bridge has closed sockets of the flooded calls, but for hang-ups (1000)."""
    codes = {name.removeprefix("closed "): n for name, n in row.counts.items() if name.startswith("closed ")}
    return ", ".join(f"{n} by {code}" for code, n in sorted(codes.items()) if code != "1000")


def to_json(row: Row) -> Line:
    """Return the row as one flat object, units in the keys."""
    verdict = row.verdict
    return run_to_json(row.measured, verdict) | {
        "scenario": row.scenario,
        "flood_read_per_s": round(row.read_per_s),
        "flood_calls": row.counts.get("calls", 0),
        "flood_refused": row.counts.get("refused", 0),
        "flood_closed": closed(row),
    }


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text, each with its verdict; times in ms, CPU of the bridge in percent of a core."""
    width = max(len(row.scenario) for row in rows)
    lines = [f"{'':<{width}}{CELLS.format(*TITLES)}"]
    for row in rows:
        raw, line, status = row.measured.raw, to_json(row), row.verdict.status
        ways = [raw[way] for way, _ in WAYS]
        cells = CELLS.format(
            sum(way["received"] for way in ways),
            sum(way["lost"] for way in ways),
            *(f"{way['delay_us']['p99'] / 1000:.1f}" for way in ways),
            f"{row.measured.bridge_load_percent or 0:.0f} %",
            line["flood_read_per_s"],
            line["flood_calls"],
            line["flood_refused"],
            line["flood_closed"] or "none",
        )
        lines.append(f"{row.scenario:<{width}}{cells}  {'OK' if status is Status.OK else status.name}")
        lines += [f"  - {reason}" for reason in line["reasons"]]
    return "\n".join(lines)
