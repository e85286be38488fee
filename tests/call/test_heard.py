"""The heard part of a turn, by scripted marks on a clock of the test's own."""

from bridge.call.heard import MARK_EVERY_BYTES, Heard

SECOND = 8000


def test_nothing_was_heard_of_a_turn_that_has_just_begun():
    heard = Heard(0.0)
    heard.on_turn(0, 10.0)
    assert heard.on_clear(SECOND, 0, 10.0) == 0


def test_between_two_marks_the_audio_plays_on_with_the_clock():
    heard = Heard(0.0)
    heard.on_turn(0, 0.0)
    heard.on_mark("g0-1600", 0.2)
    assert heard.on_clear(SECOND, 0, 0.25) == 250


def test_no_more_was_heard_than_one_interval_beyond_the_last_mark():
    heard = Heard(0.0)
    heard.on_turn(0, 0.0)
    heard.on_mark("g0-1600", 0.2)
    assert heard.on_clear(SECOND, 0, 5.0) == (1600 + MARK_EVERY_BYTES) // 8


def test_no_more_was_heard_than_was_sent_and_all_of_it_is_none():
    heard = Heard(0.0)
    heard.on_turn(0, 0.0)
    heard.on_mark("g0-1600", 0.2)
    assert heard.on_clear(2000, 0, 0.24) == 240
    heard = Heard(0.0)
    heard.on_turn(0, 0.0)
    heard.on_mark("g0-1600", 0.2)
    assert heard.on_clear(2000, 0, 0.3) is None


def test_marks_that_a_clear_brings_back_say_nothing():
    heard = Heard(0.0)
    heard.on_turn(0, 0.0)
    assert heard.on_clear(5 * SECOND, 0, 0.1) == 100
    assert heard.on_mark("g0-40000", 0.15)
    heard.on_turn(5 * SECOND, 1.0)
    assert heard.on_clear(6 * SECOND, 0, 1.05) == 50
    heard.on_turn(6 * SECOND, 2.0)
    heard.on_mark("g2-49600", 2.3)
    assert heard.on_clear(7 * SECOND, 0, 2.3) == 200


def test_turn_that_follows_at_once_is_counted_from_its_own_beginning():
    heard = Heard(0.0)
    heard.on_turn(0, 0.0)
    heard.on_turn(SECOND, 0.1)
    heard.on_mark("g0-6400", 0.8)
    assert heard.on_clear(3 * SECOND, 0, 0.85) == 0
    heard.on_turn(3 * SECOND, 1.0)
    heard.on_turn(4 * SECOND, 1.1)
    heard.on_mark("g1-33600", 2.2)
    assert heard.on_clear(6 * SECOND, 0, 2.25) == 250


def test_turn_after_silence_counts_from_its_own_time():
    heard = Heard(0.0)
    heard.on_turn(0, 0.0)
    heard.on_mark("g0-1600", 0.2)
    heard.on_turn(2000, 30.0)
    assert heard.on_clear(10_000, 0, 30.1) == 100


def test_names_of_others_are_not_taken():
    heard = Heard(0.0)
    assert not heard.on_mark("played-out", 1.0)
    assert not heard.on_mark("g0", 1.0)
    assert heard.on_mark("g7-1", 1.0)


def test_turn_whose_end_was_still_held_is_not_heard_whole():
    heard = Heard(0.0)
    heard.on_turn(0, 0.0)
    heard.on_mark(f"g0-{SECOND}", 1.0)
    assert heard.on_clear(SECOND, 160, 1.0) == 1000
