"""
Measures what it costs to watch calls, in pairs of runs without and with all that an operator may turn on.

With it: events at a receiver that takes a second for each, records for the page and the API, and recordings of a tenth
of the calls. The speech meter has no switch, and is in both runs of a pair.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from benchmarks.agents import DEFAULT
from benchmarks.calls import CALLERS
from benchmarks.compare import cost_of, lost_of, number
from benchmarks.verdict import Line, Status, Verdict, in_short

ANSWER_S = 1.0
# Callers of the one group of ten whose calls are recorded; all have the agent of the run.
ROUTES = f"""
[[route]]
name = "recorded"
from_prefix = ["{CALLERS[0]}"]
agents = ["{DEFAULT}"]

[[route]]
name = "not-recorded"
agents = ["{DEFAULT}"]
record = false
"""

Settings = Sequence[tuple[str, str]]
MeasureOne = Callable[[Settings], Awaitable[Line]]


@dataclass
class Watcher:
    """
    The operator's side of a run.

    Attributes:
        settings: Of the bridge.
        recordings: The directory for them.
        events: The types of those that came.
    """

    recordings: Path
    settings: Settings = ()
    events: list[str] = field(default_factory=list)

    async def on_event(self, request: web.Request) -> web.Response:
        event = await request.json()
        await asyncio.sleep(ANSWER_S)
        self.events.append(event["type"])
        return web.Response(status=204)

    def judged(self, run: Line) -> Line:
        """Return a watched run, which is invalid if nothing was watched in it."""
        missing = [] if self.events else ["no event came to the receiver"]
        if not any(self.recordings.iterdir()):
            missing.append("no call was recorded")
        if not missing or run["verdict"] == "failed":
            return run
        return {**run, "verdict": "invalid", "reasons": [*run["reasons"], *missing]}


@asynccontextmanager
async def watching() -> AsyncIterator[Watcher]:
    """Serve a slow receiver of events, with a directory for recordings, until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="bridge-load-watched-") as folder:
        recordings, routes = Path(folder) / "recordings", Path(folder) / "routes.toml"
        recordings.mkdir()
        routes.write_text(ROUTES)
        watcher, app = Watcher(recordings), web.Application()
        app.router.add_post("/events", watcher.on_event)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            watcher.settings = [
                ("BRIDGE_EVENTS_URL", f"http://127.0.0.1:{runner.addresses[0][1]}/events"),
                ("BRIDGE_EVENTS_SECRET", "whsec_" + "c2VjcmV0" * 4),
                ("BRIDGE_API_TOKEN", "a-token-of-the-benchmark-only"),
                ("BRIDGE_PAGE_PASSWORD", "a-password-of-the-benchmark-only"),
                ("BRIDGE_RECORD_DIR", str(recordings)),
                ("BRIDGE_ROUTES_FILE", str(routes)),
            ]
            yield watcher
        finally:
            await runner.cleanup()


@dataclass(frozen=True)
class Pair:
    """Two runs, one after the other."""

    unwatched: Line
    watched: Line


async def measure_pairs(pairs: int, measure: MeasureOne) -> list[Pair]:
    """Make the runs, each with a bridge of its own; every other pair begins with the watched one."""
    made = []
    for n in range(pairs):
        runs: dict[bool, Line] = {}
        for is_watched in (False, True) if n % 2 == 0 else (True, False):
            async with watching() as watcher:
                run = await measure(watcher.settings if is_watched else ())
                runs[is_watched] = watcher.judged(run) if is_watched else run
        made.append(Pair(runs[False], runs[True]))
    return made


def verdict(pairs: Sequence[Pair]) -> Verdict:
    """Fail if a run fails, or if watching adds more to the median cost than runs of one kind differ by."""
    runs = [run for pair in pairs for run in (pair.unwatched, pair.watched)]
    reasons = [f"{run['name']}: {in_short(run)}" for run in runs if run["verdict"] == "failed"]
    if reasons:
        return Verdict(Status.FAILED, reasons)
    without, watched = costs(pairs)
    if min(len(without), len(watched)) < 2:
        return Verdict(Status.INVALID, ["fewer than two runs of one kind count: their spread is unknown"])
    added_us = statistics.median(watched) - statistics.median(without)
    spread_us = max(max(found) - min(found) for found in (without, watched))
    if added_us > spread_us:
        reason = f"watching adds {added_us:.2f} us to a frame, more than the spread of {spread_us:.2f} us"
        return Verdict(Status.FAILED, [reason])
    return Verdict(Status.OK)


def costs(pairs: Sequence[Pair]) -> tuple[list[float], list[float]]:
    """The CPU microseconds per frame of those runs that count, without and with watching."""
    without = [cost for pair in pairs if (cost := cost_of(pair.unwatched)) is not None]
    return without, [cost for pair in pairs if (cost := cost_of(pair.watched)) is not None]


def table(pairs: Sequence[Pair]) -> str:
    """Return the runs as text, the medians below."""
    lines = [f"{'':<12}{'us CPU/frame':>13}{'p99 delay, ms':>15}{'lost':>6}{'KB per call':>13}  verdict"]
    for pair in pairs:
        lines += [_row("without", pair.unwatched), _row("watched", pair.watched)]
    for name, found in zip(("without", "watched"), costs(pairs), strict=True):
        if found:
            lines.append(
                f"{name:<12}{statistics.median(found):>13.2f}  median of {len(found)},"
                f" {min(found):.2f} to {max(found):.2f}"
            )
    return "\n".join(lines)


def _row(name: str, run: Line) -> str:
    p99_us = [run[f"{way}_delay_p99_us"] for way in ("to_agent", "to_caller")]
    worst_us = max((each for each in p99_us if each is not None), default=None)
    return (
        f"{name:<12}{number(run['bridge_cpu_us_per_frame'], 1, '.2f'):>13}{number(worst_us, 1e3, '.1f'):>15}"
        f"{lost_of(run):>6}{number(run['bridge_kb_per_call'], 1, '.0f'):>13}  {in_short(run)}"
    )
