"""Frames joined to larger ones: nothing lost, nothing out of order."""

from __future__ import annotations

from base64 import b64decode, b64encode

from hypothesis import given
from hypothesis import strategies as st

from bridge.call.chunks import BYTES_PER_MS, Chunks


@given(st.lists(st.binary(max_size=400)), st.sampled_from([40, 100]))
def test_audio_comes_whole_and_in_order_in_frames_of_the_length(frames, frame_ms):
    chunks = Chunks(frame_ms)
    whole = [b64decode(payload) for frame in frames for payload in chunks.add(b64encode(frame))]
    rest = b64decode(chunks.rest())
    assert b"".join([*whole, rest]) == b"".join(frames)
    assert {len(frame) for frame in whole} <= {frame_ms * BYTES_PER_MS}
    assert len(rest) < frame_ms * BYTES_PER_MS


def test_rest_is_taken_once():
    chunks = Chunks(100)
    assert chunks.add(b64encode(b"abc")) == []
    assert chunks.rest() == b64encode(b"abc")
    assert chunks.rest() == b""
