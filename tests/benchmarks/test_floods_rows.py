"""The rows of floods: losses and delays fail one, others on the same cores make a slow one invalid."""

from __future__ import annotations

import pytest
from load_result import measured

from benchmarks.floods_rows import Row, table, to_json
from benchmarks.verdict import Limits, Measured, Status

SLOW = ("to_agent.delay_us.p99", 20_100.0)
FLOOD = {"seconds": 2.0, "counts": {"read": 8000, "calls": 3, "closed 1008": 2, "closed 1000": 4, "reset": 1}}


def row(found: Measured, **flood: object) -> Row:
    return Row(scenario="interrupts", measured=found, limits=Limits(), flood=FLOOD | flood)


@pytest.mark.parametrize(
    ("found", "status", "reason"),
    [
        (measured(), Status.OK, ""),
        (measured(("to_caller.lost", 1)), Status.FAILED, "1 lost (agent to caller)"),
        (measured(SLOW), Status.FAILED, "p99 delay 20.1 ms > 20 ms (caller to agent)"),
        # Others only add to a delay.
        (measured(others_cpu_s=1.0), Status.OK, ""),
        (measured(("lateness_us.p99", 6000.0)), Status.OK, ""),
        (measured(SLOW, others_cpu_s=1.0), Status.INVALID, "others used 50 % of the bridge's core > 5 %"),
        # A generator that cannot keep up does not make the load.
        (measured(("generator_cpu_s", 1.9)), Status.INVALID, "the generator was saturated"),
    ],
)
def test_verdict_is_on_the_other_calls(found: Measured, status: Status, reason: str) -> None:
    verdict = row(found).verdict
    assert verdict.status is status
    assert [reason in each for each in verdict.reasons] == ([True] if reason else [])


def test_loss_fails_a_disturbed_run_too() -> None:
    assert row(measured(("to_agent.lost", 2), others_cpu_s=1.0)).verdict.status is Status.FAILED


@pytest.mark.parametrize("flood", [{"counts": {"read": 1999}}, {"counts": {}}])
def test_flood_that_is_not_read_proves_nothing(flood: dict[str, object]) -> None:
    verdict = row(measured(), **flood).verdict
    assert verdict.status is Status.INVALID
    assert "messages of the flood a second < 1000" in verdict.reasons[0]
    assert row(measured(("to_caller.lost", 1)), **flood).verdict.status is Status.FAILED


def test_run_without_a_result_of_the_flood_is_invalid() -> None:
    found = Row(scenario="pings", measured=measured(), limits=Limits())
    assert found.verdict.status is Status.INVALID


def test_figures_of_a_row() -> None:
    line = to_json(row(measured()))
    assert (line["scenario"], line["verdict"], line["to_agent_lost"]) == ("interrupts", "ok", 0)
    assert (line["flood_read_per_s"], line["flood_calls"], line["flood_refused"]) == (4000, 3, 0)
    # Hang-ups are no reaction of the bridge to the flood.
    assert line["flood_closed"] == "2 by 1008"


def test_table_has_a_line_for_each_row_and_each_reason() -> None:
    text = table([row(measured(bridge_cpu_s=0.5)), row(measured(SLOW))])
    title, good, slow, reason = text.splitlines()
    assert "lost" in title
    assert good.split() == [
        *("interrupts", "2200", "0", "0.9", "0.9", "25", "%"),
        *("4000", "3", "0", "2", "by", "1008", "OK"),
    ]
    assert slow.endswith("FAILED")
    assert "p99 delay" in reason
