"""The table of `benchmarks.restart`: a row for each scenario, with its verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.restart_calls import CallResult, End
from benchmarks.verdict import Line, Status, Verdict, quantile

MAX_PROBLEMS_SHOWN = 3
# Titles, and the keys of their figures.
COLUMNS = {
    "calls": "calls",
    "lost": "calls_lost",
    "refused": "calls_refused",
    "fallback": "calls_with_fallback",
    "new stream": "calls_with_new_stream",
    "p50": "without_audio_p50_s",
    "p99": "without_audio_p99_s",
    "max": "without_audio_max_s",
    "frames lost": "frames_lost_in_other_calls",
}
CELLS = "{:>9}{:>6}{:>9}{:>10}{:>12}{:>9}{:>8}{:>8}{:>13}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """The calls of one scenario; ``not_run`` says why there are none."""

    scenario: str
    results: Sequence[CallResult] = ()
    problems: Sequence[str] = ()
    not_run: str = ""

    def count(self, end: End) -> int:
        return sum(result.end is end for result in self.results)

    @property
    def renewed(self) -> Sequence[CallResult]:
        """The calls that got a new stream."""
        return [result for result in self.results if result.streams > 1]

    @property
    def pauses_s(self) -> Sequence[float]:
        """The longest pause of each call with a new stream, or of each call if there is none."""
        return [result.pause_s for result in self.renewed or self.results]

    @property
    def frames_lost(self) -> int:
        """Lost in calls that kept their stream."""
        return sum(result.frames_lost or 0 for result in self.results)

    @property
    def verdict(self) -> Verdict:
        if self.not_run:
            return Verdict(Status.INVALID, [self.not_run])
        reasons = [*self.problems]
        failed = [result for result in self.results if result.end is not End.AS_PLANNED]
        reasons += [
            f"call {result.number} {result.end.value}: {result.detail}"
            for result in failed[:MAX_PROBLEMS_SHOWN]
        ]
        more = len(failed) - MAX_PROBLEMS_SHOWN
        reasons += [f"and {more} more calls"] if more > 0 else []
        if self.frames_lost:
            reasons.append(f"{self.frames_lost} frames lost in calls that kept their stream")
        disordered = sum(result.is_disordered for result in self.results)
        reasons += [f"{disordered} calls with frames twice, changed or out of order"] if disordered else []
        if not self.results:
            reasons.append("no call was made")
        return Verdict(Status.FAILED if reasons else Status.OK, reasons)


def to_json(row: Row) -> Line:
    """Return the row as one flat object, units in the keys."""
    verdict = row.verdict
    return {
        "scenario": row.scenario,
        "verdict": verdict.status.name.lower(),
        "reasons": verdict.reasons,
        "calls": len(row.results),
        "calls_lost": row.count(End.LOST),
        "calls_refused": row.count(End.REFUSED),
        "calls_with_fallback": row.count(End.FALLBACK),
        "calls_with_new_stream": len(row.renewed),
        "without_audio_p50_s": _rounded(quantile(row.pauses_s, 0.5)),
        "without_audio_p99_s": _rounded(quantile(row.pauses_s, 0.99)),
        "without_audio_max_s": _rounded(quantile(row.pauses_s, 1.0)),
        "frames_lost_in_other_calls": row.frames_lost,
    }


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text, each with its verdict."""
    width = max(len(row.scenario) for row in rows)
    lines = [f"{'':<{width}}{'seconds without audio':>71}", f"{'':<{width}}{CELLS.format(*COLUMNS)}"]
    for row in rows:
        if row.not_run:
            lines.append(f"{row.scenario:<{width}}  not run: {row.not_run}")
            continue
        line, status = to_json(row), row.verdict.status
        cells = CELLS.format(*("-" if line[key] is None else line[key] for key in COLUMNS.values()))
        lines.append(f"{row.scenario:<{width}}{cells}  {'OK' if status is Status.OK else status.name}")
        lines += [f"  - {reason}" for reason in line["reasons"]]
    return "\n".join(lines)


def _rounded(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds, 3)
