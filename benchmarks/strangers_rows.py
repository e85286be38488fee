"""The table of `benchmarks.strangers`: a row for each scenario, with its verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.strangers_probes import Asked
from benchmarks.verdict import WAYS, Limits, Line, Measured, Status, Verdict, judge, quantile

# Only losses count: others use the same cores.
ANY_DELAY = Limits(
    delay_p99_ms=math.inf, lateness_p99_ms=math.inf, generator_load_percent=math.inf, others_percent=math.inf
)
MAX_PROBLEMS_SHOWN = 3
# Lines that wait for a reader in the bridge and in its pipe.
LINES_WAITING_MOST = 3000
TITLES = (
    *("calls", "frames", "lost", "p99", "webhooks", "p99", "upgrades", "p99", "checks", "p99"),
    *("attacks/s", "lines", "dropped"),
)
CELLS = "{:>6}{:>9}{:>6}{:>8}{:>11}{:>8}{:>11}{:>8}{:>11}{:>8}{:>11}{:>8}{:>8}"


@dataclass(frozen=True, kw_only=True)
class StrangersLimits:
    """Upper limit of the webhooks' p99, and the least share of the wanted attacks that must have been made."""

    webhook_p99_ms: float = 200
    attacks_share: float = 0.9


@dataclass(frozen=True, kw_only=True)
class Row:
    """
    What strangers did in one scenario, and what was noticed of it.

    Attributes:
        raw: The generator's result; empty if there is none.
        attacks_wanted_per_s: The rate that was asked for.
        lines_made: What the attacker made the bridge log, at least; None where the log is read.
        waiting_most: Of these lines, those that may still wait for a reader.
        lines_dropped: By the bridge's own count.
    """

    scenario: str
    limits: StrangersLimits
    raw: Mapping[str, Any] = field(default_factory=dict)
    webhooks: Asked = field(default_factory=Asked)
    upgrades: Asked = field(default_factory=Asked)
    checks: Asked = field(default_factory=Asked)
    attacks: int = 0
    attack_s: float = 0.0
    attacks_wanted_per_s: float = 0.0
    lines_made: int | None = None
    waiting_most: int = 0
    lines_dropped: int | None = None
    problems: Sequence[str] = ()

    @property
    def asked(self) -> Mapping[str, Asked]:
        return {"webhooks": self.webhooks, "upgrades": self.upgrades, "checks": self.checks}

    @property
    def attacks_per_s(self) -> float:
        return self.attacks / self.attack_s if self.attack_s else 0.0

    @property
    def verdict(self) -> Verdict:
        reasons = [*self.problems]
        if self.raw:
            reasons += judge(Measured(raw=dict(self.raw), settings={}), ANY_DELAY).reasons
        for name, asked in self.asked.items():
            if asked.problems:
                some = "; ".join(asked.problems[:MAX_PROBLEMS_SHOWN])
                reasons.append(f"{len(asked.problems)} of {asked.count} {name} without their answer: {some}")
            elif not asked.count:
                reasons.append(f"no {name} were sent")
        p99_ms = quantile(self.webhooks.times_ms, 0.99)
        if p99_ms > self.limits.webhook_p99_ms:
            reasons.append(f"p99 of the webhooks {p99_ms:.0f} ms > {self.limits.webhook_p99_ms:g} ms")
        uncounted = (self.lines_made or 0) - (self.lines_dropped or 0) - self.waiting_most
        if uncounted > 0:
            reasons.append(f"{uncounted} log lines were neither written nor counted as dropped")
        if reasons:
            return Verdict(Status.FAILED, reasons)
        if self.attacks_per_s < self.attacks_wanted_per_s * self.limits.attacks_share:
            slow = f"the attack was slow: {self.attacks_per_s:.0f} a second of {self.attacks_wanted_per_s:g}"
            return Verdict(Status.INVALID, [slow])
        return Verdict(Status.OK)


def to_json(row: Row) -> Line:
    """Return the row as one flat object, units in the keys."""
    verdict, ways = row.verdict, [row.raw[way] for way, _ in WAYS] if row.raw else []
    line: Line = {
        "scenario": row.scenario,
        "verdict": verdict.status.name.lower(),
        "reasons": verdict.reasons,
        "calls": row.raw.get("calls_up", 0),
        "frames": sum(way["received"] for way in ways),
        "frames_lost": sum(way["lost"] for way in ways),
        "frames_delay_p99_ms": max((round(way["delay_us"]["p99"] / 1000, 1) for way in ways), default=None),
    }
    for name, asked in row.asked.items():
        line[name] = asked.count
        line[f"{name}_missing"] = len(asked.problems)
        for key, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            found_ms = quantile(asked.times_ms, share)
            line[f"{name}_{key}_ms"] = None if math.isnan(found_ms) else round(found_ms, 1)
    return line | {
        "attacks": row.attacks,
        "attacks_per_s": round(row.attacks_per_s),
        "lines_made": row.lines_made,
        "lines_dropped": row.lines_dropped,
    }


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text, each with its verdict; requests as answered/sent, times in ms."""
    width = max(len(row.scenario) for row in rows)
    lines = [f"{'':<{width}}{CELLS.format(*TITLES)}"]
    for row in rows:
        line, status = to_json(row), row.verdict.status
        found = [line["calls"], line["frames"], line["frames_lost"], line["frames_delay_p99_ms"]]
        for name, asked in row.asked.items():
            found += [f"{len(asked.times_ms)}/{asked.count}", line[f"{name}_p99_ms"]]
        found += [line["attacks_per_s"], line["lines_made"], line["lines_dropped"]]
        cells = CELLS.format(*("-" if figure is None else figure for figure in found))
        lines.append(f"{row.scenario:<{width}}{cells}  {'OK' if status is Status.OK else status.name}")
        lines += [f"  - {reason}" for reason in line["reasons"]]
    return "\n".join(lines)
