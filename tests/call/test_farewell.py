"""When the last words of an agent that hangs up are over."""

from __future__ import annotations

import pytest

from bridge.call.farewell import BEGINS_S, MOST_S, QUIET_S, Farewell


@pytest.fixture
def farewell() -> Farewell:
    """Asked for at 100 s, after 7 frames."""
    return Farewell(lambda: None, 7, 100.0)


def test_agent_has_time_to_begin(farewell):
    assert not farewell.is_due(7, 100 + BEGINS_S - 0.1)
    assert farewell.is_due(7, 100 + BEGINS_S)


def test_words_that_have_begun_are_over_after_a_short_silence(farewell):
    assert not farewell.is_due(8, 102.0)
    assert not farewell.is_due(8, 102 + QUIET_S - 0.1)
    assert not farewell.is_due(9, 102 + QUIET_S)
    assert not farewell.is_due(9, 102 + 2 * QUIET_S - 0.1)
    assert farewell.is_due(9, 102 + 2 * QUIET_S)


def test_words_without_an_end_are_cut(farewell):
    for n in range(round(MOST_S * 2) - 1):
        assert not farewell.is_due(8 + n, 100.5 + n / 2)
    assert farewell.is_due(1000, 100 + MOST_S)
