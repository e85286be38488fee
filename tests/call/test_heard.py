"""The heard parts of turns, by scripted marks on a clock of the test's own."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bridge.agents.turns import HeardTurn
from bridge.call.heard import BYTES_PER_MS, MARK_EVERY_BYTES, MOST_TURNS, Heard

SECOND = 8000


def cut(name: str, heard_ms: int) -> list[HeardTurn]:
    return [HeardTurn(name, heard_ms, is_all=False)]


def test_nothing_was_heard_of_a_turn_that_has_just_begun():
    heard = Heard(0.0)
    heard.on_turn("a", 0, 10.0)
    assert heard.on_clear(SECOND, 0, 10.0) == cut("a", 0)


def test_between_two_marks_the_audio_plays_on_with_the_clock():
    heard = Heard(0.0)
    heard.on_turn("a", 0, 0.0)
    heard.on_mark("g0-1600", 0.2)
    assert heard.on_clear(SECOND, 0, 0.25) == cut("a", 250)


def test_no_more_was_heard_than_one_interval_beyond_the_last_mark():
    heard = Heard(0.0)
    heard.on_turn("a", 0, 0.0)
    heard.on_mark("g0-1600", 0.2)
    assert heard.on_clear(SECOND, 0, 5.0) == cut("a", (1600 + MARK_EVERY_BYTES) // 8)


def test_no_more_was_heard_than_was_sent_and_all_of_it_is_said_to_be_all():
    heard = Heard(0.0)
    heard.on_turn("a", 0, 0.0)
    heard.on_mark("g0-1600", 0.2)
    assert heard.on_clear(2000, 0, 0.24) == cut("a", 240)
    heard = Heard(0.0)
    heard.on_turn("a", 0, 0.0)
    heard.on_mark("g0-1600", 0.2)
    assert heard.on_clear(2000, 0, 0.3) == [HeardTurn("a", 250, is_all=True)]


def test_marks_that_a_clear_brings_back_say_nothing():
    heard = Heard(0.0)
    heard.on_turn("a", 0, 0.0)
    assert heard.on_clear(5 * SECOND, 0, 0.1) == cut("a", 100)
    assert heard.on_mark("g0-40000", 0.15)
    heard.on_turn("b", 5 * SECOND, 1.0)
    assert heard.on_clear(6 * SECOND, 0, 1.05) == cut("b", 50)
    heard.on_turn("c", 6 * SECOND, 2.0)
    heard.on_mark("g2-49600", 2.3)
    assert heard.on_clear(7 * SECOND, 0, 2.3) == cut("c", 200)


def test_each_turn_is_heard_up_to_its_own_share():
    heard = Heard(0.0)
    heard.on_turn("a", 0, 0.0)
    heard.on_turn("b", SECOND, 0.1)
    heard.on_mark("g0-6400", 0.8)
    assert heard.on_clear(3 * SECOND, 0, 0.85) == [*cut("a", 850), *cut("b", 0)]
    heard.on_turn("c", 3 * SECOND, 1.0)
    heard.on_turn("d", 4 * SECOND, 1.1)
    heard.on_mark("g1-33600", 2.2)
    assert heard.on_clear(6 * SECOND, 0, 2.25) == cut("d", 250)


def test_turn_without_audio_is_not_heard_and_hides_no_other():
    heard = Heard(0.0)
    heard.on_turn("a", 0, 0.0)
    assert heard.on_clear(0, 0, 1.0) == []
    heard.on_turn("b", 0, 1.0)
    for n in range(2 * MOST_TURNS):
        heard.on_turn(f"empty {n}", SECOND, 1.0)
    assert heard.on_clear(SECOND, 0, 1.1) == cut("b", 100)


def test_turn_after_silence_counts_from_its_own_time():
    heard = Heard(0.0)
    heard.on_turn("a", 0, 0.0)
    heard.on_mark("g0-1600", 0.2)
    heard.on_turn("b", 2000, 30.0)
    assert heard.on_clear(10_000, 0, 30.1) == cut("b", 100)


def test_names_of_others_are_not_taken():
    heard = Heard(0.0)
    assert not heard.on_mark("played-out", 1.0)
    assert not heard.on_mark("g0", 1.0)
    assert heard.on_mark("g7-1", 1.0)


def test_numbers_of_a_mark_are_as_long_as_the_wires():
    heard = Heard(0.0)
    # The wire counts clears in 32 bits, and bytes in 64.
    assert heard.on_mark(f"g{2**32 - 1}-{2**64 - 1}", 1.0)
    assert not heard.on_mark(f"g{10**10}-1", 1.0)
    assert not heard.on_mark(f"g1-{10**20}", 1.0)
    assert not heard.on_mark("g1-1 of another", 1.0)


def test_turn_whose_end_was_still_held_is_not_heard_whole():
    heard = Heard(0.0)
    heard.on_turn("a", 0, 0.0)
    heard.on_mark(f"g0-{SECOND}", 1.0)
    assert heard.on_clear(SECOND, 160, 1.0) == cut("a", 1000)


def test_turns_of_a_lost_agent_are_forgotten():
    heard = Heard(0.0)
    heard.on_turn("a", 0, 0.0)
    heard.on_next_agent()
    assert heard.on_clear(SECOND, 0, 0.1) == []


@given(
    turns=st.lists(st.integers(0, 3 * SECOND), min_size=1, max_size=8),
    marked=st.floats(0, 1),
    elapsed_ms=st.integers(0, 400),
    sent=st.floats(0, 1),
)
def test_heard_parts_are_those_of_the_audio_that_played(turns, marked, elapsed_ms, sent):
    """Every byte has the name of its turn; those before the point of play are the heard ones."""
    names = [str(n) for n, size in enumerate(turns) for _ in range(size)]
    sent_bytes = round(sent * len(names))
    mark_bytes = round(marked * sent_bytes)
    heard = Heard(0.0)
    position = 0
    for n, size in enumerate(turns):
        heard.on_turn(str(n), position, 0.0)
        position += size
    heard.on_mark(f"g0-{mark_bytes}", 1.0)
    found = heard.on_clear(sent_bytes, len(names) - sent_bytes, 1.0 + elapsed_ms / 1000)
    played = min(sent_bytes, mark_bytes + min(elapsed_ms * BYTES_PER_MS, MARK_EVERY_BYTES))
    whole, heard_bytes = Counter(names), Counter(names[:played])
    present = str(len(turns) - 1)
    assert found == [
        HeardTurn(name, heard_bytes[name] // BYTES_PER_MS, heard_bytes[name] == whole[name])
        for name in dict.fromkeys(names)
        if heard_bytes[name] < whole[name] or name == present
    ]
