"""Floods beside few calls, for a second each: nothing of the others is lost, and what goes wrong fails the row."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner
from load_result import measured

from benchmarks import floods, load
from benchmarks.floods import SCENARIOS, run_scenario
from benchmarks.floods_messages import NO_FLOOD
from benchmarks.floods_rows import Row
from benchmarks.measure import Options
from benchmarks.progress import Progress
from benchmarks.verdict import Limits, Status

# The runs share the cores with each other and with other tests: only counts are judged.
ANY_SPEED = Limits(delay_p99_ms=math.inf, generator_load_percent=math.inf)
CALLS = 3


def options(**settings: str) -> Options:
    return Options(
        calls=CALLS,
        seconds=2,
        peer=None,
        tls=False,
        agent_port=0,
        inject=None,
        frame_bytes=160,
        interrupts_per_minute=15,
        ramp_s=0.1,
        pin=False,
        bridge_settings=[*settings.items()],
    )


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    async def run_all() -> list[Row]:
        return await asyncio.gather(
            *(run_scenario(name, options(), ANY_SPEED, Progress()) for name in SCENARIOS)
        )

    return dict(zip(SCENARIOS, asyncio.run(run_all()), strict=True))


@pytest.mark.parametrize("name", SCENARIOS)
def test_others_lose_nothing_beside_a_flood(rows: dict[str, Row], name: str) -> None:
    row = rows[name]
    assert row.verdict.status is not Status.FAILED, row.verdict.reasons
    assert row.measured.raw["calls_up"] == CALLS
    assert row.counts["calls"] >= 1
    assert (row.counts.get("read", 0) > 0) == (SCENARIOS[name].kind != NO_FLOOD)
    assert row.measured.settings["tls"] == SCENARIOS[name].has_tls


async def test_bridge_without_a_place_for_the_flooded_call_makes_the_row_invalid() -> None:
    row = await run_scenario("pings", options(BRIDGE_MAX_CALLS=str(CALLS)), ANY_SPEED, Progress())
    assert row.verdict.status is Status.INVALID
    assert row.counts["refused"] >= 1
    assert "calls" not in row.counts


def test_command_runs_each_scenario_and_prints_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def run(name: str, given: Options, limits: Limits, _: Progress) -> Row:
        asked.append((name, given.calls, given.seconds, limits.delay_p99_ms))
        await asyncio.sleep(0)
        return Row(scenario=name, limits=limits, measured=measured(("to_caller.lost", 7)))

    monkeypatch.setattr(floods, "run_scenario", run)
    out = tmp_path / "lines"
    for line in (["floods"], ["--floods"]):
        asked.clear()
        result = CliRunner().invoke(load.main, [*line, "--json", str(out)])
        assert result.exit_code == Status.FAILED.value, result.output
        assert asked == [(name, 50, 10, 20) for name in SCENARIOS]
        assert result.output.count("- 7 lost (agent to caller)") == len(SCENARIOS)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["scenario"] for line in lines] == 2 * [*SCENARIOS]
    result = CliRunner().invoke(
        load.main, ["floods", "--calls", "9", "--seconds", "3", "--max-delay-ms", "5"]
    )
    assert asked[-1] == ("short audio over TLS", 9, 3, 5)


@pytest.mark.parametrize(
    "other", [["--compare"], ["--workers", "2"], ["--tls"], ["--restart"], ["--strangers"], ["--watched"]]
)
def test_floods_go_with_no_other_measurement(other: list[str]) -> None:
    result = CliRunner().invoke(load.main, ["--floods", *other])
    assert result.exit_code == 2
    assert "for the bridge alone: no other kind of measurement" in result.output
