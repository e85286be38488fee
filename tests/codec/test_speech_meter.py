"""The speech meter: held equal to a twin in plain Python, and tried on the labelled conversations."""

from __future__ import annotations

import array
import audioop
import base64
import importlib
import random
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _codec.g711 import pcm16_to_mulaw
from _codec.speech_meter import SpeechMeter

wait_errors = importlib.import_module("tools.wait_errors")
FRAME_BYTES = 160
SEED = 20261127
MOST_SEGMENTS = 64


class Twin:
    """The meter in plain Python, on decoded audio and the standard library's tables."""

    def __init__(self, *, is_clean: bool = False) -> None:
        self.position_bytes = 0
        self.is_speaking = False
        self.block: list[int] = []
        self.block_bytes = 0
        self.last: float | None = None
        self.smooth = 0.0
        self.blocks = 0
        self.minima = [1e6 if is_clean else 1e18] * 16
        self.active_blocks = 0
        self.segments: list[tuple[int, int]] = []

    def add(self, payload: bytes) -> None:
        audio = base64.b64decode(payload)
        for start in range(0, len(audio), 3):
            group = audio[start : start + 3]
            self.block += [sample**2 for sample in array.array("h", audioop.ulaw2lin(group, 2))]
            self.block_bytes += len(group)
            if self.block_bytes >= 80:
                self.end_block()

    def skip(self, audio_bytes: int) -> None:
        self.position_bytes += self.block_bytes + audio_bytes
        self.block, self.block_bytes, self.active_blocks = [], 0, 0
        self.end_if_over()

    @property
    def open_since_bytes(self) -> int | None:
        return self.started_at if self.is_speaking else None

    def end_block(self) -> None:
        mean = sum(self.block) / len(self.block)
        start = self.position_bytes
        self.position_bytes += self.block_bytes
        pair = mean if self.last is None else (mean + self.last) / 2
        self.smooth = mean if self.last is None else self.smooth * 0.7 + mean * 0.3
        self.last, self.block, self.block_bytes = mean, [], 0
        self.minima[-1] = min(self.minima[-1], self.smooth)
        threshold = max(2500.0, min(self.minima[-16:]) * 2.0)
        self.blocks += 1
        if self.blocks % 20 == 0:
            self.minima.append(1e18)
        if pair <= threshold:
            self.active_blocks = 0
            self.end_if_over()
            return
        if self.active_blocks == 0:
            self.active_from = start
        self.active_blocks += 1
        if self.active_blocks >= 3:
            if not self.is_speaking:
                self.is_speaking, self.started_at = True, self.active_from
            self.last_active_at = self.position_bytes if mean > threshold else start

    def end_if_over(self) -> None:
        if self.is_speaking and self.position_bytes - self.last_active_at >= 2400:
            self.is_speaking = False
            self.segments.append((self.started_at, self.last_active_at))

    def take(self) -> list[tuple[int, int]]:
        taken, self.segments = self.segments[-MOST_SEGMENTS:], []
        return taken


def audio_of(seed: int, size: int, kind: str) -> bytes:
    rng = random.Random(seed)
    match kind:
        case "silence":
            return b"\xff" * size
        case "noise":
            return rng.randbytes(size)
        case _:
            return bytes(rng.choice((0xF0, 0x70, 0xFF)) for _ in range(size))


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.integers(0, 1 << 16),
            st.integers(0, 4000),
            st.sampled_from(("silence", "noise", "murmur")),
        ),
        st.tuples(st.just("skip"), st.integers(0, 5000)),
        st.tuples(st.just("take")),
    ),
    max_size=60,
)


@given(STEPS, st.booleans())
def test_meter_equals_its_twin(steps: list[tuple], is_clean: bool) -> None:
    meter, twin = SpeechMeter(is_clean=is_clean), Twin(is_clean=is_clean)
    for what, *values in steps:
        if what == "add":
            payload = base64.b64encode(audio_of(*values))
            meter.add(payload)
            twin.add(payload)
        elif what == "skip":
            meter.skip(*values)
            twin.skip(*values)
        else:
            assert meter.take() == twin.take()
        assert (meter.position_bytes, meter.open_since_bytes) == (twin.position_bytes, twin.open_since_bytes)
    assert meter.take() == twin.take()


def test_room_for_segments_is_not_part_of_a_meter() -> None:
    assert sys.getsizeof(SpeechMeter()) < 400


def test_newest_segments_stay_beyond_the_bound() -> None:
    meter, twin = SpeechMeter(), Twin()
    for _ in range(MOST_SEGMENTS + 6):
        for each in (meter, twin):
            each.add(base64.b64encode(b"\xff" * 4000))
            each.add(base64.b64encode(b"\x80" * 800))
            each.skip(3000)
    taken = meter.take()
    assert len(taken) == MOST_SEGMENTS
    assert taken == twin.take()


@given(st.binary(max_size=600))
def test_any_text_is_measured_without_a_fault(text: bytes) -> None:
    SpeechMeter().add(text)


def test_meter_equals_its_twin_on_speech_in_noise() -> None:
    rng = np.random.default_rng(SEED)
    for path in sorted(wait_errors.CONVERSATIONS.glob("0[0-3]-*.ulaw")):
        meter, twin = SpeechMeter(), Twin()
        audio = wait_errors.noisy(path.read_bytes(), 10, rng)
        for start in range(0, len(audio), FRAME_BYTES):
            for each in (meter, twin):
                each.add(base64.b64encode(audio[start : start + FRAME_BYTES]))
        assert len(twin.segments) > 0
        assert meter.take() == twin.take()


@pytest.mark.parametrize(("gap_bytes", "is_over"), [(2399, False), (2400, True)])
def test_segment_ends_after_the_hangover(gap_bytes: int, is_over: bool) -> None:
    meter = SpeechMeter()
    meter.add(base64.b64encode(b"\xff" * 810 + b"\x80" * 810))
    meter.skip(gap_bytes)
    assert meter.open_since_bytes == (None if is_over else 810)
    assert meter.take() == ([(810, 1620)] if is_over else [])


def test_steady_noise_is_no_speech_after_three_seconds() -> None:
    meter, twin = SpeechMeter(), Twin()
    heard = []
    for block in range(450):
        for each in (meter, twin):
            each.add(base64.b64encode((b"\xff" if block < 50 else b"\xa0") * 81))
        assert meter.open_since_bytes == twin.open_since_bytes
        heard.append(meter.open_since_bytes is not None)
    assert heard[100] and not heard[-1]


@pytest.mark.parametrize(("is_clean", "found"), [(True, [(0, 8100)]), (False, [])])
def test_speech_at_once_is_found_in_clean_audio(is_clean: bool, found: list[tuple[int, int]]) -> None:
    meter = SpeechMeter(is_clean=is_clean)
    meter.add(base64.b64encode(b"\x80" * 8100))
    meter.skip(2400)
    assert meter.take() == found


def test_murmur_of_a_room_in_clean_audio_is_no_speech() -> None:
    rng = np.random.default_rng(SEED)
    # 35 dB below full scale.
    murmur = pcm16_to_mulaw(rng.normal(0, 580, 40_000).astype("<i2").tobytes())
    meter = SpeechMeter(is_clean=True)
    meter.add(base64.b64encode(murmur))
    meter.skip(2400)
    assert meter.take() == []


def test_gap_counts_the_block_that_it_breaks_off() -> None:
    meter = SpeechMeter()
    meter.add(base64.b64encode(b"\xff" * 100))
    meter.skip(700)
    assert meter.position_bytes == 800


def test_negative_gap_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0, got -1"):
        SpeechMeter().skip(-1)


def test_waits_of_the_labelled_conversations() -> None:
    errors = wait_errors.errors_ms()
    for noise_db, of_level in errors.items():
        assert wait_errors.judged(of_level)[0] < 20, noise_db
    median, most = wait_errors.judged([error for of_level in errors.values() for error in of_level])
    assert median < 20
    assert most < 80
