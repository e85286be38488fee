"""The time line of a recording, on scripted time: positions count samples from its beginning."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bridge.server.records.timeline import MOST_LATE_BYTES, SILENCE, Batch, Timeline

FRAME = 160


def batch(
    until: int,
    caller: bytes = b"",
    late_bytes: int | None = None,
    runs: Sequence[tuple[int, bytes]] = (),
) -> Batch:
    return Batch(until, caller, 0 if late_bytes is None and caller else late_bytes, list(runs))


def assembled(*batches: Batch, until: int | None = None) -> tuple[bytes, bytes]:
    """Both channels of a call that ends with the last batch, or at ``until``."""
    timeline, stereo = Timeline(), b""
    for one in batches:
        timeline.add(one)
        stereo += timeline.take(one.until)
    stereo += timeline.take_rest(batches[-1].until if until is None else until)
    return stereo[::2], stereo[1::2]


def quiet(samples: int) -> bytes:
    return SILENCE * samples


def test_both_sides_are_beside_each_other():
    left, right = assembled(batch(4, b"abcd", runs=[(1, b"xyz")]))
    assert left == b"abcd"
    assert right == quiet(1) + b"xyz"


def test_audio_goes_on_over_batches():
    left, right = assembled(
        batch(4, b"abcd", runs=[(0, b"uvwxyz")]), batch(6, b"ef"), batch(8, b"gh", runs=[(6, b"12")])
    )
    assert left == b"abcdefgh"
    assert right == b"uvwxyz12"


def test_agents_audio_that_has_not_played_waits_and_is_cut_by_a_clear():
    left, right = assembled(
        batch(4, b"abcd", runs=[(2, b"0123456789")]),
        # At 6 a clear, and at 7 other audio.
        batch(8, b"efgh", runs=[(6, b""), (7, b"xy")]),
        until=10,
    )
    assert left == b"abcdefgh" + quiet(2)
    assert right == quiet(2) + b"0123" + quiet(1) + b"xy" + quiet(1)


def test_what_is_unplayed_at_the_end_is_not_there():
    _, right = assembled(batch(4, b"abcd", runs=[(2, b"0123456789")]))
    assert right == quiet(2) + b"01"


def test_nothing_is_written_beyond_the_callers_audio_before_the_end():
    timeline = Timeline()
    timeline.add(batch(8, b"abc", runs=[(0, b"01234567")]))
    # Whether it is late is known with the next batch.
    assert timeline.take(8) == b""
    timeline.add(batch(12, b"defghij"))
    assert timeline.take(12) == b"a0b1c2"
    assert timeline.waiting_bytes == 5 + 7
    assert timeline.take_rest(12) == b"d3e4f5g6h7i\xffj\xff" + b"\xff\xff" * 2
    assert timeline.waiting_bytes == 0


def test_callers_first_audio_is_where_it_arrives():
    left, _ = assembled(batch(900, b"abc", late_bytes=700))
    assert left == quiet(700) + b"abc" + quiet(197)


def test_audio_that_arrives_before_the_beginning_is_at_the_beginning():
    left, _ = assembled(batch(2, b"abc", late_bytes=-50))
    assert left == b"abc"


def test_late_audio_that_catches_up_makes_no_gap():
    left, _ = assembled(
        batch(FRAME, b"a" * FRAME), batch(3 * FRAME, b"b" * 2 * FRAME, late_bytes=MOST_LATE_BYTES)
    )
    assert left == b"a" * FRAME + b"b" * 2 * FRAME


def test_late_audio_may_catch_up_with_the_batch_after_the_next():
    a, b, c = (letter * FRAME for letter in (b"a", b"b", b"c"))
    left, _ = assembled(
        batch(FRAME, a), batch(5000, b, late_bytes=4500), batch(6000, c, late_bytes=10), until=6000
    )
    assert left[: 3 * FRAME] == a + b + c


@pytest.mark.parametrize("pause", [MOST_LATE_BYTES + 1, 8000])
def test_pause_of_the_callers_audio_is_silence_once(pause):
    a, b, c = (letter * FRAME for letter in (b"a", b"b", b"c"))
    end = 3 * FRAME + pause
    left, right = assembled(
        batch(FRAME, a),
        batch(FRAME + pause // 2),
        batch(2 * FRAME + pause, b, late_bytes=pause, runs=[(FRAME + pause, b"x")]),
        batch(end, c, late_bytes=pause),
    )
    assert left == a + quiet(pause) + b + c
    assert right == quiet(FRAME + pause) + b"x" + quiet(end - FRAME - pause - 1)


def test_call_without_audio_is_silence():
    assert assembled(batch(5), until=7) == (quiet(7), quiet(7))
