"""Times several ways to do one job against each other, in turns."""

from __future__ import annotations

import statistics
import time
import timeit
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """
    One way to do a job.

    ``expression`` does it once, with the names in ``given`` and the names defined by the statement ``setup``, which
    may hold state. ``read`` converts its value to the form in which all candidates of the job must agree.
    """

    name: str
    expression: str
    given: Mapping[str, Any]
    setup: str = "pass"
    read: Callable[[Any], object] = lambda value: value


@dataclass
class Contest:
    """
    A job and its candidates; the first candidate is the reference of the ratios.

    ``expected`` is the result of every candidate, or None if results may differ, as those of resamplers do.
    """

    job: str
    candidates: list[Candidate]
    expected: object = None

    def check(self) -> None:
        """
        Let each candidate do the job once.

        Raises:
            ValueError: A candidate gives another result.
        """
        for candidate in self.candidates:
            names = dict(candidate.given)
            exec(candidate.setup, names)
            made = candidate.read(eval(candidate.expression, names))
            if self.expected is not None and made != self.expected:
                raise ValueError(f"{candidate.name} does not {self.job}: {made!r}")


@dataclass(frozen=True)
class Score:
    """
    The time of one candidate.

    ``spread_percent`` is half the interquartile range of its samples, relative to the median. ``times_first`` is
    the median ratio of its samples to the first candidate's of the same round: neighbours see the same machine.
    """

    job: str
    name: str
    ns: float
    spread_percent: float
    times_first: float


@dataclass
class Samples:
    """Nanoseconds of CPU per job, one per round."""

    timer: timeit.Timer
    number: int
    ns: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, candidate: Candidate, sample_s: float) -> Samples:
        """Prepare samples of about ``sample_s`` each."""
        # CPU time leaves out other processes on the machine.
        timer = timeit.Timer(candidate.expression, candidate.setup, time.thread_time, dict(candidate.given))
        number, taken_s = 1, timer.timeit(1)
        while taken_s < sample_s / 4:
            number *= 2
            taken_s = timer.timeit(number)
        return cls(timer, max(1, round(number * sample_s / taken_s)))

    def take(self) -> None:
        self.ns.append(self.timer.timeit(self.number) / self.number * 1e9)


def measure(contest: Contest, rounds: int, sample_s: float) -> list[Score]:
    """
    Time all candidates, each once in every round, without the garbage collector.

    Raises:
        ValueError: A candidate gives another result, or there are fewer than two rounds.
    """
    if rounds < 2:
        raise ValueError(f"rounds must be at least 2, got {rounds}")
    contest.check()
    samples = [Samples.of(candidate, sample_s) for candidate in contest.candidates]
    for _ in range(rounds):
        for sample in samples:
            sample.take()
    return [
        score(contest.job, candidate.name, sample.ns, samples[0].ns)
        for candidate, sample in zip(contest.candidates, samples, strict=True)
    ]


def score(job: str, name: str, ns: list[float], first_ns: list[float]) -> Score:
    """Return the score of one candidate from its samples and those of the first one."""
    lower, median, upper = statistics.quantiles(ns, n=4, method="inclusive")
    ratios = [mine / first for mine, first in zip(ns, first_ns, strict=True)]
    return Score(job, name, median, (upper - lower) / 2 / median * 100, statistics.median(ratios))


def table(scores: list[Score]) -> str:
    """Return the scores as text, with the jobs as headings."""
    lines = [f"{'':<46}{'ns':>10}{'spread':>10}{'ratio':>9}"]
    job = None
    for item in scores:
        if item.job != job:
            job = item.job
            lines.append(job)
        lines.append(
            f"  {item.name:<44}{number(item.ns):>10}{f'{item.spread_percent:.1f} %':>10}"
            f"{number(item.times_first):>9}"
        )
    return "\n".join(lines)


def number(value: float) -> str:
    """Return a number with at least two digits."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
