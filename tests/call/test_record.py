"""The facts of a call, and how its numbers are shown."""

from __future__ import annotations

import sys

import pytest

from bridge.call.record import (
    MOST_KEPT,
    MOST_REASONS,
    OTHER_REASONS,
    AgentRecord,
    CallRecord,
    Marks,
    Series,
    masked,
)
from bridge.call.sides import CallStats


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


def test_series_sums_up_what_is_beyond_its_bound():
    series = Series()
    for n in range(MOST_KEPT + 2):
        series.add(float(n), 0.5 if n == 0 else 0.25)
    assert (series.count, series.longest_s) == (MOST_KEPT + 2, 0.5)
    assert series.total_s == 0.5 + (MOST_KEPT + 1) * 0.25
    assert len(series.last) == MOST_KEPT
    assert series.last[0] == (2.0, 0.25)
    assert sys.getsizeof(series._last) < 20 * MOST_KEPT


def test_ignored_messages_are_counted_by_side_and_reason_within_a_bound():
    stats = CallStats()
    for n in range(MOST_REASONS + 5):
        stats.ignore("agent", f"reason {n}")
    stats.ignore("agent", "reason 1")
    stats.ignore("caller", "binary")
    assert stats.ignored["caller"] == {"binary": 1}
    assert stats.ignored["agent"]["reason 1"] == 2
    assert stats.ignored["agent"][OTHER_REASONS] == 5
    assert len(stats.ignored["agent"]) == MOST_REASONS + 1


def test_last_marks_are_kept_one_by_one():
    marks = Marks()
    for n in range(MOST_KEPT + 3):
        marks.add(n)
    assert marks.last == list(range(3, MOST_KEPT + 3))
