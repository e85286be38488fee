import pytest

from bridge.standins.twilio.playout import MAX_BUFFERED_BYTES, Playout

START = 100.0


@pytest.fixture
def playout():
    return Playout(START)


def test_audio_plays_from_its_arrival_with_silence_around(playout):
    playout.add(b"a" * 160, START + 0.02)
    playout.advance(START + 0.06)
    assert playout.heard == b"\xff" * 160 + b"a" * 160 + b"\xff" * 160


def test_burst_plays_in_order_without_gaps(playout):
    for n in range(5):
        playout.add(bytes([n]) * 160, START)
    playout.advance(START + 0.1)
    assert playout.heard == b"".join(bytes([n]) * 160 for n in range(5))
    assert playout.buffered_bytes == 0


def test_mark_returns_when_all_before_it_has_played(playout):
    playout.add(b"a" * 800, START)
    playout.mark("first", START)
    playout.add(b"b" * 800, START)
    playout.mark("second", START)
    assert playout.next_deadline() == pytest.approx(START + 0.1)
    assert playout.take_marks(START + 0.099) == []
    assert playout.take_marks(playout.next_deadline()) == ["first"]
    assert playout.next_deadline() == pytest.approx(START + 0.2)
    assert playout.take_marks(START + 9) == ["second"]
    assert playout.next_deadline() is None


def test_mark_on_an_empty_buffer_is_due_at_once(playout):
    playout.mark("now", START + 1)
    assert playout.next_deadline() == pytest.approx(START + 1)
    assert playout.take_marks(START + 1) == ["now"]


def test_clear_empties_the_buffer_and_returns_every_mark(playout):
    playout.add(b"a" * 800, START)
    playout.mark("one", START)
    playout.add(b"b" * 800, START)
    playout.mark("two", START)
    assert playout.clear(START + 0.05) == ["one", "two"]
    assert playout.cleared_bytes == 1200
    assert playout.take_marks(START + 1) == []
    playout.advance(START + 0.1)
    assert playout.heard[:400] == b"a" * 400
    assert set(playout.heard[400:]) == {0xFF}


def test_audio_after_a_clear_plays_at_once(playout):
    playout.add(b"a" * 8000, START)
    playout.clear(START + 0.02)
    playout.add(b"b" * 160, START + 0.02)
    playout.mark("after", START + 0.02)
    assert playout.take_marks(START + 0.04) == ["after"]
    assert playout.heard == b"a" * 160 + b"b" * 160


def test_more_than_ten_minutes_overflow(playout):
    playout.add(b"a" * (MAX_BUFFERED_BYTES - 10), START)
    playout.add(b"b" * 100, START)
    assert playout.overflowed_bytes == 90
    assert playout.buffered_bytes == MAX_BUFFERED_BYTES


def test_heard_audio_does_not_depend_on_how_often_time_advances():
    first, second = Playout(START), Playout(START)
    for playout, step in ((first, 0.0013), (second, 0.5)):
        playout.add(b"abcdefgh" * 100, START)
        for n in range(1, round(0.5 / step)):
            playout.advance(START + n * step)
        playout.advance(START + 0.5)
    assert first.heard == second.heard
