"""Strangers beside few calls, for a few seconds: each scenario passes by its counts, and what goes wrong fails it."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import load, strangers
from benchmarks.progress import Progress
from benchmarks.strangers import SCENARIOS, StrangersOptions, run_scenario
from benchmarks.strangers_rows import Row, StrangersLimits
from benchmarks.verdict import Status

# The runs share the cores with each other and with other tests: only counts are judged.
ANY_SPEED = StrangersLimits(webhook_p99_ms=math.inf, attacks_share=0)
CALLS = 3
BROKEN = ("log that is closed", "log on a full disk")


def options(**settings: str) -> StrangersOptions:
    given = [*settings.items()]
    return StrangersOptions(calls=CALLS, seconds=2, is_pinned=False, bridge_settings=given, limits=ANY_SPEED)


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    async def run_all() -> list[Row]:
        return await asyncio.gather(*(run_scenario(name, options(), Progress()) for name in SCENARIOS))

    return dict(zip(SCENARIOS, asyncio.run(run_all()), strict=True))


@pytest.mark.parametrize("name", SCENARIOS)
def test_nobody_notices_what_strangers_do(rows: dict[str, Row], name: str) -> None:
    row = rows[name]
    assert row.verdict.reasons == []
    assert row.verdict.status is Status.OK
    assert row.raw["calls_up"] == CALLS
    assert row.attacks > 0
    assert all(asked.count >= 5 and not asked.problems for asked in row.asked.values())
    if SCENARIOS[name].stderr:
        assert row.lines_made
    if name in BROKEN:
        assert (row.lines_dropped or 0) >= (row.lines_made or 0)


async def test_bridge_without_places_fails_the_row() -> None:
    # Calls of the probes have none; those of the load come first.
    row = await run_scenario("silent connections", options(BRIDGE_MAX_CALLS=str(CALLS)), Progress())
    assert row.verdict.status is Status.FAILED
    assert any("webhooks without their answer" in reason for reason in row.verdict.reasons)


async def test_bridge_that_does_not_start_fails_the_row() -> None:
    row = await run_scenario("silent connections", options(BRIDGE_MAX_CALLS="many"), Progress())
    assert row.verdict.status is Status.FAILED
    assert "exit code 2 before it was ready" in row.verdict.reasons[0]


def test_command_runs_each_scenario_and_prints_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def run(name: str, given: StrangersOptions, _: Progress) -> Row:
        asked.append((name, given.calls, given.seconds))
        await asyncio.sleep(0)
        return Row(scenario=name, limits=given.limits, problems=["nothing was tried"])

    monkeypatch.setattr(strangers, "run_scenario", run)
    out = tmp_path / "lines"
    for line in (["strangers"], ["--strangers"]):
        asked.clear()
        result = CliRunner().invoke(load.main, [*line, "--json", str(out)])
        assert result.exit_code == Status.FAILED.value, result.output
        assert asked == [(name, 100, 60) for name in SCENARIOS]
        assert result.output.count("- nothing was tried") == len(SCENARIOS)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["scenario"] for line in lines] == 2 * [*SCENARIOS]


@pytest.mark.parametrize("other", [["--compare"], ["--workers", "2"], ["--tls"], ["--restart"]])
def test_strangers_go_with_no_other_measurement(other: list[str]) -> None:
    result = CliRunner().invoke(load.main, ["--strangers", *other])
    assert result.exit_code == 2
    assert "--strangers goes with" in result.output or "--restart goes with" in result.output
