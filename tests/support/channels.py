"""Compares the channels of a recording with what a phone says and hears."""

from __future__ import annotations

import re
from typing import NamedTuple

from bridge.standins.audio import SAMPLE_RATE_HZ, SILENCE
from bridge.standins.twilio.caller import Caller

# How far a recording and the phone may be apart: 20 ms.
APART_BYTES = 160
# Around a clear, which is on its way: 100 ms.
AROUND_CLEAR_BYTES = 800
# A pause: 100 ms of silence.
PAUSE = re.compile(rb"\xff{800,}")


class Burst(NamedTuple):
    """Audio without a pause."""

    start: int
    audio: bytes


def bursts(channel: bytes) -> list[Burst]:
    """The audio of a channel between its pauses."""
    found, start = [], 0
    for pause in (*PAUSE.finditer(channel), None):
        end = pause.start() if pause is not None else len(channel)
        audio = channel[start:end].rstrip(SILENCE)
        lead = len(audio) - len(audio.lstrip(SILENCE))
        if audio[lead:]:
            found.append(Burst(start + lead, audio[lead:]))
        start = pause.end() if pause is not None else end
    return found


def said_by(caller: Caller) -> bytes:
    """What a caller with an open line has sent, from the opening of his stream on."""
    lead_s = caller.sent[0].at - caller.opened_at
    return SILENCE * round(lead_s * SAMPLE_RATE_HZ) + b"".join(item.audio for item in caller.sent)


def differences(channel: bytes, wanted: bytes, apart_bytes: int, *, cleared: bool = False) -> list[str]:
    """
    Say where a channel is not what it should be.

    Args:
        apart_bytes: How far the beginnings of audio may be apart.
        cleared: Clears have cut ``wanted``: the end of each burst may differ by what was on its way.
    """
    # mu-law has two zeroes.
    found, expected = (bursts(audio.replace(b"\x7f", SILENCE)) for audio in (channel, wanted))
    if len(found) != len(expected):
        return [f"{len(found)} bursts of {len(expected)}"]
    return [
        problem
        for n, pair in enumerate(zip(found, expected, strict=True))
        for problem in _of(n, *pair, apart_bytes, cleared)
    ]


def _of(n: int, found: Burst, expected: Burst, apart_bytes: int, cleared: bool) -> list[str]:
    apart = found.start - expected.start
    problems = [f"burst {n} is {apart} samples apart"] if abs(apart) > apart_bytes else []
    least = min(len(found.audio), len(expected.audio)) - (AROUND_CLEAR_BYTES if cleared else 0)
    longer = abs(len(found.audio) - len(expected.audio))
    if longer > (AROUND_CLEAR_BYTES if cleared else 0):
        problems.append(f"burst {n} has {len(found.audio)} samples of {len(expected.audio)}")
    elif found.audio[:least] != expected.audio[:least]:
        problems.append(f"burst {n} has other audio")
    return problems
