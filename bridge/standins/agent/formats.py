"""Conversion between the encodings of agents and mu-law at 8 kHz."""

from __future__ import annotations

import audioop
from typing import Any

from bridge.standins.audio import SAMPLE_RATE_HZ

# ElevenLabs' names, which end in the rate. All but the first are 16-bit PCM, little-endian, mono.
FORMATS = {"ulaw_8000": 8000, "pcm_8000": 8000, "pcm_16000": 16000, "pcm_24000": 24000}
MULAW = "ulaw_8000"
SAMPLE_BYTES = 2


def pcm(rate_hz: int) -> str:
    """Return the name of 16-bit PCM at a rate."""
    return f"pcm_{rate_hz}"


def check_format(name: str) -> None:
    """Raise `ValueError` unless the name is one of ``FORMATS``."""
    if name not in FORMATS:
        raise ValueError(f"the audio format must be one of {', '.join(FORMATS)}, got {name!r}")


class Encoder:
    """Encodes mu-law for the wire, message by message; the resampler's state stays between them."""

    def __init__(self, name: str) -> None:
        check_format(name)
        self._name = name
        self._state: Any = None

    def encode(self, audio: bytes) -> bytes:
        """Return mu-law in the encoding of the wire."""
        if self._name == MULAW:
            return audio
        samples = audioop.ulaw2lin(audio, SAMPLE_BYTES)
        if (rate_hz := FORMATS[self._name]) != SAMPLE_RATE_HZ:
            samples, self._state = audioop.ratecv(
                samples, SAMPLE_BYTES, 1, SAMPLE_RATE_HZ, rate_hz, self._state
            )
        return samples


class Decoder:
    """Decodes received audio to mu-law, message by message; the resampler's state stays between them."""

    def __init__(self, name: str) -> None:
        check_format(name)
        self._name = name
        self._state: Any = None

    def decode(self, wire: bytes) -> bytes:
        """
        Return mu-law.

        Raises:
            ValueError: The message ends within a sample.
        """
        if self._name == MULAW:
            return wire
        if len(wire) % SAMPLE_BYTES:
            raise ValueError(f"{len(wire)} bytes are no whole number of 16-bit samples")
        if (rate_hz := FORMATS[self._name]) != SAMPLE_RATE_HZ:
            wire, self._state = audioop.ratecv(wire, SAMPLE_BYTES, 1, rate_hz, SAMPLE_RATE_HZ, self._state)
        return audioop.lin2ulaw(wire, SAMPLE_BYTES)
