"""The recorder: held equal to the stand-in's playout of a phone, and bounded."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _codec import CallAudio, Recorder
from bridge.server.records.timeline import Batch, Timeline
from bridge.standins.twilio.playout import Playout

ZERO_S = 1000.0
MOST_BYTES = 1 << 20


def base64_of(audio: bytes) -> bytes:
    return base64.b64encode(audio)


class Bench:
    """A recorder that sees a call's audio, on scripted time."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.recorder = Recorder(ZERO_S, most_bytes)
        self.audio = CallAudio()
        self.audio.attach(self.recorder)

    def agent(self, audio: bytes, position: int) -> None:
        self.audio.add_agent(base64_of(audio), ZERO_S + position / 8000)

    def caller(self, audio: bytes, position: int) -> None:
        self.recorder.add_caller(base64_of(audio), position)

    def cut(self, position: int) -> None:
        self.audio.cut(ZERO_S + position / 8000)


def test_audio_that_follows_without_a_gap_is_one_run():
    bench = Bench()
    bench.agent(b"ab", 100)
    # Faster than it plays, and late by less than a millisecond.
    bench.agent(b"cd", 100)
    bench.agent(b"e", 110)
    bench.agent(b"fg", 200)
    assert bench.recorder.take() == (b"", None, [(100, b"abcde"), (200, b"fg")])
    assert bench.recorder.take() == (b"", None, [])


def test_run_goes_on_after_it_was_taken():
    bench = Bench()
    bench.agent(b"abcd", 100)
    bench.recorder.take()
    bench.agent(b"ef", 102)
    assert bench.recorder.take()[2] == [(104, b"ef")]


def test_cut_is_an_empty_run():
    bench = Bench()
    bench.agent(b"x" * 1000, 0)
    bench.recorder.take()
    bench.cut(400)
    assert bench.recorder.take()[2] == [(400, b"")]
    bench.agent(b"y", 410)
    assert bench.recorder.take()[2] == [(410, b"y")]
    # All of it has played.
    bench.cut(900)
    assert bench.recorder.take()[2] == []


def test_callers_audio_says_how_late_it_is_at_the_least():
    bench = Bench()
    bench.caller(b"a" * 160, 500)
    bench.caller(b"b" * 160, 640)
    bench.caller(b"c" * 160, 1000)
    assert bench.recorder.take()[:2] == (b"a" * 160 + b"b" * 160 + b"c" * 160, 480)
    bench.caller(b"d", 1000)
    assert bench.recorder.take()[:2] == (b"d", 520)


def test_callers_audio_has_the_time_at_which_it_passes():
    recorder, audio = Recorder(time.monotonic() - 10, MOST_BYTES), CallAudio()
    audio.attach(recorder)
    before = recorder.position
    audio.add_caller(base64_of(b"abc"), time.monotonic())
    after = recorder.position
    heard, late_bytes, _ = recorder.take()
    assert heard == b"abc"
    assert 80_000 <= before <= late_bytes <= after


@pytest.mark.parametrize("side", ["caller", "agent"])
def test_audio_beyond_the_bound_is_refused_from_then_on(side):
    bench = Bench(most_bytes=3400)
    add = getattr(bench, side)
    add(b"x" * 1500, 0)
    assert not bench.recorder.is_full
    add(b"x" * 1500, 0)
    assert bench.recorder.is_full
    bench.recorder.take()
    add(b"x", 0)
    assert bench.recorder.take() == (b"", None, [])


def test_closed_recorder_takes_nothing():
    bench = Bench()
    bench.recorder.close()
    bench.agent(b"x", 0)
    bench.caller(b"x", 0)
    bench.cut(0)
    assert bench.recorder.take() == (b"", None, [])
    assert bench.recorder.is_full


def test_text_that_is_not_base64_does_no_harm():
    bench = Bench()
    for text in (b"", b"=", b"====", b"abc", b"\xff" * 7, b"\0" * 64):
        bench.recorder.add_caller(text, 0)
        bench.audio.add_agent(text, ZERO_S)
    bench.recorder.take()


# In steps of 2 ms, which no rounding touches.
STEP = 16
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["agent", "agent", "agent", "caller", "cut", "take"]),
        st.integers(0, 60),
        st.integers(1, 100),
    ),
    max_size=60,
)


@given(EVENTS)
def test_recording_has_what_the_phone_plays(events):
    bench, timeline, phone = Bench(), Timeline(), Playout(0.0)
    now, stereo, said = 0, b"", b""
    for number, (what, pause, length) in enumerate(events):
        now += STEP * pause
        audio = bytes([number % 250 + 1]) * STEP * length
        if what == "agent":
            bench.agent(audio, now)
            phone.add(audio, now / 8000)
        elif what == "caller":
            # Never late: there is no gap.
            bench.caller(audio, len(said))
            said += audio
        elif what == "cut":
            bench.cut(now)
            phone.clear(now / 8000)
        else:
            timeline.add(Batch(now, *bench.recorder.take()))
            stereo += timeline.take(now)
    timeline.add(Batch(now, *bench.recorder.take()))
    stereo += timeline.take_rest(now)
    phone.advance(max(now, len(said)) / 8000)
    left, right = stereo[::2], stereo[1::2]
    assert left[: len(said)] == said
    assert set(left[len(said) :]) <= {0xFF}
    # What the caller says beyond the end has no other side.
    assert right[:now] == bytes(phone.heard)[:now]
