"""The calls of a restart: what they count."""

from __future__ import annotations

from benchmarks.restart_calls import compared


def test_frames_are_counted_by_their_numbers():
    sent = [b"a", b"b", b"c", b"d"]
    assert compared(sent, sent) == (0, False)
    assert compared(sent, [b"a", b"d"]) == (2, False)
    assert compared(sent, [b"a", b"b", b"b", b"c", b"d"]) == (0, True)
    assert compared(sent, [b"a", b"c", b"b", b"d"]) == (0, True)
    assert compared(sent, [b"a", b"x", b"c", b"d"]) == (1, True)
