"""Which calls are meant by what somebody types."""

from __future__ import annotations

import pytest

from bridge.server.records.matching import MOST_CHARACTERS, matcher

ROW = {
    "call_sid": "CA00ff" + 28 * "1",
    "from": "+141…23",
    "to": "sip:…om",
    "route": "Sales",
    "agent": "openai",
    "why": "caller_stopped",
    "outcome": "ended",
}


@pytest.mark.parametrize(
    "words",
    [
        "",
        "  ",
        "CA00FF",
        "ca00ff" + 28 * "1",
        "openai",
        "sales openai",
        "stopped  sales",
        "+141…23",
        "sip:",
        "ended",
        # A whole number, whose middle no list shows.
        "+14155550123",
        "14155550123",
        "+1 (415) 555-0123",
        "+1 415.555.0123",
        # A part of the CallSid.
        "11111111",
        # Words beyond the bounds.
        "openai" + MOST_CHARACTERS * " " + "x",
        8 * "openai " + "x",
    ],
)
def test_call_is_meant(words):
    assert matcher(words)(ROW)


@pytest.mark.parametrize("words", ["elevenlabs", "openai x", "+14155550124", "4155550123", "CA01", "none"])
def test_call_is_not_meant(words):
    assert not matcher(words)(ROW)


def test_whole_numbers_are_found_where_they_are_shown_whole():
    row = {**ROW, "from": "+14155550123", "agent": "", "why": None}
    assert matcher("+1 415 555 0123")(row)
    assert matcher("5550123 openai")({**row, "agent": "openai"})
    assert not matcher("none")(row)
