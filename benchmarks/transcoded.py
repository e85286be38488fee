"""Makes the audio of agents that want other samples than mu-law, and what the bridge has to make of it."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

from _codec.reference import Resampler, mulaw_to_pcm16, pcm16_to_mulaw

# As in generator/transcoded.h.
CONTENTS = 20
CALLER_HZ = 8000


@cache
def transcoded(frame_bytes: int, agent_hz: int) -> bytes:
    """
    Return the file that the generator reads (generator/transcoded.h).

    The frames of a call repeat a cycle of `CONTENTS` contents. For each way, to the agent first, and for each content
    there are three parts: the audio to send, the expected audio at the beginning of a stream, and the expected audio
    after the content before it in the cycle.

    Args:
        frame_bytes: Mu-law audio in 20 ms.
    """
    drawn = random.Random(1)
    factor = agent_hz // CALLER_HZ
    to_agent = [drawn.randbytes(frame_bytes) for _ in range(CONTENTS)]
    # Less than full scale, so that the filter seldom saturates.
    to_caller = [
        b"".join(
            drawn.randrange(-20000, 20000).to_bytes(2, "little", signed=True)
            for _ in range(factor * frame_bytes)
        )
        for _ in range(CONTENTS)
    ]
    return b"".join(
        part
        for way, contents in (("to_agent", to_agent), ("to_caller", to_caller))
        for number, content in enumerate(contents)
        for part in (
            content,
            _expected(way, agent_hz, content),
            _expected(way, agent_hz, contents[number - 1], content),
        )
    )


def _expected(way: str, agent_hz: int, *frames: bytes) -> bytes:
    """Return what the last of ``frames`` becomes if they are a stream."""
    if way == "to_agent":
        up = Resampler(CALLER_HZ, agent_hz)
        return [up.process(mulaw_to_pcm16(frame)) for frame in frames][-1]
    down = Resampler(agent_hz, CALLER_HZ)
    return [pcm16_to_mulaw(down.process(frame)) for frame in frames][-1]


def write_transcoded(directory: Path, frame_bytes: int, agent_hz: int) -> Path:
    """Write the file into ``directory``; returns its path."""
    path = directory / "transcoded"
    path.write_bytes(transcoded(frame_bytes, agent_hz))
    return path
