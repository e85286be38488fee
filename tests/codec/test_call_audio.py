"""The audio of a call as its caller hears it: on a clock of the test's own, and where it passes a wire."""

from __future__ import annotations

import base64
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _codec import CallAudio, Envelope, HeldBudget, SpanFinder, Wire
from _codec.call_audio import AudioTap
from _codec.speech_meter import SpeechMeter

BYTES_PER_S = 8000
FRAME_S = 0.02
SILENCE, SPEECH = b"\xff", b"\x80"
# The moment of the first frame.
BEGAN = 100.0
MOST_CHANGES = 32


def text(sample: bytes, length_s: float) -> bytes:
    return base64.b64encode(sample * round(length_s * BYTES_PER_S))


class Caller:
    """Speaks in frames of 20 ms, each of which arrives when its last sample is spoken, or later."""

    def __init__(self, audio: CallAudio) -> None:
        self.audio = audio
        self.spoken_s = 0.0

    def say(
        self, length_s: float, sample: bytes = SILENCE, late_s: float = 0.0, at_once: bool = False
    ) -> None:
        end = BEGAN + self.spoken_s + length_s
        for _ in range(round(length_s / FRAME_S)):
            self.spoken_s += FRAME_S
            self.audio.add_caller(text(sample, FRAME_S), (end if at_once else BEGAN + self.spoken_s) + late_s)


def changes(audio: CallAudio, kind: str, now: float = BEGAN) -> list[tuple[int, float, float]]:
    return [(position, at, gap_s) for found, position, at, gap_s in audio.poll(now) if found == kind]


def seconds(segments: list[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(round(start / BYTES_PER_S, 1), round(end / BYTES_PER_S, 1)) for start, end in segments]


def end_of(meter: SpeechMeter) -> int:
    # Closes the present block.
    meter.skip(0)
    return meter.position_bytes


# The caller


def test_caller_has_spoken_when_his_audio_arrives():
    audio = CallAudio()
    assert audio.caller_since is None and audio.caller_until is None
    Caller(audio).say(1)
    assert audio.caller_since == (0, pytest.approx(BEGAN))
    assert audio.caller_until == pytest.approx(BEGAN + 1)
    assert changes(audio, "caller") == [(0, pytest.approx(BEGAN), 0)]


def test_audio_that_the_network_holds_up_is_no_gap():
    audio = CallAudio()
    caller = Caller(audio)
    caller.say(1)
    caller.say(0.6, at_once=True)
    caller.say(1)
    assert [gap_s for _, _, gap_s in changes(audio, "caller")] == [0]
    assert audio.caller_until == pytest.approx(BEGAN + 2.6)


def test_first_audio_that_came_late_is_placed_where_it_was_spoken():
    audio = CallAudio()
    caller = Caller(audio)
    caller.say(0.1, late_s=0.05)
    caller.say(1)
    assert audio.caller_since == (0, pytest.approx(BEGAN))


def test_lateness_that_stays_is_a_gap_from_where_it_began():
    audio = CallAudio()
    caller = Caller(audio)
    caller.say(1)
    caller.say(1, late_s=2)
    assert changes(audio, "caller") == [
        (0, pytest.approx(BEGAN), 0),
        (0, pytest.approx(BEGAN), 0),
        (8000, pytest.approx(BEGAN + 3), pytest.approx(2)),
    ]
    assert audio.caller_until == pytest.approx(BEGAN + 4)


def test_gap_is_as_long_as_its_audio_is_late_at_the_least():
    audio = CallAudio()
    caller = Caller(audio)
    caller.say(1)
    for length_s, late_s in ((0.2, 2.08), (0.1, 2.0), (1.0, 2.05)):
        caller.say(length_s, late_s=late_s)
    assert changes(audio, "caller")[-1] == (8000, pytest.approx(BEGAN + 3), pytest.approx(2))


def test_stretch_before_a_gap_comes_again_as_corrected():
    audio = CallAudio()
    caller = Caller(audio)
    caller.say(0.1, late_s=0.05)
    assert changes(audio, "caller") == [(0, pytest.approx(BEGAN + 0.05), 0)]
    caller.say(0.9)
    caller.say(1, late_s=2)
    assert changes(audio, "caller") == [
        (0, pytest.approx(BEGAN), 0),
        (8000, pytest.approx(BEGAN + 3), pytest.approx(2)),
    ]


def test_clock_of_the_carrier_that_runs_slow_makes_no_gap():
    audio = CallAudio()
    for second in range(3600):
        # 50 millionths.
        audio.add_caller(text(SILENCE, 1), BEGAN + (second + 1) * 1.00005)
        audio.poll(BEGAN)
    assert audio.caller_until == pytest.approx(BEGAN + 3600 * 1.00005, abs=0.001)


# The agent


def test_agent_is_heard_when_its_audio_goes_out_or_behind_what_is_unplayed():
    audio = CallAudio()
    audio.add_agent(text(SPEECH, 1), BEGAN)
    audio.add_agent(text(SPEECH, 1), BEGAN + 0.5)
    audio.add_agent(text(SPEECH, 1), BEGAN + 3)
    assert changes(audio, "agent") == [(0, BEGAN, 0), (16000, BEGAN + 3, pytest.approx(1))]


@pytest.mark.parametrize(("dry_s", "counts"), [(0.01, False), (0.05, True), (1.9, True), (2.1, False)])
@pytest.mark.parametrize("polls", [False, True])
def test_audio_that_runs_dry_in_mid_speech_is_a_gap(dry_s: float, counts: bool, polls: bool):
    audio = CallAudio()
    audio.add_agent(text(SILENCE, 0.3), BEGAN - 0.3)
    audio.add_agent(text(SPEECH, 1), BEGAN)
    if polls:
        audio.poll(BEGAN + 1 + dry_s)
    audio.add_agent(text(SPEECH, 1), BEGAN + 1 + dry_s)
    *_, (_, at, gap_s) = changes(audio, "agent")
    assert (at, gap_s) == (BEGAN + 1 + dry_s, pytest.approx(dry_s) if counts else 0)


def test_pause_after_speech_is_no_gap():
    audio = CallAudio()
    audio.add_agent(text(SILENCE, 0.3), BEGAN - 0.3)
    audio.add_agent(text(SPEECH, 1), BEGAN)
    audio.add_agent(text(SILENCE, 0.2), BEGAN)
    audio.add_agent(text(SPEECH, 1), BEGAN + 2)
    assert changes(audio, "agent")[-1] == (12_000, BEGAN + 2, 0)


def test_pause_in_which_the_caller_speaks_is_no_gap():
    audio = CallAudio()
    caller = Caller(audio)
    caller.say(1)
    audio.add_agent(text(SILENCE, 0.3), BEGAN - 0.3)
    audio.add_agent(text(SPEECH, 1), BEGAN)
    caller.say(0.3, SPEECH)
    caller.say(0.6)
    audio.add_agent(text(SPEECH, 1), BEGAN + 1.9)
    assert changes(audio, "agent")[-1] == (10_400, BEGAN + 1.9, 0)


def test_speech_ends_with_the_audio():
    audio = CallAudio()
    audio.add_agent(text(SILENCE, 0.3), BEGAN)
    audio.add_agent(text(SPEECH, 1.2), BEGAN)
    audio.poll(BEGAN + 1.7)
    assert audio.agent.take() == []
    audio.poll(BEGAN + 1.85)
    assert seconds(audio.agent.take()) == [(0.3, 1.5)]


def test_cut_ends_speech_and_what_follows_is_heard_at_once():
    audio = CallAudio()
    audio.add_agent(text(SILENCE, 0.3), BEGAN)
    audio.add_agent(text(SPEECH, 2.7), BEGAN)
    audio.cut(BEGAN + 2)
    assert seconds(audio.agent.take()) == [(0.3, 3)]
    audio.add_agent(text(SPEECH, 1), BEGAN + 2.25)
    position = end_of(audio.agent) - 8000
    assert audio.poll(BEGAN + 2.25) == [
        ("agent", 0, BEGAN, 0),
        ("cut", position - 2400, BEGAN + 2, 0),
        ("agent", position, BEGAN + 2.25, 0),
    ]


def test_cut_of_what_has_played_is_none():
    audio = CallAudio()
    audio.cut(BEGAN)
    audio.add_agent(text(SPEECH, 1), BEGAN)
    audio.cut(BEGAN + 1.5)
    assert changes(audio, "cut") == []


def test_room_for_changes_is_not_part_of_the_audio():
    assert sys.getsizeof(CallAudio()) < 300


def test_newest_changes_stay_beyond_the_bound():
    audio = CallAudio()
    for second in range(MOST_CHANGES + 6):
        audio.add_agent(text(SILENCE, 0.5), BEGAN + second)
    found = changes(audio, "agent")
    assert [at for _, at, _ in found] == [BEGAN + 6 + n for n in range(MOST_CHANGES)]
    assert audio.poll(BEGAN) == []


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=300), st.floats(-10, 10)), max_size=30))
def test_any_text_at_any_time_is_taken_without_a_fault(frames: list[tuple[bool, bytes, float]]):
    audio = CallAudio()
    for is_caller, payload, now in frames:
        (audio.add_caller if is_caller else audio.add_agent)(payload, now)
        audio.cut(now)
        audio.poll(now)


# Taps


def test_tap_is_attached_once_and_its_place_is_free_again():
    audio, taps = CallAudio(), [AudioTap() for _ in range(3)]
    for tap in taps:
        audio.attach(tap)
    for tap in taps:
        with pytest.raises(ValueError, match="attached already"):
            audio.attach(tap)
    for tap in (taps[1], taps[0], taps[0], taps[2]):
        audio.detach(tap)
    for tap in taps:
        audio.attach(tap)
    audio.add_caller(text(SPEECH, 1), BEGAN)
    audio.add_agent(text(SPEECH, 1), BEGAN)
    audio.cut(BEGAN)


# On a wire


class Pipe:
    """A transport in memory that never fills."""

    def write(self, data: bytes) -> None:
        pass


class Owner:
    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *arguments: None


def make_wire(*, is_client: bool) -> Wire:
    wire = Wire(
        Owner(),
        is_client=is_client,
        max_message_bytes=65536,
        budget=HeldBudget(1 << 20),
        messages_per_s=1000,
        hold_ms=60_000,
    )
    wire.set_format(SpanFinder("data", {"type": "audio"}), Envelope(b"<", b">"))
    wire.open(Pipe())
    return wire


def frame(payload: bytes, *, is_masked: bool) -> bytes:
    message = b'{"type":"audio","data":"%b"}' % payload
    head = bytes((0x81, 126 | is_masked << 7)) + len(message).to_bytes(2)
    return head + bytes(4 * is_masked) + message


@pytest.fixture
def ends() -> tuple[Wire, Wire, CallAudio]:
    caller, agent, audio = make_wire(is_client=False), make_wire(is_client=True), CallAudio()
    caller.set_call_audio(audio)
    return caller, agent, audio


@pytest.mark.parametrize("is_joined", [False, True])
def test_wire_shows_all_audio_of_the_caller(ends: tuple[Wire, Wire, CallAudio], is_joined: bool):
    caller, agent, audio = ends
    caller.join(agent if is_joined else None)
    # The agent is not ready: its audio is held, and has passed all the same.
    caller.feed(frame(text(SPEECH, 0.1), is_masked=True) * 3)
    assert (end_of(audio.caller), end_of(audio.agent)) == (2400, 0)


def test_wire_shows_the_agents_audio_when_it_goes_out(ends: tuple[Wire, Wire, CallAudio]):
    caller, agent, audio = ends
    agent.join(caller)
    agent.feed(frame(text(SPEECH, 0.1), is_masked=False) * 3)
    assert end_of(audio.agent) == 0
    caller.set_ready()
    assert end_of(audio.agent) == 2400
    agent.feed(frame(text(SPEECH, 0.1), is_masked=False))
    assert (end_of(audio.caller), end_of(audio.agent)) == (0, 3200)


def test_wire_shows_a_clear_and_not_what_was_held(ends: tuple[Wire, Wire, CallAudio]):
    caller, _, audio = ends
    caller.set_ready()
    caller.send_audio(text(SPEECH, 5))
    caller.set_most_ahead(1)
    caller.send_audio(text(SPEECH, 1))
    caller.clear_audio(b"clear")
    found = audio.poll(BEGAN)
    assert [kind for kind, *_ in found] == ["agent", "cut"]
    assert found[1][1] == 40_000
    assert found[0][2] <= found[1][2] < found[0][2] + 5


def test_news_are_a_change_or_a_finished_segment() -> None:
    audio = CallAudio()
    caller = Caller(audio)
    assert not audio.follow(BEGAN)
    caller.say(0.5)
    assert audio.follow(BEGAN + 0.5), "a stretch begins"
    audio.poll(BEGAN + 0.5)
    caller.say(0.5, SPEECH)
    assert not audio.follow(BEGAN + 1.0), "speech goes on"
    caller.say(0.5)
    assert audio.follow(BEGAN + 1.5), "speech has ended"
    audio.poll(BEGAN + 1.5)
    assert len(audio.caller.take()) == 1
    assert not audio.follow(BEGAN + 1.5)


def test_small_lateness_of_the_agent_adds_up_to_a_stretch() -> None:
    audio = CallAudio()
    for frame in range(100):
        audio.add_agent(text(SPEECH, FRAME_S), BEGAN + frame * 0.021)
        audio.follow(BEGAN + frame * 0.021)
    found = changes(audio, "agent", BEGAN + 2.1)
    assert len(found) == 20
    for position, at, gap_s in found:
        assert at == pytest.approx(BEGAN + position / 160 * 0.021, abs=0.001)
        assert gap_s == 0
