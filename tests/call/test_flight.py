"""The ring of a call's last events: what it holds, how much, and from where on."""

import pytest

from bridge.agents.turns import HeardTurn
from bridge.call.ends import Why
from bridge.call.flight import MOST_CHARS, Event, Fault, Step, coded, row


def test_defaults_at_the_end_of_a_row_are_left_out():
    assert row(Step("agent 1", "connect")) == ["agent 1", "connect"]
    assert row(Step("caller 1", "held_bytes", (), 0)) == ["caller 1", "held_bytes", (), 0]
    assert row(Event(1.0, "on_stop", [1.0], [], "closed")) == [1.0, "on_stop", [1.0], [], "closed"]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (Why.FAULT, "fault"),
        ("x" * 600, "x" * MOST_CHARS),
        ("a\ud800", "a?"),
        ([HeardTurn("one", 20, True)], [["one", 20, True]]),
        (ValueError("secret"), "ValueError"),
        (Fault("ValueError"), "ValueError"),
        ({"a": (1, None)}, {"a": [1, None]}),
    ],
)
def test_values_are_those_that_json_has(value, found):
    assert coded(value) == found
