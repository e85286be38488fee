"""Floods beside few calls, for a second each: nothing of the others is lost, and what goes wrong fails the row."""

from __future__ import annotations

import asyncio
import math

import pytest

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
