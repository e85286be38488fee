"""Whether an agent says anything, recognised by its audio."""

from __future__ import annotations

import pytest

from bridge.agents.quiet import BEGINS_MS, QUIET_MS, Goodbye, is_quiet
from bridge.standins.audio import decode_mulaw, encode_mulaw, speech

SILENCE = b"\xff" * 800
WORD = encode_mulaw(decode_mulaw(b"\x20" * 800))


def goes_on(goodbye: Goodbye, audio: bytes, ms: int) -> bool:
    """Add audio of 100 ms each; returns whether the words are over at any time of it."""
    return True in [goodbye.is_over(audio) for _ in range(ms // 100)]


@pytest.mark.parametrize("audio", [SILENCE, b"\x7f" * 160, bytes(range(0xF0, 0x100)), b""])
def test_silent_line_is_quiet(audio):
    assert is_quiet(audio)


def test_any_sound_is_not_quiet():
    assert not is_quiet(SILENCE + b"\x6f")
    assert not is_quiet(b"\xef" + SILENCE)
    assert not is_quiet(speech("agent_goodbye"))


def test_goodbye_has_time_to_begin():
    goodbye = Goodbye()
    assert not goes_on(goodbye, SILENCE, BEGINS_MS - 100)
    assert goodbye.is_over(SILENCE)


def test_goodbye_is_over_after_a_second_of_quiet():
    goodbye = Goodbye()
    assert not goes_on(goodbye, SILENCE, 1000)
    assert not goes_on(goodbye, WORD, 4000)
    assert not goes_on(goodbye, SILENCE, QUIET_MS - 100)
    assert not goes_on(goodbye, WORD, 100)
    assert not goes_on(goodbye, SILENCE, QUIET_MS - 100)
    assert goodbye.is_over(SILENCE)


def test_one_message_may_hold_it_all():
    assert Goodbye().is_over(8 * BEGINS_MS * b"\xff")
    assert not Goodbye().is_over(8 * BEGINS_MS * b"\xff" + b"\x20")
