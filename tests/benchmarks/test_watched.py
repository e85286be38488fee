"""Pairs of runs without and with watching: their order, their verdict, and a real pair."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from benchmarks import watched
from benchmarks.verdict import Status
from benchmarks.watched import Pair, measure_pairs, table, verdict, watching

ROOT = Path(__file__).parents[2]
DEADLINE_S = 90


def line(cost: float, verdict: str = "ok") -> dict[str, Any]:
    found = {
        "name": "bridge",
        "verdict": verdict,
        "reasons": [] if verdict == "ok" else ["a reason"],
        "bridge_cpu_us_per_frame": cost,
        "bridge_kb_per_call": None,
    }
    for way in ("to_agent", "to_caller"):
        found |= {f"{way}_lost": 0, f"{way}_delay_p99_us": 250.0}
    return found


def pairs(*costs: tuple[float, float]) -> list[Pair]:
    return [Pair(line(without), line(with_it)) for without, with_it in costs]


@pytest.mark.parametrize(
    ("costs", "status"),
    [
        ([(10.0, 10.4), (11.0, 11.2), (10.6, 10.9)], Status.OK),
        ([(10.0, 11.4), (10.2, 11.2), (10.1, 11.3)], Status.FAILED),
        # Cheaper is no fault.
        ([(10.0, 8.0), (10.1, 8.1)], Status.OK),
    ],
)
def test_cost_of_watching_must_be_within_the_spread(
    costs: Sequence[tuple[float, float]], status: Status
) -> None:
    assert verdict(pairs(*costs)).status is status


def test_failed_run_fails_them_all_and_invalid_ones_do_not_count() -> None:
    good = pairs((10.0, 10.1), (10.2, 10.1))
    assert verdict([*good, Pair(line(10.0), line(10.0, "failed"))]).reasons == ["bridge: FAILED: a reason"]
    assert verdict([*good, Pair(line(10.0), line(99.0, "invalid"))]).status is Status.OK
    assert verdict([Pair(line(10.0), line(10.0, "invalid"))]).status is Status.INVALID


def test_single_pair_has_no_spread_to_judge_by() -> None:
    assert verdict(pairs((10.0, 10.4))).status is Status.INVALID
    one_counts = [*pairs((10.0, 10.4)), Pair(line(10.2), line(10.3, "invalid"))]
    assert verdict(one_counts).status is Status.INVALID


def test_table_has_each_run_and_both_medians() -> None:
    text = table(pairs((10.0, 10.4), (11.0, 11.2)))
    assert text.count("OK") == 4
    assert "10.50  median of 2, 10.00 to 11.00" in text
    assert "10.80  median of 2, 10.40 to 11.20" in text


async def watch(settings: watched.Settings) -> None:
    """Do what a bridge with these settings does in a run."""
    given = dict(settings)
    (Path(given["BRIDGE_RECORD_DIR"]) / "call.wav").touch()
    async with aiohttp.ClientSession() as http:
        await http.post(given["BRIDGE_EVENTS_URL"], json={"type": "call.started"})


async def test_every_other_pair_begins_with_the_watched_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "ANSWER_S", 0.01)
    made: list[bool] = []

    async def measure(settings: watched.Settings) -> dict[str, Any]:
        made.append(bool(settings))
        if settings:
            await watch(settings)
        return line(11.0 if settings else 10.0)

    found = await measure_pairs(2, measure)
    assert made == [False, True, True, False]
    assert watched.costs(found) == ([10.0, 10.0], [11.0, 11.0])


async def test_run_in_which_nothing_is_watched_is_invalid() -> None:
    async def measure(settings: watched.Settings) -> dict[str, Any]:
        return line(10.0)

    [pair] = await measure_pairs(1, measure)
    assert pair.unwatched["verdict"] == "ok"
    assert pair.watched["verdict"] == "invalid"
    assert pair.watched["reasons"] == ["no event came to the receiver", "no call was recorded"]


async def test_receiver_takes_events_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "ANSWER_S", 0.01)
    async with watching() as watcher, aiohttp.ClientSession() as http:
        url = dict(watcher.settings)["BRIDGE_EVENTS_URL"]
        async with http.post(url, json={"type": "call.started"}) as answer:
            assert answer.status == 204
        assert watcher.events == ["call.started"]


def test_real_pair_is_measured_and_nothing_is_lost() -> None:
    size = ["--calls", "10", "--seconds", "2", "--pairs", "1", "--no-pin"]
    # Beside other tests only counters are judged.
    limits = ["--max-delay-ms", "250", "--max-lateness-ms", "10000", "--max-others-percent", "100"]
    command = [sys.executable, "-m", "benchmarks.load", "watched", *size, *limits]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    rows = [row.split() for row in done.stdout.split("10 calls, 2 s")[1].splitlines()]
    lost = {
        row[0]: row[3] for row in rows if row and row[0] in ("without", "watched") and "median" not in row
    }
    assert lost == {"without": "0", "watched": "0"}, done.stdout + done.stderr
    assert not any(text in done.stdout for text in ("no event came", "no call was recorded")), done.stdout
