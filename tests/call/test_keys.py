"""Keys gathered to one text."""

from __future__ import annotations

from bridge.call.keys import MOST_KEYS, PAUSE_S, Keys


def test_keys_come_together_with_the_hash_that_ends_them():
    keys = Keys()
    assert [keys.add(key, 0.0) for key in "12#34#"] == ["", "", "12#", "", "", "34#"]
    assert keys.due(1000.0) == ""


def test_keys_come_after_a_pause_behind_the_last_one():
    keys = Keys()
    keys.add("1", 0.0)
    keys.add("*", PAUSE_S - 0.1)
    assert keys.due(PAUSE_S) == ""
    assert keys.due(2 * PAUSE_S) == "1*"
    assert keys.due(1000.0) == ""


def test_caller_who_does_not_stop_is_bounded():
    keys = Keys()
    given = [keys.add("5", 0.0) for _ in range(2 * MOST_KEYS)]
    assert [text for text in given if text] == 2 * ["5" * MOST_KEYS]
