"""The facts of a call, and how its numbers are shown."""

from __future__ import annotations

import pytest

from bridge.call.record import AgentRecord, CallRecord, masked


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+15551234567", "+155…67"),
        ("client:alice", "clie…ce"),
        ("+1234567", "+123…67"),
        ("+12345", "…"),
        ("7", "…"),
        ("", ""),
    ],
)
def test_middle_of_a_number_is_left_out(number, shown):
    assert masked(number) == shown


def test_agent_of_a_call_is_the_last_one_that_was_tried():
    record = CallRecord()
    assert record.agent.name == ""
    record.agents += [AgentRecord("a"), AgentRecord("b")]
    assert record.agent.name == "b"
