"""Finds how many calls one core carries, by adding calls until something is lost or late."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.verdict import Line

TRIES_PER_STEP = 3


@dataclass
class Sweep:
    """The steps of a sweep; ``carried`` is the number of calls at the last step that passed."""

    steps: list[Line] = field(default_factory=list)
    carried: int | None = None
    why_ended: str = ""

    def __str__(self) -> str:
        if self.carried is None:
            return f"no step was passed: {self.why_ended}"
        return f"one core carries {self.carried} calls; {self.why_ended}"


async def sweep(first: int, step: int, most: int, measure: Callable[[int], Awaitable[Line]]) -> Sweep:
    """
    Measure ``first`` calls, then ``step`` more each time, up to ``most``.

    A failed step is tried once more, an invalid one twice, because a single hiccup of a shared machine fails a run. A
    step that stays invalid ends the sweep too: the generator or the machine is at its limit, not the bridge.
    """
    found = Sweep()
    for calls in range(first, most + 1, step):
        line = await _step(found, calls, measure)
        if line["verdict"] == "ok":
            found.carried = calls
        else:
            found.why_ended = f"{calls} are {line['verdict']}: {line['reasons'][0]}"
            return found
    found.why_ended = f"more than {most} were not tried"
    return found


async def _step(found: Sweep, calls: int, measure: Callable[[int], Awaitable[Line]]) -> Line:
    failures = 0
    for _ in range(TRIES_PER_STEP):
        line = await measure(calls)
        found.steps.append(line)
        failures += line["verdict"] == "failed"
        if line["verdict"] == "ok" or failures == 2:
            break
    return line
