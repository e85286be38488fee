"""What an agent sends that is not mu-law 8 kHz, made so: the usual mistake in an agent's settings."""

from __future__ import annotations

from base64 import b64decode, b64encode

from _codec import Resampler, pcm16_to_ulaw
from bridge.agents import Audio


class Transcoder:
    """16-bit PCM of an agent to mu-law 8 kHz, frame by frame, with the filter's state between frames."""

    def __init__(self, audio: Audio) -> None:
        self._rate_hz = audio.sample_rate_hz
        self._resampler = Resampler(audio.sample_rate_hz, 8000) if audio.sample_rate_hz != 8000 else None
        self._half_sample = b""

    @staticmethod
    def can_take(audio: Audio) -> bool:
        """Whether this encoding and rate are known."""
        return audio.encoding in ("s16le", "pcm16", "pcm") and audio.sample_rate_hz in (8000, 16000, 24000)

    def takes(self, audio: Audio) -> bool:
        """Whether it is the encoding and rate that this transcoder was made for."""
        return self.can_take(audio) and audio.sample_rate_hz == self._rate_hz

    def to_mulaw(self, payload: bytes) -> bytes:
        """Base64 text of PCM, any number of bytes, to base64 text of mu-law; a split sample waits for the rest."""
        pcm = self._half_sample + b64decode(payload)
        whole_bytes = len(pcm) & ~1
        self._half_sample = pcm[whole_bytes:]
        pcm = pcm[:whole_bytes]
        return b64encode(pcm16_to_ulaw(self._resampler.process(pcm) if self._resampler else pcm))
