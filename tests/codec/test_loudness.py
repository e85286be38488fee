"""The loudness of a call over time: held equal to a twin in plain Python, within its bounds, and at its cost."""

from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _codec.call_audio import CallAudio
from _codec.loudness import Loudness

MOST_PIECES = 6000
BYTES_PER_S = 8000
BYTES_PER_PIECE = 800
SIDES = ("caller", "agent", "cleared")
SILENCE = 0xFF
# The loudest codes of mu-law, of both signs.
LOUDEST = (0x00, 0x80)


def text(audio: bytes) -> bytes:
    return base64.b64encode(audio)


class Bench:
    """A call's audio with its loudness, and the agent's in plain Python."""

    def __init__(self, now: float = 5000.0) -> None:
        self.audio, self.loudness = CallAudio(), Loudness()
        self.audio.attach(self.loudness)
        self.now = now
        self.heard_until = 0.0
        self.agent: dict[int, int] = {}
        self.cleared: dict[int, int] = {}

    def add_agent(self, audio: bytes) -> None:
        self.audio.add_agent(text(audio), self.now)
        self.heard_until = max(self.heard_until, self.now)
        first = int(self.heard_until * BYTES_PER_S)
        # The first sample of each group of three; what is no whole group counts with its padding.
        for n in range(0, len(audio), 3):
            piece, loud = (first + n) // BYTES_PER_PIECE, ~(audio[n] >> 2) & 31
            self.agent[piece] = max(self.agent.get(piece, 0), loud)
        self.heard_until += len(audio) / BYTES_PER_S

    def cut(self) -> None:
        self.audio.cut(self.now)
        if self.heard_until > self.now:
            for piece in [piece for piece in self.agent if piece > int(self.now * 10)]:
                self.cleared[piece] = max(self.cleared.get(piece, 0), self.agent.pop(piece))
        self.heard_until = 0.0

    def check(self) -> None:
        first = 50000 - 10
        for side, expected in (("agent", self.agent), ("cleared", self.cleared)):
            found = self.loudness.pieces(side, first, 1000)
            assert list(found) == [expected.get(first + n, 0) for n in range(1000)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("agent"), st.integers(1, 4000)),
        st.tuples(st.just("pass"), st.integers(1, 3000)),
        st.tuples(st.just("cut"), st.just(0)),
    ),
    max_size=30,
)


@given(STEPS, st.integers(0, 1000))
def test_agent_is_equal_to_the_twin(steps, seed):
    generator, bench = random.Random(seed), Bench()
    for step, size in steps:
        if step == "agent":
            bench.add_agent(generator.randbytes(size))
        elif step == "pass":
            # In whole samples, as eighths of milliseconds, which both sides add up alike.
            bench.now += size / 1024
        else:
            bench.cut()
    bench.check()


def test_each_piece_has_its_loudest_sample():
    bench = Bench()
    for code in LOUDEST:
        quiet = bytearray([SILENCE]) * BYTES_PER_PIECE
        quiet[300] = code
        bench.add_agent(bytes(quiet))
        bench.add_agent(bytes([SILENCE]) * BYTES_PER_PIECE)
    assert bench.loudness.last_piece == 50003
    assert list(bench.loudness.pieces("agent", 50000, 4)) == [31, 0, 31, 0]


def test_caller_is_placed_when_he_spoke():
    bench = Bench()
    for n in range(10):
        # A frame of 20 ms comes when it has been spoken.
        loud = bytes([0x00 if n == 7 else SILENCE]) * 160
        bench.audio.add_caller(text(loud), 5000.0 + 0.02 * (n + 1))
    assert list(bench.loudness.pieces("caller", 50000, 2)) == [0, 31]
    assert list(bench.loudness.pieces("agent", 50000, 2)) == [0, 0]


def test_nothing_is_there_before_the_first_audio():
    loudness = Loudness()
    assert loudness.last_piece is None
    for side in SIDES:
        assert loudness.pieces(side, 0, 3) == bytes(3)


def test_last_ten_minutes_are_kept():
    bench = Bench()
    second = bytes(BYTES_PER_S)
    for _ in range(700):
        bench.audio.add_agent(text(second), bench.now)
        bench.now += 1.0
    assert bench.loudness.last_piece == 56999
    assert bench.loudness.pieces("agent", 50000, 1000) == bytes(1000)
    assert bench.loudness.pieces("agent", 51000, MOST_PIECES) == MOST_PIECES * b"\x1f"
    assert bench.loudness.pieces("agent", 57000, 10) == bytes(10)


def test_silence_after_a_long_pause_is_silence():
    bench = Bench()
    bench.add_agent(bytes(BYTES_PER_S))
    bench.now += 900.0
    bench.add_agent(bytes([SILENCE]) * 160)
    assert bench.loudness.pieces("agent", bench.loudness.last_piece - 5999, MOST_PIECES) == bytes(MOST_PIECES)


def test_more_than_ten_minutes_at_once_are_cut_off_and_cleared_within_the_bound():
    bench = Bench()
    bench.audio.add_agent(text(bytes(700 * BYTES_PER_S)), bench.now)
    assert bench.loudness.last_piece == 56999
    bench.audio.cut(bench.now)
    assert bench.loudness.pieces("agent", 51000, MOST_PIECES) == bytes(MOST_PIECES)
    assert bench.loudness.pieces("cleared", 51000, MOST_PIECES) == MOST_PIECES * b"\x1f"
    # More than ten minutes before the last piece there is.
    bench.audio.add_agent(text(bytes(BYTES_PER_S)), bench.now)
    assert bench.loudness.pieces("agent", 51000, MOST_PIECES) == bytes(MOST_PIECES)


@pytest.mark.parametrize("payload", [b"", b"A", b"AA", b"AAA", b"====", b"\x00\xff\x80\n" * 40, b"\xf0" * 7])
def test_text_that_is_no_audio_is_taken_as_some(payload):
    bench = Bench()
    bench.audio.add_agent(payload, bench.now)
    assert max(bench.loudness.pieces("agent", 50000, 10)) in (0, 31)


def test_wrong_questions_are_errors():
    loudness = Loudness()
    for count in (-1, MOST_PIECES + 1):
        with pytest.raises(ValueError, match="count"):
            loudness.pieces("agent", 0, count)
    with pytest.raises(KeyError):
        loudness.pieces("nobody", 0, 1)
    for first in (-(1 << 62), -10, 1 << 62):
        assert loudness.pieces("agent", first, 5) == bytes(5)
