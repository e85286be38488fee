"""
Compares the bridge with its peers on the same machine, in rounds of runs between two runs of the floor.

The speed of a shared machine changes from minute to minute. The result of a run is therefore its ratio to the mean of
the floors before and after it, and only if these two agree.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.verdict import Line, in_short
from bridge.standins.process import BridgeError

FLOORS_DIFFER_MAX = 0.10
# Invalid rounds are repeated up to this factor; beyond it the machine is too unsteady to go on.
ROUNDS_PER_PAIR_MAX = 2
# Beside the floor, in every round: a floor that gathers as the bridge does.
GATHERING_FLOOR = "floor-gather"
IN_EVERY_ROUND = (GATHERING_FLOOR, "bridge")

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

    def ratio(self, name: str, to: str | None = None) -> float | None:
        """
        Return the cost of ``name`` relative to the floor, or None if the run or the round is invalid or missing.

        Args:
            to: Name of another run of this round, to use instead of the floor.
        """
        cost = self._cost(name)
        floors = [cost_of(self.floor_before), cost_of(self.floor_after)] if to is None else [self._cost(to)]
        known = [floor for floor in floors if floor is not None]
        if self.why_invalid() or cost is None or len(known) < len(floors):
            return None
        return cost / statistics.mean(known)

    def why_to_repeat(self) -> str | None:
        """Return the reason why a run of this round has no ratio, or None."""
        for run in self.runs:
            if self.ratio(run["name"]) is None:
                return self.why_invalid() or f"{run['name']} is {in_short(run)}"
        return None

    def _cost(self, name: str) -> float | None:
        return next((cost_of(run) for run in self.runs if run["name"] == name), None)


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

    def ratio(self, name: str, to: str | None = None) -> Ratio | None:
        """Return the median over the rounds that count, or None if there is none; ``to`` as in `Round.ratio`."""
        ratios = [ratio for one in self.rounds if (ratio := one.ratio(name, to)) is not None]
        if not ratios:
            return None
        return Ratio(statistics.median(ratios), min(ratios), max(ratios), len(ratios))

    def names(self) -> list[str]:
        """Return the names of all runs, the floor first."""
        floors = [one.floor_before["name"] for one in self.rounds]
        return list(dict.fromkeys(floors + [run["name"] for one in self.rounds for run in one.runs]))

    def runs(self, name: str) -> list[Line]:
        """Return every run of ``name``, each floor once."""
        if name != self.names()[0]:
            return [run for one in self.rounds for run in one.runs if run["name"] == name]
        return [one.floor_before for one in self.rounds] + [one.floor_after for one in self.rounds[-1:]]

    def typical(self, name: str) -> Line:
        """Return the middle run of ``name`` by cost; an invalid one only if there is no other."""
        runs = self.runs(name)
        usable = [run for run in runs if run["verdict"] != "invalid"] or runs
        return sorted(usable, key=lambda run: cost_of(run) or 0.0)[len(usable) // 2]

    def to_json(self) -> Line:
        """Return the comparison as JSON, without the runs."""
        return {
            "rounds": len(self.rounds),
            "rounds_invalid": self.rounds_invalid,
            "cost_in_floors": self._ratios_as_json(self.names()[1:], to=None),
            "cost_in_gathering_floors": self._ratios_as_json(self.beside_gathering_floor(), GATHERING_FLOOR),
            "left_out": self.left_out,
        }

    @property
    def rounds_invalid(self) -> int:
        return sum(one.why_invalid() is not None for one in self.rounds)

    def beside_gathering_floor(self) -> list[str]:
        """Return the names that have a cost in gathering floors."""
        names = self.names()[1:]
        return [name for name in names if name != GATHERING_FLOOR] if GATHERING_FLOOR in names else []

    def _ratios_as_json(self, names: Iterable[str], to: str | None) -> Line:
        ratios = {name: self.ratio(name, to) for name in names}
        return {name: None if ratio is None else asdict(ratio) for name, ratio in ratios.items()}

    def end_of_table(self) -> list[str]:
        """Return how many rounds count, and what is left out."""
        count = len(self.rounds) - self.rounds_invalid
        return [
            f"{count} of {len(self.rounds)} rounds count; in the others the {self.rounds[0].yardstick}s before and "
            f"after differ by more than {FLOORS_DIFFER_MAX:.0%}, or are invalid themselves",
            *(f"{name} is left out: {reason}" for name, reason in self.left_out.items()),
        ]


def cost_of(run: Line) -> float | None:
    """Return the CPU microseconds per frame of a run, or None if it is invalid or relayed nothing."""
    cost: float | None = run["bridge_cpu_us_per_frame"]
    return None if run["verdict"] == "invalid" or not cost else cost


async def compare(
    peers: Iterable[str], pairs: int, measure: MeasureOne, tell: Callable[[str], None]
) -> Comparison:
    """
    Measure until ``pairs`` rounds count and every peer has a ratio, or too many rounds are invalid.

    Each round is floor, gathering floor, bridge, and at most one other peer.
    """
    rounds = Rounds(measure, tell, floor="floor", in_every_round=IN_EVERY_ROUND)
    return await rounds.measure_all(peers, pairs)


@dataclass(frozen=True)
class Rounds:
    """Makes rounds of runs; the second floor of a round is the first one of the next round."""

    measure: MeasureOne
    tell: Callable[[str], None]
    floor: str
    in_every_round: Sequence[str] = ()
    yardstick: str = "floor"

    async def measure_all(self, waiting: Iterable[str], pairs: int = 0) -> Comparison:
        """
        Measure until ``pairs`` rounds count and each of ``waiting`` has a ratio, or too many rounds are invalid.

        Args:
            waiting: Names for one round each; a name may be there several times.
        """
        comparison = Comparison()
        waiting = list(waiting)
        counted = 0
        most = ROUNDS_PER_PAIR_MAX * max(pairs, len(waiting))
        before = await self.measure(self.floor)
        while (counted < pairs or waiting) and len(comparison.rounds) < most:
            runs = [await self.measure(name) for name in self.in_every_round]
            name = waiting.pop(0) if waiting else None
            if name:
                try:
                    runs.append(await self.measure(name))
                except BridgeError as error:
                    comparison.left_out[name] = str(error).splitlines()[0]
                    waiting = [other for other in waiting if other != name]
                    name = None
            if not runs:
                continue
            done = Round(before, runs, await self.measure(self.floor), self.yardstick)
            before = done.floor_after
            comparison.rounds.append(done)
            if name and done.ratio(runs[-1]["name"]) is None:
                waiting.append(name)
            ratios = [done.ratio(run["name"]) for run in runs[: len(self.in_every_round)]]
            counted += None not in ratios
            reason = done.why_to_repeat()
            if reason:
                self.tell(f"round {len(comparison.rounds)} is invalid: {reason}")
        return comparison


def table(comparison: Comparison) -> str:
    """Return the comparison as text: for each bridge its middle run, and its cost in floors over all rounds."""
    lines = [
        f"{'':<13}{'us CPU':>8}  {'cost in floors':<22}{'in gathering floors':<22}{'% of':>5}"
        f"{'added delay p99, ms':>21}{'':>7}{'interrupt to clear, ms':>24}{'KB per':>8}{'generator':>13}",
        f"{'':<13}{'/frame':>8}  {'median (spread)':<22}{'median (spread)':<22}{'core':>5}"
        f"{'to agent':>11}{'to caller':>10}{'lost':>7}{'p50':>10}{'p99':>7}{'max':>7}{'call':>8}{'%':>6}{'late':>7}  ",
    ]
    lines += [_row(comparison, name) for name in comparison.names()]
    return "\n".join(lines + comparison.end_of_table())


def in_floors(ratio: Ratio | None, is_floor: bool) -> str:
    """Return a cost in floors as text."""
    return "1" if is_floor else "invalid" if ratio is None else str(ratio)


def _row(comparison: Comparison, name: str) -> str:
    run = comparison.typical(name)
    plain = in_floors(comparison.ratio(name), name == "floor")
    gathering = ""
    if name != "floor":
        gathering = in_floors(comparison.ratio(name, GATHERING_FLOOR), name == GATHERING_FLOOR)
    clear = "".join(
        f"{number(run[f'interrupt_to_clear_{q}_us'], 1e3, '.1f'):>{width}}"
        for q, width in (("p50", 10), ("p99", 7), ("max", 7))
    )
    return (
        f"{name:<13}{number(run['bridge_cpu_us_per_frame'], 1, '.2f'):>8}  {plain:<22}{gathering:<22}"
        f"{number(run['bridge_load_percent'], 1, '.0f'):>5}"
        f"{number(run['to_agent_delay_p99_us'], 1e3, '.1f'):>11}"
        f"{number(run['to_caller_delay_p99_us'], 1e3, '.1f'):>10}{lost_of(run):>7}{clear}"
        f"{number(run['bridge_kb_per_call'], 1, '.0f'):>8}{number(run['generator_load_percent'], 1, '.0f'):>6}"
        f"{number(run['generator_lateness_p99_us'], 1e3, '.1f'):>7}  {in_short(run)}"
    )


def lost_of(run: Line) -> int:
    """Return the frames that a run lost, both ways together."""
    return int(run["to_agent_lost"]) + int(run["to_caller_lost"])


def number(value: float | None, unit: float, form: str) -> str:
    return "-" if value is None else format(value / unit, form)
