"""Restarts under load, with few and short calls: each scenario passes, and what goes wrong for a caller fails it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from benchmarks.progress import Progress
from benchmarks.restart import SCENARIOS, RestartOptions, run_scenario
from benchmarks.restart_calls import End
from benchmarks.restart_rows import Row
from benchmarks.verdict import Status

HANDED_OVER = {"kill -9 of a worker"}
# Settings with which a scenario fails.
REFUSED = {"BRIDGE_MAX_CALLS": "1"}
BROKEN = {"BRIDGE_MAX_CALLS": "many"}


async def row_of(scenario: str, settings: Mapping[str, str]) -> Row:
    options = RestartOptions(calls=4, call_s=2.0, bridge_settings=[*settings.items()])
    return await run_scenario(scenario, options, Progress())


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], Row]:
    """Run all scenarios side by side; the key is the scenario and the settings' text."""
    cases: list[tuple[str, dict[str, str]]] = [(scenario, {}) for scenario in SCENARIOS]
    cases += [("kill -9 of a worker", REFUSED), ("kill -9 of a worker", BROKEN)]

    async def run_all() -> list[Row]:
        return await asyncio.gather(*(row_of(*case) for case in cases))

    found = asyncio.run(run_all())
    return {(scenario, str(settings)): row for (scenario, settings), row in zip(cases, found, strict=True)}


def row_in(rows: Mapping[tuple[str, str], Row], scenario: str, settings: Mapping[str, str]) -> Row:
    return rows[scenario, str(settings)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_callers_notice_nothing_but_a_pause(rows, scenario):
    row = row_in(rows, scenario, {})
    assert row.verdict.reasons == []
    assert row.verdict.status is Status.OK
    assert len(row.results) >= 4
    assert {result.end for result in row.results} == {End.AS_PLANNED}
    assert bool(row.renewed) is (scenario in HANDED_OVER)
    assert all(result.pause_s > 0 for result in row.results)


def test_refused_call_fails_the_row(rows):
    row = row_in(rows, "kill -9 of a worker", REFUSED)
    assert row.verdict.status is Status.FAILED
    assert row.count(End.REFUSED) > 0


def test_bridge_that_does_not_start_fails_the_row(rows):
    row = row_in(rows, "kill -9 of a worker", BROKEN)
    assert row.verdict.status is Status.FAILED
    assert "exit code 2 before it was ready" in row.verdict.reasons[0]
