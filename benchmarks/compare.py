"""
Compares the bridge with its peers on the same machine, in rounds of runs between two runs of the floor.

The speed of a shared machine changes from minute to minute. The result of a run is therefore its ratio to the mean of
the floors before and after it, and only if these two agree.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.standins.process import BridgeError

FLOORS_DIFFER_MAX = 0.10
# Invalid rounds are repeated up to this factor; beyond it the machine is too unsteady to go on.
ROUNDS_PER_PAIR_MAX = 2

Line = dict[str, Any]
MeasureOne = Callable[[str], Awaitable[Line]]


@dataclass(frozen=True)
class Round:
    """The runs between two runs of the floor, or of another ``yardstick``."""

    floor_before: Line
    runs: Sequence[Line]
    floor_after: Line
    yardstick: str = "floor"

    def why_invalid(self) -> str | None:
        """Return the reason why no ratio of this round counts, or None."""
        costs = [cost_of(self.floor_before), cost_of(self.floor_after)]
        if None in costs:
            return f"no {self.yardstick}"
        low, high = sorted(cost for cost in costs if cost is not None)
        difference = high / low - 1
        if difference > FLOORS_DIFFER_MAX:
            return f"its {self.yardstick}s differ by {difference:.0%} > {FLOORS_DIFFER_MAX:.0%}"
        return None

    def ratio(self, name: str) -> float | None:
        """Return the cost of ``name`` relative to the floor, or None if the run or the round is invalid or missing."""
        costs = [cost_of(run) for run in self.runs if run["name"] == name]
        floors = [cost_of(self.floor_before), cost_of(self.floor_after)]
        if self.why_invalid() or not costs or costs[0] is None:
            return None
        return costs[0] / statistics.mean(floor for floor in floors if floor is not None)


@dataclass(frozen=True)
class Ratio:
    """A cost in multiples of the floor's."""

    median: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        spread = f" ({self.low:.2f} to {self.high:.2f})" if self.count > 1 else ""
        return f"{self.median:.2f}{spread}"


@dataclass
class Comparison:
    """All rounds in order, and the reasons of peers that are left out."""

    rounds: list[Round] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def ratio(self, name: str) -> Ratio | None:
        """Return the median over the rounds that count, or None if there is none."""
        ratios = [ratio for one in self.rounds if (ratio := one.ratio(name)) is not None]
        if not ratios:
            return None
        return Ratio(statistics.median(ratios), min(ratios), max(ratios), len(ratios))

    def names(self) -> list[str]:
        return ["floor", *dict.fromkeys(run["name"] for one in self.rounds for run in one.runs)]

    def runs(self, name: str) -> list[Line]:
        """Return every run of ``name``, each floor once."""
        if name != "floor":
            return [run for one in self.rounds for run in one.runs if run["name"] == name]
        return [one.floor_before for one in self.rounds] + [one.floor_after for one in self.rounds[-1:]]

    def typical(self, name: str) -> Line:
        """Return the middle run of ``name`` by cost; an invalid one only if there is no other."""
        runs = self.runs(name)
        usable = [run for run in runs if run["verdict"] != "invalid"] or runs
        return sorted(usable, key=lambda run: cost_of(run) or 0.0)[len(usable) // 2]

    def to_json(self) -> Line:
        """Return the comparison as JSON, without the runs."""
        ratios = {name: self.ratio(name) for name in self.names() if name != "floor"}
        return {
            "rounds": len(self.rounds),
            "rounds_invalid": sum(one.why_invalid() is not None for one in self.rounds),
            "cost_in_floors": {
                name: None
                if r is None
                else {"median": r.median, "low": r.low, "high": r.high, "count": r.count}
                for name, r in ratios.items()
            },
            "left_out": self.left_out,
        }


def cost_of(run: Line) -> float | None:
    """Return the CPU microseconds per frame of a run, or None if it is invalid or relayed nothing."""
    cost: float | None = run["bridge_cpu_us_per_frame"]
    return None if run["verdict"] == "invalid" or not cost else cost


async def compare(
    peers: Iterable[str], pairs: int, measure: MeasureOne, tell: Callable[[str], None]
) -> Comparison:
    """
    Measure until ``pairs`` rounds count and every peer has a ratio, or too many rounds are invalid.

    Each round is floor, bridge, and at most one other peer; its second floor is the first one of the next round.
    """
    comparison = Comparison()
    waiting = list(peers)
    counted = 0
    floor = await measure("floor")
    most = ROUNDS_PER_PAIR_MAX * max(pairs, len(waiting))
    while (counted < pairs or waiting) and len(comparison.rounds) < most:
        names = ["bridge", *waiting[:1]]
        runs = []
        for name in names:
            try:
                runs.append(await measure(name))
            except BridgeError as error:
                if name == "bridge":
                    raise
                comparison.left_out[name] = str(error).splitlines()[0]
        after = await measure("floor")
        done = Round(floor, runs, after)
        comparison.rounds.append(done)
        floor = after
        for name in names[1:]:
            waiting.remove(name)
            if name not in comparison.left_out and done.ratio(name) is None:
                waiting.append(name)
        reason = done.why_invalid()
        counted += done.ratio("bridge") is not None
        if reason:
            tell(f"round {len(comparison.rounds)} is invalid: {reason}")
    return comparison


def table(comparison: Comparison) -> str:
    """Return the comparison as text: for each bridge its middle run, and its cost in floors over all rounds."""
    lines = [
        f"{'':<9}{'us CPU':>8}  {'cost in floors':<22}{'% of':>5}{'added delay p99, ms':>21}{'':>7}"
        f"{'interrupt to clear, ms':>24}{'KB per':>8}{'generator':>13}",
        f"{'':<9}{'/frame':>8}  {'median (spread)':<22}{'core':>5}{'to agent':>11}{'to caller':>10}{'lost':>7}"
        f"{'p50':>10}{'p99':>7}{'max':>7}{'call':>8}{'%':>6}{'late':>7}  ",
    ]
    for name in comparison.names():
        ratio = comparison.ratio(name)
        in_floors = "1" if name == "floor" else "invalid" if ratio is None else str(ratio)
        lines.append(_row(comparison.typical(name), in_floors))
    rounds = comparison.to_json()
    lines.append(
        f"{rounds['rounds'] - rounds['rounds_invalid']} of {rounds['rounds']} rounds count; in the others the floors "
        f"before and after differ by more than {FLOORS_DIFFER_MAX:.0%}, or are invalid themselves"
    )
    lines += [f"{name} is left out: {reason}" for name, reason in comparison.left_out.items()]
    return "\n".join(lines)


def _row(run: Line, in_floors: str) -> str:
    lost = run["to_agent_lost"] + run["to_caller_lost"]
    clear = "".join(
        f"{number(run[f'interrupt_to_clear_{q}_us'], 1e3, '.1f'):>{width}}"
        for q, width in (("p50", 10), ("p99", 7), ("max", 7))
    )
    return (
        f"{run['name']:<9}{number(run['bridge_cpu_us_per_frame'], 1, '.2f'):>8}  {in_floors:<22}"
        f"{number(run['bridge_load_percent'], 1, '.0f'):>5}"
        f"{number(run['to_agent_delay_p99_us'], 1e3, '.1f'):>11}"
        f"{number(run['to_caller_delay_p99_us'], 1e3, '.1f'):>10}{lost:>7}{clear}"
        f"{number(run['bridge_kb_per_call'], 1, '.0f'):>8}{number(run['generator_load_percent'], 1, '.0f'):>6}"
        f"{number(run['generator_lateness_p99_us'], 1e3, '.1f'):>7}  {in_short(run)}"
    )


def in_short(run: Line) -> str:
    """Return the verdict of a run with its first reason."""
    word = {"ok": "OK", "failed": "FAILED", "invalid": "invalid"}[run["verdict"]]
    more = len(run["reasons"]) - 1
    return (
        word
        + (f": {run['reasons'][0]}" if run["reasons"] else "")
        + (f" and {more} more" if more > 0 else "")
    )


def number(value: float | None, unit: float, form: str) -> str:
    return "-" if value is None else format(value / unit, form)
