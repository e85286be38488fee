"""Restarts under load, with few and short calls: each scenario passes, and what goes wrong for a caller fails it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import balancer, load
from benchmarks.progress import Progress
from benchmarks.restart import SCENARIOS, RestartOptions, run_scenario
from benchmarks.restart_calls import End
from benchmarks.restart_rows import Row
from benchmarks.verdict import Status

# HAProxy notices a drain within 2 s.
SETTINGS = {"BRIDGE_DRAIN_GRACE_S": "3", "BRIDGE_RESUME_LINGER_S": "1"}
BALANCED = {"rolling restart", "rolling restart, handed over", "kill -9 of a process"}
HANDED_OVER = {"rolling restart, handed over", "kill -9 of a process", "kill -9 of a worker"}
# Settings with which a scenario fails.
FALLBACK = {"BRIDGE_STORE": "memory"}
REFUSED = {"BRIDGE_MAX_CALLS": "1"}
BROKEN = {"BRIDGE_MAX_CALLS": "many"}


async def row_of(scenario: str, settings: Mapping[str, str]) -> Row:
    # Longer than grace and drain where calls are handed over.
    calls, call_s = (8, 6.0) if scenario.endswith("handed over") else (4, 2.0)
    given = [*(SETTINGS | settings).items()]
    options = RestartOptions(calls=calls, call_s=call_s, bridge_settings=given)
    return await run_scenario(scenario, options, Progress())


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], Row]:
    """Run all scenarios side by side; the key is the scenario and the settings' text."""
    cases: list[tuple[str, dict[str, str]]] = [(scenario, {}) for scenario in SCENARIOS]
    cases += [("kill -9 of a process", FALLBACK), ("kill -9 of a worker", REFUSED)]
    cases += [("kill -9 of a worker", BROKEN)]

    async def run_all() -> list[Row]:
        return await asyncio.gather(*(row_of(*case) for case in cases))

    found = asyncio.run(run_all())
    return {(scenario, str(settings)): row for (scenario, settings), row in zip(cases, found, strict=True)}


def row_in(rows: Mapping[tuple[str, str], Row], scenario: str, settings: Mapping[str, str]) -> Row:
    row = rows[scenario, str(settings)]
    if row.not_run and not os.environ.get("CI"):
        pytest.skip(row.not_run)
    return row


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_callers_notice_nothing_but_a_pause(rows, scenario):
    row = row_in(rows, scenario, {})
    assert row.verdict.reasons == []
    assert row.verdict.status is Status.OK
    assert len(row.results) >= 4
    assert {result.end for result in row.results} == {End.AS_PLANNED}
    assert bool(row.renewed) is (scenario in HANDED_OVER)
    assert all(result.pause_s > 0 for result in row.results)


def test_fallback_fails_the_row(rows):
    # The other process knows no call of the killed one.
    row = row_in(rows, "kill -9 of a process", FALLBACK)
    assert row.verdict.status is Status.FAILED
    assert 0 < row.count(End.FALLBACK) < 4
    assert "heard the fallback: a voice saying" in row.verdict.reasons[0]


def test_refused_call_fails_the_row(rows):
    row = row_in(rows, "kill -9 of a worker", REFUSED)
    assert row.verdict.status is Status.FAILED
    assert row.count(End.REFUSED) > 0


def test_bridge_that_does_not_start_fails_the_row(rows):
    row = row_in(rows, "kill -9 of a worker", BROKEN)
    assert row.verdict.status is Status.FAILED
    assert "exit code 2 before it was ready" in row.verdict.reasons[0]


@pytest.mark.parametrize("scenario", sorted(BALANCED))
async def test_without_haproxy_the_row_says_what_to_install(scenario, monkeypatch):
    monkeypatch.setattr(balancer, "SEARCHED", ())
    row = await run_scenario(scenario, RestartOptions(calls=1), Progress())
    assert "apt-get install haproxy" in row.not_run
    assert row.verdict.status is Status.INVALID


def test_command_runs_each_scenario_and_prints_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    async def run(scenario: str, options: RestartOptions, _: Progress) -> Row:
        asked.append((scenario, options.calls, options.bridge_settings))
        await asyncio.sleep(0)
        return Row(scenario=scenario, not_run="nothing is installed")

    monkeypatch.setattr(load, "run_scenario", run)
    out = tmp_path / "lines"
    for line in (["restart"], ["--restart"]):
        asked.clear()
        result = CliRunner().invoke(load.main, [*line, "--set", "A=b", "--json", str(out)])
        assert result.exit_code == Status.INVALID.value, result.output
        assert asked == [(scenario, 40, (("A", "b"),)) for scenario in SCENARIOS]
        assert result.output.count("not run: nothing is installed") == len(SCENARIOS)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["scenario"] for line in lines] == 2 * [*SCENARIOS]
    assert {(line["set"], line["calls_at_once"]) for line in lines} == {("A=b", 40)}


@pytest.mark.parametrize("other", [["--compare"], ["--workers", "2"], ["--tls"], ["--report", "x"]])
def test_restart_goes_with_no_other_measurement(other: list[str]):
    result = CliRunner().invoke(load.main, ["--restart", *other])
    assert result.exit_code == 2
    assert "--restart goes with" in result.output
